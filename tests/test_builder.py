"""From entries to a data set on disk and back, with everything that breaks."""

import dataclasses
import functools
import io
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from imu2clip_jax import build as build_verb
from imu2clip_jax import schema
from imu2clip_jax.data import builder, locks, parts, texts, windows
from imu2clip_jax.recordings import synthetic
from imu2clip_jax.recordings.recording import Entry, Imu, Recording

# Spawned workers import this file by its name under the repository's root,
# which `pytest` (unlike `python -m pytest`) leaves off the path.
sys.path.append(str(pathlib.Path(__file__).parents[1]))

OPTIONS = windows.Options(
  window_s=2.0, stride_s=2.0, rate_hz=20.0, frame_size=8
)


class Clip:
  """A video whose every pixel is the time in tenths of a second."""

  def __init__(self, end_s, size=(8, 12)):
    self.start_s, self.end_s, self.size = 0.0, end_s, size

  def times_s(self, start_s, end_s):
    times = np.arange(self.start_s, self.end_s, 0.1)
    return times[(times >= start_s) & (times <= end_s)]

  def frames(self, times_s):
    shades = np.round(np.asarray(times_s) * 10).astype(np.uint8)
    return np.broadcast_to(
      shades[:, None, None, None], (len(shades), *self.size, 3)
    )


def make(name="r0", wearer="w0", length_s=11.0, **changes):
  t = np.arange(int(length_s * 50)) / 50
  accel = np.c_[np.sin(t), np.cos(t), np.full(len(t), 9.8)]
  gyro = np.c_[t, -t, np.ones(len(t))]
  recording = Recording(
    name,
    wearer,
    Imu(t, accel, t, gyro, "head"),
    Clip(length_s),
    [
      (3.0, 3.0, "#C C walks."),
      (2.2, 2.2, "#C C waves"),
      (3.1, 3.1, "#c walks"),
    ],
    [(0.0, 4.5, "walking"), (4.5, 11.0, "resting")],
  )
  return dataclasses.replace(recording, **changes)


def broken(name):
  raise OSError(f"{name} fell off the disk")


def entry(name, wearer, split, open_=None):
  return Entry(
    name, wearer, split, open_ or functools.partial(make, name, wearer)
  )


def entries():
  return [
    entry("r0", "w0", "train"),
    entry("r1", "w0", "train"),
    entry("r2", "w1", "validation"),
    entry("r3", "w2", "test"),
  ]


def build(folder, found=None, options=OPTIONS, **keywords):
  return builder.build(
    "toy_imu", found or entries(), folder, options, **keywords
  )


def rows(folder, split="train"):
  source = builder.open_windows(folder, split)
  return {r["window_id"]: r for r in (source[i] for i in range(len(source)))}


def equal(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# One recording


def test_windows_hold_the_parallel_data_of_their_time():
  cut = windows.cut_recording(make(), OPTIONS)
  assert [r["window_id"] for r in cut.records] == [
    f"r0@{1000 * s}" for s in (0, 2, 4, 6, 8)
  ]
  window = cut.records[1]
  t = 2 + np.arange(40) / 20
  np.testing.assert_allclose(window["imu"][:, 3], t, atol=0.01)
  np.testing.assert_allclose(window["imu"][:, 0], np.sin(t), atol=0.01)
  pixels = np.asarray(Image.open(io.BytesIO(window["frames"][0])))
  assert pixels.shape == (8, 12, 3)
  assert (pixels == 30).all()
  assert window["frame_times_s"] == [3.0]
  assert window["texts"] == ["walks", "waves"]
  assert [r["label"] for r in cut.records] == [
    "walking", "walking", "resting", "resting", "resting"
  ]  # fmt: skip
  for record in cut.records:
    schema.validate(record, 40)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"imu": np.zeros((40, 6))}, "imu must be float32 .*, got float64"),
    ({"imu": np.zeros((40, 3), np.float32)}, r"got float32 \[40, 3\]"),
    ({"imu": np.zeros((39, 6), np.float32)}, "imu has 39 samples, .* has 40"),
    ({"imu": np.full((40, 6), np.nan, np.float32)}, "imu holds NaN"),
    ({"start_s": np.float64(np.inf)}, "start_s holds NaN or infinity"),
    ({"start_s": np.float64(9e9)}, "ends at 4.0 s, starts at 9"),
    ({"sensor_mask": np.zeros(2, bool)}, "no sensor was measured"),
    ({"texts": ["walks", 3]}, "texts must be str"),
    ({"frame_times_s": np.zeros(2)}, "1 frames but 2 frame times"),
    ({"mood": "good"}, r"unknown fields \['mood'\]"),
  ],
)
def test_a_damaged_window_is_named_with_its_fault(change, message):
  record = windows.cut_recording(make(), OPTIONS).records[1]
  schema.validate(record, 40)
  with pytest.raises(ValueError, match=f"window 'r0@2000': .*{message}"):
    schema.validate(record | change, 40)


