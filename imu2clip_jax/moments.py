"""Single windows that answer a query -> moments with a start and an end."""

import bisect
import dataclasses
from collections.abc import Sequence

import numpy as np

# Windows that follow each other may differ by the rounding of a sample.
_TOUCHING_S = 0.05


@dataclasses.dataclass
class Moment:
  """A stretch of one recording that answers a query.

  Attributes:
    recording: which one.
    start_s, end_s: of all its windows together.
    score: of its best window.
    rows: its windows, the best first.
  """

  recording: int
  start_s: float
  end_s: float
  score: float
  rows: list[int]


def merge(
  rows: Sequence[int],
  scores: Sequence[float],
  recordings: Sequence[int],
  starts_s: Sequence[float],
  ends_s: Sequence[float],
  *,
  mean_score: float,
  top: int,
) -> list[Moment]:
  """Join neighbouring windows into the best moments.

  From the best window down: one that touches a moment joins it if it stands out
  from the gallery's mean at least half as far as the moment's best (its width
  at half maximum), and is the moment's slope, passed over, if it does not. Any
  other window begins a moment.

  Args:
    rows: [K] windows of the gallery, the best first.
    scores: [K] of them, falling.
    recordings: [K] which recording each is of.
    starts_s, ends_s: [K] their time on the recording's clock; windows of one
      length.
    mean_score: over the whole gallery.
    top: moments at most.

  Returns:
    At most `top` moments, the best first.

  >>> found = merge([7, 8, 2], [.9, .8, .3], [0, 0, 0], [5, 10, 60],
  ...               [10, 15, 65], mean_score=0.0, top=5)
  >>> [(m.start_s, m.end_s, m.rows) for m in found]
  [(5, 15, [7, 8]), (60, 65, [2])]
  """
  # Of each recording in order of time; no window is longer than a moment, so
  # those that one touches follow each other there.
  of_recording: dict[object, list[Moment]] = {}
  place = {row: i for i, row in enumerate(rows)}
  for row, score, recording, start_s, end_s in zip(
    rows, scores, recordings, starts_s, ends_s, strict=True
  ):
    new = Moment(recording, start_s, end_s, score, [row])
    own = of_recording.setdefault(recording, [])
    first = last = bisect.bisect(own, start_s, key=lambda m: m.start_s)
    while first and _touch(own[first - 1], new):
      first -= 1
    while last < len(own) and _touch(own[last], new):
      last += 1
    near = own[first:last]
    joined = [m for m in near if score - mean_score >= _half(m, mean_score)]
    joined.sort(key=lambda m: place[m.rows[0]])
    for other in [*joined[1:], *([new] if joined else [])]:
      _join(joined[0], other)
    kept = [m for m in near if not any(m is other for other in joined[1:])]
    kept.sort(key=lambda m: m.start_s)
    own[first:last] = kept if near else [new]
  found = [m for own in of_recording.values() for m in own]
  # Not before: a window that makes two moments one frees a place.
  return sorted(found, key=lambda m: place[m.rows[0]])[:top]


def _half(moment, mean_score):
  return (moment.score - mean_score) / 2


def _touch(a, b):
  return max(a.start_s, b.start_s) <= min(a.end_s, b.end_s) + _TOUCHING_S


def _join(moment, other):
  moment.start_s = min(moment.start_s, other.start_s)
  moment.end_s = max(moment.end_s, other.end_s)
  moment.rows += other.rows


def ranks(scores: np.ndarray) -> np.ndarray:
  """Return 1 + the number of strictly better ones, for falling scores [K].

  >>> ranks(np.array([0.9, 0.5, 0.5, 0.1]))
  array([1, 2, 2, 4])
  """
  return 1 + np.searchsorted(-scores, -scores, "left")
