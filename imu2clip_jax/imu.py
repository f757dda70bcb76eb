"""Motion signals as arrays: units, clocks, one uniform rate, frames, windows.

Two sensors come in, each with its own stamps; they are joined by time, never by
row. A recording is put on one uniform grid once (`to_grid`) and every window is
then a slice of that grid (`cut`). Grid sample k lies at k / rate_hz on the
recording's clock. Where no real samples are near, the grid is bridged by a
straight line and `real` says so; nothing is ever filled with zeros.
"""

import dataclasses
import math

import numpy as np

from imu2clip_jax import resampling, stamps

GRAVITY = 9.80665  # m/s², CGPM 1901
# Sensors that start, or end, within this do so together.
_TOGETHER_S = 1.0
_DEG = math.pi / 180

# Rows are x left, y back, z up, written in the axes of the source frame.
# GoPro: picture in the README of gopro/gpmf-parser. Aria CPF (central pupil
# frame): x left, y up, z forward. "device" is an unknown mounting.
_TO_HEAD = {
  "head": np.eye(3),
  "gopro_camera": np.eye(3),
  "aria_cpf": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
  "device": np.eye(3),
}


def accel_to_si(accel, unit: str) -> np.ndarray:
  """Convert acceleration to m/s².

  Args:
    accel: [..., 3] in `unit`.
    unit: "m/s2" or "g".

  Raises:
    ValueError: unknown unit.

  >>> accel_to_si([[0, 0, 1.0]], "g")
  array([[0.     , 0.     , 9.80665]])
  """
  factor = _factor(unit, {"m/s2": 1.0, "g": GRAVITY})
  return np.asarray(accel, np.float64) * factor


def gyro_to_si(gyro, unit: str) -> np.ndarray:
  """Convert angular rate to rad/s from "rad/s" or "deg/s".

  >>> gyro_to_si([180.0, 0, 0], "deg/s").round(4)
  array([3.1416, 0.    , 0.    ])
  """
  factor = _factor(unit, {"rad/s": 1.0, "deg/s": _DEG})
  return np.asarray(gyro, np.float64) * factor


def _factor(unit, table):
  if unit not in table:
    raise ValueError(f"unknown unit {unit!r}, expected one of {list(table)}")
  return table[unit]


def guess_accel_unit(accel) -> str:
  """Tell m/s² from g by the median norm, which gravity dominates.

  Over about a thousand real recordings the median was 9.0-11.5 in m/s² files
  and 0.7-1.1 in g files.

  Args:
    accel: [N, 3]; rows with NaN are ignored.

  Returns:
    "m/s2" for a median of 6-13, "g" for 0.6-1.3, else "unknown" (gravity was
    removed, an axis was lost, or no row is finite).

  >>> guess_accel_unit([[0.1, 0.7, -0.7]])
  'g'
  """
  norm = np.linalg.norm(np.asarray(accel, np.float64), axis=-1)
  norm = norm[np.isfinite(norm)]
  median = np.median(norm) if norm.size else 0.0
  if 6 <= median <= 13:
    return "m/s2"
  return "g" if 0.6 <= median <= 1.3 else "unknown"


@dataclasses.dataclass(frozen=True)
class Grid:
  """A recording on one uniform grid; sample k lies at (first + k) / rate_hz.

  Attributes:
    imu: [N, 6] float32 m/s², rad/s.
    real: [N, 2] bool, accel and gyro: are measured samples near?
    first: index of the first sample.
    rate_hz: the grid's rate.
    span_s: (start, end) where the sensors were running: without the ends where
      only one ran, unless that was for more than a second.
  """

  imu: np.ndarray
  real: np.ndarray
  first: int
  rate_hz: float
  span_s: tuple[float, float]


