"""`imu2clip evaluate`: retrieval and recognition of one trained encoder.

Writes WORKDIR/metrics.json, report.html and recall_curves.png; asked on another
data set, into WORKDIR/evaluations/NAME-FINGERPRINT. metrics.json is
{"dataset", "variant", "teacher", "seed", "split", "protocol",
 "labels": the activities that were asked for, [] for all, "encoder",
 "step": of the checkpoint, null for an encoder that was never trained,
 "counts": the split's windows and what they hold,
 "retrieval": direction -> what `retrieval.measure` returns,
 "recognition": task -> what `recognition.score` returns,
 "retrieval_official": the same with the official gallery (thorough),
 "calibration", "abstention": task -> what `confidence.assess` returns,
 "few_shot": what `few_shot.curve` returns (thorough),
 "per_wearer": wearer -> {"windows", "R@10 DIRECTION", "zero_shot accuracy"},
 "notes": what was left out, and why}.
"""

import importlib
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from imu2clip_jax import (
  command,
  embed,
  examples,
  figures,
  metrics,
  pretrained,
  recognition_tasks,
  report,
  retrieval,
  run_files,
  tables,
)
from imu2clip_jax import config as config_lib
from imu2clip_jax.data import builder, cache

PROTOCOLS = ("full", "official")
# A suite stands above the verbs that it runs, so it is named, not imported.
_SUITES = {"paper": "imu2clip_jax.suite"}


def evaluate(
  workdir: str | pathlib.Path,
  *,
  encoder=None,
  data_dir: str = "",
  split: str = "",
  labels: Sequence[str] = (),
  protocol: str = "full",
  fine_tune: bool = True,
  thorough: bool = False,
  best: bool = False,
) -> dict:
  """Measure a trained encoder and write the three files into its workdir.

  Args:
    workdir: the run's folder.
    encoder: what `load_imu_encoder` returned for it; None loads it.
    data_dir: another data set than the run's; its windows are embedded first,
      and the files go to `folder_of` it. Classes are matched by their text.
    split: another split than config.data.test_split.
    labels: the activities to tell apart; empty means all of the data set's.
    protocol: "full" ranks the whole split, "official" 320 windows of it.
    fine_tune: also fine-tune, the slowest part.
    thorough: also the few-shot curve, and both galleries.
    best: of the checkpoints, take the one with the best MRR on validation, not
      the newest; metrics.json's notes name it.

  Returns:
    what metrics.json holds; the module docstring describes it.

  Raises:
    FileNotFoundError: no run, no data or no teacher there; or with `best` no
      validated checkpoint.
    ValueError: an empty split, an unknown label, a teacher that is not the one
      of the run, or without `data_dir` windows that are not.
  """
  if protocol not in PROTOCOLS:
    raise ValueError(f"protocol is {protocol!r}, expected full or official")
  workdir = pathlib.Path(workdir)
  encoder = encoder or pretrained.load_run(workdir, best)
  config = config_lib.from_json(config_lib.to_json(encoder.config))
  config.data.dir = data_dir or config.data.dir
  config.data.test_split = split or config.data.test_split
  folder = workdir
  if data_dir:
    folder = folder_of(workdir, encoder.config.data.dir, data_dir)
  if folder == workdir:
    run_files.check_data(workdir, [config.data.dir, *config.data.mixture_dirs])
  cache_dir = embed.ensure_cache(config)
  windows = cache.open_split(cache_dir, config.data.test_split)
  pretrained.check_teacher(
    encoder.teacher, windows.meta["teacher"], str(cache_dir)
  )
  names = recognition_tasks.vocabulary(windows.label_names, labels)

  every = rows = np.arange(len(windows))
  sides = retrieval.sides(
    windows, retrieval.embed_windows(encoder, windows, every)
  )
  official = retrieval.official_rows(windows.recording_ids, config.seed)
  if protocol == "official":
    rows = official
  pairs, scale = _trained_pairs(workdir, config), None
  if pairs and config_lib.has_scale(config.loss.objective):
    scale = pretrained.logit_scale(workdir, config.variant, best)
  texts = np.asarray(windows.text_ids)[:, 0]
  blocks, ranked = retrieval.measure(sides, rows, texts, pairs, config.seed)
  # What was trained along with the run's own set says nothing of another one.
  others = embed.mixture_caches(config) if folder == workdir else []
  found, named, notes = recognition_tasks.run(
    config,
    encoder,
    [cache_dir, *others],
    windows,
    sides,
    names,
    fine_tune,
    scale=scale,
    shots=thorough,
  )
  if thorough:
    found["retrieval_official"], _ = retrieval.measure(
      sides, official, texts, pairs, config.seed
    )
  if best:
    notes.append(f"checkpoint {encoder.step}: the best MRR on validation")
  document = {
    "dataset": windows.meta["dataset"],
    "variant": config.variant,
    "teacher": windows.meta["teacher"]["name"],
    "seed": config.seed,
    "split": windows.name,
    "protocol": protocol,
    "labels": list(labels),
    "encoder": {
      "preset": config.encoder.preset,
      "rate_hz": config.encoder.rate_hz,
      "window_s": config.encoder.window_s,
    },
    "step": encoder.step,
    "counts": _counts(windows),
    "retrieval": blocks,
    **found,
    "per_wearer": _per_wearer(windows, ranked, named),
    "notes": _retrieval_notes(windows, rows, blocks) + notes,
  }
  queries = examples.collect(config, windows, sides, ranked)
  folder.mkdir(parents=True, exist_ok=True)
  _write(folder, document, ranked, named, queries)
  return document


