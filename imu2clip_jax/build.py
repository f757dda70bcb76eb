"""`imu2clip build`: raw recordings → windows, as a TFDS data set.

A folder datasets/NAME_imu holds NAME_imu_dataset_builder.py, which names a
reader and its options and nothing more:

    NAME, VERSION  of the data set
    FIND           the reader's `find(root, **options) -> list of Entry`
    OPTIONS        options of FIND                                 (optional)
    WINDOWS        fields of `windows.Options` that differ         (optional)
    ABOUT          facts for metadata.json: source, licence        (optional)
    WORKERS        processes, 0 for readers that run on jax        (optional)
    NEEDS_RAW      False if FIND takes no folder                   (optional)
"""

import argparse
import dataclasses
import inspect
import json
import os
import pathlib
import runpy
import shlex
import sys
import typing
from collections.abc import Sequence

from imu2clip_jax import command
from imu2clip_jax.data import builder, windows

_DEFAULTS = {"OPTIONS": {}, "WINDOWS": {}, "ABOUT": {}, "NEEDS_RAW": True}


def load(folder) -> dict:
  """Return the names that a dataset folder's builder file defines.

  Args:
    folder: datasets/NAME_imu, or the builder file in it.

  Raises:
    FileNotFoundError: there is no builder file.
    ValueError: NAME, VERSION or FIND is missing in it.
  """
  path = pathlib.Path(folder)
  if path.is_dir():
    path = path / f"{path.resolve().name}_dataset_builder.py"
  if not path.is_file():
    raise FileNotFoundError(f"no dataset builder {path}")
  names = _DEFAULTS | {"WORKERS": os.cpu_count()} | runpy.run_path(str(path))
  for needed in ("NAME", "VERSION", "FIND"):
    if needed not in names:
      raise ValueError(f"{path}: does not define {needed}")
  return names


def build(
  folder,
  raw,
  data_dir,
  *,
  reader_options: dict | None = None,
  window_options: dict | None = None,
  name: str | None = None,
  workers: int | None = None,
  beam_flags: Sequence[str] | None = None,
) -> dict:
  """Build the data set that a dataset folder names.

  Args:
    folder: datasets/NAME_imu.
    raw: folder of raw recordings, None for a reader that needs none.
    data_dir: folder that holds data sets.
    reader_options, window_options: override the builder file's.
    name: of the data set, in place of the builder file's.
    workers: processes, in place of the builder file's.
    beam_flags: cut on an Apache Beam runner with these flags first.

  Returns:
    What `builder.build` returns.
  """
  spec = load(folder)
  if spec["NEEDS_RAW"] and raw is None:
    raise ValueError(f"{spec['NAME']} needs --raw, the folder of recordings")
  options = spec["OPTIONS"] | (reader_options or {})
  try:
    entries = spec["FIND"](raw, **options)
  except TypeError as error:
    if "unexpected keyword argument" not in str(error):
      raise
    raise ValueError(f"the reader of {spec['NAME']}: {error}") from error
  cut = windows.Options(**(spec["WINDOWS"] | (window_options or {})))
  about = spec["ABOUT"] | {"reader": _plain(options)}
  return builder.build(
    name or spec["NAME"],
    entries,
    data_dir,
    cut,
    version=spec["VERSION"],
    about=about,
    workers=spec["WORKERS"] if workers is None else workers,
    beam_flags=beam_flags,
  )


def _plain(options):
  return json.loads(json.dumps(options))


def table(summary: dict) -> str:
  """Return the windows kept and dropped by reason, a split a line."""
  counts = summary["windows"]
  others = {r for count in counts.values() for r in count} - {"kept"}
  reasons = ["kept", *sorted(others)]
  rows = [["split", *reasons]]
  for split, count in counts.items():
    rows.append([split, *(str(count.get(reason, 0)) for reason in reasons)])
  widths = [
    max(len(cell) for cell in column) for column in zip(*rows, strict=True)
  ]
  lines = [
    "  ".join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in rows
  ]
  empty = [split for split, count in counts.items() if not count["kept"]]
  lines += [f"left out split {split}: it has no window" for split in empty]
  for recording, error in summary["failed"].items():
    lines.append(f"left out {recording}: {error}")
  for recording, warnings in summary["warnings"].items():
    lines += [f"check {recording}: {warning}" for warning in warnings]
  lines += [
    f"sync {recording}: {_sync_line(found)}"
    for recording, found in summary.get("sync", {}).items()
  ]
  end = f"written to {summary['path']}"
  if summary["already_built"]:
    end = (
      f"already built, nothing was read: {summary['path']}; "
      "remove that folder to build anew"
    )
  return "\n".join([*lines, end])


