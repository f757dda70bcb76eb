"""ClassyGlass: both forms, the data sheets' rules and the published counts."""

import collections
import pickle
import zipfile

import numpy as np
import pytest
from scipy import signal

from imu2clip_jax.data import windows
from imu2clip_jax.recordings import classyglass, opening, parsing

OPTIONS = windows.Options(rate_hz=50.0)


def write_npz(path, users, labels, rows=1200, **changes):
  """Every user does every labelled activity once, in the array form."""
  pairs = [(u, a, name) for u in users for a, name in enumerate(labels)]
  count = len(pairs)
  rng = np.random.default_rng(0)
  total = rows * count
  arrays = {
    "accl_i16": (rng.normal(size=(total, 3)) * 20).astype(np.int16)
    + np.array([0, 1000, 0], np.int16),
    "accl_lsb_g": np.float64(0.001),
    "gyro_i16": np.full((total, 3), 20, np.int16),
    "gyro_lsb_dps": np.float64(0.05),
    "rate_hz": np.float64(100),
    "rec_start": np.arange(count) * rows,
    "rec_length": np.full(count, rows),
    "rec_user": np.array([u for u, _, _ in pairs], np.int16),
    "rec_exp": np.arange(count).astype(np.int16),
    "rec_label": np.array([name for _, _, name in pairs]),
  } | changes
  np.savez_compressed(
    path, **{k: v for k, v in arrays.items() if v is not None}
  )


@pytest.fixture
def arrays(tmp_path):
  write_npz(tmp_path / "glasses_A.npz", range(1, 7), ["walking", "running"])
  write_npz(
    tmp_path / "glasses_B.npz", range(20, 25), ["walking", "running", "reading"]
  )
  return tmp_path


# The array form


def test_a_recording_is_one_activity_in_si_units(arrays):
  entries = classyglass.find(arrays, test_wearers=[24])
  recording = pickle.loads(pickle.dumps(entries[0])).open()
  assert recording.recording_id == "glasses_A_user01_exp000"
  assert recording.wearer_id == "1"
  assert recording.imu.frame == "device"
  np.testing.assert_allclose(recording.imu.accel_t_s, np.arange(1200) / 100)
  assert np.median(recording.imu.accel[:, 1]) == pytest.approx(
    9.80665, rel=0.01
  )
  np.testing.assert_allclose(recording.imu.gyro, np.radians(1.0))
  assert recording.labels == recording.texts == [(0.0, 11.99, "walking")]


def test_classes_and_wearers_come_from_the_files(arrays):
  common = classyglass.find(arrays, test_wearers=[24, "6"])
  assert len(common) == 6 * 2 + 5 * 2
  all_ = classyglass.find(arrays, classes="all", test_wearers=[24])
  assert {e.wearer_id for e in all_} == {"20", "21", "22", "23", "24"}
  assert len(all_) == 5 * 3


def test_splits_do_not_share_wearers(arrays):
  entries = classyglass.find(arrays, test_wearers=[5, 24])
  wearers = collections.defaultdict(set)
  for entry in entries:
    wearers[entry.split].add(entry.wearer_id)
  assert wearers["test"] == {"5", "24"}
  assert wearers["validation"] == {"6"}  # the fifth of the nine others
  chosen = classyglass.find(arrays, test_wearers=[5], validation_wearers=[1, 2])
  held = {e.wearer_id for e in chosen if e.split == "validation"}
  assert held == {"1", "2"}
  none = classyglass.find(arrays, test_wearers=[5], validation_wearers=[])
  assert {e.split for e in none} == {"train", "test"}


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"test_wearers": [99]}, "no wearer 99; the wearers are 1, 2,"),
    ({"test_wearers": ["bo"]}, "no wearer bo; the wearers are 1, 2,"),
    ({"test_wearers": [1], "validation_wearers": [1]}, "wearer 1 is in test"),
    ({"classes": "most", "test_wearers": [1]}, "'most'"),
    ({"test_wearers": [*range(1, 7), *range(20, 25)]}, "left to train"),
  ],
)
def test_mistakes_in_options(arrays, options, message):
  with pytest.raises(ValueError, match=message):
    classyglass.find(arrays, **options)


