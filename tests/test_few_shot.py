"""Few labels of each class: what is drawn, and that more labels help."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax import few_shot


@settings(max_examples=50, deadline=None)
@given(
  labels=st.lists(st.integers(-2, 3), min_size=1, max_size=40),
  shots=st.integers(1, 6),
  seed=st.integers(0, 100),
)
def test_every_class_gives_its_shots_or_all_it_has(labels, shots, seed):
  labels = np.asarray(labels)
  rows = few_shot.draw(labels, shots, np.random.default_rng(seed))
  assert len(set(rows.tolist())) == len(rows)
  drawn = labels[rows]
  assert (drawn >= 0).all()
  for k in range(4):
    assert (drawn == k).sum() == min(shots, (labels == k).sum())


def test_no_shots_are_refused():
  with pytest.raises(ValueError, match="shots is 0"):
    few_shot.draw(np.zeros(3, int), 0, np.random.default_rng(0))


def test_more_labels_help_and_all_uses_every_one():
  rng = np.random.default_rng(0)
  centres = rng.normal(size=(3, 6))

  def part(n):
    y = rng.integers(0, 3, n)
    x = centres[y] + 0.9 * rng.normal(size=(n, 6))
    y[:2] = -1
    return x, y

  train, validation, test = part(150), part(60), part(300)
  found = few_shot.curve(
    train, validation, test, ["a", "b", "c"], (1e-3, 1e-1), shots=(1, 10, 999)
  )
  assert list(found) == ["1", "10", "all"]
  assert found["1"]["windows"] == 3
  assert found["1"]["draws"] == 3
  assert found["all"]["windows"] == 148
  assert found["all"]["macro_f1_sd"] == 0.0
  assert found["1"]["macro_f1"] < found["all"]["macro_f1"]