def folder_of(
  workdir: str | pathlib.Path, own_dir: str, data_dir: str
) -> pathlib.Path:
  """Return where an evaluation goes: the workdir, or a folder of its own.

  Args:
    workdir: the run's folder.
    own_dir: the data set that the run was trained on.
    data_dir: the one it is asked on.
  """
  if pathlib.Path(own_dir).resolve() == pathlib.Path(data_dir).resolve():
    return pathlib.Path(workdir)
  info = builder.describe(data_dir)
  name = f"{info['name']}-{info['fingerprint'][:8]}"
  return pathlib.Path(workdir) / "evaluations" / name


def _trained_pairs(workdir, config):
  # An encoder that was never trained has none, nor has SimCLR's.
  trained = (workdir / "checkpoints").is_dir()
  if trained and config_lib.has_teacher(config.loss.objective):
    return config_lib.VARIANTS[config.variant]
  return ()


def _counts(windows):
  measured = np.asarray(windows.sensor_mask)
  return {
    "windows": len(windows),
    "recordings": len(set(windows.recording_ids)),
    "wearers": len(set(windows.wearer_ids)),
    "with_frames": int(np.sum(windows.has_frames)),
    "with_text": int(np.sum(windows.has_text)),
    "with_label": int(np.sum(np.asarray(windows.labels) >= 0)),
    "without_accel": int(np.sum(~measured[:, 0])),
    "without_gyro": int(np.sum(~measured[:, 1])),
  }


def _retrieval_notes(windows, rows, blocks):
  notes = []
  if len(rows) < len(windows):
    notes.append(
      f"retrieval ranks {len(rows)} of {len(windows)} windows, as the paper's "
      "released code does"
    )
  for what, has in (
    ("narration", windows.has_text),
    ("frame", np.asarray(windows.has_frames)),
  ):
    lacking = int(np.sum(~has[rows]))
    if lacking:
      notes.append(
        f"{lacking} windows have no {what}: left out of the directions that "
        "need one"
      )
  left_out = [d for d in tables.DIRECTIONS if d not in blocks]
  if left_out:
    notes.append(
      f"{', '.join(map(tables.arrow, left_out))} left out: fewer than two "
      "windows hold both sides"
    )
  tied = {d: block["tied"] for d, block in blocks.items() if block["tied"]}
  if tied:
    shares = ", ".join(f"{tables.arrow(d)} {t:.1%}" for d, t in tied.items())
    notes.append(
      f"queries whose match has an equal in the gallery: {shares}; a rank is 1 "
      "+ the rows strictly better, so equals do not push it back"
    )
  return notes


def _per_wearer(windows, ranked, named):
  wearers = np.asarray(windows.wearer_ids)
  table = {
    wearer: {"windows": int(np.sum(wearers == wearer))}
    for wearer in sorted(set(wearers.tolist()))
  }
  for wearer, entry in table.items():
    for direction, (rows, ranks) in ranked.items():
      own = wearers[rows] == wearer
      if own.any():
        entry[f"R@10 {direction}"] = float(np.mean(ranks[own] <= 10))
    if named:
      own = (wearers[named["rows"]] == wearer) & (named["labels"] >= 0)
      if own.any():
        right = named["predictions"][own] == named["labels"][own]
        entry["zero_shot accuracy"] = float(right.mean())
  return table


