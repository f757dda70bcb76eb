import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest

from imu2clip_jax import (
  checkpoint,
  config,
  embed,
  optim,
  run_files,
  train,
  train_step,
)
from imu2clip_jax.data import cache, pipeline
from imu2clip_jax.models import imu_encoder

PAIRS = ("imu_video", "imu_text")


def small_config(variant="imu_video_text"):
  c = config.default()
  c.variant = variant
  c.encoder.preset = "official"
  c.encoder.rate_hz = 30.0
  c.encoder.hidden = 8
  c.encoder.width = 8
  c.optim.learning_rate = 1e-2
  c.train.batch_size = 8
  c.train.steps = 12
  c.train.log_every_steps = 1
  c.train.save_every_steps = 4
  return c


def params_of(workdir):
  encoder = imu_encoder.build("official", 8, rate_hz=30.0, hidden=8, width=8)
  abstract = jax.eval_shape(lambda k: encoder.init(k, 150), jax.random.key(0))
  return checkpoint.load_params(workdir, {"imu_encoder": abstract})


def log_of(workdir):
  """Lines of train.jsonl without the wall time, which alone may differ."""
  lines = [
    json.loads(line)
    for line in (workdir / "train.jsonl").read_text().splitlines()
  ]
  return [{k: v for k, v in x.items() if k != "step_ms"} for x in lines]


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def make(split, pairs=PAIRS):
  encoder = imu_encoder.build("official", 8, rate_hz=30.0, hidden=8, width=8)
  optimizer = optim.make(1e-2)
  state = train_step.init(
    encoder,
    optimizer,
    jax.random.key(0),
    num_samples=150,
    pairs=pairs,
    initial_scale=10.0,
    initial_bias=-10.0,
  )
  steps = pipeline.StepBatches(split, np.arange(len(split)), 8, 0)
  loss = train_step.make_loss(encoder, pairs=pairs)
  step = train_step.make_train_step(
    loss, optimizer, min_scale=1.0, max_scale=100.0
  )
  return state, steps, loss, step


def test_the_step_compiles_once(cache_dir):
  split = cache.open_split(cache_dir, "train")
  state, steps, _, step = make(split)
  jitted = jax.jit(step)
  for i in range(4):
    state, _ = jitted(state, steps.map(i))
  assert jitted._cache_size() == 1


def test_two_pairs_sum(cache_dir):
  split = cache.open_split(cache_dir, "train")
  state, steps, loss, _ = make(split)
  total, metrics = jax.jit(loss)(state["params"], steps.map(0))
  both = metrics["loss/imu_video"] + metrics["loss/imu_text"]
  np.testing.assert_allclose(total, both, rtol=1e-6)


def test_rows_without_partner_change_nothing(cache_dir):
  split = cache.open_split(cache_dir, "train")
  state, steps, loss, _ = make(split, ("imu_video",))
  batch = steps.map(0)
  batch["has_frames"] = np.arange(8) < 5
  rubbish = batch | {"frame_embedding": batch["frame_embedding"].copy()}
  rubbish["frame_embedding"][5:] = np.nan
  alone = {name: column[:5] for name, column in batch.items()}
  value_and_gradient = jax.jit(jax.value_and_grad(lambda p, b: loss(p, b)[0]))
  values = [
    value_and_gradient(state["params"], b) for b in (batch, rubbish, alone)
  ]
  for value, gradients in values[1:]:
    np.testing.assert_allclose(value, values[0][0], rtol=1e-5)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
      gradients,
      values[0][1],
    )


def test_the_scale_stays_inside_its_bounds(cache_dir):
  split = cache.open_split(cache_dir, "train")
  state, steps, loss, _ = make(split)
  step = jax.jit(
    train_step.make_train_step(
      loss, optim.make(10.0), min_scale=9.0, max_scale=11.0
    )
  )
  state["opt_state"] = optim.make(10.0).init(state["params"])
  for i in range(3):
    state, _ = step(state, steps.map(i))
    for value in state["params"]["log_scale"].values():
      assert 9.0 - 1e-4 <= np.exp(value) <= 11.0 + 1e-4


