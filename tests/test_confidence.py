"""Confidence of names: temperature, thresholds, unseen activities."""

import numpy as np
import pytest

from imu2clip_jax import confidence


def draw(n, scale, seed=0, classes=4):
  """Logits whose softmax is honest, then scaled."""
  rng = np.random.default_rng(seed)
  logits = 2 * rng.normal(size=(n, classes))
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  labels = (p.cumsum(1) < rng.random((n, 1))).sum(1)
  return scale * logits, np.minimum(labels, classes - 1)


def test_temperature_finds_the_scale_again():
  logits, labels = draw(4000, 5.0)
  assert confidence.fit_temperature(logits, labels) == pytest.approx(5, rel=0.1)


def test_tempering_mends_what_is_too_sure():
  calibrated, _ = confidence.assess(
    *draw(3000, 6.0), validation=draw(3000, 6.0, seed=1)
  )
  assert calibrated["ece"] > 0.15
  assert calibrated["ece_tempered"] < 0.04


def test_threshold_keeps_nine_tenths_and_refuses_the_strange():
  logits, labels = draw(3000, 1.0)
  _, abstention = confidence.assess(
    logits, labels, np.zeros((50, 4)), draw(3000, 1.0, seed=1)
  )
  chosen = abstention["threshold"]
  assert chosen["coverage"] == pytest.approx(0.9, abs=0.02)
  assert chosen["risk"] < abstention["error"]
  assert chosen["refused"] == 1.0
  assert abstention["unseen"]["auroc"] == 1.0
  assert abstention["unseen"]["error"] > abstention["error"]
  curve = abstention["curve"]
  assert len(curve["coverage"]) == len(curve["risk"]) == 50
  assert curve["coverage"][-1] == 1.0


def test_without_validation_and_unseen_nothing_is_chosen():
  calibrated, abstention = confidence.assess(*draw(20, 1.0))
  assert "temperature" not in calibrated
  assert set(abstention) == {"aurc", "aurc_best", "error", "curve"}