def test_default_test_wearers_must_be_there(tmp_path):
  write_npz(tmp_path / "a.npz", [1, 2, 3], ["walking"])
  with pytest.raises(ValueError, match="none of the default test wearers"):
    classyglass.find(tmp_path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rec_label": None}, "lacks the arrays rec_label"),
    ({"rec_start": np.arange(4) * 1201}, "contradict"),
    ({"rec_user": np.arange(3)}, "contradict"),
    ({"rate_hz": np.ones(2)}, "contradict"),
    ({"rec_user": np.ones(4)}, "contradict"),
    ({"rec_label": np.arange(4)}, "contradict"),
    ({"gyro_i16": np.ones((9, 3))}, "contradict"),
    ({"rec_label": np.array([{}] * 4)}, "not a usable npz"),
  ],
)
def test_damaged_arrays_are_named(tmp_path, changes, message):
  write_npz(tmp_path / "a.npz", [1, 2], ["walking", "running"], **changes)
  with pytest.raises(ValueError, match=rf"a\.npz.*{message}"):
    classyglass.find(tmp_path, test_wearers=[2])


def test_a_folder_of_neither_form_says_so(tmp_path):
  with pytest.raises(FileNotFoundError, match="neither"):
    classyglass.find(tmp_path)
  with pytest.raises(FileNotFoundError, match="gone"):
    classyglass.find(tmp_path / "gone")


# The upstream tree


def write_sensor(
  root,
  exp,
  sensor,
  *,
  start="2020-10-24T12.12.34.874",
  rate=100,
  first_ms=1_600_000_000_000,
  count=1200,
  unit=None,
):
  folder = root / "Dataset_1B" / "User26"
  folder.mkdir(parents=True, exist_ok=True)
  unit = unit or ("g" if sensor == "Accelerometer" else "deg/s")
  path = folder / (
    f"{exp}_MetaWear_{start}_EB942CED9472_{sensor}_{rate}.000Hz_1.5.1.csv"
  )
  value = 1.0 if sensor == "Accelerometer" else 90.0
  lines = [
    "epoch (ms),time (-13:00),elapsed (s),"
    f"x-axis ({unit}),y-axis ({unit}),z-axis ({unit})"
  ]
  for i in range(count):
    lines.append(
      f"{first_ms + i * 1000 // rate},2020-10-24T12:12:34.874,"
      f"{i / rate:.3f},0.0,{-value},0.0"
    )
  path.write_text("\n".join(lines) + "\n")
  return path  # fmt: skip


def test_two_clocks_meet_on_the_epoch(tmp_path):
  accel = write_sensor(tmp_path, 326, "Accelerometer")
  write_sensor(tmp_path, 326, "Gyroscope", rate=25, first_ms=1_600_000_000_080,
               count=300)  # fmt: skip
  recording = opening.open_recording(accel)
  assert recording.recording_id == "1B_user26_exp326"
  assert recording.labels[0][2] == "reading a book"
  sensors = recording.imu
  assert (sensors.accel_t_s[0], sensors.gyro_t_s[0]) == (0.0, 0.08)
  assert np.diff(sensors.gyro_t_s).mean() == pytest.approx(0.04)
  np.testing.assert_allclose(sensors.accel[:, 1], -9.80665)
  np.testing.assert_allclose(sensors.gyro[:, 1], -np.pi / 2)


def test_missing_sensor_and_stray_file(tmp_path):
  write_sensor(tmp_path, 326, "Accelerometer")
  write_sensor(tmp_path, 326, "Gyroscope")
  write_sensor(tmp_path, 326, "Accelerometer", count=9,
               start="2020-10-24T11.00.00.000")  # fmt: skip
  write_sensor(tmp_path, 327, "Gyroscope")
  entries = classyglass.find(tmp_path, test_wearers=[], validation_wearers=[])
  assert [e.recording_id[-3:] for e in entries] == ["326", "327"]
  both, one = (e.open() for e in entries)
  assert len(both.imu.accel) == 1200
  assert one.imu.accel.shape == (0, 3)
  cut = windows.cut_recording(one, OPTIONS)
  assert [r["sensor_mask"].tolist() for r in cut.records] == [[False, True]] * 2


