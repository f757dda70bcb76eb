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


def test_texts_that_the_reader_left_out_are_counted_among_windows_of_texts():
  spans = [(10.0, 12.0, "walks"), (70.0, 70.0, "rests")]
  recording = make(texts=spans, dropped={"bad window": 3, "other": 0})
  for rule, want in (
    ("narration", {"bad window": 3, "no signal": 1}),
    ("segment", {"bad window": 3, "no signal": 1}),
    ("stride", {}),
  ):
    options = dataclasses.replace(OPTIONS, rule=rule)
    assert windows.cut_recording(recording, options).dropped == want


def test_a_video_that_shows_no_window_is_told():
  beside = windows.cut_recording(make(video=Grey(1e6, 1e6 + 60)), OPTIONS)
  (warning,) = beside.warnings
  assert "no window has a frame" in warning
  assert "at 0 to 60 s, the video at 1e+06" in warning
  part = windows.cut_recording(make(video=Grey(50, 90)), OPTIONS)
  assert not part.warnings
  assert sum(bool(r["frames"]) for r in part.records) == 5


def test_blacked_out_stretches_give_no_frame_and_keep_the_rest():
  black = [(0.5, 1.0), (4.9, 9.1)]
  texts = [(5.0, 5.0, "walks")]
  recording = make(video=Grey(0, 60), blacked_out=black, texts=texts)
  records = windows.cut_recording(recording, OPTIONS).records
  assert len(records) == 30
  dark = [r for r in records if not r["frames"]]
  # The middles at 1, 5, 7 and 9 s; both ends belong to a stretch.
  assert [round(r["start_s"]) for r in dark] == [0, 4, 6, 8]
  assert all(len(r["frame_times_s"]) == len(r["frames"]) for r in records)
  assert dark[1]["texts"] == ["walks"]
  assert dark[1]["sensor_mask"].all()
  nothing = dataclasses.replace(recording, blacked_out=[(0.0, 60.0)])
  (warning,) = windows.cut_recording(nothing, OPTIONS).warnings
  assert "no window has a frame" in warning
  assert "in part blacked out" in warning


def test_a_padded_window_has_the_frames_that_there_are():
  options = dataclasses.replace(OPTIONS, pad_short=True, num_frames=2)
  recording = make(length_s=0.8, video=Grey(0, 0.8))
  (record,) = windows.cut_recording(recording, options).records
  np.testing.assert_allclose(record["frame_times_s"], [0.2, 0.6], atol=0.02)


def test_a_padded_window_is_labelled_by_what_there_is():
  options = dataclasses.replace(OPTIONS, pad_short=True)
  recording = make(length_s=0.8, labels=[(0.0, 0.5, "sits down")])
  (record,) = windows.cut_recording(recording, options).records
  assert record["label"] == "sits down"
  # Of one sample there is nothing that a label could cover.
  recording = make(length_s=0.02, labels=[(100.0, 200.0, "far away")])
  (record,) = windows.cut_recording(recording, options).records
  assert record["label"] == ""


def test_short_segments_of_one_label_add_up():
  rows = [(t / 2, t / 2 + 0.5, "walking") for t in range(8)]
  # Of two annotators, who overlap and count once; then half a window of each.
  twice = [(4.0, 4.9, "resting"), (4.0, 4.8, "resting")]
  halves = [(6.0, 7.0, "b"), (7.0, 8.0, "a")]
  recording = make(labels=rows + twice + halves)
  cut = windows.cut_recording(recording, OPTIONS)
  labels = [record["label"] for record in cut.records[:5]]
  assert labels == ["walking", "walking", "", "b", ""]


@pytest.mark.parametrize("rule", ["narration", "segment"])
def test_texts_of_which_nothing_is_left_get_no_window(rule):
  said = [(10.0, 12.0, "#C C walks"), (20.0, 22.0, "#O a man sits")]
  options = dataclasses.replace(OPTIONS, rule=rule)
  cut = windows.cut_recording(make(texts=said), options)
  assert [r["texts"] for r in cut.records] == [["walks"]]
  assert cut.dropped == {"no text left": 1}


class Damaged(Grey):
  """Gives no frame of some seconds."""

  def frames(self, times_s):
    if np.any((times_s > 10) & (times_s < 14)):
      raise ValueError("v.mp4: cannot be read as video: corrupt")
    return super().frames(times_s)


def test_damaged_frames_cost_nothing_else():
  options = dataclasses.replace(OPTIONS, num_frames=2)
  cut = windows.cut_recording(make(video=Damaged(0, 60)), options)
  assert len(cut.records) == 30
  shown = [len(record["frames"]) for record in cut.records]
  assert shown == [2] * 5 + [0] * 2 + [2] * 23
  assert [len(r["frame_times_s"]) for r in cut.records] == shown
  (warning,) = cut.warnings
  assert warning.startswith("4 of 60 frames are damaged: v.mp4")
