"""The convolution + GRU encoders: torch, golden numbers, masks, bounds."""

import json
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imu2clip_jax import trees
from imu2clip_jax.models import convert_imu, encoders, imu_encoder

GOLDEN = pathlib.Path(__file__).parent / "golden" / "imu_encoder.json"
REFRESH = "IMU2CLIP_REFRESH_GOLDEN"
PRESETS = tuple(imu_encoder.PRESETS)
HIDDEN, WIDTH = 16, 8
# For tests where compiling costs more than running.
QUICK = {"xla_backend_optimization_level": 0}


def make_state(hidden=HIDDEN, width=WIDTH, features=None, seed=0):
  """Weights under the released encoder's names, the same on every machine.

  `features` is what the GRU sees in a step: 32 pooled samples if the axes are
  swapped, the channels if not.
  """
  features = features or imu_encoder.SWAPPED_STEPS
  rng = np.random.default_rng(seed)

  def draw(*shape, around=0.0, spread=0.3):
    return (around + spread * rng.standard_normal(shape)).astype(np.float32)

  return {
    "net.0.weight": draw(6, around=1),
    "net.0.bias": draw(6),
    "net.1.net.0.weight": draw(width, 6, 10, spread=0.15),
    "net.2.net.0.weight": draw(width, width, 5, spread=0.2),
    "net.3.net.0.weight": draw(width, width, 5, spread=0.2),
    "net.4.weight": draw(width, around=1),
    "net.4.bias": draw(width),
    "net.5.weight_ih_l0": draw(3 * hidden, features),
    "net.5.weight_hh_l0": draw(3 * hidden, hidden),
    "net.5.bias_ih_l0": draw(3 * hidden),
    "net.5.bias_hh_l0": draw(3 * hidden),
  }


def make_windows(num=3, samples=1000, seed=1):
  """Motion that looks like motion: gravity, drift, several frequencies."""
  rng = np.random.default_rng(seed)
  t_s = np.arange(samples) / 200.0
  freq_hz = rng.uniform(0.3, 8.0, (num, 1, 6, 4))
  phase = rng.uniform(0, 2 * np.pi, (num, 1, 6, 4))
  waves = np.sin(2 * np.pi * freq_hz * t_s[None, :, None, None] + phase)
  imu = waves.sum(-1) + 0.1 * rng.standard_normal((num, samples, 6))
  imu[..., 2] += 9.81
  return imu.astype(np.float32)


def build_small(preset):
  return encoders.build(preset, HIDDEN, hidden=HIDDEN, width=WIDTH)


def embed(encoder, params, *arguments, **options):
  """Compiled: one call costs one program, not one for every operation."""
  run = jax.jit(lambda *a: encoder.apply(*a, **options), compiler_options=QUICK)
  return run(params, *arguments)


def draw(encoder, samples):
  run = jax.jit(lambda key: encoder.init(key, samples), compiler_options=QUICK)
  return run(jax.random.key(0))


def params_from(preset, state):
  """Our parameters for any preset from weights under the released names."""
  swapped, params = convert_imu.from_state_dict(
    state | {"net.5.weight_ih_l0": np.zeros((3 * HIDDEN, 32), np.float32)}
  )
  assert swapped.preset == "official_swapped"
  params["trunk"]["gru"]["wi"] = state["net.5.weight_ih_l0"].T
  return params


def features_of(preset):
  return 32 if imu_encoder.PRESETS[preset].swap else WIDTH


# Against torch.


def build_torch(torch, preset, state):
  """The same network out of torch.nn layers."""
  form = imu_encoder.PRESETS[preset]
  nn = torch.nn

  class Reference(nn.Module):
    def __init__(self):
      super().__init__()
      convs = [
        nn.Conv1d(6, WIDTH, 10, dilation=2, bias=False),
        nn.Conv1d(WIDTH, WIDTH, 5, dilation=2, bias=False),
        nn.Conv1d(WIDTH, WIDTH, 5, dilation=2, bias=False),
      ]
      stages = []
      for conv, pool in zip(convs, form.pools, strict=True):
        stage = nn.Module()
        stage.net = nn.Sequential(conv, nn.MaxPool1d(pool))
        stages.append(stage)
      self.net = nn.ModuleList(
        [
          nn.GroupNorm(2, 6),
          *stages,
          nn.GroupNorm(4, WIDTH),
          nn.GRU(features_of(preset), HIDDEN, batch_first=True),
        ]
      )

    def forward(self, x):
      x = self.net[0](x)
      for stage in list(self.net)[1:4]:
        x = stage.net[0](x)
        if form.activation == "gelu":
          x = nn.functional.gelu(x)
        x = stage.net[1](x)
      x = self.net[4](x)
      # The released code leaves out this transposition.
      x = x if form.swap else x.transpose(1, 2)
      return self.net[5](x)[1][0]

  reference = Reference()
  reference.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
  return reference


