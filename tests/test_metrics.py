"""Retrieval and recognition by hand, by brute force, by other libraries."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax import metrics, ranking


def unit(rng, rows, dim):
  x = rng.normal(size=(rows, dim)).astype(np.float32)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def brute_ranks(queries, gallery, matches, ties="optimistic"):
  """Ranks from the whole matrix; `matches` is bool [Nq, Ng]."""
  scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
  ranks = []
  for row, right in zip(scores, matches, strict=True):
    best = row[right].max()
    better, tied = (row > best).sum(), row == best
    wrong, even = (tied & ~right).sum(), (tied & right).sum()
    ranks.append(
      {
        "optimistic": better + 1,
        "average": better + 1 + wrong / (even + 1),
        "pessimistic": better + 1 + wrong,
      }[ties]
    )
  return np.array(ranks)


# Ranks and retrieval.


def test_by_hand():
  queries = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
  gallery = np.array([[1, 0], [2, 1], [0, 3], [-1, 0]], np.float32)
  # Scores: [1 2 0 -1], [0 1 3 0], [1 3 3 -1]; matches 0, 1, 2.
  assert metrics.ranks(queries, gallery).tolist() == [2, 2, 1]
  result = metrics.retrieval(queries, gallery, ks=(1, 2))
  assert result == pytest.approx(
    {
      "R@1": 1 / 3,
      "R@2": 1.0,
      "MRR": 2 / 3,
      "gallery": 4,
      "chance_R@1": 0.25,
      "chance_R@2": 0.5,
      "chance_MRR": (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4,
    }
  )
  pessimistic = metrics.ranks(queries, gallery, ties="pessimistic")
  assert pessimistic.tolist() == [2, 2, 2]
  average = metrics.ranks(queries, gallery, ties="average")
  assert average.tolist() == [2, 2, 1.5]


@settings(max_examples=20, deadline=None)
@given(
  # Few sizes, as every new one compiles: one tile, whole tiles, an odd rest.
  queries=st.sampled_from([1, 7]),
  gallery=st.sampled_from([1, 8, 11]),
  tile=st.sampled_from([4, 15]),
  ties=st.sampled_from(ranking.TIES),
  form=st.sampled_from(["rows", "set", "ids"]),
  seed=st.integers(0, 2**16),
)
def test_tiles_equal_brute_force(queries, gallery, tile, ties, form, seed):
  """Small integers make many exact ties."""
  rng = np.random.default_rng(seed)
  left = rng.integers(-2, 3, (queries, 3)).astype(np.float32)
  right = rng.integers(-2, 3, (gallery, 3)).astype(np.float32)
  rows = rng.integers(0, gallery, queries)
  matches = np.zeros((queries, gallery), bool)
  matches[np.arange(queries), rows] = True
  match = rows
  if form == "set":
    match = matches = matches | (rng.random(matches.shape) < 0.3)
  if form == "ids":
    ids = rng.integers(0, 4, gallery)
    match = ids[rows], ids
    matches = ids[rows][:, None] == ids[None, :]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(ranking, "_TILE_ROWS", tile)
    got = metrics.ranks(left, right, match, ties=ties)
  np.testing.assert_allclose(got, brute_ranks(left, right, matches, ties))


@pytest.mark.parametrize("tile", [64, 4096])
def test_random_vectors_equal_brute_force(tile, monkeypatch):
  monkeypatch.setattr(ranking, "_TILE_ROWS", tile)
  rng = np.random.default_rng(0)
  queries, gallery = unit(rng, 100, 32), unit(rng, 333, 32)
  want = brute_ranks(queries, gallery, np.eye(100, 333, dtype=bool))
  assert np.array_equal(metrics.ranks(queries, gallery), want)
  on_device = jnp.asarray(queries), jnp.asarray(gallery)
  assert np.array_equal(metrics.ranks(*on_device), want)


@pytest.mark.parametrize("dim", [33, 512])
@pytest.mark.parametrize("size", [7, 500, 1001])
def test_duplicates_tie_exactly(dim, size):
  """Rounding may depend on a row's place; copies must tie all the same."""
  rng = np.random.default_rng(1)
  gallery = np.repeat(unit(rng, 1, dim), size, axis=0)
  queries = unit(rng, 5, dim)
  match = rng.integers(0, size, 5)
  assert set(metrics.ranks(queries, gallery, match)) == {1}
  worst = metrics.ranks(queries, gallery, match, ties="pessimistic")
  assert set(worst) == {size}


