"""GoPro cameras: MP4 files with telemetry, and raw dumps of the telemetry.

Axes leave in the camera's frame of gopro/gpmf-parser's README: x left (seen
from behind), y out of the back, z up, "gopro_camera". Times are set payload by
payload; within one, samples are spread evenly:

* STMP (newer cameras): microseconds, relative to the first exposure's STMP.
* else, in an MP4: the packet's own time, relative to the first frame.
* else, in a dump: TICK in milliseconds (HERO5), relative to the first exposure.
* else: payloads of 1.001 s, as at 29.97 frames/s, from the first sample on.

The last payload gets the mean period of the others: its packet may claim a
second and hold 70 ms.
"""

import dataclasses
import functools
import os
import pathlib
import re

import av
import numpy as np

from imu2clip_jax.recordings import folders, gpmf, parsing, splits
from imu2clip_jax.recordings.recording import Entry, Imu, Recording
from imu2clip_jax.recordings.video import VideoFile, reading

_NOMINAL_PAYLOAD_S = 1.001
# Column order where ORIN is absent, by DVNM; small letters are negated.
_ORDER = {"Fusion": "yXZ"}
_ORDER_ELSE = "ZXY"
_UNITS = {"ACCL": ("", "m/s²", "m/s2"), "GYRO": ("", "rad/s")}
_KEYS = ("ACCL", "GYRO", "SHUT")


def open_gopro(path: str | os.PathLike) -> Recording:
  """Open a GoPro video, or a dump of its metadata track (`.raw`).

  Args:
    path: an MP4 as the camera wrote it, or payloads one after another. Beside
      GX010042.MP4, GX010042.texts.csv (start_s, end_s, text) may describe it.

  Returns:
    A recording in the frame "gopro_camera"; zero is the first video frame (of a
    dump without STMP and TICK, the first IMU sample).

  Raises:
    FileNotFoundError: no such file.
    ValueError: no telemetry, no device with accelerometer and gyroscope, or
      damage; names the file and the offset.
  """
  path = pathlib.Path(path)
  video, zero_s = None, 0.0
  if path.suffix.lower() == ".raw":
    found = list(gpmf.devices(path.read_bytes(), _KEYS, str(path)))
    payloads = [(None, device) for device in found]
  else:
    payloads, has_video = _track(str(path))
    if has_video:
      video = VideoFile(path)
      zero_s = video.zero_s
  payloads = _camera(payloads, path)
  accel_t_s, accel = _sensor(payloads, "ACCL", zero_s, path)
  gyro_t_s, gyro = _sensor(payloads, "GYRO", zero_s, path)
  said = _texts_of(path)
  return Recording(
    recording_id=path.stem,
    wearer_id="",
    imu=Imu(accel_t_s, accel, gyro_t_s, gyro, "gopro_camera"),
    video=video,
    texts=parsing.texts(said) if said.exists() else [],
  )


def find(root: str | os.PathLike) -> list[Entry]:
  """Find the GoPro videos below a folder.

  The wearer is the first folder below `root`; of files that lie in `root`
  itself, the take, so that the chapters that a camera cuts a take into
  (GH010042.MP4, GH020042.MP4) stay in one split.

  Args:
    root: searched at any depth for .mp4 in either case, behind links too.

  Raises:
    FileNotFoundError: `root` does not exist or holds no MP4.
  """
  root = pathlib.Path(root)
  paths = [
    path
    for path in folders.walk(root)
    # macOS leaves a hidden "._NAME" beside each file on a camera's card.
    if path.suffix.lower() == ".mp4" and not path.name.startswith(".")
  ]
  if not paths:
    raise FileNotFoundError(f"no .mp4 file lies below {root}")
  names = [p.relative_to(root).with_suffix("").as_posix() for p in paths]
  wearers = [_wearer(name) for name in names]
  split = splits.by_wearer(wearers)
  return [
    Entry(
      name,
      wearer,
      split[wearer],
      functools.partial(_open, path, name, wearer),
      (path, _texts_of(path)),
    )
    for path, name, wearer in zip(paths, names, wearers, strict=True)
  ]


def _texts_of(path):
  return path.with_suffix(".texts.csv")


def _open(path, recording_id, wearer_id):
  return dataclasses.replace(
    open_gopro(path), recording_id=recording_id, wearer_id=wearer_id
  )


def _wearer(name):
  folder, _, rest = name.partition("/")
  if rest:
    return folder
  chapter = re.fullmatch(r"(?:G[A-Z]\d\d|GOPR)(\d{4})", name, re.IGNORECASE)
  return f"take_{chapter[1]}" if chapter else name


