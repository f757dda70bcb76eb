"""Stamped samples to one uniform rate, with an anti-aliasing filter.

Rates are never whole numbers (a "200 Hz" camera gives 197.5-199.3) and stamps
jitter, repeat and jump, so times come from the stamps alone. Gaps are bridged
by a straight line and reported; nothing is ever filled with zeros.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import signal

# A stamp belongs to no recording that is further from the median one than 1 h
# and 20 times the time that all samples take, or that an hour without samples
# parts from the others, with less than this share of them.
_FAR_S, _FAR_TIMES, _STRAY_SHARE = 3600.0, 20.0, 1e-3
# Stamps closer than this share of the typical step are one sample, twice;
# where that would make one of a stretch this many steps long, it was sampled
# faster.
_SAME_SHARE, _STRETCH_STEPS = 0.25, 2.0
# Steps longer than both are gaps: 3 typical steps, 50 ms.
_GAP_STEPS, _GAP_S = 3.0, 0.05
# Steps longer than this many typical ones are bridged by a straight line: a
# polynomial would swing there.
_HOLE_STEPS = 2.5
# Samples a polynomial goes through.
NODES = 8
# Numbers that stay in a core's cache, and what the low-pass filter leaves.
_BLOCK, _ATTENUATION_DB = 128 << 10, 60


def clean(t_s, values) -> tuple[np.ndarray, np.ndarray]:
  """Sort samples by time and leave out those that cannot be placed.

  NaN or infinite stamps are dropped, as are values that float32 cannot hold
  and, with a warning, stamps hours away from the others. Samples closer
  together than a quarter of the typical step are averaged (duplicates, batches
  with one stamp).

  Args:
    t_s: [N] seconds, any order.
    values: [N, C], float32 or what becomes float64.

  Returns:
    (t_s [M] float64, strictly increasing; values [M, C] float32 or float64).
    What is clean already comes back as it is, not copied.

  >>> clean([0.2, 0.0, 0.1, 0.1, np.nan], [[3.0], [1], [1], [3], [9]])[1].T
  array([[1., 2., 3.]])
  """
  values = np.asarray(values)
  if values.dtype != np.float32:
    values = values.astype(np.float64, copy=False)
  t_s, (values,), _ = clean_together(t_s, [values], usable(values))
  return t_s, values


def clean_together(
  t_s, parts: Sequence[np.ndarray], keep: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], float]:
  """Do what `clean` does with several arrays of one clock.

  Args:
    t_s: [N] seconds.
    parts: arrays [N, C].
    keep: [N] bool, which rows are `usable`.

  Returns:
    t_s [M], the parts [M, C], `typical_step(t_s)`.
  """
  t_s, parts = np.asarray(t_s, np.float64), list(parts)
  keep = keep & np.isfinite(t_s)

  def taken(rows):
    return t_s[rows], [values[rows] for values in parts]

  if not keep.all():
    t_s, parts = taken(keep)
  if not len(t_s):
    return t_s, parts, 0.0
  if (t_s[1:] < t_s[:-1]).any():
    t_s, parts = taken(np.argsort(t_s, kind="stable"))
  if t_s[-1] - t_s[0] > _FAR_S:
    near = _near_the_others(t_s)
    if not near.all():
      warnings.warn(
        f"{np.count_nonzero(~near)} of {len(near)} samples are left out: their "
        f"stamps lie hours away from the others, which run from "
        f"{t_s[near][0]:g} to {t_s[near][-1]:g} s",
        stacklevel=2,
      )
      t_s, parts = taken(near)
  step_s = typical_step(t_s)
  if (np.diff(t_s) > _SAME_SHARE * step_s).all():
    return t_s, parts, step_s
  first = _one_sample_each(t_s, step_s)
  count = np.diff(first, append=len(t_s))
  t_s = np.add.reduceat(t_s, first) / count
  for i, values in enumerate(parts):
    total = np.add.reduceat(values, first, axis=0, dtype=np.float64)
    parts[i] = (total / count[:, None]).astype(values.dtype)
  return t_s, parts, typical_step(t_s)


def _near_the_others(t_s):
  """Say which of sorted stamps belong to the recording."""
  middle_s = t_s[len(t_s) // 2]
  far_s = _FAR_S + _FAR_TIMES * len(t_s) * typical_step(t_s)
  near = np.abs(t_s - middle_s) <= far_s
  first = np.append(0, np.flatnonzero(np.diff(t_s) > _FAR_S) + 1)
  counts = np.diff(first, append=len(t_s))
  # The middle one stays, also where all are far apart.
  stray = np.repeat(counts < _STRAY_SHARE * len(t_s), counts)
  return near & (~stray | (t_s == middle_s))


def _one_sample_each(t_s, step_s):
  """Return where each sample of sorted stamps begins, also if it came twice."""
  first = np.append(0, np.flatnonzero(np.diff(t_s) > _SAME_SHARE * step_s) + 1)
  ends = np.append(first[1:], len(t_s))
  stretches = t_s[ends - 1] - t_s[first] > _STRETCH_STEPS * step_s
  found = [first]
  for begin, end in zip(first[stretches], ends[stretches], strict=True):
    own = t_s[begin:end]
    found.append(begin + _one_sample_each(own, typical_step(own)))
  return np.unique(np.concatenate(found))


def usable(values: np.ndarray) -> np.ndarray:
  """Say which rows of [N, C] float32 holds: no NaN, infinity or overflow."""
  largest = np.finfo(np.float32).max
  with np.errstate(all="ignore"):
    # One number tells of nearly every recording that all of its rows are.
    if np.einsum("nc,nc->", values, values) < largest:
      return np.ones(len(values), bool)
    return (np.abs(values) <= largest).all(axis=1)


def typical_step(t_s) -> float:
  """Return the median positive step of sorted stamps, 0 if there is none.

  >>> typical_step(np.array([0.0, 0.25, 0.25, 0.5, 9.0]))
  0.25
  """
  steps = np.diff(t_s)
  if not (steps > 0).all():
    steps = steps[steps > 0]
  if not steps.size:
    return 0.0
  # As np.median, in a third of the time: of many steps only those near the
  # median of a few are put in order.
  places = np.array([(steps.size - 1) // 2, steps.size // 2])
  few = np.sort(steps[::64])
  margin = len(few) * 2 // 5
  least, most = few[margin], few[-1 - margin]
  near = steps[(least <= steps) & (steps <= most)]
  before = np.count_nonzero(steps < least)
  if before <= places[0] and places[1] < before + near.size:
    steps, places = near, places - before
  steps.partition(places)
  return float(steps[places].mean())


def resample(
  t_s,
  values,
  rate_hz: float,
  first: int,
  num_samples: int,
  step_s: float | None = None,
):
  """Put clean samples on the grid times (first + k) / rate_hz.

  The polynomial through the eight nearest samples is read at the grid's rate,
  or, where the source is more than 5 % faster, at the whole multiple of it that
  reaches the source's rate and then low-pass filtered: a Kaiser filter without
  delay, flat to 0.1 % up to 0.8 of the new Nyquist frequency and 60 dB down
  above it.

  Args:
    t_s: [N] strictly increasing seconds, N >= 1 (see `clean`).
    values: [N, C], or a list of arrays whose channels stand side by side.
    rate_hz: rate of the grid; any positive number.
    first: index of the first grid sample; it lies at first / rate_hz.
    num_samples: number of grid samples.
    step_s: `typical_step(t_s)`, where it is known.

  Returns:
    (values [num_samples, C] float32, real [num_samples] bool). A grid sample is
    real if it lies between two samples that no gap parts (a gap is longer than
    50 ms and than 3 typical steps), or within a typical step of either end.
    Values that are not real lie on a straight line across the gap, or repeat
    the first or last sample.
  """
  step_s = typical_step(t_s) if step_s is None else step_s
  factor, reach = filter_reach(step_s, rate_hz)
  fine = _interpolate(
    t_s,
    values if isinstance(values, list) else [values],
    factor * first - reach,
    (num_samples - 1) * factor + 1 + 2 * reach,
    factor * rate_hz,
    step_s,
  )
  if factor > 1:
    beta = signal.kaiser_beta(_ATTENUATION_DB)
    kernel = signal.firwin(2 * reach + 1, 0.9 / factor, window=("kaiser", beta))
    fine = signal.upfirdn(kernel.astype(np.float32), fine.T, down=factor).T
    skip = 2 * reach // factor
    fine = fine[skip : skip + num_samples]
  return fine, _real(t_s, rate_hz, first, num_samples, step_s)


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


def _interpolate(t_s, parts, first, count, rate_hz, step_s):
  """Read parts [N, C] at (first + k) / rate_hz, as float32 [count, sum of C].

  Block by block, so that a core's cache holds what is worked on and no copy of
  a whole recording is made.
  """
  parts = [values.T for values in parts]
  channels = sum(len(part) for part in parts)
  out = np.empty((count, channels), np.float32)
  smooth = _far_from_holes(t_s, step_s)
  size = max(_BLOCK // channels, 64)
  stop = 0
  for begin in range(0, len(smooth), size):
    end = min(begin + size, len(smooth))
    # The first output after each sample.
    own = np.ceil(t_s[begin : end + 1] * rate_hz - first)
    own = np.clip(own, 0, count).astype(np.int64)
    if begin == 0:
      out[: own[0]] = np.concatenate([part[:, 0] for part in parts])
    if own[0] < own[-1]:
      nodes_t = _around(t_s, begin, end)
      zero_s = nodes_t[0]
      at_s = (first + np.arange(own[0], own[-1])) / rate_hz
      _read(
        (nodes_t - zero_s) / step_s,
        _side_by_side([_around(part, begin, end) for part in parts]),
        own - own[0],
        smooth[begin:end],
        (at_s - zero_s) / step_s,
        out[own[0] : own[-1]],
      )
    stop = own[-1]
  out[stop:] = np.concatenate([part[:, -1] for part in parts])
  return out


def _side_by_side(parts):
  return np.concatenate(parts, dtype=np.float32, casting="same_kind")


def _far_from_holes(t_s, step_s):
  """Say for the N - 1 intervals whether a polynomial may be read there."""
  hole = np.diff(t_s) > _HOLE_STEPS * step_s
  if len(t_s) < NODES // 2 or not hole.any():
    return np.full(len(hole), len(t_s) >= NODES // 2)
  near = np.pad(hole, NODES // 2 - 1, "symmetric")
  return ~np.lib.stride_tricks.sliding_window_view(near, NODES - 1).any(axis=1)


def _around(samples, begin, end):
  """Return the nodes of intervals `begin` to `end` of [..., N] samples.

  Beyond the ends the samples are turned about the last one: what passes
  through an end goes on straight there.
  """
  before = max(NODES // 2 - 1 - begin, 0)
  after = max(end + NODES // 2 - samples.shape[-1], 0)
  begin = max(begin - NODES // 2 + 1, 0)
  inside = samples[..., begin : end + NODES // 2]
  if not before and not after:
    return inside
  width = [(0, 0)] * (samples.ndim - 1) + [(before, after)]
  return np.pad(inside, width, "reflect", reflect_type="odd")


def _read(t, values, edges, smooth, at, out):
  """Interpolate in n intervals, each at the outputs that it owns.

  In a smooth interval the polynomial through `NODES` / 2 samples to either side
  is read, else the straight line between its two. As most intervals own one
  output, that of each is read beside the others', without indices.

  Args:
    t: [n + NODES - 1] stamps in typical steps; interval i's nodes are those
      from i on.
    values: [C, n + NODES - 1] float32.
    edges: [n + 1] first output of each interval.
    smooth: [n] bool.
    at: [K] times of the outputs, in typical steps.
    out: [K, C] float32, written.
  """
  count, owned = len(smooth), np.diff(edges)
  left = np.repeat(np.arange(count), owned)
  if smooth.any():
    with np.errstate(all="ignore"):  # across holes, where nothing is used
      stamps = np.lib.stride_tricks.sliding_window_view(t, count)
      scale = _scale(t)
      # The first output of each; one that owns none takes the next one's.
      own = at[np.minimum(edges[:-1], len(at) - 1)]
      away = np.empty((NODES, count), np.float32)
      np.subtract(own, stamps, out=away, casting="same_kind")
      nodes = [values[:, j : j + count] for j in range(NODES)]
      found = _combine(scale, away, nodes)
      found = np.ascontiguousarray(found.T)
      np.take(found, left, axis=0, out=out, mode="clip")
      # The second output of those that own two, and so on.
      owned = np.where(smooth, owned, 0)
      for nth in range(1, owned.max()):
        rows = np.flatnonzero(owned > nth)
        index = edges[rows] + nth
        places = rows + np.arange(NODES)[:, None]
        nodes = np.take(values, places, axis=1, mode="clip").swapaxes(0, 1)
        away = (at[index] - t[places]).astype(np.float32)
        out[index] = _combine(scale[:, rows], away, nodes).T
  if not smooth.all():
    index = np.flatnonzero(~smooth[left])
    left = left[index] + NODES // 2 - 1
    share = ((at[index] - t[left]) / (t[left + 1] - t[left])).astype(np.float32)
    line = (1 - share) * values[:, left] + share * values[:, left + 1]
    out[index] = line.T


def _scale(t):
  """Return [NODES, n]: node j's 1 / prod(t_j - t_m) over the other nodes m."""
  # Products of the distances to the q stamps before and after each stamp.
  before = after = [np.ones(len(t), np.float32)]
  for lag in range(1, NODES):
    distance = (t[lag:] - t[:-lag]).astype(np.float32)
    before = [*before, before[-1][1:] * distance]
    after = [*after, after[-1][:-1] * distance]
  count = len(after[-1])
  scale = np.empty((NODES, count), np.float32)
  for j in range(NODES):
    spread = before[j][:count] * after[-1 - j][j:]
    np.divide((-1) ** (NODES - 1 - j), spread, out=scale[j])
  return scale


