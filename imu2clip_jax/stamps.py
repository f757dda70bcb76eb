"""Stamps and samples as recorders leave them, made fit for resampling.

Sorted, without repeats, without stamps that belong to no recording and without
values that are no numbers. Nothing is moved in time.
"""

import warnings
from collections.abc import Sequence

import numpy as np

# A stamp belongs to no recording that is further from the median one than 1 h
# and 20 times the time that all samples take, or that an hour without samples
# parts from the others, with less than this share of them.
_FAR_S, _FAR_TIMES, _STRAY_SHARE = 3600.0, 20.0, 1e-3
# Stamps closer than this share of the typical step are one sample, twice;
# where that would make one of a stretch this many steps long, it was sampled
# faster. No share that a whole multiple of a rate has, give or take rounding.
_SAME_SHARE, _STRETCH_STEPS = 0.23, 2.0


def clean(t_s, values) -> tuple[np.ndarray, np.ndarray]:
  """Sort samples by time and leave out those that cannot be placed.

  NaN or infinite stamps are dropped, as are values that float32 cannot hold
  and, with a warning, stamps hours away from the others. Samples closer
  together than about a quarter of the typical step are averaged (duplicates,
  batches with one stamp).

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
  steps_s = np.diff(t_s)
  if steps_s.min(initial=0) < 0:
    t_s, parts = taken(np.argsort(t_s, kind="stable"))
    steps_s = np.diff(t_s)
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
      steps_s = np.diff(t_s)
  step_s = _typical(steps_s)
  if steps_s.min(initial=np.inf) > _SAME_SHARE * step_s:
    return t_s, parts, step_s
  first = _one_sample_each(t_s, step_s)
  count = np.diff(first, append=len(t_s))
  t_s = np.add.reduceat(t_s, first) / count
  for i, values in enumerate(parts):
    total = np.add.reduceat(values, first, axis=0, dtype=np.float64)
    parts[i] = (total / count[:, None]).astype(values.dtype)
  return t_s, parts, typical_step(t_s)


def check_clocks(spans, sampled_s: float) -> None:
  """Refuse sensors whose clocks cannot be one: they ran hours apart.

  Args:
    spans: the (start, end) of each sensor, seconds.
    sampled_s: the time that the samples of the longest take.

  Raises:
    ValueError: more lies between two than within a recording; names the spans.
  """
  starts_s, ends_s = zip(*spans, strict=True)
  if max(starts_s) - min(ends_s) > _far_s(sampled_s):
    ran = " and ".join(f"from {start:.3f} to {end:.3f}" for start, end in spans)
    raise ValueError(f"the sensors' clocks differ: they ran {ran} s")


def _far_s(sampled_s):
  """Return how far apart the stamps of a recording may lie."""
  return _FAR_S + _FAR_TIMES * sampled_s


def _near_the_others(t_s):
  """Say which of sorted stamps belong to the recording."""
  middle_s = t_s[len(t_s) // 2]
  far_s = _far_s(len(t_s) * typical_step(t_s))
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
  return _typical(np.diff(t_s))


def _typical(steps):
  """Return the median of the positive ones; may put them in another order."""
  if steps.min(initial=np.inf) <= 0:
    steps = steps[steps > 0]
  if not steps.size:
    return 0.0
  # As np.median, which asks for two places at once, several times slower.
  middle = steps.size // 2
  steps.partition(middle)
  below = steps[middle] if steps.size % 2 else steps[:middle].max()
  return float((below + steps[middle]) / 2)