def _track(path):
  """Return ([(packet time, device)], has video) of an MP4's telemetry."""
  found = []
  with (
    reading(path),
    av.open(path, metadata_errors="replace") as container,
  ):
    has_video = bool(container.streams.video)
    tracks = list(container.streams.data)
    for stream in container.streams:
      if stream not in tracks:
        stream.discard = av.stream.Discard.all  # its bytes are not read
    chosen = None
    for packet in container.demux(tracks) if tracks else ():
      if chosen not in (None, packet.stream_index) or not packet.size:
        continue
      data = bytes(packet)
      if chosen is None and not data.startswith(b"DEVC"):
        continue
      chosen = packet.stream_index
      start_s = float((packet.pts or 0) * packet.time_base)
      for device in gpmf.devices(data, _KEYS, path, packet.pos or 0):
        found.append((start_s, device))
  if not found:
    raise ValueError(
      f"{path}: holds no GoPro telemetry. Exports of GoPro's apps and "
      "re-encoded copies lose it: take the file that the camera wrote, or copy "
      "with ffmpeg -copy_unknown and a -map of the track 'GoPro MET'"
    )
  return found, has_video


def _camera(payloads, path):
  """Keep the payloads of the first device with both sensors."""
  have = {}
  for _, device in payloads:
    have.setdefault(device.device_id, set()).update(device.streams)
  chosen = [i for i, keys in have.items() if {"ACCL", "GYRO"} <= keys]
  if not chosen:
    raise ValueError(
      f"{path}: no device in its telemetry has both accelerometer and "
      f"gyroscope (streams found: {sorted(set().union(*have.values()))})"
    )
  return [p for p in payloads if p[1].device_id == chosen[0]]


def _sensor(payloads, key, zero_s, path):
  """Return (times [N], values [N, 3] in the camera's frame) of one sensor."""
  parts = [(start_s, d) for start_s, d in payloads if key in d.streams]
  parts = [p for p in parts if len(p[1].streams[key].values)]
  if not parts:
    return np.zeros(0), np.zeros((0, 3))
  values = [_to_camera(d.streams[key], d.name, key, path) for _, d in parts]
  exposure = (d.streams["SHUT"] for _, d in payloads if "SHUT" in d.streams)
  starts_s = _starts(parts, key, next(exposure, None), zero_s)
  counts = np.array([len(v) for v in values])
  return _spread(starts_s, counts), np.concatenate(values)


def _to_camera(stream, model, key, path):
  if stream.values.shape[1] != 3:
    raise ValueError(
      f"{path}: {key} has {stream.values.shape[1]} axes, expected 3"
    )
  if stream.unit not in _UNITS[key]:
    raise ValueError(
      f"{path}: {key} is in {stream.unit!r}, expected {_UNITS[key][1]!r}"
    )
  order = stream.orientation or _ORDER.get(model, _ORDER_ELSE)
  try:
    return to_camera_frame(stream.values, order)
  except ValueError as error:
    raise ValueError(f"{path}: {key}: {error}") from error


def to_camera_frame(values: np.ndarray, orientation: str) -> np.ndarray:
  """Turn stored columns into x left, y back, z up.

  Args:
    values: [N, 3] in stored order.
    orientation: letter i is the axis of column i, a small letter its negative.

  Raises:
    ValueError: `orientation` does not name each axis once.

  >>> to_camera_frame(np.array([[1.0, 2.0, 3.0]]), "YxZ")
  array([[-2.,  1.,  3.]])
  """
  if sorted(orientation.upper()) != ["X", "Y", "Z"]:
    raise ValueError(
      f"orientation is {orientation!r}, expected X, Y and Z once each"
    )
  columns = [orientation.upper().index(axis) for axis in "XYZ"]
  signs = [1.0 if orientation[c].isupper() else -1.0 for c in columns]
  return values[:, columns] * signs


def _starts(parts, key, exposure, zero_s) -> np.ndarray:
  """Return when each payload's first sample was taken, in seconds."""
  in_mp4 = parts[0][0] is not None
  clocks = {"stamp_us": 1e-6} if in_mp4 else {"stamp_us": 1e-6, "tick_ms": 1e-3}
  for clock, unit_s in clocks.items():
    stamps = [getattr(d.streams[key], clock) for _, d in parts]
    zero = getattr(exposure, clock, None)
    if zero is None or None in stamps:
      continue
    starts_s = np.array([stamp - zero for stamp in stamps], np.float64) * unit_s
    if (np.diff(starts_s) > 0).all():
      return starts_s
  if in_mp4:
    return np.array([start_s for start_s, _ in parts]) - zero_s
  return np.arange(len(parts)) * _NOMINAL_PAYLOAD_S


def _spread(starts_s, counts) -> np.ndarray:
  """Spread each payload's samples evenly up to the next payload's start.

  The last payload, and one before a hole in the track, take the mean period.
  """
  periods_s = np.diff(starts_s) / counts[:-1]
  forward = periods_s[periods_s > 0]
  typical_s = np.median(forward) if forward.size else 0.0
  whole = (periods_s > 0) & (periods_s <= 1.5 * typical_s)
  if whole.any():
    mean_s = np.diff(starts_s)[whole].sum() / counts[:-1][whole].sum()
  else:
    mean_s = _NOMINAL_PAYLOAD_S / counts[-1]
  periods_s = np.append(np.where(whole, periods_s, mean_s), mean_s)
  within = np.concatenate([np.arange(n) for n in counts])
  return np.repeat(starts_s, counts) + within * np.repeat(periods_s, counts)