def test_a_label_needs_half_of_the_window():
  segments = [(0.0, 0.9, "short"), (2.0, 3.0, "half"), (4.0, 4.7, "a")]
  cut = windows.cut_recording(make(labels=segments), OPTIONS)
  assert [r["label"] for r in cut.records[:3]] == ["", "half", ""]


def test_frames_are_spread_scaled_and_limited_to_the_video():
  options = dataclasses.replace(OPTIONS, num_frames=4, frame_format="jpeg")
  cut = windows.cut_recording(make(video=Clip(3.0, (80, 40))), options)
  np.testing.assert_allclose(
    cut.records[0]["frame_times_s"], [0.25, 0.75, 1.25, 1.75]
  )
  image = Image.open(io.BytesIO(cut.records[0]["frames"][2]))
  assert (image.format, image.size) == ("JPEG", (8, 16))
  assert [len(r["frames"]) for r in cut.records] == [4, 2, 0, 0, 0]


def test_windows_without_video_and_texts_are_kept():
  cut = windows.cut_recording(make(video=None, texts=[], labels=[]), OPTIONS)
  assert len(cut.records) == 5
  assert not any(r["frames"] or r["texts"] or r["label"] for r in cut.records)


@pytest.mark.parametrize("lost", ["accel", "gyro"])
def test_missing_sensor_is_masked(lost):
  sensors = make().imu
  nothing = {f"{lost}_t_s": np.zeros(0), lost: np.zeros((0, 3))}
  cut = windows.cut_recording(
    make(imu=dataclasses.replace(sensors, **nothing)), OPTIONS
  )
  assert len(cut.records) == 5
  place = ["accel", "gyro"].index(lost)
  for record in cut.records:
    assert record["sensor_mask"].tolist() == [place != 0, place != 1]
    assert (record["imu"][:, 3 * place : 3 * place + 3] == 0).all()
    assert record["coverage"] == 1


def test_thin_windows_are_refused_and_counted_never_zero_filled():
  sensors = make().imu
  keep = (sensors.accel_t_s < 4.5) | (sensors.accel_t_s > 5.5)
  gap = dataclasses.replace(
    sensors, accel_t_s=sensors.accel_t_s[keep], accel=sensors.accel[keep]
  )
  cut = windows.cut_recording(make(imu=gap), OPTIONS)
  assert [r["start_s"] for r in cut.records] == [0, 2, 6, 8]
  assert cut.dropped == {"low coverage": 1}
  half = dataclasses.replace(OPTIONS, min_coverage=0.4)
  window = windows.cut_recording(make(imu=gap), half).records[2]
  assert window["coverage"] == pytest.approx(0.5, abs=0.06)
  assert (window["imu"][:, 2] > 9).all()


def test_narration_rule_centres_clamps_and_drops_repeats():
  narrated = make(texts=[(t, t, f"text {t}") for t in (0.2, 5.0, 10.9, 5.0)])
  options = dataclasses.replace(OPTIONS, rule="narration")
  cut = windows.cut_recording(narrated, options)
  assert [r["start_s"] for r in cut.records] == [0, 4, 9]
  assert cut.dropped == {"same window": 1}
  assert [r["texts"] for r in cut.records] == [
    ["text 0.2"], ["text 5.0"], ["text 10.9"]
  ]  # fmt: skip