def test_duplicates_count_as_matches_where_asked():
  gallery = np.array([[0, 1], [1, 0], [1, 0.1]], np.float32)
  queries = np.array([[1, 0.1]], np.float32)
  texts = np.array(["walks", "sits", "walks"])
  alone = metrics.retrieval(queries, gallery, ks=(1,), match=np.array([0]))
  assert alone["R@1"] == 0
  match = np.array(["walks"]), texts
  grouped = metrics.retrieval(queries, gallery, ks=(1,), match=match)
  assert grouped["R@1"] == 1
  assert grouped["chance_R@1"] == pytest.approx(2 / 3)
  assert grouped["chance_MRR"] == pytest.approx(2 / 3 + 1 / 3 / 2)


@pytest.mark.parametrize("matches", [1, 2, 5])
def test_chance_is_what_random_orders_give(matches):
  rng = np.random.default_rng(2)
  size, ks = 20, (1, 3, 30)
  firsts = np.array(
    [rng.permutation(size)[:matches].min() + 1 for _ in range(20_000)]
  )
  match = np.zeros((1, size), bool)
  match[0, :matches] = True
  got = ranking.chance(1, size, ks, match)
  for k in ks:
    assert got[f"R@{k}"] == pytest.approx((firsts <= k).mean(), abs=0.015)
  assert got["MRR"] == pytest.approx((1 / firsts).mean(), abs=0.01)


def test_chance_of_one_match_is_exact():
  got = ranking.chance(3, 1000, (1, 10, 5000))
  want = {"R@1": 0.001, "R@10": 0.01, "R@5000": 1.0}
  want["MRR"] = sum(1 / r for r in range(1, 1001)) / 1000
  assert got == pytest.approx(want)


def test_shuffled_pairs_give_chance():
  rng = np.random.default_rng(3)
  result = metrics.retrieval(unit(rng, 1000, 16), unit(rng, 1000, 16))
  assert result["R@50"] == pytest.approx(result["chance_R@50"], abs=0.02)
  assert result["MRR"] == pytest.approx(result["chance_MRR"], abs=0.006)


def test_one_item():
  one = np.ones((1, 4), np.float32)
  result = metrics.retrieval(one, one)
  assert result["R@1"] == result["chance_R@1"] == result["chance_MRR"] == 1


def test_intervals_cover_and_narrow():
  rng = np.random.default_rng(4)
  gallery = unit(rng, 400, 8)
  queries = gallery + rng.normal(size=gallery.shape).astype(np.float32)
  widths = []
  for num in (50, 400):
    result = metrics.retrieval(queries[:num], gallery, bootstrap=300)
    low, high = result["interval"]["R@10"]
    assert 0 <= low < result["R@10"] < high <= 1
    widths.append(high - low)
  # Eight times the queries: about √8 times narrower.
  assert 2 < widths[0] / widths[1] < 4
  again = metrics.retrieval(queries, gallery, bootstrap=300)
  assert again == result


def test_half_precision_gallery():
  rng = np.random.default_rng(5)
  gallery = unit(rng, 50, 16)
  half = gallery.astype(np.float16)
  assert set(metrics.ranks(gallery, half)) == {1}


@pytest.mark.parametrize(
  ("queries", "gallery", "match", "message"),
  [
    (np.ones((3, 2)), np.ones((2, 2)), None, "3 queries need as many"),
    (np.ones((3, 2)), np.ones((4, 3)), None, "one width"),
    (np.ones(3), np.ones((4, 3)), None, r"must be \[N, D\]"),
    (np.ones((0, 2)), np.ones((4, 2)), None, "one width"),
    (np.ones((1, 2)), np.ones((4, 2)), np.array([4]), "query 0 .* no match"),
    (np.ones((1, 2)), np.ones((4, 2)), np.array([0.0]), "match must be int"),
    (np.ones((1, 2)), np.ones((4, 2)), np.zeros((1, 4), bool), "no match"),
    (
      np.ones((1, 2)),
      np.ones((2, 2)),
      (np.array([7]), np.array([1, 2])),
      "no match",
    ),
    (np.full((1, 2), np.nan), np.ones((2, 2)), None, "queries row 0"),
    (
      np.ones((1, 2)),
      np.array([[1, 1], [np.inf, 0]]),
      None,
      "gallery row 1 holds NaN",
    ),
  ],
)
def test_bad_input_is_named(queries, gallery, match, message):
  with pytest.raises(ValueError, match=message):
    metrics.retrieval(queries, gallery, match=match)


