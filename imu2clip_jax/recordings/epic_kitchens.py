"""EPIC-KITCHENS-100: accelerometer and gyroscope CSV, video, narrations.

    ROOT/P01/meta_data/P01_101-accl.csv   Milliseconds,AcclX,AcclY,AcclZ
    ROOT/P01/meta_data/P01_101-gyro.csv   Milliseconds,GyroX,GyroY,GyroZ
    ROOT/P01/videos/P01_101.MP4
    ANNOTATIONS/EPIC_100_*.csv            epic-kitchens-100-annotations

The CSVs were made by gpmd2csv (JuanIrache/gopro-utils), which counts every
telemetry payload as 1.000 s although it lasts 1.00-1.04 s, and never writes the
last two. Left alone, stamps fall behind the video by 7-13 s in 20 minutes.
`payload_length` bounds the true length by the video's; what is left is half a
second at the end at most. Columns are in the camera's stored order, which is
not X, Y, Z and not documented: the frame is "device" unless the caller knows.
"""

import dataclasses
import functools
import math
import os
import pathlib
import re
import warnings

import numpy as np

from imu2clip_jax.recordings import gopro, parsing, splits
from imu2clip_jax.recordings.recording import Entry, Imu, Recording
from imu2clip_jax.recordings.video import VideoFile

# Payloads measured on GoPro cameras last 1.001 s (30 frames at 29.97) to
# 1.044 s (HERO11 at 25 frames/s).
_SHORTEST_S, _LONGEST_S = 1.0, 1.045
_IMU_FILE = re.compile(r"(.+)-(?:accl|gyro)\.csv")
_SEGMENT_FILES = (
  "EPIC_100_train.csv",
  "EPIC_100_validation.csv",
  "EPIC_100_uda_target_val.csv",
)
_VIDEO_INFO = "EPIC_100_video_info.csv"
_SEGMENT_COLUMNS = (
  "narration_id",
  "video_id",
  "start_timestamp",
  "stop_timestamp",
  "narration",
)


def open_epic(
  path: str | os.PathLike,
  video: str | os.PathLike | None = None,
  texts: list[tuple[float, float, str]] | None = None,
  duration_s: float | None = None,
  orientation: str | None = None,
) -> Recording:
  """Open one recording by either of its IMU files.

  Args:
    path: `P01_101-accl.csv` or `P01_101-gyro.csv`; the other lies beside it.
    video: its video; None looks in `../videos`.
    texts: narrations; None reads them where the annotations lie in the tree
      (see `find`).
    duration_s: length of the video, to repair the clock; None asks the video,
      or without one EPIC_100_video_info.csv beside the annotations.
    orientation: axes of the columns as GPMF's ORIN writes them, e.g. "YxZ" for
      a HERO7; the samples then leave in "gopro_camera".

  Raises:
    FileNotFoundError: one of the two files is missing.
    ValueError: a column is missing, a cell is no number, or the IMU is longer
      than the video.
  """
  path = pathlib.Path(path)
  match = _IMU_FILE.fullmatch(path.name)
  if not match:
    raise ValueError(f"{path}: expected VIDEO_ID-accl.csv or VIDEO_ID-gyro.csv")
  video_id = match[1]
  if video is None:
    found = _videos(path, video_id)
    video = next((p for p in found if p.exists()), None)
  film = VideoFile(video, container_zero_s=0.0) if video else None
  folder = _annotations_of(path)
  if duration_s is None and film is not None:
    duration_s = film.end_s
  elif duration_s is None and folder is not None:
    duration_s = _durations(folder / _VIDEO_INFO).get(video_id)
  if texts is None:
    texts = read_segments(folder).get(video_id, []) if folder else []
    texts = [segment[:3] for segment in texts]
  return Recording(
    recording_id=video_id,
    wearer_id=video_id.split("_")[0],
    imu=_read_imu(path.parent, video_id, duration_s, orientation),
    video=film,
    texts=list(texts),
  )


def is_imu_file(path: str | os.PathLike) -> bool:
  """Is a file named as the IMU files are?"""
  return _IMU_FILE.fullmatch(pathlib.Path(path).name) is not None


