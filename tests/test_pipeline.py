import dataclasses

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax.data import cache, pipeline


@pytest.fixture
def split(tmp_path, write_cache):
  return cache.open_split(write_cache(tmp_path), "train")


class Host(grain.sharding.ShardOptions):
  """One of several hosts."""


@settings(max_examples=25, deadline=None)
@given(
  rows=st.integers(4, 60),
  batch_size=st.integers(1, 4),
  seed=st.integers(0, 5),
  epoch=st.integers(0, 3),
)
def test_an_epoch_meets_distinct_rows(rows, batch_size, seed, epoch):
  steps = _steps_of(np.arange(rows) * 3, batch_size, seed)
  first = epoch * steps.steps_per_epoch
  seen = np.concatenate(
    [steps.rows_of(first + k) for k in range(steps.steps_per_epoch)]
  )
  assert len(set(seen)) == len(seen) == rows // batch_size * batch_size
  assert set(seen) <= set(np.arange(rows) * 3)


def test_epochs_have_different_orders():
  steps = _steps_of(np.arange(64), 64, 0)
  assert (steps.rows_of(0) != steps.rows_of(1)).any()


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_single_hosts_batch(split, hosts):
  rows = np.arange(len(split))
  whole = pipeline.StepBatches(split, rows, 8, 0, "any").map(7)
  parts = [
    pipeline.StepBatches(
      split, rows, 8, 0, "any", Host(shard_index=i, shard_count=hosts)
    ).map(7)
    for i in range(hosts)
  ]
  for name, column in whole.items():
    joined = np.concatenate([part[name] for part in parts])
    np.testing.assert_array_equal(joined, column)


def test_any_text_draws_from_all_texts_of_a_row(split):
  rows = np.arange(len(split))
  steps = pipeline.StepBatches(split, rows, 32, 0, "any")
  drawn = {r: set() for r in rows}
  for step in range(40):
    batch_rows, ids = steps.rows_of(step), steps.map(step)["text_id"]
    for row, text in zip(batch_rows, ids, strict=True):
      drawn[row].add(int(text))
  for row, found in drawn.items():
    assert found == set(split.text_ids[row].tolist())


def test_resumed_iterator_goes_on_with_the_same_batches(split):
  steps = pipeline.StepBatches(split, np.arange(len(split)), 8, 0)
  whole = pipeline.batches(steps, 10)
  for _ in range(6):
    next(whole)
  state = whole.get_state()
  assert state == {"next_index": 6}
  rest = pipeline.batches(steps, 10, first_step=6)
  for a, b in zip(whole, rest, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def test_held_out_labels_and_missing_partners_are_left_out(split):
  rows = pipeline.training_rows(split, ("imu_text",), ("running",))
  assert (split.labels[rows] != 1).all()
  assert len(rows) == (split.labels != 1).sum()
  has_frames = np.zeros(len(split), bool)
  without = dataclasses.replace(
    split, columns=split.columns | {"has_frames": has_frames}
  )
  with pytest.raises(ValueError, match="no window for imu_video"):
    pipeline.training_rows(without, ("imu_video",), ())
  alone = pipeline.training_rows(without, (), ("running",))
  np.testing.assert_array_equal(alone, np.flatnonzero(split.labels != 1))
  with pytest.raises(ValueError, match="no label flying; the data has walking"):
    pipeline.training_rows(split, ("imu_text",), ("flying",))


def test_too_large_a_batch_is_named(split):
  with pytest.raises(ValueError, match="batch_size is 64, but split 'train'"):
    pipeline.StepBatches(split, np.arange(32), 64, 0)
  with pytest.raises(ValueError, match="does not divide by 3 hosts"):
    pipeline.StepBatches(
      split, np.arange(32), 8, 0, shard=Host(shard_index=0, shard_count=3)
    )


def _steps_of(rows, batch_size, seed):
  split = cache.Split("train", {}, {}, [], [], [], [])
  return pipeline.StepBatches(split, rows, batch_size, seed)
