"""Bring your own data: every layout, unit and plausible mistake."""

import json
import pathlib
import pickle

import av
import numpy as np
import pytest

from imu2clip_jax.data import windows
from imu2clip_jax.recordings import csv_folder, csv_layout, opening

ROOT = pathlib.Path(__file__).parents[1]
T = np.arange(300) / 50
ACCEL = np.c_[np.sin(T), np.cos(T), np.full(300, 9.8)]
GYRO = np.c_[T / 10, -T / 10, np.ones(300)]
HEADER = "t_s,ax,ay,az,gx,gy,gz"


def write_csv(path, columns, header=HEADER, delimiter=","):
  rows = "\n".join(
    delimiter.join("" if v is None else str(v) for v in row)
    for row in zip(*columns, strict=True)
  )
  path.write_text(f"{header}\n{rows}\n")


def si_columns(t=T):
  return [t.tolist(), *ACCEL.T.tolist(), *GYRO.T.tolist()]


@pytest.fixture
def folder(tmp_path):
  """Three wearers, one file each, nothing but the two needed tables."""
  for name in ("a", "b", "c"):
    write_csv(tmp_path / f"{name}.csv", si_columns())
  (tmp_path / "recordings.csv").write_text(
    "file,wearer,split\na.csv,ann,train\nb.csv,bo,validation\nc.csv,cy,test\n"
  )
  return tmp_path


def test_a_plain_folder_is_read_as_stored(folder):
  entries = csv_folder.find(folder)
  assert [(e.recording_id, e.wearer_id, e.split) for e in entries] == [
    ("a", "ann", "train"), ("b", "bo", "validation"), ("c", "cy", "test")
  ]  # fmt: skip
  recording = pickle.loads(pickle.dumps(entries[0])).open()
  np.testing.assert_array_equal(recording.imu.accel_t_s, T)
  np.testing.assert_array_equal(recording.imu.accel, ACCEL)
  np.testing.assert_array_equal(recording.imu.gyro, GYRO)
  assert recording.imu.frame == "device"
  assert recording.video is None
  assert recording.texts == recording.labels == []


@pytest.mark.parametrize(
  ("unit", "factor"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)]
)
def test_units_and_names_come_from_dataset_json(folder, unit, factor):
  write_csv(
    folder / "a.csv",
    [
      ((1.6e9 + T) * factor).tolist(),
      *(GYRO * 180 / np.pi).T.tolist(),
      *(ACCEL / 9.80665).T.tolist(),
      ["x"] * 300,
    ],
    header="stamp;wx;wy;wz;X;Y;Z;note",
    delimiter=";",
  )
  (folder / "dataset.json").write_text(
    json.dumps(
      {
        "time": {"column": "stamp", "unit": unit},
        "accel": {"columns": ["X", "Y", "Z"], "unit": "g"},
        "gyro": {"columns": ["wx", "wy", "wz"], "unit": "deg/s"},
        "frame": "head",
        "delimiter": ";",
      }
    )
  )
  sensors = csv_folder.find(folder)[0].open().imu
  np.testing.assert_allclose(sensors.accel_t_s, T, atol=1e-6)
  np.testing.assert_allclose(sensors.accel, ACCEL)
  np.testing.assert_allclose(sensors.gyro, GYRO)
  assert sensors.frame == "head"


def test_files_without_times_have_a_rate(folder):
  write_csv(folder / "a.csv", si_columns()[1:4], header="x,y,z")
  (folder / "dataset.json").write_text(
    json.dumps(
      {
        "time": {"unit": "none", "rate_hz": 50},
        "accel": {"columns": ["x", "y", "z"], "unit": "m/s2"},
      }
    )
  )
  sensors = csv_folder.find(folder)[0].open().imu
  np.testing.assert_allclose(sensors.accel_t_s, T)
  assert sensors.gyro.shape == (0, 3)


def test_empty_cells_are_nan_and_kept(folder):
  columns = si_columns()
  columns[1][7] = None
  columns[0][9] = "NULL"
  write_csv(folder / "a.csv", columns)
  sensors = csv_folder.find(folder)[0].open().imu
  assert np.isnan(sensors.accel[7, 0])
  assert np.isnan(sensors.gyro_t_s[9])
  assert len(sensors.accel) == 300


