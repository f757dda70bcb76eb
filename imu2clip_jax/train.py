"""`imu2clip train`: contrast IMU windows with the frozen teacher's embeddings.

WORKDIR afterwards holds config.json (every resolved option), run.json (which
teacher and cache), train.jsonl (metrics) and checkpoints. A run that finds a
checkpoint goes on from it and ends with the parameters of an unbroken run.
"""

import contextlib
import json
import pathlib
import sys
from collections.abc import Sequence

import jax
import ml_collections
from absl import flags, logging
from ml_collections import config_flags

from imu2clip_jax import (
  checkpoint,
  command,
  distributed,
  embed,
  logs,
  optim,
  run_files,
  sharding,
  train_loop,
  train_step,
  trees,
  validation,
)
from imu2clip_jax import config as config_lib
from imu2clip_jax.data import (
  augment,
  builder,
  cache,
  checksums,
  mixture,
  pipeline,
  split_sizes,
)
from imu2clip_jax.models import encoders


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


def train(
  config: ml_collections.ConfigDict,
  workdir: str | pathlib.Path,
  *,
  verify: bool = False,
  profile_steps: int = 0,
) -> int:
  """Run or resume the training that `config` describes.

  With several processes (see `distributed.start`) every one of them calls it.

  Args:
    config: every option.
    workdir: the run's folder.
    verify: compare the whole cache with its checksums before the first step;
      above 4 GB that otherwise happens beside the training.
    profile_steps: so many steps, from the tenth of this start on, are traced
      into WORKDIR/profile.

  Returns:
    steps that are done: fewer than asked for after SIGTERM.

  Raises:
    FileNotFoundError: the data or the teacher is missing.
    ValueError: an option does not fit the data, or the workdir's own run; the
      cache is damaged.
    FloatingPointError: the loss is not finite; names the step, the windows and
      where the state before that step lies.
    OSError: a checkpoint could not be written.
  """
  workdir = pathlib.Path(workdir)
  config_lib.check(config)
  if config.train.compilation_cache_dir:
    jax.config.update(
      "jax_compilation_cache_dir", config.train.compilation_cache_dir
    )
  run_files.check_options(workdir, config)
  _check_splits(config)
  cache_dir, *others = _caches_for_all(config)
  split = cache.open_split(cache_dir, config.data.train_split)
  teacher = split.meta["teacher"]
  made_from = run_files.describe([cache_dir, *others])
  run_files.check_input(workdir, config, made_from)
  pairs = config_lib.VARIANTS[config.variant]
  mesh = sharding.make_mesh()
  encoder = encoders.from_config(
    config.encoder, teacher["dim"], config.train.compute_dtype
  )
  folders = [c / config.data.train_split for c in (cache_dir, *others)]
  validate = None
  if config.train.validate_every_steps:
    folders.append(cache_dir / config.data.validation_split)
    validation_split = cache.open_split(cache_dir, config.data.validation_split)
    validate = validation.make(encoder, validation_split, pairs, mesh)
  taught = pairs if config_lib.has_teacher(config.loss.objective) else ()
  step_batches = _step_batches(config, split, others, taught)
  state = _initial_state(config, encoder, mesh, split.imu.shape[1])
  step = jax.jit(make_step(config, encoder, mesh), donate_argnums=0)

  workdir.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    watch = _verified(folders, verify)
    stack.enter_context(contextlib.closing(watch))
    # Also after an exception the save under way ends before it goes up.
    checkpoints = stack.enter_context(
      contextlib.closing(
        checkpoint.Checkpoints(
          workdir, config.train.keep_checkpoints, config.train.keep_best
        )
      )
    )
    first = checkpoints.latest_step() or 0
    if first:
      state, data_state = checkpoints.restore(state)
      first = data_state["next_index"]
      logging.info("resumed at step %d", first)
    if jax.process_index() == 0:
      run_files.write(workdir, config, made_from)
    log = stack.enter_context(
      contextlib.closing(
        logs.MetricLog(workdir / "train.jsonl", first, config.train.tensorboard)
      )
    )
    done = train_loop.run(
      config.train,
      workdir,
      state,
      train_loop.Parts(
        step,
        step_batches,
        validate,
        checkpoints,
        log,
        mesh,
        watch,
        f"train {config.variant}",
      ),
      first,
      profile_steps,
    )
  distributed.wait_for_all("run ended")
  return done


def _check_splits(config):
  data = config.data
  if not data.dir:
    return  # `embed.ensure_cache` asks for it
  split_sizes.check(
    [builder.describe(folder) for folder in (data.dir, *data.mixture_dirs)],
    data.train_split,
    data.validation_split if config.train.validate_every_steps else "",
    config.train.batch_size,
    data.mixture_weights,
  )


def _caches_for_all(config):
  # One process writes them, the others find them: the folder must be shared.
  if jax.process_index() == 0:
    caches = [embed.ensure_cache(config), *embed.mixture_caches(config)]
  distributed.wait_for_all("cache written")
  if jax.process_index() != 0:
    caches = [embed.ensure_cache(config), *embed.mixture_caches(config)]
  return [pathlib.Path(path) for path in caches]


