"""The built-in world: physics, determinism, splits, words and faults."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import cumulative_simpson
from scipy.spatial.transform import Rotation

from imu2clip_jax.recordings import synthetic
from imu2clip_jax.recordings.recording import Recording
from imu2clip_jax.recordings.synthetic import Faults, Simulation
from imu2clip_jax.recordings.world import (
  activities,
  bouts,
  motion,
  narration,
  render,
  scenes,
  sensor,
)

CLASSYGLASS = (
  "reading a book",
  "writing in a notebook",
  "typing on a computer",
  "browsing on a computer",
  "moving head and body while sitting",
  "moving the chair while sitting",
  "standing up from sitting",
  "standing still",
  "walking",
  "running",
  "taking stairs",
  "putting the glasses on and off while sitting",
  "putting the glasses on and off while standing",
  "picking up items from the floor while sitting",
  "picking up items from the floor while standing",
)
PAPER = ("head movement", "stands up", "sits down", "walking")


@pytest.fixture(scope="module")
def ideal():
  """A recording without the sensor's faults, 15 minutes: every activity."""
  return Simulation(wearer=3, duration_s=900, ideal=True)


@pytest.fixture(scope="module")
def ideal_imu(ideal):
  return ideal.imu()


def still_motion(**changes):
  """One endless bout in which nothing moves but what `changes` says."""
  row = {name: np.zeros(shape) for name, shape in motion.FIELDS.items()}
  row["sharpness"] = np.ones(4)
  row |= {"start_s": 0.0, "change_s": 1.0, "heading": 0.0}
  row["place"] = np.zeros(3)
  row |= changes
  return {name: np.asarray(value)[None] for name, value in row.items()}


def readings(plan, start_s=0.0):
  block, _ = motion.blocks(plan, np.array([start_s]), 2.56)
  t = np.arange(256, dtype=np.float32)[None] / 100
  return np.asarray(motion.imu_blocks(t, block))[0]


# ---------------------------------------------------------------- physics


def test_at_rest_the_sensor_reads_gravity_and_no_rotation():
  read = readings(still_motion())
  np.testing.assert_allclose(read[:, :3], [[0, 0, 9.81]] * 256, atol=1e-6)
  np.testing.assert_array_equal(read[:, 3:], 0)


@pytest.mark.parametrize(
  ("dof", "tilt_deg", "expected"),
  [
    ("pitch", 30.0, (0, 9.81 * 0.5, 9.81 * np.cos(np.pi / 6))),
    ("roll", 30.0, (-9.81 * 0.5, 0, 9.81 * np.cos(np.pi / 6))),
    ("yaw", 30.0, (0, 0, 9.81)),
  ],
)
def test_a_tilted_head_still_reads_one_g(dof, tilt_deg, expected):
  # Looking down raises the back of the head, so up lies partly to the back;
  # leaning left raises its right side, so up lies partly to the right (-x).
  offset = np.zeros(6)
  offset[motion.DOFS.index(dof)] = np.radians(tilt_deg)
  read = readings(still_motion(offset=offset))
  np.testing.assert_allclose(read[0, :3], expected, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(read[:, :3], axis=1), 9.81, 1e-6)


def test_turning_left_is_positive_about_up():
  read = readings(still_motion(turn=0.3))
  np.testing.assert_allclose(read[:, 3:], [[0, 0, 0.3]] * 256, atol=1e-6)


def test_a_steady_arc_pulls_towards_its_centre():
  # Speed v, turn rate w to the left: v w to the left, which is +x.
  read = readings(still_motion(turn=0.5, speed=2.0), start_s=1.7)
  np.testing.assert_allclose(read[:, :3], [[1.0, 0, 9.81]] * 256, atol=1e-4)


def test_integrating_the_gyro_gives_back_the_rotation(ideal, ideal_imu):
  for start, end in ((0.0, 30.0), (200.0, 230.0), (610.0, 640.0)):
    inside = (ideal_imu.gyro_t_s >= start) & (ideal_imu.gyro_t_s < end)
    times, rate = ideal_imu.gyro_t_s[inside], ideal_imu.gyro[inside]
    _, truth = ideal.pose(times[[0, -1]])
    steps = Rotation.from_rotvec(
      0.5 * (rate[1:] + rate[:-1]) * np.diff(times)[:, None]
    )
    turned = Rotation.from_matrix(truth[0])
    for step in steps:
      turned = turned * step
    error = (turned.inv() * Rotation.from_matrix(truth[1])).magnitude()
    assert np.degrees(error) < 0.15


