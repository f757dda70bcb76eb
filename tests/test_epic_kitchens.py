"""EPIC-KITCHENS-100: the tool's clock, undone; the real annotation files."""

import collections
import pathlib
import re

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imu2clip_jax import build
from imu2clip_jax.data import builder
from imu2clip_jax.recordings import epic_kitchens as epic
from imu2clip_jax.recordings import opening, parsing

COLUMNS = (
  "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,"
  "stop_timestamp,start_frame,stop_frame,narration,verb,verb_class,noun,"
  "noun_class,all_nouns,all_noun_classes\n"
)


def write_imu(folder, video_id, video_s, payload_s, rates=(198, 397), first=0):
  """Write both CSVs as gpmd2csv does; the signal is its own true time.

  Every payload counts as 1000 ms, and the last two are not written.
  """
  folder.mkdir(parents=True, exist_ok=True)
  payloads = int(np.ceil(video_s / payload_s)) - 2
  for name, letters, rate in (
    ("accl", "Accl", rates[0]),
    ("gyro", "Gyro", rates[1]),
  ):
    lines = [f"Milliseconds,{letters}X,{letters}Y,{letters}Z"]
    for k in range(payloads):
      for i in range(rate):
        true_s = (k + i / rate) * payload_s
        stamp_ms = 1000 * (k + first) + 1000 * i / rate
        lines.append(f"{stamp_ms:.4f},{true_s:.6f},9.5,-0.5")
    (folder / f"{video_id}-{name}.csv").write_text("\n".join(lines) + "\n")