def _step_batches(config, split, others, pairs):
  held_out = tuple(config.data.held_out_labels)
  options = {
    "batch_size": config.train.batch_size,
    "seed": config.seed,
    "text_choice": config.data.text_choice,
    "shard": pipeline.this_host(),
  }
  if not others:
    rows = pipeline.training_rows(split, pairs, held_out)
    return pipeline.StepBatches(split, rows, **options)
  splits = [split]
  splits += [cache.open_split(c, config.data.train_split) for c in others]
  # A label is held out of every set that has it.
  rows = [
    pipeline.training_rows(
      s, pairs, tuple(x for x in held_out if s is split or x in s.label_names)
    )
    for s in splits
  ]
  weights = config.data.mixture_weights or [len(r) for r in rows]
  return mixture.MixedBatches(splits, rows, weights, **options)


def _initial_state(config, encoder, mesh, num_samples):
  optimizer = make_optimizer(config)
  return jax.jit(
    lambda key: train_step.init(
      encoder,
      optimizer,
      key,
      num_samples=num_samples,
      pairs=config_lib.VARIANTS[config.variant],
      initial_scale=config.loss.initial_scale,
      initial_bias=config.loss.initial_bias,
      view_dim=config_lib.view_dim(config),
    ),
    out_shardings=sharding.replicated(mesh),
  )(jax.random.key(config.seed))


def _verified(folders, verify):
  share = jax.process_index(), jax.process_count()
  if verify or checksums.size(folders) <= checksums.AT_START_BYTES:
    checksums.verify(folders, share)
    folders = []
  return checksums.Watch(folders, share)


def make_optimizer(config: ml_collections.ConfigDict):
  """Return the optax chain that `config.optim` describes."""
  o = config.optim
  rate = optim.schedule(
    o.schedule, o.learning_rate, config.train.steps, o.warmup_steps
  )
  return optim.make(rate, o.weight_decay, o.clip_norm)


def make_step(config: ml_collections.ConfigDict, encoder, mesh=None):
  """Return the pure training step that `config` describes, over `mesh`."""
  loss = train_step.make_loss(
    encoder,
    pairs=config_lib.VARIANTS[config.variant],
    objectives=config_lib.objectives(config.loss.objective),
    equal_texts_match=config.loss.equal_texts_match,
    block=config.loss.block or None,
    chunk=config.train.grad_cache_chunk,
    mesh=mesh,
    change=augment.from_config(config.augment, config.seed),
    simclr_scale=config.loss.simclr_scale,
  )
  return train_step.make_train_step(
    loss,
    make_optimizer(config),
    min_scale=config.loss.min_scale,
    max_scale=config.loss.max_scale,
  )


def describe(config: ml_collections.ConfigDict, embed_dim: int) -> dict:
  """Return the size of the encoder that a run trains.

  Args:
    config: every option.
    embed_dim: width of the teacher's space.

  Returns:
    {"parameters": how many numbers, "samples": of one window, "mflop": of the
    forward pass of one window, "table": text with every parameter's shape}.
  """
  encoder = encoders.from_config(config.encoder, embed_dim)
  samples = round(config.encoder.rate_hz * config.encoder.window_s)
  shapes = encoder.param_shapes(samples)
  return {
    "parameters": trees.count(shapes),
    "samples": samples,
    "mflop": encoder.flops(samples) / 1e6,
    "table": trees.table(shapes),
  }


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
    help="teacher's width for --describe (default: the run's, or 512)",
  )
  parser.add_argument(
    "--verify",
    action="store_true",
    help="compare the whole cache with its checksums before the first step",
  )
  parser.add_argument(
    "--profile",
    type=int,
    default=0,
    metavar="STEPS",
    help="trace so many steps into WORKDIR/profile",
  )
  parser.add_argument(
    "--distributed",
    action="store_true",
    help="join the other processes of a TPU pod or a SLURM job",
  )
  parser.add_argument("--coordinator", help="HOST:PORT of process 0")
  parser.add_argument("--num_processes", type=int)
  parser.add_argument("--process_id", type=int)
  parser.add_argument(
    "--json", action="store_true", help="one JSON document on stdout"
  )
  args, overrides = parser.parse_known_args(argv)
  config = _config_of(args, overrides)
  if args.describe:
    size = describe(config, args.embed_dim or _teacher_dim(args.workdir))
    if args.json:
      command.print_json(size)
      return 0
    print(
      f"{size['table']}\nforward pass of one window of {size['samples']} "
      f"samples: {size['mflop']:.1f} MFLOP"
    )
    return 0
  if not args.workdir:
    raise ValueError("--workdir is missing: name the run's folder")
  processes = args.coordinator, args.num_processes, args.process_id
  if args.distributed or any(x is not None for x in processes):
    distributed.start(*processes)
  step = train(
    config, args.workdir, verify=args.verify, profile_steps=args.profile
  )
  if args.json and jax.process_index() == 0:
    log = (pathlib.Path(args.workdir) / "train.jsonl").read_text().splitlines()
    metrics = json.loads(log[-1]) if log else None
    command.print_json(
      {"workdir": args.workdir, "step": step, "metrics": metrics}
    )
  return 0


def _teacher_dim(workdir):
  run = pathlib.Path(workdir or "") / "run.json"
  return json.loads(run.read_text())["teacher"]["dim"] if run.is_file() else 512


def _config_of(args, overrides):
  if args.config:
    return load_config(args.config, overrides)
  saved = pathlib.Path(args.workdir or "") / "config.json"
  if not args.workdir or not saved.is_file():
    raise ValueError("--config is missing: name a file of configs/")
  if overrides:
    raise ValueError(f"{overrides[0]} needs --config")
  return config_lib.from_json(saved.read_text())


if __name__ == "__main__":
  sys.exit(command.run(main))
