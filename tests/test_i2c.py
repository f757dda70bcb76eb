"""Our own encoder: shapes, masks, invariances, rates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from imu2clip_jax import imu as imu_lib
from imu2clip_jax.data import augment
from imu2clip_jax.models import encoders, i2c

DIM = 16


both = pytest.mark.parametrize("preset", i2c.PRESETS)


@functools.cache
def encoder(preset="i2c"):
  made = encoders.build(preset, DIM, width=8)
  apply = jax.jit(made.apply, static_argnames="normalize")
  return made, made.init(jax.random.key(0), 250), apply


def windows(batch=4, time=250, seed=0):
  rng = np.random.default_rng(seed)
  t = np.arange(time) / 50
  phase = rng.uniform(0, 6, (batch, 1, 6))
  hz = rng.uniform(0.5, 4, (batch, 1, 6))
  imu = np.sin(2 * np.pi * hz * t[None, :, None] + phase)
  imu += 0.1 * rng.normal(size=imu.shape)
  imu[..., :3] += np.array([2.0, -5.0, 7.0]) + rng.normal(size=(batch, 1, 3))
  return imu.astype(np.float32)


@both
def test_gives_unit_rows_and_gradients_to_every_parameter(preset):
  made, params, apply = encoder(preset)
  x = apply(params, windows())
  assert x.shape == (4, DIM)
  assert x.dtype == jnp.float32
  np.testing.assert_allclose(jnp.linalg.norm(x, axis=1), 1, atol=1e-5)
  target = jnp.asarray(np.random.default_rng(0).normal(size=(4, DIM)))
  gradients = jax.jit(
    jax.grad(lambda p: (made.apply(p, windows()) * target).sum())
  )(params)
  for path, g in jax.tree_util.tree_leaves_with_path(gradients):
    assert np.isfinite(g).all(), path
    assert np.abs(g).max() > 0, path


@both
def test_costs_less_than_twice_the_papers_encoder(preset):
  paper = encoders.build("paper", 512)
  ours = encoders.build(preset, 512)
  assert ours.flops(250) <= 2 * paper.flops(1000)


@both
def test_a_padded_window_gives_what_it_gives_alone(preset):
  _, params, apply = encoder(preset)
  imu = windows(3)
  lengths = np.array([250, 187, 100])
  mask = np.arange(250) < lengths[:, None]
  padded = np.where(mask[..., None], imu, np.nan)
  together = apply(params, padded, mask)
  for i, length in enumerate(lengths):
    alone = apply(params, imu[i : i + 1, :length])
    np.testing.assert_allclose(together[i], alone[0], atol=2e-5)


@both
@pytest.mark.parametrize("sensor", [0, 1])
def test_a_missing_sensor_is_never_read(sensor, preset):
  made, params, apply = encoder(preset)
  imu, measured = windows(), np.ones((4, 2), bool)
  measured[:, sensor] = False
  other = imu.copy()
  other[..., 3 * sensor : 3 * sensor + 3] = 7.0
  x = apply(params, imu, sensor_mask=measured)
  assert np.isfinite(x).all()
  np.testing.assert_array_equal(x, apply(params, other, sensor_mask=measured))
  gradient = jax.jit(
    jax.grad(lambda p: made.apply(p, imu, sensor_mask=measured)[:, 0].sum())
  )(params)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_heading_does_not_show():
  _, params, apply = encoder()
  imu = windows()
  turned = augment.rotate_yaw(jax.random.key(3), jnp.asarray(imu))
  assert np.abs(turned - imu).max() > 0.5
  np.testing.assert_allclose(
    apply(params, turned), apply(params, imu), atol=1e-4
  )


def test_where_the_head_points_shows():
  _, params, apply = encoder("i2c_head")
  imu = windows()
  other = imu * np.array([-1, -1, 1, -1, -1, 1], np.float32)
  assert np.abs(apply(params, other) - apply(params, imu)).max() > 0.05


def test_leaning_is_read_in_the_middle_of_what_is_real():
  x = np.zeros((2, 200, 6), np.float32)
  x[0, 95:105, 1] = 2.0
  x[1, 45:55, 1] = 2.0
  lengths = jnp.asarray([200, 100])
  found = np.asarray(i2c.lean_and_turn(jnp.asarray(x), lengths))
  assert (found[:, 1] > 0.5).all()
  assert not found[:, [0, 2, 3, 4, 5]].any()
  x[1, 45:55, 1], x[1, 95:, 1] = 0.0, 2.0
  found = np.asarray(i2c.lean_and_turn(jnp.asarray(x), lengths))
  assert abs(found[1, 1]) < 1e-3


@pytest.mark.parametrize("degrees", [0, 60, 120, 179.9, 180])
def test_upright_signals_do_not_depend_on_the_mounting(degrees):
  imu = windows()
  turn = Rotation.from_euler("xyz", [degrees, 20, 30], degrees=True)
  sensors = imu.reshape(4, 250, 2, 3) @ turn.as_matrix().T
  lengths = jnp.full(4, 250)
  a, _ = i2c.upright(jnp.asarray(imu), lengths)
  b, _ = i2c.upright(
    jnp.asarray(sensors.reshape(imu.shape), jnp.float32), lengths
  )
  np.testing.assert_allclose(i2c.compress(a)[0], i2c.compress(b)[0], atol=2e-3)
  np.testing.assert_allclose(
    i2c.band_energies(a), i2c.band_energies(b), atol=2e-3
  )


def test_gravity_is_removed_and_posture_kept():
  still = np.zeros((1, 100, 6), np.float32)
  still[..., :3] = [0.0, -9.80665, 0.0]
  upright, posture = i2c.upright(jnp.asarray(still), jnp.asarray([100]))
  np.testing.assert_allclose(upright, 0, atol=1e-5)
  np.testing.assert_allclose(posture, [[0, -1, 0, 0, 1, 0]], atol=1e-6)


def test_a_sine_lands_in_its_band_with_its_variance():
  t = np.arange(250) / 50
  imu = np.zeros((1, 250, 6), np.float32)
  imu[0, :, 2] = 2 * np.sin(2 * np.pi * 4.5 * t)
  energies = np.asarray(i2c.band_energies(jnp.asarray(imu)))[0, 0]
  energies = energies.reshape(4, -1)  # accel z, accel level, gyro z, level
  band = energies[0].argmax()
  # Bands 4-5 Hz; a Hann window leaks into the neighbouring bins 4 and 5.
  assert band == 6
  variance = (np.exp(energies[0]).sum()) * 0.1**2
  assert abs(variance - 2) < 0.1
  np.testing.assert_allclose(energies[1:], np.log(1e-2), atol=1e-2)


@pytest.mark.parametrize("rate_hz", [50, 100, 200, 400])
@pytest.mark.parametrize("window_s", [2.5, 5.0, 10.0])
def test_any_rate_and_length_embed(rate_hz, window_s):
  _, params, apply = encoder()
  imu = windows(2, round(rate_hz * window_s))
  at_50 = imu_lib.resample_windows(imu, rate_hz, 50.0)
  x = apply(params, at_50)
  assert x.shape == (2, DIM)
  assert np.isfinite(x).all()


@pytest.mark.parametrize(
  ("time", "channels", "named"), [(99, 6, "99"), (250, 5, "5")]
)
def test_too_short_or_too_narrow_is_refused(time, channels, named):
  made, params, _ = encoder()
  with pytest.raises(ValueError, match=named):
    made.apply(params, jnp.zeros((1, time, channels)))


@pytest.mark.parametrize("option", ["rate_hz", "width"])
def test_bad_sizes_are_refused(option):
  with pytest.raises(ValueError, match=option):
    encoders.build("i2c", DIM, **{option: 0})
