"""Bring your own data: one folder, a CSV or npz a recording, small tables.

    FOLDER/recordings.csv  file,wearer[,split][,label][,video][,video_start_s]
    FOLDER/dataset.json    columns, units and axes of the files (optional)
    FOLDER/segments.csv    file,start_s,end_s,label                (optional)
    FOLDER/texts.csv       file,start_s,end_s,text                 (optional)
    FOLDER/…               the files that recordings.csv names

datasets/csv_imu/README.md shows a complete example; `csv_layout` says what
dataset.json may hold.
"""

import functools
import pathlib

import numpy as np

from imu2clip_jax import imu
from imu2clip_jax.recordings import csv_layout, parsing, splits, video
from imu2clip_jax.recordings import recording as recording_lib

# Slower or faster than this, the time unit must be wrong.
_RATES_HZ = (1.0, 20_000.0)


def find(
  root,
  *,
  validation_wearers: list | None = None,
  test_wearers: list | None = None,
  labels_as_texts: bool = False,
) -> list[recording_lib.Entry]:
  """List the recordings that FOLDER/recordings.csv names.

  Args:
    root: the folder.
    validation_wearers, test_wearers: splits by wearer, in place of the column
      "split". Where neither says anything, `splits.by_wearer` deals.
    labels_as_texts: let every labelled segment also be a narration.

  Returns:
    The entries; a row of split "none" is left out.

  Raises:
    FileNotFoundError: the folder, recordings.csv or a file it names is missing.
    ValueError: a table or dataset.json says what makes no sense.
  """
  root = pathlib.Path(root)
  table = root / "recordings.csv"
  if not table.is_file():
    raise FileNotFoundError(f"no recordings.csv in the folder {root}")
  layout = csv_layout.load(root)
  rows = parsing.rows(table, ["file", "wearer"])
  if not rows:
    raise ValueError(f"{table}: lists no recording")
  segments = _by_file(root / "segments.csv", "label", rows)
  texts = _by_file(root / "texts.csv", "text", rows)
  chosen = _splits(table, rows, validation_wearers, test_wearers)
  entries = []
  for row, split in zip(rows, chosen, strict=True):
    if split == "none":
      continue
    options = _from_row(table, row) | {
      "segments": segments.get(row["file"], []),
      "texts": texts.get(row["file"], []),
      "labels_as_texts": labels_as_texts,
    }
    path, video_path = _named(table, row, "file"), options.get("video_path")
    opener = functools.partial(read, path, layout, **options)
    entries.append(
      recording_lib.Entry(
        options["recording_id"],
        options["wearer_id"],
        split,
        opener,
        (path, video_path) if video_path else (path,),
      )
    )
  return entries


def open_file(path, video_path=None, texts=None) -> recording_lib.Recording:
  """Open one CSV or npz of a folder, with what the tables say about it.

  Args:
    path: the file. The tables are those of the nearest folder above it that has
      a recordings.csv, dataset.json too, unless one lies beside a file that
      recordings.csv does not list.
    video_path: its video, in place of the one that recordings.csv names.
    texts: list of (start_s, end_s, text) on the file's clock, in place of those
      in texts.csv.

  Raises:
    FileNotFoundError, ValueError: as `find` and `read`.
  """
  path = pathlib.Path(path)
  above = path.absolute().parents
  root = next((f for f in above if (f / "recordings.csv").is_file()), above[0])
  home, options = path.parent, {"recording_id": path.stem, "wearer_id": ""}
  if (root / "recordings.csv").is_file():
    table, name = root / "recordings.csv", path.absolute().relative_to(root)
    rows = parsing.rows(table, ["file", "wearer"])
    segments = _by_file(root / "segments.csv", "label", rows)
    narrations = _by_file(root / "texts.csv", "text", rows)
    for row in rows:
      if pathlib.PurePosixPath(row["file"]) == name:
        home = root
        options = _from_row(table, row) | {
          "segments": segments[row["file"]] if segments else [],
          "texts": narrations[row["file"]] if narrations else [],
        }
  if video_path is not None:
    options["video_path"] = pathlib.Path(video_path)
  if texts is not None:
    options["texts"] = texts
  layout = csv_layout.load(home) or csv_layout.load(root)
  return read(path, layout, **options)


