"""Strict jax for every test, real recordings, and a small cache on disk."""

import atexit
import json
import os
import pathlib
import shutil
import tempfile

import jax
import numpy as np
import pytest

from imu2clip_jax.data import checksums

# The same small programs recur from test to test, and in the subprocesses of
# some; each is compiled once a run.
_COMPILED = tempfile.mkdtemp(prefix="imu2clip_tests_")
atexit.register(shutil.rmtree, _COMPILED, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
jax.config.update("jax_compilation_cache_dir", _COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(scope="session")
def samples() -> pathlib.Path:
  """The folder of real recordings, if this machine has it."""
  folder = os.environ.get("IMU2CLIP_SAMPLES")
  if not folder:
    pytest.skip("IMU2CLIP_SAMPLES names no folder of real recordings")
  return pathlib.Path(folder)


@pytest.fixture(scope="session")
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
        "imu": waves(rng, count, num_samples),
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
      checksums.write(folder / split)
    meta = {
      "dataset": "random",
      "data_fingerprint": "of these windows",
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


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> pathlib.Path:
  """The workdir of an encoder that was trained a little on a small world.

  Copy it before writing into it. Its test wearer is "test.npz" beside it.
  """
  from imu2clip_jax import config, train
  from imu2clip_jax.data import builder, windows
  from imu2clip_jax.recordings import synthetic

  folder = tmp_path_factory.mktemp("small")
  world = {"train_wearers": 2, "validation_wearers": 0, "test_wearers": 1}
  entries = synthetic.find(**world, recordings_per_wearer=1, duration_s=100.0)
  options = windows.Options(rate_hz=50.0, frame_size=32)
  builder.build("small_imu", entries, folder / "data", options)
  (test,) = (entry for entry in entries if entry.split == "test")
  imu = test.open().imu
  np.savez(
    folder / "test.npz", t_s=imu.accel_t_s, accel=imu.accel, gyro=imu.gyro
  )
  c = config.demo("imu_video_text")
  c.data.dir = str(folder / "data")
  c.teacher.path = str(pathlib.Path(__file__).parent / "golden" / "clip_tiny")
  c.encoder.preset = "paper"
  c.encoder.hidden = c.encoder.width = 8
  c.train.batch_size, c.train.steps, c.optim.warmup_steps = 16, 4, 0
  train.train(c, folder / "run")
  return folder / "run"


def waves(rng, rows, num_samples):
  """Each row its own mixture of slow sines, float32 [rows, num_samples, 6]."""
  cycles = rng.uniform(1, 8, (rows, 1, 6))
  phase = rng.uniform(0, 2 * np.pi, (rows, 1, 6))
  t = np.linspace(0, 1, num_samples)[:, None]
  return np.sin(2 * np.pi * cycles * t + phase).astype(np.float32)


def unit(rng, rows, dim):
  x = rng.normal(size=(rows, dim)).astype(np.float32)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def workdir(small_run, tmp_path):
  """A copy of the small run that a test may change."""
  return shutil.copytree(small_run, tmp_path / "run")


@pytest.fixture
def recording(small_run):
  """A recording of a wearer whom the small run has not met."""
  return small_run.parent / "test.npz"


@pytest.fixture
def cache_dir(tmp_path, write_cache):
  """A cache of random windows of 150 samples."""
  return write_cache(tmp_path / "cache", num_samples=150, distinct_texts=20)


@pytest.fixture
def run(cache_dir, monkeypatch):
  """Trains in a folder, with the random cache as its data."""
  from imu2clip_jax import embed, train
  from imu2clip_jax.data import builder, cache

  info = {"path": "random", "splits": cache.read_meta(cache_dir)["splits"]}
  monkeypatch.setattr(builder, "describe", lambda _: info)
  monkeypatch.setattr(embed, "ensure_cache", lambda c: cache_dir)
  return train.train