def test_units_come_from_the_header(tmp_path):
  write_sensor(tmp_path, 326, "Gyroscope", unit="rad/s")
  (entry,) = classyglass.find(tmp_path, test_wearers=[], validation_wearers=[])
  with pytest.raises(ValueError, match=r"x-axis \(g\)"):
    entry.open()


# Real recordings


def test_every_activity_follows_from_its_number(samples):
  folder = samples / "classyglass"
  for group, count in (("1A", 129), ("1B", 210)):
    with np.load(folder / f"classyglass_{group}.npz") as stored:
      users, exps = stored["rec_user"].tolist(), stored["rec_exp"].tolist()
      labels = stored["rec_label"].tolist()
    assert len(users) == count
    for user, exp, label in zip(users, exps, labels, strict=True):
      number = classyglass.activity(group, user, exp)
      assert classyglass.ACTIVITIES[number - 1] == label


def test_published_splits(samples):
  wearers = collections.defaultdict(set)
  for classes, train in (
    ("common", {*range(1, 9), *range(13, 23)}),
    ("all", {*range(13, 23)}),
  ):
    wearers.clear()
    entries = classyglass.find(samples / "classyglass", classes=classes)
    for entry in entries:
      wearers[entry.split].add(int(entry.wearer_id))
    assert wearers["train"] | wearers["validation"] == train
    assert wearers["test"] == set(classyglass.TEST_WEARERS[classes])
    assert wearers["validation"]