def write_video(path, seconds):
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w") as container:
    stream = container.add_stream("mpeg4", rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    image = np.zeros((48, 64, 3), np.uint8)
    for _ in range(round(10 * seconds)):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
    container.mux(stream.encode())


def segment(number, video_id, start, stop, narration, verb):
  return (
    f"{video_id}_{number},{video_id[:3]},{video_id},,{start},{stop},1,2,"
    f"{narration},{verb},3,door,8,\"['door', 'drawer']\",\"[8, 9]\"\n"
  )


@pytest.fixture
def tree(tmp_path):
  root = tmp_path / "EPIC-KITCHENS"
  for video_id in ("P01_101", "P02_101", "P02_102", "P03_101"):
    folder = root / video_id[:3]
    write_imu(folder / "meta_data", video_id, 20.3, 1.01, (20, 40))
    (folder / "meta_data" / f"{video_id}-gps.csv").write_text("")
  write_video(root / "P01" / "videos" / "P01_101.MP4", 20.3)
  notes = root / "epic-kitchens-100-annotations"
  notes.mkdir()
  (notes / "EPIC_100_train.csv").write_text(
    COLUMNS
    + segment(1, "P01_101", "00:00:09.50", "00:00:11.00", "open door", "open")
    + segment(0, "P01_101", "00:00:01.00", "00:00:02.5", "wash cup", "wash")
  )
  (notes / "EPIC_100_uda_target_val.csv").write_text(
    COLUMNS
    + segment(0, "P01_101", "00:00:01.00", "00:00:02.5", "wash cup", "wash")
    + segment(0, "P02_101", "01:00:01.00", "01:00:02.00", "dry cup", "dry")
  )
  (notes / "EPIC_100_video_info.csv").write_text(
    "video_id,duration,fps,resolution\n"
    + "".join(
      f"{v},20.3,50.0,1920x1080\n"
      for v in ("P01_101", "P02_101", "P02_102", "P03_101")
    )
  )
  return root


def test_samples_stay_as_stored(tree):
  imu = epic.open_epic(tree / "P01" / "meta_data" / "P01_101-accl.csv").imu
  assert len(imu.gyro) == 2 * len(imu.accel)
  assert imu.accel[0].tolist() == [0.0, 9.5, -0.5]
  assert imu.frame == "device"
  turned = epic.open_epic(
    tree / "P01" / "meta_data" / "P01_101-gyro.csv", orientation="YxZ"
  ).imu
  assert turned.accel[0].tolist() == [-9.5, 0.0, -0.5]
  assert turned.frame == "gopro_camera"


@given(
  video_s=st.floats(60, 2000),
  payload_s=st.floats(1.0, 1.044),
)
def test_the_clock_is_right_to_half_a_second(video_s, payload_s):
  payloads = int(np.ceil(video_s / payload_s)) - 2
  last_s = payloads - 1 / 198
  length = epic.payload_length(last_s, video_s)
  assert abs(length - payload_s) * payloads <= 0.53


def test_the_published_example():
  # P01_103: 178.02 s of video, last gyro row at 174994.95 ms.
  length = epic.payload_length(174.99495, 178.02)
  assert 1.006 <= length <= 1.011


def test_the_repaired_clock_follows_the_signals_true_time(tmp_path):
  folder = tmp_path / "P01" / "meta_data"
  write_imu(folder, "P01_101", 240.0, 1.0083, (20, 40))
  path = folder / "P01_101-gyro.csv"
  imu = epic.open_epic(path, duration_s=240.0).imu
  assert np.abs(imu.gyro_t_s - imu.gyro[:, 0]).max() < 0.5
  with pytest.warns(UserWarning, match="clock stays"):
    imu = epic.open_epic(path).imu
  assert np.abs(imu.gyro_t_s - imu.gyro[:, 0]).max() > 1.9


def test_older_builds_count_payloads_from_one(tmp_path):
  folder = tmp_path / "P01" / "meta_data"
  write_imu(folder, "P01_101", 20.3, 1.01, (20, 40), first=1)
  imu = epic.open_epic(folder / "P01_101-accl.csv", duration_s=20.3).imu
  assert imu.accel_t_s[0] == 0


def test_an_imu_that_does_not_fit_its_video(tmp_path):
  folder = tmp_path / "P01" / "meta_data"
  write_imu(folder, "P01_101", 60.0, 1.01, (20, 40))
  path = folder / "P01_101-accl.csv"
  with pytest.raises(ValueError, match=r"58\.0 s of IMU for a video of 20"):
    epic.open_epic(path, duration_s=20.0)
  with pytest.warns(UserWarning, match="58 payloads do not fill a video"):
    imu = epic.open_epic(path, duration_s=90.0).imu
  assert imu.accel_t_s[-1] == pytest.approx(57.95, abs=1e-6)


def test_siblings_are_found_by_the_layout(tree):
  recording = epic.open_epic(tree / "P01" / "meta_data" / "P01_101-accl.csv")
  assert (recording.recording_id, recording.wearer_id) == ("P01_101", "P01")
  assert recording.texts == [(1.0, 2.5, "wash cup"), (9.5, 11.0, "open door")]
  assert recording.video.end_s == pytest.approx(20.3, abs=0.01)
  last_s = recording.imu.accel_t_s[-1]
  assert last_s == pytest.approx(18.95 * 1.01, abs=0.5)


def test_without_a_film_the_annotations_tell_the_length(tree):
  path = tree / "P02" / "meta_data" / "P02_101-accl.csv"
  alone = opening.open_recording(path).imu
  (built,) = (e for e in epic.find(tree) if e.recording_id == "P02_101")
  assert np.array_equal(alone.accel_t_s, built.open().imu.accel_t_s)
  assert alone.accel_t_s[-1] == pytest.approx(18.95 * 1.01, abs=0.5)


def test_open_recording_knows_the_imu_files_and_the_video(tree):
  for name in (
    "meta_data/P01_101-accl.csv",
    "meta_data/P01_101-gyro.csv",
    "videos/P01_101.MP4",
  ):
    recording = opening.open_recording(tree / "P01" / name)
    assert recording.recording_id == "P01_101"
    assert recording.video is not None
    assert len(recording.texts) == 2


def test_find_splits_by_participant(tree):
  entries = {e.recording_id: e for e in epic.find(tree)}
  assert set(entries) == {"P01_101", "P02_101", "P02_102", "P03_101"}
  assert entries["P02_101"].split == entries["P02_102"].split
  assert {e.split for e in entries.values()} == {"train", "validation", "test"}
  opened = entries["P01_101"].open()
  assert opened.texts[0] == (1.0, 2.5, "a person washes cup")
  assert opened.labels == []
  assert entries["P02_101"].open().texts == [
    (3601.0, 3602.0, "a person dries cup")
  ]
  labelled = {
    e.recording_id: e
    for e in epic.find(tree, sentences=False, label_column="verb")
  }
  opened = labelled["P01_101"].open()
  assert opened.labels == [(1.0, 2.5, "wash"), (9.5, 11.0, "open")]
  assert opened.texts[1] == (9.5, 11.0, "open door")


def test_without_any_length_the_clock_is_left_with_a_warning(tree):
  notes = tree / "epic-kitchens-100-annotations"
  (notes / "EPIC_100_video_info.csv").unlink()
  entries = {e.recording_id: e for e in epic.find(tree)}
  with pytest.warns(UserWarning, match="without the video's length"):
    imu = entries["P03_101"].open().imu
  assert imu.accel_t_s[-1] == pytest.approx(18.95)


def test_what_is_missing_or_damaged_is_named(tree, tmp_path):
  meta = tree / "P01" / "meta_data"
  with pytest.raises(FileNotFoundError, match="holds no Pxx"):
    epic.find(tmp_path / "nowhere")
  with pytest.raises(FileNotFoundError, match="holds none of EPIC_100"):
    epic.find(tree, annotations=tmp_path)
  with pytest.raises(ValueError, match="expected VIDEO_ID-accl"):
    epic.open_epic(meta / "P01_101-gps.csv")
  (meta / "P01_101-gyro.csv").unlink()
  with pytest.raises(FileNotFoundError, match="P01_101-gyro"):
    epic.open_epic(meta / "P01_101-accl.csv")
  notes = tree / "epic-kitchens-100-annotations" / "EPIC_100_train.csv"
  notes.write_text(notes.read_text().replace("00:00:09.50", "9.5 s"))
  with pytest.raises(ValueError, match=r"train\.csv: time '9\.5 s'"):
    epic.find(tree)


@pytest.fixture
def published(samples):
  return samples / "epic_kitchens_100"


def with_imu(folder):
  rows = parsing.rows(folder / "epic_100_meta_data_files.csv", ["path"])
  return {
    kind: {
      match[1]
      for row in rows
      if (match := re.search(rf"/(\w+)-{kind}\.csv$", row["path"]))
    }
    for kind in ("accl", "gyro", "gps")
  }


def test_published_segments(published):
  videos = epic.read_segments(published, "verb")
  segments = [(v, *s) for v, found in videos.items() for s in found]
  assert len(segments) == 7906 + 9668
  imu = with_imu(published)["gyro"]
  target = [s for s in segments if s[0] in imu]
  assert len(target) == 7906
  assert len({s[0] for s in target}) == 55
  assert len({s[0] for s in segments if s[0] not in imu}) == 138
  length_s = np.array([s[2] - s[1] for s in segments if s[0] not in imu])
  assert length_s.min() > 0
  assert np.median(length_s) == pytest.approx(1.96, abs=0.01)
  assert length_s.mean() == pytest.approx(3.7, abs=0.05)
  narrations = [s[3] for s in segments if s[0] not in imu]
  assert len(set(narrations)) == 3835
  assert np.mean([len(n) for n in narrations]) == pytest.approx(14.8, abs=0.05)


def test_published_narration_stamps_may_be_empty(published):
  rows = parsing.rows(
    published / "EPIC_100_validation.csv", ["narration_timestamp"]
  )
  assert sum(not row["narration_timestamp"] for row in rows) == 70


@pytest.mark.parametrize("name", ["uda_target_val", "validation"])
def test_published_columns(published, name):
  first = (published / f"EPIC_100_{name}.csv").read_text().split("\n", 1)[0]
  assert first.split(",") == [
    "narration_id", "participant_id", "video_id", "narration_timestamp",
    "start_timestamp", "stop_timestamp", "start_frame", "stop_frame",
    "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns",
    "all_noun_classes",
  ]  # fmt: skip


def test_published_list_of_imu_files(published):
  imu = with_imu(published)
  assert [len(imu[k]) for k in ("accl", "gyro", "gps")] == [271, 271, 262]
  rows = parsing.rows(published / "epic_100_meta_data_files.csv", ["md5"])
  gps = {row["md5"] for row in rows if row["path"].endswith("-gps.csv")}
  assert len(gps) == 1  # all are empty
  assert len({v[:3] for v in imu["accl"]}) == 21
  assert all(re.fullmatch(r"P\d\d_1\d\d", v) for v in imu["accl"])


def test_published_durations(published):
  durations = epic._durations(published / "EPIC_100_video_info.csv")
  assert len(durations) == 700
  known = with_imu(published)["accl"] & set(durations)
  assert len(known) == 268
  rows = parsing.rows(published / "EPIC_100_video_info.csv", ["fps"])
  rates = collections.Counter(
    float(row["fps"]) for row in rows if row["video_id"] in known
  )
  assert rates == {50.0: 268}
  hours = sum(durations[v] for v in known) / 3600
  assert hours == pytest.approx(45.7, abs=0.1)


def test_find_on_the_published_annotations(published, tmp_path):
  for video_id in ("P03_101", "P01_103"):
    folder = tmp_path / video_id[:3] / "meta_data"
    write_imu(folder, video_id, 30.0, 1.01, (5, 5))
  entries = epic.find(tmp_path, annotations=published, label_column="verb")
  assert [e.recording_id for e in entries] == ["P01_103", "P03_101"]
  options = entries[1].open.args
  assert options[1][0] == (2.6, 3.86, "a person turns on tap")
  assert options[2][0] == (2.6, 3.86, "turn-on")
  assert entries[0].open.args[3] == pytest.approx(178.02, abs=0.01)


def test_a_small_tree_is_built(tree, tmp_path):
  dataset = pathlib.Path(__file__).parents[1] / "datasets"
  summary = build.build(
    dataset / "epic_kitchens_imu",
    tree,
    tmp_path / "data",
    workers=0,
    reader_options={"label_column": "verb"},
    window_options={"rate_hz": 20.0, "rule": "stride"},
  )
  assert sum(summary["splits"].values()) == 12
  records = [
    record
    for split in summary["splits"]
    for record in builder.open_windows(tmp_path / "data", split)
    if record["recording_id"] == "P01_101"
  ]
  records.sort(key=lambda record: record["start_s"])
  assert [record["texts"] for record in records] == [
    ["a person washes cup"],
    ["a person opens door"],
    ["a person opens door"],
  ]
  # Gravity is up, whichever way the camera sat; one axis of the tree's signal
  # is its clock, by which single windows lean off the recording's mean.
  means = [record["imu"][:, :3].mean(0) for record in records]
  assert all(mean[2] > 0.8 * np.linalg.norm(mean) for mean in means)