def files_of(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
  """Return what `open_epic` reads samples and clock from, there or not yet.

  Args:
    path: either IMU file.
  """
  folder = _annotations_of(path)
  info = [] if folder is None else [folder / _VIDEO_INFO]
  return (*_own_files(path, _IMU_FILE.fullmatch(path.name)[1]), *info)


def _own_files(path, video_id):
  imu_files = _imu_files(path.parent, video_id).values()
  return (*imu_files, *_videos(path, video_id))


def imu_of(video: pathlib.Path) -> pathlib.Path | None:
  """Return an IMU file of a video that lies in a download, else None."""
  path = video.parent.parent / "meta_data" / f"{video.stem}-accl.csv"
  return path if video.parent.name == "videos" and path.exists() else None


def find(
  root: str | os.PathLike,
  annotations: str | os.PathLike | None = None,
  orientation: str | None = None,
  sentences: bool = True,
  label_column: str | None = None,
) -> list[Entry]:
  """Find every video with IMU files; splits are by participant.

  The official validation split holds no video with IMU, so the published
  splits cannot be used.

  Args:
    root: folder with `Pxx/meta_data`.
    annotations: a checkout of epic-kitchens-100-annotations; None looks in
      `root`, in its folder of that name, and in `root/annotations`.
    orientation: see `open_epic`.
    sentences: let "open cupboard" be "a person opens cupboard".
    label_column: column of the annotations that labels a segment, e.g. "verb".

  Raises:
    FileNotFoundError: no IMU file or no annotations.
    ValueError: an annotation file is damaged.
  """
  root = pathlib.Path(root)
  paths = sorted(root.glob("*/meta_data/*-accl.csv"))
  if not paths:
    raise FileNotFoundError(f"{root}: holds no Pxx/meta_data/*-accl.csv")
  folder = (
    _annotations(root) if annotations is None else pathlib.Path(annotations)
  )
  if folder is None:
    raise FileNotFoundError(
      f"{root}: no EPIC_100_*.csv lies there; name the folder of annotations"
    )
  segments = read_segments(folder, label_column)
  durations_s = _durations(folder / _VIDEO_INFO)
  ids = [path.name.removesuffix("-accl.csv") for path in paths]
  wearers = [video_id.split("_")[0] for video_id in ids]
  split = splits.by_wearer(wearers)
  entries = []
  for path, video_id, wearer in zip(paths, ids, wearers, strict=True):
    found = segments.get(video_id, [])
    texts = [
      (start_s, stop_s, sentence(text) if sentences else text)
      for start_s, stop_s, text, _ in found
    ]
    labels = [(s[0], s[1], s[3]) for s in found if s[3]]
    opener = functools.partial(
      _open, path, texts, labels, durations_s.get(video_id), orientation
    )
    # Of its annotations the opener was told: they are none of its files.
    files = _own_files(path, video_id)
    entries.append(Entry(video_id, wearer, split[wearer], opener, files))
  return entries


def _open(path, texts, labels, duration_s, orientation):
  recording = open_epic(
    path, texts=texts, duration_s=duration_s, orientation=orientation
  )
  return dataclasses.replace(recording, labels=labels)


def _videos(path, video_id):
  """Return where the video of an IMU file may lie."""
  folder = path.parent.parent / "videos"
  return [folder / f"{video_id}{suffix}" for suffix in (".MP4", ".mp4")]


def _imu_files(folder, video_id):
  return {s: folder / f"{video_id}-{s}.csv" for s in ("accl", "gyro")}


def _read_imu(folder, video_id, duration_s, orientation):
  stamps_ms, values = {}, {}
  for sensor, path in _imu_files(folder, video_id).items():
    axes = [f"{sensor.capitalize()}{axis}" for axis in "XYZ"]
    columns = parsing.numbers(path, ("Milliseconds", *axes))
    stamps_ms[sensor] = columns["Milliseconds"]
    values[sensor] = np.stack([columns[axis] for axis in axes], axis=1)
    if orientation is not None:
      values[sensor] = gopro.to_camera_frame(values[sensor], orientation)
  both = np.concatenate(list(stamps_ms.values()))
  both = both[np.isfinite(both)]
  if not both.size:
    raise ValueError(f"{folder / video_id}-*.csv: hold no sample with a time")
  # Older builds of the tool call the first payload 1 and not 0.
  zero_ms = 1000.0 if both.min() >= 1000 else 0.0
  name = f"{folder / video_id}-*.csv"
  length = payload_length((both.max() - zero_ms) / 1e3, duration_s, name)
  t_s = {k: (v - zero_ms) / 1e3 * length for k, v in stamps_ms.items()}
  frame = "device" if orientation is None else "gopro_camera"
  return Imu(t_s["accl"], values["accl"], t_s["gyro"], values["gyro"], frame)


def payload_length(
  last_s: float, duration_s: float | None, name: str = "IMU"
) -> float:
  """Return how long a payload really lasted, in seconds.

  n = floor(last) + 1 payloads were written and two were not, so that the video
  ends in payload n + 2: duration / (n + 2) <= length < duration / (n + 1). The
  middle of these bounds is returned, within the lengths that cameras have.
  Where the two exclude each other the stamps stay as they are, with a warning.

  Args:
    last_s: the last stamp, where each payload counts as one second.
    duration_s: length of the video, None if unknown.
    name: of the files, for messages.

  Raises:
    ValueError: the IMU is longer than the video.

  >>> round(payload_length(174.99495, 178.02), 4)  # P01_103
  1.0086
  """
  if duration_s is None:
    warnings.warn(
      f"{name}: without the video's length the clock stays up to 4 % slow",
      stacklevel=2,
    )
    return 1.0
  if last_s > duration_s + 1:
    raise ValueError(
      f"{name}: {last_s:.1f} s of IMU for a video of {duration_s:.1f} s"
    )
  written = max(math.floor(last_s) + 1, 0)
  low = max(duration_s / (written + 2), _SHORTEST_S)
  high = min(duration_s / (written + 1), _LONGEST_S)
  if low > high:
    warnings.warn(
      f"{name}: {written} payloads do not fill a video of {duration_s:.1f} s; "
      "the clock stays up to 4 % slow",
      stacklevel=2,
    )
    return 1.0
  return (low + high) / 2


def _annotations_of(path):
  return _annotations(path.parents[2]) if len(path.parents) > 2 else None


def _annotations(root):
  names = ("", "epic-kitchens-100-annotations", "annotations")
  for folder in (root / name for name in names):
    if any((folder / name).exists() for name in _SEGMENT_FILES):
      return folder
  return None


def read_segments(
  folder: str | os.PathLike, label_column: str | None = None
) -> dict[str, list[tuple[float, float, str, str]]]:
  """Read the labelled segments of EPIC_100_{train,validation,uda_target_val}.

  The narration was spoken about 2 s after the action began, so that the
  segment's start and stop count and the narration's own time does not.

  Returns:
    video id -> [(start_s, stop_s, narration, label)] in order of time; label is
    "" without `label_column`. A segment in two files is returned once.

  Raises:
    FileNotFoundError: none of the files is there.
    ValueError: a column is missing or a time is damaged.
  """
  paths = [pathlib.Path(folder) / name for name in _SEGMENT_FILES]
  paths = [path for path in paths if path.exists()]
  if not paths:
    raise FileNotFoundError(
      f"{folder}: holds none of {', '.join(_SEGMENT_FILES)}"
    )
  found, seen = {}, set()
  columns = (*_SEGMENT_COLUMNS, *([label_column] if label_column else []))
  for path in paths:
    for row in parsing.rows(path, columns):
      if row["narration_id"] in seen:
        continue
      seen.add(row["narration_id"])
      start_s, stop_s = (
        _seconds(path, row[name])
        for name in ("start_timestamp", "stop_timestamp")
      )
      label = row[label_column] if label_column else ""
      found.setdefault(row["video_id"], []).append(
        (start_s, stop_s, row["narration"], label)
      )
  return {video_id: sorted(rows) for video_id, rows in found.items()}


def _seconds(path, stamp):
  match = re.fullmatch(r"(\d{1,3}):(\d\d):(\d\d(?:\.\d+)?)", stamp.strip())
  if not match:
    raise ValueError(f"{path}: time {stamp[:40]!r}, expected HH:MM:SS.SS")
  hours, minutes, seconds = match.groups()
  return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _durations(path):
  if not path.exists():
    return {}
  return {
    row["video_id"]: parsing.number(path, row, "duration")
    for row in parsing.rows(path, ("video_id", "duration"))
  }


def sentence(narration: str) -> str:
  """Turn EPIC's imperative into a sentence that suits CLIP.

  >>> sentence("open cupboard"), sentence("wash hands"), sentence("dry plate")
  ('a person opens cupboard', 'a person washes hands', 'a person dries plate')
  """
  verb, space, rest = narration.strip().partition(" ")
  if re.search(r"(s|x|z|ch|sh|o)$", verb):
    verb += "es"
  elif re.search(r"[^aeiou]y$", verb):
    verb = verb[:-1] + "ies"
  else:
    verb += "s"
  return f"a person {verb}{space}{rest}"
