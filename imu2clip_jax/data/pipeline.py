"""Global steps to batches: grain over the memory-mapped cache.

One grain element is one step's slice of the global batch: a pure function of
(seed, step), gathered from the columns. So the iterator's state is the step
alone, and a run may resume on another number of hosts.
"""

import threading

import grain
import jax
import numpy as np

from imu2clip_jax.data import cache


def training_rows(
  split: cache.Split, pairs: tuple[str, ...], held_out_labels: tuple[str, ...]
) -> np.ndarray:
  """Return the rows that at least one of the `pairs` can learn from.

  Without pairs, as in SimCLR, motion is enough.

  Args:
    split: the cached split.
    pairs: names of contrasted pairs, "imu_video" and "imu_text".
    held_out_labels: windows with these labels are left out.

  Raises:
    ValueError: a held-out label is unknown, or no row is left.
  """
  unknown = sorted(set(held_out_labels) - set(split.label_names))
  if unknown:
    raise ValueError(
      f"config.data.held_out_labels: no label {', '.join(unknown)}; the data "
      f"has {', '.join(split.label_names)}"
    )
  exists = {
    "imu_video": np.asarray(split.has_frames),
    "imu_text": split.has_text,
  }
  usable = np.full(len(split), not pairs)
  for pair in pairs:
    usable |= exists[pair]
  held_out = [split.label_names.index(name) for name in held_out_labels]
  rows = np.flatnonzero(usable & ~np.isin(split.labels, held_out))
  if not len(rows):
    raise ValueError(
      f"split {split.name!r} has no window for {' or '.join(pairs) or 'motion'}"
    )
  return rows


class StepBatches(grain.transforms.Map):
  """Maps a global step to this host's slice of its batch.

  Within an epoch every row is met at most once; rows that do not fill a last
  batch wait for the next epoch's shuffle.
  """

  def __init__(
    self,
    split: cache.Split,
    rows: np.ndarray,
    batch_size: int,
    seed: int,
    text_choice: str = "nearest",
    shard: grain.sharding.ShardOptions | None = None,
  ):
    """Prepare the map.

    Args:
      split: the cached split.
      rows: [R] rows to draw from.
      batch_size: windows a step over all hosts.
      seed: of the order of rows and the choice of texts.
      text_choice: "nearest" the middle of the window, or "any" of its texts.
      shard: which host this is; None for a single one.

    Raises:
      ValueError: the batch is larger than the rows or not divisible by hosts.
    """
    self.split, self.rows, self.seed = split, rows, seed
    self.batch_size, self.text_choice = batch_size, text_choice
    self.shard = shard or grain.sharding.NoSharding()
    if batch_size > len(rows):
      raise ValueError(
        f"config.train.batch_size is {batch_size}, but split {split.name!r} "
        f"has only {len(rows)} windows to train on"
      )
    if batch_size % self.shard.shard_count:
      raise ValueError(
        f"config.train.batch_size is {batch_size}, which does not divide by "
        f"{self.shard.shard_count} hosts"
      )
    self.steps_per_epoch = len(rows) // batch_size
    self._epoch_order = (-1, rows)
    self._lock = threading.Lock()

  def rows_of(self, step: int) -> np.ndarray:
    """Return the cache rows of this host's part of the batch at `step`."""
    local = self.batch_size // self.shard.shard_count
    start = self.shard.shard_index * local
    return self.global_rows_of(step)[start : start + local]

  def global_rows_of(self, step: int) -> np.ndarray:
    """Return the cache rows of the batch at `step` over all hosts."""
    epoch, k = divmod(int(step), self.steps_per_epoch)
    start = k * self.batch_size
    return self._order(epoch)[start : start + self.batch_size]

  def map(self, step: int) -> dict:
    rows = self.rows_of(step)
    columns = self.split.columns
    batch = {
      # A row's worth, as all columns are split over the devices by row.
      "step": np.full(len(rows), step, np.int32),
      "imu": np.take(columns["imu"], rows, axis=0),
      "sensor_mask": np.take(columns["sensor_mask"], rows, axis=0),
      "frame_embedding": np.take(columns["frame_embeddings"], rows, axis=0),
      "has_frames": np.take(columns["has_frames"], rows, axis=0),
    }
    text_ids = self._text_ids(rows, step)
    batch["text_id"] = text_ids
    batch["has_text"] = text_ids >= 0
    if len(self.split.texts):
      batch["text_embedding"] = np.take(
        columns["text_embeddings"], np.maximum(text_ids, 0), axis=0
      )
    else:
      batch["text_embedding"] = np.zeros_like(batch["frame_embedding"])
    return batch

  def _text_ids(self, rows, step):
    ids = np.take(self.split.columns["text_ids"], rows, axis=0)
    if self.text_choice == "nearest":
      return ids[:, 0]
    # Drawn for the whole global batch, so that hosts agree on every row.
    draw = random(self.seed, 1, step).random(self.batch_size)
    start = self.shard.shard_index * len(rows)
    count = np.maximum((ids >= 0).sum(1), 1)
    choice = (draw[start : start + len(rows)] * count).astype(np.int64)
    return ids[np.arange(len(rows)), choice]

  def _order(self, epoch):
    # Prefetch threads share the last epoch's order.
    with self._lock:
      if self._epoch_order[0] != epoch:
        order = random(self.seed, 0, epoch).permutation(self.rows)
        self._epoch_order = (epoch, order)
      return self._epoch_order[1]


def this_host() -> grain.sharding.ShardOptions:
  """Return which of the run's processes this is."""
  return grain.sharding.ShardOptions(
    shard_index=jax.process_index(), shard_count=jax.process_count()
  )


def random(*key):
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def batches(
  step_batches: StepBatches,
  steps: int,
  first_step: int = 0,
  *,
  threads: int = 4,
  ahead: int = 4,
) -> grain.DatasetIterator:
  """Return a checkpointable iterator over the batches of steps [first, steps).

  Four threads: where the cache comes from a disk each waits for pages of its
  own, and they were up to twice as fast as two; where it lies in memory they
  are some 20 % slower, and hundreds of times as fast as a training step
  (tests/benchmarks/test_input_speed.py).

  Args:
    step_batches: global steps to this host's slice.
    steps: where to end.
    first_step: where to begin.
    threads: how many batches are gathered at once; 0 gathers each when it is
      asked for.
    ahead: how many batches are held ready.
  """
  dataset = grain.MapDataset.range(0, steps).map(step_batches)
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
  iterator = iter(dataset.to_iter_dataset(options))
  iterator.set_state({"next_index": first_step})
  return iterator
