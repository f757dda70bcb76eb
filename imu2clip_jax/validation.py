"""Retrieval on the validation split while a run trains."""

from collections.abc import Callable

import jax
import numpy as np

from imu2clip_jax import metrics, sharding
from imu2clip_jax.data import cache

_BATCH = 256
# A larger split is thinned evenly to so many windows: enough to tell
# checkpoints apart, and ranked in a second.
MAX_GALLERY = 4096


def make(
  encoder, split: cache.Split, pairs: tuple[str, ...], mesh
) -> Callable[[dict], dict]:
  """Return validate(encoder parameters) -> metrics.

  Directions are the paper's, text→IMU and IMU→video, of the pairs that are
  trained. "validation/MRR" is their mean, "validation/gallery" the smallest
  number of windows that was ranked.

  Args:
    encoder: has `apply`.
    split: the cached validation split.
    pairs: "imu_video", "imu_text" or both.
    mesh: devices that share the embedding.

  Raises:
    ValueError: a pair has fewer than two windows there.
  """
  count = min(len(split), MAX_GALLERY)
  rows = np.linspace(0, len(split) - 1, count).astype(np.int64)
  partners = {
    "imu_video": (
      np.asarray(split.frame_embeddings[rows]),
      np.asarray(split.has_frames[rows]),
    ),
    "imu_text": (split.nearest_text_embeddings[rows], split.has_text[rows]),
  }
  measured = np.asarray(split.sensor_mask[rows]).any(1)
  for pair in pairs:
    if (partners[pair][1] & measured).sum() < 2:
      raise ValueError(
        f"split {split.name!r} has fewer than two windows for {pair}: set "
        "config.train.validate_every_steps=0 or name another "
        "config.data.validation_split"
      )
  embed = jax.jit(
    lambda params, batch: encoder.apply(
      params, batch["imu"], sensor_mask=batch["sensor_mask"]
    ),
    out_shardings=sharding.replicated(mesh),
  )

  def validate(params):
    imu = _embed(embed, params, split, rows, mesh)
    values, sizes = {}, []
    for pair in pairs:
      partner, has = partners[pair]
      used = has & measured
      ends = (partner[used], imu[used])
      if pair == "imu_video":
        ends = ends[::-1]
      values[f"validation/MRR/{pair}"] = metrics.retrieval(*ends)["MRR"]
      sizes.append(int(used.sum()))
    mean = float(np.mean(list(values.values())))
    return values | {
      "validation/MRR": mean,
      "validation/gallery": min(sizes),
    }

  return validate


def _embed(embed, params, split, rows, mesh):
  batch = -(-_BATCH // mesh.size) * mesh.size
  local = batch // jax.process_count()
  first = jax.process_index() * local
  parts = []
  for start in range(0, len(rows), batch):
    # The last batch is filled up with the last row: one shape for all.
    index = np.minimum(np.arange(start, start + batch), len(rows) - 1)
    own = rows[index[first : first + local]]
    columns = {
      name: np.asarray(split.columns[name][own])
      for name in ("imu", "sensor_mask")
    }
    out = embed(params, sharding.global_batch(mesh, columns))
    parts.append(jax.device_get(out))
  return np.concatenate(parts)[: len(rows)]