def test_npz_with_two_clocks(folder):
  np.savez(folder / "a.npz", ta=T, tg=T[:200] + 0.01, a=ACCEL, g=GYRO[:200])
  (folder / "recordings.csv").write_text("file,wearer,split\na.npz,ann,train\n")
  layout = {
    sensor: {
      "columns": [sensor[0]],
      "unit": unit,
      "time": {"column": f"t{sensor[0]}", "unit": "s"},
    }
    for sensor, unit in (("accel", "m/s2"), ("gyro", "rad/s"))
  }
  (folder / "dataset.json").write_text(json.dumps(layout))
  sensors = csv_folder.find(folder)[0].open().imu
  np.testing.assert_allclose(sensors.gyro_t_s, T[:200] + 0.01)
  np.testing.assert_array_equal(sensors.accel, ACCEL)


def test_npz_by_default_holds_three_arrays(tmp_path):
  np.savez(tmp_path / "walk.npz", t_s=T + 3, accel=ACCEL, gyro=GYRO)
  recording = opening.open_recording(tmp_path / "walk.npz")
  np.testing.assert_allclose(recording.imu.accel_t_s, T)
  assert recording.recording_id == "walk"


# Labels, texts, splits


def test_labels_of_a_file(folder):
  (folder / "recordings.csv").write_text(
    "file,wearer,label\na.csv,ann,walking\nb.csv,bo,\nc.csv,cy,\n"
  )
  entries = csv_folder.find(folder, labels_as_texts=True)
  recording = entries[0].open()
  assert recording.labels == [(0.0, T[-1], "walking")]
  assert recording.texts == recording.labels
  assert entries[1].open().labels == []


def test_labels_and_texts_of_segments_share_the_files_clock(folder):
  write_csv(folder / "a.csv", si_columns(T + 100))
  (folder / "segments.csv").write_text(
    'file,start_s,end_s,label\na.csv,101,103,"sits, reads"\nb.csv,0,1,runs\n'
  )
  (folder / "texts.csv").write_text(
    "file,start_s,end_s,text\na.csv,102.5,,#C C turns\na.csv,104,105,gets up\n"
  )
  recording = csv_folder.find(folder)[0].open()
  assert recording.labels == [(1.0, 3.0, "sits, reads")]
  assert recording.texts == [(2.5, 2.5, "#C C turns"), (4.0, 5.0, "gets up")]
  cut = windows.cut_recording(
    recording, windows.Options(window_s=2.0, stride_s=2.0, rate_hz=50.0)
  )
  assert [r["label"] for r in cut.records] == ["sits, reads", "sits, reads", ""]
  assert [r["texts"] for r in cut.records] == [[], ["turns"], ["gets up"]]
  assert recording.told_by_imu


def test_labels_of_samples_become_segments(folder):
  names = ["0"] * 100 + ["walks"] * 150 + ["sits"] * 50
  write_csv(folder / "a.csv", [*si_columns(), names], header=HEADER + ",what")
  (folder / "dataset.json").write_text(
    json.dumps(
      {
        "time": {"column": "t_s", "unit": "s"},
        "accel": {"columns": ["ax", "ay", "az"], "unit": "m/s2"},
        "gyro": {"columns": ["gx", "gy", "gz"], "unit": "rad/s"},
        "label_column": "what",
        "no_label": [0],
      }
    )
  )
  labels = csv_folder.find(folder)[0].open().labels
  assert labels == [(2.0, 5.0, "walks"), (5.0, T[-1], "sits")]


@pytest.mark.parametrize("lost", [0, 40, 150, 299])
def test_a_label_outlives_a_sample_without_a_time(folder, lost):
  names = ["walk"] * 150 + ["sit"] * 150
  times = [None if i == lost else t for i, t in enumerate(T.tolist())]
  columns = [times, *si_columns()[1:], names]
  write_csv(folder / "a.csv", columns, HEADER + ",activity")
  sensors = {
    "accel": {"columns": ["ax", "ay", "az"], "unit": "m/s2"},
    "gyro": {"columns": ["gx", "gy", "gz"], "unit": "rad/s"},
  }
  layout = {"time": {"column": "t_s", "unit": "s"}, "label_column": "activity"}
  (folder / "dataset.json").write_text(json.dumps(layout | sensors))
  found = csv_folder.read(
    folder / "a.csv",
    csv_layout.load(folder),
    recording_id="a",
    wearer_id="ann",
  )
  assert [label for *_, label in found.labels] == ["walk", "sit"]
  spans = np.array([span[:2] for span in found.labels])
  np.testing.assert_allclose(spans, [[0, 3], [3, 5.98]], atol=0.041)


