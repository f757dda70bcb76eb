"""Glasses mounted any way come out as one head frame."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax.recordings import mounting
from imu2clip_jax.recordings import recording as recording_lib

# Rows: how the sensor may sit, x fore and aft along the temple, y up or down.
FROM_HEAD = mounting._ALONG_TEMPLE.T
HALF_TURNS = [
  np.diag(d) for d in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])
]


def wear(rng, bowed_s=60, thrown_back_s=10, rate_hz=20):
  """Mean directions of a head that is mostly up and bows, [N, 3] head frame."""
  pitch = np.concatenate(
    [
      np.zeros(200),
      np.full(bowed_s, 0.6),
      np.full(thrown_back_s, -0.4),
    ]
  )
  pitch = np.repeat(pitch + rng.normal(size=len(pitch)) * 0.05, rate_hz)
  roll = rng.normal(size=len(pitch)) * 0.02
  return 9.81 * np.stack(
    [np.sin(roll), np.sin(pitch) * np.cos(roll), np.cos(pitch) * np.cos(roll)],
    -1,
  )


def recorded(accel, rate_hz=20):
  times_s = np.arange(len(accel)) / rate_hz
  return recording_lib.Recording(
    "r", "w", recording_lib.Imu(times_s, accel, times_s, accel, "device")
  )


@pytest.mark.parametrize("turn", HALF_TURNS, ids=["as is", "x", "y", "z"])
@given(seed=st.integers(0, 2**16), tilt=st.floats(-0.5, 0.5))
@settings(max_examples=10, deadline=None)
def test_every_way_round_is_turned_back(turn, seed, tilt):
  rng = np.random.default_rng(seed)
  head = wear(rng)
  # A nose on which the glasses slip forward.
  c, s = np.cos(tilt), np.sin(tilt)
  slip = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
  sensor = head @ slip.T @ FROM_HEAD.T @ turn.T
  (found,) = mounting.on_temple([mounting.directions(recorded(sensor))])
  assert np.linalg.det(found) == pytest.approx(1)
  np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-9)
  assert np.abs(sensor @ found.T - head).max() < 1.0  # m/s²


def test_one_recording_upside_down_joins_the_others():
  head = wear(np.random.default_rng(0))
  upright = head @ FROM_HEAD.T
  over = upright @ np.diag([1.0, -1, -1])
  pieces = [mounting.directions(recorded(x)) for x in (upright, over)]
  first, second = mounting.on_temple(pieces)
  np.testing.assert_allclose(upright @ first.T, over @ second.T, atol=1e-9)


def test_short_empty_and_broken_samples():
  accel = np.full((10, 3), 2.0)
  np.testing.assert_array_equal(
    mounting.directions(recorded(accel)), [[2.0, 2.0, 2.0]]
  )
  accel[3] = np.nan
  assert np.isfinite(mounting.directions(recorded(accel))).all()
  assert mounting.directions(recorded(accel[:0])).shape == (0, 3)
  gone = dataclasses.replace(
    recorded(accel).imu, accel=np.full((10, 3), np.nan)
  )
  assert (
    len(mounting.directions(dataclasses.replace(recorded(accel), imu=gone)))
    == 0
  )
