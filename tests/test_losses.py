"""The losses against NumPy, their three ways against each other, masks."""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax import losses

SCALE, BIAS = 10.0, -3.0
KINDS = ("softmax", "sigmoid")
POSITIVES = ("none", "ids", "pairs")


def make_batch(rows=24, dim=8, seed=0):
  rng = np.random.default_rng(seed)
  a, b = rng.normal(size=(2, rows, dim)).astype(np.float32)
  pairs = (rng.random((rows, rows)) < 0.1) | np.eye(rows, dtype=bool)
  return {
    "a": a / np.linalg.norm(a, axis=1, keepdims=True),
    "b": b / np.linalg.norm(b, axis=1, keepdims=True),
    "none": None,
    "ids": rng.integers(0, rows // 3 + 1, rows),
    "pairs": pairs,
    "mask": rng.random(rows) < 0.7,
  }


def loss_of(kind, positives=None, mask=None, **ways):
  def loss(a, b, scale, bias):
    options = {"positives": positives, "mask": mask, **ways}
    if kind == "softmax":
      return losses.softmax_contrastive(a, b, scale, **options)
    return losses.sigmoid_contrastive(a, b, scale, bias, **options)

  return loss


def value_and_gradients(loss, batch, scale=SCALE, bias=BIAS):
  # Small arrays: compiling costs far more than running.
  quick = {"xla_backend_optimization_level": 0}
  run = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))
  run = jax.jit(run, compiler_options=quick)
  return run(batch["a"], batch["b"], scale, bias)


def difference(left, right):
  leaves = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
  return max(float(np.max(np.abs(x - y))) for x, y in leaves)


def transcription(kind, batch, positives, mask, scale=SCALE, bias=BIAS):
  """The formulas, pair by pair, in NumPy and float64."""
  a, b = batch["a"].astype(np.float64), batch["b"].astype(np.float64)
  rows = np.flatnonzero(mask)
  if positives is None:
    positives = np.arange(len(a))
  if positives.ndim == 1:
    positives = positives[:, None] == positives[None, :]
  if kind == "sigmoid":
    total = 0.0
    for i, j in itertools.product(rows, rows):
      y = 1 if positives[i, j] else -1
      total += np.logaddexp(0, -y * (scale * (a[i] @ b[j]) + bias))
    return total / max(len(rows), 1)
  total = 0.0
  for left, right, matches in ((a, b, positives), (b, a, positives.T)):
    gaps = []
    for i in rows:
      logits = {j: scale * (left[i] @ right[j]) for j in rows}
      right_ones = [j for j in rows if matches[i, j]]
      if right_ones:
        normalizer = np.logaddexp.reduce(list(logits.values()))
        gaps.append(np.mean([normalizer - logits[j] for j in right_ones]))
    total += np.mean(gaps) if gaps else 0.0
  return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize("masked", [False, True])
def test_dense_equals_the_formula(kind, positives, masked):
  batch = make_batch()
  mask = batch["mask"] if masked else np.ones(24, bool)
  loss = loss_of(kind, batch[positives], batch["mask"] if masked else None)
  loss = jax.jit(loss)
  got = loss(batch["a"], batch["b"], SCALE, BIAS)
  want = transcription(kind, batch, batch[positives], mask)
  np.testing.assert_allclose(got, want, rtol=2e-6)


@pytest.mark.parametrize(
  ("kind", "positives", "block"),
  [(k, p, 7) for k in KINDS for p in POSITIVES] + [("softmax", "ids", 100)],
)
def test_blocks_equal_dense(kind, positives, block):
  batch = make_batch()
  mask = batch["mask"]
  want = value_and_gradients(loss_of(kind, batch[positives], mask), batch)
  loss = loss_of(kind, batch[positives], mask, block=block)
  assert difference(value_and_gradients(loss, batch), want) < 1e-5


