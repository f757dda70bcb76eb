"""Project Aria: VRS files of both generations, and the speech next to them.

Streams are chosen by label, because the numbers of the left and right IMU are
swapped between generations. Samples are rectified with the file's calibration
and turned into the central pupil frame, "aria_cpf" (x left, y up, z forward),
in which both IMUs and both generations agree. Needs `projectaria-tools` (extra
`aria`), which exists for Python up to 3.12.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from imu2clip_jax.recordings import folders, parsing, splits
from imu2clip_jax.recordings.recording import Entry, Imu, Recording

_FILES = ("recording.vrs", "video.vrs")
_SPEECH = "speech.csv"
# Words further apart than this belong to two sentences.
_PAUSE_NS = 1_000_000_000


def open_aria(
  path: str | os.PathLike, imu: str = "imu-left", min_confidence: float = 0.0
) -> Recording:
  """Open a VRS file, or the folder of a sequence.

  Args:
    path: a `.vrs` file or a folder with `recording.vrs` or `video.vrs`;
      `speech.csv` next to it is read too.
    imu: "imu-left" (800 Hz) or "imu-right" (1000 Hz in generation 1).
    min_confidence: leave out spoken words less sure than this, 0..1.

  Returns:
    A recording in the frame "aria_cpf"; zero is the first RGB frame, without
    RGB the first IMU sample. Samples flagged invalid are NaN. Speech outside
    the recording is left out.

  Raises:
    FileNotFoundError: no such file.
    ValueError: projectaria-tools is missing, or the file is damaged, lacks the
      IMU or its calibration.
  """
  path = _vrs_in(pathlib.Path(path))
  vrs = Vrs(path)
  sensors, video, zero_ns, span_ns = assemble(vrs, vrs, imu)
  texts = []
  if path.with_name(_SPEECH).exists():
    words = read_words(path.with_name(_SPEECH))
    texts = [
      ((begin - zero_ns) / 1e9, (end - zero_ns) / 1e9, text)
      for begin, end, text in sentences(words, min_confidence)
      if begin <= span_ns[1] and end >= span_ns[0]
    ]
  name = path.parent.name if path.name in _FILES else path.stem
  return Recording(name, "", sensors, video, texts)


def find(
  root: str | os.PathLike, imu: str = "imu-left", min_confidence: float = 0.0
) -> list[Entry]:
  """Find the VRS files below a folder, one recording each.

  The unit of splits is the location of Aria Everyday Activities (its
  metadata.json), because one household wears the glasses there; elsewhere the
  first folder below `root`.

  Args:
    root: searched at any depth, behind links too.
    imu, min_confidence: see `open_aria`.

  Raises:
    FileNotFoundError: `root` does not exist or holds no VRS file.
  """
  root = pathlib.Path(root)
  paths = [path for path in folders.walk(root) if path.suffix == ".vrs"]
  if not paths:
    raise FileNotFoundError(f"no .vrs file lies below {root}")
  wearers = [_wearer(path, root) for path in paths]
  split = splits.by_wearer(wearers)
  entries = []
  for path, wearer in zip(paths, wearers, strict=True):
    inside = path.parent if path.name in _FILES else path.with_suffix("")
    name = inside.relative_to(root).as_posix()
    name = root.name if name == "." else name
    entries.append(
      Entry(
        name,
        wearer,
        split[wearer],
        functools.partial(_open, path, name, wearer, imu, min_confidence),
        (path, path.with_name(_SPEECH)),
      )
    )
  return entries


def _open(path, recording_id, wearer_id, imu, min_confidence):
  return dataclasses.replace(
    open_aria(path, imu, min_confidence),
    recording_id=recording_id,
    wearer_id=wearer_id,
  )


def _wearer(path, root):
  about = path.with_name("metadata.json")
  if about.exists():
    facts = parsing.read_json(about)
    if isinstance(facts, dict) and "location" in facts:
      return f"location_{facts['location']}"
  return path.relative_to(root).with_suffix("").parts[0]


def is_sequence(path: str | os.PathLike) -> bool:
  """Does a folder hold one VRS file that is named after the folder?"""
  return len(_named_after(pathlib.Path(path))) == 1


def _named_after(folder):
  return [folder / name for name in _FILES if (folder / name).exists()]


def _vrs_in(path):
  if not path.is_dir():
    return path
  found = _named_after(path)
  if len(found) != 1:
    raise FileNotFoundError(
      f"{path}: expected one of {' and '.join(_FILES)} in this folder"
    )
  return found[0]


def assemble(images: "Vrs", motion: "Vrs", label: str):
  """Put the RGB of one file and the IMU of another (or the same) on one clock.

  Args:
    images: the file with the RGB stream; it may have none.
    motion: the file with the IMU.
    label: "imu-left" or "imu-right".

  Returns:
    (Imu, RgbVideo or None, zero_ns of the clock, (first, last) device time in
    nanoseconds of what was recorded).
  """
  t_ns, accel, gyro = motion.imu(label)
  frames_ns = images.rgb_times_ns()
  zero_ns = int(frames_ns[0]) if len(frames_ns) else int(t_ns[0])
  video = RgbVideo(images, frames_ns) if len(frames_ns) else None
  t_s = (t_ns - zero_ns) / 1e9
  both = np.concatenate([t_ns, frames_ns])
  span_ns = int(both.min()), int(both.max())
  return Imu(t_s, accel, t_s, gyro, "aria_cpf"), video, zero_ns, span_ns


class Vrs:
  """One open VRS file; times are device time in nanoseconds."""

  def __init__(self, path: str | os.PathLike):
    """Open a file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: projectaria-tools is missing or cannot open the file.
    """
    self.path = pathlib.Path(path)
    if not self.path.is_file():
      raise FileNotFoundError(f"{path}: no such file")
    try:
      from projectaria_tools.core import data_provider, sensor_data
    except ImportError as error:
      raise ValueError(
        f"{path}: reading VRS needs projectaria-tools, which exists for Python "
        "up to 3.12: pip install --no-deps projectaria-tools"
      ) from error
    self._device_time = sensor_data.TimeDomain.DEVICE_TIME
    with _quiet():
      try:
        self._file = data_provider.create_vrs_data_provider(str(path))
      except RuntimeError as error:
        raise ValueError(f"{path}: damaged VRS file: {error}") from error
    if self._file is None:
      raise ValueError(f"{path}: projectaria-tools cannot open it as VRS")

  def imu(self, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read every sample of one IMU, rectified, in the central pupil frame.

    Returns:
      (times [N] int64 ns, accel [N, 3] m/s², gyro [N, 3] rad/s); values flagged
      invalid are NaN.

    Raises:
      ValueError: no such stream, or no calibration for it.
    """
    stream = self._stream(label)
    count = self._file.get_num_data(stream) if stream else 0
    if not count:
      raise ValueError(f"{self.path}: holds no samples of {label!r}")
    raw = np.empty((count, 6))
    for i in range(count):
      sample = self._file.get_imu_data_by_index(stream, i)
      raw[i, :3] = sample.accel_msec2 if sample.accel_valid else np.nan
      raw[i, 3:] = sample.gyro_radsec if sample.gyro_valid else np.nan
    device = self._file.get_device_calibration()
    sensor = device.get_imu_calib(label) if device else None
    if sensor is None:
      raise ValueError(f"{self.path}: holds no calibration of {label!r}")
    turn = device.get_transform_cpf_sensor(label).to_matrix()[:3, :3]
    accel = _affine(sensor.raw_to_rectified_accel, raw[:, :3]) @ turn.T
    gyro = _affine(sensor.raw_to_rectified_gyro, raw[:, 3:]) @ turn.T
    return self._times_ns(stream), accel, gyro

  def rgb_times_ns(self) -> np.ndarray:
    """Return the capture times of the RGB frames, [N] int64, N may be 0."""
    stream = self._stream("camera-rgb")
    return self._times_ns(stream) if stream else np.zeros(0, np.int64)

  def rgb(self, index: int) -> np.ndarray:
    """Return one RGB frame, uint8 [H, W, 3], upright.

    Raises:
      ValueError: it cannot be decoded.
    """
    stream = self._stream("camera-rgb")
    with _quiet():
      image, _ = self._file.get_image_data_by_index(stream, index)
    if not image.is_valid():
      raise ValueError(f"{self.path}: RGB frame {index} cannot be decoded")
    pixels = image.to_numpy_array()
    # Generation 1 stores its pictures on their side.
    sideways = self._file.get_device_version().name == "Gen1"
    return np.rot90(pixels, -1) if sideways else pixels

  def _stream(self, label):
    stream = self._file.get_stream_id_from_label(label)
    # An id comes back for streams that the file does not hold, too.
    if stream is None or not self._file.check_stream_is_active(stream):
      return None
    return stream

  def _times_ns(self, stream):
    times = self._file.get_timestamps_ns(stream, self._device_time)
    return np.array(times, np.int64)