@pytest.mark.parity
@pytest.mark.parametrize("preset", PRESETS)
def test_equals_torch(preset):
  torch = pytest.importorskip("torch")
  state = make_state(features=features_of(preset))
  imu = make_windows()
  reference = build_torch(torch, preset, state)
  out = reference(torch.tensor(imu.transpose(0, 2, 1)))
  (out**2).sum().backward()

  encoder, params = build_small(preset), params_from(preset, state)

  def loss(params):
    return jnp.sum(encoder.apply(params, imu, normalize=False) ** 2)

  got = embed(encoder, params, imu, normalize=False)
  assert np.abs(got - out.detach().numpy()).max() <= 1e-5
  gradients = trees.flatten(jax.jit(jax.grad(loss))(params))
  wanted = {k: v.grad.numpy() for k, v in reference.named_parameters()}
  for theirs, ours in convert_imu.NAMES.items():
    want = wanted[theirs].T
    error = np.abs(gradients[ours] - want).max() / np.abs(want).max()
    assert error <= 1e-4, (ours, error)


@pytest.mark.parity
def test_reads_a_file_that_torch_saved(tmp_path):
  torch = pytest.importorskip("torch")
  state = make_state()
  reference = build_torch(torch, "official_swapped", state)
  path = tmp_path / "run_src_encoder.pt"
  torch.save(reference.state_dict(), path)
  encoder, params = convert_imu.load_torch_encoder(path)
  assert (encoder.preset, encoder.embed_dim) == ("official_swapped", HIDDEN)
  imu = make_windows(samples=980)
  want = reference(torch.tensor(imu.transpose(0, 2, 1))).detach().numpy()
  got = embed(encoder, params, imu, normalize=False)
  assert np.abs(got - want).max() <= 1e-5

  torch.save({"net.0.weight": torch.ones(6)}, path)
  with pytest.raises(ValueError, match=r"run_src_encoder.pt: not a released"):
    convert_imu.load_torch_encoder(path)


@pytest.mark.parity
def test_golden_file_is_what_torch_gives():
  torch = pytest.importorskip("torch")
  imu = torch.tensor(make_windows().transpose(0, 2, 1))
  made = {}
  for preset in PRESETS:
    state = make_state(features=features_of(preset))
    out = build_torch(torch, preset, state)(imu)
    made[preset] = np.round(out.detach().numpy().astype(float), 7).tolist()
  if os.environ.get(REFRESH):
    GOLDEN.write_text(json.dumps(made) + "\n")
  kept = json.loads(GOLDEN.read_text())
  for preset in PRESETS:
    np.testing.assert_allclose(made[preset], kept[preset], atol=2e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_equals_golden_numbers(preset):
  state = make_state(features=features_of(preset))
  params = params_from(preset, state)
  encoder = build_small(preset)
  got = embed(encoder, params, make_windows(), normalize=False)
  want = np.array(json.loads(GOLDEN.read_text())[preset])
  assert np.abs(got - want).max() <= 1e-5


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda s: s.pop("net.4.bias"), r"missing \['net.4.bias'\]"),
    (lambda s: s.update(extra=np.ones(3)), r"unknown \['extra'\]"),
    (
      lambda s: s.update({"net.0.weight": np.ones(5, np.float32)}),
      r"net.0.weight is \[5\].*needs \[6\]",
    ),
    (
      lambda s: s.update({"net.5.weight_ih_l0": np.ones((48, 14))}),
      r"net.5.weight_ih_l0 is \[48, 14\].*needs \[48, 32\]",
    ),
  ],
)
def test_a_state_dict_that_does_not_fit_is_named(change, message):
  state = make_state()
  change(state)
  with pytest.raises(ValueError, match=message):
    convert_imu.from_state_dict(state)


# Form.


