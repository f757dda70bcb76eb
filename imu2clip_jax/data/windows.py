"""One recording in, its window records out (see `schema.FIELDS`)."""

import collections
import dataclasses
import math

import numpy as np

from imu2clip_jax import imu, schema
from imu2clip_jax.data import frames as frames_lib
from imu2clip_jax.data import texts
from imu2clip_jax.recordings import recording as recording_lib

RULES = ("stride", "narration", "segment")
GRAVITY = ("none", "recording", "window")
FORMATS = ("png", "jpeg")

# A gyroscope saturates at 2000 deg/s, 35 rad/s.
_FASTEST_RAD_S = 40.0
# Rows, spread over a recording, that tell its units.
_UNIT_ROWS = 5_000


@dataclasses.dataclass(frozen=True)
class Options:
  """How recordings are cut.

  Attributes:
    window_s: length of a window.
    stride_s: step between windows, in rules "stride" and "segment".
    train_stride_s: that step in split "train"; windows that overlap there are
      more to learn from. 0 is `stride_s`.
    rate_hz: IMU rate of the windows.
    rule: "stride" over the whole recording; "narration", one window centred on
      each text, clamped at the ends; "segment", inside each label (or text).
    num_frames: frames a window; 1 is the middle one, more are spread evenly.
    frame_size: pixels of a frame's shorter side; larger ones are scaled down.
    frame_format: "png" or "jpeg" (quality 95).
    min_coverage: share of real samples that every sensor needs.
    text_cleaning: "plain", "official" (see `data.texts`) or "none".
    gravity: turn the signals until gravity is up: "none", by the mean of each
      "recording", or of each "window".
    pad_short: give a recording shorter than a window one window nevertheless,
      whatever its coverage; the signal's last sample is repeated.
    correct_sync: measure every recording's IMU clock against its video and put
      it right where that is certain (see `data.sync`).
  """

  window_s: float = 5.0
  stride_s: float = 5.0
  train_stride_s: float = 0.0
  rate_hz: float = 200.0
  rule: str = "stride"
  num_frames: int = 1
  frame_size: int = 224
  frame_format: str = "png"
  min_coverage: float = 0.9
  text_cleaning: str = "plain"
  gravity: str = "none"
  pad_short: bool = False
  correct_sync: bool = False

  def __post_init__(self):
    for name in ("window_s", "stride_s", "rate_hz", "frame_size"):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(
          f"{name} is {getattr(self, name)}, expected more than 0, and finite"
        )
    if not 0 <= self.train_stride_s < math.inf:
      raise ValueError(
        f"train_stride_s is {self.train_stride_s}, expected 0 or more, and "
        "finite"
      )
    if self.num_frames < 0:
      raise ValueError(f"num_frames is {self.num_frames}, expected 0 or more")
    if not 0 < self.min_coverage <= 1:
      raise ValueError(f"min_coverage is {self.min_coverage}, expected 0..1")
    for name, allowed in (
      ("rule", RULES),
      ("gravity", GRAVITY),
      ("frame_format", FORMATS),
      ("text_cleaning", tuple(texts.CLEANING)),
    ):
      if getattr(self, name) not in allowed:
        raise ValueError(
          f"{name} is {getattr(self, name)!r}, expected one of "
          f"{', '.join(allowed)}"
        )

  @property
  def num_samples(self) -> int:
    """T, the IMU samples of a window."""
    return imu.samples_in(self.window_s, self.rate_hz)

  def of_split(self, split: str) -> "Options":
    """Return how the recordings of a split are cut."""
    if split != "train" or not self.train_stride_s:
      return self
    return dataclasses.replace(self, stride_s=self.train_stride_s)


@dataclasses.dataclass
class Cut:
  """The windows of one recording and what was left out, by reason.

  The records' signals may be read-only views of the recording's. `sync` is what
  `data.sync.correct` found, where it was asked for.
  """

  records: list[dict]
  dropped: collections.Counter
  warnings: list[str]
  sync: dict | None = None


