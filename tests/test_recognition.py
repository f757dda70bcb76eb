"""Zero-shot, probe and fine-tune against scikit-learn and planted answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model
from sklearn import metrics as sklearn_metrics

from imu2clip_jax import fine_tuning, logistic, recognition

NAMES = ["sits", "walks", "runs"]


def clusters(seed, n=120, dim=8, classes=3, spread=0.6):
  rng = np.random.default_rng(seed)
  centres = np.random.default_rng(0).normal(size=(classes, dim))
  y = rng.integers(0, classes, n)
  return centres[y] + spread * rng.normal(size=(n, dim)), y


# Zero-shot


def test_zero_shot_names_the_nearest_text():
  texts = np.eye(3, dtype=np.float32)
  embeddings = texts[[0, 1, 2, 0, 1]]
  labels = np.array([0, 1, 1, -1, -2])
  scores, predictions = recognition.zero_shot(embeddings, texts, labels, NAMES)
  assert predictions.tolist() == [0, 1, 2, 0, 1]
  assert scores["n"] == 3
  # -2 is a label that is not asked about, not a missing one.
  assert scores["n_unlabelled"] == 1
  assert scores["accuracy"] == pytest.approx(2 / 3)
  assert scores["named_among"] == 3
  assert scores["constant_accuracy"] == pytest.approx(2 / 3)


def test_zero_shot_averages_over_the_classes_asked_for():
  texts = np.eye(3, dtype=np.float32)
  labels, named = np.array([1, 1, 2, 2]), [1, 0, 2, 2]
  scores, _ = recognition.zero_shot(
    texts[named], texts, labels, NAMES, averaged=[1, 2]
  )
  expected = sklearn_metrics.f1_score(
    labels, named, labels=[1, 2], average="macro"
  )
  assert scores["macro_f1"] == pytest.approx(expected)
  assert list(scores["per_class"]) == ["walks", "runs"]
  # scikit-learn's own rule also counts "sits", which was only named.
  scores, _ = recognition.zero_shot(texts[named], texts, labels, NAMES)
  expected = sklearn_metrics.f1_score(labels, named, average="macro")
  assert scores["macro_f1"] == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_zero_shot_does_not_depend_on_order(seed, classes):
  rng = np.random.default_rng(seed)
  x, texts = rng.normal(size=(30, 4)), rng.normal(size=(classes, 4))
  labels = rng.integers(-1, classes, 30)
  labels[0] = 0
  names = [f"class {k}" for k in range(classes)]
  scores, _ = recognition.zero_shot(x, texts, labels, names)
  rows, order = rng.permutation(30), rng.permutation(classes)
  place = np.append(np.argsort(order), -1)
  shuffled, _ = recognition.zero_shot(
    x[rows], texts[order], place[labels[rows]], [names[k] for k in order]
  )
  for key in ("accuracy", "macro_f1", "n", "n_unlabelled"):
    assert shuffled[key] == pytest.approx(scores[key])
  for name in names:
    assert shuffled["per_class"][name] == pytest.approx(
      scores["per_class"][name]
    )


def test_interval_holds_the_score_and_shrinks_with_windows():
  labels = np.tile([0, 1, 2, 2], 8)
  predictions = np.tile([0, 1, 2, 0], 8)
  few = recognition.score(labels, predictions, NAMES)
  many = recognition.score(np.tile(labels, 16), np.tile(predictions, 16), NAMES)
  for name in ("accuracy", "macro_f1"):
    low, high = few["interval"][name]
    assert low < few[name] < high
    narrow = many["interval"][name]
    assert narrow[1] - narrow[0] == pytest.approx((high - low) / 4, rel=0.25)


def test_no_label_at_all_is_an_error():
  with pytest.raises(ValueError, match="no test window has a label"):
    recognition.score(np.full(3, -1), np.zeros(3, int), NAMES)


def test_zero_shot_refuses_texts_of_another_width():
  with pytest.raises(ValueError, match=r"label embeddings are \[3, 5\]"):
    recognition.zero_shot(
      np.ones((2, 4)), np.ones((3, 5)), np.zeros(2, int), NAMES
    )


# Prompts


def test_prompts_are_averaged_and_unit():
  table = {"a sits": [1, 0], "b sits": [0, 1], "a runs": [0, 1]}
  table["b runs"] = [0, 1]
  embeddings = recognition.prompt_embeddings(
    lambda texts: np.asarray([table[t] for t in texts], np.float32),
    ["sits", "runs"],
    ("a {}", "b {}"),
  )
  half = np.sqrt(0.5)
  np.testing.assert_allclose(embeddings, [[half, half], [0, 1]], atol=1e-6)


@pytest.mark.parametrize("prompts", [(), ("a person",)])
def test_prompts_need_a_place_for_the_label(prompts):
  with pytest.raises(ValueError, match=r"config\.recognition\.prompts"):
    recognition.prompt_embeddings(lambda t: np.ones((1, 2)), ["x"], prompts)


# Linear probe


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_fit_logistic_equals_scikit_learn(l2):
  x, y = clusters(1)
  ours = logistic.fit(x, y, 3, l2, tolerance=1e-8)
  theirs = linear_model.LogisticRegression(
    C=1 / (len(x) * l2), tol=1e-10, max_iter=10_000
  ).fit(x, y)
  np.testing.assert_allclose(ours["kernel"].T, theirs.coef_, atol=1e-4)
  # Both leave a shift common to all classes open in the bias.
  centred = ours["bias"] - ours["bias"].mean()
  np.testing.assert_allclose(
    centred, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-4
  )


def test_fit_logistic_gradient_vanishes_when_a_class_is_absent():
  x, y = clusters(2)
  fit = logistic.fit(x, y, 4, 1e-2)
  z = x @ fit["kernel"] + fit["bias"]
  p = np.exp(z - z.max(1, keepdims=True))
  p /= p.sum(1, keepdims=True)
  assert p[:, 3].max() < 1e-3
  gradient = x.T @ (p - np.eye(4)[y]) / len(x) + 1e-2 * fit["kernel"]
  assert np.abs(gradient).max() < 1e-5


def probe(test_seed=5, **changes):
  sets = {
    name: clusters(seed, spread=1.5)
    for name, seed in (("train", 3), ("validation", 4), ("test", test_seed))
  }
  sets |= changes
  return recognition.linear_probe(
    *sets["train"], *sets["validation"], *sets["test"], NAMES, (1e-4, 1e-2, 1)
  )


def test_probe_equals_scikit_learn_at_the_chosen_penalty():
  scores, predictions, head = probe()
  (x, y), (test_x, test_y) = clusters(3, spread=1.5), clusters(5, spread=1.5)
  mean, std = x.mean(0), x.std(0)
  theirs = linear_model.LogisticRegression(
    C=1 / (len(x) * scores["l2"]), tol=1e-8, max_iter=10_000
  ).fit((x - mean) / std, y)
  expected = theirs.predict((test_x - mean) / std)
  assert (predictions == expected).all()
  assert scores["macro_f1"] == pytest.approx(
    sklearn_metrics.f1_score(test_y, expected, average="macro")
  )
  # The head works on embeddings as they came.
  raw = np.argmax(test_x @ head["kernel"] + head["bias"], axis=1)
  assert (raw == predictions).all()


def test_probe_chooses_without_looking_at_the_test_windows():
  x, y = clusters(5, spread=1.5)
  _, _, head = probe()
  _, _, other = probe(test=(x[::-1] * 3, np.roll(y, 1)))
  np.testing.assert_array_equal(head["kernel"], other["kernel"])


def test_probe_leaves_unlabelled_rows_out_everywhere():
  x, y = clusters(3, spread=1.5)
  noisy = np.concatenate([x, 100 * np.ones((7, x.shape[1]))])
  scores, _, head = probe()
  more, _, same = probe(train=(noisy, np.append(y, np.full(7, -1))))
  np.testing.assert_allclose(head["kernel"], same["kernel"])
  assert more["macro_f1"] == scores["macro_f1"]


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_probe_names_the_split_without_labels(name):
  x, y = clusters(6)
  what = {"train": "training"}.get(name, name)
  with pytest.raises(ValueError, match=f"no {what} window has a label"):
    probe(**{name: (x, np.full_like(y, -1))})


def test_probe_survives_a_feature_that_never_changes():
  x, y = clusters(3, spread=1.5)
  x[:, 2] = 7.0
  scores, _, _ = probe(train=(x, y))
  assert scores["accuracy"] > 0.5


def test_probe_needs_a_penalty():
  x, y = clusters(3)
  with pytest.raises(ValueError, match="probe_l2"):
    recognition.linear_probe(x, y, x, y, x, y, NAMES, ())


# Fine-tune


class MeanEncoder:
  """Averages over time and projects: deaf to channel 5 until it is trained."""

  def __init__(self):
    self.traces = 0
    kernel = np.random.default_rng(0).normal(size=(6, 8)) / 3
    kernel[5] = 0
    self.params = {"kernel": jnp.asarray(kernel, jnp.float32)}

  def apply(self, params, imu, mask=None, sensor_mask=None):
    self.traces += 1
    x = imu.mean(1) @ params["kernel"]
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)

  def features(self, params, imu, sensor_mask=None):
    return imu.mean(1) @ params["kernel"]


def motion(seed, n=96):
  """Windows whose class is written in channel 5."""
  rng = np.random.default_rng(seed)
  labels = rng.permuted(np.arange(n) % 3).astype(np.int32)
  imu = rng.normal(size=(n, 10, 6)).astype(np.float32)
  imu[:, :, :5] += rng.normal(size=(n, 1, 5))
  imu[:, :, 5] += 9.0 * (labels[:, None] - 1)
  mask = np.ones((n, 2), bool)
  return {"imu": imu, "sensor_mask": mask, "labels": labels}


def tune(encoder, train, test, steps=150, validation=None, **options):
  rng = np.random.default_rng(1)
  head = {"kernel": 0.1 * rng.normal(size=(8, 3)), "bias": np.zeros(3)}
  options = {"batch_size": 32, "learning_rate": 0.05} | options
  return fine_tuning.fine_tune(
    encoder,
    encoder.params,
    train,
    validation or motion(8),
    test,
    NAMES,
    head=head,
    steps=steps,
    **options,
  )


def test_fine_tune_learns_what_the_frozen_encoder_cannot_say():
  encoder = MeanEncoder()
  before = jax.tree.map(np.array, encoder.params)
  train, test = motion(7), motion(9)
  frozen = [
    np.asarray(encoder.apply(encoder.params, part["imu"]))
    for part in (train, motion(8), test)
  ]
  probed, _, _ = recognition.linear_probe(
    frozen[0],
    train["labels"],
    frozen[1],
    motion(8)["labels"],
    frozen[2],
    test["labels"],
    NAMES,
    (1e-3, 1e-1),
  )
  encoder.traces = 0
  tuned, predictions, params = tune(encoder, train, test)
  assert probed["macro_f1"] < 0.5 < 0.8 < tuned["macro_f1"]
  assert predictions.shape == (96,)
  # One step and one chunk of one shape: compiled once each.
  assert encoder.traces == 2
  np.testing.assert_array_equal(before["kernel"], encoder.params["kernel"])
  assert not np.array_equal(before["kernel"], params["kernel"])


def test_fine_tune_is_a_function_of_its_seed():
  train, test = motion(7), motion(9)
  runs = [
    tune(MeanEncoder(), train, test, steps=6, seed=seed) for seed in (0, 0, 1)
  ]
  assert runs[0][0] == runs[1][0]
  np.testing.assert_array_equal(runs[0][1], runs[1][1])
  orders = [
    fine_tuning._order(np.arange(10), 4, 5, seed).tolist() for seed in (0, 1)
  ]
  assert orders[0] != orders[1]


def test_fine_tune_keeps_the_best_check_not_the_last():
  # The rate is far too high: some check is better than what follows it.
  options = {"steps": 40, "learning_rate": 3.0}
  scores, _, _ = tune(MeanEncoder(), motion(7), motion(9), checks=40, **options)
  assert scores["step"] < 40
  last, _, _ = tune(MeanEncoder(), motion(7), motion(9), checks=1, **options)
  assert last["step"] == 40


def test_fine_tune_leaves_unlabelled_windows_out():
  train, test = motion(7), motion(9)
  spoiled = {name: column.copy() for name, column in train.items()}
  spoiled["labels"][:40] = -1
  spoiled["imu"][:40] = np.nan
  test["labels"][:10] = -1
  scores, predictions, _ = tune(MeanEncoder(), spoiled, test)
  assert scores["n"] == 86
  assert scores["n_unlabelled"] == 10
  assert scores["macro_f1"] > 0.8
  assert len(predictions) == 96


def worn(seed):
  """Motion on which each of six wearers puts an offset of their own."""
  part, rng = motion(seed), np.random.default_rng(seed)
  codes = rng.integers(0, 6, 96)
  part["imu"] += rng.normal(0, 40, (6, 1, 6)).astype(np.float32)[codes]
  return part | {"wearers": np.char.add(f"{seed}_", codes.astype(str))}


def tune_by_wearer(train, test, **options):
  encoder = MeanEncoder()
  return tune(encoder, train, test, validation=worn(8), **options)


def test_fine_tune_by_wearer_sees_past_what_each_wearer_adds():
  train, test = worn(7), worn(9)
  plain, _, _ = tune_by_wearer(train, test)
  for mixup in (0.0, 0.3):
    found, _, _ = tune_by_wearer(train, test, by_wearer=True, mixup=mixup)
    assert plain["macro_f1"] < 0.5 < 0.75 < found["macro_f1"]


def test_fine_tune_by_wearer_looks_past_windows_not_asked_about():
  train, test = worn(7), worn(9)
  expected, predictions, params = tune_by_wearer(
    train, test, steps=25, by_wearer=True
  )
  assert (predictions >= 0).all()
  others = [worn(seed) for seed in (7, 9)]  # more windows of the same wearers
  for i, part in enumerate((train, test)):
    others[i]["labels"] = np.full(96, -2, np.int32)
    others[i]["imu"] = others[i]["imu"] + 1000
    both = {k: np.concatenate([part[k], others[i][k]]) for k in part}
    others[i] = both
  found, predictions, again = tune_by_wearer(*others, steps=25, by_wearer=True)
  assert found == expected
  assert (predictions[96:] == -1).all()
  np.testing.assert_array_equal(params["kernel"], again["kernel"])


def test_moments_are_each_wearers_own():
  rng = np.random.default_rng(0)
  x, codes = rng.normal(3, 2, (50, 4)), np.resize([0, 2], 50)
  mean, spread = np.split(fine_tuning._moments(x, codes, 3), 2, axis=1)
  for code in (0, 2):
    np.testing.assert_allclose(mean[code], x[codes == code].mean(0), rtol=1e-6)
  added = spread[0] - x[codes == 0].std(0)
  assert (added > 0).all()
  assert np.ptp(added) < 1e-6
  # Nobody's windows, and a feature that a wearer never changes.
  x[codes == 0, 1] = 5.0
  mean, spread = np.split(fine_tuning._moments(x, codes, 3), 2, axis=1)
  assert (mean[1] == 0).all()
  assert spread[0, 1] > 1
  assert (spread[1] > 1).all()


def test_every_row_is_met_once_an_epoch():
  rows = np.array([2, 3, 5, 7, 11, 13])
  order = fine_tuning._order(rows, steps=6, batch_size=4, seed=0)
  assert order.shape == (6, 4)
  for epoch in order.reshape(4, 6):
    assert sorted(epoch) == rows.tolist()


def test_features_of_rows_come_in_one_shape(monkeypatch):
  monkeypatch.setattr(fine_tuning, "_CHUNK_ROWS", 16)
  part, shapes = motion(3), []

  class Shaped(MeanEncoder):
    def features(self, params, imu, sensor_mask=None):
      shapes.append(imu.shape)
      return super().features(params, imu)

  encoder, rows = Shaped(), np.arange(5, 45)
  found = fine_tuning.features(encoder, encoder.params, part, rows)
  expected = part["imu"][rows].mean(1) @ np.asarray(encoder.params["kernel"])
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert shapes == [(16, 10, 6)]