@pytest.mark.parametrize("preset", ["official", "i2c"])
def test_the_projection_sees_the_features(preset):
  encoder = encoders.build(preset, 12, width=WIDTH)
  params = draw(encoder, 300)
  mask = np.arange(300)[None] < np.array([[300], [260], [280]])
  inputs = (
    make_windows(samples=300),
    mask,
    np.array([[1, 1], [1, 0], [0, 1]]) > 0,
  )
  features = jax.jit(encoder.features, compiler_options=QUICK)(params, *inputs)
  assert features.shape[1] != 12
  projected = features @ params["out"]["kernel"] + params["out"]["bias"][None]
  got = embed(encoder, params, *inputs, normalize=False)
  np.testing.assert_allclose(got, projected, atol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_released_size_and_unit_norm(preset):
  encoder = encoders.build(preset, 512)
  # The count of the released network at 512 states.
  assert trees.count(encoder.param_shapes(1000)) == 850_892
  small = build_small(preset)
  params = draw(small, 1000)
  out = embed(small, params, make_windows())
  assert out.shape == (3, HIDDEN)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, rtol=1e-5)


def test_projection_only_where_the_width_differs():
  wide = encoders.build("official", 24, hidden=HIDDEN, width=WIDTH)
  params = draw(wide, 200)
  assert params["out"]["kernel"].shape == (HIDDEN, 24)
  assert embed(wide, params, make_windows(samples=200)).shape == (3, 24)
  assert set(build_small("official").param_shapes(200)) == {"trunk"}


def test_flops_by_hand():
  # Convolutions over 982, 974 and 966 samples, 193 steps of the GRU.
  convs = 982 * 10 * 6 * 32 + (974 + 966) * 5 * 32 * 32
  gru = 193 * 3 * 512 * (32 + 512)
  got = encoders.build("paper", 512).flops(1000)
  assert got == 2 * (convs + gru)


@pytest.mark.parametrize("preset", PRESETS)
def test_bounds_of_the_window_length(preset):
  encoder = build_small(preset)
  params = draw(encoder, encoder.min_samples)
  shortest = make_windows(1, encoder.min_samples)
  assert np.isfinite(embed(encoder, params, shortest)).all()
  with pytest.raises(ValueError, match=f"got {encoder.min_samples - 1}"):
    encoder.apply(params, shortest[:, :-1])
  if preset == "official_swapped":
    assert (encoder.min_samples, encoder.max_samples) == (978, 1004)
    with pytest.raises(ValueError, match=r"978 to 1004 samples .* got 1005"):
      encoder.apply(params, make_windows(1, 1005))
  else:
    for samples in (500, 2000):
      out = jax.eval_shape(encoder.apply, params, make_windows(1, samples))
      assert out.shape == (1, HIDDEN)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_learns(preset):
  encoder = build_small(preset)
  samples = min(encoder.min_samples + 30, encoder.max_samples or 2000)
  imu = make_windows(samples=samples)
  params = draw(encoder, samples)
  target = np.random.default_rng(0).normal(size=(3, HIDDEN))

  def loss(params):
    return jnp.sum(encoder.apply(params, imu) * target)

  gradients = trees.flatten(
    jax.jit(jax.grad(loss), compiler_options=QUICK)(params)
  )
  for name, gradient in gradients.items():
    assert np.isfinite(gradient).all(), name
    assert np.abs(gradient).max() > 0, name


def test_bfloat16_stays_near():
  exact = build_small("official")
  half = encoders.build(
    "official", HIDDEN, hidden=HIDDEN, width=WIDTH, dtype=jnp.bfloat16
  )
  imu = make_windows(samples=300)
  params = draw(exact, 300)
  out = embed(half, params, imu)
  assert out.dtype == jnp.float32
  cosine = np.sum(out * embed(exact, params, imu), axis=1)
  assert cosine.min() > 0.995


# Masks.


@pytest.mark.parametrize("preset", PRESETS)
def test_padding_changes_nothing(preset):
  encoder = build_small(preset)
  lengths = np.array([1000, 991, 978])
  if preset != "official_swapped":
    lengths = np.array([1000, 500, encoder.min_samples])
  imu = make_windows()
  params = draw(encoder, 1000)
  mask = np.arange(1000)[None, :] < lengths[:, None]
  spoilt = np.where(mask[..., None], imu, np.nan)
  got = embed(encoder, params, spoilt, mask)
  for i, length in enumerate(lengths):
    alone = embed(encoder, params, imu[i : i + 1, :length])
    np.testing.assert_allclose(got[i], alone[0], atol=1e-6)


def test_padding_changes_nothing_at_any_remainder():
  """What is left over by the pooling differs from window to window."""
  lengths = np.array([64, 51, 45])
  encoder = build_small("paper")
  params = params_from("paper", make_state(features=WIDTH))
  imu = make_windows(3, 64)
  mask = np.arange(64)[None, :] < lengths[:, None]
  got = embed(encoder, params, imu, mask)
  for i, length in enumerate(lengths):
    alone = embed(encoder, params, imu[i : i + 1, :length])
    np.testing.assert_allclose(got[i], alone[0], atol=5e-6)