def test_segment_rule_labels_by_the_segment():
  short = make(labels=[(0.5, 5.0, "long"), (7.0, 7.6, "short")])
  options = dataclasses.replace(OPTIONS, rule="segment")
  cut = windows.cut_recording(short, options)
  got = [(r["start_s"], r["label"]) for r in cut.records]
  assert got == [(0.5, "long"), (2.5, "long"), (pytest.approx(6.3), "short")]


def test_too_short_recording_says_so():
  cut = windows.cut_recording(make(length_s=1.5), OPTIONS)
  assert cut.records == []
  assert cut.dropped == {"no window fits": 1}


def test_short_recording_is_padded_where_asked():
  options = dataclasses.replace(OPTIONS, pad_short=True)
  (window,) = windows.cut_recording(make(length_s=0.5), options).records
  assert window["coverage"] == pytest.approx(0.25, abs=0.03)
  assert (window["imu"][10:, 2] > 9.7).all()
  assert len(windows.cut_recording(make(), options).records) == 5


def test_nothing_to_cut_says_so():
  options = dataclasses.replace(OPTIONS, rule="narration")
  cut = windows.cut_recording(make(texts=[]), options)
  assert cut.dropped == {"nothing to cut": 1}


def test_axes_become_the_head_frame_and_gravity_goes_up():
  sensors = make().imu
  aria = dataclasses.replace(
    sensors, accel=sensors.accel[:, [0, 2, 1]] * [1, 1, -1], frame="aria_cpf"
  )
  head = windows.cut_recording(make(), OPTIONS).records[0]
  turned = windows.cut_recording(make(imu=aria), OPTIONS).records[0]
  np.testing.assert_allclose(
    turned["imu"][:, :3], head["imu"][:, :3], atol=1e-4
  )
  hung = dataclasses.replace(sensors, accel=-sensors.accel, frame="device")
  for gravity in ("recording", "window"):
    options = dataclasses.replace(OPTIONS, gravity=gravity)
    upright = windows.cut_recording(make(imu=hung), options).records[0]
    assert upright["imu"][:, 2].mean() == pytest.approx(9.8, abs=0.2)


def test_wrong_units_are_noticed():
  sensors = make().imu
  in_g = dataclasses.replace(sensors, accel=sensors.accel / 9.8)
  with pytest.raises(ValueError, match="looks like g"):
    windows.cut_recording(make(imu=in_g), OPTIONS)
  no_gravity = dataclasses.replace(sensors, accel=sensors.accel * 0.2)
  assert (
    "gravity"
    in windows.cut_recording(make(imu=no_gravity), OPTIONS).warnings[0]
  )
  degrees = dataclasses.replace(sensors, gyro=sensors.gyro * 57)
  assert (
    "deg/s" in windows.cut_recording(make(imu=degrees), OPTIONS).warnings[0]
  )


@pytest.mark.parametrize(
  "change",
  [
    {"window_s": 0.0},
    {"rate_hz": -1.0},
    {"rate_hz": float("inf")},
    {"stride_s": float("nan")},
    {"train_stride_s": -1.0},
    {"rule": "random"},
    {"min_coverage": 1.5},
    {"num_frames": -1},
    {"text_cleaning": "rough"},
  ],
)
def test_options_are_checked(change):
  (name,) = change
  with pytest.raises(ValueError, match=name):
    windows.Options(**change)


def test_recording_window_is_parallel_data_around_a_time():
  window = make().window(3.0, 2.0, rate_hz=20.0, num_frames=2)
  np.testing.assert_allclose(
    window["imu"][:, 3], 2 + np.arange(40) / 20, atol=0.01
  )
  assert (window["start_s"], window["end_s"]) == (2.0, 4.0)
  assert window["frames"][:, 0, 0, 0].tolist() == [25, 35]
  assert window["texts"][0] == "#C C walks."
  assert window["coverage"] == 1
  edge = make().window(0.5, 2.0, rate_hz=20.0)
  assert edge["coverage"] == pytest.approx(0.75, abs=0.06)
  with pytest.raises(ValueError, match="'r0' has no IMU sample near 99 s"):
    make().window(99.0, 2.0)
  for window_s in (-5.0, float("nan"), float("inf")):
    with pytest.raises(ValueError, match="window_s is"):
      make().window(3.0, window_s)


