"""How far a run's names can be trusted, and when it should give none.

Confidence is the largest probability over the names: softmax of trained logit
scale times cosine for zero-shot, of the head's own logits for a probe.
"""

import numpy as np
from scipy import optimize, special

from imu2clip_jax import calibration

# The threshold of abstention keeps this share of labelled validation windows.
KEEP = 0.9
_CURVE_POINTS = 50


def assess(
  logits: np.ndarray,
  labels: np.ndarray,
  unseen: np.ndarray | None = None,
  validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[dict, dict]:
  """Measure calibration and abstention of one way of naming.

  Args:
    logits: [N, C] of windows that have a label among the C names.
    labels: [N] int, 0 .. C - 1.
    unseen: [M, C] logits of windows whose activity is none of the names: every
      name is wrong for them.
    validation: (logits [V, C], labels [V]) to choose temperature and threshold
      on; None chooses neither.

  Returns:
    calibration: `calibration.reliability`, and of validation "temperature" and
    "ece_tempered", the error behind it.
    abstention: {"aurc", "aurc_best", "error", "curve": {"coverage", "risk"}};
    of validation "threshold": {"confidence", "coverage", "risk", and "refused"
    of the unseen}; of the unseen "unseen": {"n", "auroc", "aurc", "error",
    "curve"}, all windows together.

  Raises:
    ValueError: no row, or shapes that do not fit.
  """
  logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
  right = np.argmax(logits, axis=1) == labels
  sure = special.softmax(logits, axis=1).max(1)
  calibrated = calibration.reliability(sure, right)
  abstention = _curve(sure, right)
  strange = None
  if unseen is not None and len(unseen):
    strange = special.softmax(np.asarray(unseen, np.float64), axis=1).max(1)
    both = np.concatenate([sure, strange])
    abstention["unseen"] = {
      "n": len(strange),
      "auroc": calibration.auroc(sure, strange),
      **_curve(both, np.concatenate([right, np.zeros(len(strange), bool)])),
    }
  if validation is not None:
    temperature = fit_temperature(*validation)
    tempered = special.softmax(logits / temperature, axis=1).max(1)
    calibrated["temperature"] = temperature
    calibrated["ece_tempered"] = calibration.reliability(tempered, right)["ece"]
    chosen = special.softmax(np.asarray(validation[0], np.float64), axis=1)
    least = np.quantile(chosen.max(1), 1 - KEEP)
    kept = sure >= least
    abstention["threshold"] = {
      "confidence": float(least),
      "coverage": float(kept.mean()),
      "risk": float(1 - right[kept].mean()) if kept.any() else 0.0,
    }
    if strange is not None:
      refused = float((strange < least).mean())
      abstention["threshold"]["refused"] = refused
  return calibrated, abstention


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
  """Return the divisor of logits with the least cross entropy.

  One number, chosen on windows that are not tested (arXiv 1706.04599).

  Args:
    logits: [V, C].
    labels: [V] int.
  """
  z, rows = np.asarray(logits, np.float64), np.arange(len(logits))

  def cross_entropy(log_temperature):
    p = special.softmax(z / np.exp(log_temperature), axis=1)
    return -np.log(np.maximum(p[rows, labels], 1e-300)).mean()

  found = optimize.minimize_scalar(
    cross_entropy, bounds=(-5.0, 5.0), method="bounded"
  )
  return float(np.exp(found.x))


def _curve(sure, right):
  whole = calibration.risk_coverage(sure, right)
  points = np.linspace(0, len(right) - 1, min(_CURVE_POINTS, len(right)))
  points = points.round().astype(int)
  return {
    "aurc": whole["aurc"],
    "aurc_best": whole["aurc_best"],
    "error": whole["error"],
    "curve": {
      name: whole[name][points].tolist() for name in ("coverage", "risk")
    },
  }