def test_window_counts_of_the_readme(samples):
  """2,907 windows in 1A, 5,840 in 1B, from the rows; every tenth is cut."""
  counts = collections.Counter()
  for group in ("1A", "1B"):
    with np.load(
      samples / "classyglass" / f"classyglass_{group}.npz"
    ) as stored:
      counts[group] = int((stored["rec_length"] // 500).sum())
  assert counts == {"1A": 2907, "1B": 5840}
  for entry in classyglass.find(samples / "classyglass")[::20]:
    recording = entry.open()
    cut = windows.cut_recording(recording, OPTIONS)
    assert len(cut.records) == len(recording.imu.accel) // 500
    assert not cut.warnings
    assert {r["label"] for r in cut.records} == {recording.labels[0][2]}
    assert cut.records[0]["texts"] == [recording.labels[0][2]]


@pytest.mark.parametrize(
  ("group", "users", "activities", "recordings", "hours"),
  [("1A", range(1, 13), 11, 129, 4.1), ("1B", range(13, 28), 15, 210, 8.2)],
)
def test_arrays_of_the_readme(
  samples, group, users, activities, recordings, hours
):
  path = samples / "classyglass" / f"classyglass_{group}.npz"
  with np.load(path) as stored:
    rows = stored["rec_length"]
    assert len(rows) == recordings
    assert set(stored["rec_user"].tolist()) == set(users)
    assert set(stored["rec_activity"].tolist()) == {*range(1, activities + 1)}
    assert len(set(stored["rec_label"].tolist())) == activities
    assert rows.sum() / 100 / 3600 == pytest.approx(hours, abs=0.05)
    assert rows.mean() / 100 == pytest.approx(120, rel=0.2)  # two minutes
    assert stored["accl_lsb_g"] == 0.001
    assert stored["gyro_lsb_dps"] == 0.05
    assert stored["rate_hz"] == 100
    for name in ("accl_i16", "gyro_i16"):
      assert stored[name].shape == (rows.sum(), 3)
    exps = stored["rec_exp"].tolist()
    assert not {173, 325, 327} & set(exps)  # one sensor is missing
    assert exps.count(326) == (group == "1B")
    table = parsing.rows(path.with_name(f"{path.stem}_recordings.csv"), [])
    assert len(table) == recordings


def test_original_files_of_the_readme(samples):
  path = (
    samples / "classyglass" / "classyglass_original_csv_users_1_10_15_22.zip"
  )
  starts_ms, users = collections.defaultdict(dict), set()
  with zipfile.ZipFile(path) as archive:
    for name in archive.namelist():
      group, user, file = name.split("/")
      users.add((group, user))
      exp = int(file.split("_")[0])
      with archive.open(name) as lines:
        unit = "g" if "Accel" in file else "deg/s"
        assert f"x-axis ({unit})" in lines.readline().decode()
        starts_ms[exp][unit] = int(lines.readline().split(b",")[0])
  assert users == {
    ("Dataset_1A", "User1"),
    ("Dataset_1A", "User10"),
    ("Dataset_1B", "User15"),
    ("Dataset_1B", "User22"),
  }
  assert 274 not in starts_ms
  assert list(starts_ms[173]) == ["g"]
  late = [abs(s["g"] - s["deg/s"]) for s in starts_ms.values() if len(s) == 2]
  assert 80 < max(late) <= 100


def turning(recordings):
  """Yield (label, angular rate [N] at 100 Hz) of what has a gyroscope."""
  for entry in recordings:
    recording = entry.open()
    gyro = recording.imu.gyro
    if np.isfinite(gyro).all() and len(gyro):
      yield recording.labels[0][2], np.linalg.norm(gyro, axis=1)


def test_labels_hold_for_whole_recordings(samples):
  """As the samples' README warns: stands 5 to 12 s apart, restless starts."""
  apart_s, restless = [], collections.defaultdict(list)
  second = np.hanning(200) / np.hanning(200).sum()
  for label, rate in turning(classyglass.find(samples / "classyglass")):
    restless[label].append(rate[:500].mean() / rate[500:].mean())
    if label == "standing up from sitting":
      slow = np.convolve(rate, second, "same")
      least = 0.3 * np.percentile(slow, 90)
      moves, _ = signal.find_peaks(slow, prominence=least, distance=150)
      apart_s.append(len(rate) / 100 / len(moves))
  assert len(apart_s) > 20
  # Peaks of the turning head, a rougher look than the README's.
  assert 5 < np.median(apart_s) < 12
  assert np.mean((np.array(apart_s) > 4) & (np.array(apart_s) < 12)) > 0.9
  still = [x for a in classyglass.ACTIVITIES[:4] for x in restless[a]]
  lively = [x for a in classyglass.ACTIVITIES[8:11] for x in restless[a]]
  assert 1.1 < np.median(still) < 2
  assert 0.7 < np.median(lively) < 1


@pytest.mark.slow
def test_all_windows_are_cut(samples):
  counts = collections.Counter()
  for classes in ("common", "all"):
    for entry in classyglass.find(samples / "classyglass", classes=classes):
      group = entry.recording_id[:2]
      if (group == "1A") == (classes == "common"):
        cut = windows.cut_recording(entry.open(), OPTIONS)
        counts[group] += len(cut.records)
  assert counts == {"1A": 2907, "1B": 5840}


@pytest.fixture(scope="module")
def tree(samples, tmp_path_factory):
  """The untouched files of a few irregular recordings."""
  folder = tmp_path_factory.mktemp("tree")
  source = (
    samples / "classyglass" / ("classyglass_original_csv_users_1_10_15_22.zip")
  )
  with zipfile.ZipFile(source) as archive:
    names = archive.namelist()
    for exp in ("1", "109", "173", "268", "273"):
      for name in names:
        if name.rsplit("/", 1)[-1].startswith(f"{exp}_"):
          archive.extract(name, folder)
  return folder


def open_all(tree):
  paths = sorted(tree.rglob("*_Accelerometer_*.csv"))
  recordings = [opening.open_recording(path) for path in paths]
  return {r.recording_id: r for r in recordings}


def test_upstream_files_agree_with_the_arrays(samples, tree):
  stored = {
    e.recording_id: e for e in classyglass.find(samples / "classyglass")
  }
  upstream = open_all(tree)
  assert len(upstream) == 5
  # The gyroscope of experiment 173 is missing, the arrays leave it out.
  assert set(upstream) - set(stored) == {"1B_user15_exp173"}
  for name in set(upstream) & set(stored):
    got = windows.cut_recording(upstream[name], OPTIONS)
    want = windows.cut_recording(stored[name].open(), OPTIONS)
    assert len(got.records) == len(want.records)
    a, b = got.records[3], want.records[3]
    assert a["label"] == b["label"]
    # The arrays are rounded, and start with the later sensor.
    np.testing.assert_allclose(
      a["imu"].mean(0), b["imu"].mean(0), atol=0.05 * (1 + b["imu"].std())
    )


def test_irregular_rates_are_read_as_they_are(tree):
  upstream = open_all(tree)
  step = lambda t: float(np.median(np.diff(t)))  # noqa: E731
  slow_accel = upstream["1B_user22_exp268"].imu
  assert step(slow_accel.accel_t_s) == pytest.approx(0.02)
  assert step(slow_accel.gyro_t_s) == pytest.approx(0.01)
  slow_gyro = upstream["1B_user22_exp273"].imu
  assert step(slow_gyro.gyro_t_s) == pytest.approx(0.04)
  assert len(upstream["1B_user15_exp173"].imu.gyro) == 0
  assert upstream["1A_user01_exp001"].imu.gyro_t_s[0] == pytest.approx(0.006)


def test_sensors_hang_either_way_up(samples):
  """Mixed within both sets."""
  ups = collections.defaultdict(set)
  for entry in classyglass.find(samples / "classyglass")[::15]:
    up = np.sign(np.median(entry.open().imu.accel[:, 1]))
    ups[entry.recording_id[:2]].add(int(up))
  assert ups == {"1A": {-1, 1}, "1B": {-1, 1}}


def test_hours_of_both_sets(samples):
  hours = 0
  for path in (samples / "classyglass").glob("*.npz"):
    with np.load(path) as stored:
      hours += stored["rec_length"].sum() / stored["rate_hz"] / 3600
  assert hours == pytest.approx(12.4, abs=0.05)


# The head frame


def test_the_head_frame_turns_all_recordings_of_a_wearer(tmp_path):
  rows = 1200
  upside_down = np.tile(np.array([[0, -1000, 0]], np.int16), (rows, 1))
  bowed = np.tile(np.array([[600, -800, 0]], np.int16), (rows, 1))
  accel = np.concatenate([upside_down, upside_down, bowed] * 2)
  # Nodding up lifts the temple: here the sensor's z is left, its x back.
  phase = 2 * np.pi * np.arange(len(accel)) / 100
  gyro = np.zeros((len(accel), 3))
  gyro[:, 2] = 100 - 100 * np.cos(phase)
  accel[:, 1] -= np.round(20 * np.sin(phase)).astype(np.int16)
  write_npz(
    tmp_path / "a.npz",
    [1, 2],
    ["walking", "running", "reading"],
    accl_i16=accel,
    gyro_i16=gyro.astype(np.int16),
  )
  entries = classyglass.find(tmp_path, test_wearers=[2], frame="head")
  walking, _, reading = [pickle.loads(pickle.dumps(e)).open() for e in entries][
    :3
  ]
  assert walking.imu.frame == "head"
  g = 9.80665
  np.testing.assert_allclose(walking.imu.accel[0], [0, 0, g], atol=1e-6)
  # Who reads bows: up is towards the back of the head.
  np.testing.assert_allclose(
    reading.imu.accel[0], [0, 0.6 * g, 0.8 * g], atol=1e-6
  )
  plain = classyglass.find(tmp_path, test_wearers=[2])[2].open()
  nodding_up = plain.imu.gyro[:, 2]
  np.testing.assert_allclose(reading.imu.gyro[:, 0], -nodding_up, atol=1e-6)


def test_a_broken_recording_is_left_to_the_build(tmp_path):
  folder = tmp_path / "Dataset_1A" / "User1"
  folder.mkdir(parents=True)
  device = "MetaWear_2023-01-01T10.00.00.000_AABBCC"
  name = f"1_{device}_Accelerometer_100.000Hz_1.5.0.csv"
  (folder / name).write_text("nonsense\n")
  (folder.parent / "User2").mkdir()
  (folder.parent / "User2" / name.replace("1_", "12_", 1)).write_text("bad\n")
  entries = classyglass.find(
    tmp_path, test_wearers=[1], validation_wearers=[], frame="head"
  )
  for entry in entries:
    with pytest.raises(ValueError, match="expected columns"):
      entry.open()


def test_an_unknown_frame_is_refused(arrays):
  with pytest.raises(ValueError, match="frame is 'eye', expected 'device'"):
    classyglass.find(arrays, test_wearers=[24], frame="eye")