# Texts


@pytest.mark.parametrize(
  ("text", "official", "plain"),
  [
    ("#C C looks around", "looks around", "looks around"),
    ("#C picks a #unsure. ", "picks a something", "picks a something"),
    ("#c c picks a knife", "c c picks a knife", "picks a knife"),
    ("#O a man X walks", "", ""),
    ("#C C talks to #O a man", "talks to #o a man", "talks to a man"),
    ("#O a man X talks to #C C", "o a man x talks to  c", ""),
    ("#summary C cooked all day", "", ""),
    ("Open cupboard!", "open cupboard", "open cupboard"),
    ("#C  C  stirs   soup", "c  stirs   soup", "stirs soup"),
    ("", "", ""),
  ],
)
def test_both_cleaning_rules(text, official, plain):
  assert texts.official(text) == official
  assert texts.plain(text) == plain


def test_long_texts_end_at_128_characters():
  long = "#C C " + "word " * 60
  assert len(texts.official(long)) == 128
  assert texts.plain(long) == ("word " * 25).strip()


# The data set


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_built_is_what_is_read(tmp_path, workers):
  summary = build(tmp_path, workers=workers)
  assert summary["splits"] == {"train": 10, "validation": 5, "test": 5}
  want = {
    r["window_id"]: r for r in windows.cut_recording(make(), OPTIONS).records
  }
  got = rows(tmp_path)
  assert len(got) == 10
  for window_id, record in want.items():
    assert equal(got[window_id], record)
  assert {type(v) for v in got["r0@0"]["texts"]} <= {str}
  assert got["r0@0"]["start_s"].dtype == np.float64
  assert "tensorflow" not in sys.modules


def test_metadata_is_readable_without_the_builder(tmp_path):
  build(tmp_path, about={"licence": "none"})
  meta = builder.describe(tmp_path)
  assert meta["name"] == "toy_imu"
  assert meta["label_names"] == ["resting", "walking"]
  assert (meta["rate_hz"], meta["window_s"], meta["num_samples"]) == (20, 2, 40)
  assert meta["about"] == {"licence": "none"}
  assert meta["splits"] == {"train": 10, "validation": 5, "test": 5}
  path = pathlib.Path(meta["path"])
  assert json.loads((path / "metadata.json").read_text())["frame_size"] == 8


def test_the_fingerprint_follows_the_content(tmp_path):
  changed = entries()
  changed[0] = entry(
    "r0", "w0", "train", functools.partial(make, "r0", "w0", 9.0)
  )
  prints = []
  for i, found in enumerate([entries(), entries(), changed]):
    build(tmp_path / str(i), found, workers=0)
    prints.append(builder.describe(tmp_path / str(i))["fingerprint"])
  assert prints[0] == prints[1] != prints[2]


def warned(name, wearer):
  for _ in range(2):
    warnings.warn(f"{name}: the clock was repaired", stacklevel=1)
  return make(name, wearer)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_reader_warns_of_is_reported(tmp_path, workers):
  found = entries()
  found[1] = entry("r1", "w0", "train", functools.partial(warned, "r1", "w0"))
  report = build(tmp_path, found, workers=workers)
  assert report["warnings"] == {"r1": ["r1: the clock was repaired"]}
  assert "check r1: r1: the clock was repaired" in build_verb.table(report)


# A recording's clock


def world(name, wearer, offset_s, drift):
  recording = synthetic.open_synthetic(
    duration_s=60.0,
    size=32,
    video_rate_hz=10.0,
    faults=synthetic.Faults(clock_offset_s=offset_s, clock_drift=drift),
  )
  return dataclasses.replace(recording, recording_id=name, wearer_id=wearer)