def _sync_line(found):
  if "why" in found:
    return f"left as it is: {found['why']}"
  done = "corrected" if found["corrected"] else "left as it is, not certain"
  return (
    f"{done}: offset {found['offset_s']:+.3f} s, drift "
    f"{found['drift'] * 100:+.3f} %, confidence {found['confidence']:.2f}"
  )


def parser() -> argparse.ArgumentParser:
  """Return the verb's argument parser."""
  p = command.parser(
    "build",
    "Cut raw recordings into windows of IMU, frames and narrations.",
    "imu2clip build datasets/classyglass_imu --raw=classyglass "
    "--data_dir=data --with classes=all",
  )
  p.add_argument("folder", help="datasets/NAME_imu")
  p.add_argument("--raw", help="folder of the raw recordings")
  p.add_argument("--data_dir", required=True, help="folder to write into")
  p.add_argument("--name", help="name of the data set, if not the folder's")
  p.add_argument(
    "--with",
    dest="reader",
    metavar="KEY=VALUE",
    action="append",
    default=[],
    help="option of the reader; VALUE is true, false, JSON or a plain string",
  )
  group = p.add_argument_group("windows")
  for field in dataclasses.fields(windows.Options):
    kind = {"type": type(field.default)}
    if isinstance(field.default, bool):
      kind = {"action": argparse.BooleanOptionalAction}
    group.add_argument(
      f"--{field.name}",
      help=f"default {field.default}, or the folder's",
      **kind,
    )
  p.add_argument("--workers", type=int, help="processes; 0 uses this one")
  p.add_argument(
    "--beam",
    metavar="FLAGS",
    help="cut on an Apache Beam runner, e.g. '--runner=FlinkRunner ...'",
  )
  p.add_argument("--json", action="store_true", help="result as JSON on stdout")
  return p


def _reader_option(text, find):
  """Return (key, value) of one --with; `find`'s signature says what is meant.

  Raises:
    ValueError: it is not KEY=VALUE, or not what a bool or number needs.
  """
  key, equals, written = text.partition("=")
  if not equals or not key:
    raise ValueError(f"--with {text}: expected KEY=VALUE")
  try:
    value = json.loads(written)
  except json.JSONDecodeError:
    value = written
  option = inspect.signature(find).parameters.get(key)
  if option is None or (value is None and option.default is None):
    return key, value
  said = value if isinstance(value, str) else written
  named = (option.annotation, *typing.get_args(option.annotation))
  kinds = {type(option.default), *(typing.get_origin(k) or k for k in named)}
  if kinds & {list, tuple}:
    # One wearer or file, as it was written: "007" is no number.
    return key, value if isinstance(value, list) else [said]
  if bool in kinds:
    if said.lower() not in ("true", "false"):
      raise ValueError(f"--with {text}: expected {key}=true or {key}=false")
    return key, said.lower() == "true"
  if kinds & {int, float}:
    whole = float not in kinds
    if type(value) not in ((int,) if whole else (int, float)):
      number = "a whole number" if whole else "a number"
      raise ValueError(f"--with {text}: expected {number}")
    return key, value
  return key, said if str in kinds else value


def main(argv: Sequence[str] | None = None) -> int:
  """Run the verb."""
  args = parser().parse_args(argv)
  given = {
    field.name: getattr(args, field.name)
    for field in dataclasses.fields(windows.Options)
    if getattr(args, field.name) is not None
  }
  find = load(args.folder)["FIND"]
  summary = build(
    args.folder,
    args.raw,
    args.data_dir,
    reader_options=dict(_reader_option(text, find) for text in args.reader),
    window_options=given,
    name=args.name,
    workers=args.workers,
    beam_flags=None if args.beam is None else shlex.split(args.beam),
  )
  if args.json:
    command.print_json(summary)
  else:
    print(table(summary))
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
