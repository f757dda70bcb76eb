"""Offset and drift between IMU and video: arrays, real footage, the world."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from imu2clip_jax import alignment, check_sync, cli, image_motion
from imu2clip_jax.recordings import gopro, synthetic
from imu2clip_jax.recordings.recording import Imu, Recording

FPS = 25.0


def turning(rng, seconds, rate_hz=100.0):
  """Random head turning: smooth noise of a few hertz, in rad/s."""
  t_s = np.arange(-8, seconds + 8, 1 / rate_hz)
  noise = rng.normal(size=(len(t_s), 3))
  return t_s, 3 * ndimage.gaussian_filter1d(noise, 0.08 * rate_hz, axis=0)


def clips_of(rng, t_s, gyro, starts, clip_s=20.0, noise=0.1, parts=6):
  """Clips whose motion is a fixed linear image of the turning, plus noise."""
  mix = rng.normal(size=(3, parts)) * 20
  clips = []
  for start in starts:
    times = np.arange(np.ceil(start * FPS), np.floor((start + clip_s) * FPS))
    times /= FPS
    middle = (times[1:] + times[:-1]) / 2
    rates = np.stack([np.interp(middle, t_s, g) for g in gyro.T], -1)
    motion = rates @ mix / FPS
    motion += noise * motion.std() * rng.normal(size=motion.shape)
    clips.append(alignment.Clip(times, motion))
  return clips


@settings(max_examples=8, deadline=None)
@given(
  seed=st.integers(0, 10**6),
  offset_s=st.floats(-2, 2),
  drift=st.floats(-0.01, 0.01),
)
def test_injected_offset_and_drift_are_found(seed, offset_s, drift):
  rng = np.random.default_rng(seed)
  t_s, gyro = turning(rng, 120)
  clips = clips_of(rng, t_s, gyro, [0, 33, 66, 99], clip_s=12)
  stamps = t_s * (1 + drift) + offset_s
  found = alignment.estimate(clips, stamps, gyro, max_offset_s=3)
  assert found.offset_s == pytest.approx(offset_s, abs=0.01)
  assert found.drift == pytest.approx(drift, abs=2e-4)
  assert found.correlation > 0.98
  assert found.confidence > 0.5
  np.testing.assert_allclose(
    alignment.to_video_clock(stamps, found.offset_s, found.drift),
    t_s,
    atol=0.03,
  )


@pytest.mark.parametrize("axes", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_mounting_does_not_matter(axes, sign):
  rng = np.random.default_rng(1)
  t_s, gyro = turning(rng, 30)
  clips = clips_of(rng, t_s, gyro, [5])
  found = alignment.estimate(clips, t_s + 0.7, sign * gyro[:, axes])
  assert found.offset_s == pytest.approx(0.7, abs=0.01)


def test_a_short_recording_is_given_no_drift():
  rng = np.random.default_rng(2)
  t_s, gyro = turning(rng, 30)
  clips = clips_of(rng, t_s, gyro, [0, 10])
  found = alignment.estimate(clips, t_s * 1.002 - 0.3, gyro)
  assert found.drift == 0
  assert found.offset_s == pytest.approx(-0.3 + 0.002 * 15, abs=0.015)


def test_another_recordings_imu_gives_no_confidence():
  rng = np.random.default_rng(3)
  t_s, gyro = turning(rng, 60)
  _, other = turning(rng, 60)
  clips = clips_of(rng, t_s, gyro, [0, 20, 40])
  found = alignment.estimate(clips, t_s, other)
  assert found.confidence < 0.35
  assert found.correlation < 0.6


def test_motion_that_repeats_gives_no_confidence():
  t_s = np.arange(-8, 28, 0.01)
  gyro = np.sin(2 * np.pi * t_s)[:, None] * [1.0, 0.5, 0.2]
  clips = clips_of(np.random.default_rng(4), t_s, gyro, [0])
  assert alignment.estimate(clips, t_s, gyro).confidence < 0.1


def test_what_cannot_be_measured_is_said():
  rng = np.random.default_rng(5)
  t_s, gyro = turning(rng, 30)
  still = [alignment.Clip(np.arange(200) / FPS, np.zeros((199, 18)))]
  with pytest.raises(ValueError, match="the picture does not move"):
    alignment.estimate(still, t_s, gyro)
  short = clips_of(rng, t_s, gyro, [0], clip_s=0.5)
  with pytest.raises(ValueError, match="fewer than about 60 frames"):
    alignment.estimate(short, t_s, gyro)
  with pytest.raises(ValueError, match="no usable samples"):
    alignment.estimate(still, [], np.zeros((0, 3)))


def texture(rng, h=80, w=100):
  return 60 * ndimage.gaussian_filter(rng.normal(size=(h, w)), 1.5) * 3 + 100


@pytest.mark.parametrize("shift", [(0.3, -0.4), (1.7, 0.6), (-4.2, 6.5)])
def test_image_motion_measures_shifts_in_pixels(shift):
  picture = texture(np.random.default_rng(0))
  moved = ndimage.shift(picture, shift, order=3, mode="nearest")
  pair = np.stack([picture, moved])[:, 10:-10, 10:-10]
  motion = image_motion.measure(pair)[0]
  assert np.median(motion[:9]) == pytest.approx(shift[1], abs=0.1)
  assert np.median(motion[9:]) == pytest.approx(shift[0], abs=0.1)


def test_image_motion_of_a_flat_picture_is_zero():
  assert not image_motion.measure(np.full((3, 40, 50), 7.0)).any()


def test_shrink_averages_squares():
  frames = np.zeros((2, 400, 600, 3), np.uint8)
  frames[..., 1] = 80
  frames[:, :, 300:, 1] = 160
  grey = image_motion.shrink(frames)
  assert grey.shape == (2, 66, 100)
  assert grey[0, 0, 0] == 80
  assert grey[0, 0, -1] == 160
  assert image_motion.shrink(frames[:, :32, :32]).shape == (2, 32, 32)


def test_karma_is_in_step(samples):
  recording = gopro.open_gopro(samples / "gopro_karma" / "karma.mp4")
  found = alignment.measure(recording)
  assert abs(found.offset_s) <= 0.020
  assert found.correlation >= 0.98
  assert found.confidence > 0.5
  # An independent look at this footage gave -15 ms.
  assert found.offset_s == pytest.approx(-0.015, abs=0.01)


def test_yaw_moves_karmas_picture_sideways(samples):
  # Horizontal flow against gyro z: 0.995 at offset 0, 0.996 at -15 ms.
  recording = gopro.open_gopro(samples / "gopro_karma" / "karma.mp4")
  times_s = recording.video.times_s(0.0, 99.0)
  grey = np.concatenate(
    [
      image_motion.shrink(recording.frames(times_s[i : i + 32]))
      for i in range(0, len(times_s), 32)
    ]
  )
  sideways = image_motion.measure(grey)[:, :9].mean(axis=1)
  for offset_s in (0.0, -0.015):
    angle = alignment._Angle(recording.imu.gyro_t_s, recording.imu.gyro)
    yaw = angle.rates(times_s[None] + offset_s)[0, :, 2]
    assert np.corrcoef(sideways, yaw)[0, 1] > 0.99


def test_corrected_stamps_are_on_the_videos_clock():
  true_s = np.arange(50) / 10
  late = true_s * 1.01 + 0.8
  values = np.ones((50, 3))
  marks = [(float(late[10]), float(late[20]), "walks")]
  recording = Recording(
    "x", "", Imu(late, values, late, values, "device"), None, marks, marks
  )
  found = alignment.Alignment(0.8, 0.01, 1.0, 1.0, 1)
  fixed = alignment.correct(recording, found)
  np.testing.assert_allclose(fixed.imu.accel_t_s, true_s, atol=1e-12)
  np.testing.assert_allclose(fixed.imu.gyro_t_s, true_s, atol=1e-12)
  assert fixed.texts == fixed.labels == marks
  # Timed by the IMU, they go with it.
  recording = dataclasses.replace(recording, told_by_imu=True)
  fixed = alignment.correct(recording, found)
  for found in (fixed.texts, fixed.labels):
    ((start_s, end_s, text),) = found
    assert text == "walks"
    np.testing.assert_allclose([start_s, end_s], [1.0, 2.0], atol=1e-12)


def check_world(duration_s, size, video_rate_hz, offset_s, drift):
  recording = synthetic.open_synthetic(
    duration_s=duration_s,
    size=size,
    video_rate_hz=video_rate_hz,
    faults=synthetic.Faults(clock_offset_s=offset_s, clock_drift=drift),
  )
  found = alignment.measure(recording)
  assert found.offset_s == pytest.approx(offset_s, abs=0.020)
  assert found.drift == pytest.approx(drift, abs=5e-4)
  assert found.confidence > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("video", [(32, 10.0), (64, 30.0)])
@pytest.mark.parametrize("offset_s", [2.0, -2.0])
@pytest.mark.parametrize("drift", [0.01, -0.01])
def test_the_built_in_world(video, offset_s, drift):
  check_world(120.0, *video, offset_s, drift)


def test_the_verb(samples, capsys):
  path = str(samples / "gopro_karma" / "karma.mp4")
  assert cli.main(["check-sync", path, "--json"]) == 0
  result = json.loads(capsys.readouterr().out)
  assert result["recording"] == "karma"
  assert abs(result["offset_s"]) <= 0.020


def test_the_verb_names_what_is_wrong(samples, tmp_path, capsys):
  dump = str(samples / "gopro_karma" / "hero7.raw")
  assert cli.main(["check-sync", dump]) == 1
  assert "'hero7' has no video" in capsys.readouterr().err
  assert cli.main(["check-sync", str(tmp_path / "nowhere.mp4")]) == 1
  assert "nowhere.mp4" in capsys.readouterr().err
  assert cli.main(["check-sync", dump, "--clips", "0"]) == 1
  assert "--clips" in capsys.readouterr().err


def test_a_result_in_words():
  sure = alignment.Alignment(-0.5, 0.001, 0.9, 0.6, 3)
  assert "500 ms early (offset -0.500 s), drift +0.100 %" in (
    check_sync.describe("a", sure)
  )
  assert "not certain" not in check_sync.describe("a", sure)
  doubtful = alignment.Alignment(0.5, 0.0, 0.4, 0.05, 3)
  assert "not certain" in check_sync.describe("a", doubtful)


def test_a_recording_without_video_cannot_be_checked():
  empty = np.zeros(0), np.zeros((0, 3))
  recording = Recording("x", "", Imu(*empty, *empty, "device"))
  with pytest.raises(ValueError, match="'x' has no video"):
    alignment.measure(recording)


@pytest.mark.parametrize("smooth_s", [0.2, 1.0])
def test_slow_turning_that_has_nothing_to_do_with_a_clip_is_not_certain(
  smooth_s,
):
  for seed in range(3):
    rng = np.random.default_rng(seed)
    t_s = np.arange(-8, 88, 0.01)
    noise = rng.normal(size=(2, len(t_s), 3))
    gyro = ndimage.gaussian_filter1d(noise, smooth_s * 100, axis=1)
    gyro /= 2 * gyro.std()
    clips = clips_of(rng, t_s, gyro[0], [0, 20, 40, 60])
    assert not alignment.estimate(clips[:1], t_s, gyro[1]).certain
    assert not alignment.estimate(clips, t_s, gyro[1]).certain
    assert alignment.estimate(clips, t_s, gyro[0]).certain


def test_an_imu_that_never_runs_with_the_video_is_said():
  rng = np.random.default_rng(7)
  t_s, gyro = turning(rng, 30)
  clips = clips_of(rng, t_s, gyro, [0])
  for stamps, rates in ((t_s + 1e6, gyro), (t_s, 0 * gyro)):
    with pytest.raises(ValueError, match="does not turn in the video"):
      alignment.estimate(clips, stamps, rates)


def test_an_answer_at_the_end_of_the_search_is_not_certain():
  rng = np.random.default_rng(8)
  t_s, gyro = turning(rng, 30)
  clips = clips_of(rng, t_s, gyro, [0])
  found = alignment.estimate(clips, t_s + 1.01, gyro, max_offset_s=1.0)
  assert abs(found.offset_s) <= 1.0
  assert not found.certain