def test_clocks_are_corrected_where_asked_and_certain(tmp_path):
  late = functools.partial(world, "late", "w0", 0.8, 0.004)
  blind = functools.partial(make, "blind", "w1", video=None)
  found = [
    entry("late", "w0", "train", late),
    entry("blind", "w1", "train", blind),
  ]
  options = dataclasses.replace(OPTIONS, correct_sync=True)
  report = build(tmp_path / "on", found, options, workers=1)
  sync = report["sync"]["late"]
  assert sync["corrected"]
  middle_s = sync["offset_s"] + 30 * sync["drift"]
  assert middle_s == pytest.approx(0.8 + 30 * 0.004, abs=0.02)
  assert "has no video" in report["sync"]["blind"]["why"]
  assert not report["sync"]["blind"]["corrected"]
  table = build_verb.table(report)
  assert "sync late: corrected: offset +0." in table
  assert "sync blind: left as it is: " in table
  assert "sync" not in build(tmp_path / "off", found, workers=0)

  true = world("late", "w0", 0.0, 0.0)
  error = {}
  for name in ("on", "off"):
    built = rows(tmp_path / name).values()
    built = [r for r in built if r["recording_id"] == "late"]
    assert len(built) > 20
    error[name] = np.mean(
      [
        np.abs(r["imu"] - true.window(r["start_s"] + 1, 2, rate_hz=20)["imu"])
        for r in built
      ]
    )
  assert error["on"] < 0.5 * error["off"]


def test_an_uncertain_clock_is_left_alone(tmp_path):
  still = functools.partial(make, "still", "w0")  # its picture has one colour
  report = build(
    tmp_path,
    [entry("still", "w0", "train", still)],
    dataclasses.replace(OPTIONS, correct_sync=True),
  )
  assert not report["sync"]["still"]["corrected"]


def from_file(path, gain, name, wearer):
  recording = make(name, wearer)
  sensors = recording.imu
  scaled = dataclasses.replace(sensors, gyro=sensors.gyro * gain)
  assert path.read_text() != "broken", f"{path} is broken"
  return dataclasses.replace(recording, imu=scaled)


def killed(cutter, *others):
  list(cutter.records("train"))
  cutter.close()
  raise KeyboardInterrupt