def test_integrating_the_force_twice_gives_back_the_path(ideal, ideal_imu):
  # 30 s at a time, changes of bouts included, from the true start and speed.
  for start, end in ((0.0, 30.0), (200.0, 230.0), (610.0, 640.0)):
    inside = (ideal_imu.accel_t_s >= start) & (ideal_imu.accel_t_s < end)
    times, force = ideal_imu.accel_t_s[inside], ideal_imu.accel[inside]
    place, turn = ideal.pose(times)
    acceleration = np.einsum("nij,nj->ni", turn, force) - [0, 0, 9.81]
    step = times[1] - times[0]
    speed = cumulative_simpson(acceleration, dx=step, axis=0, initial=0)
    path = cumulative_simpson(speed, dx=step, axis=0, initial=0)
    gap = place - path
    steady = np.stack([np.ones(len(times)), times - times[0]], axis=1)
    left = gap - steady @ np.linalg.lstsq(steady, gap, rcond=None)[0]
    assert np.abs(left).max() < 2e-3
    assert np.ptp(place, axis=0).max() > 0.05


def test_readings_do_not_jump_where_bouts_change():
  # 0.1 ms apart at either end of each blend; a blend with a broken second
  # derivative jumps by metres a second squared there.
  _, plan = bouts.plan(0, 3, 0, 900.0)
  changes, lasts = plan["start_s"][1:33], plan["change_s"][1:33]
  edges = np.concatenate([changes - 0.5 * lasts, changes + 0.5 * lasts])
  starts = edges - 0.0128
  block, _ = motion.blocks(plan, starts, 0.0256)
  t = np.tile(np.arange(256, dtype=np.float32) * 1e-4, (64, 1))
  read = np.asarray(motion.imu_blocks(t, block))
  step = np.abs(np.diff(read, axis=1)).max()
  assert 1e-4 < step < 0.1


def test_real_motion_stays_within_the_sensor(ideal_imu):
  force = np.linalg.norm(ideal_imu.accel, axis=1)
  assert force.max() < 6 * 9.81
  assert 9.5 < np.median(force) < 10.2
  assert np.degrees(np.abs(ideal_imu.gyro)).max() < 700


# ---------------------------------------------------------------- the table


def test_the_named_activities_exist():
  assert set(CLASSYGLASS) | set(PAPER) <= set(synthetic.ACTIVITIES)
  assert len(synthetic.ACTIVITIES) >= 26
  assert len(set(synthetic.ACTIVITIES)) == len(synthetic.ACTIVITIES)
  assert len(synthetic.HELD_OUT) == 2
  assert set(synthetic.HELD_OUT) < set(synthetic.ACTIVITIES)
  assert not set(synthetic.HELD_OUT) & (set(CLASSYGLASS) | set(PAPER))


def test_activities_share_scenes():
  scene_of = {
    label: activity.scenes for label, activity in activities.ACTIVITIES.items()
  }
  for scene in ("desk", "room", "kitchen", "street"):
    assert sum(scene in places for places in scene_of.values()) >= 3


def test_every_activity_occurs_with_bouts_of_the_stated_length(ideal):
  assert {bout.label for bout in ideal.bouts} == set(synthetic.ACTIVITIES)
  lengths = [end - start for start, end, _ in ideal.labels[:-1]]
  assert min(lengths) >= 5
  assert max(lengths) <= 120
  assert ideal.labels[0][0] == 0.0
  assert ideal.labels[-1][1] == 900.0
  for (_, end, label), (start, _, following) in itertools.pairwise(
    ideal.labels
  ):
    assert end == start
    assert label != following


def test_standing_up_once_differs_from_again_and_again(ideal):
  def rises(label):
    counts = []
    for bout in ideal.bouts:
      if bout.label == label and bout.end_s - bout.start_s > 7:
        times = np.arange(bout.start_s + 1, bout.end_s - 1, 0.05)
        height = ideal.pose(times)[0][:, 2]
        high = height > 0.5 * (height.min() + height.max())
        counts.append((np.diff(high.astype(int)) == 1).sum())
    return counts

  assert set(rises("stands up")) == {1}
  assert set(rises("sits down")) == {0}
  assert max(rises("standing up from sitting")) >= 2


