"""The GRU against its equations, and against torch.nn.GRU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from imu2clip_jax.models import gru as gru_file
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


LENGTHS = np.array([7, 4, 0])
MASKS = {
  "none": None,
  "behind": np.arange(TIME)[None, :] < LENGTHS[:, None],
  "before": np.arange(TIME)[None, :] >= TIME - LENGTHS[:, None],
  "holes": np.random.default_rng(2).random((BATCH, TIME)) < 0.6,
}


def by_autodiff(params, x, mask, reverse):
  """The same recurrence as a plain scan, for JAX to differentiate."""

  def step(h, inputs):
    x, keep = inputs
    xr, xz, xn = jnp.split(x @ params["wi"] + params["bi"][None], 3, -1)
    hr, hz, hn = jnp.split(h @ params["wh"] + params["bh"][None], 3, -1)
    r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
    new = (1 - z) * jnp.tanh(xn + r * hn) + z * h
    return jnp.where(keep[:, None], new, h), None

  keep = np.ones(x.shape[:2], bool) if mask is None else mask
  h = jnp.zeros((x.shape[0], params["wh"].shape[0]), x.dtype)
  return jax.lax.scan(step, h, (x.swapaxes(0, 1), keep.T), reverse=reverse)[0]


def weighted(states):
  """A scalar whose gradient differs in every entry of the states."""
  return jnp.sum(
    states**2 * jnp.arange(1.0, states.size + 1).reshape(-1, HIDDEN)
  )


# Blocks of one step, of two with one left over, and one of all steps.
@pytest.mark.parametrize(
  ("rows", "options"),
  [(1, {}), (2 * BATCH, {"hoist": True}), (1024, {"unroll": 3})],
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_gradients_equal_autodiff(monkeypatch, mask, reverse, options, rows):
  monkeypatch.setattr(gru_file, "_BLOCK_ROWS", rows)
  with jax.enable_x64(True):
    params, x = make_case(dtype=np.float64)
    mask = MASKS[mask]

    @jax.jit
    def ours(params, x):
      states = gru_last(params, x, mask, reverse=reverse, **options)
      return weighted(states)

    def plain(params, x):
      return weighted(by_autodiff(params, x, mask, reverse))

    got = jax.value_and_grad(ours, (0, 1))(params, x)
    want = jax.value_and_grad(plain, (0, 1))(params, x)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12),
      got,
      want,
    )
    assert got[1][1].dtype == np.float64


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_equal_differences(reverse):
  with jax.enable_x64(True):
    params, x = make_case(dtype=np.float64)

    def run(params, x):
      return gru_last(params, x, MASKS["holes"], reverse=reverse)

    check_grads(run, (params, x), order=1, modes=["rev"])


def test_gradients_of_many_at_once():
  """Under vmap each set of parameters and windows has its own gradient."""
  cases = [make_case(seed) for seed in range(2)]

  def gradient(params, x):
    return jax.grad(lambda p: weighted(gru_last(p, x, MASKS["behind"])))(params)

  got = jax.vmap(gradient)(*jax.tree.map(lambda *v: jnp.stack(v), *cases))
  for i, case in enumerate(cases):
    for name, want in gradient(*case).items():
      np.testing.assert_allclose(got[name][i], want, rtol=1e-4, atol=1e-5)


def test_gradients_under_bfloat16_are_summed_in_float32():
  """Ones in bfloat16 would stop adding up at 256."""
  rows = 600
  params = {k: v * 0 for k, v in make_case()[0].items()}
  x = jnp.ones((rows, 1, FEATURES), jnp.bfloat16)
  gradient = jax.grad(lambda p: 2 * gru_last(p, x).sum())(params)
  for name in ("wi", "bi"):
    assert gradient[name].dtype == jnp.float32
    # From a zero state with z = 1/2 the state is tanh(x Wi_n + bi_n) / 2.
    n_gate = np.asarray(gradient[name])[..., 2 * HIDDEN :]
    np.testing.assert_array_equal(n_gate, np.full_like(n_gate, rows))


def test_gradient_keeps_four_arrays_of_the_loop():
  steps, batch, hidden = 400, 64, 32
  gru = Gru(hidden)
  x = jnp.zeros((batch, steps, 8))
  params = gru.init(jax.random.key(0), x)

  def loss(params):
    return gru.apply(params, x).sum()

  memory = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
  assert memory.temp_size_in_bytes < 5 * steps * batch * hidden * 4


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


def assert_torch_gradients(gru, inputs, got, got_x, atol):
  want = {
    "wi": gru.weight_ih_l0.grad.T,
    "wh": gru.weight_hh_l0.grad.T,
    "bi": gru.bias_ih_l0.grad,
    "bh": gru.bias_hh_l0.grad,
  }
  for name, gradient in want.items():
    np.testing.assert_allclose(
      got[name], gradient.numpy(), rtol=1e-4, atol=atol, err_msg=name
    )
  np.testing.assert_allclose(got_x, inputs.grad, rtol=1e-4, atol=atol)


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
  assert_torch_gradients(gru, inputs, got, got_x, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("hoist", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_gradients_equal_torch_for_every_mask(mask, reverse, hoist):
  """torch.nn.GRU gets each window's kept samples alone."""
  torch = pytest.importorskip("torch")
  params, x = make_case()
  mask = MASKS[mask]
  gru = to_torch(torch, params)
  inputs = torch.tensor(x, requires_grad=True)
  loss = 0
  for i, window in enumerate(inputs):
    kept = window if mask is None else window[torch.tensor(mask[i])]
    if len(kept):
      last = gru(kept.flip(0)[None] if reverse else kept[None])[1][0, 0]
      loss = loss + (last**2 * (torch.arange(HIDDEN) + 1 + i * HIDDEN)).sum()
  loss.backward()

  def ours(params, x):
    return weighted(gru_last(params, x, mask, reverse=reverse, hoist=hoist))

  got, got_x = jax.grad(ours, (0, 1))(params, x)
  assert_torch_gradients(gru, inputs, got, got_x, atol=1e-4)