def _from_row(table, row):
  """Return the options of `read` that a row of recordings.csv holds."""
  file = pathlib.PurePosixPath(row["file"])
  options = {
    "recording_id": str(file.with_suffix("")),
    "wearer_id": row["wearer"],
    "label": row.get("label", ""),
  }
  if row.get("video"):
    options["video_path"] = _named(table, row, "video")
  if row.get("video_start_s"):
    options["video_start_s"] = parsing.number(table, row, "video_start_s")
  return options


def _named(table, row, column):
  path = table.parent / row[column]
  if not row[column] or not path.is_file():
    raise FileNotFoundError(f"{table} names a {column} {path}: no such file")
  return path


def _splits(table, rows, validation, test):
  """Return the split of every row."""
  wearers = [row["wearer"] for row in rows]
  if validation is None and test is None:
    named = [row.get("split") or "" for row in rows]
    if not any(named):
      dealt = splits.by_wearer(wearers)
      return [dealt[wearer] for wearer in wearers]
    if not all(named):
      file = rows[named.index("")]["file"]
      raise ValueError(f"{table}: {file} has no split, other files have one")
    return named
  held = {str(w): "validation" for w in validation or []}
  held |= {str(w): "test" for w in test or []}
  for wearer in set(held) - set(wearers):
    raise ValueError(f"{table}: there is no wearer {wearer!r}")
  return [held.get(wearer, "train") for wearer in wearers]


def _by_file(path, column, rows):
  """Return file -> [(start_s, end_s, text)] of segments.csv or texts.csv."""
  if not path.is_file():
    return {}
  found = {row["file"]: [] for row in rows}
  for row in parsing.rows(path, ["file", "start_s", column]):
    if row["file"] not in found:
      raise ValueError(f"{path}: recordings.csv lists no file {row['file']!r}")
    start_s = parsing.number(path, row, "start_s")
    end_s = start_s
    if row.get("end_s"):
      end_s = parsing.number(path, row, "end_s")
    if end_s < start_s:
      raise ValueError(
        f"{path}: {row['file']} has a row that ends at {end_s:g} s, before "
        f"its start at {start_s:g} s"
      )
    found[row["file"]].append((start_s, end_s, row[column]))
  return found


def read(
  path: pathlib.Path,
  layout: dict | None,
  *,
  recording_id: str,
  wearer_id: str,
  label: str = "",
  segments: list = (),
  texts: list = (),
  video_path: pathlib.Path | None = None,
  video_start_s: float = 0.0,
  labels_as_texts: bool = False,
) -> recording_lib.Recording:
  """Read one recording.

  Args:
    path: CSV or npz file.
    layout: what `csv_layout.load` returns.
    recording_id, wearer_id: names.
    label: one label for the whole file.
    segments: (start_s, end_s, label) on the file's clock.
    texts: (start_s, end_s, text) on the file's clock.
    video_path: its video, or None.
    video_start_s: the first frame on the file's clock.
    labels_as_texts: let every labelled segment also be a narration.

  Returns:
    The recording; its clock starts at the first frame, or at the first sample.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a column or array is missing or of the wrong shape, stamps give
      an impossible rate, or labels come from more than one place.
  """
  layout = csv_layout.for_file(layout, path)
  columns = _columns(path, layout)
  accel_t_s, accel = _sensor(path, columns, layout, "accel", imu.accel_to_si)
  gyro_t_s, gyro = _sensor(path, columns, layout, "gyro", imu.gyro_to_si)
  stamps = np.concatenate([accel_t_s, gyro_t_s])
  stamps = stamps[np.isfinite(stamps)]
  if not stamps.size:
    raise ValueError(f"{path}: holds no sample with a time")
  labels = list(segments)
  if label:
    labels.append((stamps.min(), stamps.max(), label))
  if "label_column" in layout:
    names = columns[layout["label_column"]].astype(str)
    times_s = accel_t_s if len(accel_t_s) else gyro_t_s
    if len(names) != len(times_s):
      raise ValueError(f"{path}: {len(names)} labels, {len(times_s)} samples")
    labels += _runs(times_s, names, layout["no_label"])
  if sum([bool(segments), "label_column" in layout, bool(label)]) > 1:
    raise ValueError(
      f"{path}: has labels in more than one of recordings.csv, segments.csv "
      "and its own label column"
    )
  zero_s = video_start_s if video_path else stamps.min()
  texts = [*texts, *(labels if labels_as_texts else [])]
  return recording_lib.Recording(
    recording_id,
    wearer_id,
    recording_lib.Imu(
      accel_t_s - zero_s, accel, gyro_t_s - zero_s, gyro, layout["frame"]
    ),
    video.VideoFile(video_path) if video_path else None,
    [(a - zero_s, b - zero_s, text) for a, b, text in texts],
    [(a - zero_s, b - zero_s, text) for a, b, text in labels],
    told_by_imu=True,
  )


