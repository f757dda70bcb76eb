"""`imu2clip timeline RECORDING`: what the wearer did, and when.

Overlapping windows are compared with the names of a vocabulary in the space of
the frozen CLIP; the scores of the windows over each second are averaged and
smoothed (`segmentation`). Written as Markdown, JSON, SubRip (.srt) and WebVTT,
whose times count from the first video frame where the recording has a video.
"""

import hashlib
import json
import math
import pathlib
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import special

from imu2clip_jax import (
  command,
  runs,
  segmentation,
  sources,
  timeline_text,
)
from imu2clip_jax.data import cache
from imu2clip_jax.recordings import opening

UNKNOWN = timeline_text.UNKNOWN
# Chosen on the built-in world's validation wearers; the scores are flat around
# them (mean stay 5 .. 200 s, scale half to four times the trained one).
HOP_S, MEAN_STAY_S, MIN_CONFIDENCE = 1.0, 20.0, 0.4
# Narrations that serve as names where the data has no activity names.
_NARRATIONS = 100


def vocabulary(run: runs.Run) -> list[str]:
  """Return the names of a run's data: activities, else frequent narrations.

  Activities that were held out of training are no part of it: the encoder has
  never met them. Name them, or teach them.

  Raises:
    FileNotFoundError, ValueError: as `Run.cache_dir`; the data has neither.
  """
  meta = cache.read_meta(run.cache_dir)
  held_out = run.config.data.held_out_labels
  names = [name for name in meta["label_names"] if name not in held_out]
  if len(names) < 2:
    split = cache.open_split(run.cache_dir, run.config.data.train_split)
    nearest = np.asarray(split.text_ids)[:, 0]
    counts = Counter(nearest[nearest >= 0].tolist())
    names = [split.texts[i] for i, _ in counts.most_common(_NARRATIONS)]
  if len(names) < 2:
    raise ValueError(
      "the training data has neither activity names nor narrations: give the "
      "names to tell apart with --labels='a;b'"
    )
  return names


def timeline(
  run: runs.Run,
  path: str | pathlib.Path,
  names: Sequence[str] = (),
  *,
  hop_s: float = HOP_S,
  mean_stay_s: float = MEAN_STAY_S,
  min_confidence: float = MIN_CONFIDENCE,
  gravity: str = "",
) -> dict:
  """Divide a recording into segments of one activity each.

  Args:
    run: see `open_run`.
    path: what `open_recording` takes.
    names: the vocabulary; empty takes `vocabulary` and all taught names.
    hop_s: step from window to window, and length of a step of the timeline.
    mean_stay_s: how long one keeps doing a thing on average.
    min_confidence: segments below it are "unknown".
    gravity: see `Run.cutting`.

  Returns:
    {"recording_id", "path", "start_s", "end_s", "hop_s", "labels",
     "segments": [{"start_s", "end_s", "label", "confidence", "guess",
     "runner_up", "runner_up_confidence"}]}; "guess" is the best name also where
    the label is "unknown", None where no sensor measured.

  Raises:
    FileNotFoundError, ValueError: the recording cannot be used, fewer than two
      names, or an option out of range.
  """
  _check(hop_s, mean_stay_s, min_confidence, run.encoder.window_s)
  if not names:
    names = list(dict.fromkeys([*vocabulary(run), *run.taught]))
  if len(names) < 2 or len(set(names)) < len(names):
    raise ValueError(
      f"a timeline needs two different names or more, got {'; '.join(names)!r}"
    )
  options = run.cutting(hop_s, gravity)
  path = pathlib.Path(path)
  segment = sources.index_recording(run.index, run.encoder, path, options)
  similarities = np.asarray(segment.embeddings) @ run.names(names).T
  starts_s = np.asarray(segment.start_s)
  first_s, last_s = float(starts_s[0]), float(segment.end_s[-1])
  steps_s = first_s + segmentation.covering(last_s - first_s, hop_s)
  found = segments(
    segmentation.spread(starts_s, similarities, options.window_s, steps_s),
    names,
    scale=run.logit_scale,
    hop_s=hop_s,
    mean_stay_s=mean_stay_s,
    min_confidence=min_confidence,
  )
  for part in found:
    part["start_s"] = first_s + part["start_s"]
    part["end_s"] = min(first_s + part["end_s"], last_s)
  about = segment.about["recordings"][0]
  return {
    "recording_id": about["recording_id"],
    "path": str(path),
    "start_s": first_s,
    "end_s": last_s,
    "hop_s": hop_s,
    "labels": list(names),
    "segments": found,
  }


def _check(hop_s, mean_stay_s, min_confidence, window_s):
  if not 0 < hop_s <= window_s:
    raise ValueError(f"--hop is {hop_s:g} s, expected above 0 .. {window_s:g}")
  if not 2 * hop_s <= mean_stay_s < math.inf:
    raise ValueError(
      f"--mean_stay is {mean_stay_s:g} s, expected twice the hop or more, "
      f"{2 * hop_s:g}"
    )
  if not 0 <= min_confidence <= 1:
    raise ValueError(f"--min_confidence is {min_confidence:g}, expected 0 .. 1")


