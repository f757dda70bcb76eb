"""Kills, full disks, bad places, damaged caches, and losses not finite."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from imu2clip_jax import checkpoint, config, demo, train
from imu2clip_jax.data import checksums, pipeline
from imu2clip_jax.models import imu_encoder

STEPS = 300


def small_config(steps=12):
  c = config.default()
  c.variant = "imu_video_text"
  c.encoder.preset = "official"
  c.encoder.rate_hz = 30.0
  c.encoder.hidden = c.encoder.width = 8
  c.optim.learning_rate = 1e-2
  c.train.batch_size = 8
  c.train.steps = steps
  c.train.log_every_steps = 1
  c.train.save_every_steps = 4
  return c


def params_of(workdir, **options):
  encoder = imu_encoder.build("official", 8, rate_hz=30.0, hidden=8, width=8)
  abstract = jax.eval_shape(lambda k: encoder.init(k, 150), jax.random.key(0))
  return checkpoint.load_params(workdir, {"imu_encoder": abstract}, **options)


CHILD = textwrap.dedent(
  """
  import os, resource, signal, sys, threading
  sys.path.insert(0, {tests!r})
  import test_fault_tolerance as t
  from imu2clip_jax import embed, train
  from imu2clip_jax.data import pipeline
  embed.ensure_cache = lambda c: {cache!r}
  original = pipeline.StepBatches.map
  calls = []
  def map(self, step):
    calls.append(step)
    {at_step}
    return original(self, step)
  pipeline.StepBatches.map = map
  train.train(t.small_config({steps}), {workdir!r})
  """
)
# A few milliseconds a step, and the death at any moment of them.
DIES = """if len(calls) == 1:
      threading.Timer({delay_s}, os.kill, (os.getpid(), signal.SIGKILL)).start()
  __import__("time").sleep(0.005)"""
# Once checkpoint 4 is whole, the disk takes files of at most 100 bytes.
FULL = """if step == 11:
      while not os.path.exists({workdir!r} + "/checksums/4.json"):
        __import__("time").sleep(0.01)
      resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"""


def child(cache_dir, workdir, steps, at_step):
  code = CHILD.format(
    tests=str(pathlib.Path(__file__).parent),
    cache=str(cache_dir),
    workdir=str(workdir),
    steps=steps,
    at_step=at_step,
  )
  return subprocess.run([sys.executable, "-c", code], capture_output=True)


@pytest.mark.slow
def test_twenty_kills_at_random_points_change_no_bit(run, tmp_path, cache_dir):
  run(small_config(STEPS), tmp_path / "whole")
  draw, kills = random.Random(0), 0
  while kills < 20:
    at_step = DIES.format(delay_s=draw.uniform(0.0, 0.8))
    done = child(cache_dir, tmp_path / "killed", STEPS, at_step)
    if done.returncode == 0:
      break
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    kills += 1
  assert kills == 20, "the run ended before it was killed 20 times"
  run(small_config(STEPS), tmp_path / "killed")
  jax.tree.map(
    np.testing.assert_array_equal,
    params_of(tmp_path / "whole"),
    params_of(tmp_path / "killed"),
  )
  # Every step's loss too, and so the order of the data.
  whole, killed = (
    [
      json.loads(line) | {"step_ms": 0}
      for line in (tmp_path / name / "train.jsonl").read_text().splitlines()
    ]
    for name in ("whole", "killed")
  )
  assert whole == killed


def test_a_full_disk_fails_loudly_and_keeps_the_last_checkpoint(
  run, tmp_path, cache_dir
):
  run(small_config(), tmp_path / "whole")
  full = FULL.format(workdir=str(tmp_path / "full"))
  done = child(cache_dir, tmp_path / "full", 12, full)
  assert done.returncode == 1
  assert "OSError" in done.stderr.decode()
  assert "is the last whole one" in done.stderr.decode()
  # Which save meets the full disk depends on the moment.
  whole = [s for s in (4, 8) if not checkpoint.damage(tmp_path / "full", s)]
  assert whole
  run(small_config(), tmp_path / "full")
  jax.tree.map(
    np.testing.assert_array_equal,
    params_of(tmp_path / "whole"),
    params_of(tmp_path / "full"),
  )


def test_a_workdir_that_cannot_be_is_an_os_error(run, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError, match="file"):
    run(small_config(), tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_an_unwritable_workdir_is_an_os_error(run, tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(OSError, match="run"):
    run(small_config(), tmp_path / "run")


def flip_a_byte(cache_dir):
  path = cache_dir / "train" / "imu.npy"
  data = bytearray(path.read_bytes())
  data[-5] ^= 1
  path.write_bytes(data)


def test_a_damaged_cache_trains_no_step(run, tmp_path, cache_dir):
  flip_a_byte(cache_dir)
  with pytest.raises(ValueError, match=r"imu\.npy is damaged"):
    run(small_config(), tmp_path / "run")
  assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_a_large_cache_is_verified_beside_the_run_which_stops(
  run, tmp_path, cache_dir, monkeypatch
):
  monkeypatch.setattr(checksums, "AT_START_BYTES", 0)
  flip_a_byte(cache_dir)
  with pytest.raises(ValueError, match=r"imu\.npy is damaged"):
    run(small_config(2000), tmp_path / "run")
  with pytest.raises(ValueError, match=r"imu\.npy is damaged"):
    run(small_config(2000), tmp_path / "other", verify=True)
  assert not list((tmp_path / "other").glob("checkpoints/*"))


def test_a_bad_step_leaves_its_state_windows_and_no_bad_checkpoint(
  run, tmp_path, monkeypatch
):
  original = pipeline.StepBatches.map

  def breaks_at_six(self, step):
    batch = original(self, step)
    if step == 6:
      batch["imu"] = batch["imu"] * np.float32(np.nan)
    return batch

  c = small_config()
  c.train.log_every_steps = 5
  monkeypatch.setattr(pipeline.StepBatches, "map", breaks_at_six)
  with pytest.raises(FloatingPointError, match="not finite at step 6; its"):
    run(c, tmp_path / "run")
  folder = tmp_path / "run" / "non_finite" / "6"
  ids = json.loads((folder / "window_ids.json").read_text())
  assert len(ids) == 8
  assert all(name.startswith("train@") for name in ids)
  assert (folder / "state").is_dir()
  saved = sorted(p.stem for p in (tmp_path / "run/checksums").iterdir())
  assert saved == ["4"]
  # Mended, the run goes on and ends as if nothing had been.
  monkeypatch.setattr(pipeline.StepBatches, "map", original)
  run(c, tmp_path / "run")
  run(c, tmp_path / "whole")
  jax.tree.map(
    np.testing.assert_array_equal,
    params_of(tmp_path / "whole"),
    params_of(tmp_path / "run"),
  )


def test_the_best_validated_checkpoint_is_kept_and_found(run, tmp_path):
  c = small_config(24)
  c.train.validate_every_steps = 4
  c.train.keep_checkpoints = 1
  c.train.tensorboard = True
  pytest.importorskip("tensorboardX")
  run(c, tmp_path / "run")
  lines = (tmp_path / "run" / "train.jsonl").read_text().splitlines()
  scores = {
    entry["step"] + 1: entry["validation/MRR"]
    for entry in map(json.loads, lines)
    if "validation/MRR" in entry
  }
  assert sorted(scores) == [4, 8, 12, 16, 20, 24]
  best = max(scores, key=lambda step: (scores[step], step))
  assert checkpoint.best_step(tmp_path / "run") == best
  kept = {int(p.name) for p in (tmp_path / "run/checkpoints").iterdir()}
  assert kept == {best, 24}
  params_of(tmp_path / "run", step=best)
  events = list((tmp_path / "run" / "tensorboard").iterdir())
  assert events[0].stat().st_size > 1000


def test_a_trace_is_written_on_request(run, tmp_path):
  run(small_config(16), tmp_path / "run", profile_steps=2)
  assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


def test_a_demo_that_is_told_to_end_evaluates_nothing(tmp_path, monkeypatch):
  for part in ("build_world", "teach_clip"):
    monkeypatch.setattr(demo, part, lambda *_: None)
  monkeypatch.setattr(train, "train", lambda config, workdir: 12)
  with pytest.raises(KeyboardInterrupt):
    demo.demo(tmp_path)