def test_bad_options_are_named():
  one = np.ones((1, 2))
  with pytest.raises(ValueError, match="cut-offs"):
    metrics.retrieval(one, one, ks=(0,))
  with pytest.raises(ValueError, match="ties must be"):
    metrics.ranks(one, one, ties="lucky")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_gallery():
  """5,000 x 300,000 scores would be 6 GB; the tiles take far less."""
  resource = pytest.importorskip("resource")
  rng = np.random.default_rng(7)
  gallery = rng.standard_normal((300_000, 256), np.float32)
  queries = gallery[:5000] + rng.standard_normal((5000, 256), np.float32)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  got = metrics.ranks(queries, gallery)
  grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert grown * (1 if sys.platform == "darwin" else 1024) < 512e6
  scores = queries[:20].astype(np.float64) @ gallery.T
  own = scores[np.arange(20), np.arange(20)]
  assert np.array_equal(got[:20] - 1, (scores > own[:, None]).sum(1))


def retrieval_case(case):
  """Positive queries, gallery and matches: torchmetrics passes over others."""
  rng = np.random.default_rng(8)
  queries, gallery = abs(unit(rng, 40, 8)), abs(unit(rng, 90, 8))
  matches = rng.random((40, 90)) < 0.03
  matches[:, 0] = True
  if case == "one query":
    queries, matches = queries[:1], matches[:1]
  elif case == "one row":
    gallery, matches = gallery[:1], matches[:, :1]
  elif case == "every row matches":
    matches[:] = True
  elif case == "only the last matches":
    matches[:] = False
    matches[np.arange(40), (queries @ gallery.T).argmin(1)] = True
  return queries, gallery, matches


@pytest.mark.parity
@pytest.mark.parametrize(
  "case",
  [
    "random",
    "one query",
    "one row",
    "every row matches",
    "only the last matches",
  ],
)
def test_equals_torchmetrics_retrieval(case):
  retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
  torch = pytest.importorskip("torch")
  queries, gallery, matches = retrieval_case(case)
  result = metrics.retrieval(queries, gallery, ks=(1, 5), match=matches)
  scores, relevant = torch.tensor(queries @ gallery.T), torch.tensor(matches)
  pairs = list(zip(scores, relevant, strict=True))
  mrr = np.mean([float(retrieval.retrieval_reciprocal_rank(*p)) for p in pairs])
  assert result["MRR"] == pytest.approx(mrr, abs=1e-6)
  for k in (1, 5):
    top = min(k, len(gallery))
    hits = [float(retrieval.retrieval_hit_rate(*p, top_k=top)) for p in pairs]
    assert result[f"R@{k}"] == pytest.approx(np.mean(hits), abs=1e-6)


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_tied_scores_equal_scikit_learn(levels):
  """Its rankings of one relevant row put tied wrong ones first."""
  sklearn = pytest.importorskip("sklearn.metrics")
  rng = np.random.default_rng(levels)
  # Whole numbers: products are exact, and most of them tie.
  queries = rng.integers(0, levels, (30, 3)).astype(np.float32)
  gallery = rng.integers(0, levels, (50, 3)).astype(np.float32)
  right = rng.integers(0, 50, 30)
  relevant = np.arange(50)[None] == right[:, None]
  scores = queries @ gallery.T
  found = metrics.ranks(queries, gallery, right, ties="pessimistic")
  assert found.mean() == pytest.approx(sklearn.coverage_error(relevant, scores))
  result = metrics.retrieval(
    queries, gallery, match=right, ties="pessimistic", ks=(1,)
  )
  mrr = sklearn.label_ranking_average_precision_score(relevant, scores)
  assert result["MRR"] == pytest.approx(mrr)


# Recognition.


def labels_and_predictions(case):
  rng = np.random.default_rng(9)
  return {
    "random": (rng.integers(0, 5, 200), rng.integers(0, 5, 200)),
    "class 2 has no label": (
      rng.choice([0, 1, 3, 4], 60),
      rng.integers(0, 5, 60),
    ),
    "class 2 occurs nowhere": (
      rng.choice([0, 1, 3, 4], 60),
      rng.choice([0, 1, 3, 4], 60),
    ),
    "one item": (np.array([3]), np.array([1])),
    "constant": (rng.integers(0, 5, 30), np.full(30, 2)),
    "all right": (np.arange(5), np.arange(5)),
  }[case]