def _columns(path, layout):
  """Return the arrays that the layout names, by name."""
  sensors = [layout[s] for s in csv_layout.SENSORS if s in layout]
  names = [n for sensor in sensors for n in sensor["columns"]]
  names += [s["time"]["column"] for s in sensors if "column" in s["time"]]
  names = list(dict.fromkeys(names))
  label = [layout["label_column"]] if "label_column" in layout else []
  if path.suffix.lower() == ".npz":
    return parsing.arrays(path, [*names, *label])
  return parsing.numbers(path, names, label, layout["delimiter"])


def _sensor(path, columns, layout, sensor, to_si):
  """Return (times_s [N], values [N, 3] in SI units) of a sensor."""
  if sensor not in layout:
    return np.zeros(0), np.zeros((0, 3))
  names, time = layout[sensor]["columns"], layout[sensor]["time"]
  values = [columns[name] for name in names]
  if len({v.shape for v in values}) > 1:
    raise ValueError(f"{path}: {', '.join(names)} differ in shape")
  values = np.stack(values, axis=-1) if len(names) == 3 else values[0]
  count = values.shape[0] if values.ndim else 0
  _check(path, f"{sensor} ({', '.join(names)})", values, (count, 3))
  values = to_si(values, layout[sensor]["unit"])
  if time["unit"] == "none":
    return np.arange(count) / time["rate_hz"], values
  stamps = columns[time["column"]]
  _check(path, time["column"], stamps, (count,))
  times_s = stamps * csv_layout.TIME_UNITS[time["unit"]]
  steps = np.diff(np.sort(times_s[np.isfinite(times_s)]))
  step_s = np.median(steps[steps > 0]) if (steps > 0).any() else 0.0
  if step_s and not _RATES_HZ[0] <= 1 / step_s <= _RATES_HZ[1]:
    raise ValueError(
      f"{path}: samples are {step_s:g} s apart; is {time['column']!r} really "
      f"in {time['unit']}?"
    )
  return times_s, values


def _check(path, what, array, shape):
  if array.shape != shape or array.dtype.kind not in "fiu":
    raise ValueError(
      f"{path}: {what} must be numbers {list(shape)}, got {array.dtype.name} "
      f"{list(array.shape)}"
    )


def _runs(times_s, names, no_label):
  """Return (start_s, end_s, label) of equal neighbours up to the next one."""
  timed = np.flatnonzero(np.isfinite(times_s))
  timed = timed[np.argsort(times_s[timed], kind="stable")]
  times_s, names = times_s[timed], names[timed]
  first = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
  ends = np.r_[times_s[first[1:]], times_s[-1:]]
  return [
    (float(times_s[i]), float(end), str(names[i]))
    for i, end in zip(first, ends, strict=True)
    if names[i] not in no_label
  ]
