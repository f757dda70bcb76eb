"""Smoothing, held against every path there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imu2clip_jax import moments, segmentation


def every_path(log_scores, stay):
  """Each path and the log of its score, by enumeration."""
  steps, states = log_scores.shape
  switch = np.log((1 - stay) / (states - 1))
  for path in itertools.product(range(states), repeat=steps):
    score = sum(log_scores[t, s] for t, s in enumerate(path))
    score += sum(
      np.log(stay) if a == b else switch for a, b in itertools.pairwise(path)
    )
    yield path, score


chains = st.tuples(
  st.integers(1, 5), st.integers(2, 4), st.floats(0, 0.999), st.integers(0, 999)
)


def drawn(chain):
  steps, states, share, seed = chain
  stay = 1 / states + share * (1 - 1 / states)
  scores = np.random.default_rng(seed).normal(0, 2, (steps, states))
  return scores, stay


@given(chains)
def test_the_best_path_is_the_best_of_all(chain):
  scores, stay = drawn(chain)
  found = dict(every_path(scores, stay))
  path = tuple(segmentation.best_path(scores, stay).tolist())
  assert found[path] == pytest.approx(max(found.values()), abs=1e-9)


def test_a_long_recording_neither_overflows_nor_vanishes():
  scores = np.random.default_rng(0).normal(0, 300, (20_000, 5))
  np.testing.assert_array_equal(
    segmentation.best_path(scores, 0.2), scores.argmax(1)
  )


@pytest.mark.parametrize(
  ("scores", "stay", "says"),
  [
    (np.zeros((3, 1)), 0.9, "expected two or more"),
    (np.zeros((0, 2)), 0.9, "0 steps"),
    (np.zeros((3, 4)), 0.2, "stay is 0.2"),
    (np.zeros((3, 4)), 1.0, "stay is 1"),
  ],
)
def test_chains_without_sense_are_refused(scores, stay, says):
  with pytest.raises(ValueError, match=says):
    segmentation.best_path(scores, stay)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=12), st.floats(0.5, 8.0))
def test_spread_is_the_mean_over_the_windows_above(starts, window_s):
  starts = np.sort(np.asarray(starts))
  scores = np.arange(len(starts), dtype=float)[:, None]
  steps = np.arange(40) + 0.5
  found = segmentation.spread(starts, scores, window_s, steps)[:, 0]
  for middle, value in zip(steps, found, strict=True):
    # The same sums as the code's, so that ends fall alike.
    over = (starts > middle - window_s) & (starts <= middle)
    expected = scores[over].mean() if over.any() else np.nan
    np.testing.assert_allclose(value, expected, atol=1e-9)


# Moments


def merged(windows, mean=0.0, top=9):
  """Merge (score, recording, start, end) given the best first."""
  scores, recordings, starts, ends = zip(*windows, strict=True)
  found = moments.merge(
    range(len(windows)),
    scores,
    recordings,
    starts,
    ends,
    mean_score=mean,
    top=top,
  )
  return [(m.recording, m.start_s, m.end_s, m.rows) for m in found]


def test_neighbours_of_one_recording_join():
  windows = [(0.9, 0, 10, 15), (0.8, 1, 15, 20), (0.7, 0, 12.5, 17.5)]
  assert merged(windows) == [(0, 10, 17.5, [0, 2]), (1, 15, 20, [1])]


def test_the_slope_of_a_moment_is_passed_over():
  windows = [(0.9, 0, 10, 15), (0.49, 0, 15, 20), (0.48, 0, 20, 25)]
  # Over a mean of 0.1 the half is 0.5; 20 s touches no moment, so it is one.
  assert merged(windows, mean=0.1) == [(0, 10, 15, [0]), (0, 20, 25, [2])]


def test_a_window_between_two_moments_makes_them_one():
  windows = [(0.9, 0, 0, 5), (0.8, 0, 10, 15), (0.7, 0, 5, 10)]
  assert merged(windows) == [(0, 0, 15, [0, 1, 2])]


def test_a_place_that_comes_free_goes_to_the_next_best():
  windows = [
    (0.9, 0, 0, 5),
    (0.85, 0, 10, 15),
    (0.8, 0, 50, 55),
    (0.79, 0, 4, 11),
    (0.2, 0, 100, 105),
  ]
  assert merged(windows, top=2) == merged(windows)[:2]
  assert merged(windows, top=2)[1] == (0, 50, 55, [2])


def test_no_more_moments_than_asked_for():
  windows = [(0.9 - i / 10, 0, 20 * i, 20 * i + 5) for i in range(5)]
  assert len(merged(windows, top=3)) == 3


def merged_one_by_one(windows, mean, top):
  """As `merged`, every window compared with every moment."""
  found = []
  for row, (score, recording, start, end) in enumerate(windows):
    near = [
      m
      for m in found
      if m["of"] == recording and m["end"] >= start and m["start"] <= end
    ]
    if not near:
      found.append(
        {"of": recording, "start": start, "end": end, "s": score, "rows": [row]}
      )
    joined = [m for m in near if score - mean >= (m["s"] - mean) / 2]
    new = {"start": start, "end": end, "rows": [row]}
    for other in [*joined[1:], new] if joined else []:
      joined[0]["start"] = min(joined[0]["start"], other["start"])
      joined[0]["end"] = max(joined[0]["end"], other["end"])
      joined[0]["rows"] += other["rows"]
    found = [m for m in found if not any(m is other for other in joined[1:])]
  return [(m["of"], m["start"], m["end"], m["rows"]) for m in found[:top]]


@given(st.data())
def test_moments_are_those_of_comparing_all(data):
  places = data.draw(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 24)), max_size=25)
  )
  levels = st.integers(-5, 9)
  scores = sorted((data.draw(levels) / 10 for _ in places), reverse=True)
  windows = [
    (score, of, start / 2, start / 2 + 2)
    for score, (of, start) in zip(scores, places, strict=True)
  ]
  if windows:
    mean, top = data.draw(levels) / 20, data.draw(st.integers(1, 9))
    expected = merged_one_by_one(windows, mean, top)
    assert merged(windows, mean, top) == expected


@given(st.data())
def test_moments_are_apart_and_hold_no_window_twice(data):
  starts = data.draw(st.lists(st.integers(0, 30), max_size=12))
  scores = np.linspace(1, 0, len(starts))
  found = moments.merge(
    range(len(starts)),
    scores,
    [s % 2 for s in starts],
    starts,
    [s + 2 for s in starts],
    mean_score=0.0,
    top=20,
  )
  rows = [row for m in found for row in m.rows]
  assert len(set(rows)) == len(rows)
  assert [m.score for m in found] == sorted(m.score for m in found)[::-1]
  for m in found:
    assert m.start_s == min(starts[row] for row in m.rows)
    assert m.end_s == max(starts[row] for row in m.rows) + 2