def test_gradients_through_padding_are_finite():
  encoder = build_small("paper")
  params = draw(encoder, 64)
  imu = np.where(np.arange(64)[None, :, None] < 50, make_windows(2, 64), np.nan)
  mask = np.broadcast_to(np.arange(64) < 50, (2, 64))

  def loss(params):
    return encoder.apply(params, imu, mask)[:, 0].sum()

  gradients = jax.jit(jax.grad(loss), compiler_options=QUICK)(params)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_a_missing_sensor_is_not_looked_at():
  encoder = build_small("paper")
  params = draw(encoder, 100)
  imu = make_windows(4, 100)
  sensor_mask = np.array([(1, 1), (1, 0), (0, 1), (0, 0)], bool)
  measured = np.repeat(sensor_mask, 3, axis=1)[:, None]
  spoilt = np.where(measured, imu, np.nan)

  def loss(params):
    out = encoder.apply(params, spoilt, sensor_mask=sensor_mask)
    return jnp.sum(out[:, 0]), out

  run = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)
  gradients, got = run(params)
  assert np.isfinite(got).all()
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
  whole = embed(encoder, params, imu)
  np.testing.assert_allclose(got[0], whole[0], atol=1e-6)
  assert np.abs(got[1:] - whole[1:]).max(1).min() > 1e-3


# Bad input.


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"rate_hz": 0.0}, "rate_hz is 0.0"),
    ({"rate_hz": float("nan")}, "rate_hz is nan"),
    ({"hidden": 0}, "hidden is 0"),
    ({"width": 30}, "width is 30"),
    ({"activation": "swoosh"}, "'swoosh' is not one of none"),
    ({"preset": "offical"}, "'offical' is not one of paper"),
    ({"preset": "official", "activation": "gelu"}, "has no activation"),
  ],
)
def test_bad_options_are_named(options, message):
  options = {"preset": "paper"} | options
  with pytest.raises(ValueError, match=message):
    encoders.build(options.pop("preset"), 512, **options)


def test_bad_windows_are_named():
  encoder = build_small("paper")
  imu = make_windows(2, 60)
  encoder.check(imu)
  with pytest.raises(ValueError, match=r"\[B, T, 6\].*\[2, 60, 5\]"):
    encoder.check(imu[:, :, :5])
  with pytest.raises(ValueError, match=r"39 to inf samples.*got 38"):
    encoder.check(imu[:, :38])
  for bad in (np.nan, np.inf):
    spoilt = imu.copy()
    spoilt[1, 50, 3] = bad
    with pytest.raises(ValueError, match="imu of window 1 holds NaN"):
      encoder.check(spoilt)
    mask = np.broadcast_to(np.arange(60) < 45, (2, 60))
    encoder.check(spoilt, mask)
  hole = np.ones((2, 60), bool)
  hole[1, 7] = False
  with pytest.raises(ValueError, match="mask of window 1: padding"):
    encoder.check(imu, hole)
  short = np.broadcast_to(np.arange(60) < 30, (2, 60))
  with pytest.raises(ValueError, match=r"window 0 has 30 samples.*least 39"):
    encoder.check(imu, short)
  with pytest.raises(ValueError, match=r"mask must be bool \[2, 60\]"):
    encoder.check(imu, short[:1])


# Compilation.


def make_step(encoder):
  optimizer = optax.adam(1e-3)

  def step(params, opt_state, imu):
    def loss(params):
      return jnp.mean(encoder.apply(params, imu)[:, 0])

    gradients = jax.grad(loss)(params)
    updates, opt_state = optimizer.update(gradients, opt_state)
    return optax.apply_updates(params, updates), opt_state

  return jax.jit(step), optimizer


def test_the_step_compiles_once():
  encoder = build_small("paper")
  step, optimizer = make_step(encoder)
  params = draw(encoder, 60)
  opt_state = optimizer.init(params)
  for seed in range(3):
    imu = make_windows(4, 60, seed)
    params, opt_state = step(params, opt_state, imu)
  assert step._cache_size() == 1


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_the_step_compiles_within_five_seconds(preset):
  encoder = encoders.build(preset, 512)
  step, optimizer = make_step(encoder)
  params = encoder.param_shapes(1000)
  opt_state = jax.eval_shape(optimizer.init, params)
  imu = jax.ShapeDtypeStruct((256, 1000, 6), jnp.float32)
  start = time.process_time()
  step.lower(params, opt_state, imu).compile()
  assert time.process_time() - start < 5
