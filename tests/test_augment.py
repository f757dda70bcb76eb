"""Augmentations: what they change and what they must leave."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imu2clip_jax import config
from imu2clip_jax.data import augment

OFF = config.default().augment.to_dict()


def windows(batch=5, time=80, seed=0):
  imu = np.random.default_rng(seed).normal(size=(batch, time, 6))
  imu[..., :3] += [3.0, -2.0, 9.0]
  return jnp.asarray(imu, jnp.float32)


def options(**values):
  return types.SimpleNamespace(**(OFF | values))


TRANSFORMS = {
  "half_turns": functools.partial(augment.half_turns),
  "mirror": functools.partial(augment.mirror, share=1.0),
  "rotate_yaw": augment.rotate_yaw,
  "tilt": functools.partial(augment.tilt, spread_rad=0.2),
  "rotate": augment.rotate,
  "warp_time": functools.partial(augment.warp_time, spread=0.3),
  "drop_channel": functools.partial(augment.drop_channel, share=0.3),
  "change_rate": functools.partial(augment.change_rate, spread=0.3),
  "scale": functools.partial(augment.scale, spread=0.3),
  "jitter": functools.partial(augment.jitter, largest=0.3),
}
RIGID = ("half_turns", "mirror", "rotate_yaw", "tilt", "rotate")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_keeps_shape_and_depends_on_its_key_only(name):
  imu, transform = windows(), jax.jit(TRANSFORMS[name])
  first = transform(jax.random.key(1), imu)
  assert first.shape == imu.shape
  assert first.dtype == imu.dtype
  assert np.isfinite(first).all()
  assert not np.allclose(first, imu, atol=1e-3)
  np.testing.assert_array_equal(first, transform(jax.random.key(1), imu))
  if name != "mirror":
    assert not np.allclose(first, transform(jax.random.key(2), imu), atol=1e-3)


@pytest.mark.parametrize("name", RIGID)
def test_turns_keep_lengths_and_inner_products(name):
  imu = windows()
  turned = TRANSFORMS[name](jax.random.key(0), imu)
  for sensor in (slice(0, 3), slice(3, 6)):
    a, b = imu[..., sensor], turned[..., sensor]
    np.testing.assert_allclose(
      jnp.einsum("bti,bsi->bts", a, a),
      jnp.einsum("bti,bsi->bts", b, b),
      atol=2e-3,
    )


@pytest.mark.parametrize("name", RIGID)
def test_a_turn_is_one_rotation_of_both_sensors(name):
  # a · w is a number of the motion: kept by a turn, negated by a mirror.
  imu = windows()
  turned = TRANSFORMS[name](jax.random.key(0), imu)
  sign = -1 if name == "mirror" else 1
  np.testing.assert_allclose(
    (turned[..., :3] * turned[..., 3:]).sum(-1),
    sign * (imu[..., :3] * imu[..., 3:]).sum(-1),
    atol=1e-3,
  )


def test_yaw_leaves_the_direction_of_gravity():
  imu = windows()
  turned = augment.rotate_yaw(jax.random.key(0), imu)
  np.testing.assert_allclose(
    turned[..., :3].mean(1), imu[..., :3].mean(1), atol=1e-4
  )


def test_rotations_are_uniform():
  imu = jnp.tile(jnp.asarray([0, 0, 1.0, 0, 0, 0]), (4000, 2, 1))
  z = np.asarray(augment.rotate(jax.random.key(0), imu))[:, 0, :3]
  np.testing.assert_allclose(z.mean(0), 0, atol=0.04)
  np.testing.assert_allclose(z.T @ z / len(z), np.eye(3) / 3, atol=0.03)


def test_scaling_keeps_the_mean_and_scales_sensors_apart():
  imu = windows()
  scaled = augment.scale(jax.random.key(0), imu, 0.5)
  np.testing.assert_allclose(scaled.mean(1), imu.mean(1), atol=1e-5)
  ratio = np.asarray(scaled.std(1) / imu.std(1))
  np.testing.assert_allclose(ratio[:, :1].repeat(3, 1), ratio[:, :3], rtol=1e-4)
  assert (abs(ratio[:, 0] / ratio[:, 3] - 1) > 0.01).all()


def test_another_rate_moves_the_frequency_of_a_sine():
  t = jnp.arange(500) / 50
  imu = jnp.tile(jnp.sin(2 * jnp.pi * 2 * t)[None, :, None], (64, 1, 6))
  fast = np.asarray(augment.change_rate(jax.random.key(0), imu, 0.4))
  peaks = np.abs(np.fft.rfft(fast[..., 0], axis=1))[:, 1:].argmax(1) + 1
  hz = peaks * 50 / 500
  assert 2 * np.exp(-0.45) <= hz.min() < 1.6
  assert 2.5 < hz.max() < 3.2
  assert abs(fast).max() <= 1 + 1e-5


def test_warped_time_keeps_both_ends_and_runs_forward():
  ramp = jnp.broadcast_to(jnp.linspace(0, 1, 300)[None, :, None], (50, 300, 6))
  warped = np.asarray(augment.warp_time(jax.random.key(0), ramp, 0.3))
  np.testing.assert_allclose(warped[:, 0], 0, atol=1e-6)
  np.testing.assert_allclose(warped[:, -1], 1, atol=1e-6)
  speed = 299 * np.diff(warped[..., 0], axis=1)
  assert 0.2 < speed.min() < 0.8 < 1.2 < speed.max() < 5
  # Smooth: from sample to sample the tempo hardly changes.
  assert abs(np.diff(speed, axis=1)).max() < 0.05
  still = augment.warp_time(jax.random.key(0), ramp, 1e-9)
  np.testing.assert_allclose(still, ramp, atol=1e-5)


def test_lost_channels_are_of_the_stated_share_and_whole():
  imu = jnp.ones((500, 9, 6))
  kept = np.asarray(augment.drop_channel(jax.random.key(0), imu, 0.2))
  assert (kept.min(1) == kept.max(1)).all()
  np.testing.assert_allclose(1 - kept.mean((0, 1)), 0.2, atol=0.06)


def test_views_of_one_step_differ_and_the_first_is_the_plain_one():
  imu, mask = windows(), jnp.ones((5, 2), bool)
  c = config.default().augment
  c.jitter = 0.3
  change = augment.from_config(c, 0)
  plain, first, second = (
    change(3, imu, mask, **view)[0] for view in ({}, {"view": 0}, {"view": 1})
  )
  np.testing.assert_array_equal(plain, first)
  assert not np.allclose(first, second, atol=1e-3)
  again = change(3, imu, mask, view=1)[0]
  np.testing.assert_array_equal(again, second)


def test_jitter_has_the_stated_level():
  imu = jnp.zeros((200, 200, 6))
  noise = np.asarray(augment.jitter(jax.random.key(0), imu, 0.5))
  level = noise[..., :3].std((1, 2))
  assert 0.0045 < level.min() < 0.01
  assert 0.4 < level.max() < 0.52
  np.testing.assert_allclose(noise[..., 3:].std((1, 2)) / level, 0.1, rtol=0.2)


def test_a_window_keeps_its_last_sensor():
  mask = jnp.asarray([[True, True], [True, False], [False, True]])
  for seed in range(5):
    dropped = np.asarray(augment.drop_sensor(jax.random.key(seed), mask, 1.0))
    assert dropped[0].sum() == 1
    np.testing.assert_array_equal(dropped[1:], mask[1:])


def test_mixup_mixes_signals_and_targets_alike():
  imu, targets = windows(4), jnp.eye(4)
  mixed, soft = augment.mixup(jax.random.key(0), imu, targets, 0.3)
  np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
  assert (np.asarray(soft).argmax(1) == np.arange(4)).all()
  np.testing.assert_allclose(
    mixed, jnp.einsum("bc,cti->bti", soft, imu), atol=1e-4
  )


def test_everything_off_changes_nothing():
  imu, mask = windows(), jnp.ones((5, 2), bool)
  out, out_mask = augment.augment(jax.random.key(0), imu, mask, options())
  np.testing.assert_array_equal(out, imu)
  np.testing.assert_array_equal(out_mask, mask)


def test_sensors_that_were_not_measured_stay_zero():
  mask = jnp.asarray([[False, True], [True, False]] * 4)
  imu = jnp.where(jnp.repeat(mask, 3, 1)[:, None], windows(8), 0)
  every = options(
    half_turns=True, mirror=0.5, yaw=True, rotate=True, tilt_rad=0.1,
    rate=0.2, time_warp=0.2, drop_channel=0.1, scale=0.2,
    jitter=0.3, drop_sensor=0.5,
  )  # fmt: skip
  out, out_mask = augment.augment(jax.random.key(0), imu, mask, every)
  np.testing.assert_array_equal(out_mask, mask)
  assert np.isfinite(out).all()
  assert (
    np.asarray(out)[~np.asarray(jnp.repeat(mask, 3, 1))[:, None].repeat(80, 1)]
    == 0
  ).all()