def snapshot(plan, look, time_s):
  """The picture at one time; of the shape that the world compiles anyway."""
  block, _ = motion.blocks(plan, np.full(64, time_s), render.SHUTTER_S)
  block["speed"] = np.full(64, plan["speed"][0], np.float32)
  travel = np.full(64, plan["speed"][0] * time_s % scenes.LOOP_M, np.float32)
  scene = {name: np.stack([value] * 64) for name, value in look.items()}
  return np.asarray(render.frames(scene, block, travel, size=32))[0]


def bout_row(label, length_s=20.0, **attributes):
  """Motion and picture of one bout of a given kind, same draws each time."""
  chosen = {"tempo": "normal", "side": "left", "gaze": "ahead", "count": 2}
  bout = bouts.Bout(
    label=label,
    scene=activities.ACTIVITIES[label].scenes[0],
    start_s=0.0,
    end_s=length_s,
    index=0,
    **(chosen | attributes),
  )
  person = bouts.draw_wearer(0, 1)
  row = bouts.motion_row(np.random.default_rng(5), person, bout)
  return bout, {
    name: np.asarray(value)[None]
    for name, value in (row | {"place": np.zeros(3), "heading": 0.0}).items()
  }


@pytest.mark.parametrize(
  ("label", "attribute", "values"),
  [
    (label, attribute, values)
    for label in ("hammering", "walking", "typing on a computer", "rowing")
    for attribute, values in (
      ("tempo", ("slow", "fast")),
      ("side", ("left", "right")),
      ("gaze", ("down", "up")),
      ("count", (1, 4)),
    )
    if attribute in activities.ACTIVITIES[label].attributes
  ],
)
def test_attributes_change_motion_picture_and_words(label, attribute, values):
  moves, pictures, words = [], [], []
  for value in values:
    bout, row = bout_row(label, **{attribute: value})
    moves.append(readings(row, 4.0))
    look = scenes.look(0, 1, 0, bouts.draw_wearer(0, 1), bout)
    pictures.append(snapshot(row, look, 5.0))
    words.append(narration.captions(bout))
  assert np.abs(moves[0] - moves[1]).max() > 0.05
  changed = np.abs(pictures[0].astype(int) - pictures[1]).max(axis=-1) > 20
  assert changed.mean() > 0.005
  assert words[0] != words[1]


def test_the_other_side_is_the_mirrored_motion():
  left, right = (
    readings(bout_row("hammering", side=side)[1]) for side in ("left", "right")
  )
  mirror = np.array([-1, 1, 1, 1, -1, -1])
  np.testing.assert_allclose(left, mirror * right, atol=2e-5)


def test_looking_down_moves_gravity_to_the_back():
  means = [
    readings(bout_row("walking", gaze=gaze)[1])[:, 1].mean()
    for gaze in ("down", "ahead", "up")
  ]
  assert means[0] > means[1] + 1
  assert means[1] > means[2] + 1


def test_quick_work_has_a_quicker_rhythm():
  rates = [
    bout_row("running", tempo=tempo)[1]["rate"][0, 0] / (2 * np.pi)
    for tempo in ("slow", "normal", "fast")
  ]
  assert rates[0] < 0.8 * rates[1]
  assert rates[2] > 1.3 * rates[1]


# ---------------------------------------------------------------- the picture


def _shift(first, second):
  """Columns that the second picture's content moved to the right."""
  first, second = (f[4:24].astype(float).mean(axis=-1) for f in (first, second))
  width = first.shape[1]
  scores = {}
  for shift in range(-6, 7):
    a = first[:, max(0, -shift) : width - max(0, shift)]
    b = second[:, max(0, shift) : width - max(0, -shift)]
    scores[shift] = np.abs(a - b).mean()
  return min(scores, key=scores.get)


def test_turning_left_moves_the_picture_to_the_right():
  # Nothing in the room is near, so a turn shifts the picture as a whole.
  bout, _ = bout_row("standing still")
  look = scenes.look(0, 1, 0, bouts.draw_wearer(0, 1), bout)
  pictures = []
  for yaw in (-5.0, 0.0, 5.0):
    offset = np.array([0, 0, 1.6, np.radians(yaw), 0, 0])
    pictures.append(snapshot(still_motion(offset=offset), look, 1.0))
  assert _shift(pictures[0], pictures[1]) > 0
  assert _shift(pictures[1], pictures[2]) > 0
  assert _shift(pictures[2], pictures[0]) < 0


