"""Several caches trained as one, by weight.

Columns stay memory-mapped: a joined split looks a row up in the cache that it
comes from. A batch's share of each set is fixed by the weights, so that the
counts after any number of steps are within one window of them; which windows,
is drawn from (seed, step) alone. A small set is met again and again.
"""

from collections.abc import Sequence

import grain
import numpy as np

from imu2clip_jax.data import cache, pipeline


class Joined:
  """Arrays [N_i, ...] as one of sum(N_i) rows, to be read by arrays of rows."""

  def __init__(self, arrays: Sequence[np.ndarray]):
    self._arrays = arrays
    self._starts = np.cumsum([0, *(len(a) for a in arrays)])
    filled = next((a for a in arrays if len(a)), arrays[0])
    self.shape = (int(self._starts[-1]), *filled.shape[1:])
    self.dtype = filled.dtype

  def __len__(self) -> int:
    return self.shape[0]

  def take(self, rows, axis=0, out=None, mode="raise") -> np.ndarray:
    """Return the rows [R, ...]; the rest of np.take's arguments are its own."""
    rows = np.asarray(rows)
    found = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
    owner = np.searchsorted(self._starts, rows, side="right") - 1
    for i in np.unique(owner):
      mine = owner == i
      found[mine] = self._arrays[i][rows[mine] - self._starts[i]]
    return found

  def __getitem__(self, rows) -> np.ndarray:
    return self.take(rows)


def join(splits: Sequence[cache.Split]) -> cache.Split:
  """Return splits of several caches as one; equal texts are one text.

  Wearers are named "DATA SET WEARER": equal ids of two sets are two people.

  Raises:
    ValueError: the caches have different teachers, rates or window lengths.
  """
  first = splits[0].meta
  for split in splits[1:]:
    for what, a, b in (
      (
        "teacher",
        first["teacher"]["fingerprint"],
        split.meta["teacher"]["fingerprint"],
      ),
      ("frames", first["teacher"]["frames"], split.meta["teacher"]["frames"]),
      ("rate_hz", first["rate_hz"], split.meta["rate_hz"]),
      ("window_s", first["window_s"], split.meta["window_s"]),
      ("samples", splits[0].imu.shape[1], split.imu.shape[1]),
    ):
      if a != b:
        raise ValueError(
          f"a mixture needs one {what}: {first['dataset']} has {a}, "
          f"{split.meta['dataset']} has {b}"
        )
  texts = [text for split in splits for text in split.texts]
  row_of = {}
  for row, text in enumerate(texts):
    row_of.setdefault(text, row)
  same = np.array([row_of[text] for text in texts] + [-1], np.int32)
  labels = sorted({name for s in splits for name in s.label_names})
  width = max(s.text_ids.shape[1] for s in splits)
  ids, numbers, start = [], [], 0
  for split in splits:
    own = np.asarray(split.text_ids)
    own = same[np.where(own >= 0, own + start, -1)]
    pad = ((0, 0), (0, width - own.shape[1]))
    ids.append(np.pad(own, pad, constant_values=-1))
    place = np.array([*map(labels.index, split.label_names), -1], np.int32)
    numbers.append(place[np.asarray(split.labels)])
    start += len(split.texts)
  columns = {
    name: np.concatenate([s.columns[name] for s in splits])
    for name in ("sensor_mask", "has_frames", "start_s")
  }
  columns |= {
    name: Joined([s.columns[name] for s in splits])
    for name in ("imu", "frame_embeddings", "text_embeddings")
  }
  columns |= {
    "text_ids": np.concatenate(ids),
    "labels": np.concatenate(numbers),
  }
  return cache.Split(
    splits[0].name,
    first | {"label_names": labels},
    columns,
    [i for s in splits for i in s.window_ids],
    [i for s in splits for i in s.recording_ids],
    [f"{s.meta['dataset']} {i}" for s in splits for i in s.wearer_ids],
    texts,
  )


def checked_weights(weights: Sequence[float], sets: int) -> np.ndarray:
  """Return the weights of so many sets, float64 [sets].

  Raises:
    ValueError: there are more or fewer, or one is not above 0.
  """
  weights = np.asarray(weights, np.float64)
  if len(weights) != sets or not (
    np.isfinite(weights).all() and (weights > 0).all()
  ):
    raise ValueError(
      f"a mixture of {sets} sets needs as many weights above 0, got "
      f"{weights.tolist()}"
    )
  return weights


class MixedBatches(pipeline.StepBatches):
  """Maps a global step to this host's slice of a batch mixed by weight."""

  def __init__(
    self,
    splits: Sequence[cache.Split],
    rows: Sequence[np.ndarray],
    weights: Sequence[float],
    batch_size: int,
    seed: int,
    text_choice: str = "nearest",
    shard: grain.sharding.ShardOptions | None = None,
  ):
    """Prepare the map.

    Args:
      splits: of the sets; see `join`.
      rows: of each set, the rows to draw from.
      weights: of each set, its share of every batch up to a common factor.
      batch_size, seed, text_choice, shard: see `pipeline.StepBatches`.

    Raises:
      ValueError: a weight is not above 0, a set has fewer windows than its part
        of a batch, or its part is less than one window.
    """
    weights = checked_weights(weights, len(splits))
    self._bounds = np.cumsum(weights) / weights.sum()
    self._bounds[-1] = 1.0
    parts = batch_size * weights / weights.sum()
    for split, own, part in zip(splits, rows, parts, strict=True):
      if not 1 <= part <= len(own) - 1:
        raise ValueError(
          f"a batch of {batch_size} takes {part:.2f} windows of "
          f"{split.meta['dataset']}, which has {len(own)}: expected 1 or more "
          "and fewer than it has"
        )
    starts = np.cumsum([0, *(len(s) for s in splits)])
    self._rows = [
      np.asarray(own) + start
      for own, start in zip(rows, starts[:-1], strict=True)
    ]
    super().__init__(
      join(splits),
      np.concatenate(self._rows),
      batch_size,
      seed,
      text_choice,
      shard,
    )

  def global_rows_of(self, step: int) -> np.ndarray:
    """Return the joined rows of the batch at `step` over all hosts."""
    drawn = self._met(step + 1) - self._met(step)
    random = pipeline.random(self.seed, 2, step)
    rows = [
      own[random.choice(len(own), count, replace=False, shuffle=False)]
      for own, count in zip(self._rows, drawn, strict=True)
    ]
    return random.permutation(np.concatenate(rows))

  def _met(self, steps):
    """Windows of each set that `steps` batches hold together."""
    ends = np.floor(int(steps) * self.batch_size * self._bounds + 1e-9)
    return np.diff(ends, prepend=0).astype(np.int64)
