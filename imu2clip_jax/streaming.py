"""Embeddings of a motion signal while it is being recorded.

stream = ImuStream(encoder, hop_s=0.5)
for times_s, imu in sensor:
  hops = stream.push(imu, times_s)
  hops.start_s, hops.embeddings

The windows, their samples and so their embeddings are those of the recording
put on one grid afterwards (`imu.to_grid`, `imu.stride_starts`, `imu.cut`): the
resampling of a window looks at a few samples to either side, and those are
waited for. How samples are portioned out makes no difference. One assumption:
the typical step of the stamps around a window is that of the whole recording.
Where stamps jitter the two differ a little, and where a recording ends just as
a window does, `finish` may give one window more or less.
"""

import dataclasses
import math

import numpy as np

from imu2clip_jax import imu as imu_lib
from imu2clip_jax import pretrained, resampling, stamps

# A stamp so far ahead is an error of the clock, or another recording.
_FARTHEST_S = 3600.0
# No wearable is faster; more samples mean a clock that stands still.
_FASTEST_HZ = 10_000.0
# Stamps are rounded: closer than this they are one time.
_SAME_S = 1e-9
# Samples are taken in at the latest when so many wait.
_PENDING = 1024
# Clean samples to either side of a window: what polynomials go through.
_NODES = resampling.NODES


@dataclasses.dataclass(frozen=True)
class Hops:
  """What came out of some samples.

  Attributes:
    start_s: float64 [K] starts of windows, on the clock of the stamps.
    embeddings: float32 [K, D] of unit norm.
    coverage: float64 [K] share of real samples in 0..1.
  """

  start_s: np.ndarray
  embeddings: np.ndarray
  coverage: np.ndarray

  def __len__(self) -> int:
    return len(self.start_s)