def to_grid(accel_t_s, accel, gyro_t_s, gyro, rate_hz: float) -> Grid:
  """Join two sensors by time on one uniform grid.

  Args:
    accel_t_s: [Ma] seconds, any order, NaN allowed (see `stamps.clean`).
    accel: [Ma, 3] m/s².
    gyro_t_s: [Mg] seconds.
    gyro: [Mg, 3] rad/s.
    rate_hz: rate of the grid.

  Returns:
    The grid over all samples of both sensors, from the index nearest to the
    first of them on. A sensor without one usable sample is zero there and
    nowhere real.

  Raises:
    ValueError: neither sensor has a usable sample, their clocks lie hours
      apart (see `stamps.check_clocks`), or a rate of 0 or less.
  """
  if not 0 < rate_hz < math.inf:
    raise ValueError(f"rate_hz is {rate_hz}, expected more than 0")
  sensors = _sensors(accel_t_s, accel, gyro_t_s, gyro)
  spans = [(t[0], t[-1] + step_s) for _, t, _, step_s in sensors if len(t)]
  if not spans:
    raise ValueError("no usable IMU sample: every stamp or value is NaN")
  stamps.check_clocks(spans, max(len(t) * s for _, t, _, s in sensors))
  # The nearest, as in `cut`: a window from the first sample on lies inside.
  first = round(min(s[0] for s in spans) * rate_hz)
  last = math.ceil(max(s[1] for s in spans) * rate_hz - 1e-6)
  count = max(last - first, 1)
  real = np.zeros((2, count), bool).T
  found = []
  for place, t, v, step_s in sensors:
    if len(t):
      signal, near = resampling.resample(t, v, rate_hz, first, count, step_s)
      real[:, place] = near[:, None]
    else:
      signal = np.zeros((count, 3), np.float32)
    found.append(signal)
  imu = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
  return Grid(imu, real, first, rate_hz, _common(spans))


def _common(spans):
  """Return from where to where windows are cut, see `Grid.span_s`."""
  starts, ends = (sorted(side) for side in zip(*spans, strict=True))
  start = starts[-1] if starts[-1] - starts[0] <= _TOGETHER_S else starts[0]
  end = ends[0] if ends[-1] - ends[0] <= _TOGETHER_S else ends[-1]
  return (start, end) if start < end else (starts[0], ends[-1])


def _sensors(accel_t_s, accel, gyro_t_s, gyro):
  """Return of each (which of the two, as a slice; clean times and values;
  typical step).

  Sensors that share their clock, as in most files, make one stream of six.
  """
  parts = [np.asarray(x, np.float64) for x in (accel, gyro)]
  usable = [stamps.usable(values) for values in parts]
  one_clock = np.array_equal(accel_t_s, gyro_t_s, equal_nan=True)
  if one_clock and np.array_equal(*usable):
    clean = stamps.clean_together(accel_t_s, parts, usable[0])
    return [(slice(0, 2), *clean)]
  return [
    (slice(i, i + 1), *stamps.clean_together(t_s, [values], keep))
    for i, (t_s, values, keep) in enumerate(
      zip((accel_t_s, gyro_t_s), parts, usable, strict=True)
    )
  ]


def cut(grid: Grid, starts_s, window_s: float):
  """Slice windows out of a grid.

  Args:
    grid: see `to_grid`.
    starts_s: [N] seconds; each is moved to the nearest grid sample.
    window_s: length; a window has T = round(window_s * rate_hz) samples.

  Returns:
    (starts_s [N] of the first samples, imu [N, T, 6] float32, coverage [N, 2]
    share of real samples of accel and gyro). Where a window leaves the grid it
    repeats the edge, which counts as not real. Evenly spaced windows inside the
    grid are read-only views of it.

  >>> t = np.arange(100) / 100
  >>> grid = to_grid(t, np.ones((100, 3)), t, np.ones((100, 3)), 50)
  >>> starts, imu, coverage = cut(grid, [0.1, 0.76], 0.5)
  >>> imu.shape, coverage.tolist()
  ((2, 25, 6), [[1.0, 1.0], [0.48, 0.48]])
  """
  num_samples = samples_in(window_s, grid.rate_hz)
  index = np.rint(np.asarray(starts_s, np.float64) * grid.rate_hz)
  index = index.astype(np.int64) - grid.first
  inside = np.clip([index, index + num_samples], 0, len(grid.imu))
  missing = [np.flatnonzero(~real) for real in grid.real.T]
  real = np.diff([inside - np.searchsorted(m, inside) for m in missing], axis=1)
  windows = _slices(grid.imu, index, num_samples)
  starts = (index + grid.first) / grid.rate_hz
  return starts, windows, real[:, 0].T / num_samples