def test_splits_by_option_by_column_or_dealt(folder):
  split = lambda **kw: [e.split for e in csv_folder.find(folder, **kw)]  # noqa: E731
  assert split(test_wearers=["ann"]) == ["test", "train", "train"]
  assert split(test_wearers=["ann"], validation_wearers=["bo"]) == [
    "test", "validation", "train"
  ]  # fmt: skip
  (folder / "recordings.csv").write_text(
    "file,wearer\na.csv,ann\nb.csv,bo\nc.csv,cy\n"
  )
  assert sorted(split()) == ["test", "train", "validation"]
  (folder / "recordings.csv").write_text(
    "file,wearer,split\na.csv,ann,none\nb.csv,bo,train\n"
  )
  assert split() == ["train"]


# One file by itself


def test_open_recording_takes_what_lies_beside(folder):
  (folder / "texts.csv").write_text("file,start_s,text\na.csv,1,turns\n")
  recording = opening.open_recording(folder / "a.csv")
  assert recording.wearer_id == "ann"
  assert recording.texts == [(1.0, 1.0, "turns")]
  other = [(0.0, 1.0, "stands")]
  assert opening.open_recording(folder / "a.csv", texts=other).texts == other
  (folder / "more.csv").write_text("start_s,end_s,text\n2,,sits\n")
  recording = opening.open_recording(
    folder / "a.csv", texts=folder / "more.csv"
  )
  assert recording.texts == [(2.0, 2.0, "sits")]


@pytest.mark.parametrize(
  "said",
  ["flies", ("a", 7, "x"), (7, 5, "x"), (1, 2, 3), (1, float("nan"), "")],
)
def test_texts_without_times_are_named(folder, said):
  with pytest.raises(ValueError, match=r"texts hold .*, expected \(start_s"):
    opening.open_recording(folder / "a.csv", texts=[(0, 1, "walks"), said])


def test_a_file_in_a_folder_inside_is_known_to_the_tables(folder, monkeypatch):
  (folder / "monday").mkdir()
  (folder / "a.csv").rename(folder / "monday" / "a.csv")
  table = folder / "recordings.csv"
  table.write_text(table.read_text().replace("a.csv", "monday/a.csv"))
  (folder / "texts.csv").write_text(
    "file,start_s,end_s,text\nmonday/a.csv,2,,chops an onion\n"
  )
  monkeypatch.chdir(folder / "monday")
  for path in (folder / "monday" / "a.csv", "a.csv"):
    found = opening.open_recording(path)
    assert found.wearer_id == "ann"
    assert found.texts == [(2.0, 2.0, "chops an onion")]
  # One that no table lists is read by the folder's layout.
  write_csv(folder / "monday" / "new.csv", si_columns())
  assert opening.open_recording(folder / "monday" / "new.csv").texts == []


def test_unknown_and_missing_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="gone"):
    opening.open_recording(tmp_path / "gone.csv")
  (tmp_path / "notes.txt").write_text("hello")
  with pytest.raises(ValueError, match=r"notes.txt: no reader"):
    opening.open_recording(tmp_path / "notes.txt")


def write_movie(path):
  with av.open(str(path), "w") as movie:
    stream = movie.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 32
    for shade in range(30):
      image = np.full((32, 32, 3), 8 * shade, np.uint8)
      frame = av.VideoFrame.from_ndarray(image, format="rgb24")
      for packet in stream.encode(frame):
        movie.mux(packet)
    for packet in stream.encode():
      movie.mux(packet)


@pytest.mark.parametrize("with_video", [False, True])
def test_the_clock_starts_at_the_first_frame(folder, with_video):
  write_movie(folder / "a.mp4")
  start = ",a.mp4,1.5" if with_video else ",,"
  (folder / "recordings.csv").write_text(
    f"file,wearer,video,video_start_s\na.csv,ann{start}\n"
  )
  recording = csv_folder.find(folder)[0].open()
  assert recording.imu.accel_t_s[0] == (-1.5 if with_video else 0)
  if with_video:
    shade = recording.frames([2.0])[0].mean()
    assert shade == pytest.approx(8 * 20, abs=6)


