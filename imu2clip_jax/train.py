"""`imu2clip train`: contrast IMU windows with the frozen teacher's embeddings.

WORKDIR afterwards holds config.json (every resolved option), run.json (which
teacher and cache), train.jsonl (metrics) and checkpoints. A run that finds a
checkpoint goes on from it and ends with the parameters of an unbroken run.
"""

import contextlib
import json
import pathlib
import signal
import sys
from collections.abc import Sequence

import jax
import ml_collections
from absl import flags, logging
from ml_collections import config_flags

from imu2clip_jax import (
  checkpoint,
  command,
  embed,
  logs,
  optim,
  sharding,
  train_step,
  trees,
)
from imu2clip_jax import config as config_lib
from imu2clip_jax.data import cache, pipeline
from imu2clip_jax.models import encoders

# A resumed run may change these: they leave the parameters as they are.
_FREE_OPTIONS = ("log_every_steps", "save_every_steps", "keep_checkpoints")


def load_config(
  path: str, overrides: Sequence[str] = ()
) -> ml_collections.ConfigDict:
  """Load a config file by path, with `--config.group.key=value` overrides.

  Raises:
    FileNotFoundError: no such file.
    ValueError: an unknown key, or a value of another type or out of range.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"--config: no file {path}")
  argv = ["imu2clip train", f"--config={path}", *overrides]
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config", flag_values=values, lock_config=True, sys_argv=argv
  )
  try:
    rest = values(argv)
  except (flags.Error, AttributeError, KeyError, TypeError) as error:
    raise ValueError(f"{path}: {error}") from error
  if len(rest) > 1:
    raise ValueError(f"unexpected argument {rest[1]!r}")
  config_lib.check(values.config)
  return values.config


def train(config: ml_collections.ConfigDict, workdir: str | pathlib.Path):
  """Run or resume the training that `config` describes.

  Raises:
    FileNotFoundError: the data or the teacher is missing.
    ValueError: an option does not fit the data, or the workdir's own run.
    FloatingPointError: the loss is not finite; names the step and windows.
  """
  workdir = pathlib.Path(workdir)
  config_lib.check(config)
  _check_same_run(workdir / "config.json", config)
  cache_dir = embed.ensure_cache(config)
  split = cache.open_split(cache_dir, config.data.train_split)
  teacher = split.meta["teacher"]
  _check_same_teacher(workdir / "run.json", teacher)
  pairs = config_lib.VARIANTS[config.variant]
  rows = pipeline.training_rows(
    split, pairs, tuple(config.data.held_out_labels)
  )
  step_batches = pipeline.StepBatches(
    split,
    rows,
    config.train.batch_size,
    config.seed,
    config.data.text_choice,
  )

  mesh = sharding.make_mesh()
  encoder = encoders.from_config(config.encoder, teacher["dim"])
  optimizer = make_optimizer(config)
  state = jax.jit(
    lambda key: train_step.init(
      encoder,
      optimizer,
      key,
      num_samples=split.imu.shape[1],
      pairs=pairs,
      initial_scale=config.loss.initial_scale,
      initial_bias=config.loss.initial_bias,
    ),
    out_shardings=sharding.replicated(mesh),
  )(jax.random.key(config.seed))
  step = jax.jit(make_step(config, encoder, optimizer), donate_argnums=0)

  workdir.mkdir(parents=True, exist_ok=True)
  checkpoints = checkpoint.Checkpoints(workdir, config.train.keep_checkpoints)
  first = checkpoints.latest_step() or 0
  if first:
    state, data_state = checkpoints.restore(state)
    first = data_state["next_index"]
    logging.info("resumed at step %d", first)
  command.write_text(workdir / "config.json", config_lib.to_json(config))
  command.write_text(
    workdir / "run.json",
    json.dumps({"teacher": teacher, "cache_dir": str(cache_dir)}, indent=2),
  )
  log = logs.MetricLog(workdir / "train.jsonl", first)
  batches = pipeline.batches(step_batches, config.train.steps, first)
  bar = logs.progress(
    what=f"train {config.variant}",
    unit="steps",
    total=config.train.steps,
    initial=first,
  )
  with (
    _stop_on_sigterm() as stop,
    bar,
    contextlib.closing(log),
    # Also after an exception the save under way ends before it goes up.
    contextlib.closing(checkpoints),
  ):
    previous = None
    for index, batch in zip(
      range(first, config.train.steps), batches, strict=True
    ):
      state, metrics = step(state, sharding.global_batch(mesh, batch))
      # Metrics of the step before: fetching this one's would wait for it.
      if previous is not None:
        _report(log, bar, *previous, step_batches)
      due = (index + 1) % config.train.log_every_steps == 0
      previous = (index, metrics) if due else None
      bar.update()
      checkpoints.seal_if_finished()
      done = index + 1 == config.train.steps
      if done or stop or (index + 1) % config.train.save_every_steps == 0:
        checkpoints.save(index + 1, state, batches.get_state())
      if stop:
        logging.warning("SIGTERM: saved step %d and stopped", index + 1)
        break
    if previous is not None:
      _report(log, bar, *previous, step_batches)


def make_optimizer(config: ml_collections.ConfigDict):
  """Return the optax chain that `config.optim` describes."""
  o = config.optim
  rate = optim.schedule(
    o.schedule, o.learning_rate, config.train.steps, o.warmup_steps
  )
  return optim.make(rate, o.weight_decay, o.clip_norm)


def make_step(config: ml_collections.ConfigDict, encoder, optimizer):
  """Return the pure training step that `config` describes."""
  loss = train_step.make_loss(
    encoder,
    pairs=config_lib.VARIANTS[config.variant],
    objective=config.loss.objective,
    equal_texts_match=config.loss.equal_texts_match,
    block=config.loss.block or None,
  )
  return train_step.make_train_step(
    loss,
    optimizer,
    min_scale=config.loss.min_scale,
    max_scale=config.loss.max_scale,
  )


def describe(config: ml_collections.ConfigDict, embed_dim: int) -> str:
  """Return the encoder's parameter table and its FLOPs a window."""
  encoder = encoders.from_config(config.encoder, embed_dim)
  samples = round(config.encoder.rate_hz * config.encoder.window_s)
  params = jax.eval_shape(lambda k: encoder.init(k, samples), jax.random.key(0))
  return (
    f"{trees.table(params)}\n"
    f"forward pass of one window of {samples} samples: "
    f"{encoder.flops(samples) / 1e6:.1f} MFLOP"
  )


