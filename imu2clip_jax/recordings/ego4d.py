"""Ego4D: IMU CSV, canonical video and narrations, of releases v1 and v2.

    ROOT/v2/ego4d.json
    ROOT/v2/imu/VIDEO_UID.csv
    ROOT/v2/video_540ss/VIDEO_UID.mp4 (or full_scale/)
    ROOT/v2/annotations/narration.json (or all_narrations_redacted.json)

The clock is the canonical video's. Rows come as stored, unsorted, with their
repeats and absurd stamps; only those without a canonical stamp, which lie
outside the canonical video, have no time and are left out. Cells without a
number are NaN. The CSV does not say which camera it was, so the axes' frame is
"device".
"""

import dataclasses
import functools
import math
import os
import pathlib
import warnings

import numpy as np

from imu2clip_jax.recordings import imu2clip_lists, parsing, splits
from imu2clip_jax.recordings.recording import Entry, Imu, Recording
from imu2clip_jax.recordings.video import VideoFile

_VIDEO_FOLDERS = ("video_540ss", "full_scale")  # the first is quicker to read
_NARRATIONS = ("narration.json", "all_narrations_redacted.json")
_TIME = "canonical_timestamp_ms"
_ACCEL = ("accl_x", "accl_y", "accl_z")
_GYRO = ("gyro_x", "gyro_y", "gyro_z")


def open_ego4d(
  path: str | os.PathLike,
  video: str | os.PathLike | None = None,
  texts: list[tuple[float, float, str]] | None = None,
  wearer_only: bool = True,
) -> Recording:
  """Open one recording by its IMU file.

  Only `find` reads ego4d.json and knows what is blacked out.

  Args:
    path: `imu/VIDEO_UID.csv`.
    video: its video; None looks for it in the tree around `path`, and goes
      without where there is none.
    texts: narrations; None reads them from the tree's annotations, if there are
      any (the file of all videos: seconds, and gigabytes of memory).
    wearer_only: of the tree's narrations keep those about the camera wearer,
      which contain "#c" in either case, as IMU2CLIP does.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a column is missing, a cell is no number, or no row has a time.
  """
  path = pathlib.Path(path)
  if video is None:
    video = _video(path)
  if texts is None:
    narrations = _narrations(path.parent.parent)
    said = read_narrations(narrations).get(path.stem, []) if narrations else []
    texts = _as_texts(said, wearer_only)
  return Recording(
    recording_id=path.stem,
    wearer_id="",
    imu=_read_imu(path),
    video=VideoFile(video, container_zero_s=0.0) if video else None,
    texts=texts,
  )


def is_imu_file(path: str | os.PathLike) -> bool:
  """Has a CSV the header of Ego4D's IMU files?"""
  with open(path, "rb") as file:
    return _TIME.encode() in file.readline(4096)


def imu_of(video: pathlib.Path) -> pathlib.Path | None:
  """Return the IMU file of a video that lies in a download, else None."""
  path = video.parent.parent / "imu" / f"{video.stem}.csv"
  inside = video.parent.name in _VIDEO_FOLDERS
  return path if inside and path.exists() else None


def find(
  root: str | os.PathLike,
  checkout: str | os.PathLike | None = None,
  fold: int = 0,
  wearer_only: bool = True,
) -> list[Entry]:
  """Find every video with an IMU file.

  Splits are by `fb_participant_id`; a video without one counts as a wearer of
  its own. A warning counts the IMU files that are passed over.

  Args:
    root: the download's folder, or its `v1` or `v2`; of both v2 is taken.
    checkout: a checkout of facebookresearch/imu2clip: take its splits (videos
      in none of them are left out; each video is then its own wearer, because
      these splits are by video), its labels, and leave out narrations whose
      published window is listed as bad; `Recording.dropped` counts those as
      "bad window".
    fold: which of the checkout's ten folds.
    wearer_only: see `open_ego4d`.

  Raises:
    FileNotFoundError: the tree, ego4d.json or the checkout is missing.
    ValueError: a file of the tree is damaged.
  """
  tree = _tree(pathlib.Path(root))
  about = _metadata(tree / "ego4d.json")
  listed = {p.stem: p for p in sorted((tree / "imu").glob("*.csv"))}
  listed.pop("manifest", None)  # the download's list of them
  paths = {uid: p for uid, p in listed.items() if uid in about}
  if not paths:
    raise FileNotFoundError(
      f"{tree / 'imu'}: holds no VIDEO_UID.csv of a video in ego4d.json"
    )
  narrations = _narrations(tree)
  said = read_narrations(narrations) if narrations else {}
  labels, bad = {}, set()
  if checkout is None:
    wearers = {uid: about[uid].wearer_id for uid in paths}
    split = splits.by_wearer(wearers.values())
    split = {uid: split[wearer] for uid, wearer in wearers.items()}
  else:
    split = imu2clip_lists.read_splits(checkout, fold)
    wearers = {uid: f"video_{uid}" for uid in paths}
    labels = imu2clip_lists.read_labels(checkout, fold)
    bad = imu2clip_lists.read_bad_windows(
      pathlib.Path(checkout) / "dataset/ego4d/bad_imu_windows_2.5.json"
    )
  entries = []
  for uid, path in paths.items():
    if uid not in split:
      continue
    texts = _as_texts(said.get(uid, []), wearer_only)
    usable = _without_bad(texts, uid, about[uid].duration_s, bad)
    opener = functools.partial(
      _open,
      path,
      usable,
      wearer_id=wearers[uid],
      labels=labels.get(uid, []),
      blacked_out=about[uid].redacted,
      dropped={"bad window": len(texts) - len(usable)},
    )
    files = (path, *_videos(path))
    entries.append(Entry(uid, wearers[uid], split[uid], opener, files))
  for count, where in (
    (len(listed) - len(paths), "ego4d.json"),
    (len(paths) - len(entries), f"fold {fold} of {checkout}"),
  ):
    if count:
      warnings.warn(
        f"{tree / 'imu'}: {count} of {len(listed)} IMU files are passed over, "
        f"which are not in {where}",
        stacklevel=2,
      )
  return entries


