"""Open one recording, whatever its source: the file's name tells the reader."""

import dataclasses
import math
import pathlib

from imu2clip_jax.recordings import (
  aria,
  classyglass,
  csv_folder,
  ego4d,
  epic_kitchens,
  gopro,
  nymeria,
  parsing,
)
from imu2clip_jax.recordings.recording import Recording
from imu2clip_jax.recordings.video import VideoFile

_VIDEOS = (".mp4", ".mov", ".360")


def open_recording(path, video=None, texts=None) -> Recording:
  """Open one recording.

  Args:
    path: its IMU file or, where the source's layout leads from one to the
      other, its video. A GoPro's `.mp4` or `.raw`; a `.vrs` or the folder of an
      Aria or Nymeria sequence; an Ego4D `.csv` (told by its header) or video;
      `VIDEO-accl.csv`, `VIDEO-gyro.csv` or the video of EPIC-KITCHENS; a `.csv`
      named as ClassyGlass names its files. Any other `.csv` or `.npz` is read
      as `csv_folder` says, with the tables that lie beside it.
    video: its video file, in place of what the source names; the IMU's zero is
      its first frame.
    texts: its narrations, in place of the source's own: a list of
      (start_s, end_s, text), or a CSV with columns start_s, end_s, text.

  Returns:
    Every sample as stored, in SI units, with video and texts on one clock.

  Raises:
    FileNotFoundError: `path`, `video` or `texts` does not exist.
    ValueError: no reader knows the file, or it is damaged; or a text is not
      (start_s, end_s, text), its end before its start.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"no file or folder {path}")
  if isinstance(texts, str | pathlib.Path):
    texts = parsing.texts(texts)
  texts = None if texts is None else _checked(texts)
  suffix = path.suffix.lower()
  if path.is_dir() or suffix == ".vrs":
    is_nymeria = nymeria.is_sequence(path)
    reader = nymeria.open_nymeria if is_nymeria else aria.open_aria
    return _with(reader(path), video, texts)
  if suffix in _VIDEOS:
    if imu_path := ego4d.imu_of(path):
      return ego4d.open_ego4d(imu_path, video or path, texts)
    if imu_path := epic_kitchens.imu_of(path):
      return epic_kitchens.open_epic(imu_path, video or path, texts)
  if suffix in (*_VIDEOS, ".raw"):
    return _with(gopro.open_gopro(path), video, texts)
  if classyglass.is_upstream_file(path):
    return _with(classyglass.open_file(path), video, texts)
  if epic_kitchens.is_imu_file(path):
    return epic_kitchens.open_epic(path, video, texts)
  if suffix == ".csv" and ego4d.is_imu_file(path):
    return ego4d.open_ego4d(path, video, texts)
  if suffix in (".csv", ".npz"):
    return csv_folder.open_file(path, video, texts)
  raise ValueError(f"{path}: no reader knows this kind of recording")


def is_sequence(path) -> bool:
  """Is a folder, with all that lies in it, one recording?"""
  return nymeria.is_sequence(path) or aria.is_sequence(path)


def imu_of(path) -> pathlib.Path:
  """Return the IMU file that a video of a download leads to, else `path`."""
  path = pathlib.Path(path)
  if path.suffix.lower() not in _VIDEOS:
    return path
  return ego4d.imu_of(path) or epic_kitchens.imu_of(path) or path


def _checked(texts):
  found = []
  for said in texts:
    try:
      start_s, end_s, text = said
      known = -math.inf < start_s <= end_s < math.inf and isinstance(text, str)
    except (TypeError, ValueError):
      known = False
    if not known:
      raise ValueError(
        f"texts hold {said!r}, expected (start_s, end_s, text) in seconds"
      )
    found.append((float(start_s), float(end_s), text))
  return found


def _with(recording, video, texts):
  """Replace the video and the texts of a recording where others are given."""
  if video is not None:
    recording = dataclasses.replace(recording, video=VideoFile(video))
  if texts is not None:
    recording = dataclasses.replace(recording, texts=texts)
  return recording
