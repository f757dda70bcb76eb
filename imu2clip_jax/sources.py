"""Recordings as a user names them -> embeddings, kept in the run's index."""

import hashlib
import json
import pathlib
import re
import sys
from collections.abc import Sequence

import numpy as np

from imu2clip_jax import imu as imu_lib
from imu2clip_jax import index as index_lib
from imu2clip_jax import logs
from imu2clip_jax.data import windows
from imu2clip_jax.recordings import epic_kitchens, folders, opening
from imu2clip_jax.recordings import recording as recording_lib

_SUFFIXES = (".mp4", ".mov", ".360", ".raw", ".vrs", ".csv", ".npz")
# Tables of a folder that are no recordings, but say how to read them.
_TABLES = ("recordings.csv", "segments.csv", "texts.csv", "dataset.json")
# Windows embedded at once, so that hours of motion need little memory.
_BLOCK_WINDOWS = 1024
# Counted up where recordings are cut in another way: segments are made anew.
_WAY_OF_CUTTING = 4
_TIME = r"-?(?:\d+:){0,2}\d+(?:\.\d*)?"
_RANGE = re.compile(rf"(.+?):({_TIME})-({_TIME})")


def parse(place: str) -> tuple[pathlib.Path, tuple[float, float] | None]:
  """Split "REC:12.0-17.5" into the recording and the seconds asked for.

  Times may also be as the tables show them, "1:05.0" or "1:02:05".

  Raises:
    ValueError: the range ends before it starts.

  >>> parse("walk.csv:-0:15.0-1:05")[1], parse("walk.csv")[1]
  ((-15.0, 65.0), None)
  """
  match = _RANGE.fullmatch(str(place))
  if match is None or pathlib.Path(place).exists():
    return pathlib.Path(place), None
  start_s, end_s = _seconds(match[2]), _seconds(match[3])
  if end_s <= start_s:
    raise ValueError(f"{place}: the range ends before it starts")
  return pathlib.Path(match[1]), (start_s, end_s)


def is_recording_name(text: str) -> bool:
  """Say whether a text ends as the files of recordings do.

  >>> is_recording_name("GX01.MP4"), is_recording_name("tying shoes")
  (True, False)
  """
  return pathlib.Path(text).suffix.lower() in _SUFFIXES


def _seconds(clock):
  """Return the seconds of "12.5", "1:05.0" or "-1:02:05"."""
  parts = [float(part) for part in clock.lstrip("-").split(":")]
  total = sum(part * 60**i for i, part in enumerate(reversed(parts)))
  return -total if clock.startswith("-") else total