def test_the_example_of_the_readme_is_complete(tmp_path):
  text = (ROOT / "datasets" / "csv_imu" / "README.md").read_text()
  blocks = [block.split("\n", 1)[1] for block in text.split("```")[1::2]]
  tree = next(b for b in blocks if b.startswith("FOLDER/"))
  (tmp_path / "monday").mkdir()
  for name, start in (
    ("recordings.csv", "file,wearer"),
    ("dataset.json", "{"),
    ("segments.csv", "file,start_s,end_s,label"),
    ("texts.csv", "file,start_s,end_s,text"),
  ):
    assert name in tree
    block = next(b for b in blocks if b.startswith(start))
    (tmp_path / name).write_text(block)
  t = np.arange(3000) / 50
  stamps = (1_700_000_000 + t) * 1000
  accel, gyro = np.tile([0.0, 0.0, 1.0], (3000, 1)), np.zeros((3000, 3))
  names = ["stamp", "acc_x", "acc_y", "acc_z", "rot_x", "rot_y", "rot_z"]
  columns = np.c_[stamps, accel, gyro]
  np.savetxt(
    tmp_path / "monday" / "ann.csv", columns, "%.3f", ",",
    header=",".join(names), comments="",
  )  # fmt: skip
  np.savez(
    tmp_path / "monday" / "bo.npz", **dict(zip(names, columns.T, strict=True))
  )
  (tmp_path / "monday" / "cy.npz").write_bytes(
    (tmp_path / "monday" / "bo.npz").read_bytes()
  )
  write_movie(tmp_path / "monday" / "ann.mp4")
  ann, bo, cy = csv_folder.find(tmp_path)
  # Every split that the training recipes ask for.
  assert [e.split for e in (ann, bo, cy)] == ["train", "validation", "test"]
  assert bo.open().imu.accel[0, 2] == pytest.approx(9.80665)
  recording = ann.open()
  assert recording.imu.accel_t_s[0] == -1.25  # before the first frame
  assert recording.labels == [(8.75, 41.25, "chopping")]
  assert recording.texts[0][2] == "chops an onion"


# Mistakes: one clear line each


def spoil(folder, file, text):
  (folder / file).write_text(text)


LAYOUT = {
  "time": {"column": "t_s", "unit": "s"},
  "accel": {"columns": ["ax", "ay", "az"], "unit": "m/s2"},
}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"accel": {"columns": ["ax"] * 2, "unit": "g"}}, "three columns"),
    ({"accel": {"columns": ["ax", "ay", "az"], "unit": "G"}}, "'G'"),
    ({"accel": {"columns": ["ax", "ay", "az"]}}, "unknown unit 'None'"),
    ({"time": {"column": "t_s", "unit": "min"}}, "'min'"),
    ({"time": {"unit": "none"}}, "rate_hz"),
    ({"time": {"unit": "none", "rate_hz": -5}}, "rate_hz"),
    ({"time": None}, "time must be an object"),
    ({"frame": "sideways"}, "'sideways'"),
    ({"acel": {}}, "unknown key 'acel'"),
    ({"delimiter": "tab"}, "not one character"),
    ({"label_column": 3}, "label_column"),
    ({"no_label": "0"}, "no_label"),
    ({"accel": {"columns": ["ax", "ay", "up"], "unit": "g"}}, "columns up"),
    ({"label_column": "what"}, "columns what"),
    ({"time": {"column": "t_s", "unit": "ms"}}, r"really in ms\?"),
    ({"time": {"column": "t_s", "unit": "us"}}, r"really in us\?"),
  ],
)
def test_mistakes_in_dataset_json(folder, change, message):
  spoil(folder, "dataset.json", json.dumps(LAYOUT | change))
  with pytest.raises(ValueError, match=message):
    csv_folder.find(folder)[0].open()


@pytest.mark.parametrize(
  ("file", "text", "message"),
  [
    ("dataset.json", "{", "dataset.json"),
    ("dataset.json", "[1]", "must be an object"),
    ("dataset.json", "{}", "neither accel nor gyro"),
    ("recordings.csv", "file\na.csv\n", "lacks the columns wearer"),
    ("recordings.csv", "file,wearer\n", "lists no recording"),
    ("recordings.csv", "", "lacks the columns"),
    (
      "recordings.csv",
      "file,wearer,split\na.csv,ann,train\nb.csv,bo,\n",
      "b.csv has no split",
    ),
    (
      "recordings.csv",
      "file,wearer,video_start_s\na.csv,ann,noon\n",
      "'noon', expected a number",
    ),
    ("segments.csv", "file,start_s,end_s\na.csv,0,1\n", "columns label"),
    (
      "segments.csv", "file,start_s,end_s,label\nz.csv,0,1,walks\n", "'z.csv'"
    ),
    (
      "segments.csv",
      "file,start_s,end_s,label\na.csv,5,1,walks\n",
      "before its start",
    ),
    ("texts.csv", "file,start_s,text\na.csv,later,walks\n", "'later'"),
    ("a.csv", "", "a.csv"),
    ("a.csv", "t_s,ax,ay,az\n0,1,2,3\n", "lacks the columns gx, gy, gz"),
    (
      "a.csv",
      HEADER + "\n0,1,2,3,4,5,high\n",
      r"a\.csv: .* column 'gz': .* 'high'",
    ),
    ("a.csv", "x," + HEADER + "\n7,0,1,2,3,4,?,6\n", "column 'gy': .* '\\?'"),
    ("a.csv", HEADER + "\n0,1,2,3,4,5,6\n1,2\n", "a.csv"),
    ("a.csv", HEADER + "\n", "no sample with a time"),
    ("a.csv", HEADER + "\nNaN,1,2,3,4,5,6\n", "no sample with a time"),
  ],
)  # fmt: skip
def test_mistakes_in_files(folder, file, text, message):
  spoil(folder, file, text)
  with pytest.raises(ValueError, match=message):
    csv_folder.find(folder)[0].open()


