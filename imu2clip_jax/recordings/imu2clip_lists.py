"""The lists that IMU2CLIP was published with: splits, labels, bad windows.

They lie in a checkout of facebookresearch/imu2clip (CC BY-NC 4.0):
`splits/{training,validation,test}_FOLD.json` are lists of Ego4D video ids,
`splits/dataset_motion_narr_2.5_{...}_FOLD.csv` windows with one of four labels,
`dataset/ego4d/bad_imu_windows_2.5.json` windows without usable IMU. "2.5" is
half a window's width.
"""

import math
import os
import pathlib

from imu2clip_jax.recordings import parsing

HALF_WINDOW_S = 2.5
# The lists' name of a split -> ours.
_SPLITS = {"training": "train", "validation": "validation", "test": "test"}


def read_splits(checkout: str | os.PathLike, fold: int = 0) -> dict[str, str]:
  """Return video id -> "train", "validation" or "test" of one of ten folds.

  The folds split by video; a wearer with several videos may be in two splits.

  Raises:
    FileNotFoundError: the checkout or the fold is missing.
    ValueError: a list is damaged, or names a video of another split.
  """
  split_of = {}
  for name, split in _SPLITS.items():
    path = pathlib.Path(checkout) / "splits" / f"{name}_{fold}.json"
    for uid in _strings(path, parsing.read_json(path)):
      if split_of.setdefault(uid, split) != split:
        raise ValueError(
          f"{path}: video {uid} is also in split {split_of[uid]!r}"
        )
  return split_of


def _strings(path, value):
  if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
    raise ValueError(f"{path}: expected a list of video ids")
  return value


def read_labels(
  checkout: str | os.PathLike, fold: int = 0
) -> dict[str, list[tuple[float, float, str]]]:
  """Return video id -> [(start_s, end_s, label)] of the four motion classes.

  A window listed twice with one label is returned once; one with two labels
  keeps both, as it does in the lists.

  Raises:
    FileNotFoundError, ValueError: see `read_splits`.
  """
  found = {}
  for name in _SPLITS:
    path = pathlib.Path(checkout) / "splits"
    path /= f"dataset_motion_narr_2.5_{name}_{fold}.csv"
    columns = ("window_start", "window_end", "video_uid", "label")
    for row in parsing.rows(path, columns):
      start_s, end_s = (parsing.number(path, row, c) for c in columns[:2])
      window = (start_s, end_s, row["label"])
      windows = found.setdefault(row["video_uid"], [])
      if window not in windows:
        windows.append(window)
  return {uid: sorted(windows) for uid, windows in found.items()}


def read_bad_windows(path: str | os.PathLike) -> set[tuple[str, float, float]]:
  """Return {(video id, start_s, end_s)} of windows without usable IMU.

  Numbers are compared as numbers: the published lists hold 720 in one file and
  720.0 in the other, and the published code, which compares text, misses those.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is no list of [id, start, end].
  """
  found = set()
  entries = parsing.read_json(path)
  if not isinstance(entries, list):
    raise ValueError(f"{path}: expected a list of [video id, start, end]")
  for entry in entries:
    try:
      uid, start_s, end_s = entry
      found.add((str(uid), float(start_s), float(end_s)))
    except (TypeError, ValueError, OverflowError) as error:
      raise ValueError(
        f"{path}: expected [video id, start, end], found {str(entry)[:60]}"
      ) from error
  return found


def published_window(
  time_s: float, duration_s: float
) -> tuple[float, float] | None:
  """Return the window that the published code cuts for a narration.

  Half a window to either side; within one whole window of the video's start or
  end, the first or last one; then both ends are rounded down.

  Returns:
    (start_s, end_s), or None where the video is too short.

  >>> published_window(100.7, 600.0), published_window(4.9, 600.0)
  ((98.0, 103.0), (0.0, 5.0))
  >>> published_window(596.0, 600.5), published_window(9.0, 4.0)
  ((595.0, 600.0), None)
  """
  width_s = 2 * HALF_WINDOW_S
  if time_s <= width_s:
    start_s, end_s = 0.0, width_s
  elif time_s + width_s >= duration_s:
    start_s, end_s = duration_s - width_s, duration_s
  else:
    start_s, end_s = time_s - HALF_WINDOW_S, time_s + HALF_WINDOW_S
  start_s, end_s = float(math.floor(start_s)), float(math.floor(end_s))
  if start_s < 0 or end_s > duration_s:
    return None
  return start_s, end_s