def test_a_small_set_is_learnt_by_heart(tmp_path, write_cache, monkeypatch):
  folder = write_cache(tmp_path / "wide", num_samples=150, dim=32)
  monkeypatch.setattr(embed, "ensure_cache", lambda c: folder)
  c = small_config("imu_video")
  c.encoder.preset = "paper"
  c.encoder.hidden = 32
  c.encoder.width = 32
  c.train.steps = 150
  c.train.save_every_steps = 150
  train.train(c, tmp_path / "run")
  lines = (tmp_path / "run" / "train.jsonl").read_text().splitlines()
  losses = [json.loads(line)["loss"] for line in lines]
  # Chance is 2 log 8 = 4.2.
  assert losses[0] > 3.5
  assert np.mean(losses[-4:]) < 1.0


@pytest.mark.parametrize("variant", list(config.VARIANTS))
def test_every_variant_trains_and_logs(run, tmp_path, variant):
  run(small_config(variant), tmp_path / "run")
  lines = (tmp_path / "run" / "train.jsonl").read_text().splitlines()
  entries = [json.loads(line) for line in lines]
  assert [e["step"] for e in entries] == list(range(12))
  for pair in config.VARIANTS[variant]:
    assert f"loss/{pair}" in entries[0]
  # The first line would hold the compilation.
  assert "step_ms" not in entries[0]
  assert all(0 < e["step_ms"] < 60_000 for e in entries[1:])


def test_simclr_trains_alone_and_beside_the_teacher(run, tmp_path):
  for objective in ("simclr", "contrastive + 0.5*simclr"):
    c = small_config("imu_text")
    c.loss.objective = objective
    c.augment.yaw = True
    c.train.steps = 4
    folder = tmp_path / objective[:6]
    run(c, folder)
    entries = log_of(folder)
    assert ("loss/imu_text" in entries[-1]) == ("contrastive" in objective)
    run(c, folder)
    c.train.steps = 5
    with pytest.raises(ValueError, match="another config"):
      run(c, folder)


def test_a_finished_run_is_not_trained_again(run, tmp_path):
  run(small_config(), tmp_path / "run")
  before = (tmp_path / "run" / "train.jsonl").read_text()
  run(small_config(), tmp_path / "run")
  assert (tmp_path / "run" / "train.jsonl").read_text() == before


def test_a_run_is_known_by_what_it_learnt_from(run, tmp_path):
  config, folder = small_config(), tmp_path / "run"
  config.data.dir, config.teacher.path = str(tmp_path), "hf:owner/clip"
  run(config, folder)
  saved = json.loads((folder / "config.json").read_text())
  assert saved["data"]["dir"] == str(tmp_path.resolve())
  assert saved["teacher"]["path"] == "hf:owner/clip"
  # However the path is spelled.
  config.data.dir = str(tmp_path / "run" / "..")
  run(config, folder)
  made_from = json.loads((folder / "run.json").read_text())
  for other in (["another"], ["one", "more"]):
    changed = made_from | {"data": other}
    (folder / "run.json").write_text(json.dumps(changed))
    with pytest.raises(run_files.OtherRunError, match="other windows"):
      run(config, folder)
  # An older version did not keep it and went by the paths.
  older = {k: v for k, v in made_from.items() if k != "data"}
  (folder / "run.json").write_text(json.dumps(older))
  run(config, folder)
  (folder / "run.json").write_text(json.dumps(older))
  config.data.dir = str(folder)
  with pytest.raises(run_files.OtherRunError, match="other windows"):
    run(config, folder)


def test_a_stopped_run_ends_like_an_unbroken_one(run, tmp_path, monkeypatch):
  run(small_config(), tmp_path / "whole")
  original = pipeline.StepBatches.map

  def dies_at_nine(self, step):
    if step >= 9:
      raise KeyboardInterrupt
    return original(self, step)

  monkeypatch.setattr(pipeline.StepBatches, "map", dies_at_nine)
  with pytest.raises(KeyboardInterrupt):
    run(small_config(), tmp_path / "broken")
  monkeypatch.setattr(pipeline.StepBatches, "map", original)
  run(small_config(), tmp_path / "broken")
  assert_equal(params_of(tmp_path / "whole"), params_of(tmp_path / "broken"))
  assert log_of(tmp_path / "whole") == log_of(tmp_path / "broken")


