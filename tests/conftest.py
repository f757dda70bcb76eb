"""Strict jax for every test, real recordings, and a small cache on disk."""

import json
import os
import pathlib

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(scope="session")
def samples() -> pathlib.Path:
  """The folder of real recordings, if this machine has it."""
  folder = os.environ.get("IMU2CLIP_SAMPLES")
  if not folder:
    pytest.skip("IMU2CLIP_SAMPLES names no folder of real recordings")
  return pathlib.Path(folder)


@pytest.fixture
def write_cache():
  """Writes a training cache of random windows in the documented format."""

  def write(
    folder,
    rows=None,
    *,
    num_samples=40,
    dim=8,
    texts_per_row=2,
    distinct_texts=10,
    labels=("walking", "running", "reading a book"),
    seed=0,
  ) -> pathlib.Path:
    folder = pathlib.Path(folder)
    rows = rows or {"train": 32, "validation": 12, "test": 12}
    rng = np.random.default_rng(seed)
    for split, count in rows.items():
      (folder / split).mkdir(parents=True, exist_ok=True)
      texts = [f"{split} text {i}" for i in range(distinct_texts)]
      text_ids = rng.integers(0, distinct_texts, (count, texts_per_row))
      columns = {
        "imu": rng.normal(size=(count, num_samples, 6)).astype(np.float32),
        "sensor_mask": np.ones((count, 2), bool),
        "frame_embeddings": unit(rng, count, dim),
        "has_frames": np.ones(count, bool),
        "text_embeddings": unit(rng, distinct_texts, dim),
        "text_ids": text_ids.astype(np.int32),
        "labels": (np.arange(count) % len(labels)).astype(np.int32),
        "start_s": np.arange(count) * 5.0,
      }
      for name, column in columns.items():
        np.save(folder / split / f"{name}.npy", column)
      strings = {
        "window_ids": [f"{split}@{i}" for i in range(count)],
        "recording_ids": [split] * count,
        "wearer_ids": [f"{split}{i % 3}" for i in range(count)],
        "texts": texts,
      }
      (folder / split / "rows.json").write_text(json.dumps(strings))
    meta = {
      "dataset": "random",
      "rate_hz": 8.0,
      "window_s": 5.0,
      "label_names": list(labels),
      "teacher": {
        "name": "random",
        "fingerprint": "0" * 64,
        "dim": dim,
        "frames": "mid",
      },
      "splits": rows,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder

  return write


def unit(rng, rows, dim):
  x = rng.normal(size=(rows, dim)).astype(np.float32)
  return x / np.linalg.norm(x, axis=1, keepdims=True)