def test_gyro_and_picture_turn_together(ideal, ideal_imu):
  # Within a bout of head turns: a left turn (positive rate about up) moves
  # the content right between two frames.
  bout = next(b for b in ideal.bouts if b.label == "head movement")
  times = np.arange(np.ceil(bout.start_s + 1), bout.end_s - 1.2, 0.1)
  frames = ideal.frames(times)
  rate = np.interp(times + 0.05, ideal_imu.gyro_t_s, ideal_imu.gyro[:, 2])
  shifts = [_shift(a, b) for a, b in itertools.pairwise(frames)]
  assert np.corrcoef(rate[:-1], shifts)[0, 1] > 0.6


def test_looking_up_moves_the_picture_down():
  bout, _ = bout_row("standing still")
  look = scenes.look(0, 1, 0, bouts.draw_wearer(0, 1), bout)
  rows = []
  for pitch in (0.0, -8.0):
    offset = np.array([0, 0, 1.6, 0, np.radians(pitch), 0])
    picture = snapshot(still_motion(offset=offset), look, 1.0)
    rows.append(picture.astype(float).mean(axis=-1))
  down = {
    s: np.abs(rows[0][: 32 - s] - rows[1][s:]).mean() for s in range(0, 8)
  }
  assert min(down, key=down.get) in (2, 3, 4)


def test_frames_are_small_pictures_on_the_video_grid(ideal):
  frames = ideal.frames([3.0, 3.04, 100.0])
  assert frames.shape == (3, 32, 32, 3)
  assert frames.dtype == np.uint8
  np.testing.assert_array_equal(frames[0], frames[1])
  assert frames.std(axis=(1, 2, 3)).min() > 15


@pytest.mark.parametrize("label", synthetic.ACTIVITIES)
def test_every_scene_of_every_activity_fits(label):
  person = bouts.draw_wearer(0, 1)
  for scene in activities.ACTIVITIES[label].scenes:
    for side, count in (("left", 1), ("right", 4)):
      bout = bouts.Bout(
        label=label,
        scene=scene,
        start_s=0.0,
        end_s=9.0,
        tempo="fast",
        side=side,
        gaze="down",
        count=count,
        index=0,
      )
      look = scenes.look(0, 1, 0, person, bout)
      assert all(np.isfinite(value).all() for value in look.values())


# ------------------------------------------------ determinism and streaming


@settings(max_examples=12, deadline=None)
@example(407.0, 0.25, Faults(jitter_s=0.002, gaps_per_minute=20))
@given(
  st.floats(0.0, 890.0),
  st.floats(0.05, 9.0),
  st.sampled_from([Faults(), Faults(jitter_s=0.002, gaps_per_minute=20)]),
)
def test_a_part_equals_the_same_part_of_the_whole(start_s, length_s, faults):
  world = Simulation(wearer=7, duration_s=900, faults=faults)
  whole = _whole(faults)
  part = world.imu(start_s, start_s + length_s)
  if not len(part.accel):  # all of it lies in a gap
    inner_s = start_s + 0.01, start_s + length_s - 0.01
    assert np.diff(np.searchsorted(whole.accel_t_s, inner_s)) == 0
    return
  first = np.flatnonzero(whole.accel_t_s == part.accel_t_s[0])
  assert len(first) == 1
  inside = slice(first[0], first[0] + len(part.accel))
  np.testing.assert_array_equal(whole.accel_t_s[inside], part.accel_t_s)
  np.testing.assert_array_equal(whole.accel[inside], part.accel)
  np.testing.assert_array_equal(whole.gyro[inside], part.gyro)


_WHOLES = {}


def _whole(faults):
  if faults not in _WHOLES:
    _WHOLES[faults] = Simulation(wearer=7, duration_s=900, faults=faults).imu()
  return _WHOLES[faults]


def test_parts_join_without_a_seam():
  world = Simulation(wearer=7, duration_s=900)
  edges = np.array([0.0, 100.0, 163.84, 164.0, 500.0, 900.0])
  parts = [world.imu(a, b) for a, b in itertools.pairwise(edges)]
  joined = np.concatenate([part.accel for part in parts])
  np.testing.assert_array_equal(joined, world.imu().accel)


