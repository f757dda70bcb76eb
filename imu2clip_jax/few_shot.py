"""Linear probes that see few labels of each class."""

from collections.abc import Sequence

import numpy as np

from imu2clip_jax import metrics, recognition

SHOTS = (1, 5, 10, 50)
# Of the gradient; what is left is far below the spread over draws.
_TOLERANCE = 3e-4


def draw(
  labels: np.ndarray, shots: int, rng: np.random.Generator
) -> np.ndarray:
  """Return at most `shots` rows of every class, all where it has fewer.

  Args:
    labels: [N] int, negative where there is none.
    shots: rows of a class.
    rng: of the draw.

  Returns:
    sorted rows, int64.

  Raises:
    ValueError: shots below 1.
  """
  if shots < 1:
    raise ValueError(f"shots is {shots}, expected 1 or more")
  labels = np.asarray(labels)
  parts = [np.zeros(0, np.int64)]
  for k in np.unique(labels[labels >= 0]):
    parts.append(rng.permutation(np.flatnonzero(labels == k))[:shots])
  return np.sort(np.concatenate(parts))


def curve(
  train: tuple[np.ndarray, np.ndarray],
  validation: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  label_names: Sequence[str],
  penalties: Sequence[float],
  *,
  shots: Sequence[int] = SHOTS,
  draws: int = 3,
  seed: int = 0,
) -> dict:
  """Probe frozen embeddings with few labels of each class, several draws each.

  The penalty of each probe is chosen on the whole validation split, as with
  all labels.

  Args:
    train, validation, test: (embeddings [N, D], labels [N] int, negative where
      there is none).
    label_names: C names.
    penalties: see `recognition.fit_probe`.
    shots: labels a class; with more than every class has, left out.
    draws: of each number of shots.
    seed: of the draws.

  Returns:
    shots as text and "all" -> {"macro_f1", "macro_f1_sd", "accuracy",
    "accuracy_sd": mean and standard deviation over draws (0 of one), "draws",
    "windows": training windows of a draw}.

  Raises:
    ValueError: a split without a labelled row, or no penalty.
  """
  x, y = np.asarray(train[0]), np.asarray(train[1])
  rng = np.random.default_rng(seed)
  most = np.bincount(y[y >= 0]).max() if (y >= 0).any() else 0
  rows = {
    str(k): [draw(y, k, rng) for _ in range(draws)] for k in shots if k < most
  }
  rows["all"] = [np.flatnonzero(y >= 0)]
  return {
    name: _summary(
      [
        _probe(x[drawn], y[drawn], validation, test, label_names, penalties)
        for drawn in several
      ],
      len(several[0]),
    )
    for name, several in rows.items()
  }


def _probe(x, y, validation, test, label_names, penalties):
  head, _ = recognition.fit_probe(
    x, y, *validation, len(label_names), penalties, _TOLERANCE
  )
  labels = np.asarray(test[1])
  rows = labels >= 0
  named = recognition.name(head, np.asarray(test[0])[rows])
  counts = metrics.confusion(labels[rows], named, len(label_names))
  return metrics.macro_f1(counts), metrics.accuracy(counts)


def _summary(scores, windows):
  f1, accuracy = np.asarray(scores).T
  sd = [float(v.std(ddof=1)) if len(v) > 1 else 0.0 for v in (f1, accuracy)]
  return {
    "macro_f1": float(f1.mean()),
    "macro_f1_sd": sd[0],
    "accuracy": float(accuracy.mean()),
    "accuracy_sd": sd[1],
    "draws": len(scores),
    "windows": windows,
  }
