"""SimCLR's loss against NumPy and torch, and its three ways to compute it."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax import losses

SCALE = 10.0
QUICK = {"xla_backend_optimization_level": 0}


def make_views(windows=7, dim=6, seed=0):
  views = np.random.default_rng(seed).normal(size=(2 * windows, dim))
  views /= np.linalg.norm(views, axis=1, keepdims=True)
  return views.astype(np.float32)


def transcription(views, mask, scale=SCALE):
  """Equation 1 of Chen et al. 2020, view by view, in float64."""
  views = views.astype(np.float64)
  rows = np.flatnonzero(mask)
  found = []
  for i in rows:
    others = [k for k in rows if k != i]
    if i ^ 1 in others:
      logits = {k: scale * (views[i] @ views[k]) for k in others}
      found.append(np.logaddexp.reduce(list(logits.values())) - logits[i ^ 1])
  return np.mean(found) if found else 0.0


def value_and_gradients(views, mask=None, **ways):
  run = jax.value_and_grad(
    lambda x, scale: losses.nt_xent(x, scale, mask=mask, **ways), (0, 1)
  )
  return jax.jit(run, compiler_options=QUICK)(views, SCALE)


def difference(left, right):
  leaves = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
  return max(float(np.max(np.abs(x - y))) for x, y in leaves)


@settings(max_examples=5, deadline=None)
@given(
  windows=st.integers(1, 8),
  block=st.one_of(st.none(), st.integers(1, 17)),
  masked=st.booleans(),
  seed=st.integers(0, 2**16),
)
def test_dense_and_blocks_equal_the_formula(windows, block, masked, seed):
  views = make_views(windows, 4, seed)
  mask = np.ones(2 * windows, bool)
  if masked:
    mask = np.random.default_rng(seed).random(2 * windows) < 0.7
  got = losses.nt_xent(views, SCALE, mask=mask, block=block)
  want = transcription(views, mask)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_blocks_give_the_dense_gradients_and_masked_rows_none():
  views = make_views()
  mask = np.ones(14, bool)
  mask[[3, 8, 9]] = False
  want = value_and_gradients(views, mask)
  got = value_and_gradients(views, mask, block=4)
  assert difference(got, want) < 1e-5
  assert not np.asarray(want[1][0])[~mask].any()
  assert np.asarray(want[1][0])[mask].any(1).all()


def test_a_view_is_not_its_own_negative():
  # Orthogonal windows at a large scale: nothing is left to lose, though the
  # product of a view with itself is as large as that with its twin.
  views = jnp.repeat(jnp.eye(4), 2, axis=0)
  assert float(losses.nt_xent(views, 50.0)) < 1e-6
  assert float(losses.nt_xent(views[jnp.arange(8) - 1], 50.0)) > 10


def test_an_odd_number_of_views_is_named():
  with pytest.raises(ValueError, match="views has 5 rows"):
    losses.nt_xent(jnp.zeros((5, 3)), 1.0)


def compare_on_devices():
  """Raise unless the sharded ways equal the dense loss; for 8 devices."""
  mesh = jax.make_mesh(
    (8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  views = make_views(11)  # 22 rows do not divide by 8
  mask = np.arange(22) != 5
  for block, exchange in ((None, "gather"), (2, "ring")):
    ways = {"mesh": mesh, "axis": "data", "exchange": exchange, "block": block}
    got = value_and_gradients(views, mask, **ways)
    assert difference(got, value_and_gradients(views, mask)) < 1e-5, exchange


def test_shards_equal_dense():
  path = pathlib.Path(__file__).with_name("test_losses.py")
  spec = importlib.util.spec_from_file_location("loss_cases", path)
  cases = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(cases)
  cases.run_on_eight_devices("compare_on_devices()", __file__)


@pytest.mark.parity
@pytest.mark.parametrize("windows", [1, 2, 16])
def test_equals_torchs_cross_entropy_over_the_other_views(windows):
  torch = pytest.importorskip("torch")
  # Equal windows among them: ties between the twin and a negative.
  views = make_views(windows)
  views[-1] = views[0]
  x = torch.tensor(views, requires_grad=True)
  logits = SCALE * x @ x.T
  logits = logits.masked_fill(torch.eye(2 * windows, dtype=bool), -torch.inf)
  twin = torch.arange(2 * windows) ^ 1
  want = torch.nn.functional.cross_entropy(logits, twin)
  want.backward()
  value, (gradient, _) = value_and_gradients(views)
  np.testing.assert_allclose(value, want.item(), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-5)
