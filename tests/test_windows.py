"""What a recording's windows are when its streams do not cover each other."""

import dataclasses

import numpy as np
import pytest

from imu2clip_jax.data import windows
from imu2clip_jax.recordings.recording import Imu, Recording

OPTIONS = windows.Options(window_s=2.0, stride_s=2.0, rate_hz=20.0)


class Grey:
  """A grey video of some span."""

  def __init__(self, start_s, end_s):
    self.start_s, self.end_s = start_s, end_s

  def frames(self, times_s):
    return np.full((len(times_s), 4, 4, 3), 128, np.uint8)


def make(length_s=60.0, gyro_s=(0.0, 60.0), **changes):
  t = np.arange(int(length_s * 50)) / 50
  own = (gyro_s[0] <= t) & (t < gyro_s[1])
  accel = np.c_[np.sin(t), np.cos(t), np.full(len(t), 9.8)]
  sensors = Imu(t, accel, t[own], accel[own] / 10, "head")
  return dataclasses.replace(Recording("r", "w", sensors), **changes)


@pytest.mark.parametrize("gyro_s", [(0, 11), (49, 60), (0, 1.5), (20, 30)])
def test_windows_of_one_sensor_are_kept_and_masked(gyro_s):
  cut = windows.cut_recording(make(gyro_s=gyro_s), OPTIONS)
  assert len(cut.records) + cut.dropped["low coverage"] == 30
  assert cut.dropped["low coverage"] <= 2
  for record in cut.records:
    inside = gyro_s[0] <= record["start_s"] + 1 < gyro_s[1]
    assert record["sensor_mask"].tolist() == [True, inside]


@pytest.mark.parametrize("rule", ["narration", "segment"])
def test_texts_and_segments_beside_the_signal_are_counted(rule):
  spans = [(-9.0, -5.0, "waits"), (10.0, 12.0, "walks"), (70.0, 70.0, "rests")]
  recording = make(texts=spans, labels=spans)
  options = dataclasses.replace(OPTIONS, rule=rule)
  cut = windows.cut_recording(recording, options)
  assert [r["texts"] for r in cut.records] == [["walks"]]
  assert cut.dropped == {"no signal": 2}
  none = windows.cut_recording(make(texts=spans[:1]), options)
  assert not none.records
  assert none.dropped == {"no signal": 1}


def test_a_video_that_shows_no_window_is_told():
  beside = windows.cut_recording(make(video=Grey(1e6, 1e6 + 60)), OPTIONS)
  (warning,) = beside.warnings
  assert "no window has a frame" in warning
  assert "at 0 to 60 s, the video at 1e+06" in warning
  part = windows.cut_recording(make(video=Grey(50, 90)), OPTIONS)
  assert not part.warnings
  assert sum(bool(r["frames"]) for r in part.records) == 5


def test_a_padded_window_has_the_frames_that_there_are():
  options = dataclasses.replace(OPTIONS, pad_short=True, num_frames=2)
  recording = make(length_s=0.8, video=Grey(0, 0.8))
  (record,) = windows.cut_recording(recording, options).records
  np.testing.assert_allclose(record["frame_times_s"], [0.2, 0.6], atol=0.02)