def test_what_was_cut_from_other_input_is_cut_again(tmp_path, monkeypatch):
  raw = tmp_path / "raw"
  raw.mkdir()
  for name in ("r0", "r2"):
    (raw / name).write_text("whole")

  def found(gain):
    return [
      entry(n, w, s, functools.partial(from_file, raw / n, gain, n, w))
      for n, w, s in (("r0", "w0", "train"), ("r2", "w1", "validation"))
    ]

  (raw / "r2").write_text("broken")
  with monkeypatch.context() as patch:
    patch.setattr(builder, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
      build(tmp_path / "data", found(1.0), workers=1)
  names = {p.name for p in tmp_path.glob("data/toy_imu/.parts*/*")}
  assert len(names) == 1
  (raw / "r2").write_text("mended")
  first = build(tmp_path / "data", found(0.5), workers=1)
  assert not first["already_built"]
  plain = build(tmp_path / "plain", found(0.5), workers=0)
  np.testing.assert_equal(rows(tmp_path / "data"), rows(tmp_path / "plain"))
  again = build(tmp_path / "data", found(0.5), workers=1)
  assert again == first | {"already_built": True}
  assert "already built, nothing was read" in build_verb.table(again)
  assert "written to" in build_verb.table(plain)


def test_a_part_is_named_after_all_that_it_is_made_from(tmp_path):
  file, other = tmp_path / "x.csv", tmp_path / "y.csv"
  file.write_text("1")

  def name(*args, files=(file, other), split="train", **options):
    opener = functools.partial(from_file, *args, **options)
    found = dataclasses.replace(entry("r", "w", split, opener), files=files)
    return parts.part_path(tmp_path, found)

  texts = [(0.0, 1.0, "walks")]
  seen = [
    name(file, 1.0),
    name(other, 1.0),
    name(file, 2.0),
    name(file, 1.0, texts=texts),
    name(file, np.eye(2)),
    name(file, 1.0, files=(file,)),
    name(file, 1.0, split="test"),
  ]
  assert name(file, 1.0) == seen[0]
  assert name(file, 1.0, texts=[tuple(t) for t in texts]) == seen[3]
  file.write_text("23")
  seen.append(name(file, 1.0))
  other.write_text("1")  # it arrives later
  seen.append(name(file, 1.0))
  os.utime(other, ns=(0, 0))
  seen.append(name(file, 1.0))
  assert len(set(seen)) == len(seen)


def test_a_set_of_an_older_version_is_still_known(tmp_path):
  report = build(tmp_path) | {"already_built": True}
  path = pathlib.Path(report["path"]) / "metadata.json"
  old = json.loads(path.read_text())
  del old["correct_sync"]
  path.write_text(json.dumps(old))
  assert build(tmp_path) == report
  with pytest.raises(ValueError, match="correct_sync = False, not True"):
    build(tmp_path, None, dataclasses.replace(OPTIONS, correct_sync=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_recording_is_named_and_the_rest_goes_on(tmp_path, workers):
  found = entries()
  found[1] = entry("r1", "w0", "train", functools.partial(broken, "r1"))
  summary = build(tmp_path, found, workers=workers)
  assert summary["failed"] == {"r1": "OSError: r1 fell off the disk"}
  assert summary["splits"]["train"] == 5
  report = json.loads(
    (pathlib.Path(summary["path"]) / "drop_report.json").read_text()
  )
  assert report["failed"] == summary["failed"]
  assert list(pathlib.Path(tmp_path, "toy_imu").iterdir()) == [
    pathlib.Path(summary["path"])
  ]


def crash(name):
  os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_recording_that_kills_its_process_is_named(tmp_path):
  found = [*entries(), entry("r4", "w0", "train")]
  found[1] = entry("r1", "w0", "train", functools.partial(crash, "r1"))
  summary = build(tmp_path, found, workers=1)
  assert list(summary["failed"]) == ["r1"]
  assert "its process died" in summary["failed"]["r1"]
  assert summary["splits"] == {"train": 10, "validation": 5, "test": 5}


def without_train(opener):
  return [
    entry("r0", "w0", "train", functools.partial(opener, "r0")),
    entry("r3", "w2", "test"),
  ]


@pytest.mark.parametrize(
  ("found", "message"),
  [
    (without_train(broken), r"split 'train' is empty.*fell off"),
    (
      without_train(functools.partial(make, length_s=1.0)),
      r"split 'train' is empty.*no window fits",
    ),
    (
      [entry("r3", "w2", "test", functools.partial(broken, "r3"))],
      r"split 'test' is empty.*fell off",
    ),
  ],
)
def test_without_windows_to_train_on_nothing_is_built(tmp_path, found, message):
  with pytest.raises(ValueError, match=message):
    build(tmp_path, found)
  assert list(pathlib.Path(tmp_path, "toy_imu").iterdir()) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_an_empty_split_is_named_and_the_rest_goes_on(tmp_path, workers):
  found = entries()
  found[2] = entry("r2", "w1", "validation", functools.partial(broken, "r2"))
  short = functools.partial(make, "r3", "w2", 1.0)
  found[3] = entry("r3", "w2", "test", short)
  summary = build(tmp_path, found, workers=workers)
  assert summary["splits"] == {"train": 10, "validation": 0, "test": 0}
  assert summary["windows"]["test"] == {"kept": 0, "no window fits": 1}
  assert summary["failed"] == {"r2": "OSError: r2 fell off the disk"}
  table = build_verb.table(summary)
  for split in ("validation", "test"):
    assert f"left out split {split}: it has no window" in table
  assert len(rows(tmp_path)) == 10
  with pytest.raises(ValueError, match=r"no windows in split 'test'.*train"):
    rows(tmp_path, "test")
  again = build(tmp_path, found, workers=workers)
  assert again == summary | {"already_built": True}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda e: [], "no recording"),
    (lambda e: [*e, entry("r9", "w0", "test")], "'w0' is in split 'train'"),
    (lambda e: [*e, entry("r0", "w0", "train")], "'r0' is listed twice"),
    (lambda e: [*e, entry("r9", "w9", "dev")], "unknown split 'dev'"),
    (lambda e: [*e, entry("r9", "", "train")], "'r9' names no wearer"),
  ],
)
def test_entries_are_checked_before_anything_is_opened(
  tmp_path, change, message
):
  with pytest.raises(ValueError, match=message):
    builder.build("toy_imu", change(entries()), tmp_path, OPTIONS)
  assert not any(tmp_path.iterdir())