class ImuStream:
  """An embedding every hop; bounded memory, constant time a hop."""

  def __init__(
    self,
    encoder: pretrained.ImuEmbedder,
    hop_s: float,
    *,
    rate_hz: float | None = None,
    late_s: float = 0.05,
    min_coverage: float = 0.9,
    sensor_mask: tuple[bool, bool] = (True, True),
  ):
    """Start a stream.

    Args:
      encoder: from `load_imu_encoder`.
      hop_s: from the start of one window to the start of the next.
      rate_hz: the rate of samples that come without stamps; None where every
        sample has its stamp. At the encoder's own rate nothing is resampled
        and a window is embedded with its last sample.
      late_s: how far a stamp may lie behind the newest one before it. Longer
        makes everything come later. Of no use with `rate_hz`.
      min_coverage: windows with a smaller share of real samples (gaps) are
        left out.
      sensor_mask: accelerometer, gyroscope measured? The columns of a sensor
        that is not are ignored.

    Raises:
      ValueError: a number out of its bounds, or no sensor.
    """
    for name, value, low, high in (
      ("hop_s", hop_s, 0, math.inf),
      ("rate_hz", 1.0 if rate_hz is None else rate_hz, 0, _FASTEST_HZ),
      ("min_coverage", min_coverage, 0, 1),
    ):
      if not (low < value <= high and math.isfinite(value)):
        raise ValueError(
          f"{name} is {value}, expected more than {low}"
          + (f", at most {high:g}" if math.isfinite(high) else "")
        )
    if not 0 <= late_s < _FARTHEST_S:
      raise ValueError(
        f"late_s is {late_s}, expected 0 or more, below {_FARTHEST_S:g}"
      )
    if len(sensor_mask) != 2 or not any(sensor_mask):
      raise ValueError(f"sensor_mask is {sensor_mask}, expected one sensor")
    self._encoder, self._hop_s, self._rate_hz = encoder, hop_s, rate_hz
    self._late_s = late_s if rate_hz is None else 0.0
    self._min_coverage = min_coverage
    self._mask = np.array(sensor_mask, bool)
    self._num_samples = imu_lib.samples_in(encoder.window_s, encoder.rate_hz)
    # On the grid already: a window needs its own samples and no other.
    self._aligned = rate_hz == encoder.rate_hz
    # No more samples than these are ever kept.
    _, reach = resampling.filter_reach(1 / _FASTEST_HZ, encoder.rate_hz)
    span_s = encoder.window_s + self._late_s + 2 * reach / _FASTEST_HZ
    self._most = math.ceil(_FASTEST_HZ * (span_s + 1)) + _PENDING
    self._t_s, self._imu = np.zeros(0), np.zeros((0, 6))
    self._pending: list[tuple[np.ndarray, np.ndarray]] = []
    self._num_pending = self._num_pushed = 0
    self._newest_s = -math.inf
    self._begin_s: float | None = None  # start of the first window
    self._next = 0  # index of the next window
    self._due_s = -math.inf  # no window is ready before this stamp
    self._finished = False

  @property
  def buffered(self) -> int:
    """Samples kept at the moment."""
    return len(self._t_s) + self._num_pending

  def push(self, imu, times_s=None) -> Hops:
    """Take samples in.

    Args:
      imu: [N, 6] m/s² including gravity, rad/s, in the head frame; or one
        sample [6]. Samples that are not finite are dropped, as offline.
      times_s: [N] stamps in seconds on any clock; None with `rate_hz`.

    Returns:
      The windows that became ready, in order; often none.

    Raises:
      ValueError: a wrong shape, stamps missing or too many, one that is too
        late or an hour ahead: the samples of that call are not taken in. Or a
        clock that stands still.
    """
    imu, times_s = self._checked(imu, times_s)
    keep = np.isfinite(times_s)
    keep &= np.isfinite(imu[:, np.repeat(self._mask, 3)]).all(1)
    imu = np.where(np.repeat(self._mask, 3), imu, 0)[keep]
    times_s = times_s[keep]
    if len(times_s):
      self._check_order(times_s)
      self._newest_s = max(self._newest_s, float(times_s.max()))
    self._num_pushed += len(keep)
    # Portions, so that a long file is no more in memory than a short one.
    found = [self._none()]
    for begin in range(0, len(times_s), _PENDING):
      portion = slice(begin, begin + _PENDING)
      self._pending.append((times_s[portion], imu[portion]))
      self._num_pending += len(times_s[portion])
      last_s = self._pending[-1][0].max()
      if last_s >= self._due_s or self._num_pending >= _PENDING:
        found.append(self._take(last=False))
    return _joined(found)

  def finish(self) -> Hops:
    """End the stream; return the windows that waited for samples behind them.

    Raises:
      ValueError: it has ended before.
    """
    if self._finished:
      raise ValueError("the stream has finished; start a new one")
    found = self._take(last=True)
    self._finished = True
    return found

  def _checked(self, imu, times_s):
    if self._finished:
      raise ValueError("the stream has finished; start a new one")
    imu = np.asarray(imu, np.float64)
    imu = imu[None] if imu.ndim == 1 else imu
    if imu.ndim != 2 or imu.shape[1] != 6:
      raise ValueError(f"imu must be [N, 6], got {list(imu.shape)}")
    if (times_s is None) != (self._rate_hz is not None):
      have = "without" if times_s is None else "with"
      raise ValueError(
        f"samples came {have} times_s, rate_hz is {self._rate_hz}: give one "
        "of the two"
      )
    if times_s is None:
      times_s = (self._num_pushed + np.arange(len(imu))) / self._rate_hz
    times_s = np.atleast_1d(np.asarray(times_s, np.float64))
    if times_s.shape != (len(imu),):
      raise ValueError(
        f"times_s must be [{len(imu)}] as imu, got {list(times_s.shape)}"
      )
    return imu, times_s

  def _check_order(self, times_s):
    before = np.maximum.accumulate(np.append(self._newest_s, times_s))[:-1]
    late = times_s < before - self._late_s
    if late.any():
      i = int(late.argmax())
      raise ValueError(
        f"times_s {times_s[i]:.6f} lies {before[i] - times_s[i]:.3f} s behind "
        f"the newest; late_s is {self._late_s:g}"
      )
    ahead = np.isfinite(before) & (times_s > before + _FARTHEST_S)
    if ahead.any():
      i = int(ahead.argmax())
      raise ValueError(
        f"times_s {times_s[i]:.6f} lies {times_s[i] - before[i]:.0f} s ahead "
        "of the newest; start a new stream for another recording"
      )

  def _take(self, last):
    """Take pending samples in, embed what is ready, drop what is done with."""
    parts = [(self._t_s, self._imu), *self._pending]
    self._pending, self._num_pending = [], 0
    t_s = np.concatenate([part[0] for part in parts])
    order = np.argsort(t_s, kind="stable")
    self._t_s = t_s[order]
    self._imu = np.concatenate([part[1] for part in parts])[order]
    if not len(t_s):
      return self._none()
    if len(t_s) > self._most:
      raise ValueError(
        f"{len(t_s)} samples came within {self._t_s[-1] - self._t_s[0]:.3f} s: "
        "the clock stands still"
      )
    settled = len(t_s)
    if not last:
      settled = np.searchsorted(
        self._t_s, self._t_s[-1] - self._late_s, side="right"
      )
    clean = stamps.clean(self._t_s[:settled], self._imu[:settled])
    step_s = stamps.typical_step(clean[0])
    windows = []
    while (window := self._cut(*clean, step_s, last)) is not None:
      windows += [window] if window[2] >= self._min_coverage - 1e-9 else []
    self._drop(clean[0], step_s)
    return self._embed(windows)

  def _cut(self, t_s, imu, step_s, last):
    """Return the next window as (start_s, [T, 6], coverage), None if not yet.

    Args:
      t_s: [M] clean stamps.
      imu: [M, 6].
      step_s: their typical step.
      last: no more samples will come.
    """
    # Of the newest stamp's cluster another sample may come.
    have = len(t_s) - (self._rate_hz is None and not last)
    if have < 2:
      return None
    if self._begin_s is None:
      self._begin_s = float(t_s[0])
    start_s = self._begin_s + self._hop_s * self._next
    if last:
      span_s = self._begin_s, float(t_s[-1]) + step_s
      starts = imu_lib.stride_starts(
        span_s, self._encoder.window_s, self._hop_s
      )
      if self._next >= len(starts):
        return None
    low_s, high_s = self._needs(start_s, step_s)
    self._due_s = high_s - _SAME_S + self._late_s
    low = np.searchsorted(t_s, low_s - _SAME_S)
    high = np.searchsorted(t_s, high_s + _SAME_S, side="right")
    if not self._aligned:
      low, high = max(low - _NODES, 0), high + _NODES // 2 + 1
    if not last and (high > have or t_s[have - 1] < high_s - _SAME_S):
      return None
    self._next += 1
    self._skip_gap(t_s, start_s, step_s)
    return self._read(t_s[low:high], imu[low:high], start_s)

  def _read(self, t_s, imu, start_s):
    """Return (start_s on the grid, [T, 6], coverage), as `to_grid` and `cut`
    give them."""
    rate_hz = self._encoder.rate_hz
    first = int(np.rint(start_s * rate_hz))
    wanted = np.arange(first, first + self._num_samples)
    # The grid's ends: beyond them it is repeated, and not real.
    end_s = t_s[-1] + stamps.typical_step(t_s)
    begin, end = round(t_s[0] * rate_hz), math.ceil(end_s * rate_hz - 1e-6)
    rows = np.clip(wanted, begin, max(end - 1, begin))
    values, real = resampling.resample(
      t_s, imu, rate_hz, int(rows[0]), int(rows[-1] - rows[0]) + 1
    )
    real = real[rows - rows[0]] & (rows == wanted)
    return first / rate_hz, values[rows - rows[0]], float(np.mean(real))

  def _needs(self, start_s, step_s):
    """Return the first and last time that a window's resampling looks at."""
    rate_hz = self._encoder.rate_hz
    first = np.rint(start_s * rate_hz)
    factor, reach = resampling.filter_reach(step_s, rate_hz)
    reach_s = 0.0 if self._aligned else reach / (factor * rate_hz)
    last = first + self._num_samples - 1
    return first / rate_hz - reach_s, last / rate_hz + reach_s

  def _skip_gap(self, t_s, start_s, step_s):
    """Leave out the windows that lie wholly in the gap where one starts."""
    after = np.searchsorted(t_s, start_s)
    if not 0 < after < len(t_s):
      return
    clear_s = 2 * step_s + 2 / self._encoder.rate_hz
    if start_s <= t_s[after - 1] + clear_s:
      return
    first_s = t_s[after] - clear_s - self._encoder.window_s - self._begin_s
    self._next = max(self._next, math.floor(first_s / self._hop_s))

  def _drop(self, t_s, step_s):
    """Drop the samples that no later window looks at."""
    if self._begin_s is None or not len(t_s):
      return
    start_s = self._begin_s + self._hop_s * self._next
    low = np.searchsorted(t_s, self._needs(start_s, step_s)[0])
    # One more: its cluster of equal stamps may be cut.
    low = max(low - _NODES - 1, 0)
    keep = slice(np.searchsorted(self._t_s, t_s[low] - step_s), None)
    self._t_s, self._imu = self._t_s[keep].copy(), self._imu[keep].copy()

  def _embed(self, windows):
    if not windows:
      return self._none()
    starts, imu, coverage = map(np.stack, zip(*windows, strict=True))
    mask = np.repeat(self._mask[None], len(imu), axis=0)
    embeddings = self._encoder.embed(imu, self._encoder.rate_hz, mask)
    return Hops(starts, embeddings, coverage)

  def _none(self):
    nothing = np.zeros((0, self._encoder.dim), np.float32)
    return Hops(np.zeros(0), nothing, np.zeros(0))


def _joined(found):
  return Hops(
    *(
      np.concatenate([getattr(hops, field.name) for hops in found])
      for field in dataclasses.fields(Hops)
    )
  )