def cut_recording(recording: recording_lib.Recording, options: Options) -> Cut:
  """Cut one recording into window records.

  Args:
    recording: see `Recording`.
    options: see `Options`.

  Returns:
    Valid records in order of time; `dropped` counts windows refused by reason;
    `warnings` name what looks odd about the recording.

  Raises:
    ValueError: no usable IMU sample, acceleration in g, or an unknown frame.
  """
  warnings = check_units(recording.imu)
  grid = imu.to_grid(
    recording.imu.accel_t_s,
    recording.imu.accel,
    recording.imu.gyro_t_s,
    recording.imu.gyro,
    options.rate_hz,
  )
  short = grid.span_s[1] - grid.span_s[0] < options.window_s - 1e-6
  dropped = collections.Counter()
  min_coverage, shown_s = options.min_coverage, options.window_s
  if short and options.pad_short:
    starts, labels, min_coverage = np.array(grid.span_s[:1]), None, 0.0
    shown_s = grid.span_s[1] - grid.span_s[0]
  else:
    starts, labels = _plan(recording, grid.span_s, options, dropped)
    if not (len(starts) or dropped):
      reason = "no window fits" if short else "nothing to cut"
      dropped[reason] += 1
  cut = signals(grid, starts, recording.imu.frame, options, min_coverage)
  keep, starts, mask = cut.keep, cut.starts_s, cut.sensor_mask
  dropped += cut.dropped
  if labels is not None:
    labels = [labels[i] for i in keep]
  else:
    labels = _labels(recording.labels, starts, shown_s)
  frame_times, frames, odd = frames_lib.of_windows(
    recording, starts, shown_s, options
  )
  warnings += odd
  narrations = _texts(recording.texts, starts, options)
  records = [
    {
      "window_id": f"{recording.recording_id}@{round(start * 1000)}",
      "recording_id": recording.recording_id,
      "wearer_id": recording.wearer_id,
      "start_s": np.float64(start),
      "end_s": np.float64(start + options.window_s),
      "imu": cut.imu[i],
      "sensor_mask": mask[i],
      "coverage": cut.coverage[i],
      "frames": frames[i],
      "frame_times_s": frame_times[i],
      "texts": narrations[i],
      "label": labels[i],
    }
    for i, start in enumerate(starts)
  ]
  for record in records:
    schema.validate(record, options.num_samples)
  return Cut(records, dropped, warnings)


@dataclasses.dataclass(frozen=True)
class Signals:
  """The windows of a grid that can be used.

  Attributes:
    keep: [N] which of the starts asked for.
    starts_s: [N] of their first samples.
    imu: [N, T, 6] float32 in the head frame, 0 where a sensor is missing.
    sensor_mask: [N, 2] bool.
    coverage: [N] float32, share of real samples.
    dropped: windows refused, by reason.
  """

  keep: np.ndarray
  starts_s: np.ndarray
  imu: np.ndarray
  sensor_mask: np.ndarray
  coverage: np.ndarray
  dropped: collections.Counter


def signals(
  grid: imu.Grid,
  starts_s: np.ndarray,
  frame: str,
  options: Options,
  min_coverage: float | None = None,
) -> Signals:
  """Cut windows out of a grid and turn them into the head frame.

  Args:
    grid: of the whole recording.
    starts_s: of the windows wanted.
    frame: `Imu.frame` of the recording.
    options: see `Options`; only the signal's are read.
    min_coverage: in place of the options'.

  Raises:
    ValueError: an unknown frame.
  """
  dropped = collections.Counter()
  if min_coverage is None:
    min_coverage = options.min_coverage
  starts_s, cut, share = imu.cut(grid, starts_s, options.window_s)
  keep, mask = _choose(starts_s, share, min_coverage, dropped)
  if len(keep) < len(starts_s):
    starts_s, cut = starts_s[keep], cut[keep]
    share, mask = share[keep], mask[keep]
  cut = imu.to_head_frame(cut, frame)
  cut = _align(cut, mask, options.gravity, grid, frame)
  if not mask.all():
    cut = np.where(np.repeat(mask, 3, axis=1)[:, None], cut, 0)
  coverage = np.where(mask, share, 1).min(axis=1).astype(np.float32)
  return Signals(keep, starts_s, cut, mask, coverage, dropped)