def _write(workdir, document, ranked, named, queries):
  pictures = {}
  if ranked:
    ranks = {direction: ranks for direction, (_, ranks) in ranked.items()}
    sizes = {direction: len(rows) for direction, (rows, _) in ranked.items()}
    pictures["recall_curves"] = figures.recall_curves(ranks, sizes)
  if named:
    labelled = named["labels"] >= 0
    counts = metrics.confusion(
      named["labels"][labelled],
      named["predictions"][labelled],
      len(named["names"]),
    )
    pictures["confusion"] = figures.confusion(counts, named["names"])
  for name, draw, key in (
    ("reliability", figures.reliability, "calibration"),
    ("risk_coverage", figures.risk_coverage, "abstention"),
    ("few_shot", figures.few_shot, "few_shot"),
  ):
    if document.get(key):
      pictures[name] = draw(document[key])
  page = report.page(document, pictures, queries)
  if "recall_curves" in pictures:
    command.write_bytes(
      workdir / "recall_curves.png", pictures["recall_curves"]
    )
  command.write_text(workdir / "report.html", page)
  command.write_text(
    workdir / "metrics.json", json.dumps(document, indent=2) + "\n"
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Run `imu2clip evaluate`."""
  parser = command.parser(
    "evaluate",
    "Measure retrieval in every direction that the data allow, and zero-shot, "
    "linear-probe and fine-tuned recognition; write metrics.json, report.html "
    "and recall_curves.png into the workdir.",
    "imu2clip evaluate --workdir=runs/text --labels='walking;sits down'",
  )
  parser.add_argument("--workdir", help="the run's folder")
  parser.add_argument(
    "--data_dir", default="", help="another data set's folder"
  )
  parser.add_argument(
    "--split", default="", help="default: the run's config.data.test_split"
  )
  parser.add_argument(
    "--labels", default="", help="'a;b': only these activities (default: all)"
  )
  parser.add_argument(
    "--protocol",
    default="full",
    choices=PROTOCOLS,
    help="gallery: the whole split (default), or 320 windows of it as the "
    "paper's released code draws them",
  )
  parser.add_argument(
    "--no-fine-tune", action="store_true", help="leave the slowest part out"
  )
  parser.add_argument(
    "--thorough",
    action="store_true",
    help="also the few-shot curve, and both galleries",
  )
  parser.add_argument(
    "--best",
    action="store_true",
    help="the checkpoint with the best MRR on validation (default: the newest)",
  )
  parser.add_argument(
    "--suite",
    choices=_SUITES,
    help="train and evaluate every row of the paper's tables and the baselines "
    "below --workdir; finished cells are not run again",
  )
  parser.add_argument(
    "--config",
    help="of --suite: its recipe, data and teacher, with "
    "--config.group.key=value (default: the demo's world and recipe)",
  )
  parser.add_argument(
    "--seeds",
    type=int,
    default=3,
    help="of --suite: runs of a variant, and of the encoders official, "
    "official_swapped and i2c",
  )
  parser.add_argument(
    "--json", action="store_true", help="metrics.json on stdout, no tables"
  )
  args, overrides = parser.parse_known_args(argv)
  if not args.workdir:
    raise ValueError("--workdir is missing: name the run's folder")
  if args.suite:
    suite = importlib.import_module(_SUITES[args.suite])
    return suite.command(args, overrides)
  if overrides or args.config:
    parser.error(f"{(overrides or ['--config'])[0]} is for --suite alone")
  document = evaluate(
    args.workdir,
    data_dir=args.data_dir,
    split=args.split,
    labels=[name.strip() for name in args.labels.split(";") if name.strip()],
    protocol=args.protocol,
    fine_tune=not args.no_fine_tune,
    thorough=args.thorough,
    best=args.best,
  )
  if args.json:
    command.print_json(document)
    return 0
  print(tables.terminal(document))
  folder = pathlib.Path(args.workdir)
  if args.data_dir:
    own = pretrained.load_imu_encoder(folder).config.data.dir
    folder = folder_of(folder, own, args.data_dir)
  print(f"{folder / 'report.html'} shows more")
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
