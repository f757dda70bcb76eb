"""Stamped samples to one uniform rate, with an anti-aliasing filter.

Rates are never whole numbers (a "200 Hz" camera gives 197.5-199.3) and stamps
jitter, repeat and jump, so times come from the stamps alone. Gaps are bridged
by a straight line and reported; nothing is ever filled with zeros.
"""

import math

import numpy as np
from scipy import signal

from imu2clip_jax import stamps

# Steps longer than both are gaps: 3 typical steps, 50 ms.
_GAP_STEPS, _GAP_S = 3.0, 0.05
# Steps longer than this many typical ones are bridged by a straight line: a
# polynomial would swing there, as it would in a step that is this many times as
# long as two beside it.
_HOLE_STEPS = 2.5
# Samples a polynomial goes through.
NODES = 8
# An output may be read from the polynomial of a neighbouring interval unless
# its own is this many times as long: further out noise would grow.
_EVEN = 2.0
# Numbers that stay in a core's cache, and what the low-pass filter leaves.
_BLOCK, _ATTENUATION_DB = 112 << 10, 60


def resample(
  t_s,
  values,
  rate_hz: float,
  first: int,
  num_samples: int,
  step_s: float | None = None,
):
  """Put clean samples on the grid times (first + k) / rate_hz.

  A polynomial through the eight nearest samples (where stamps jitter, now and
  then those one further on) is read at the grid's rate, or, where the source is
  more than 5 % faster, at the whole multiple of it that reaches the source's
  rate and then low-pass filtered: a Kaiser filter without delay, flat to 0.1 %
  up to 0.8 of the new Nyquist frequency and 60 dB down above it. The typical
  step tells the source's rate: of a stretch that was sampled faster, what lies
  above the new Nyquist frequency is folded down.

  Args:
    t_s: [N] strictly increasing seconds, N >= 1 (see `stamps.clean`).
    values: [N, C], or a list of arrays whose channels stand side by side.
    rate_hz: rate of the grid; any positive number.
    first: index of the first grid sample; it lies at first / rate_hz.
    num_samples: number of grid samples.
    step_s: `stamps.typical_step(t_s)`, where it is known.

  Returns:
    (values [num_samples, C] float32, real [num_samples] bool). A grid sample is
    real if it lies between two samples that no gap parts (a gap is longer than
    50 ms and than 3 typical steps), or within a typical step of either end.
    Values that are not real lie on a straight line across the gap, or repeat
    the first or last sample.
  """
  step_s = stamps.typical_step(t_s) if step_s is None else step_s
  factor, reach = filter_reach(step_s, rate_hz)
  steps = np.diff(t_s)
  fine = _interpolate(
    t_s,
    values if isinstance(values, list) else [values],
    factor * first - reach,
    (num_samples - 1) * factor + 1 + 2 * reach,
    factor * rate_hz,
    step_s,
    _far_from_holes(steps, step_s),
  )
  if factor > 1:
    beta = signal.kaiser_beta(_ATTENUATION_DB)
    kernel = signal.firwin(2 * reach + 1, 0.9 / factor, window=("kaiser", beta))
    fine = signal.upfirdn(kernel.astype(np.float32), fine.T, down=factor).T
    skip = 2 * reach // factor
    fine = fine[skip : skip + num_samples]
  gaps = np.flatnonzero(steps > max(_GAP_S, _GAP_STEPS * step_s))
  return fine, _real(t_s, gaps, rate_hz, first, num_samples, step_s)


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