def test_what_is_drawn_does_not_depend_on_what_came_before():
  first = Simulation(wearer=2, recording=1, duration_s=60)
  frames_first = first.frames([10.0, 30.0])
  imu_after = first.imu()
  second = Simulation(wearer=2, recording=1, duration_s=60)
  Simulation(wearer=9, duration_s=60).imu()
  imu_first = second.imu()
  np.testing.assert_array_equal(imu_after.accel, imu_first.accel)
  np.testing.assert_array_equal(second.frames([30.0])[0], frames_first[1])
  assert first.texts == second.texts
  assert first.labels == second.labels


@pytest.mark.parametrize("change", ["seed", "wearer", "recording"])
def test_another_key_gives_another_recording(change):
  base = {"seed": 0, "wearer": 0, "recording": 0, "duration_s": 20.0}
  a, b = Simulation(**base), Simulation(**(base | {change: 1}))
  assert a.recording_id != b.recording_id
  assert a.labels != b.labels
  assert a.imu().accel[:100].tolist() != b.imu().accel[:100].tolist()


def test_a_longer_recording_begins_alike():
  short = Simulation(wearer=4, duration_s=60.0)
  long = Simulation(wearer=4, duration_s=3600.0)
  np.testing.assert_array_equal(short.imu().gyro, long.imu(0, 60.0).gyro)


def test_the_true_rate_is_near_the_nominal_one_but_not_it():
  rates = [Simulation(wearer=w, duration_s=20).rate_hz for w in range(8)]
  assert all(99.2 <= rate <= 100.8 for rate in rates)
  assert len({round(rate, 3) for rate in rates}) == 8
  imu = Simulation(wearer=0, duration_s=60).imu()
  measured = 1 / np.diff(imu.accel_t_s).mean()
  assert measured == pytest.approx(rates[0], rel=1e-6)


@pytest.mark.parametrize("rate_hz", [50.0, 400.0])
def test_other_rates_sample_the_same_motion(rate_hz, ideal, ideal_imu):
  other = Simulation(wearer=3, duration_s=900, rate_hz=rate_hz, ideal=True).imu(
    20.0, 30.0
  )
  assert len(other.accel) == pytest.approx(10 * rate_hz, rel=0.01)
  at = np.interp(other.gyro_t_s, ideal_imu.gyro_t_s, ideal_imu.gyro[:, 1])
  np.testing.assert_allclose(at, other.gyro[:, 1], atol=0.02)


# ------------------------------------------------------------------- sensor


def test_the_sensor_is_not_ideal_but_close():
  real = Simulation(wearer=3, duration_s=120).imu()
  pure = Simulation(wearer=3, duration_s=120, ideal=True).imu()
  error = real.accel - pure.accel
  assert 0.01 < error.std(axis=0).max() < 3
  norms = np.linalg.norm(real.accel, axis=1), np.linalg.norm(pure.accel, axis=1)
  assert abs(norms[0].mean() - norms[1].mean()) < 0.5


def test_readings_clip_at_the_range():
  wild = np.full((4, 6), 1e4, np.float32)
  read = sensor.IDEAL.read(wild, np.zeros(4), 0)
  np.testing.assert_allclose(read[:, :3], sensor.ACCEL_RANGE)
  np.testing.assert_allclose(read[:, 3:], sensor.GYRO_RANGE, rtol=1e-6)


def test_the_mount_turns_the_readings():
  person = bouts.draw_wearer(0, 5)
  np.testing.assert_allclose(
    person.mount @ person.mount.T, np.eye(3), atol=1e-9
  )
  assert 0.1 < np.degrees(Rotation.from_matrix(person.mount).magnitude()) < 20


# ------------------------------------------------------------------- faults


def test_clock_offset_and_drift_move_the_stamps_only():
  clean = Simulation(wearer=1, duration_s=60).imu()
  faults = Faults(clock_offset_s=0.8, clock_drift=1e-3)
  world = Simulation(wearer=1, duration_s=60, faults=faults)
  late = world.imu()
  np.testing.assert_array_equal(clean.accel, late.accel)
  np.testing.assert_allclose(
    late.accel_t_s, clean.accel_t_s * 1.001 + 0.8, atol=1e-9
  )
  truth = world.truth()
  assert (truth.clock_offset_s, truth.clock_drift) == (0.8, 1e-3)


