"""Several caches as one: weights, determinism, equal texts, what cannot mix."""

import dataclasses
import pathlib

import grain
import numpy as np
import pytest

from imu2clip_jax import config, embed, train
from imu2clip_jax.data import builder, cache, mixture, pipeline


@pytest.fixture
def splits(tmp_path, write_cache):
  sizes = ({"train": 40}, {"train": 12}, {"train": 25})
  options = ({}, {"texts_per_row": 3}, {"labels": ("reading a book", "asleep")})
  return [
    cache.open_split(
      write_cache(tmp_path / str(i), size, seed=i, **option), "train"
    )
    for i, (size, option) in enumerate(zip(sizes, options, strict=True))
  ]


def mix(splits, weights=(5, 2, 3), batch=16, **options):
  rows = [np.arange(len(s)) for s in splits]
  return mixture.MixedBatches(splits, rows, weights, batch, 0, **options)


def owner(splits, rows):
  starts = np.cumsum([0, *(len(s) for s in splits)])
  return np.searchsorted(starts, rows, side="right") - 1


def test_weights_are_kept_after_any_number_of_steps(splits):
  batches = mix(splits)
  met = np.zeros(3)
  for step in range(50):  # many times around the smallest set
    rows = batches.global_rows_of(step)
    assert len(rows) == len(set(rows)) == 16
    met += np.bincount(owner(splits, rows), minlength=3)
    np.testing.assert_allclose(
      met, 16 * (step + 1) * np.array([0.5, 0.2, 0.3]), atol=1.01
    )


def test_every_window_of_a_set_is_met(splits):
  batches = mix(splits)
  met = np.concatenate([batches.global_rows_of(step) for step in range(100)])
  assert set(met) == set(range(40 + 12 + 25))


def test_a_batch_holds_the_sets_own_rows(splits):
  batches = mix(splits, text_choice="any")
  rows, batch = batches.rows_of(3), batches.map(3)
  starts = np.cumsum([0, *(len(s) for s in splits)])
  for k, (i, row) in enumerate(zip(owner(splits, rows), rows, strict=True)):
    split, own = splits[i], row - starts[i]
    np.testing.assert_array_equal(batch["imu"][k], split.imu[own])
    np.testing.assert_array_equal(
      batch["frame_embedding"][k], split.frame_embeddings[own]
    )
    text = batches.split.texts[batch["text_id"][k]]
    assert text in {split.texts[t] for t in split.text_ids[own]}


def test_equal_texts_and_labels_of_two_sets_are_one(splits):
  joined = mixture.join(splits)
  used = joined.text_ids[joined.text_ids >= 0]
  assert len({joined.texts[i] for i in used}) == len(set(used.tolist()))
  names = [joined.label_names[i] for i in joined.labels]
  assert names == [s.label_names[i] for s in splits for i in s.labels]


def test_wearers_of_two_sets_are_two_people(splits):
  other = dataclasses.replace(
    splits[1], meta=splits[1].meta | {"dataset": "other"}
  )
  joined = mixture.join([splits[0], other, splits[2]])
  parts = np.split(np.asarray(joined.wearer_ids), [40, 52])
  assert set(parts[0]) == {"random train0", "random train1", "random train2"}
  assert set(parts[1]) == {"other train0", "other train1", "other train2"}
  assert set(parts[2]) == set(parts[0])


def test_a_mixture_resumes_by_its_step(splits):
  whole = list(pipeline.batches(mix(splits), 8))
  rest = list(pipeline.batches(mix(splits), 8, first_step=5))
  assert len(rest) == 3
  for a, b in zip(whole[5:], rest, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def test_hosts_share_the_single_hosts_batch(splits):
  whole = mix(splits, text_choice="any").map(2)
  parts = [
    mix(
      splits,
      text_choice="any",
      shard=grain.sharding.ShardOptions(shard_index=i, shard_count=2),
    ).map(2)
    for i in range(2)
  ]
  for name, column in whole.items():
    joined = np.concatenate([part[name] for part in parts])
    np.testing.assert_array_equal(joined, column)


@pytest.mark.parametrize("weights", [(1, 1), (1, 0, 1), (1, np.nan, 1)])
def test_weights_are_checked(splits, weights):
  with pytest.raises(ValueError, match="weights above 0"):
    mix(splits, weights)


def test_a_part_must_fit_its_set(splits):
  with pytest.raises(ValueError, match=r"takes .* which has 12"):
    mix(splits, (2, 12, 2))
  with pytest.raises(ValueError, match=r"takes 0\.16 windows"):
    mix(splits, (98, 1, 1))


@pytest.mark.parametrize("what", ["rate_hz", "window_s", "teacher"])
def test_what_does_not_fit_is_named(splits, what):
  meta = splits[1].meta
  other = meta["teacher"] | {"fingerprint": "1" * 64}
  value = other if what == "teacher" else meta[what] * 2
  splits[1] = dataclasses.replace(splits[1], meta=meta | {what: value})
  with pytest.raises(ValueError, match=f"a mixture needs one {what}"):
    mix(splits)


def test_a_mixture_trains_from_its_config(tmp_path, write_cache, monkeypatch):
  for i in range(2):
    write_cache(tmp_path / f"set{i}", num_samples=150, seed=i)
  info = {"path": "set", "splits": {"train": 32}}
  monkeypatch.setattr(builder, "describe", lambda _: info)
  monkeypatch.setattr(embed, "ensure_cache", lambda c: tmp_path / c.data.dir)
  c = train.load_config(
    str(pathlib.Path(__file__).parents[1] / "configs/mixture.py"),
    [
      "--config.data.dir=set0",
      "--config.data.mixture_dirs=('set1',)",
      "--config.data.mixture_weights=(0.75, 0.25)",
      "--config.encoder.preset=official",
      "--config.encoder.rate_hz=30.0",
      "--config.encoder.hidden=8",
      "--config.encoder.width=8",
      "--config.train.batch_size=8",
      "--config.train.steps=6",
      "--config.train.save_every_steps=3",
      "--config.train.log_every_steps=1",
    ],
  )
  train.train(c, tmp_path / "whole")
  log = (tmp_path / "whole" / "train.jsonl").read_text().splitlines()
  assert len(log) == 6
  saved = config.from_json((tmp_path / "whole/config.json").read_text())
  assert saved.to_dict() == c.to_dict()
  c.data.mixture_weights = (1.0,)
  with pytest.raises(ValueError, match="mixture_weights has 1 entries"):
    config.check(c)
