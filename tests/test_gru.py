"""The GRU against its equations, and against torch.nn.GRU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imu2clip_jax.models.flops import count_flops
from imu2clip_jax.models.gru import Gru, gru_last

BATCH, TIME, FEATURES, HIDDEN = 3, 7, 4, 5


def make_case(seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  shapes = {
    "wi": (FEATURES, 3 * HIDDEN),
    "wh": (HIDDEN, 3 * HIDDEN),
    "bi": (3 * HIDDEN,),
    "bh": (3 * HIDDEN,),
  }
  params = {k: rng.normal(size=s).astype(dtype) for k, s in shapes.items()}
  return params, rng.normal(size=(BATCH, TIME, FEATURES)).astype(dtype)


def by_equations(params, x):
  """One window after the other, one gate after the other, in float64."""
  params = {k: np.asarray(v, np.float64) for k, v in params.items()}

  def sigmoid(v):
    return 1 / (1 + np.exp(-v))

  states = []
  for window in x.astype(np.float64):
    h = np.zeros(HIDDEN)
    for sample in window:
      from_x = np.split(sample @ params["wi"] + params["bi"], 3)
      from_h = np.split(h @ params["wh"] + params["bh"], 3)
      r = sigmoid(from_x[0] + from_h[0])
      z = sigmoid(from_x[1] + from_h[1])
      n = np.tanh(from_x[2] + r * from_h[2])
      h = (1 - z) * n + z * h
    states.append(h)
  return np.array(states)


@pytest.mark.parametrize(
  "options", [{}, {"hoist": True}, {"unroll": 4}, {"hoist": True, "unroll": 2}]
)
def test_equals_the_equations(options):
  params, x = make_case()
  got = jax.jit(lambda p, x: gru_last(p, x, **options))(params, x)
  np.testing.assert_allclose(got, by_equations(params, x), atol=2e-6)


def test_reverse_is_the_flipped_window():
  params, x = make_case()
  got = gru_last(params, x, reverse=True)
  np.testing.assert_allclose(got, by_equations(params, x[:, ::-1]), atol=2e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_changes_nothing(reverse):
  params, x = make_case()
  lengths = np.array([7, 4, 0])
  mask = np.arange(TIME)[None, :] < lengths[:, None]
  spoilt = np.where(mask[..., None], x, 1e6)
  got = gru_last(params, spoilt, mask, reverse=reverse)
  for i, length in enumerate(lengths):
    alone = gru_last(params, x[i : i + 1, :length], reverse=reverse)
    np.testing.assert_allclose(got[i], alone[0], atol=1e-6)
  assert not np.asarray(got[2]).any()


def test_padding_takes_no_gradient():
  params, x = make_case()
  mask = np.arange(TIME)[None, :] < np.array([7, 4, 2])[:, None]
  gradient = jax.grad(lambda x: jnp.sum(gru_last(params, x, mask) ** 2))(x)
  assert not np.asarray(gradient)[~mask].any()
  assert np.asarray(gradient)[mask].any(-1).all()


def test_state_is_float32_under_bfloat16():
  """Many small updates: a bfloat16 state would stop moving."""
  params, _ = make_case()
  x = np.random.default_rng(1).normal(size=(BATCH, 200, FEATURES))
  x = jnp.asarray(x, jnp.bfloat16)
  # An update gate near 1 adds about one part in 400 a step.
  params["bi"][HIDDEN : 2 * HIDDEN] += 6
  rounded = {
    k: np.asarray(jnp.asarray(v, jnp.bfloat16), np.float32)
    if k[0] == "w"
    else v
    for k, v in params.items()
  }
  got = gru_last(params, x)
  assert got.dtype == jnp.float32
  want = by_equations(rounded, np.asarray(x, np.float32))
  np.testing.assert_allclose(got, want, atol=0.02)


def test_module_draws_as_torch_does():
  gru = Gru(64)
  x = jnp.zeros((1, 3, 6))
  params = gru.init(jax.random.key(0), x)["params"]
  assert {k: v.shape for k, v in params.items()} == {
    "wi": (6, 192),
    "wh": (64, 192),
    "bi": (192,),
    "bh": (192,),
  }
  every = np.concatenate([np.ravel(v) for v in params.values()])
  assert np.abs(every).max() <= 1 / 8
  assert np.std(every) == pytest.approx(1 / 8 / 3**0.5, rel=0.02)


def test_flops_count_every_step():
  params, x = make_case()
  want = 2 * BATCH * TIME * 3 * HIDDEN * (FEATURES + HIDDEN)
  assert count_flops(gru_last, params, x) == want
  hoisted = count_flops(lambda p, x: gru_last(p, x, hoist=True), params, x)
  assert hoisted == want


def test_flops_refuse_a_loop_of_unknown_length():
  def until_large(x):
    return jax.lax.while_loop(lambda x: x.max() < 9, lambda x: x @ x, x)

  with pytest.raises(ValueError, match="while loop"):
    count_flops(until_large, jnp.ones((2, 2)))


def to_torch(torch, params):
  gru = torch.nn.GRU(FEATURES, HIDDEN, batch_first=True)
  state = {
    "weight_ih_l0": params["wi"].T,
    "weight_hh_l0": params["wh"].T,
    "bias_ih_l0": params["bi"],
    "bias_hh_l0": params["bh"],
  }
  gru.load_state_dict({k: torch.tensor(v.copy()) for k, v in state.items()})
  return gru


@pytest.mark.parity
@pytest.mark.parametrize("bias", ["bi", "bh"])
@pytest.mark.parametrize("gate", [0, 1, 2])
def test_equals_torch_for_every_gate_bias(bias, gate):
  """Values and gradients, with one large bias in one gate at a time."""
  torch = pytest.importorskip("torch")
  params, x = make_case()
  params |= {"bi": params["bi"] * 0, "bh": params["bh"] * 0}
  params[bias][gate * HIDDEN : (gate + 1) * HIDDEN] = 1.5
  gru = to_torch(torch, params)
  inputs = torch.tensor(x, requires_grad=True)
  last = gru(inputs)[1][0]
  (last**2).sum().backward()

  def loss(params, x):
    return jnp.sum(gru_last(params, x) ** 2)

  np.testing.assert_allclose(
    gru_last(params, x), last.detach().numpy(), atol=1e-6
  )
  got, got_x = jax.grad(loss, argnums=(0, 1))(params, x)
  want = {
    "wi": gru.weight_ih_l0.grad.T,
    "wh": gru.weight_hh_l0.grad.T,
    "bi": gru.bias_ih_l0.grad,
    "bh": gru.bias_hh_l0.grad,
  }
  for name, gradient in want.items():
    np.testing.assert_allclose(
      got[name], gradient.numpy(), rtol=1e-4, atol=1e-5, err_msg=name
    )
  np.testing.assert_allclose(got_x, inputs.grad, rtol=1e-4, atol=1e-5)