def test_jitter_moves_each_stamp_by_its_deviation():
  clean = Simulation(wearer=1, duration_s=60).imu()
  late = Simulation(
    wearer=1, duration_s=60, faults=Faults(jitter_s=0.003)
  ).imu()
  moved = late.accel_t_s - clean.accel_t_s
  assert moved.std() == pytest.approx(0.003, rel=0.1)
  np.testing.assert_array_equal(clean.accel, late.accel)


def test_gaps_lose_just_the_samples_that_truth_names():
  world = Simulation(
    wearer=1, duration_s=300, faults=Faults(gaps_per_minute=6, gap_s=0.7)
  )
  clean = Simulation(wearer=1, duration_s=300).imu()
  gaps, imu = world.truth().gaps, world.imu()
  assert 10 < len(gaps) < 60
  inside = np.zeros(len(clean.accel_t_s), bool)
  for start, end in gaps:
    inside |= (clean.accel_t_s >= start) & (clean.accel_t_s < end)
  np.testing.assert_array_equal(imu.accel_t_s, clean.accel_t_s[~inside])
  np.testing.assert_array_equal(imu.accel, clean.accel[~inside])


def test_nans_stand_just_where_truth_says():
  world = Simulation(
    wearer=1, duration_s=300, faults=Faults(nan_per_minute=4, nan_s=0.3)
  )
  imu, nans = world.imu(), world.truth().nans
  inside = np.zeros(len(imu.accel_t_s), bool)
  for start, end in nans:
    inside |= (imu.accel_t_s >= start) & (imu.accel_t_s < end)
  assert inside.any()
  np.testing.assert_array_equal(np.isnan(imu.accel).all(axis=1), inside)
  assert np.isfinite(imu.gyro).all()


def test_duplicated_stamps_are_those_of_the_truth():
  world = Simulation(
    wearer=1, duration_s=300, faults=Faults(duplicates_per_minute=20)
  )
  clean = Simulation(wearer=1, duration_s=300).imu()
  imu, repeated = world.imu(), world.truth().duplicates_s
  found = clean.accel_t_s[np.flatnonzero(np.diff(imu.accel_t_s) == 0) + 1]
  assert 50 < len(found) < 150
  np.testing.assert_allclose(found, repeated, atol=1e-6)


def test_truth_of_a_part_is_the_part_of_the_truth():
  faults = Faults(gaps_per_minute=5, duplicates_per_minute=9)
  world = Simulation(wearer=1, duration_s=300, faults=faults)
  whole, part = world.truth(), world.truth(100.0, 200.0)
  assert [g for g in whole.gaps if g[1] > 100 and g[0] < 200] == part.gaps
  inside = (whole.duplicates_s >= 100) & (whole.duplicates_s < 200)
  assert inside.any()
  np.testing.assert_array_equal(whole.duplicates_s[inside], part.duplicates_s)