@settings(max_examples=6, deadline=None)
@given(
  rows=st.integers(1, 12),
  block=st.integers(1, 13),
  seed=st.integers(0, 2**16),
  kind=st.sampled_from(KINDS),
)
def test_blocks_equal_the_formula_for_any_size(rows, block, seed, kind):
  batch = make_batch(rows, 3, seed)
  ids, mask = batch["ids"], batch["mask"]
  arguments = batch["a"], batch["b"], SCALE, BIAS
  got = jax.jit(loss_of(kind, ids, mask, block=block))(*arguments)
  want = transcription(kind, batch, ids, mask)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_swapping_the_towers_changes_nothing(kind):
  batch = make_batch()
  loss = jax.jit(loss_of(kind, batch["ids"], batch["mask"]))
  there = loss(batch["a"], batch["b"], SCALE, BIAS)
  back = loss(batch["b"], batch["a"], SCALE, BIAS)
  np.testing.assert_allclose(there, back, rtol=1e-6)


@pytest.mark.parametrize(
  ("kind", "positives", "block"),
  [
    ("softmax", "none", None),
    ("softmax", "ids", 5),
    ("sigmoid", "none", 5),
    ("sigmoid", "ids", None),
  ],
)
def test_masked_rows_change_nothing(kind, positives, block):
  """The loss is that of the rows left, and garbage gets a zero gradient."""
  batch = make_batch()
  keep = batch["mask"]
  ids = batch[positives]
  few = {"a": batch["a"][keep], "b": batch["b"][keep]}
  loss = loss_of(kind, None if ids is None else ids[keep])
  value, (grad_a, grad_b, *scalars) = value_and_gradients(loss, few)

  spoilt = {key: batch[key].copy() for key in "ab"}
  spoilt["a"][~keep] = np.nan
  spoilt["b"][~keep] = np.inf
  loss = loss_of(kind, ids, keep, block=block)
  got, (got_a, got_b, *got_scalars) = value_and_gradients(loss, spoilt)
  assert difference((value, scalars), (got, got_scalars)) < 1e-5
  assert difference((grad_a, grad_b), (got_a[keep], got_b[keep])) < 1e-5
  assert not np.asarray(got_a)[~keep].any()
  assert not np.asarray(got_b)[~keep].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [None, 5])
def test_no_row_left_is_zero(kind, block):
  batch = make_batch() | {"mask": np.zeros(24, bool)}
  batch["a"][:] = np.nan
  loss = loss_of(kind, None, batch["mask"], block=block)
  value, gradients = value_and_gradients(loss, batch)
  assert float(value) == 0
  assert all(not np.asarray(g).any() for g in gradients)


@pytest.mark.parametrize("block", [None, 5])
def test_row_without_positive_asks_nothing_but_stays_a_negative(block):
  batch = make_batch()
  pairs = np.eye(24, dtype=bool)
  pairs[3, 3] = False
  loss = jax.jit(loss_of("softmax", pairs, block=block))
  got = loss(batch["a"], batch["b"], SCALE, BIAS)
  want = transcription("softmax", batch, pairs, np.ones(24, bool))
  np.testing.assert_allclose(got, want, rtol=2e-6)
  moved = batch["b"].copy()
  moved[3] *= -1
  assert abs(loss(batch["a"], moved, SCALE, BIAS) - got) > 1e-4


@pytest.mark.parametrize("block", [None, 5])
def test_large_scale_and_far_logits_stay_finite(block):
  batch = make_batch()
  batch["a"] *= 30
  value, gradients = value_and_gradients(
    loss_of("softmax", block=block), batch, scale=100.0
  )
  want = transcription("softmax", batch, None, np.ones(24, bool), scale=100.0)
  np.testing.assert_allclose(value, want, rtol=1e-5)
  assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize(("kind", "block"), [("softmax", 5), ("sigmoid", None)])