def embed_recording(
  encoder,
  recording: recording_lib.Recording,
  options: windows.Options,
  span_s: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Cut a recording and embed its windows, block by block.

  Args:
    encoder: what `load_imu_encoder` returns.
    recording: see `Recording`.
    options: how to cut; the step is its stride.
    span_s: only this stretch; one shorter than a window gives the window around
      its middle.

  Returns:
    (starts_s [N], embeddings [N, D] unit norm).

  Raises:
    ValueError: the signal is shorter than a window, `span_s` is outside it, or
      it cannot be used; names the recording.
  """
  who = f"recording {recording.recording_id!r}"
  sensors = recording.imu
  try:
    for warning in windows.check_units(sensors):
      print(f"check {who}: {warning}", file=sys.stderr)
    grid = imu_lib.to_grid(
      sensors.accel_t_s,
      sensors.accel,
      sensors.gyro_t_s,
      sensors.gyro,
      options.rate_hz,
    )
  except ValueError as error:
    raise ValueError(f"{who}: {error}") from error
  starts = _starts(who, grid.span_s, options, span_s)
  kept, parts = [], []
  with logs.progress(
    what=f"embed {recording.recording_id}", unit="windows", total=len(starts)
  ) as bar:
    for i in range(0, len(starts), _BLOCK_WINDOWS):
      block = starts[i : i + _BLOCK_WINDOWS]
      cut = windows.signals(grid, block, sensors.frame, options)
      kept.append(cut.starts_s)
      parts.append(encoder.embed(cut.imu, options.rate_hz, cut.sensor_mask))
      bar.update(len(block))
  starts = np.concatenate(kept)
  if not len(starts):
    raise ValueError(
      f"{who}: no window of {options.window_s:g} s has a signal over "
      f"{options.min_coverage:.0%} of it"
    )
  return starts, np.concatenate(parts)


def _starts(who, signal_s, options, span_s):
  length_s = signal_s[1] - signal_s[0]
  if length_s < options.window_s - 1e-6:
    raise ValueError(
      f"{who} holds {length_s:.2f} s of IMU, less than one window of the "
      f"encoder, {options.window_s:g} s"
    )
  if span_s is None:
    starts = imu_lib.stride_starts(signal_s, options.window_s, options.stride_s)
    # What strides leave at the end is found by one window more.
    last_s = signal_s[1] - options.window_s
    left = len(starts) and last_s - starts[-1] > 0.05
    return np.append(starts, last_s) if left else starts
  if span_s[1] > signal_s[1] + 0.05 or span_s[0] < signal_s[0] - 0.05:
    raise ValueError(
      f"{who}: {span_s[0]:g}-{span_s[1]:g} s is not inside its IMU, "
      f"{signal_s[0]:.2f}-{signal_s[1]:.2f} s"
    )
  starts, _ = imu_lib.segment_starts(
    [span_s], signal_s, options.window_s, options.stride_s
  )
  return starts


def index_recording(
  index: index_lib.Index, encoder, path: pathlib.Path, options: windows.Options
) -> index_lib.Segment:
  """Return the segment of a recording, embedding it if it is new or changed.

  Sizes and times of modification of its files tell; an outdated segment is
  removed.

  Args:
    index: where it is kept.
    encoder: what `load_imu_encoder` returns.
    path: what `open_recording` takes.
    options: how to cut.

  Raises:
    FileNotFoundError, ValueError: as `open_recording` and `embed_recording`.
  """
  path = path.parent.resolve() / path.name  # however it is spelled
  place = [str(path.resolve()), options.stride_s, options.gravity]
  cut = [_WAY_OF_CUTTING, options.window_s, options.rate_hz]
  key = _digest([place, cut, _state(path)])
  found = index.find(key)
  if found is not None:
    return found
  # Only motion is embedded; Ego4D's narrations take seconds to read.
  recording = opening.open_recording(path, texts=[])
  starts, embeddings = embed_recording(encoder, recording, options)
  for old in [s for s in index.segments if s.about.get("place") == place]:
    index.remove(old.key)
  about = {
    "recording_id": recording.recording_id,
    "wearer_id": recording.wearer_id,
    "path": str(path),
  }
  return index.append(
    key,
    embeddings,
    starts,
    starts + options.window_s,
    np.zeros(len(starts), np.int32),
    [about],
    {"place": place},
  )


def index_all(
  index: index_lib.Index,
  encoder,
  paths: Sequence[str],
  options: windows.Options,
) -> list[index_lib.Segment]:
  """Return the segments of all recordings under some paths, each once.

  Args:
    index, encoder, options: see `index_recording`.
    paths: recordings, or folders of recordings. A file of a folder that cannot
      be used is named on stderr and passed over; a file that was named itself
      must be usable.

  Raises:
    FileNotFoundError: no such path.
    ValueError: a recording cannot be used, or a folder holds none.
  """
  found = {}
  for path in map(pathlib.Path, paths):
    if not path.exists():
      raise FileNotFoundError(f"no file or folder {path}")
    if not path.is_dir() or opening.is_sequence(path):
      segment = index_recording(index, encoder, path, options)
      found.setdefault(_identity(path, segment), segment.key)
      continue
    inside = _index_folder(index, encoder, path, options)
    if not inside:
      raise ValueError(f"{path} holds no recording that can be used")
    found = inside | found
  # An outdated segment may have gone meanwhile, and rows moved.
  keys = set(found.values())
  return [s for s in index.segments if s.key in keys]


def _index_folder(index, encoder, folder, options):
  found = {}
  for path in _recordings_in(folder):
    try:
      segment = index_recording(index, encoder, path, options)
    except (ValueError, OSError) as error:
      message = " ".join(str(error).split())
      print(f"passed over {path}: {message}", file=sys.stderr)
      continue
    found.setdefault(_identity(path, segment), segment.key)
  return found


def _recordings_in(folder):
  """Return what to open below a folder, each IMU file and sequence once.

  A download may hold one recording's video at several sizes.
  """
  found = {}
  for path in folders.walk(folder, opening.is_sequence):
    if path.is_dir() or (
      is_recording_name(path.name) and path.name not in _TABLES
    ):
      imu_path = opening.imu_of(path)
      found.setdefault(imu_path.resolve(), imu_path)
  return list(found.values())


def _identity(path, segment):
  """Tell recordings apart; one may have a file a sensor, and its video."""
  home = opening.imu_of(path).parent.resolve()
  return home, segment.about["recordings"][0]["recording_id"]


def _state(path):
  """Sizes and times of all files that a recording may be read from."""
  if path.is_dir():
    files = [p for p in folders.walk(path) if p.is_file()]
  else:
    # P01_01-accl.csv is read together with P01_01-gyro.csv.
    stem = path.stem.rsplit("-", 1)[0]
    files = {p for p in path.parent.iterdir() if p.name.startswith(stem)}
    above = path.parents
    files |= {folder / name for folder in above for name in _TABLES}
    imu_path = opening.imu_of(path)
    if epic_kitchens.is_imu_file(imu_path):
      files |= set(epic_kitchens.files_of(imu_path))  # some lie elsewhere
    files = sorted(p for p in files if p.is_file())
  return [folders.state(file) for file in files]


def _digest(what):
  return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