def _affine(function, values):
  """Apply an affine function of one 3-vector to rows [N, 3] at once."""
  offset = np.asarray(function(np.zeros(3)))
  columns = [np.asarray(function(unit)) - offset for unit in np.eye(3)]
  return values @ np.stack(columns) + offset


class RgbVideo:
  """The RGB stream on a clock whose zero is its first frame."""

  def __init__(self, vrs: Vrs, times_ns: np.ndarray):
    self._vrs = vrs
    self._times_s = (times_ns - times_ns[0]) / 1e9
    step_s = np.median(np.diff(self._times_s)) if len(times_ns) > 1 else 0.0
    self.start_s = 0.0
    self.end_s = float(self._times_s[-1] + step_s)

  def frames(self, times_s) -> np.ndarray:
    """Return the nearest frames, uint8 [N, H, W, 3], upright RGB."""
    times_s = np.asarray(times_s, np.float64)
    middles = (self._times_s[1:] + self._times_s[:-1]) / 2
    nearest = np.searchsorted(middles, times_s)
    index, back = np.unique(nearest, return_inverse=True)
    return np.stack([self._vrs.rgb(int(i)) for i in index])[back]

  def times_s(self, start_s: float, end_s: float) -> np.ndarray:
    """Return the times of the frames from start_s to end_s."""
    inside = (self._times_s >= start_s) & (self._times_s <= end_s)
    return self._times_s[inside]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keep the C++ library from writing to the process's standard error."""
  kept = os.dup(2)
  sink = os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(sink, 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(sink)


def read_words(path) -> list[tuple[int, int, str, float]]:
  """Read `speech.csv` of Aria Everyday Activities: one word a row.

  Returns:
    (start, end, word, confidence), device time in nanoseconds, by start.

  Raises:
    ValueError: a column is missing or a cell is no number.
  """
  columns = ("startTime_ns", "endTime_ns", "written", "confidence")
  words = []
  for row in parsing.rows(path, columns):
    begin, end, confidence = (
      parsing.number(path, row, columns[i]) for i in (0, 1, 3)
    )
    words.append((int(begin), int(end), row["written"].strip(), confidence))
  return sorted(words)


def sentences(
  words: Sequence[tuple[int, int, str, float]], min_confidence: float = 0.0
) -> list[tuple[int, int, str]]:
  """Join spoken words into sentences, at pauses over 1 s and at . ? and !.

  Args:
    words: (start ns, end ns, word, confidence), in order of time.
    min_confidence: less sure words are left out.

  >>> spoken = [(0, 4, "look", 0.9), (5, 9, "here.", 0.8), (10, 12, "no", 0.1)]
  >>> sentences(spoken), sentences(spoken, 0.5)
  ([(0, 9, 'look here.'), (10, 12, 'no')], [(0, 9, 'look here.')])
  """
  found, open_until = [], None
  for begin, end, word, confidence in words:
    if not word or confidence < min_confidence:
      continue
    if open_until is not None and begin - open_until <= _PAUSE_NS:
      start, _, text = found.pop()
      found.append((start, end, f"{text} {word}"))
    else:
      found.append((begin, end, word))
    open_until = None if word[-1] in ".?!" else end
  return found
