"""`imu2clip teach NAME --example REC:12.0-17.0`: name a motion by showing it.

The prototype, the mean embedding of the examples, is kept in WORKDIR/taught;
search and timeline then know the name.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from imu2clip_jax import command, runs, sources, tables, taught
from imu2clip_jax.recordings import opening


def teach(
  run: runs.Run, name: str, examples: Sequence[str], gravity: str = ""
) -> dict:
  """Add a name, or replace what was taught under it.

  Args:
    run: see `open_run`.
    name: what search and timeline will call it.
    examples: "RECORDING:START-END" in seconds on the recording's clock, or a
      whole recording. A stretch shorter than a window is taken with what lies
      around it.
    gravity: see `Run.cutting`.

  Returns:
    {"name", "windows": how many were averaged, "agreement": their mean cosine
    to the prototype, "examples", "path"}.

  Raises:
    FileNotFoundError, ValueError: a recording or a stretch of it cannot be
      used; nothing is written then.
  """
  options = run.cutting(run.encoder.window_s / 2, gravity)
  parts, about = [], []
  for example in examples:
    path, span_s = sources.parse(example)
    recording = opening.open_recording(path, texts=[])
    starts, found = sources.embed_recording(
      run.encoder, recording, options, span_s
    )
    parts.append(found)
    end_s = float(starts[-1] + options.window_s)
    about.append(
      {
        "recording_id": recording.recording_id,
        "path": str(path),
        "start_s": span_s[0] if span_s else float(starts[0]),
        "end_s": span_s[1] if span_s else end_s,
        "windows": len(found),
      }
    )
  # An example counts once, however long it is.
  vector = taught.prototype([taught.prototype(part) for part in parts])
  windows = np.concatenate(parts)
  path = taught.save(
    run.workdir,
    name,
    vector,
    about,
    run.fingerprint,
    run.encoder.teacher["fingerprint"],
  )
  return {
    "name": name,
    "windows": len(windows),
    "agreement": float(np.mean(windows @ vector)),
    "examples": about,
    "path": str(path),
  }


def _listing(known):
  rows = [["name", "examples", "windows", "from"]]
  for name, entry in known.items():
    examples = entry["examples"]
    first = examples[0]
    since = f"{first['recording_id']} {tables.clock(first['start_s'])}"
    windows = sum(example["windows"] for example in examples)
    rows.append([name, str(len(examples)), str(windows), since])
  return "\n".join(tables.aligned(rows))


def main(argv: Sequence[str] | None = None) -> int:
  """Run `imu2clip teach`."""
  parser = command.parser(
    "teach",
    "Name a motion by showing it: search and timeline then know the name.",
    "imu2clip teach 'tying shoes' --workdir=runs/demo/imu_text "
    "--example walk.csv:12.0-17.0 --example walk.csv:95-103",
  )
  parser.add_argument("name", nargs="?", help="what to call it")
  parser.add_argument("--workdir", help="the run's folder")
  parser.add_argument(
    "--example",
    action="append",
    default=[],
    metavar="REC:START-END",
    help="seconds of a recording; may be given again",
  )
  runs.add_gravity_option(parser)
  parser.add_argument(
    "--list", action="store_true", help="show what was taught"
  )
  parser.add_argument("--forget", metavar="NAME", help="delete a taught name")
  parser.add_argument(
    "--json", action="store_true", help="one JSON document on stdout"
  )
  args = parser.parse_args(argv)
  if not args.workdir:
    raise ValueError("--workdir is missing: name the run's folder")
  if sum([bool(args.name), args.list, args.forget is not None]) != 1:
    raise ValueError("give one of NAME with --example, --list or --forget NAME")
  if args.forget is not None:
    if not pathlib.Path(args.workdir).is_dir():
      raise FileNotFoundError(f"no folder {args.workdir}")
    taught.forget(args.workdir, args.forget)
    found, said = {"forgotten": args.forget}, f"forgot {args.forget!r}"
  elif args.list:
    known = runs.open_run(args.workdir).taught
    found = {name: entry["examples"] for name, entry in known.items()}
    said = _listing(known) if known else f"nothing was taught in {args.workdir}"
  else:
    if not args.example:
      raise ValueError("--example is missing: show NAME at REC:START-END")
    run = runs.open_run(args.workdir)
    found = teach(run, args.name, args.example, args.gravity)
    said = (
      f"{found['name']!r}: {len(found['examples'])} examples, "
      f"{found['windows']} windows that agree to {found['agreement']:.2f}; "
      f"kept in {found['path']}"
    )
  if args.json:
    command.print_json(found)
  else:
    print(said)
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