def test_sigterm_saves_and_ends_quietly(run, tmp_path, monkeypatch):
  original = pipeline.StepBatches.map

  def asks_to_end_at_five(self, step):
    if step == 5:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(0.2)
    return original(self, step)

  run(small_config(), tmp_path / "whole")
  monkeypatch.setattr(pipeline.StepBatches, "map", asks_to_end_at_five)
  steps = run(small_config(), tmp_path / "ended")
  ended = checkpoint.Checkpoints(tmp_path / "ended", 2)
  assert ended.latest_step() == steps < 12
  ended.close()
  monkeypatch.setattr(pipeline.StepBatches, "map", original)
  run(small_config(), tmp_path / "ended")
  assert_equal(params_of(tmp_path / "whole"), params_of(tmp_path / "ended"))


KILLED = textwrap.dedent(
  """
  import os, signal, sys
  sys.path.insert(0, {tests!r})
  import test_train
  from imu2clip_jax import embed, train
  from imu2clip_jax.data import pipeline
  embed.ensure_cache = lambda c: {cache!r}
  original = pipeline.StepBatches.map
  def dies(self, step):
    if step == 10:
      os.kill(os.getpid(), signal.SIGKILL)
    return original(self, step)
  pipeline.StepBatches.map = dies
  train.train(test_train.small_config(), {workdir!r})
  """
)


def test_kill_9_loses_nothing_but_time(run, tmp_path, cache_dir):
  run(small_config(), tmp_path / "whole")
  code = KILLED.format(
    tests=str(pathlib.Path(__file__).parent),
    cache=str(cache_dir),
    workdir=str(tmp_path / "killed"),
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True)
  assert done.returncode == -signal.SIGKILL, done.stderr.decode()
  run(small_config(), tmp_path / "killed")
  assert_equal(params_of(tmp_path / "whole"), params_of(tmp_path / "killed"))


def test_a_non_finite_loss_names_step_and_windows(run, tmp_path):
  c = small_config()
  c.optim.learning_rate = 1e38
  with pytest.raises(FloatingPointError, match=r"step \d+; its batch starts"):
    run(c, tmp_path / "run")


def test_another_config_or_teacher_in_the_workdir_is_refused(
  run, tmp_path, cache_dir
):
  run(small_config(), tmp_path / "run")
  other = small_config()
  other.optim.learning_rate = 0.5
  with pytest.raises(ValueError, match=r"optim\.learning_rate: 0\.01 -> 0\.5"):
    run(other, tmp_path / "run")
  meta = json.loads((cache_dir / "meta.json").read_text())
  meta["teacher"] |= {"name": "wider", "dim": 16, "fingerprint": "1" * 64}
  (cache_dir / "meta.json").write_text(json.dumps(meta))
  with pytest.raises(ValueError, match=r"towards teacher random .* wider"):
    run(small_config(), tmp_path / "run")


CONFIGS = sorted(pathlib.Path(__file__).parents[1].glob("configs/*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_file_loads(path):
  c = train.load_config(str(path), ["--config.seed=3"])
  assert c.seed == 3


def test_config_mistakes_are_one_clear_error(tmp_path):
  path = str(CONFIGS[0])
  with pytest.raises(ValueError, match="lerning_rate"):
    train.load_config(path, ["--config.optim.lerning_rate=1"])
  with pytest.raises(ValueError, match="batch_size"):
    train.load_config(path, ["--config.train.batch_size=many"])
  with pytest.raises(ValueError, match=r"train\.steps is -5"):
    train.load_config(path, ["--config.train.steps=-5"])
  with pytest.raises(FileNotFoundError, match=r"no file .*absent\.py"):
    train.load_config(str(tmp_path / "absent.py"))


def test_describe_counts_parameters(capsys):
  asked = ["--config", str(CONFIGS[0]), "--describe", "--embed_dim=8"]
  assert train.main(asked) == 0
  out = capsys.readouterr().out
  assert train.main([*asked, "--json"]) == 0
  size = json.loads(capsys.readouterr().out)
  assert out.startswith(size["table"])
  assert f"{size['parameters']:,}" in size["table"].splitlines()[-1]
  assert f"{size['mflop']:.1f} MFLOP" in out


def test_json_says_where_training_ended(workdir, capsys):
  # Taken up again it is already done, and says the same.
  assert train.main([f"--workdir={workdir}", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert (found["workdir"], found["step"]) == (str(workdir), 4)
  last = (workdir / "train.jsonl").read_text().splitlines()[-1]
  assert found["metrics"] == json.loads(last)