def _open(path, texts, **known):
  return dataclasses.replace(open_ego4d(path, texts=texts), **known)


def _tree(root):
  for tree in (root, root / "v2", root / "v1"):
    if (tree / "imu").is_dir():
      return tree
  raise FileNotFoundError(
    f"{root}: neither it nor its v2 or v1 holds a folder 'imu'"
  )


def _video(path):
  return next((video for video in _videos(path) if video.exists()), None)


def _videos(path):
  """Return where the video of an IMU file may lie."""
  tree = path.parent.parent
  return [tree / folder / f"{path.stem}.mp4" for folder in _VIDEO_FOLDERS]


def _narrations(tree):
  found = [tree / "annotations" / name for name in _NARRATIONS]
  return next((path for path in found if path.exists()), None)


def _read_imu(path):
  rows = parsing.matrix(path, (_TIME, *_GYRO, *_ACCEL))
  known = np.isfinite(rows[0])
  if not known.any():
    raise ValueError(f"{path}: no row has a {_TIME}")
  if not known.all():
    rows = rows[:, known]
  rows[0] /= 1e3
  t_s, gyro, accel = rows[0], rows[1:4].T, rows[4:].T
  for sensor, names in ((accel, _ACCEL), (gyro, _GYRO)):
    for i, j in ((0, 1), (1, 2), (0, 2)):
      a, b = sensor[:, i], sensor[:, j]
      # The first few rows differ in nearly every file.
      if _differ(a[:9], b[:9]) or _differ(a, b):
        continue
      if (a == b).sum() > 1:
        warnings.warn(
          f"{path}: {names[i]} and {names[j]} are equal in every row: "
          "an axis was lost",
          stacklevel=3,
        )
  return Imu(t_s, accel, t_s, gyro, "device")


def _differ(a, b):
  """Do two axes [M] differ in a row in which neither is missing?"""
  return ((a != b) & np.isfinite(a) & np.isfinite(b)).any()


@dataclasses.dataclass(frozen=True)
class _Video:
  wearer_id: str
  duration_s: float
  redacted: list[tuple[float, float]]


def _metadata(path) -> dict[str, _Video]:
  """Return video id -> what ego4d.json says about it."""
  about = parsing.read_json(path)
  found = {}
  try:
    for video in about["videos"]:
      wearer = video.get("fb_participant_id")
      length = (video.get("video_metadata") or {}).get("video_duration_sec")
      uid = video["video_uid"]
      redacted = video.get("redacted_intervals") or []
      found[uid] = _Video(
        f"video_{uid}" if wearer is None else f"participant_{wearer}",
        float(video["duration_sec"] if length is None else length),
        [(float(r["start_sec"]), float(r["end_sec"])) for r in redacted],
      )
  except (
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
  ) as error:
    raise ValueError(f"{path}: is not Ego4D's ego4d.json: {error!r}") from error
  return found


def read_narrations(
  path: str | os.PathLike,
) -> dict[str, list[tuple[float, str]]]:
  """Read the narrations of all videos, in either published schema.

  Args:
    path: narration.json ({uid: {"narration_pass_1": {"narrations": [...]}}}) or
      all_narrations_redacted.json ({"videos": {uid: {"narrations": [...]}}}).

  Returns:
    video id -> [(time_s, text)] in order of time; the same text at the same
    time in both passes is one. Narrations without a time or a text are left
    out.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file is damaged.
  """
  everything = parsing.read_json(path, _slim)
  found = {}
  try:
    if "videos" in everything:
      everything = everything["videos"]
    for uid, video in everything.items():
      said = set()
      for one in (
        video,
        video.get("narration_pass_1"),
        video.get("narration_pass_2"),
      ):
        listed = (one or {}).get("narrations") or []
        said.update(n for n in listed if isinstance(n, tuple))
      found[uid] = sorted(said)
  except (TypeError, AttributeError) as error:
    raise ValueError(f"{path}: is not Ego4D's narrations: {error}") from error
  return found


def _slim(thing: dict):
  """Turn the object of a narration into (time_s, text), or None."""
  for time, text in (("timestamp_sec", "narration_text"), ("time", "text")):
    if time in thing and text in thing:
      try:
        time_s = float(thing[time])
      except (TypeError, ValueError, OverflowError):
        return None
      usable = math.isfinite(time_s) and isinstance(thing[text], str)
      return (time_s, thing[text]) if usable else None
  return thing


def _as_texts(points, wearer_only):
  return [
    (time_s, time_s, text)
    for time_s, text in points
    if not wearer_only or "#c" in text.lower()
  ]


def _without_bad(texts, uid, duration_s, bad):
  """Leave out the narrations whose published window has no usable IMU."""
  return [
    text
    for text in texts
    if (uid, *(imu2clip_lists.published_window(text[0], duration_s) or ()))
    not in bad
  ]
