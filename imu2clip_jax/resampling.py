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
# polynomial would swing there.
_HOLE_STEPS = 2.5
# Samples a polynomial goes through.
NODES = 8
# Numbers that stay in a core's cache, and what the low-pass filter leaves.
_BLOCK, _ATTENUATION_DB = 128 << 10, 60


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
  above it. The typical step tells the source's rate: of a stretch that was
  sampled faster, what lies above the new Nyquist frequency is folded down.

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
      nodes_t = np.lib.stride_tricks.sliding_window_view(t, count)
      scale = _scale(t)
      # The first output of each; one that owns none takes the next one's.
      own = at[np.minimum(edges[:-1], len(at) - 1)]
      away = np.empty((NODES, count), np.float32)
      np.subtract(own, nodes_t, out=away, casting="same_kind")
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