def test_half_precision_sums_in_float32(kind, block):
  batch = make_batch()
  half = {k: jnp.asarray(batch[k], jnp.bfloat16) for k in "ab"}
  rounded = {k: np.asarray(v, np.float32) for k, v in half.items()}
  loss = loss_of(kind, block=block)
  value, gradients = value_and_gradients(loss, half)
  want, want_gradients = value_and_gradients(loss, rounded)
  assert value.dtype == jnp.float32
  assert gradients[0].dtype == jnp.bfloat16
  np.testing.assert_allclose(value, want, rtol=1e-5)
  np.testing.assert_allclose(
    np.asarray(gradients[0], np.float32), want_gradients[0], atol=1e-2
  )


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_hold_no_square_array(kind):
  """Temporary memory stays far below B x B, forward and backward."""
  rows = 4096
  shape = jax.ShapeDtypeStruct((rows, 16), jnp.float32)
  number = jax.ShapeDtypeStruct((), jnp.float32)
  run = jax.jit(jax.grad(loss_of(kind, block=256), argnums=(0, 1, 2, 3)))
  compiled = run.lower(shape, shape, number, number).compile()
  temporary = compiled.memory_analysis().temp_size_in_bytes
  assert temporary < rows * rows * 4 / 10


def test_perfect_pairs_lose_little_and_shuffled_ones_much():
  rows = np.eye(8, dtype=np.float32)
  good = losses.softmax_contrastive(rows, rows, 20.0)
  bad = losses.softmax_contrastive(rows, np.roll(rows, 1, 0), 20.0)
  assert good < 1e-6
  assert bad > 30


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"positives": np.zeros(5, int)}, "positives must be int"),
    ({"positives": np.zeros((24, 24))}, "positives must be int"),
    ({"mask": np.ones(24)}, "mask must be bool"),
    ({"block": 0}, "block must be a positive"),
    ({"axis": "data"}, "go together"),
    ({"exchange": "mail"}, "'gather' or 'ring'"),
  ],
)
def test_bad_arguments_are_named(options, message):
  batch = make_batch()
  with pytest.raises(ValueError, match=message):
    losses.softmax_contrastive(batch["a"], batch["b"], 1.0, **options)


def test_shapes_must_agree():
  with pytest.raises(ValueError, match="must both be"):
    losses.softmax_contrastive(np.ones((3, 2)), np.ones((2, 2)), 1.0)