def _slices(signal, begin, length):
  """Return signal [N, 6] from each `begin` on, [K, length, 6], edges repeated.

  Evenly spaced ones that lie inside are the signal itself, not copied.
  """
  last = len(signal) - length
  steps = np.diff(begin)
  if len(begin) and begin.min() >= 0 and begin.max() <= last:
    step = steps[0] if len(steps) else 1
    if step > 0 and (steps == step).all():
      every = np.lib.stride_tricks.sliding_window_view(signal, length, axis=0)
      return every[begin[0] : begin[-1] + 1 : step].swapaxes(1, 2)
  found = np.empty((len(begin), length, signal.shape[1]), signal.dtype)
  for window, first in zip(found, begin.tolist(), strict=True):
    if 0 <= first <= last:
      window[:] = signal[first : first + length]
    else:
      rows = np.arange(first, first + length)
      window[:] = signal[np.clip(rows, 0, len(signal) - 1)]
  return found


def samples_in(window_s: float, rate_hz: float) -> int:
  """Return T, the number of samples of a window.

  Raises:
    ValueError: the window is shorter than one sample.

  >>> samples_in(5, 49.5)
  248
  """
  num_samples = math.floor(window_s * rate_hz + 0.5)
  if num_samples < 1:
    raise ValueError(
      f"a window of {window_s:g} s at {rate_hz:g} Hz holds no sample"
    )
  return num_samples


def stride_starts(span_s, window_s: float, stride_s: float) -> np.ndarray:
  """Return the starts of windows that follow each other inside a span.

  >>> stride_starts((0.5, 3.0), 1.0, 0.75)
  array([0.5 , 1.25, 2.  ])
  """
  start, end = span_s
  count = math.floor((end - start - window_s) / stride_s + 1e-6) + 1
  return start + stride_s * np.arange(max(count, 0))


def centred_starts(times_s, span_s, window_s: float) -> np.ndarray:
  """Return the starts of windows around times, moved inside a span.

  The rule of IMU2CLIP for narrations: half a window to either side, clamped at
  both ends of the recording. A span shorter than the window yields nothing.

  >>> centred_starts([1.0, 10.0, 19.9], (0.0, 20.0), 5.0)
  array([ 0. ,  7.5, 15. ])
  """
  start, end = span_s
  if end - start < window_s - 1e-6:
    return np.zeros(0)
  starts = np.asarray(times_s, np.float64) - window_s / 2
  return np.clip(starts, start, max(end - window_s, start))


def segment_starts(segments, span_s, window_s: float, stride_s: float):
  """Return (starts [N], segment index [N]) of windows for each segment.

  A segment that holds a window or more is cut by stride; a shorter one gives
  one window around its middle, clamped to the span.

  Args:
    segments: list of (start_s, end_s, ...).
    span_s: (start, end) of the signal.

  >>> segment_starts([(0, 12), (13, 15)], (0, 20), 5, 5)
  (array([ 0. ,  5. , 11.5]), array([0, 0, 1]))
  """
  starts, owner = [np.zeros(0)], [np.zeros(0, np.int64)]
  for i, (begin, end, *_) in enumerate(segments):
    inside = max(begin, span_s[0]), min(end, span_s[1])
    if inside[1] < inside[0]:
      continue
    found = stride_starts(inside, window_s, stride_s)
    if not found.size:
      found = centred_starts([sum(inside) / 2], span_s, window_s)
    starts.append(found)
    owner.append(np.full(len(found), i))
  return np.concatenate(starts), np.concatenate(owner)


