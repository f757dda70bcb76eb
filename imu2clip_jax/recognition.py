"""Name activities by embeddings: zero-shot, linear probe (paper, Table 3).

Labels are int: -1 where a window has none, -2 where it has one that is not
asked about; both are left out. Scores are what `metrics.recognition` returns
and "interval" (95 %, bootstrap over windows), "named_among" (number of names),
"n_unlabelled": plain numbers for JSON. Predictions are int [N], of every row.
"""

from collections.abc import Callable, Sequence

import numpy as np

from imu2clip_jax import logistic, metrics

_RESAMPLES = 1000


def prompt_embeddings(
  embed_texts: Callable[[list[str]], np.ndarray],
  names: Sequence[str],
  prompts: Sequence[str],
) -> np.ndarray:
  """Embed class names as the mean over prompts of unit vectors, made unit.

  The prompt ensemble of CLIP (arXiv 2103.00020, section 3.1.4).

  Args:
    embed_texts: texts -> [n, D] unit norm, the teacher's.
    names: C class names.
    prompts: templates with {} in the place of the name.

  Returns:
    [C, D] float32.

  Raises:
    ValueError: there is no prompt, or one without {}.
  """
  if not prompts or any("{}" not in prompt for prompt in prompts):
    raise ValueError(
      "config.recognition.prompts needs one or more texts with {} in the place "
      f"of the label, got {list(prompts)}"
    )
  texts = [p.replace("{}", name) for name in names for p in prompts]
  units = np.asarray(embed_texts(texts), np.float64)
  mean = units.reshape(len(names), len(prompts), -1).mean(1)
  return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


def zero_shot(
  embeddings: np.ndarray,
  label_embeddings: np.ndarray,
  labels: np.ndarray,
  label_names: Sequence[str],
  *,
  averaged: Sequence[int] | None = None,
) -> tuple[dict, np.ndarray]:
  """Name each row by the nearest class text.

  Args:
    embeddings: [N, D] of windows (IMU, or frames for the teacher alone).
    label_embeddings: [C, D], see `prompt_embeddings`.
    labels: [N] int classes, -1 unlabelled.
    label_names: C names.
    averaged: the classes that macro-F1 averages and "per_class" lists; None
      for scikit-learn's rule, those that occur or are named.

  Raises:
    ValueError: shapes do not fit, or no row is labelled.
  """
  if label_embeddings.shape != (len(label_names), embeddings.shape[1]):
    raise ValueError(
      f"label embeddings are {list(label_embeddings.shape)}, expected "
      f"{[len(label_names), embeddings.shape[1]]}"
    )
  predictions = np.argmax(embeddings @ label_embeddings.T, axis=1)
  return score(labels, predictions, label_names, averaged=averaged), predictions


def linear_probe(
  train_x: np.ndarray,
  train_y: np.ndarray,
  validation_x: np.ndarray,
  validation_y: np.ndarray,
  test_x: np.ndarray,
  test_y: np.ndarray,
  label_names: Sequence[str],
  penalties: Sequence[float],
) -> tuple[dict, np.ndarray, dict]:
  """Fit multinomial logistic regression on frozen embeddings.

  Features are standardised by the training rows. The L2 penalty is the one with
  the best validation macro-F1, of equals the strongest: a path from strong to
  weak, each start where the last ended, is followed until two penalties in a
  row are no better; the best one is then solved to convergence.

  Args:
    train_x, validation_x, test_x: [N, D] embeddings.
    train_y, validation_y, test_y: [N] int classes, -1 unlabelled.
    label_names: C names.
    penalties: L2 penalties to choose from, see `logistic.fit`.

  Returns:
    scores (with "l2", the chosen penalty), predictions, and the head
    {"kernel" [D, C], "bias" [C]} float64 for embeddings as they came.

  Raises:
    ValueError: a split without a labelled row, or no penalty.
  """
  head, chosen = fit_probe(
    train_x, train_y, validation_x, validation_y, len(label_names), penalties
  )
  predictions = name(head, test_x)
  scores = score(test_y, predictions, label_names) | {"l2": chosen}
  return scores, predictions, head


