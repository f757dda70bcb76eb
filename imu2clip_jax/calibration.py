"""How sure a classifier is, and whether it should be: ECE, risk, abstention.

Confidence is the largest of a row's probabilities. A classifier may refuse: it
answers the share `coverage` of the rows in which it is surest, and its risk is
the share of wrong answers among them.
"""

import numpy as np


def reliability(confidence, right, num_bins: int = 15) -> dict:
  """Compare confidence with accuracy in equal bins (arXiv 1706.04599).

  A bin holds its lower edge and not its upper one, but the last holds 1.

  Args:
    confidence: [N] in [0, 1].
    right: [N] bool.
    num_bins: bins of [0, 1].

  Returns:
    {"ece": mean distance of confidence and accuracy, weighted by rows;
    "confidence", "accuracy": means over all rows; "n"; "bins": of those that
    hold a row, {"low", "high", "n", "confidence", "accuracy"}}.

  Raises:
    ValueError: no row, unequal lengths, or a confidence outside [0, 1].

  Example:
    >>> reliability([0.9, 0.9], [True, False])["ece"]
    0.4
  """
  confidence, right = _checked(confidence, right)
  if confidence.min() < 0 or confidence.max() > 1:
    raise ValueError(
      f"confidence must lie in [0, 1], got {confidence.min():g} .. "
      f"{confidence.max():g}"
    )
  edges = np.linspace(0, 1, num_bins + 1)
  place = np.searchsorted(edges, confidence, "right") - 1
  place = np.minimum(place, num_bins - 1)
  bins, ece = [], 0.0
  for k in np.unique(place):
    inside = place == k
    mean, share = confidence[inside].mean(), right[inside].mean()
    ece += abs(mean - share) * inside.mean()
    bins.append(
      {
        "low": float(edges[k]),
        "high": float(edges[k + 1]),
        "n": int(inside.sum()),
        "confidence": float(mean),
        "accuracy": float(share),
      }
    )
  return {
    "ece": float(ece),
    "confidence": float(confidence.mean()),
    "accuracy": float(right.mean()),
    "n": len(right),
    "bins": bins,
  }


def risk_coverage(confidence, right) -> dict:
  """Follow the risk as less sure rows are answered too.

  Rows of equal confidence are answered in any order: the curve is the mean
  over their orders.

  Args:
    confidence: [N], larger is surer.
    right: [N] bool.

  Returns:
    {"coverage" [N], "risk" [N]: float64 arrays; "aurc": mean risk over all
    coverages (arXiv 1805.08206); "aurc_best": of a confidence that puts every
    error last; "error": risk at full coverage, what a confidence that says
    nothing has everywhere}.

  Raises:
    ValueError: no row, unequal lengths, or a NaN.

  Example:
    >>> curve = risk_coverage([0.9, 0.8, 0.1], [True, True, False])
    >>> curve["aurc"] == curve["aurc_best"], round(curve["error"], 3)
    (True, 0.333)
  """
  confidence, right = _checked(confidence, right)
  _, place, counts = np.unique(
    -confidence, return_inverse=True, return_counts=True
  )
  errors = np.bincount(place, weights=~right) / counts
  answered = np.arange(1, len(right) + 1)
  risk = np.cumsum(np.repeat(errors, counts)) / answered
  best = np.maximum(answered - right.sum(), 0) / answered
  return {
    "coverage": answered / len(right),
    "risk": risk,
    "aurc": float(risk.mean()),
    "aurc_best": float(best.mean()),
    "error": float(1 - right.mean()),
  }


def auroc(positive, negative) -> float:
  """Return how often a positive's score is above a negative's, ties half.

  Raises:
    ValueError: one of them is empty.

  Example:
    >>> auroc([2.0, 3.0], [1.0, 2.0])
    0.875
  """
  positive, negative = np.asarray(positive), np.sort(np.asarray(negative))
  if not len(positive) or not len(negative):
    raise ValueError(
      f"auroc needs both kinds, got {len(positive)} and {len(negative)}"
    )
  below = np.searchsorted(negative, positive, "left")
  upto = np.searchsorted(negative, positive, "right")
  return float((below + upto).mean() / 2 / len(negative))


def _checked(confidence, right):
  confidence, right = np.asarray(confidence, np.float64), np.asarray(right)
  if confidence.shape != right.shape or right.ndim != 1 or not right.size:
    raise ValueError(
      "confidence and right must be two [N] with N >= 1, got "
      f"{list(confidence.shape)} and {list(right.shape)}"
    )
  if np.isnan(confidence).any():
    raise ValueError(f"confidence {np.isnan(confidence).argmax()} is NaN")
  return confidence, right.astype(bool)