def segments(
  similarities: np.ndarray,
  names: Sequence[str],
  *,
  scale: float,
  hop_s: float,
  mean_stay_s: float,
  min_confidence: float,
) -> list[dict]:
  """Smooth the similarities of steps into named segments.

  In the smoothing a step weighs its length in seconds, so that the hop changes
  little. A segment's confidence is the mean over its steps of the name's
  probability at the trained scale, without the smoothing: neighbouring windows
  share their samples, and a chain that takes them for independent witnesses is
  too sure of itself.

  Args:
    similarities: [T, C] cosines, NaN in steps that no window covers.
    names: C names.
    scale: of the logits, as trained.
    hop_s, mean_stay_s, min_confidence: see `timeline`.

  Returns:
    segments, as of `timeline`, on a clock that starts with the first step.
  """
  measured = np.isfinite(similarities).all(axis=1)
  # A step without a window says nothing about any name.
  scores = special.log_softmax(
    np.where(measured[:, None], scale * similarities, 0.0), axis=1
  )
  path = segmentation.best_path(hop_s * scores, 1 - hop_s / mean_stay_s)
  found = []
  for first, end in segmentation.runs(np.where(measured, path, -1)):
    part = {"start_s": first * hop_s, "end_s": end * hop_s}
    mean = np.exp(scores[first:end]).mean(axis=0)
    place = int(path[first])
    others = np.where(np.arange(len(names)) == place, -1, mean)
    second = int(others.argmax())
    sure = float(mean[place])
    if not measured[first]:
      part |= {"label": UNKNOWN, "confidence": 0.0, "guess": None}
      part |= {"runner_up": None, "runner_up_confidence": 0.0}
    else:
      part |= {
        "label": names[place] if sure >= min_confidence else UNKNOWN,
        "confidence": sure,
        "guess": names[place],
        "runner_up": names[second],
        "runner_up_confidence": float(mean[second]),
      }
    found.append(part)
  return found


def write(document: dict, folder: str | pathlib.Path) -> list[pathlib.Path]:
  """Write timeline.md, .json, .srt, .vtt and return their paths."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  texts = {
    "md": timeline_text.markdown(document),
    "json": json.dumps(document, indent=2) + "\n",
    "srt": timeline_text.srt(document),
    "vtt": timeline_text.vtt(document),
  }
  paths = [folder / f"timeline.{suffix}" for suffix in texts]
  for path, text in zip(paths, texts.values(), strict=True):
    command.write_text(path, text)
  return paths


def _folder(run, document):
  """Return the timeline's own folder, another one for each path."""
  folder = run.workdir / "timeline" / document["recording_id"].replace("/", "_")
  there = folder / "timeline.json"
  if there.is_file():
    own = pathlib.Path(document["path"]).resolve()
    other = json.loads(there.read_text())["path"]
    if pathlib.Path(other).resolve() != own:
      code = hashlib.sha256(str(own).encode()).hexdigest()[:8]
      return folder.with_name(f"{folder.name}-{code}")
  return folder


def _names(args):
  texts = args.labels.split(";")
  if args.labels_file:
    texts += command.read_lines(args.labels_file, "--labels_file")
  return list(dict.fromkeys(t.strip() for t in texts if t.strip()))


def parser():
  """Return the verb's argument parser."""
  p = command.parser(
    "timeline",
    "Say what the wearer did, and when, in your own words or those of the "
    "training data; write Markdown, JSON and subtitles for the video.",
    "imu2clip timeline --workdir=runs/demo/imu_text walk.csv "
    "--labels='walking;climbing stairs;sitting'",
  )
  p.add_argument("recording", help="IMU or video file, or sequence folder")
  p.add_argument("--workdir", help="the run's folder")
  p.add_argument(
    "--labels",
    default="",
    help="'a;b': the names to tell apart (default: the training data's "
    "activities, else its narrations, and all that was taught)",
  )
  p.add_argument("--labels_file", help="the same, one a line")
  p.add_argument("--out", help="default: WORKDIR/timeline/RECORDING_ID")
  p.add_argument(
    "--hop", type=float, default=HOP_S, help=f"seconds; default {HOP_S:g}"
  )
  p.add_argument(
    "--mean_stay",
    type=float,
    default=MEAN_STAY_S,
    help=f"seconds one keeps doing a thing; default {MEAN_STAY_S:g}",
  )
  p.add_argument(
    "--min_confidence",
    type=float,
    default=MIN_CONFIDENCE,
    help=f"below it a segment is unknown; default {MIN_CONFIDENCE:g}",
  )
  runs.add_gravity_option(p)
  p.add_argument(
    "--for-llm",
    action="store_true",
    help="print a log for a language model to reason over",
  )
  p.add_argument(
    "--json", action="store_true", help="one JSON document on stdout"
  )
  return p


def main(argv: Sequence[str] | None = None) -> int:
  """Run `imu2clip timeline`."""
  args = parser().parse_args(argv)
  run = runs.open_run(args.workdir)
  document = timeline(
    run,
    args.recording,
    _names(args),
    hop_s=args.hop,
    mean_stay_s=args.mean_stay,
    min_confidence=args.min_confidence,
    gravity=args.gravity,
  )
  if args.for_llm:
    texts = opening.open_recording(args.recording).texts
    document["narrations"] = [
      {"start_s": a, "end_s": b, "text": text}
      for a, b, text in texts
      if math.isfinite(a) and math.isfinite(b)
    ]
  paths = write(document, args.out or _folder(run, document))
  if args.json:
    command.print_json(document)
    return 0
  if args.for_llm:
    print(timeline_text.for_llm(document))
  else:
    print(timeline_text.terminal(document))
    print("written: " + ", ".join(map(str, paths)))
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
