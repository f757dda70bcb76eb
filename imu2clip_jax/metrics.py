"""Retrieval and recognition metrics, exact at any size.

Every retrieval result carries its gallery's size and the level of chance;
every recognition result carries the row of the constant classifier.
"""

import numpy as np

from imu2clip_jax.ranking import chance, ranks

__all__ = [
  "accuracy",
  "confusion",
  "macro_f1",
  "of_ranks",
  "per_class",
  "ranks",
  "recognition",
  "retrieval",
]


def retrieval(
  queries,
  gallery,
  ks=(1, 10, 50),
  match=None,
  *,
  ties="optimistic",
  bootstrap=0,
  seed=0,
) -> dict:
  """Rank the gallery for every query and sum up where the match came.

  Similarity is the inner product of the rows as given, summed in float32, or in
  float64 where one side holds float64 or integers.

  Args:
    queries: float [Nq, D].
    gallery: float [Ng, D].
    ks: cut-offs of recall.
    match: which gallery rows are right; the best ranked one counts.
      None: row i for query i (Nq <= Ng). int [Nq]: one row for each query.
      bool [Nq, Ng]: any set. A tuple (ids [Nq], ids [Ng]): the rows that have
      the query's id (numbers or strings), as for duplicates of a narration.
    ties: "optimistic": 1 + rows strictly better. "pessimistic": tied wrong rows
      come first. "average": the mean over all orders of the tied rows.
    bootstrap: number of resamplings of the queries for 95 % intervals; 0 for
      none.
    seed: of the resampling.

  Returns:
    {"R@k" for k in ks, "MRR", "gallery", "chance_R@k", "chance_MRR"}, shares
    in [0, 1]; with `bootstrap` also "interval": {"R@k", "MRR" -> (low, high)}.
    Chance is the expectation under a random order of the gallery.

  Raises:
    ValueError: shapes that do not fit, values that are not finite or whose
      inner products would not be, a query without a match in the gallery, a
      cut-off that is no whole number from 1.

  Example:
    >>> result = retrieval(np.eye(4), np.eye(4), ks=(1, 2))
    >>> result["R@1"], result["gallery"], result["chance_R@2"]
    (1.0, 4, 0.5)
  """
  ranked = ranks(queries, gallery, match, ties=ties)
  return of_ranks(
    ranked, len(gallery), ks, match, bootstrap=bootstrap, seed=seed
  )


def of_ranks(
  ranked: np.ndarray,
  size: int,
  ks=(1, 10, 50),
  match=None,
  *,
  bootstrap=0,
  seed=0,
) -> dict:
  """Sum up ranks that are known; returns what `retrieval` does.

  Args:
    ranked: [Nq], from `ranks`.
    size: gallery rows.
    ks, match, bootstrap, seed: as of `retrieval`; `match` is for chance.

  Raises:
    ValueError: a cut-off that is no whole number from 1.
  """
  if not all(k >= 1 and float(k).is_integer() for k in ks):
    raise ValueError(f"cut-offs must be whole numbers from 1, got {tuple(ks)}")
  ks = tuple(map(int, ks))
  hits = {f"R@{k}": ranked <= k for k in ks} | {"MRR": 1 / ranked}
  result = {name: float(np.mean(hit)) for name, hit in hits.items()}
  result["gallery"] = size
  at_random = chance(len(ranked), size, ks, match)
  result |= {f"chance_{name}": value for name, value in at_random.items()}
  if bootstrap:
    result["interval"] = _intervals(hits, bootstrap, seed)
  return result


def _intervals(hits, resamples, seed):
  rng = np.random.default_rng(seed)
  values = np.stack(list(hits.values()))
  num = values.shape[1]
  means = np.stack(
    [values[:, rng.integers(0, num, num)].mean(1) for _ in range(resamples)]
  )
  low, high = np.quantile(means, [0.025, 0.975], axis=0)
  return {
    name: (float(a), float(b))
    for name, a, b in zip(hits, low, high, strict=True)
  }


