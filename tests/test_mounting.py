"""Glasses mounted any way come out as one head frame."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax.recordings import mounting
from imu2clip_jax.recordings import recording as recording_lib

# How the sensor may sit, x fore and aft along the temple, y up or down.
FROM_HEAD = mounting._ALONG_TEMPLE.T
HALF_TURNS = [
  np.diag(d) for d in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])
]
# From the joint that a head nods about to the temple: back and up, metres.
LEVER = np.array([0.0, -0.08, 0.05])


def about(axis, angle):
  """Turns [..., 3, 3] about an axis of the head."""
  c, s = np.cos(angle), np.sin(angle)
  turn = np.zeros((*np.shape(angle), 3, 3))
  i, j = (axis + 1) % 3, (axis + 2) % 3
  turn[..., axis, axis] = 1
  turn[..., i, i], turn[..., j, j] = c, c
  turn[..., i, j], turn[..., j, i] = -s, s
  return turn


def wear(seed=0, posture=0.0, minutes=2, rate_hz=50):
  """accel, gyro [N, 3] of a temple whose head nods a little, head frame."""
  rng = np.random.default_rng(seed)
  t = np.arange(minutes * 60 * rate_hz) / rate_hz
  nods = sum(
    rng.normal() * 0.02 * np.sin(2 * np.pi * hz * t + rng.uniform(0, 6))
    for hz in rng.uniform(0.2, 2.5, 8)
  )
  bowed = np.repeat(rng.random(minutes * 6) < 0.2, 10 * rate_hz)
  pitch = posture + nods + 0.5 * bowed * np.sin(np.pi * (t % 10) / 10) ** 4
  rate = np.gradient(pitch, t)
  place = np.einsum("tij,j->ti", about(0, pitch), LEVER)
  moved = np.gradient(np.gradient(place, t, axis=0), t, axis=0)
  moved[:, 2] += 9.81
  accel = np.einsum("tji,tj->ti", about(0, pitch), moved)
  gyro = np.stack([rate, 0 * t, 0 * t], 1)
  noise = rng.normal(size=(2, len(t), 3)) * [[[0.05]], [[0.002]]]
  return accel + noise[0], gyro + noise[1]


def recorded(accel, gyro, rate_hz=50):
  times_s = np.arange(len(accel)) / rate_hz
  return recording_lib.Recording(
    "r", "w", recording_lib.Imu(times_s, accel, times_s, gyro, "device")
  )


@pytest.mark.parametrize("turn", HALF_TURNS, ids=["as is", "x", "y", "z"])
@given(seed=st.integers(0, 2**16), tilt=st.floats(-0.5, 0.5))
@settings(max_examples=10, deadline=None)
def test_every_way_round_is_turned_back(turn, seed, tilt):
  accel, gyro = wear(seed)
  # Glasses that slip forward on the nose.
  mounted = turn @ FROM_HEAD @ about(0, tilt)
  seen = mounting.look(recorded(accel @ mounted.T, gyro @ mounted.T))
  (found,) = mounting.on_temple([seen])
  np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-9)
  assert np.linalg.det(found) == pytest.approx(1)
  away = found @ mounted
  assert np.trace(away) > 1 + 2 * np.cos(0.1)  # within 0.1 rad


def test_front_is_told_from_back_without_a_bow():
  """A wearer who leans back to look up would seem to bow, turned about."""
  for turn in HALF_TURNS:
    mounted = turn @ FROM_HEAD
    worn = [
      mounting.look(recorded(accel @ mounted.T, gyro @ mounted.T))
      for accel, gyro in (wear(0), wear(1), wear(2, -0.6))
    ]
    for found in mounting.on_temple(worn):
      assert np.trace(found @ mounted) > 1 + 2 * np.cos(0.1)


def test_steps_do_not_hide_nods():
  """Walkers nod against their rise; what they do at rest outweighs it."""
  accel, gyro = wear(3)
  t = np.arange(len(accel)) / 50
  walked = (t % 60) < 45
  rise = 2.0 * np.sin(2 * np.pi * 1.8 * t)
  accel[:, 2] += walked * rise
  gyro[:, 0] -= walked * 0.2 * np.cos(2 * np.pi * 1.8 * t)
  mounted = HALF_TURNS[3] @ FROM_HEAD
  seen = mounting.look(recorded(accel @ mounted.T, gyro @ mounted.T))
  assert seen["forward"] < 0
  (found,) = mounting.on_temple([seen])
  assert np.trace(found @ mounted) > 1 + 2 * np.cos(0.1)


@given(eighths=st.lists(st.integers(0, 7), min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_clip_that_turns_between_recordings_is_turned_back(eighths):
  accel, gyro = wear(4)
  mounts = [about(0, k * np.pi / 4) @ FROM_HEAD for k in eighths]  # sensor's x
  worn = [
    mounting.look(recorded(accel @ mounted.T, gyro @ mounted.T))
    for mounted in mounts
  ]
  for turn, mounted in zip(mounting.on_temple(worn), mounts, strict=True):
    assert np.trace(turn @ mounted) > 1 + 2 * np.cos(0.1)


@pytest.mark.parametrize("slipped", [0.0, np.pi])
def test_a_head_held_to_one_side_is_not_a_slip(slipped):
  """By 0.3 rad in one recording of four; on the circle 0 follows 2 pi."""
  mounted = about(0, slipped) @ FROM_HEAD
  worn = []
  for lean in (0.0, 0.02, 0.3, -0.02):
    accel, gyro = (x @ (mounted @ about(1, lean)).T for x in wear(4))
    worn.append(mounting.look(recorded(accel, gyro)))
  turns = mounting.on_temple(worn)
  np.testing.assert_allclose(turns, [turns[0]] * 4, atol=1e-9)
  assert np.trace(turns[0] @ mounted) > 1 + 2 * np.cos(0.1)


def test_short_empty_and_broken_samples():
  accel, gyro = np.full((10, 3), 2.0), np.zeros((10, 3))
  seen = mounting.look(recorded(accel, gyro, rate_hz=20))
  np.testing.assert_array_equal(seen["directions"], [[2.0, 2.0, 2.0]])
  assert seen["forward"] == 0
  accel[3] = np.nan
  seen = mounting.look(recorded(accel, gyro))
  assert np.isfinite(seen["directions"]).all()
  assert mounting.look(recorded(accel[:0], gyro[:0])) is None
  gone = dataclasses.replace(
    recorded(accel, gyro).imu, accel=np.full((10, 3), np.nan)
  )
  assert (
    mounting.look(dataclasses.replace(recorded(accel, gyro), imu=gone)) is None
  )


def test_without_a_gyroscope_x_runs_forward():
  accel, gyro = wear(5)
  mounted = HALF_TURNS[1] @ FROM_HEAD  # upside down
  whole = recorded(accel @ mounted.T, gyro @ mounted.T).imu
  alone = dataclasses.replace(
    whole, gyro_t_s=np.zeros(0), gyro=np.zeros((0, 3))
  )
  recording = recording_lib.Recording("r", "w", alone)
  (found,) = mounting.on_temple([mounting.look(recording)])
  assert np.trace(found @ mounted) > 1 + 2 * np.cos(0.1)