def test_an_equal_build_is_reused_and_another_is_refused(tmp_path):
  about = {"wearers": (1, 2)}
  first = build(tmp_path, about=about)
  stamp = pathlib.Path(first["path"]).stat().st_mtime_ns
  assert build(tmp_path, about=about) == first | {"already_built": True}
  assert pathlib.Path(first["path"]).stat().st_mtime_ns == stamp
  other = dataclasses.replace(OPTIONS, stride_s=1.0)
  with pytest.raises(ValueError, match=r"already built with stride_s = 2\.0"):
    build(tmp_path, options=other, about=about)


@pytest.mark.parametrize("workers", [0, 1])
def test_windows_of_training_alone_may_overlap(tmp_path, workers):
  options = dataclasses.replace(OPTIONS, train_stride_s=0.5)
  build(tmp_path / "dense", options=options, workers=workers)
  build(tmp_path / "plain")
  for split in ("validation", "test"):
    np.testing.assert_equal(
      rows(tmp_path / "dense", split), rows(tmp_path / "plain", split)
    )
  dense, plain = rows(tmp_path / "dense"), rows(tmp_path / "plain")
  assert sorted(dense) == sorted(
    f"{name}@{start}" for name in ("r0", "r1") for start in range(0, 9001, 500)
  )
  for name, record in plain.items():
    np.testing.assert_equal(dense[name], record)


def test_one_build_at_a_time(tmp_path):
  path = tmp_path / "toy_imu"
  path.mkdir()
  with locks.held(path, ""), pytest.raises(ValueError, match="another build"):
    build(tmp_path)
  build(tmp_path)


# Killed and resumed


def counting(name, wearer, folder):
  with open(pathlib.Path(folder) / "opened.txt", "a") as file:
    file.write(f"{name}\n")
  time.sleep(0.2)
  return make(name, wearer)


def counted_entries(folder):
  return [
    entry(
      f"r{i}",
      f"w{i}",
      ("train", "train", "train", "test")[i % 4],
      functools.partial(counting, f"r{i}", f"w{i}", str(folder)),
    )
    for i in range(8)
  ]


KILLED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("test_builder", {test!r})
module = importlib.util.module_from_spec(spec)
sys.modules["test_builder"] = module
spec.loader.exec_module(module)
if __name__ == "__main__":
  module.build({data!r}, module.counted_entries({folder!r}), workers=1)
