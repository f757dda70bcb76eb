"""Folders as users name them: each recording of a download is indexed once."""

import numpy as np
import pytest

from imu2clip_jax import index as index_lib
from imu2clip_jax import sources
from imu2clip_jax.data import windows
from imu2clip_jax.recordings import recording as recording_lib


class Encoder:
  """Embeds a window as its first samples."""

  def embed(self, imu, rate_hz, sensor_mask=None):
    x = np.asarray(imu)[:, :8, 2]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def opened(monkeypatch):
  """Paths that were opened; every recording is 10 s of standing still."""
  paths = []

  def open_recording(path, texts):
    assert texts == []  # Ego4D would read the narrations of all videos
    paths.append(path)
    name = path.stem.removesuffix("-accl").removesuffix("-gyro")
    t_s = np.arange(500) / 50
    rest = np.tile([0.0, 0.0, 9.8], (500, 1))
    sensors = recording_lib.Imu(t_s, rest, t_s, 0 * rest, "device")
    return recording_lib.Recording(name, "", sensors)

  monkeypatch.setattr(sources.opening, "open_recording", open_recording)
  return paths


def write(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()


def found(tmp_path, *paths):
  """Paths of the recordings that a search goes through, below `tmp_path`."""
  index = index_lib.Index(tmp_path / "index", "encoder", "teacher", 8)
  options = windows.Options(rate_hz=50.0, num_frames=0)
  segments = sources.index_all(index, Encoder(), list(map(str, paths)), options)
  names = [segment.about["recordings"][0]["path"] for segment in segments]
  return sorted(name.removeprefix(f"{tmp_path}/") for name in names)


def test_a_video_at_several_sizes_is_one_recording(tmp_path, opened):
  root = tmp_path / "v2"
  write(root, "imu/u.csv", "video_540ss/u.mp4", "full_scale/u.mp4")
  assert found(tmp_path, root) == ["v2/imu/u.csv"]
  assert len(opened) == 1
  video = root / "full_scale" / "u.mp4"
  assert len(found(tmp_path, video, root, root / "imu" / "u.csv")) == 1


def test_sensors_and_video_of_epic_are_one_recording(tmp_path, opened):
  root = tmp_path / "P01"
  write(root, "meta_data/P01_1-accl.csv", "meta_data/P01_1-gyro.csv")
  write(root, "videos/P01_1.MP4")
  assert found(tmp_path, root) == ["P01/meta_data/P01_1-accl.csv"]


def test_a_folder_of_vrs_is_searched_file_by_file(tmp_path, opened):
  write(tmp_path / "week", "monday.vrs", "tuesday.vrs")
  assert found(tmp_path, tmp_path / "week") == [
    "week/monday.vrs",
    "week/tuesday.vrs",
  ]


def test_a_sequence_is_opened_whole(tmp_path, opened):
  write(
    tmp_path / "all",
    "s1/recording_head/data/data.vrs",
    "s1/recording_head/data/motion.vrs",
    "s1/recording_lwrist/data/motion.vrs",
    "s1/narration/atomic_action.csv",
    "aea/recording.vrs",
    "aea/speech.csv",
  )
  assert found(tmp_path, tmp_path / "all") == ["all/aea", "all/s1"]
  assert found(tmp_path, tmp_path / "all" / "s1") == ["all/s1"]


def test_the_end_of_a_recording_is_searched(tmp_path, opened):
  options = windows.Options(stride_s=4.0, rate_hz=50.0, num_frames=0)
  recording = sources.opening.open_recording(tmp_path / "a.csv", texts=[])
  starts_s, embedded = sources.embed_recording(Encoder(), recording, options)
  assert starts_s.tolist() == [0.0, 4.0, 5.0]
  assert len(embedded) == 3


def test_what_tells_epics_clock_makes_a_recording_new(tmp_path, opened):
  sensor, film = "P01/meta_data/P01_1-accl.csv", "P01/videos/P01_1.MP4"
  write(tmp_path, sensor, "P01/meta_data/P01_1-gyro.csv")

  def times_opened(asked):
    found(tmp_path, tmp_path / asked)
    return len(opened)

  assert [times_opened(sensor), times_opened(sensor)] == [1, 1]
  write(tmp_path, film)
  assert times_opened(sensor) == 2
  write(tmp_path, "annotations/EPIC_100_train.csv")
  assert times_opened(sensor) == 2
  write(tmp_path, "annotations/EPIC_100_video_info.csv")
  assert [times_opened(sensor), times_opened(sensor)] == [3, 3]
  assert [times_opened(film), times_opened(film)] == [4, 4]
  (tmp_path / sensor).write_text("changed")
  assert times_opened(film) == 5