def fit_probe(
  train_x: np.ndarray,
  train_y: np.ndarray,
  validation_x: np.ndarray,
  validation_y: np.ndarray,
  num_classes: int,
  penalties: Sequence[float],
  tolerance: float = 1e-5,
) -> tuple[dict, float]:
  """Fit the head of `linear_probe`; returns it and the chosen penalty.

  The path is followed to ten times `tolerance`, the chosen one to `tolerance`:
  the largest entry of the gradient at the end.
  """
  if not penalties:
    raise ValueError("config.recognition.probe_l2 names no penalty")
  rows = labelled(train_y, "training")
  checked = labelled(validation_y, "validation")
  x, y = np.asarray(train_x, np.float64)[rows], np.asarray(train_y)[rows]
  mean, std = x.mean(0), x.std(0)
  # A feature that never changes says nothing: 1 keeps it at 0.
  std = np.where(std > 1e-12, std, 1.0)
  x = (x - mean) / std

  def head_of(solution):
    kernel = solution["kernel"] / std[:, None]
    return {"kernel": kernel, "bias": solution["bias"] - mean @ kernel}

  solution, best_f1, worse = None, -1.0, 0
  for l2 in sorted(penalties, reverse=True):
    solution = logistic.fit(
      x, y, num_classes, l2, start=solution, tolerance=10 * tolerance
    )
    named = name(head_of(solution), validation_x[checked])
    f1 = macro_f1(validation_y[checked], named, num_classes)
    worse = 0 if f1 > best_f1 else worse + 1
    if not worse:
      best_f1, chosen, start = f1, l2, solution
    if worse == 2:
      break
  solution = logistic.fit(
    x, y, num_classes, chosen, start=start, tolerance=tolerance
  )
  return head_of(solution), float(chosen)


def logits(head: dict, x: np.ndarray) -> np.ndarray:
  """Return float64 [N, C]: what a probe's head says of embeddings [N, D]."""
  return np.asarray(x, np.float64) @ head["kernel"] + head["bias"]


def name(head: dict, x: np.ndarray) -> np.ndarray:
  """Return int [N]: the class that a probe's head gives each embedding."""
  return np.argmax(logits(head, x), axis=1)


def score(
  labels: np.ndarray,
  predictions: np.ndarray,
  label_names: Sequence[str],
  *,
  averaged: Sequence[int] | None = None,
) -> dict:
  """Return `metrics.recognition` of the labelled rows, with intervals.

  Args:
    labels: [N] int classes, -1 unlabelled.
    predictions: [N] int classes.
    label_names: C names.
    averaged: see `zero_shot`.

  Raises:
    ValueError: no row is labelled.
  """
  rows = labelled(labels, "test")
  true, named = np.asarray(labels)[rows], np.asarray(predictions)[rows]
  scores = metrics.recognition(true, named, list(label_names))
  counts = metrics.confusion(true, named, len(label_names))
  if averaged is not None:
    scores["macro_f1"] = float(metrics.per_class(counts)["f1"][averaged].mean())
    kept = [label_names[k] for k in averaged]
    scores["per_class"] = {name: scores["per_class"][name] for name in kept}
  scores["interval"] = _intervals(counts, averaged)
  scores["named_among"] = len(label_names)
  scores["n_unlabelled"] = int((np.asarray(labels) == -1).sum())
  return scores


def _intervals(counts, averaged):
  """Resample windows: drawing rows is drawing cells of the confusion matrix."""
  total = counts.sum()
  draws = np.random.default_rng(0).multinomial(
    total, counts.ravel() / total, _RESAMPLES
  )
  draws = draws.reshape(-1, *counts.shape)
  right = np.trace(draws, axis1=1, axis2=2) / total
  if averaged is None:
    f1 = [metrics.macro_f1(draw) for draw in draws]
  else:
    f1 = [metrics.per_class(draw)["f1"][averaged].mean() for draw in draws]
  return {
    name: [float(end) for end in np.quantile(values, (0.025, 0.975))]
    for name, values in (("accuracy", right), ("macro_f1", f1))
  }


def labelled(labels: np.ndarray, what: str) -> np.ndarray:
  """Return the rows that have a label.

  Raises:
    ValueError: there is none; says of `what`.
  """
  rows = np.flatnonzero(np.asarray(labels) >= 0)
  if not len(rows):
    raise ValueError(f"no {what} window has a label")
  return rows


def macro_f1(
  labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> float:
  """Return macro-F1 of int [N] classes; negative labels are left out."""
  rows = np.asarray(labels) >= 0
  labels, predictions = labels[rows], predictions[rows]
  return metrics.macro_f1(metrics.confusion(labels, predictions, num_classes))