def test_unknown_axis_is_named():
  mesh = jax.make_mesh(
    (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  batch = make_batch()
  with pytest.raises(ValueError, match="'rows' is not in the mesh"):
    losses.softmax_contrastive(
      batch["a"], batch["b"], 1.0, mesh=mesh, axis="rows"
    )


# Several devices. They are forced on the host, which only works before JAX
# starts, so a process of its own runs `compare_on_devices`.


def make_mesh(devices, shape=None, names=("data",)):
  shape = shape or (devices,)
  return jax.make_mesh(
    shape,
    names,
    axis_types=(jax.sharding.AxisType.Auto,) * len(shape),
    devices=jax.devices()[:devices],
  )


SOME_CASES = [
  ("softmax", "ids", True, 5, "ring", 8),
  ("softmax", "pairs", True, None, "gather", 8),
  ("softmax", "none", False, 5, "gather", 4),
  ("softmax", "none", False, None, "ring", 1),
  ("sigmoid", "ids", True, 5, "gather", 8),
  ("sigmoid", "pairs", False, 5, "ring", 2),
]


def compare_on_devices(all_combinations: bool) -> None:
  """Print nothing if every sharded way equals the dense loss to 1e-5."""
  assert jax.device_count() == 8
  batch = make_batch()
  dense = {}
  cases = SOME_CASES
  if all_combinations:
    cases = itertools.product(
      KINDS,
      POSITIVES,
      (False, True),
      (None, 5),
      ("gather", "ring"),
      (1, 2, 4, 8),
    )
  for case in cases:
    kind, positives, masked, block, exchange, devices = case
    mask = batch["mask"] if masked else None
    key = kind, positives, masked
    if key not in dense:
      loss = loss_of(kind, batch[positives], mask)
      dense[key] = value_and_gradients(loss, batch)
    ways = {"mesh": make_mesh(devices), "axis": "data", "exchange": exchange}
    loss = loss_of(kind, batch[positives], mask, block=block, **ways)
    got = value_and_gradients(loss, batch)
    assert difference(got, dense[key]) < 1e-5, case
  # 20 rows do not divide by 8; two axes of a mesh at once; sharded inputs.
  batch = make_batch(20)
  mesh = make_mesh(8, (4, 2), ("data", "model"))
  for axis, exchange in (("data", "ring"), (("data", "model"), "gather")):
    loss = loss_of("softmax", mesh=mesh, axis=axis, exchange=exchange)
    want = value_and_gradients(loss_of("softmax"), batch)
    assert difference(value_and_gradients(loss, batch), want) < 1e-5, axis
  spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  placed = {k: jax.device_put(batch[k], spec) for k in "ab"}
  loss = loss_of("softmax", mesh=mesh, axis="data", exchange="gather")
  got = value_and_gradients(loss, placed)
  assert difference(got, want) < 1e-5
  assert got[1][0].sharding.is_equivalent_to(spec, 2)
  compare_on_explicit_axes()


def compare_on_explicit_axes() -> None:
  """The same on a mesh as `jax.make_mesh` makes it unasked."""
  batch = make_batch()
  mesh = jax.make_mesh((8,), ("data",))
  assert mesh.axis_types == (jax.sharding.AxisType.Explicit,)
  spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  placed = {k: jax.device_put(batch[k], spec) for k in "ab"}
  options = {"positives": batch["ids"], "mask": batch["mask"]}
  ways = ({}, {"block": 2}, {"mesh": mesh, "axis": "data"})
  for kind, way in itertools.product(KINDS, ways):
    want = value_and_gradients(loss_of(kind, **options), batch)
    loss = loss_of(kind, **options, **way)
    with jax.set_mesh(mesh):
      found = [value_and_gradients(loss, placed)]
    if "mesh" in way:
      found += [value_and_gradients(loss, x) for x in (batch, placed)]
    else:
      args = placed["a"], placed["b"], SCALE, BIAS
      assert abs(float(loss(*args) - want[0])) < 1e-5
    for got in found:
      assert difference(got, want) < 1e-5, (kind, way)
  auto, explicit = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit
  mixed = jax.make_mesh((4, 2), ("x", "y"), axis_types=(explicit, auto))
  want = value_and_gradients(loss_of("softmax", **options), batch)
  loss = loss_of("softmax", **options, mesh=mixed, axis="y")
  assert difference(value_and_gradients(loss, batch), want) < 1e-5


def test_lists_are_arrays():
  rows = np.eye(3, dtype=np.float32)
  options = {"positives": [0, 0, 1], "mask": [True, True, False]}
  want = {key: np.array(value) for key, value in options.items()}
  assert losses.softmax_contrastive(rows, rows, 1.0, **options) == (
    losses.softmax_contrastive(rows, rows, 1.0, **want)
  )


def run_on_eight_devices(call: str, path: str = __file__) -> None:
  code = (
    "import importlib.util\n"
    f"spec = importlib.util.spec_from_file_location('cases', {path!r})\n"
    "cases = importlib.util.module_from_spec(spec)\n"
    "spec.loader.exec_module(cases)\n"
    f"cases.{call}\n"
  )
  flags = (
    "--xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0"
  )
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
  done = subprocess.run(
    [sys.executable, "-c", code],
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]


def test_shards_equal_dense():
  run_on_eight_devices("compare_on_devices(False)")


@pytest.mark.slow
def test_shards_equal_dense_in_all_combinations():
  run_on_eight_devices("compare_on_devices(True)")
