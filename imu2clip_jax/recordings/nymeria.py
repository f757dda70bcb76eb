"""Nymeria: Project Aria glasses with written narrations.

    ROOT/SEQUENCE/recording_head/data/data.vrs     images
    ROOT/SEQUENCE/recording_head/data/motion.vrs   IMU
    ROOT/SEQUENCE/narration/atomic_action.csv      rows of about 5 s
    ROOT/SEQUENCE/narration/motion_narration.csv
    ROOT/SEQUENCE/narration/activity_summarization.csv

Either VRS may be left out of a download; without images the clock begins at the
first IMU sample. Narrations are timed in seconds of the glasses' device clock.
"""

import functools
import os
import pathlib
import re
from collections.abc import Sequence

from imu2clip_jax.recordings import aria, parsing, splits
from imu2clip_jax.recordings.recording import Entry, Recording

# File of narrations -> the columns that hold its texts.
NARRATIONS = {
  "atomic_action": ("Describe my atomic actions",),
  "motion_narration": (
    "Describe my body posture",
    "Describe my hands/arms motion",
    "Describe my legs/feet motion",
    "Describe my focus attention",
  ),
  "activity_summarization": ("Describe my activity",),
}
_DATA = pathlib.Path("recording_head", "data")
_MOTION, _IMAGES = _DATA / "motion.vrs", _DATA / "data.vrs"


def open_nymeria(
  path: str | os.PathLike,
  imu: str = "imu-left",
  narrations: Sequence[str] = ("atomic_action",),
) -> Recording:
  """Open one sequence.

  Args:
    path: folder of the sequence.
    imu: "imu-left" or "imu-right" of the glasses.
    narrations: which of `NARRATIONS` to read; files that are absent are
      skipped.

  Returns:
    A recording in the frame "aria_cpf"; zero is the first RGB frame.

  Raises:
    FileNotFoundError: there is no motion.vrs.
    ValueError: projectaria-tools is missing, a file is damaged, or
      `narrations` names an unknown file.
  """
  path = pathlib.Path(path)
  motion = aria.Vrs(path / _MOTION)
  images = path / _IMAGES
  images = aria.Vrs(images) if images.exists() else motion
  sensors, video, zero_ns, _ = aria.assemble(images, motion, imu)
  texts = [
    (start_s - zero_ns / 1e9, end_s - zero_ns / 1e9, text)
    for name in narrations
    for start_s, end_s, text in _read(path, name)
  ]
  return Recording(path.name, wearer(path.name), sensors, video, sorted(texts))


def is_sequence(path: str | os.PathLike) -> bool:
  """Has a folder the layout of a sequence?"""
  return (pathlib.Path(path) / _DATA).is_dir()


def find(
  root: str | os.PathLike,
  imu: str = "imu-left",
  narrations: Sequence[str] = ("atomic_action",),
) -> list[Entry]:
  """Find the sequences of a folder that have motion.vrs; split by wearer.

  Args:
    root: folder of sequences.
    imu, narrations: see `open_nymeria`.

  Raises:
    FileNotFoundError: there is no sequence.
  """
  found = sorted(pathlib.Path(root).glob(f"*/{_MOTION}"))
  if not found:
    raise FileNotFoundError(f"{root}: holds no SEQUENCE/{_MOTION}")
  sequences = [path.parents[2] for path in found]
  split = splits.by_wearer(wearer(path.name) for path in sequences)
  return [
    Entry(
      path.name,
      wearer(path.name),
      split[wearer(path.name)],
      functools.partial(open_nymeria, path, imu, tuple(narrations)),
      (
        path / _MOTION,
        path / _IMAGES,
        *(_narrations(path, name) for name in narrations),
      ),
    )
    for path in sequences
  ]


def wearer(sequence: str) -> str:
  """Return the made-up person in a sequence's name.

  >>> wearer("20230607_s0_james_johnson_act0_e72nhq")
  'james_johnson'
  >>> wearer("another name")
  'another name'
  """
  match = re.fullmatch(r"\d{8}_s\d+_(.+)_act\d+_\w+", sequence)
  return match[1] if match else sequence


def _narrations(path, name):
  return path / "narration" / f"{name}.csv"


def _read(path, name):
  """Return [(start_s, end_s, text)] in device time of one narration file."""
  if name not in NARRATIONS:
    raise ValueError(
      f"narrations name {name!r}, expected some of {', '.join(NARRATIONS)}"
    )
  path = _narrations(path, name)
  if not path.exists():
    return []
  found = []
  for row in parsing.rows(path, ("start_time", "end_time", *NARRATIONS[name])):
    if not row["start_time"].strip() or not row["end_time"].strip():
      continue  # rows without any content are in the published files
    start_s = parsing.number(path, row, "start_time")
    end_s = parsing.number(path, row, "end_time")
    texts = [row[column].strip() for column in NARRATIONS[name]]
    if end_s >= start_s:  # some end before they start
      found += [(start_s, end_s, text) for text in texts if text]
  return found
