"""`imu2clip evaluate`: retrieval and recognition of one trained encoder.

Writes WORKDIR/metrics.json, report.html and recall_curves.png. metrics.json is
{"dataset", "variant", "teacher", "seed", "split", "protocol", "encoder",
 "counts": the split's windows and what they hold,
 "retrieval": direction -> what `retrieval.measure` returns,
 "recognition": task -> what `recognition.score` returns,
 "per_wearer": wearer -> {"windows", "R@10 DIRECTION", "zero_shot accuracy"},
 "notes": what was left out, and why}.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from imu2clip_jax import (
  command,
  embed,
  figures,
  metrics,
  pages,
  pretrained,
  recognition_tasks,
  report,
  retrieval,
  tables,
)
from imu2clip_jax import config as config_lib
from imu2clip_jax.data import builder, cache

PROTOCOLS = ("full", "official")
# Queries shown in the report, by direction, and the size of their frames.
_SHOWN = {"text->imu": 6, "imu->video": 4}
_FRAME_PIXELS = 224


def evaluate(
  workdir: str | pathlib.Path,
  *,
  encoder=None,
  data_dir: str = "",
  split: str = "",
  labels: Sequence[str] = (),
  protocol: str = "full",
  fine_tune: bool = True,
) -> dict:
  """Measure a trained encoder and write the three files into its workdir.

  Args:
    workdir: the run's folder.
    encoder: what `load_imu_encoder` returned for it; None loads it.
    data_dir: another data set than the run's; its windows are embedded first.
    split: another split than config.data.test_split.
    labels: the activities to tell apart; empty means all of the data set's.
    protocol: "full" ranks the whole split, "official" 320 windows of it.
    fine_tune: also fine-tune, the slowest part.

  Returns:
    what metrics.json holds; the module docstring describes it.

  Raises:
    FileNotFoundError: no run, no data or no teacher there.
    ValueError: an empty split, an unknown label, or a teacher that is not the
      one of the run.
  """
  if protocol not in PROTOCOLS:
    raise ValueError(f"protocol is {protocol!r}, expected full or official")
  workdir = pathlib.Path(workdir)
  encoder = encoder or pretrained.load_imu_encoder(workdir)
  config = config_lib.from_json(config_lib.to_json(encoder.config))
  config.data.dir = data_dir or config.data.dir
  config.data.test_split = split or config.data.test_split
  cache_dir = embed.ensure_cache(config)
  windows = cache.open_split(cache_dir, config.data.test_split)
  _check_teacher(workdir, encoder, windows.meta["teacher"])
  names = recognition_tasks.vocabulary(windows.label_names, labels)

  rows = np.arange(len(windows))
  sides = retrieval.sides(
    windows, retrieval.embed_windows(encoder, windows, rows)
  )
  if protocol == "official":
    rows = retrieval.official_rows(windows.recording_ids, config.seed)
  pairs = config_lib.VARIANTS[config.variant]
  texts = np.asarray(windows.text_ids)[:, 0]
  blocks, ranked = retrieval.measure(sides, rows, texts, pairs, config.seed)
  scores, named, notes = recognition_tasks.run(
    config, encoder, cache_dir, windows, sides, names, fine_tune
  )
  document = {
    "dataset": windows.meta["dataset"],
    "variant": config.variant,
    "teacher": windows.meta["teacher"]["name"],
    "seed": config.seed,
    "split": windows.name,
    "protocol": protocol,
    "encoder": {
      "preset": config.encoder.preset,
      "rate_hz": config.encoder.rate_hz,
      "window_s": config.encoder.window_s,
    },
    "counts": _counts(windows),
    "retrieval": blocks,
    "recognition": scores,
    "per_wearer": _per_wearer(windows, ranked, named),
    "notes": _retrieval_notes(windows, rows, blocks) + notes,
  }
  queries = _queries(config, windows, sides, ranked)
  _write(workdir, document, ranked, named, queries)
  return document


def _check_teacher(workdir, encoder, teacher):
  if encoder.dim != teacher["dim"]:
    raise ValueError(
      f"the encoder in {workdir} is {encoder.dim} wide, teacher "
      f"{teacher['name']} {teacher['dim']}: they share no space"
    )
  own = encoder.teacher
  if own["fingerprint"] != teacher["fingerprint"]:
    raise ValueError(
      f"{workdir} was trained towards teacher {own['name']}; "
      f"config.teacher.path now holds {teacher['name']} with other weights"
    )


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


def _queries(config, windows, sides, ranked):
  """Some queries with what they found, as the report shows them."""
  records = builder.open_windows(config.data.dir, windows.name)
  queries = []
  for direction, count in _SHOWN.items():
    if direction not in ranked:
      continue
    rows, ranks = ranked[direction]
    drawn = retrieval.examples(
      sides,
      direction,
      rows,
      ranks,
      np.asarray(windows.labels),
      count=count,
      seed=config.seed,
    )
    for example in drawn:
      hits = [
        _card(windows, records, row) | {"match": row == example["row"]}
        for row in example["hits"]
      ]
      queries.append(
        {
          "direction": direction,
          "query": _card(windows, records, example["row"]),
          "rank": example["rank"],
          "gallery": len(rows),
          "hits": hits,
        }
      )
  return queries


def _card(windows, records, row):
  record = records[row]
  minutes, seconds = divmod(int(windows.start_s[row]), 60)
  label = windows.labels[row]
  return {
    "frame": _thumbnail(record),
    "signal": figures.signals(
      windows.imu[row], windows.meta["rate_hz"], windows.sensor_mask[row]
    ),
    "text": record["texts"][0] if record["texts"] else "",
    "label": windows.label_names[label] if label >= 0 else "",
    "source": f"{windows.recording_ids[row]}, {minutes}:{seconds:02d}",
  }


def _thumbnail(record):
  """The middle frame as a small JPEG, or None."""
  if not record["frames"]:
    return None
  middle = embed.decode_frame(record, len(record["frames"]) // 2)
  return pages.jpeg(middle, _FRAME_PIXELS)


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
    "--json", action="store_true", help="metrics.json on stdout, no tables"
  )
  args = parser.parse_args(argv)
  if not args.workdir:
    raise ValueError("--workdir is missing: name the run's folder")
  document = evaluate(
    args.workdir,
    data_dir=args.data_dir,
    split=args.split,
    labels=[name.strip() for name in args.labels.split(";") if name.strip()],
    protocol=args.protocol,
    fine_tune=not args.no_fine_tune,
  )
  if args.json:
    command.print_json(document)
    return 0
  print(tables.terminal(document))
  print(f"{pathlib.Path(args.workdir) / 'report.html'} shows more")
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