CASES = (
  "random",
  "class 2 has no label",
  "class 2 occurs nowhere",
  "one item",
  "constant",
  "all right",
)
NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("case", CASES)
def test_equals_scikit_learn(case):
  sklearn = pytest.importorskip("sklearn.metrics")
  labels, predictions = labels_and_predictions(case)
  result = metrics.recognition(labels, predictions, NAMES)
  options = {"average": "macro", "zero_division": 0}
  assert result["accuracy"] == pytest.approx(
    sklearn.accuracy_score(labels, predictions)
  )
  assert result["macro_f1"] == pytest.approx(
    sklearn.f1_score(labels, predictions, **options)
  )
  constant = np.full_like(labels, np.bincount(labels).argmax())
  assert result["constant_accuracy"] == pytest.approx(
    sklearn.accuracy_score(labels, constant)
  )
  assert result["constant_macro_f1"] == pytest.approx(
    sklearn.f1_score(labels, constant, **options)
  )
  columns = sklearn.precision_recall_fscore_support(
    labels, predictions, labels=range(5), zero_division=0
  )
  for key, column in zip(
    ("precision", "recall", "f1", "support"), columns, strict=True
  ):
    got = [result["per_class"][name][key] for name in NAMES]
    np.testing.assert_allclose(got, column)
  assert np.array_equal(
    metrics.confusion(labels, predictions, 5),
    sklearn.confusion_matrix(labels, predictions, labels=range(5)),
  )
  assert result["n"] == len(labels)


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
def test_equals_torchmetrics_classification(case):
  functional = pytest.importorskip("torchmetrics.functional.classification")
  torch = pytest.importorskip("torch")
  labels, predictions = labels_and_predictions(case)
  result = metrics.recognition(labels, predictions, NAMES)
  pair = torch.tensor(predictions), torch.tensor(labels)
  macro = functional.multiclass_f1_score(*pair, 5, average="macro")
  assert result["macro_f1"] == pytest.approx(float(macro), abs=1e-6)
  accuracy = functional.multiclass_accuracy(*pair, 5, average="micro")
  assert result["accuracy"] == pytest.approx(float(accuracy), abs=1e-6)


def test_small_integers_do_not_overflow():
  labels = np.full(3, 30, np.int8)
  assert metrics.confusion(labels, labels, 31)[30, 30] == 3


def test_constant_row_names_the_most_frequent_label():
  result = metrics.recognition([1, 1, 0], [0, 0, 0], ["sit", "walk"])
  assert result["constant_class"] == "walk"
  assert result["constant_accuracy"] == pytest.approx(2 / 3)
  assert result["constant_macro_f1"] == pytest.approx(0.8 / 2)
  assert result["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
  ("labels", "predictions", "message"),
  [
    ([0, 1], [0], "two int"),
    ([], [], "two int"),
    ([0, 2], [0, 1], r"labels must lie in 0 \.\. 1"),
    ([0, 1], [0, -1], "predictions must lie"),
    ([0.0, 1.0], [0, 1], "labels must be integers"),
  ],
)
def test_bad_labels_are_named(labels, predictions, message):
  with pytest.raises(ValueError, match=message):
    metrics.confusion(labels, predictions, 2)


@pytest.mark.parametrize(
  ("queries", "gallery"),
  [
    ([[1e-30, 0.0]], [[1e-30, 0.0], [2e-30, 0.0]]),
    ([[1e30, 0.0]], [[1e30, 0.0], [2e30, 0.0]]),
    ([[1.0, 0.0]], [[1.0, 0.0], [1 + 1e-9, 0.0]]),
    ([[1, 0]], [[2**24, 0], [2**24 + 1, 0]]),
  ],
)
def test_wide_numbers_are_ranked_as_they_are(queries, gallery):
  # Lists, too: NumPy makes float64 and integers of them.
  assert metrics.retrieval(queries, gallery, ks=(1,))["MRR"] == 0.5


def test_products_that_overflow_are_refused():
  rows = np.full((2, 3), 1e30, np.float32)
  with pytest.raises(ValueError, match="exceed float32: scale"):
    metrics.retrieval(rows, rows)


def test_cut_offs_and_matches_in_any_form():
  rows = np.eye(2)
  assert metrics.retrieval(rows, rows, ks=(1.0,), match=(0, 1))["R@1"] == 1
  with pytest.raises(ValueError, match="whole numbers from 1"):
    metrics.retrieval(rows, rows, ks=(1.5,))