def _report(log, bar, index, metrics, step_batches):
  try:
    values = log.write(index, metrics)
  except FloatingPointError as error:
    rows = step_batches.rows_of(index)
    ids = [step_batches.split.window_ids[r] for r in rows[:8]]
    raise FloatingPointError(
      f"{error}; its batch starts with windows {', '.join(ids)}; lower "
      "config.optim.learning_rate or set config.optim.clip_norm"
    ) from error
  bar.set_postfix_str(f"loss {values['loss']:.3f}")


def _check_same_run(path, config):
  if not path.is_file():
    return
  old = json.loads(path.read_text())
  new = json.loads(config_lib.to_json(config))
  for group in (old, new):
    for option in _FREE_OPTIONS:
      group["train"].pop(option, None)
  changed = [
    f"{name}: {before} -> {after}"
    for name, before, after in _differences(old, new)
  ]
  if changed:
    raise ValueError(
      f"{path.parent} holds a run with another config "
      f"({'; '.join(changed)}); use another --workdir"
    )


def _differences(old, new, prefix=""):
  for key in sorted(old.keys() | new.keys()):
    before, after = old.get(key), new.get(key)
    if isinstance(before, dict) and isinstance(after, dict):
      yield from _differences(before, after, f"{prefix}{key}.")
    elif before != after:
      yield prefix + key, before, after


def _check_same_teacher(path, teacher):
  if not path.is_file():
    return
  old = json.loads(path.read_text())["teacher"]
  if old["fingerprint"] != teacher["fingerprint"]:
    raise ValueError(
      f"{path.parent} was trained towards teacher {old['name']} "
      f"({old['dim']} wide), this is {teacher['name']} ({teacher['dim']} "
      "wide, other weights); use another --workdir"
    )


@contextlib.contextmanager
def _stop_on_sigterm():
  """Yields a list that becomes non-empty when the process is to end."""
  stop = []
  before = signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
  try:
    yield stop
  finally:
    signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
  """Run `imu2clip train`."""
  parser = command.parser(
    "train",
    "Train an IMU encoder into a frozen CLIP's space. Runs `embed` first if "
    "its cache is missing; goes on where an earlier run stopped.",
    "imu2clip train --config=configs/ego4d_imu_text.py --workdir=runs/text "
    "--config.seed=1",
  )
  parser.add_argument(
    "--config",
    help="a file of configs/; options follow as --config.group.key=value",
  )
  parser.add_argument("--workdir", help="the run's folder")
  parser.add_argument(
    "--describe",
    action="store_true",
    help="print parameters and FLOPs, train nothing",
  )
  parser.add_argument(
    "--embed_dim",
    type=int,
    default=512,
    help="teacher's width for --describe (default: 512, ViT-B/32)",
  )
  args, overrides = parser.parse_known_args(argv)
  config = _config_of(args, overrides)
  if args.describe:
    print(describe(config, args.embed_dim))
    return 0
  if not args.workdir:
    raise ValueError("--workdir is missing: name the run's folder")
  train(config, args.workdir)
  return 0


def _config_of(args, overrides):
  if args.config:
    return load_config(args.config, overrides)
  saved = pathlib.Path(args.workdir or "") / "config.json"
  if not args.workdir or not saved.is_file():
    raise ValueError(
      "--config is missing: name a file, for example "
      "--config=configs/synthetic_imu_text.py"
    )
  if overrides:
    raise ValueError(f"{overrides[0]} needs --config")
  return config_lib.from_json(saved.read_text())


if __name__ == "__main__":
  sys.exit(command.run(main))
