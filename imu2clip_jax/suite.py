"""`imu2clip evaluate --suite=paper`: the paper's Tables 2 and 3, all rows.

Every cell is one run in ROOT/cells/ROW/seed_K, finished when its metrics.json
is there; the same command goes on where it was. ROOT/suite.json, suite.md and
suite.html are written anew after every cell. Without a config the world, the
teacher and the recipe are the demo's, with the paper's encoder.
"""

import copy
import dataclasses
import json
import pathlib
import sys
import time

import jax
import ml_collections
import numpy as np
from absl import logging

from imu2clip_jax import command as command_lib
from imu2clip_jax import config as config_lib
from imu2clip_jax import (
  demo,
  embed,
  evaluate,
  imu,
  pretrained,
  run_files,
  suite_tables,
)
from imu2clip_jax import train as train_lib
from imu2clip_jax.data import cache
from imu2clip_jax.models import encoders

# Sizes where a row's encoder is not the recipe's own; the other encoders have
# theirs in models/baselines.py. The paper's and the released network have 32
# channels; of the 512 states of their GRU a quarter, which two cores can train.
_SIZES = {
  "paper": {"encoder.width": 32, "encoder.hidden": 128},
  "official": {"encoder.width": 32, "encoder.hidden": 128},
  # It only fits windows that its pooling leaves 32 samples of.
  "official_swapped": {
    "encoder.width": 32,
    "encoder.hidden": 128,
    "encoder.rate_hz": 200.0,
  },
  "i2c": {"encoder.width": 24},
  "i2c_head": {"encoder.width": 24},
}
# What the comparison is about; the other encoders run once.
_SEEDED = ("official", "official_swapped", "i2c")
# SimCLR's views where the recipe has no augmentation; fine-tuning has them too.
_VIEWS = {
  "augment.yaw": True,
  "augment.tilt_rad": 0.1,
  "augment.time_warp": 0.2,
  "augment.scale": 0.2,
  "augment.jitter": 0.2,
  "augment.drop_channel": 0.1,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
  """One run of the suite.

  Attributes:
    row: its row of the tables; several seeds share one.
    group: "variants" or "baselines".
    config: every option.
    trained: False for the random encoder, which is evaluated as it begins.
  """

  row: str
  group: str
  config: ml_collections.ConfigDict
  trained: bool = True

  @property
  def name(self) -> str:
    return f"{self.row}/seed_{self.config.seed}"


def cells(config: ml_collections.ConfigDict, seeds: int) -> list[Cell]:
  """Return the cells: variants by seed, then the baselines.

  Args:
    config: the recipe; baselines have its variant, and differ in one thing.
    seeds: runs of each variant, from config.seed on, and of the encoders
      official, official_swapped and i2c; the other baselines run once.

  Raises:
    ValueError: less than one seed.
  """
  if seeds < 1:
    raise ValueError(f"--seeds is {seeds}, expected 1 or more")
  made = [
    Cell(variant, "variants", _changed(config, variant=variant, seed=seed))
    for variant in config_lib.VARIANTS
    for seed in range(config.seed, config.seed + seeds)
  ]
  made.append(Cell("random encoder", "baselines", _changed(config), False))
  for objective in config_lib.OBJECTIVES:
    if objective == config.loss.objective:
      continue
    options = {"loss.objective": objective}
    if objective == "simclr":
      options["train.validate_every_steps"] = 0
      if not any(config.augment.values()):
        options |= _VIEWS
    changed = _changed(config, options)
    made.append(Cell(f"objective {objective}", "baselines", changed))
  for preset in encoders.NAMES:
    if preset == config.encoder.preset:
      continue
    options = {"encoder.preset": preset, **_SIZES.get(preset, {})}
    last = config.seed + (seeds if preset in _SEEDED else 1)
    made += [
      Cell(
        f"encoder {preset}", "baselines", _changed(config, options, seed=seed)
      )
      for seed in range(config.seed, last)
    ]
  return made


def run(
  workdir: str | pathlib.Path,
  config: ml_collections.ConfigDict | None = None,
  *,
  seeds: int = 3,
  data_dir: str = "",
  fine_tune: bool = True,
) -> dict:
  """Train and evaluate every cell that is not finished; write the summary.

  Args:
    workdir: of the whole suite.
    config: recipe, data and teacher; None for the demo's, which are made first.
    seeds: runs of each variant and of some encoders, see `cells`.
    data_dir: another data set, on which the variants are asked as well.
    fine_tune: also fine-tune.

  Returns:
    what suite.json holds, see `suite_tables`; a broken cell is under "failed"
    with its reason.

  Raises:
    ValueError: a finished cell was run with other options.
  """
  workdir = pathlib.Path(workdir)
  cells(config or config_lib.demo("imu_video_text"), seeds)  # refuses bad ones
  config = config or _demo_config(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  meta, made_from, left_out, possible = _look(config)
  rows, failed, finished = {}, {}, False
  todo = [c for c in cells(config, seeds) if c.config.variant in possible]
  for place, cell in enumerate(todo, start=1):
    print(f"-- {place}/{len(todo)} {cell.name}", file=sys.stderr, flush=True)
    row = rows.setdefault(
      cell.row,
      {
        "name": cell.row,
        "group": cell.group,
        "compares_encoders": _compares_encoders(cell, config),
        "documents": [],
      },
    )
    try:
      document = _finish(workdir, cell, fine_tune, made_from)
      cost = _cost(workdir / "cells" / cell.name, cell.config, meta)
      row["documents"].append(document | {"cost": cost})
      if data_dir and cell.group == "variants":
        name = f"{cell.row}, asked on another data set"
        other = rows.setdefault(
          name,
          {
            "name": name,
            "group": "transfer",
            "compares_encoders": False,
            "documents": [],
          },
        )
        folder = workdir / "cells" / cell.name
        other["documents"].append(_transfer(folder, cell, data_dir))
    except run_files.OtherRunError:
      raise
    except Exception as error:  # one broken cell must not cost the others
      logging.exception("cell %s", cell.name)
      failed[cell.name] = f"{type(error).__name__}: {error}"
    finished = place == len(todo)
    suite = {
      "dataset": meta["dataset"],
      "teacher": meta["teacher"]["name"],
      "finished": finished,
      "rows": [row for row in rows.values() if row["documents"]],
      "failed": failed,
      "left_out": left_out,
    }
    _write(workdir, suite)
    jax.clear_caches()
  return suite


def _demo_config(workdir):
  config = config_lib.demo("imu_video_text")
  config.encoder.preset = "paper"
  config.encoder.hidden = 128
  config.encoder.width = 48
  config.data.dir = str(workdir / "data")
  config.teacher.path = str(workdir / "tiny_clip")
  demo.build_world(workdir / "data", config.seed)
  demo.teach_clip(workdir / "tiny_clip", config.seed)
  return config


def _look(config):
  """What the data is, its run.json, what it lacks, the variants it allows."""
  cache_dir = embed.ensure_cache(config)
  train = cache.open_split(cache_dir, config.data.train_split)
  holds = {
    "imu_video": bool(np.any(train.has_frames)),
    "imu_text": bool(np.any(train.has_text)),
  }
  possible = [
    variant
    for variant, pairs in config_lib.VARIANTS.items()
    if all(holds[pair] for pair in pairs)
  ]
  notes = [
    f"{variant} left out: the training windows lack frames or texts"
    for variant in config_lib.VARIANTS
    if variant not in possible
  ]
  if config.variant not in possible:
    raise ValueError(
      f"config.variant is {config.variant}, but the training windows of "
      f"{train.meta['dataset']} allow {' and '.join(possible) or 'none'}"
    )
  made_from = run_files.describe([cache_dir, *embed.mixture_caches(config)])
  return train.meta, made_from, notes, possible


def _finish(workdir, cell, fine_tune, made_from):
  """Return a cell's metrics, from its file or after running it."""
  folder = workdir / "cells" / cell.name
  run_files.check_options(folder, cell.config)
  run_files.check_input(folder, cell.config, made_from)
  path = folder / "metrics.json"
  if path.is_file():
    document = json.loads(path.read_text())
    if _is_whole(document, cell, fine_tune):
      return document
  start = time.monotonic()
  encoder = None
  if cell.trained:
    if train_lib.train(cell.config, folder) < cell.config.train.steps:
      raise KeyboardInterrupt  # SIGTERM ended training in good order
  else:
    encoder = _random_encoder(folder, cell.config, made_from)
  document = evaluate.evaluate(
    folder, encoder=encoder, fine_tune=fine_tune, thorough=True
  )
  seconds = time.monotonic() - start
  print(f"   {seconds:.0f} s", file=sys.stderr, flush=True)
  return document


def _answers(document, cell):
  """Was a file of metrics measured as the suite asks?"""
  return (
    document["split"] == cell.config.data.test_split
    and document["protocol"] == "full"
    # Older versions did not say which activities; they may have been some.
    and document.get("labels") == []
    and document.get("step") == _last_step(cell)
  )


def _is_whole(document, cell, fine_tune):
  """Does a cell's file of metrics hold all that the suite asks?"""
  found = document["recognition"]
  return (
    _answers(document, cell)
    and "retrieval_official" in document
    and ("fine_tune" in found or "linear_probe" not in found or not fine_tune)
  )


def _last_step(cell):
  """The checkpoint that is measured; None of an encoder before its first."""
  return cell.config.train.steps if cell.trained else None


def _compares_encoders(cell, config):
  """Do this cell and the recipe differ in nothing but encoder and seed?"""
  return cell.trained and not any(
    cell.config[group] != config[group]
    for group in ("variant", "loss", "augment")
  )


def _cost(folder, config, meta):
  """What a cell's encoder takes: parameters, MFLOP a window, ms a step."""
  encoder = encoders.from_config(config.encoder, meta["teacher"]["dim"])
  samples = imu.samples_in(config.encoder.window_s, encoder.rate_hz)
  leaves = jax.tree.leaves(encoder.param_shapes(samples))
  cost = {
    "parameters": sum(leaf.size for leaf in leaves),
    "mflop": encoder.flops(samples) / 1e6,
  }
  log = folder / "train.jsonl"
  lines = log.read_text().splitlines() if log.is_file() else []
  times = [json.loads(line).get("step_ms") for line in lines]
  times = [time_ms for time_ms in times if time_ms is not None]
  if times:
    # The median: a line that holds a saving or a pause does not count.
    cost["step_ms"] = float(np.median(times))
  return cost


def _random_encoder(folder, config, made_from):
  """The encoder before its first step."""
  teacher = made_from["teacher"]
  encoder = encoders.from_config(config.encoder, teacher["dim"])
  samples = imu.samples_in(config.encoder.window_s, encoder.rate_hz)
  params = jax.device_get(
    jax.jit(lambda key: encoder.init(key, samples))(jax.random.key(config.seed))
  )
  folder.mkdir(parents=True, exist_ok=True)
  run_files.write(folder, config, made_from)
  return pretrained.ImuEmbedder(
    encoder, params, config.encoder.window_s, config, teacher
  )


def _transfer(folder, cell, data_dir):
  """A variant's metrics on another data set, from their file or measured."""
  path = evaluate.folder_of(folder, cell.config.data.dir, data_dir)
  if (path / "metrics.json").is_file():
    document = json.loads((path / "metrics.json").read_text())
    if _answers(document, cell):
      return document
  return evaluate.evaluate(folder, data_dir=data_dir, fine_tune=False)


def _write(workdir, suite):
  for name, text in (
    ("suite.json", json.dumps(suite, indent=2) + "\n"),
    ("suite.md", suite_tables.markdown(suite)),
    ("suite.html", suite_tables.page(suite)),
  ):
    command_lib.write_text(workdir / name, text)


def _changed(config, options=None, **top):
  config = copy.deepcopy(config)
  with config.unlocked():
    config.update_from_flattened_dict((options or {}) | top)
  return config


def command(args, overrides: list[str]) -> int:
  """Run `imu2clip evaluate --suite=paper` with its parsed arguments.

  Returns:
    0, or 1 if a cell failed.
  """
  config = None
  if args.config:
    config = train_lib.load_config(args.config, overrides)
  elif overrides:
    raise ValueError(f"{overrides[0]} needs --config")
  suite = run(
    args.workdir,
    config,
    seeds=args.seeds,
    data_dir=args.data_dir,
    fine_tune=not args.no_fine_tune,
  )
  if args.json:
    command_lib.print_json(suite)
  else:
    print(suite_tables.text(suite))
    print(f"{pathlib.Path(args.workdir) / 'suite.html'} shows the same")
  return 1 if suite["failed"] else 0
