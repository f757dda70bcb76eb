"""Every encoder behind the common face: budget, shapes, gradients, masks."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from imu2clip_jax import trees
from imu2clip_jax.models import baselines, blocks, encoders

BASELINES = tuple(baselines.PRESETS)
# Their blocks take longest to compile; `test_attention...` checks the mask.
TRANSFORMERS = ("transformer_cnn", "patch_transformer")
QUICK = {"xla_backend_optimization_level": 0}
SAMPLES, DIM = 200, 24


def make_imu(num=3, samples=SAMPLES, seed=0):
  rng = np.random.default_rng(seed)
  return np.cumsum(rng.standard_normal((num, samples, 6)), 1, dtype=np.float32)


@pytest.fixture(scope="module", params=BASELINES)
def made(request):
  """An encoder of each kind, its parameters and its compiled embedding."""
  encoder = encoders.build(request.param, DIM)
  draw = jax.jit(lambda key: encoder.init(key, SAMPLES), compiler_options=QUICK)
  params = draw(jax.random.key(0))
  embed = jax.jit(encoder.apply, compiler_options=QUICK)
  return encoder, params, embed


def test_shape_and_unit_norm(made):
  _, params, embed = made
  out = embed(params, make_imu())
  assert out.shape == (3, DIM)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, rtol=1e-5)
  assert np.abs(out[0] - out[1]).max() > 1e-3


def test_within_the_budget(made):
  encoder, _, _ = made
  flops = encoders.build(encoder.preset, 512).flops(1000)
  assert 1e6 < flops <= 100e6


def test_padding_changes_nothing(made):
  _, params, embed = made
  imu = make_imu()
  # Within a patch, an interval and a pooling of each kind.
  lengths = np.array([SAMPLES, SAMPLES, 187])
  mask = np.arange(SAMPLES)[None, :] < lengths[:, None]
  got = embed(params, np.where(mask[..., None], imu, np.nan), mask)
  np.testing.assert_allclose(got[:2], embed(params, imu)[:2], atol=1e-5)
  alone = embed(params, imu[2:, :187])
  np.testing.assert_allclose(got[2], alone[0], atol=1e-5)


def check_gradients(encoder, params):
  mask = np.arange(SAMPLES)[None, :] < np.array([200, 160, 150])[:, None]
  sensor_mask = np.array([(1, 1), (1, 0), (0, 1)], bool)
  real = mask[..., None] & np.repeat(sensor_mask, 3, axis=1)[:, None]
  imu = np.where(real, make_imu(), np.nan)
  target = np.random.default_rng(0).normal(size=(3, DIM))

  def loss(params):
    return jnp.sum(encoder.apply(params, imu, mask, sensor_mask) * target)

  gradients = jax.jit(jax.grad(loss), compiler_options=QUICK)(params)
  for name, gradient in trees.flatten(gradients).items():
    assert np.isfinite(gradient).all(), name
    assert np.abs(gradient).max() > 0, name


def test_every_parameter_learns_and_garbage_is_not_looked_at(made):
  encoder, params, _ = made
  if encoder.preset not in TRANSFORMERS:
    check_gradients(encoder, params)


@pytest.mark.slow
@pytest.mark.parametrize("preset", TRANSFORMERS)
def test_every_parameter_of_a_transformer_learns(preset):
  encoder = encoders.build(preset, DIM)
  check_gradients(encoder, encoder.init(jax.random.key(0), SAMPLES))


def test_shortest_window(made):
  encoder, params, embed = made
  shortest = make_imu(1, encoder.min_samples)
  assert jax.eval_shape(embed, params, shortest).shape == (1, DIM)
  with pytest.raises(ValueError, match=f"takes {encoder.min_samples} to inf"):
    encoder.apply(params, shortest[:, 1:])


def test_every_name_builds_from_a_config():
  for name in encoders.NAMES:
    options = ml_collections.ConfigDict(
      {
        "preset": name,
        "rate_hz": 200.0,
        "hidden": 32,
        "width": 16,
        "activation": "",
      }
    )
    encoder = encoders.from_config(options, DIM)
    assert (encoder.preset, encoder.embed_dim) == (name, DIM)
    assert encoder.rate_hz == 200.0


def test_unknown_names_and_bad_numbers():
  with pytest.raises(ValueError, match=r"'lstm' is not one of paper, .*bilstm"):
    encoders.build("lstm", DIM)
  with pytest.raises(ValueError, match="rate_hz is 0"):
    encoders.build("bilstm", DIM, rate_hz=0)


def test_attention_does_not_reach_behind_the_lengths():
  block = blocks.Blocks(2, 2, 16, "gelu", 1e-5)
  x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
  params = jax.jit(block.init, compiler_options=QUICK)(jax.random.key(0), x)
  embed = jax.jit(block.apply, compiler_options=QUICK)
  lengths = jnp.array([5, 3])
  moved = x.copy()
  moved[1, 3:] = 100
  a, b = (embed(params, v, lengths) for v in (x, moved))
  np.testing.assert_allclose(a[1, :3], b[1, :3], atol=1e-6)
  alone = embed(params, x[1:, :3])
  np.testing.assert_allclose(a[1, :3], alone[0], atol=1e-5)
