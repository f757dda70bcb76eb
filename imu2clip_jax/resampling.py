"""Stamped samples to one uniform rate, with an anti-aliasing filter.

Rates are never whole numbers (a "200 Hz" camera gives 197.5-199.3) and stamps
jitter, repeat and jump, so times come from the stamps alone. Gaps are bridged
by a straight line and reported; nothing is ever filled with zeros.
"""

import math

import numpy as np
from scipy import signal, sparse

# A stamp further than this from the median one belongs to no recording: 12 h,
# or, for short ones, 1 h and 20 times the time that its samples take.
_FARTHEST_S, _FAR_S, _FAR_TIMES = 12 * 3600.0, 3600.0, 20.0
# Stamps closer than this share of the typical step are one sample, twice.
_SAME_SHARE = 0.25
# Steps longer than both are gaps: 3 typical steps, 50 ms.
_GAP_STEPS, _GAP_S = 3.0, 0.05
# Steps longer than this many typical ones are bridged by a straight line: a
# polynomial would swing there.
_HOLE_STEPS = 2.5
# Samples a polynomial goes through.
NODES = 8
# Output samples computed at once, and what the low-pass filter leaves.
_BLOCK, _ATTENUATION_DB = 1 << 16, 60


def clean(t_s, values) -> tuple[np.ndarray, np.ndarray]:
  """Sort samples by time and leave out those that cannot be placed.

  NaN or infinite stamps and values are dropped, as are stamps hours away from
  the median stamp. Samples closer together than a quarter of the typical step
  are averaged (duplicates, batches with one stamp).

  Args:
    t_s: [N] seconds, any order.
    values: [N, C].

  Returns:
    (t_s [M] strictly increasing, values [M, C]), float64.

  >>> clean([0.2, 0.0, 0.1, 0.1, np.nan], [[3.0], [1], [1], [3], [9]])[1].T
  array([[1., 2., 3.]])
  """
  t_s = np.asarray(t_s, np.float64)
  values = np.asarray(values, np.float64)
  keep = np.isfinite(t_s) & np.isfinite(values).all(axis=1)
  if not keep.all():
    t_s, values = t_s[keep], values[keep]
  if not len(t_s):
    return t_s, values
  if (np.diff(t_s) < 0).any():
    order = np.argsort(t_s, kind="stable")
    t_s, values = t_s[order], values[order]
  middle_s = t_s[len(t_s) // 2]
  far_s = _FAR_S + _FAR_TIMES * len(t_s) * typical_step(t_s)
  far_s = min(far_s, _FARTHEST_S)
  near = slice(*np.searchsorted(t_s, [middle_s - far_s, middle_s + far_s]))
  t_s, values = t_s[near], values[near]
  starts = np.diff(t_s, prepend=-np.inf) > _SAME_SHARE * typical_step(t_s)
  if starts.all():
    return t_s, values
  first = np.flatnonzero(starts)
  count = np.diff(first, append=len(t_s))
  return (
    np.add.reduceat(t_s, first) / count,
    np.add.reduceat(values, first, axis=0) / count[:, None],
  )


def typical_step(t_s) -> float:
  """Return the median positive step of sorted stamps, 0 if there is none.

  >>> typical_step(np.array([0.0, 0.25, 0.25, 0.5, 9.0]))
  0.25
  """
  steps = np.diff(t_s)
  steps = steps[steps > 0]
  return float(np.median(steps)) if steps.size else 0.0


def resample(t_s, values, rate_hz: float, first: int, num_samples: int):
  """Put clean samples on the grid times (first + k) / rate_hz.

  The polynomial through the eight nearest samples is read at the grid's rate,
  or, where the source is more than 5 % faster, at the whole multiple of it that
  reaches the source's rate and then low-pass filtered: a Kaiser filter without
  delay, flat to 0.1 % up to 0.8 of the new Nyquist frequency and 60 dB down
  above it.

  Args:
    t_s: [N] strictly increasing seconds, N >= 1 (see `clean`).
    values: [N, C].
    rate_hz: rate of the grid; any positive number.
    first: index of the first grid sample; it lies at first / rate_hz.
    num_samples: number of grid samples.

  Returns:
    (values [num_samples, C] float32, real [num_samples] bool). A grid sample is
    real if it lies between two samples that no gap parts (a gap is longer than
    50 ms and than 3 typical steps), or within a typical step of either end.
    Values that are not real lie on a straight line across the gap, or repeat
    the first or last sample.
  """
  step_s = typical_step(t_s)
  factor, reach = filter_reach(step_s, rate_hz)
  if factor > 1:
    beta = signal.kaiser_beta(_ATTENUATION_DB)
    kernel = signal.firwin(2 * reach + 1, 0.9 / factor, window=("kaiser", beta))
    kernel = kernel.astype(np.float32)
  fine = _interpolate(
    t_s,
    values,
    factor * first - reach,
    (num_samples - 1) * factor + 1 + 2 * reach,
    factor * rate_hz,
    step_s,
  )
  if factor > 1:
    fine = signal.upfirdn(kernel, fine, down=factor, axis=0)
    skip = 2 * reach // factor
    fine = fine[skip : skip + num_samples]
  grid_s = (first + np.arange(num_samples)) / rate_hz
  return fine, _real(t_s, grid_s, step_s)


def filter_reach(step_s: float, rate_hz: float) -> tuple[int, int]:
  """Say how far `resample` looks to either side of an output sample.

  Args:
    step_s: typical step of the source, 0 if unknown.
    rate_hz: rate of the grid.

  Returns:
    (factor, reach): the low-pass filter runs at factor * rate_hz and reaches
    over `reach` of its samples; (1, 0) where none is needed. `NODES` / 2 source
    samples more are looked at for interpolation.

  >>> filter_reach(1 / 200, 50), filter_reach(1 / 200, 200)
  ((4, 76), (1, 0))
  """
  factor = max(1, math.ceil(1 / (step_s * rate_hz) - 0.05)) if step_s else 1
  if factor == 1:
    return 1, 0
  taps, _ = signal.kaiserord(_ATTENUATION_DB, 0.2 / factor)
  return factor, math.ceil(taps / 2 / factor) * factor


def _interpolate(t_s, values, first, count, rate_hz, step_s):
  """Read [N, C] at (first + k) / rate_hz; straight lines across holes."""
  values = values.astype(np.float32)
  if len(t_s) == 1:
    return np.repeat(values, count, axis=0)
  begin_s, end_s = t_s[0], t_s[-1]
  t_s, values = _mirror(t_s), _mirror(values)
  hole = np.diff(t_s) > _HOLE_STEPS * step_s
  run = np.concatenate([[0], np.cumsum(hole)])
  out = np.empty((count, values.shape[1]), np.float32)
  for begin in range(0, count, _BLOCK):
    index = np.arange(begin, min(begin + _BLOCK, count))
    at = np.clip((first + index) / rate_hz, begin_s, end_s)
    left = np.searchsorted(t_s, at, side="right") - 1
    low, high = left - NODES // 2 + 1, left + NODES // 2
    smooth = (low >= 0) & (high < len(t_s))
    smooth[smooth] = run[low[smooth]] == run[high[smooth]]
    if smooth.any():
      out[index[smooth]] = _read(t_s, values, low[smooth], at[smooth], step_s)
    if not smooth.all():
      left = np.minimum(left[~smooth], len(t_s) - 2)
      share = (at[~smooth] - t_s[left]) / (t_s[left + 1] - t_s[left])
      share = share[:, None]
      out[index[~smooth]] = (1 - share) * values[left] + share * values[
        left + 1
      ]
  return out


def _mirror(samples):
  """Turn the first and last few of [N, ...] about the ends, to go before and
  after: what passes through the ends goes on straight there."""
  count = min(NODES // 2, len(samples) - 1)
  before = 2 * samples[0] - samples[count:0:-1]
  after = 2 * samples[-1] - samples[-2 : -2 - count : -1]
  return np.concatenate([before, samples, after])


def _read(t_s, values, start, at, step_s):
  """Read the polynomials through `NODES` samples from `start` on, at `at`.

  Barycentric form (Berrut and Trefethen 2004, eq. 4.2): node j has the weight
  1 / (at - t_j) / prod(t_j - t_m), scaled to the sum 1. All outputs together
  are one sparse matrix.
  """
  zero, stop = start[0], start[-1] + NODES
  t = (t_s[zero:stop] - t_s[zero]) / step_s
  at = (at - t_s[zero]) / step_s
  start = (start - zero).astype(np.int32)
  # Products of the distances to the q samples before and after each sample.
  before, after = [np.ones(len(t))], [np.ones(len(t))]
  for lag in range(1, NODES):
    distance = t[lag:] - t[:-lag]
    before.append(before[-1][1:] * distance)
    after.append(after[-1][:-1] * distance)
  weights = np.empty((len(at), NODES))
  for j in range(NODES):
    spread = before[j][: len(t) - NODES + 1] * after[-1 - j][j:]
    away = at - t[j:][start]
    away[away == 0] = 1e-12  # on a sample: all the weight is its own
    weights[:, j] = (-1) ** j / (spread[start] * away)
  weights /= weights.sum(axis=1, keepdims=True)
  columns = start[:, None] + np.arange(NODES, dtype=np.int32)
  rows = np.arange(0, columns.size + 1, NODES, dtype=np.int32)
  matrix = sparse.csr_array(
    (weights.astype(np.float32).ravel(), columns.ravel(), rows),
    shape=(len(at), len(t)),
  )
  return matrix @ values[zero:stop]


def _longest_step(step_s):
  return max(_GAP_S, _GAP_STEPS * step_s)


def _real(t_s, grid_s, step_s):
  tolerance = 1e-9 + 1e-6 * step_s  # grid times are rounded, stamps are too
  right = np.searchsorted(t_s, grid_s)
  left = np.clip(right - 1, 0, len(t_s) - 1)
  right = np.clip(right, 0, len(t_s) - 1)
  near = np.minimum(np.abs(grid_s - t_s[left]), np.abs(t_s[right] - grid_s))
  between = (right > left) & (t_s[right] - t_s[left] <= _longest_step(step_s))
  return between | (near <= step_s + tolerance)