def accuracy(counts: np.ndarray) -> float:
  """Return the share of items on the diagonal of a confusion matrix.

  Example:
    >>> accuracy(np.array([[1, 0], [1, 2]]))
    0.75
  """
  return float(counts.trace() / counts.sum())


def confusion(labels, predictions, num_classes: int) -> np.ndarray:
  """Count, int64 [K, K]: row the true class, column the predicted one.

  Args:
    labels: int [N], 0 .. K - 1.
    predictions: int [N], 0 .. K - 1.
    num_classes: K.

  Raises:
    ValueError: no item, unequal lengths, or a class outside 0 .. K - 1.

  Example:
    >>> confusion([0, 1, 1], [0, 1, 0], 2).tolist()
    [[1, 0], [1, 1]]
  """
  labels, predictions = np.asarray(labels), np.asarray(predictions)
  if labels.shape != predictions.shape or labels.ndim != 1 or not labels.size:
    raise ValueError(
      "labels and predictions must be two int [N] with N >= 1, got "
      f"{list(labels.shape)} and {list(predictions.shape)}"
    )
  for name, values in (("label", labels), ("prediction", predictions)):
    if values.dtype.kind not in "iu":
      raise ValueError(f"{name}s must be integers, got {values.dtype}")
    if values.min() < 0 or values.max() >= num_classes:
      raise ValueError(
        f"{name}s must lie in 0 .. {num_classes - 1}, got "
        f"{values.min()} .. {values.max()}"
      )
  cell = labels.astype(np.int64) * num_classes + predictions
  flat = np.bincount(cell, minlength=num_classes**2)
  return flat.reshape(num_classes, num_classes)


def per_class(counts: np.ndarray) -> dict[str, np.ndarray]:
  """Return precision, recall, f1 and support, each [K], of a confusion matrix.

  A ratio without any case is 0, as in scikit-learn with zero_division=0.

  Example:
    >>> per_class(np.array([[1, 0], [1, 1]]))["precision"].tolist()
    [0.5, 1.0]
  """
  right, support, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
  return {
    "precision": right / np.maximum(predicted, 1),
    "recall": right / np.maximum(support, 1),
    "f1": 2 * right / np.maximum(support + predicted, 1),
    "support": support,
  }


def macro_f1(counts: np.ndarray) -> float:
  """Average F1 over the classes that occur as a label or as a prediction.

  This is scikit-learn's f1_score(average="macro"): a class nobody had and
  nobody named does not count, one that was only named counts as 0.

  Example:
    >>> round(macro_f1(np.array([[1, 0], [1, 1]])), 4)
    0.6667
  """
  occurs = (counts.sum(0) + counts.sum(1)) > 0
  return float(per_class(counts)["f1"][occurs].mean())


def recognition(labels, predictions, names) -> dict:
  """Sum up a classifier's predictions beside those of the constant one.

  The constant classifier always names the most frequent class of these very
  `labels` (the first of several), so it is the floor of this test set.

  Args:
    labels: int [N], index into `names`.
    predictions: int [N], index into `names`.
    names: K class names.

  Returns:
    {"accuracy", "macro_f1", "per_class": name -> {"precision", "recall", "f1",
    "support"}, "constant_class", "constant_accuracy", "constant_macro_f1",
    "n"}.

  Raises:
    ValueError: as `confusion`.

  Example:
    >>> result = recognition([0, 1, 1], [0, 1, 0], ["sit", "walk"])
    >>> result["constant_class"], round(result["constant_accuracy"], 3)
    ('walk', 0.667)
  """
  counts = confusion(labels, predictions, len(names))
  support = counts.sum(1)
  most = int(support.argmax())
  constant = np.zeros_like(counts)
  constant[:, most] = support
  columns = per_class(counts)
  return {
    "accuracy": accuracy(counts),
    "macro_f1": macro_f1(counts),
    "per_class": {
      name: {key: column[i].item() for key, column in columns.items()}
      for i, name in enumerate(names)
    },
    "constant_class": names[most],
    "constant_accuracy": accuracy(constant),
    "constant_macro_f1": macro_f1(constant),
    "n": int(counts.sum()),
  }