"""


def test_a_killed_build_goes_on_where_it_was(tmp_path):
  data = tmp_path / "data"
  script = tmp_path / "killed.py"
  script.write_text(
    KILLED.format(test=__file__, data=str(data), folder=str(tmp_path))
  )
  process = subprocess.Popen(
    [sys.executable, str(script)],
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )
  deadline = time.time() + 60
  while time.time() < deadline and len(list(data.rglob("*.npz"))) < 3:
    time.sleep(0.05)
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  done = len(list(data.rglob("*.npz")))
  assert 3 <= done < 8
  with pytest.raises(FileNotFoundError, match="no built data set"):
    builder.open_windows(data, "train")
  before = (tmp_path / "opened.txt").read_text().split()
  summary = build(data, counted_entries(tmp_path), workers=1)
  after = (tmp_path / "opened.txt").read_text().split()
  assert len(after) - len(before) == 8 - done
  assert summary["splits"] == {"train": 30, "test": 10}
  build(tmp_path / "whole", counted_entries(tmp_path), workers=0)
  resumed, whole = rows(data), rows(tmp_path / "whole")
  assert resumed.keys() == whole.keys()
  assert all(equal(resumed[k], whole[k]) for k in whole)
  assert [p.name for p in (data / "toy_imu").iterdir()] == ["1.0.0"]


def runs(pid):
  try:
    status = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except FileNotFoundError:
    return False
  return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="no /proc")
def test_workers_end_with_a_killed_build(tmp_path):
  script = tmp_path / "killed.py"
  script.write_text(
    KILLED.format(
      test=__file__, data=str(tmp_path / "data"), folder=str(tmp_path)
    )
  )
  process = subprocess.Popen(
    [sys.executable, str(script)], stderr=subprocess.DEVNULL
  )
  children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
  deadline = time.time() + 60
  while time.time() < deadline and not list(tmp_path.rglob("*.npz")):
    time.sleep(0.05)
  pids = children.read_text().split()
  assert pids
  process.kill()
  process.wait()
  while time.time() < deadline and any(map(runs, pids)):
    time.sleep(0.05)
  assert not any(map(runs, pids))


def test_a_part_gives_back_its_windows(tmp_path):
  cut = windows.cut_recording(make(video=Clip(5.0)), OPTIONS)
  parts._save(tmp_path / "part.npz", cut)
  again = parts._load(tmp_path / "part.npz")
  assert all(map(equal, again.records, cut.records))
  assert [p.name for p in tmp_path.iterdir()] == ["part.npz"]


@pytest.mark.slow
def test_a_beam_pipeline_builds_the_same(tmp_path):
  pytest.importorskip("apache_beam")
  found = counted_entries(tmp_path)
  found[2] = entry("r2", "w2", "train", functools.partial(broken, "r2"))
  flags = ["--runner=FnApiRunner"]
  summary = build(tmp_path / "beam", found, beam_flags=flags)
  assert len((tmp_path / "opened.txt").read_text().split()) == 7  # once each
  assert summary["failed"] == {"r2": "OSError: r2 fell off the disk"}
  build(tmp_path / "here", found)
  prints = [
    builder.describe(tmp_path / d)["fingerprint"] for d in ("beam", "here")
  ]
  assert prints[0] == prints[1]


def test_beam_is_an_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  with pytest.raises(ValueError, match=r"imu2clip-jax\[beam\]"):
    build(tmp_path, beam_flags=[])


# Reading what is missing or damaged


def test_what_is_missing_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere"):
    builder.open_windows(tmp_path / "nowhere", "train")
  with pytest.raises(FileNotFoundError, match="no built data set"):
    builder.open_windows(tmp_path, "train")
  build(tmp_path)
  with pytest.raises(
    ValueError, match=r"no windows in split 'dev'.*train \(10\)"
  ):
    builder.open_windows(tmp_path, "dev")
  builder.build("other_imu", entries(), tmp_path, OPTIONS)
  with pytest.raises(ValueError, match="other_imu, toy_imu"):
    builder.open_windows(tmp_path, "train")
  assert len(builder.open_windows(tmp_path / "toy_imu", "train")) == 10


def test_the_newest_version_is_opened(tmp_path):
  build(tmp_path, version="1.9.0")
  build(tmp_path, version="1.10.0")
  assert builder.describe(tmp_path)["version"] == "1.10.0"


def test_rows_outside_are_an_index_error(tmp_path):
  build(tmp_path)
  source = builder.open_windows(tmp_path, "test")
  with pytest.raises(IndexError, match="row 5 of 5"):
    source[5]
  assert len(list(source)) == 5


@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_shard_is_named(tmp_path, damage):
  build(tmp_path)
  (shard,) = tmp_path.rglob("*train.array_record*")
  data = bytearray(shard.read_bytes())
  if damage == "cut":
    shard.write_bytes(data[: len(data) // 2])
  elif damage == "flip":
    for place in range(len(data) // 4, 3 * len(data) // 4, 7):
      data[place] ^= 0xFF
    shard.write_bytes(data)
  else:
    shard.unlink()
  with pytest.raises(ValueError, match=r"toy_imu.*'train'"):
    list(builder.open_windows(tmp_path, "train"))


def test_damaged_metadata_is_named(tmp_path):
  build(tmp_path)
  (meta,) = tmp_path.rglob("metadata.json")
  meta.write_text("{")
  with pytest.raises(ValueError, match=r"toy_imu.*cannot be read"):
    builder.open_windows(tmp_path, "train")


def test_workers_start_without_jax_or_tfds():
  code = (
    "import sys, imu2clip_jax.data.parts;"
    "assert not {'jax', 'tensorflow_datasets'} & set(sys.modules)"
  )
  context = multiprocessing.get_context("spawn")
  assert context.get_start_method() == "spawn"
  subprocess.run([sys.executable, "-c", code], check=True)