def _combine(scale, away, nodes):
  """Return Lagrange's polynomials [C, n]: the sum over the nodes j of
  nodes[j] * scale[j] * prod(away[m]) over the other nodes m."""
  weights = scale.copy()
  for order in (range(NODES), range(NODES - 1, -1, -1)):
    first, *others = order
    product = away[first].copy()
    for j in others:
      weights[j] *= product
      product *= away[j]
  total = weights[0] * nodes[0]
  term = np.empty_like(total)
  for weight, node in zip(weights[1:], nodes[1:], strict=True):
    total += np.multiply(weight, node, out=term)
  return total


def _longest_step(step_s):
  return max(_GAP_S, _GAP_STEPS * step_s)


def _real(t_s, rate_hz, first, count, step_s):
  """Say which of the grid times lie in a run of samples, or a step beside."""
  near_s = 1e-9 + (1 + 1e-6) * step_s  # grid times are rounded, stamps are too
  gaps = np.flatnonzero(np.diff(t_s) > _longest_step(step_s))
  begin_s = t_s[np.append(0, gaps + 1)] - near_s
  end_s = t_s[np.append(gaps, len(t_s) - 1)] + near_s
  change = np.zeros(count + 1, np.int32)
  for times_s, step in ((begin_s, 1), (end_s, -1)):
    index = np.clip(np.ceil(times_s * rate_hz - first), 0, count)
    np.add.at(change, index.astype(np.int64), step)
  return np.cumsum(change[:-1]) > 0
