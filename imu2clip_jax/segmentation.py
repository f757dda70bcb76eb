"""Scores of overlapping windows -> labelled stretches of time.

A recording is divided into steps of equal length. Every step gets the mean
score of the windows that lie over it (`spread`); a hidden Markov chain that
stays in its state with one probability and moves to any other with equal ones
smooths them (`best_path`); equal neighbours become one segment (`runs`).
"""

import math

import numpy as np


def spread(starts_s, scores, window_s: float, steps_s) -> np.ndarray:
  """Return the mean score of the windows over each step.

  Args:
    starts_s: [N] starts of the windows, increasing.
    scores: [N, C] of the windows.
    window_s: their length.
    steps_s: [T] middles of the steps, increasing.

  Returns:
    [T, C] float64, NaN where no window lies.

  >>> spread([0, 1], [[1.0], [3.0]], 2.0, [0.5, 1.5, 2.5, 3.5]).ravel()
  array([ 1.,  2.,  3., nan])
  """
  starts_s, steps_s = np.asarray(starts_s), np.asarray(steps_s)
  scores = np.asarray(scores, np.float64)
  total = np.concatenate([np.zeros((1, scores.shape[1])), scores.cumsum(0)])
  first = np.searchsorted(starts_s, steps_s - window_s, "right")
  last = np.searchsorted(starts_s, steps_s, "right")
  count = (last - first)[:, None]
  mean = (total[last] - total[first]) / np.maximum(count, 1)
  return np.where(count > 0, mean, np.nan)


def covering(length_s: float, hop_s: float) -> np.ndarray:
  """Return the middles of the steps of `hop_s` that cover a length, seconds.

  >>> covering(2.5, 1.0)
  array([0.5, 1.5, 2.5])
  """
  return (np.arange(math.ceil(length_s / hop_s - 1e-6)) + 0.5) * hop_s


def best_path(log_scores, stay: float) -> np.ndarray:
  """Return the likeliest sequence of states (Viterbi), int [T].

  All switches are equally likely, so a step costs C and not C².

  Args:
    log_scores: [T, C] log of each step's score for each state.
    stay: probability to stay in a state from one step to the next.

  Raises:
    ValueError: fewer than two states, or `stay` not between 1 / C and 1: less
      would make a change likelier than none.

  >>> best_path(np.log([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]]), 0.9)
  array([0, 0, 0])
  """
  log_scores = np.asarray(log_scores, np.float64)
  steps, states = log_scores.shape
  if states < 2 or not steps:
    raise ValueError(f"{steps} steps of {states} labels, expected two or more")
  if not 1 / states <= stay < 1:
    raise ValueError(
      f"stay is {stay:g}, expected {1 / states:g} (of {states} labels) .. 1"
    )
  stays, switches = np.log(stay), np.log((1 - stay) / (states - 1))
  came_from = np.empty((steps, states), np.int64)
  best = log_scores[0]
  for t in range(1, steps):
    top = int(best.argmax())
    stayed = best + stays >= best[top] + switches
    came_from[t] = np.where(stayed, np.arange(states), top)
    best = np.where(stayed, best + stays, best[top] + switches) + log_scores[t]
  path = np.empty(steps, np.int64)
  path[-1] = best.argmax()
  for t in range(steps - 1, 0, -1):
    path[t - 1] = came_from[t, path[t]]
  return path


def runs(states) -> list[tuple[int, int]]:
  """Return (first, end) of each stretch of equal neighbours.

  >>> runs([3, 3, 1, 3])
  [(0, 2), (2, 3), (3, 4)]
  """
  states = np.asarray(states)
  edges = np.flatnonzero(np.r_[True, states[1:] != states[:-1], True])
  return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
