"""Directions, galleries and chance of retrieval on planted embeddings."""

import collections

import numpy as np
import pytest

from imu2clip_jax import retrieval


def unit(x):
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def random_sides(seed, n=400, dim=32, noise=1.2):
  """IMU and video near their texts; everybody has everything."""
  rng = np.random.default_rng(seed)
  text, everybody = rng.normal(size=(n, dim)), np.ones(n, bool)
  near = [unit(text + noise * rng.normal(size=(n, dim))) for _ in range(2)]
  return {
    "imu": (near[0], everybody),
    "text": (unit(text), everybody),
    "video": (near[1], everybody),
  }


def measure(sides, pairs=("imu_text",), rows=None):
  n = len(sides["imu"][0])
  rows = np.arange(n) if rows is None else rows
  return retrieval.measure(sides, rows, np.arange(n), pairs, seed=0)


def test_every_direction_beats_chance_on_related_sides():
  blocks, _ = measure(random_sides(0))
  assert list(blocks) == [
    "text->imu",
    "imu->text",
    "imu->video",
    "video->imu",
    "text->video",
  ]
  for block in blocks.values():
    assert block["R@10"] > 10 * block["chance_R@10"]
    low, high = block["interval"]["R@10"]
    assert low < block["R@10"] < high


def test_shuffled_pairing_gives_chance():
  sides = random_sides(0)
  imu, has = sides["imu"]
  order = np.random.default_rng(1).permutation(len(imu))
  blocks, _ = measure(sides | {"imu": (imu[order], has)})
  for direction in ("text->imu", "imu->text", "imu->video", "video->imu"):
    block = blocks[direction]
    # Three standard errors of a share of 400 draws.
    for k in (10, 50):
      chance = block[f"chance_R@{k}"]
      error = 3 * np.sqrt(chance * (1 - chance) / 400)
      assert abs(block[f"R@{k}"] - chance) < error
  # The teacher's own pair is as it was.
  assert blocks["text->video"]["R@10"] > 0.5


def test_trained_marks_what_the_variant_contrasts():
  blocks, _ = measure(random_sides(0, n=20), pairs=("imu_video",))
  trained = {d: block["trained"] for d, block in blocks.items()}
  assert trained == {
    "text->imu": False,
    "imu->text": False,
    "imu->video": True,
    "video->imu": True,
    "text->video": True,
  }


def test_equal_narrations_are_told_apart_only_in_the_headline():
  sides = random_sides(0, n=4, noise=0.0)
  texts = sides["text"][0].copy()
  texts[1] = texts[0]
  sides["imu"] = (texts[[1, 0, 2, 3]], sides["imu"][1])
  sides["text"] = (texts, sides["text"][1])
  ids = np.array([0, 0, 2, 3])
  blocks, _ = retrieval.measure(sides, np.arange(4), ids, ("imu_text",), 0)
  block = blocks["imu->text"]
  assert block["tied"] == 0.5
  assert block["R@1"] == 1.0
  same = block["equal_texts_match"]
  assert same["R@1"] == 1.0
  # Two of the four rows are right for two of the four queries.
  assert same["chance_R@1"] == pytest.approx((2 / 4 + 1 / 4) / 2)
  assert "equal_texts_match" not in blocks["imu->video"]


def test_direction_with_one_window_is_left_out():
  sides = random_sides(0, n=10)
  sides["text"] = (sides["text"][0], np.arange(10) == 3)
  blocks, ranked = measure(sides)
  assert list(blocks) == list(ranked) == ["imu->video", "video->imu"]


def test_rows_that_take_no_part_are_no_gallery_either():
  sides = random_sides(0, n=10)
  sides["video"] = (sides["video"][0], np.arange(10) < 6)
  blocks, ranked = measure(sides, rows=np.array([1, 3, 5, 7, 9]))
  assert blocks["text->imu"]["gallery"] == 5
  assert blocks["imu->video"]["gallery"] == 3
  assert ranked["imu->video"][0].tolist() == [1, 3, 5]


def test_official_gallery_takes_two_windows_a_recording():
  ids = [f"r{i // 10}" for i in range(2000)]
  rows = retrieval.official_rows(ids, seed=0)
  assert len(rows) == len(set(rows)) == 320
  counts = collections.Counter(ids[row] for row in rows)
  assert set(counts.values()) == {2}
  assert (rows != retrieval.official_rows(ids, seed=1)).any()
  np.testing.assert_array_equal(rows, retrieval.official_rows(ids, seed=0))


def test_official_gallery_spreads_evenly_over_few_recordings():
  ids = ["short"] * 3 + ["long"] * 500 + ["other"] * 500
  rows = retrieval.official_rows(ids, seed=0)
  counts = collections.Counter(ids[row] for row in rows)
  assert counts["short"] == 3
  assert abs(counts["long"] - counts["other"]) <= 2
  assert sum(counts.values()) == 320
  assert len(retrieval.official_rows(["a"] * 7, seed=0)) == 7


def test_examples_are_varied_and_best_first():
  sides = random_sides(0, n=60)
  _, ranked = measure(sides)
  rows, ranks = ranked["text->imu"]
  groups = np.arange(60) % 6
  found = retrieval.examples(
    sides, "text->imu", rows, ranks, groups, count=5, seed=3
  )
  assert len({groups[example["row"]] for example in found}) == 5
  texts, imu = sides["text"][0], sides["imu"][0]
  for example in found:
    scores = imu @ texts[example["row"]]
    assert example["hits"] == np.argsort(-scores)[:5].tolist()
    place = 1 + (scores > scores[example["row"]]).sum()
    assert example["rank"] == place
    assert (example["row"] in example["hits"]) == (place <= 5)
