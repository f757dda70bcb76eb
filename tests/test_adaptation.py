"""Adaptation to a wearer: moments of features, agreement of like windows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import preprocessing

from imu2clip_jax import adaptation


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), wearers=st.integers(1, 5))
def test_standardised_features_hide_what_each_wearer_adds(seed, wearers):
  rng = np.random.default_rng(seed)
  who = rng.integers(0, wearers, 40)
  x = rng.normal(size=(40, 3)).astype(np.float32)
  x[who == 0, 1] = 7.0  # a feature that a wearer never changes
  added, scale = rng.normal(size=(wearers, 3)), rng.uniform(0.5, 9, wearers)
  found = adaptation.standardise_by_wearer(x, who)
  changed = x * scale[who, None] + added[who]
  np.testing.assert_allclose(
    adaptation.standardise_by_wearer(changed, who), found, atol=1e-5
  )
  for wearer in set(who):
    own = x[who == wearer].astype(np.float64)
    scaler = preprocessing.StandardScaler().fit(own)
    np.testing.assert_allclose(
      found[who == wearer], scaler.transform(own), atol=1e-6
    )


def windows(seed, count, wearers=2, classes=3):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(count, classes)) * rng.uniform(0, 5)
  x = rng.normal(size=(count, 4)).astype(np.float32)
  return logits, x, rng.integers(0, wearers, count)


def direct(logits, x):
  """Agreement of one wearer's windows, from the definition, one by one."""
  count = len(x)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  cosine = unit.astype(np.float64) @ unit.T
  system = np.eye(count)
  for i in range(count):
    for j in range(i):
      ranks = [
        sum(cosine[a, k] > cosine[a, b] for k in range(count) if k != a)
        for a, b in ((i, j), (j, i))
      ]
      if min(ranks) < 5:
        weight = np.exp((cosine[i, j] - 1) / 0.2)
        system[i, i] += weight
        system[j, j] += weight
        system[i, j] -= weight
        system[j, i] -= weight
  return np.linalg.solve(system, special.softmax(logits, axis=1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30))
def test_agreement_solves_what_it_says(seed, count):
  logits, x, who = windows(seed, count)
  found = adaptation.agree_by_wearer(logits, x, who)
  for wearer in set(who):
    own = who == wearer
    np.testing.assert_allclose(
      found[own], direct(logits[own], x[own]), atol=1e-6
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 40))
def test_agreement_keeps_probabilities(seed, count):
  logits, x, who = windows(seed, count, wearers=3)
  found = adaptation.agree_by_wearer(logits, x, who)
  assert found.min() >= -1e-9
  np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
  before = special.softmax(logits, axis=1)
  for wearer in set(who):
    own = who == wearer
    np.testing.assert_allclose(found[own].sum(0), before[own].sum(0), atol=1e-5)
  order = np.random.default_rng(seed).permutation(count)
  np.testing.assert_allclose(
    adaptation.agree_by_wearer(logits[order], x[order], who[order]),
    found[order],
    atol=1e-6,
  )


def test_a_window_is_named_as_those_like_it_but_of_its_own_wearer():
  rng = np.random.default_rng(0)
  middles = np.repeat([[9.0, 0, 0], [0, 9, 0]], 10, axis=0)
  x = np.concatenate([middles, middles]) + rng.normal(size=(40, 3))
  who = np.repeat(["ann", "ben"], 20)
  # Ben does the same two things, but they are called the other way round.
  logits = 4 * np.eye(2)[np.tile(np.repeat([0, 1], 10), 2)]
  logits[who == "ben"] = logits[who == "ben", ::-1]
  true = logits.argmax(1)
  logits[[3, 15, 24]] = [[0, 1], [1, 0], [1, 0]]  # three are mistaken
  assert (logits.argmax(1) != true).sum() == 3
  found = adaptation.agree_by_wearer(logits, x, who)
  assert (found.argmax(1) == true).all()


def test_what_is_like_nothing_stays_as_it_is():
  x = np.array([[1.0, 0], [-1, 0], [0, 3]])
  logits = np.array([[2.0, 0], [0, 1], [0, 3]])
  found = adaptation.agree_by_wearer(logits, x, np.zeros(3))
  np.testing.assert_allclose(found, special.softmax(logits, 1), atol=0.01)
  alone = adaptation.agree_by_wearer(logits, x, np.arange(3))
  np.testing.assert_array_equal(alone, special.softmax(logits, 1))


def test_equal_and_empty_features_are_no_trouble():
  logits, x, _ = windows(0, 40)
  x[:10], x[10:20] = 0, x[10]
  found = adaptation.agree_by_wearer(logits, x, np.zeros(40))
  assert np.isfinite(found).all()
  np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