def resample_windows(imu, rate_hz: float, new_rate_hz: float) -> np.ndarray:
  """Bring whole windows from one uniform rate to another.

  Args:
    imu: [..., T, C] samples at k / rate_hz.
    rate_hz: their rate.
    new_rate_hz: the wanted rate.

  Returns:
    [..., round(T * new_rate_hz / rate_hz), C] float32; the first samples
    coincide. `imu` itself (as float32) where the rates are equal.
  """
  imu = np.asarray(imu, np.float32)
  if rate_hz == new_rate_hz or 0 in imu.shape:
    return imu
  *batch, num, channels = imu.shape
  columns = np.moveaxis(imu.reshape(-1, num, channels), 1, 0)
  count = samples_in(num / rate_hz, new_rate_hz)
  out, _ = resampling.resample(
    np.arange(num) / rate_hz, columns.reshape(num, -1), new_rate_hz, 0, count
  )
  out = np.moveaxis(out.reshape(count, -1, channels), 0, 1)
  return np.ascontiguousarray(out.reshape(*batch, count, channels))


def to_head_frame(imu, frame: str) -> np.ndarray:
  """Turn both sensors into the head frame: x left, y back, z up.

  Args:
    imu: [..., 6] accel and gyro.
    frame: "head", "gopro_camera", "aria_cpf", or "device", an unknown mounting,
      which stays as it is (see `align_gravity`).

  Raises:
    ValueError: unknown frame.

  >>> to_head_frame([[0, 9.8, 0, 0, 1, 0]], "aria_cpf")
  array([[0. , 0. , 9.8, 0. , 0. , 1. ]], dtype=float32)
  """
  if frame not in _TO_HEAD:
    raise ValueError(
      f"unknown frame {frame!r}, expected one of {list(_TO_HEAD)}"
    )
  imu = np.asarray(imu, np.float32)
  turn = _TO_HEAD[frame].astype(np.float32)
  if np.array_equal(turn, np.eye(3)):
    return imu
  return (imu.reshape(*imu.shape[:-1], 2, 3) @ turn.T).reshape(imu.shape)


def align_gravity(imu, up) -> np.ndarray:
  """Turn both sensors so that `up` points along +z, by the shortest turn.

  The heading about the vertical stays unknown.

  Args:
    imu: [..., T, 6].
    up: [..., 3] direction of gravity's reaction, e.g. the mean acceleration of
      each window, or one vector for all. Zero or NaN leaves a window as it is.

  >>> align_gravity([[0, -9.8, 0, 0, 1, 0]], [0, -9.8, 0]).round(1) + 0
  array([[ 0. ,  0. ,  9.8,  0. ,  0. , -1. ]], dtype=float32)
  """
  sensors = np.asarray(imu, np.float32)
  sensors = sensors.reshape(*sensors.shape[:-1], 2, 3)
  turned = np.einsum(
    "...tsj,...ij->...tsi", sensors, turn_upright(up).astype(np.float32)
  )
  return np.ascontiguousarray(turned.reshape(np.shape(imu)))


def turn_upright(up) -> np.ndarray:
  """Return the shortest turn that points `up` along +z, float64 [..., 3, 3].

  Args:
    up: [..., 3] of any length. For zero or NaN it is no turn, for straight down
      half a turn about x.
  """
  up = np.asarray(up, np.float64)
  # Scaled first: the squares of a tiny vector would lose their digits.
  peak = np.max(np.abs(up), axis=-1, keepdims=True)
  known = np.isfinite(peak) & (peak > 0)
  up = np.where(known, up, [0, 0, 1]) / np.where(known, peak, 1)
  x, y, z = np.moveaxis(up / np.linalg.norm(up, axis=-1, keepdims=True), -1, 0)
  # Rodrigues with axis up and z; straight down turns about x by half a circle.
  share = 1 / np.maximum(1 + z, 1e-12)
  down = z < -1 + 1e-9
  rotation = np.stack(
    [
      np.stack([1 - x * x * share, -x * y * share, -x], -1),
      np.stack([-x * y * share, 1 - y * y * share, -y], -1),
      np.stack([x, y, z], -1),
    ],
    -2,
  )
  half = np.diag([1.0, -1.0, -1.0])
  return np.where(down[..., None, None], half, rotation)
