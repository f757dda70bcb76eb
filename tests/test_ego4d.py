"""Ego4D: small trees in the published format, and IMU2CLIP's own lists."""

import collections
import json
import pathlib
import warnings
import zipfile

import av
import numpy as np
import pytest

from imu2clip_jax import build
from imu2clip_jax.data import builder
from imu2clip_jax.data import texts as text_rules
from imu2clip_jax.recordings import ego4d, imu2clip_lists, opening

HEADER = (
  "component_idx,component_timestamp_ms,canonical_timestamp_ms,"
  "gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z\n"
)


def write_imu(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(HEADER + "".join(f"{row}\n" for row in rows))


def write_video(path, num_frames=60):
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w") as container:
    stream = container.add_stream("mpeg4", rate=30)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for k in range(num_frames):
      image = np.full((48, 64, 3), 2 * k, np.uint8)
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
    container.mux(stream.encode())


def imu_rows(seconds=2.0, rate_hz=201.0):
  """Rows as published: gyro before accel, all of it telling its own index."""
  times_ms = np.arange(int(seconds * rate_hz)) * 1000 / rate_hz
  return [
    f"0,{t!r},{t!r},0.1,0.2,0.3,{9 + k % 2},{k},-1.5"
    for k, t in enumerate(times_ms.tolist())
  ]


def narration(time_s, text, number=0):
  return {
    "timestamp_sec": time_s,
    "timestamp_frame": round(time_s * 30),
    "_unmapped_timestamp_sec": time_s,
    "narration_text": text,
    "annotation_uid": f"annotation-{number}",
  }


V1 = {
  "uid-a": {
    "status": "complete",
    "narration_pass_1": {
      "narrations": [
        narration(7.5, "#C C picks a cup."),
        narration(1.25, "#c c looks around "),
        narration(3.0, "#O a man X walks"),
      ],
      "summaries": [
        {
          "start_sec": 0.0,
          "end_sec": 10.0,
          "summary_text": "#Summary C was in a kitchen",
          "annotation_uid": "s",
        }
      ],
    },
    "narration_pass_2": {
      "narrations": [
        narration(7.5, "#C C picks a cup.", 9),
        narration(7.6, "#C C lifts the cup", 10),
      ],
      "summaries": [],
    },
  },
  "uid-b": {"status": "redacted"},
  "uid-c": {
    "status": "complete",
    "narration_pass_2": {
      "narrations": [narration(100.7, "#C C opens a #unsure")],
      "summaries": [],
    },
  },
}
V2 = {
  "videos": {
    "uid-a": {
      "narrations": [
        {
          "time": n["timestamp_sec"],
          "text": n["narration_text"],
          "_annotation_uid": n["annotation_uid"],
          "_clip_time_start": 0.0,
        }
        for p in ("narration_pass_1", "narration_pass_2")
        for n in V1["uid-a"][p]["narrations"]
      ],
      "summaries": [{"start_time": 0.0, "end_time": 9.0, "text": "#Summary"}],
    }
  }
}


@pytest.fixture
def tree(tmp_path):
  """A v2 download of four videos; uid-d has no IMU file."""
  root = tmp_path / "ego4d" / "v2"
  videos = []
  for k, uid in enumerate(("uid-a", "uid-b", "uid-c", "uid-d")):
    videos.append(
      {
        "video_uid": uid,
        "duration_sec": 600.0,
        "scenarios": ["Cooking"],
        "video_metadata": {"fps": 30.0, "video_duration_sec": 600.0},
        "device": None,
        "fb_participant_id": (17, 17, None, 20)[k],
        "has_imu": uid != "uid-d",
      }
    )
    if uid != "uid-d":
      write_imu(root / "imu" / f"{uid}.csv", imu_rows())
  (root / "ego4d.json").write_text(
    json.dumps({"date": "", "version": "v2", "videos": videos, "clips": []})
  )
  (root / "annotations").mkdir()
  (root / "annotations" / "narration.json").write_text(json.dumps(V1))
  write_video(root / "video_540ss" / "uid-a.mp4")
  (root / "imu" / "manifest.csv").write_text("video_uid,s3_path\n")
  return root


def test_imu_columns_units_and_clock(tree):
  imu = ego4d.open_ego4d(tree / "imu" / "uid-a.csv").imu
  assert len(imu.accel) == len(imu.gyro) == 402
  np.testing.assert_allclose(imu.accel_t_s[:2], [0, 1 / 201])
  assert imu.accel[3].tolist() == [10, 3, -1.5]
  assert imu.gyro[3].tolist() == [0.1, 0.2, 0.3]
  assert imu.frame == "device"


def test_every_row_with_a_time_is_kept_as_stored(tmp_path):
  rows = [
    "0,5.0,5.0,1,1.5,2,3,4,5",
    "0,0.0,0.0,1,1.5,2,3,4,6",  # not sorted
    "0,0.0,0.0,1,1.5,2,3,4,6",  # twice
    "0,9.0,NULL,1,1.5,2,3,4,5",  # trimmed away: no time
    "0,9.0,,1,1.5,2,3,4,5",
    "1,9.0,1e15,1,1.5,2,3,4,5",  # absurd
    "1,9.0,-20.0,1,1.5,2,,,",  # no acceleration
    "1,9.0,25.0,1,1.5,2,NULL,nan,7",
  ]
  write_imu(tmp_path / "imu" / "uid.csv", rows)
  imu = ego4d.open_ego4d(tmp_path / "imu" / "uid.csv").imu
  assert imu.accel_t_s.tolist() == [0.005, 0, 0, 1e12, -0.02, 0.025]
  assert len(imu.gyro) == 6
  assert np.isfinite(imu.gyro).all()
  missing = np.isnan(imu.accel)
  assert missing.sum(axis=1).tolist() == [0, 0, 0, 0, 3, 2]
  assert not (imu.accel == 0).any()  # what is missing never becomes zero


def test_a_lost_axis_is_said(tmp_path):
  # The first row of the published sample, whose accl_y equals accl_z.
  row = (
    "0,{0},{0},0.025559105431309903,0.25026624068157616,0.11182108626198084,"
    "-2.278177458033573,-1.0311750599520384,-1.0311750599520384"
  )
  write_imu(tmp_path / "uid.csv", [row.format(k * 4.975) for k in range(9)])
  with pytest.warns(UserWarning, match="accl_y and accl_z are equal"):
    ego4d.open_ego4d(tmp_path / "uid.csv")


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_axis_is_said_where_rows_lack_acceleration(tmp_path, lost):
  path = tmp_path / "uid.csv"
  missing = [f"0,{k},{k},1,2,{k},NULL,NULL,NULL" for k in range(20)]
  rows = [
    f"0,{k},{k},1,2,{k},9.5,{k},{k if lost else -k}" for k in range(20, 40)
  ]
  write_imu(path, [*missing, *rows, "0,40,40,1,2,3,9.5,NULL,4"])
  with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    ego4d.open_ego4d(path, texts=[])
  said = [str(warning.message) for warning in heard]
  assert len(said) == lost
  assert all("accl_y and accl_z are equal" in text for text in said)


def test_siblings_are_found_by_the_layout(tree):
  recording = ego4d.open_ego4d(tree / "imu" / "uid-a.csv")
  assert recording.recording_id == "uid-a"
  assert recording.video.start_s == 0
  assert 56 < recording.frames([1.0])[0, 20, 20, 0] < 64
  assert recording.texts == [
    (1.25, 1.25, "#c c looks around "),
    (7.5, 7.5, "#C C picks a cup."),
    (7.6, 7.6, "#C C lifts the cup"),
  ]
  assert ego4d.open_ego4d(tree / "imu" / "uid-b.csv").video is None
  everyone = ego4d.open_ego4d(tree / "imu" / "uid-a.csv", wearer_only=False)
  assert (3.0, 3.0, "#O a man X walks") in everyone.texts


def test_open_recording_knows_the_imu_file_and_the_video(tree):
  for name in ("imu/uid-a.csv", "video_540ss/uid-a.mp4"):
    recording = opening.open_recording(tree / name)
    assert len(recording.imu.accel) == 402
    assert recording.video is not None
    assert len(recording.texts) == 3


def test_both_narration_schemas_say_the_same(tree):
  (tree / "annotations" / "narration.json").unlink()
  (tree / "annotations" / "all_narrations_redacted.json").write_text(
    json.dumps(V2)
  )
  recording = ego4d.open_ego4d(tree / "imu" / "uid-a.csv")
  assert [t[0] for t in recording.texts] == [1.25, 7.5, 7.6]
  assert ego4d.open_ego4d(tree / "imu" / "uid-b.csv").texts == []


def test_the_cleaning_rules_fit_the_texts():
  said = [
    n["narration_text"] for n in V1["uid-c"]["narration_pass_2"]["narrations"]
  ]
  assert [text_rules.official(t) for t in said] == ["opens a something"]
  assert text_rules.plain("#c c looks around ") == "looks around"


def test_find_splits_by_participant(tree):
  entries = {e.recording_id: e for e in ego4d.find(tree.parent)}
  assert set(entries) == {"uid-a", "uid-b", "uid-c"}
  assert entries["uid-a"].wearer_id == "participant_17"
  assert entries["uid-a"].split == entries["uid-b"].split
  assert entries["uid-c"].wearer_id == "video_uid-c"
  assert entries["uid-c"].split != entries["uid-a"].split
  opened = entries["uid-a"].open()
  assert opened.wearer_id == "participant_17"
  assert len(opened.texts) == 3
  assert opened.video is not None


def test_redacted_intervals_are_blacked_out(tree):
  about = json.loads((tree / "ego4d.json").read_text())
  redacted = [{"start_sec": 0.5, "end_sec": 1.5}]
  about["videos"][0]["redacted_intervals"] = redacted
  about["videos"][1]["redacted_intervals"] = None
  (tree / "ego4d.json").write_text(json.dumps(about))
  opened = {e.recording_id: e.open() for e in ego4d.find(tree)}
  assert opened["uid-a"].blacked_out == [(0.5, 1.5)]
  assert opened["uid-b"].blacked_out == opened["uid-c"].blacked_out == []
  window = opened["uid-a"].window(1.0, 2.0, num_frames=5)
  np.testing.assert_allclose(window["frame_times_s"], [0.2, 1.8], atol=0.01)
  assert len(window["frames"]) == 2
  redacted[0]["end_sec"] = "late"
  (tree / "ego4d.json").write_text(json.dumps(about))
  with pytest.raises(ValueError, match=r"ego4d\.json: is not Ego4D's"):
    ego4d.find(tree)


def test_v1_and_the_release_folder_itself(tree):
  v1 = tree.rename(tree.parent / "v1")
  assert len(ego4d.find(v1.parent)) == len(ego4d.find(v1)) == 3


def write_checkout(folder):
  (folder / "splits").mkdir(parents=True)
  (folder / "dataset" / "ego4d").mkdir(parents=True)
  for name, uids in (
    ("training", ["uid-a"]),
    ("validation", ["uid-b"]),
    ("test", ["uid-z"]),
  ):
    (folder / "splits" / f"{name}_0.json").write_text(json.dumps(uids))
    rows = "window_start,window_end,video_uid,narration_uid,text,"
    rows += "Score-TFIDF,label,OG_label\n"
    if name == "training":
      rows += "5,10,uid-a,n,moves head,1.0,head movement,looks up\n" * 2
      rows += "0,5,uid-a,n,sits,1.0,sits down,sits down\n"
    (folder / "splits" / f"dataset_motion_narr_2.5_{name}_0.csv").write_text(
      rows
    )
  # Narrations at 7.5 and 7.6 s: the window 5 .. 10 s; written as floats here.
  (folder / "dataset" / "ego4d" / "bad_imu_windows_2.5.json").write_text(
    json.dumps([["uid-a", 5.0, 10.0], ["uid-c", 98, 103]])
  )


def test_find_with_the_published_lists(tree, tmp_path):
  write_checkout(tmp_path / "imu2clip")
  write_imu(tree / "imu" / "uid-e.csv", imu_rows())  # not in ego4d.json
  write_imu(tree / "imu" / "uid-f.csv", imu_rows())
  with pytest.warns(UserWarning, match="IMU files are passed over") as heard:
    entries = ego4d.find(tree, checkout=tmp_path / "imu2clip")
  said = [str(warning.message).partition(": ")[2] for warning in heard]
  assert [text.split(" IMU")[0] for text in said] == ["2 of 5", "1 of 5"]
  assert "in ego4d.json" in said[0]
  assert "in fold 0" in said[1]
  assert [(e.recording_id, e.split) for e in entries] == [
    ("uid-a", "train"),
    ("uid-b", "validation"),
  ]
  opened = entries[0].open()
  assert opened.wearer_id == "video_uid-a"
  assert [t[0] for t in opened.texts] == [1.25]  # the others' window is bad
  assert opened.labels == [(0, 5, "sits down"), (5, 10, "head movement")]
  assert opened.dropped == {"bad window": 2}


def test_what_is_missing_or_damaged_is_named(tree, tmp_path):
  with pytest.raises(FileNotFoundError, match="neither it nor its v2 or v1"):
    ego4d.find(tmp_path)
  with pytest.raises(FileNotFoundError, match="uid-x"):
    ego4d.open_ego4d(tree / "imu" / "uid-x.csv", texts=[])
  write_imu(tmp_path / "a.csv", ["0,1,NULL,1,2,3,4,5,6"])
  with pytest.raises(ValueError, match=r"a\.csv: no row has a canonical"):
    ego4d.open_ego4d(tmp_path / "a.csv")
  write_imu(tmp_path / "a.csv", ["0,1,2,1,2,3,4,5,x"])
  with pytest.raises(ValueError, match=r"a\.csv: is not a table of numbers"):
    ego4d.open_ego4d(tmp_path / "a.csv")
  (tmp_path / "a.csv").write_text("Milliseconds,AcclX\n1,2\n")
  with pytest.raises(ValueError, match="lacks the columns canonical_time"):
    ego4d.open_ego4d(tmp_path / "a.csv")
  (tree / "annotations" / "narration.json").write_text('{"uid-a": [1')
  with pytest.raises(ValueError, match=r"narration\.json: is not a JSON"):
    ego4d.find(tree)
  (tree / "annotations" / "narration.json").write_text('{"uid-a": [1]}')
  with pytest.raises(ValueError, match=r"narration\.json: is not Ego4D's"):
    ego4d.find(tree)
  for video in ({}, {"video_uid": "uid-a", "duration_sec": "long"}):
    (tree / "ego4d.json").write_text(json.dumps({"videos": [video]}))
    with pytest.raises(ValueError, match=r"ego4d\.json: is not"):
      ego4d.find(tree)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
  return tmp_path_factory.mktemp("imu2clip")


@pytest.fixture
def lists(samples, checkout):
  """The real lists, unpacked once."""
  if not (checkout / "splits").exists():
    path = samples / "imu2clip_splits" / "imu2clip_splits.zip"
    with zipfile.ZipFile(path) as archive:
      archive.extractall(checkout)
  return checkout


def test_published_splits(lists):
  split = imu2clip_lists.read_splits(lists)
  counts = collections.Counter(split.values())
  assert counts == {"train": 1444, "validation": 161, "test": 688}
  assert len(split) == 2293


def test_published_labels(lists):
  split = imu2clip_lists.read_splits(lists)
  labels = imu2clip_lists.read_labels(lists)
  videos = collections.Counter(split[uid] for uid in labels)
  assert videos == {"train": 322, "validation": 85, "test": 241}
  windows = [(uid, *w) for uid, found in labels.items() for w in found]
  # 1552 + 760 + 1261 rows; 73 windows come twice, 4 of them with two labels.
  assert len(windows) == 1552 + 760 + 1261 - (73 - 4)
  assert {w[3] for w in windows} == {
    "head movement",
    "stands up",
    "sits down",
    "walking",
  }
  assert all(end - start == 5 for _, start, end, _ in windows)
  most = collections.Counter(w[3] for w in windows if split[w[0]] == "test")
  assert 600 <= most["head movement"] <= 605


@pytest.mark.parametrize(
  ("name", "want"),
  [
    ("training", (723, 500, 191, 138)),
    ("validation", (568, 129, 24, 39)),
    ("test", (605, 500, 92, 64)),
  ],
)
def test_published_class_counts(lists, name, want):
  path = lists / "splits" / f"dataset_motion_narr_2.5_{name}_0.csv"
  labels = [
    row["label"] for row in imu2clip_lists.parsing.rows(path, ["label"])
  ]
  order = ("head movement", "stands up", "sits down", "walking")
  assert tuple(labels.count(label) for label in order) == want


def test_published_columns(lists):
  columns = "window_start window_end video_uid narration_uid text Score-TFIDF"
  for name, more in (("", []), ("_training_0", ["OG_label"])):
    path = lists / "splits" / f"dataset_motion_narr_2.5{name}.csv"
    rows = imu2clip_lists.parsing.rows(path, ["label"])
    assert [*rows[0]] == [*columns.split(), "label", *more]
    for row in rows:
      assert int(row["window_end"]) - int(row["window_start"]) == 5


def test_published_bad_windows(lists):
  folder = lists / "dataset" / "ego4d"
  narrow = imu2clip_lists.read_bad_windows(folder / "bad_imu_windows_2.5.json")
  wide = imu2clip_lists.read_bad_windows(folder / "bad_imu_windows_5.0.json")
  raw = json.loads((folder / "bad_imu_windows_2.5.json").read_text())
  assert (len(raw), len(narrow)) == (37_783, 26_081)
  assert {type(time) for _, *times in raw for time in times} == {int}
  floats = json.loads((folder / "bad_imu_windows_5.0.json").read_text())
  assert float in {type(time) for _, *times in floats for time in times}
  assert len(wide) == 35_320
  assert len({uid for uid, *_ in narrow}) == 1208
  assert len({uid for uid, *_ in wide}) == 1035
  assert {end - start for _, start, end in narrow | wide} == {5.0}
  # Integers in one file and floats in the other are the same windows here.
  assert len(narrow & wide) == 5205
  labels = imu2clip_lists.read_labels(lists)
  labelled = {(u, a, b) for u, found in labels.items() for a, b, _ in found}
  assert not labelled & narrow  # fold 0 is already filtered


def test_full_list_of_retrieved_windows(lists):
  path = lists / "splits" / "dataset_motion_narr_2.5.csv"
  rows = imu2clip_lists.parsing.rows(path, ["label", "video_uid"])
  assert len(rows) == 6397
  assert len({row["video_uid"] for row in rows}) == 491
  counts = collections.Counter(row["label"] for row in rows)
  assert len(counts) == 9
  assert counts["looks around"] == 1564
  assert counts["jumping"] == 12
  windows = {
    (r["video_uid"], float(r["window_start"]), float(r["window_end"]))
    for r in rows
  }
  assert len(windows) == 6397 - 1118
  bad = imu2clip_lists.read_bad_windows(
    lists / "dataset" / "ego4d" / "bad_imu_windows_2.5.json"
  )
  assert len(windows & bad) == 406


def test_damaged_lists_are_named(tmp_path):
  path = tmp_path / "bad.json"
  for text in ('{"a": 1}', '[["uid", 1]]', '[["uid", 1, "x"]]', "[1]", "["):
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json"):
      imu2clip_lists.read_bad_windows(path)
  with pytest.raises(FileNotFoundError):
    imu2clip_lists.read_splits(tmp_path)


def test_a_small_tree_is_built(tree, tmp_path):
  for uid in ("uid-a", "uid-b", "uid-c"):
    write_imu(tree / "imu" / f"{uid}.csv", imu_rows(seconds=120.0, rate_hz=50))
  dataset = pathlib.Path(__file__).parents[1] / "datasets" / "ego4d_imu"
  summary = build.build(
    dataset,
    tree.parent,
    tmp_path / "data",
    workers=0,
    window_options={"rate_hz": 50.0, "text_cleaning": "official"},
  )
  assert sum(summary["splits"].values()) == 4
  records = [
    record
    for split in summary["splits"]
    for record in builder.open_windows(tmp_path / "data", split)
  ]
  said = {r["window_id"]: r["texts"] for r in records}
  # 1.25 s is clamped to the start; a window holds all texts that overlap it.
  assert said["uid-a@0"] == ["c c looks around"]
  assert said["uid-a@5000"] == ["picks a cup", "lifts the cup"]
  assert said["uid-c@98200"] == ["opens a something"]