@pytest.mark.parametrize(
  "wrong", [{"jitter_s": -1}, {"gap_s": 90.0}, {"clock_drift": -1.5}]
)
def test_impossible_faults_are_named(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    Faults(**wrong)


# ------------------------------------------------------------ words, splits


@pytest.fixture(scope="module")
def said():
  """Every text of some wearers of each split."""
  texts = {}
  for split, first in (("train", 0), ("test", 20_000)):
    texts[split] = [
      (world, text)
      for wearer in range(first, first + 4)
      for world in [Simulation(wearer=wearer, duration_s=1500)]
      for text in world.texts
    ]
  return texts


def test_narrations_come_every_few_seconds_in_order(said):
  world = said["train"][0][0]
  times = np.array([start for start, _, _ in world.texts])
  assert (np.diff(times) >= 0).all()
  assert 1.5 < world.duration_s / len(times) < 4
  assert all(start == end for start, end, _ in world.texts)
  assert times[-1] <= world.duration_s


def test_narrations_are_in_the_manner_of_ego4d_with_human_flaws(said):
  texts = [text for _, (_, _, text) in said["train"]]
  assert np.mean([t.lower().startswith("#c c ") for t in texts]) > 0.9
  assert any("#unsure" in text for text in texts)
  assert any(text.startswith("#O ") for text in texts)
  assert any(text != text.strip() for text in texts)
  assert any(text.isupper() for text in texts)
  assert len(set(texts)) < len(texts)
  assert not any("{" in text or "  " in text.strip() for text in texts)


def _plain(text):
  text = text.lower().replace("#unsure", "").removeprefix("#c c")
  return text.strip(" .")


def _sayings(test_only):
  found = set()
  for label, activity in activities.ACTIVITIES.items():
    for tempo in activities.TEMPOS:
      for side in activities.SIDES:
        for gaze in activities.GAZES:
          for count in activities.COUNTS:
            bout = bouts.Bout(
              label, activity.scenes[0], 0, 9, tempo, side, gaze, count, 0
            )
            for template in narration.templates(label, test_only=test_only):
              for how in narration.HOW[tempo]:
                found.add(narration.sentence(template, bout, how).lower())
  return found


def test_some_paraphrases_are_for_the_test_split_alone(said):
  only, shared = _sayings(True), _sayings(False)
  assert not only & shared
  for _, (_, _, text) in said["train"]:
    assert _plain(text) not in only
  share = np.mean([_plain(text) in only for _, (_, _, text) in said["test"]])
  assert 0.15 < share < 0.45


def test_narrations_name_the_truth(said):
  for world, (time, _, text) in said["train"][:400]:
    if not text.lower().startswith("#c c"):
      continue
    bout = world.bout_at(time)
    attributes = bout.activity.attributes
    words = text.lower().split()
    other = {"left": "right", "right": "left"}[bout.side]
    assert other not in words
    if "tempo" in attributes and bout.tempo == "slow":
      assert not {"quickly", "hurriedly"} & set(words)


def test_captions_begin_with_the_label_and_leak_nothing():
  world = Simulation(wearer=20_001, duration_s=900)
  only = _sayings(True)
  for time in np.arange(1, 900, 13.0):
    lines = world.captions(time)
    assert lines[0] == world.bout_at(time).label
    assert len(lines) >= 4
    assert not any(_plain(line) in only for line in lines)


def test_every_attribute_is_named_somewhere():
  for label, activity in activities.ACTIVITIES.items():
    text = " ".join(narration.templates(label, test_only=False))
    slots = {
      "tempo": "{how}",
      "side": "{side}",
      "gaze": "{gaze}",
      "count": "{n}",
    }
    for name, slot in slots.items():
      if name in activity.attributes:
        assert slot in text, (label, name)
    assert narration.templates(label, test_only=True)


def test_find_splits_by_wearer_and_opens_lazily():
  options = {"duration_s": 30.0, "recordings_per_wearer": 2}
  entries = synthetic.find(
    train_wearers=3, validation_wearers=1, test_wearers=2, **options
  )
  wearers = {
    split: {e.wearer_id for e in entries if e.split == split}
    for split in ("train", "validation", "test")
  }
  assert [len(w) for w in wearers.values()] == [3, 1, 2]
  assert not wearers["train"] & wearers["test"]
  assert not wearers["validation"] & (wearers["train"] | wearers["test"])
  assert len({e.recording_id for e in entries}) == 12
  entry = pickle.loads(pickle.dumps(entries[-1]))
  recording = entry.open()
  assert isinstance(recording, Recording)
  assert recording.recording_id == entry.recording_id
  assert recording.wearer_id == entry.wearer_id
  assert recording.imu.frame == "head"
  assert recording.frames([5.0]).shape == (1, 32, 32, 3)
  with pytest.raises(ValueError, match="outside the video"):
    recording.frames([31.0])


def test_more_wearers_leave_the_others_as_they_were():
  few = synthetic.find(train_wearers=1, validation_wearers=1, test_wearers=1)
  many = synthetic.find(train_wearers=5, validation_wearers=2, test_wearers=1)
  assert {e.recording_id for e in few} <= {e.recording_id for e in many}


@pytest.mark.parametrize(
  "wrong",
  [
    {"duration_s": 3.0},
    {"rate_hz": 5.0},
    {"size": 0},
    {"wearer": -1},
    {"recording": -1},
  ],
)
def test_options_out_of_range_are_named(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    Simulation(**wrong)


def test_a_root_folder_is_refused():
  with pytest.raises(ValueError, match="no root folder"):
    synthetic.find("somewhere")