def test_missing_files(folder, tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no recordings\.csv"):
    csv_folder.find(tmp_path / "gone")
  spoil(folder, "recordings.csv", "file,wearer\nz.csv,ann\n")
  with pytest.raises(FileNotFoundError, match=r"names a file .*z\.csv"):
    csv_folder.find(folder)
  spoil(folder, "recordings.csv", "file,wearer,video\na.csv,ann,a.mp4\n")
  with pytest.raises(FileNotFoundError, match=r"names a video .*a\.mp4"):
    csv_folder.find(folder)
  with pytest.raises(ValueError, match="no wearer 'zoe'"):
    csv_folder.find(folder, test_wearers=["zoe"])


def test_labels_come_from_one_place(folder):
  spoil(folder, "recordings.csv", "file,wearer,label\na.csv,ann,walks\n")
  spoil(folder, "segments.csv", "file,start_s,end_s,label\na.csv,0,1,sits\n")
  with pytest.raises(ValueError, match="more than one"):
    csv_folder.find(folder)[0].open()


class Evil:
  def __reduce__(self):
    return (print, ("unpickled",))


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"t_s": T, "accel": ACCEL}, "lacks the arrays gyro"),
    ({"t_s": T, "accel": ACCEL.T, "gyro": GYRO}, r"accel .*\[3, 300\]"),
    ({"t_s": T[:9], "accel": ACCEL, "gyro": GYRO}, r"t_s must be .*\[300\]"),
    ({"t_s": T, "accel": ACCEL.astype(str), "gyro": GYRO}, "numbers"),
    ({"t_s": np.array([Evil()]), "accel": ACCEL, "gyro": GYRO}, "allow_pickle"),
  ],
)
def test_mistakes_in_npz(tmp_path, arrays, message, capsys):
  np.savez(tmp_path / "a.npz", **arrays)
  with pytest.raises(ValueError, match=message):
    opening.open_recording(tmp_path / "a.npz")
  assert "unpickled" not in capsys.readouterr().out


# Damage


def mutate(data, rng):
  data = bytearray(data)
  for _ in range(rng.integers(1, 9)):
    place = int(rng.integers(0, len(data)))
    kind = rng.integers(0, 4)
    if kind == 0:
      data[place] = rng.integers(0, 256)
    elif kind == 1:
      del data[place : place + int(rng.integers(1, 40))]
    elif kind == 2:
      data[place:place] = bytes(
        rng.integers(0, 256, rng.integers(1, 20)).tolist()
      )
    else:
      del data[max(place, 1) :]
    data = data or bytearray(b"x")
  return bytes(data)


def fuzz(tmp_path, kind, count):
  path = tmp_path / f"a.{kind}"
  if kind == "csv":
    write_csv(path, [c[:40] for c in si_columns()])
  else:
    np.savez_compressed(path, t_s=T[:40], accel=ACCEL[:40], gyro=GYRO[:40])
  whole, messages = path.read_bytes(), []
  rng = np.random.default_rng(0)
  for _ in range(count):
    path.write_bytes(mutate(whole, rng))
    try:
      recording = opening.open_recording(path)
    except ValueError as error:
      messages.append(str(error))
      continue
    assert len(recording.imu.accel) == len(recording.imu.accel_t_s)
  assert len(messages) > count / 10
  assert all(str(path) in message for message in messages)


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_damaged_files_are_refused_with_their_name(tmp_path, kind):
  fuzz(tmp_path, kind, 150)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_many_damaged_files_are_refused(tmp_path, kind):
  fuzz(tmp_path, kind, 2000)
