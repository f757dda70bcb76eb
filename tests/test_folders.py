"""Walking a folder of recordings: links are followed, once."""

import pytest

from imu2clip_jax.recordings import aria, classyglass, folders, gopro


def write(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.touch()


def names(root, *whole):
  return [
    path.relative_to(root).as_posix() for path in folders.walk(root, *whole)
  ]


def test_files_come_sorted_and_once(tmp_path):
  root, disk = tmp_path / "root", tmp_path / "disk"
  for path in (root / "bo/2.raw", root / "a.raw", disk / "deep/1.raw"):
    write(path)
  (root / "ann").symlink_to(disk)
  # A second way to folders that were entered, one of them before its own name.
  (root / "able").symlink_to(root / "bo")
  (root / "zoe").symlink_to(disk / "deep")
  assert names(root) == ["a.raw", "ann/deep/1.raw", "bo/2.raw"]
  assert folders.walk(tmp_path / "nowhere") == []


def test_a_link_back_up_ends(tmp_path):
  write(tmp_path / "ann/1.raw")
  (tmp_path / "ann/up").symlink_to(tmp_path)
  assert names(tmp_path) == ["ann/1.raw"]


def test_a_whole_folder_stands_for_what_lies_in_it(tmp_path):
  for name in ("walk/take/1.raw", "walk/take/more/2.raw", "walk/3.raw"):
    write(tmp_path / name)
  assert names(tmp_path, lambda folder: folder.name == "take") == [
    "walk/3.raw",
    "walk/take",
  ]


def find_glasses(root):
  return classyglass.find(root, test_wearers=[], validation_wearers=[])


GLASSES = "_jins_2020-10-24T12.12.34.874_AB12_Accelerometer_100Hz_1.0.csv"


@pytest.mark.parametrize(
  ("find", "files"),
  [
    (gopro.find, ("GX010001.MP4", "GX010001.MP4")),
    (aria.find, ("1/recording.vrs", "1/recording.vrs")),
    (
      find_glasses,
      (f"Dataset_1B/User25/312{GLASSES}", f"Dataset_1B/User26/326{GLASSES}"),
    ),
  ],
)
def test_readers_find_a_wearer_on_another_disk(tmp_path, find, files):
  root, disk = tmp_path / "raw", tmp_path / "disk"
  write(root / "ann" / files[0])
  write(disk / files[1])
  (root / "bo").symlink_to(disk)
  assert len({entry.wearer_id for entry in find(root)}) == 2