def _interpolate(t_s, parts, first, count, rate_hz, step_s, smooth):
  """Read parts [N, C] at (first + k) / rate_hz, as float32 [count, sum of C].

  Block by block, so that a core's cache holds what is worked on and no copy of
  a whole recording is made. `smooth` is of `_far_from_holes`.
  """
  parts = [values.T for values in parts]
  channels = sum(len(part) for part in parts)
  out = np.empty((count, channels), np.float32)
  size = max(_BLOCK // channels, 64)
  stop = 0
  for begin in range(0, len(smooth), size):
    end = min(begin + size, len(smooth))
    own = _first_outputs(t_s, smooth, begin, end, rate_hz, first)
    own = own.clip(0, count)
    if begin == 0:
      out[: own[0]] = np.concatenate([part[:, 0] for part in parts])
    if own[0] < own[-1]:
      at_s = (first + own[:-1]) / rate_hz
      _read(
        _in_steps(np.diff(_around(t_s, begin, end)), step_s),
        _side_by_side([_around(part, begin, end) for part in parts]),
        smooth[begin:end],
        own - own[0],
        _in_steps(at_s - t_s[begin:end], step_s),
        1 / (rate_hz * step_s),
        out[own[0] : own[-1]],
      )
    stop = own[-1]
  out[stop:] = np.concatenate([part[:, -1] for part in parts])
  return out


def _first_outputs(t_s, smooth, begin, end, rate_hz, first):
  """Return the first output of intervals `begin` to `end`, and that behind.

  An interval owns the outputs from its left sample on. Where stamps jitter
  about the grid's rate, some own two beside ones that own none: these take one,
  unless they are much shorter. Read from a neighbour's polynomial it is hardly
  less exact, and it costs as little as the others.
  """
  # One more to either side, so that blocks do not matter.
  low, high = max(begin - 1, 0), min(end + 1, len(smooth))
  own = np.ceil(t_s[low : high + 1] * rate_hz).astype(np.int64) - first
  owned, smooth = np.diff(own), smooth[low:high]
  several, none = smooth & (owned > 1), smooth & (owned == 0)
  steps = np.diff(t_s[low : high + 1])
  own[1:-1] += none[:-1] & several[1:] & (steps[1:] < _EVEN * steps[:-1])
  own[1:-1] -= several[:-1] & none[1:] & (steps[:-1] < _EVEN * steps[1:])
  return own[begin - low : end + 1 - low]


def _side_by_side(parts):
  return np.concatenate(parts, dtype=np.float32, casting="same_kind")


def _far_from_holes(steps, step_s):
  """Say for the N - 1 intervals whether a polynomial may be read there."""
  if len(steps) < NODES // 2 - 1:
    return np.zeros(len(steps), bool)
  hole = steps > _HOLE_STEPS * step_s
  far = ~_windows(hole).any(axis=1) if hole.any() else ~hole
  if _HOLE_STEPS * steps.min() < step_s:  # seldom, and told at once
    far &= ~_beside_faster(steps, step_s)
  return far


def _beside_faster(steps, step_s):
  """Say which intervals border a stretch that was sampled much faster.

  To one side two of the three steps between the nodes are short against the
  interval, or the typical step where that is less. No others are looked at: the
  same samples give the same in a portion of the recording.
  """
  long = np.minimum(steps, step_s) / _HOLE_STEPS
  near = _windows(steps).T
  found = np.zeros(len(steps), bool)
  for first, second, third in (near[:3], near[-3:]):
    found |= long > np.maximum(second, np.minimum(first, third))
  return found


def _windows(steps):
  """Return the steps between the nodes of each interval, [n, NODES - 1]."""
  padded = np.pad(steps, NODES // 2 - 1, "symmetric")
  return np.lib.stride_tricks.sliding_window_view(padded, NODES - 1)


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


def _in_steps(durations_s, step_s):
  return (durations_s / step_s).astype(np.float32)


def _read(steps, values, smooth, edges, past, pace, out):
  """Interpolate in n intervals, each at the outputs that it owns.

  In a smooth interval the polynomial through `NODES` / 2 samples to either side
  is read, else the straight line between its two. As most intervals own one
  output, that of each is read beside the others', without indices.

  Args:
    steps: [n + NODES - 2] float32 from sample to sample, in typical steps;
      interval i's nodes are those from i on.
    values: [C, n + NODES - 1] float32.
    smooth: [n] bool.
    edges: [n + 1] first output of each interval.
    past: [n] float32, how far behind the interval's left sample its first
      output lies, in typical steps; where it owns none, the next one's.
    pace: typical steps from one output to the next.
    out: [K, C] float32, written.
  """
  count, owned = len(smooth), np.diff(edges)
  interval = np.repeat(np.arange(count), owned)
  if smooth.any():
    with np.errstate(all="ignore"):  # across holes, where nothing is used
      scale, away = _distances(steps, past)
      nodes = [values[:, j : j + count] for j in range(NODES)]
      found = np.ascontiguousarray(_combine(scale, away, nodes).T)
      np.take(found, interval, axis=0, out=out, mode="clip")
      # The second output of those that own two, and so on.
      for nth in range(1, owned.max(where=smooth, initial=0)):
        rows = np.flatnonzero((owned > nth) & smooth)
        nodes = [values[:, rows + j] for j in range(NODES)]
        later = away[:, rows] + np.float32(nth * pace)
        out[edges[rows] + nth] = _combine(scale[:, rows], later, nodes).T
  if not smooth.all():
    index = np.flatnonzero(~smooth[interval])
    interval = interval[index]
    left = interval + NODES // 2 - 1
    share = past[interval] + pace * (index - edges[interval])
    share = (share / steps[left]).astype(np.float32)
    line = (1 - share) * values[:, left] + share * values[:, left + 1]
    out[index] = line.T


def _distances(steps, past):
  """Return (scale, away), both [NODES, n] float32: of node j
  1 / prod(t_j - t_m) over the other nodes m, and at - t_j."""
  count, left = len(past), NODES // 2 - 1
  scale, away = np.empty((2, NODES, count), np.float32)
  away[left] = past
  # Products of the distances to the q samples before and after each sample.
  before = after = [np.ones(len(steps) + 1, np.float32)]
  distance = steps
  for lag in range(1, NODES):
    before = [*before, before[-1][1:] * distance]
    after = [*after, after[-1][:-1] * distance]
    if lag <= left:
      np.add(past, distance[left - lag :][:count], out=away[left - lag])
    if left + lag < NODES:
      np.subtract(past, distance[left:][:count], out=away[left + lag])
    distance = distance[:-1] + steps[lag:]
  for j in range(NODES):
    spread = before[j][:count] * after[-1 - j][j:]
    np.divide((-1) ** (NODES - 1 - j), spread, out=scale[j])
  return scale, away


def _combine(scale, away, nodes):
  """Return Lagrange's polynomials [C, n]: the sum over the nodes j of
  nodes[j] * scale[j] * prod(away[m]) over the other nodes m."""
  weights = np.empty_like(away)
  weights[0] = 1
  for j in range(1, NODES):
    np.multiply(weights[j - 1], away[j - 1], out=weights[j])
  after = away[-1].copy()
  for j in range(NODES - 2, -1, -1):
    weights[j] *= after
    after *= away[j]
  weights *= scale
  total = weights[0] * nodes[0]
  term = np.empty_like(total)
  for weight, node in zip(weights[1:], nodes[1:], strict=True):
    total += np.multiply(weight, node, out=term)
  return total


def _real(t_s, gaps, rate_hz, first, count, step_s):
  """Say which of the grid times lie in a run of samples, or a step beside."""
  near_s = 1e-9 + (1 + 1e-6) * step_s  # grid times are rounded, stamps are too
  begin_s = t_s[np.append(0, gaps + 1)] - near_s
  end_s = t_s[np.append(gaps, len(t_s) - 1)] + near_s
  real = np.zeros(count, bool)
  runs = np.ceil(np.stack([begin_s, end_s], axis=1) * rate_hz - first)
  for begin, end in np.clip(runs, 0, count).astype(np.int64).tolist():
    real[begin:end] = True
  return real