def check_units(sensors: recording_lib.Imu) -> list[str]:
  """Return what looks odd about a recording's values.

  Raises:
    ValueError: acceleration in g.
  """
  warnings = []
  # An odd step: in some files every second row lacks a sensor.
  accel, gyro = (
    values[:: len(values) // _UNIT_ROWS | 1]
    for values in (sensors.accel, sensors.gyro)
  )
  if np.isfinite(accel).any():
    unit = imu.guess_accel_unit(accel)
    if unit == "g":
      raise ValueError(
        "acceleration looks like g (median norm 0.6-1.3), expected m/s²"
      )
    if unit == "unknown":
      norm = np.nanmedian(np.linalg.norm(accel, axis=1))
      warnings.append(
        f"median acceleration {norm:.2f} m/s², gravity alone is 9.81: "
        "wrong unit, a lost axis, or gravity removed"
      )
  if np.isfinite(gyro).any():
    fast = np.nanpercentile(np.abs(gyro), 99)
    if fast > _FASTEST_RAD_S:
      warnings.append(f"angular rate reaches {fast:.0f} rad/s: is it in deg/s?")
  return warnings


def _plan(recording, span_s, options, dropped):
  """Return starts [N] and, where the rule fixes them, their labels.

  Texts and segments beside the signal are counted in `dropped`, as are texts
  that the reader left out or of which cleaning leaves nothing.
  """
  if options.rule == "stride":
    starts = imu.stride_starts(span_s, options.window_s, options.stride_s)
    return starts, None
  named = recording.labels
  if options.rule == "narration" or not named:
    clean = texts.CLEANING[options.text_cleaning]
    named = [text for text in recording.texts if clean(text[2])]
    dropped += collections.Counter(recording.dropped)  # without zeros
    if len(named) < len(recording.texts):
      dropped["no text left"] += len(recording.texts) - len(named)
  inside = [s for s in named if s[1] >= span_s[0] and s[0] <= span_s[1]]
  if len(inside) < len(named):
    dropped["no signal"] += len(named) - len(inside)
  if options.rule == "narration":
    middles = [(begin + end) / 2 for begin, end, _ in inside]
    starts = imu.centred_starts(middles, span_s, options.window_s)
    return np.sort(starts), None
  starts, owner = imu.segment_starts(
    inside, span_s, options.window_s, options.stride_s
  )
  if not recording.labels:
    return starts, None
  return starts, [inside[i][2] for i in owner]


def _choose(starts, share, min_coverage, dropped):
  """Return (rows to keep, sensor mask [N, 2]); count the others."""
  mask = share > 0
  none = ~mask.any(axis=1)
  thin = ~none & (np.where(mask, share, 1) < min_coverage - 1e-9).any(axis=1)
  _, first = np.unique(starts, return_index=True)
  again = np.ones(len(starts), bool)
  again[first] = False
  again &= ~none & ~thin
  for reason, rows in (
    ("no signal", none),
    ("low coverage", thin),
    ("same window", again),
  ):
    if rows.any():
      dropped[reason] += int(rows.sum())
  return np.flatnonzero(~(none | thin | again)), mask


def _labels(segments, starts, window_s):
  """Label whose segments cover half of a window or more together, else ''."""
  if not segments:
    return [""] * len(starts)
  segments = _joined(segments)
  begin, end = np.array([s[:2] for s in segments]).T
  names = list(dict.fromkeys(s[2] for s in segments))
  owner = [names.index(s[2]) for s in segments]
  labels = []
  for start in starts:
    shared = np.minimum(end, start + window_s) - np.maximum(begin, start)
    shared = np.bincount(owner, shared.clip(0))
    best = int(np.argmax(shared))
    enough = shared[best] > max(window_s / 2 - 1e-9, 0)
    labels.append(names[best] if enough else "")
  return labels


def _joined(segments):
  """Make overlapping segments of one label one; in order of their starts."""
  found, last = [], {}
  for begin, end, label in sorted(segments):
    if label in last and begin <= last[label][1]:
      last[label][1] = max(end, last[label][1])
    else:
      last[label] = [begin, end, label]
      found.append(last[label])
  return found


def _align(signals, mask, gravity, grid, frame):
  known = mask[:, 0]
  if gravity == "none" or not known.any():
    return signals
  if gravity == "window":
    up = signals[..., :3].mean(axis=1)
    return imu.align_gravity(signals, np.where(known[:, None], up, 0))
  # Of the grid and not of these windows: any part of a recording turns alike.
  up = grid.imu[grid.real[:, 0]].mean(axis=0, dtype=np.float64)
  return imu.align_gravity(signals, imu.to_head_frame(up, frame)[:3])


def _texts(narrations, starts, options):
  if not narrations:
    return [[] for _ in starts]
  clean = texts.CLEANING[options.text_cleaning]
  cleaned = [clean(text) for _, _, text in narrations]
  intervals = np.array([t[:2] for t in narrations]).reshape(-1, 2)
  found = []
  for start in starts:
    rows = recording_lib.overlapping(intervals, start, start + options.window_s)
    found.append(list(dict.fromkeys(cleaned[i] for i in rows if cleaned[i])))
  return found
