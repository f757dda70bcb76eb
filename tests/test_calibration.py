"""Calibration and abstention by hand, by invariants, by other libraries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from imu2clip_jax import calibration

ROWS = st.lists(
  st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60
)


def columns(rows):
  """Confidences on a coarse grid, so that many tie."""
  confidence, right = zip(*rows, strict=True)
  return np.asarray(confidence) / 20, np.asarray(right)


def test_reliability_by_hand():
  found = calibration.reliability(
    [0.95, 0.85, 0.05, 1.0], [True, False, False, True], num_bins=10
  )
  assert [(b["low"], b["n"]) for b in found["bins"]] == [
    (0.0, 1),
    (pytest.approx(0.8), 1),
    (pytest.approx(0.9), 2),
  ]
  assert found["ece"] == pytest.approx((0.05 + 0.85 + 2 * 0.025) / 4)
  assert found["accuracy"] == 0.5


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, num_bins=st.integers(1, 20))
def test_ece_lies_between_the_whole_gap_and_one(rows, num_bins):
  confidence, right = columns(rows)
  found = calibration.reliability(confidence, right, num_bins)
  gap = abs(confidence.mean() - right.mean())
  assert gap - 1e-12 <= found["ece"] <= 1
  assert sum(b["n"] for b in found["bins"]) == len(rows)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS)
def test_risk_is_the_mean_over_orders_of_ties(rows):
  confidence, right = columns(rows)
  curve = calibration.risk_coverage(confidence, right)
  assert curve["risk"][-1] == pytest.approx(1 - right.mean())
  assert curve["aurc_best"] <= curve["aurc"] + 1e-12
  rng = np.random.default_rng(0)
  risks = []
  for _ in range(400):
    order = np.lexsort((rng.random(len(rows)), -confidence))
    wrong = np.cumsum(~right[order])
    risks.append((wrong / np.arange(1, len(rows) + 1)).mean())
  assert curve["aurc"] == pytest.approx(np.mean(risks), abs=0.06)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_risk_sees_the_order_of_confidence_alone(rows):
  confidence, right = columns(rows)
  curve = calibration.risk_coverage(confidence, right)
  again = calibration.risk_coverage(np.exp(3 * confidence), right)
  assert again["aurc"] == curve["aurc"]


def test_confidence_that_says_nothing_risks_the_error_everywhere():
  right = np.arange(10) % 5 > 0
  curve = calibration.risk_coverage(np.full(10, 0.5), right)
  np.testing.assert_allclose(curve["risk"], 0.2)
  assert curve["aurc"] == pytest.approx(curve["error"])


@settings(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_auroc_equals_scikit_learn(rows):
  sklearn = pytest.importorskip("sklearn.metrics")
  score, positive = columns(rows)
  if positive.all() or not positive.any():
    with pytest.raises(ValueError, match="both kinds"):
      calibration.auroc(score[positive], score[~positive])
    return
  assert calibration.auroc(score[positive], score[~positive]) == pytest.approx(
    sklearn.roc_auc_score(positive, score)
  )


def test_reliability_curve_equals_scikit_learn():
  sklearn = pytest.importorskip("sklearn.calibration")
  rng = np.random.default_rng(1)
  confidence = rng.random(500)
  right = rng.random(500) < confidence**2
  accuracy, mean = sklearn.calibration_curve(right, confidence, n_bins=15)
  bins = calibration.reliability(confidence, right)["bins"]
  np.testing.assert_allclose([b["accuracy"] for b in bins], accuracy)
  np.testing.assert_allclose([b["confidence"] for b in bins], mean)


@pytest.mark.parity
@pytest.mark.parametrize(
  "case",
  ["random", "one item", "all wrong", "all right", "sure", "ties", "absent"],
)
@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_ece_equals_torchmetrics(case, num_bins):
  functional = pytest.importorskip("torchmetrics.functional.classification")
  torch = pytest.importorskip("torch")
  rng = np.random.default_rng(2)
  n = 1 if case == "one item" else 300
  logits = rng.normal(size=(n, 5)) * (8 if case == "sure" else 2)
  if case == "ties":
    logits = logits[rng.integers(0, 3, n)]
  p = special.softmax(logits, axis=1).astype(np.float32)
  named = p.argmax(1)
  labels = rng.integers(0, 4 if case == "absent" else 5, n)
  if case in ("all wrong", "all right"):
    labels = (named + (case == "all wrong")) % 5
  theirs = functional.multiclass_calibration_error(
    torch.tensor(p), torch.tensor(labels), 5, n_bins=num_bins, norm="l1"
  )
  ours = calibration.reliability(p.max(1), named == labels, num_bins)
  # Theirs are sums in float32.
  assert ours["ece"] == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize(
  ("confidence", "right", "message"),
  [
    ([], [], "N >= 1"),
    ([0.5], [True, False], "N >= 1"),
    ([np.nan], [True], "confidence 0 is NaN"),
    ([1.5], [True], r"in \[0, 1\]"),
  ],
)
def test_bad_input_is_named(confidence, right, message):
  with pytest.raises(ValueError, match=message):
    calibration.reliability(confidence, right)
