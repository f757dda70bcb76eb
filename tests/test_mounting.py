"""Glasses mounted any way come out as one head frame."""

import dataclasses
import itertools

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
  bowed = np.repeat(rng.permutation(minutes * 6) < minutes, 10 * rate_hz)
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


def seen_as(mounted, seed=4, **changes):
  accel, gyro = wear(seed, **changes)
  return mounting.look(recorded(accel @ mounted.T, gyro @ mounted.T))


def test_a_clip_turned_round_on_the_way_is_turned_back():
  """Two recordings one way, two the other, and one that hardly tells."""
  mounts = [FROM_HEAD] * 2 + [HALF_TURNS[2] @ FROM_HEAD] * 3
  worn = [seen_as(m, seed) for seed, m in enumerate(mounts)]
  worn[3]["forward"] = 1.0
  for turn, mounted in zip(mounting.on_temple(worn), mounts, strict=True):
    assert np.trace(turn @ mounted) > 1 + 2 * np.cos(0.1)


def test_a_single_odd_nod_does_not_turn_the_clip_round():
  forward = np.array([8.0, 9.0, -3.0, 7.0, 6.0])
  assert not mounting._turned_round(forward).any()
  forward[2] = -20
  assert mounting._turned_round(forward).tolist() == [0, 0, 1, 0, 0]


@given(
  st.lists(st.integers(-20, 20), min_size=1, max_size=9),
)
@settings(max_examples=50, deadline=None)
def test_the_course_of_the_clip_is_the_best_of_all(forward):
  def worth(course):
    signs = 1 - 2 * np.array(course)
    switches = np.count_nonzero(np.diff(course))
    return signs @ forward - 2 * mounting._TURNED_ROUND * switches

  found = mounting._turned_round(np.array(forward, float)).astype(int)
  every = itertools.product([0, 1], repeat=len(forward))
  assert worth(found) == pytest.approx(max(worth(course) for course in every))


def test_glasses_that_are_not_worn_take_the_nearest_recording():
  """Gravity along the temple, and no accelerometer, tell of no slip."""
  upright, slipped = FROM_HEAD, about(0, np.pi / 2) @ FROM_HEAD
  laid = {"directions": np.array([[9.7, 0.3, -0.9]]), "forward": -50.0}
  none = {"directions": np.zeros((0, 3)), "forward": 0.0}
  worn = [seen_as(upright), laid, seen_as(slipped), none]
  turns = mounting.on_temple(worn)
  np.testing.assert_array_equal(turns[1], turns[0])
  np.testing.assert_array_equal(turns[3], turns[2])
  assert np.trace(turns[2] @ slipped) > 1 + 2 * np.cos(0.1)


def test_a_dead_accelerometer_leaves_the_axes_as_they_are():
  dead = {"directions": np.zeros((3, 3)), "forward": 0.0}
  none = {"directions": np.zeros((0, 3)), "forward": 0.0}
  for turn in mounting.on_temple([none, dead, none]):
    np.testing.assert_array_equal(turn, mounting._ALONG_TEMPLE)


@given(st.permutations(range(5)))
@settings(max_examples=20, deadline=None)
def test_slips_do_not_depend_on_the_order(order):
  rolls = np.radians([0.0, 20, 40, 58, 170])
  own = [np.array([[0.0, np.cos(roll), -np.sin(roll)]]) * 9.8 for roll in rolls]
  found = mounting._between_slips([own[i] for i in order])
  np.testing.assert_allclose(
    found, mounting._between_slips(own)[list(order)], atol=1e-12
  )


def test_one_wild_piece_does_not_tilt_the_rest():
  worn = [seen_as(FROM_HEAD, seed) for seed in range(3)]
  calm = mounting.on_temple(worn)
  worn[1]["directions"] = np.concatenate(
    [worn[1]["directions"], [[60.0, -60.0, 60.0]]]
  )
  for turn, former in zip(mounting.on_temple(worn), calm, strict=True):
    assert np.trace(turn @ former.T) > 1 + 2 * np.cos(0.03)


def test_short_empty_and_broken_samples():
  accel, gyro = np.full((10, 3), 2.0), np.zeros((10, 3))
  seen = mounting.look(recorded(accel, gyro, rate_hz=20))
  np.testing.assert_allclose(seen["directions"], [[2.0, 2.0, 2.0]], rtol=1e-6)
  assert seen["forward"] == 0
  accel[3] = np.nan
  seen = mounting.look(recorded(accel, gyro))
  assert np.isfinite(seen["directions"]).all()
  accel[:] = np.nan
  gone = mounting.look(recorded(accel, gyro))
  assert gone == {"directions": pytest.approx(np.zeros((0, 3))), "forward": 0}
  with pytest.raises(ValueError, match="no usable IMU sample"):
    mounting.look(recorded(accel[:0], gyro[:0]))


@pytest.mark.filterwarnings("ignore:1 of 6000 samples are left out")
@pytest.mark.parametrize("stamp", [np.nan, np.inf, 0.0])
def test_a_broken_stamp_changes_nothing(stamp):
  accel, gyro = (x @ FROM_HEAD.T for x in wear(6))
  recording = recorded(accel, gyro)
  times_s = recording.imu.accel_t_s + 1.6e9
  whole = dataclasses.replace(
    recording,
    imu=dataclasses.replace(
      recording.imu, accel_t_s=times_s, gyro_t_s=times_s.copy()
    ),
  )
  wanted = mounting.look(whole)
  whole.imu.accel_t_s[700] = stamp
  found = mounting.look(whole)
  np.testing.assert_allclose(
    found["directions"], wanted["directions"], atol=0.05
  )
  assert found["forward"] == pytest.approx(wanted["forward"], rel=0.2)


def test_a_violent_piece_says_no_more_than_another():
  accel, gyro = (x @ FROM_HEAD.T for x in wear(4))
  seen = mounting.look(recorded(accel, gyro))
  pieces = len(seen["directions"])
  assert 0.05 * pieces < abs(seen["forward"]) < pieces
  # All one way for 5 s, a hundred times as strong, against the rest.
  gyro[3000:3250] *= -100
  found = mounting.look(recorded(accel, gyro))["forward"]
  assert found == pytest.approx(seen["forward"], abs=4)


def test_nods_are_not_read_across_a_hole():
  accel, gyro = (x @ FROM_HEAD.T for x in wear(4))
  recording = recorded(accel, gyro)
  kept = np.r_[:200, 5800:6000]  # 4 s at either end of two minutes
  imu = dataclasses.replace(
    recording.imu,
    accel_t_s=recording.imu.accel_t_s[kept],
    accel=accel[kept],
  )
  seen = mounting.look(dataclasses.replace(recording, imu=imu))
  assert seen["forward"] == 0
  assert len(seen["directions"]) == 2


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
