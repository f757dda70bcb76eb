"""Open one recording, whatever its source: the file's name tells the reader."""

import dataclasses
import pathlib

from imu2clip_jax.recordings import classyglass, csv_folder, parsing
from imu2clip_jax.recordings.recording import Recording
from imu2clip_jax.recordings.video import VideoFile


def open_recording(path, video=None, texts=None) -> Recording:
  """Open one recording.

  Args:
    path: its IMU file. `.csv` and `.npz` are read as `csv_folder` says, with
      the tables that lie beside them; a `.csv` named as ClassyGlass names its
      files, as `classyglass` says.
    video: its video file, in place of what the source names; the IMU's zero is
      its first frame.
    texts: its narrations, in place of the source's own: a list of
      (start_s, end_s, text), or a CSV with columns start_s, end_s, text.

  Returns:
    Every sample as stored, in SI units, with video and texts on one clock.

  Raises:
    FileNotFoundError: `path`, `video` or `texts` does not exist.
    ValueError: no reader knows the file, or it is damaged.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"no file or folder {path}")
  if isinstance(texts, str | pathlib.Path):
    texts = read_texts(texts)
  if classyglass.is_upstream_file(path):
    return _with(classyglass.open_file(path), video, texts)
  if path.suffix.lower() in (".csv", ".npz"):
    return csv_folder.open_file(path, video, texts)
  raise ValueError(f"{path}: no reader knows this kind of recording")


def _with(recording, video, texts):
  """Replace the video and the texts of a recording where others are given."""
  if video is not None:
    recording = dataclasses.replace(recording, video=VideoFile(video))
  if texts is not None:
    recording = dataclasses.replace(recording, texts=list(texts))
  return recording


def read_texts(path) -> list[tuple[float, float, str]]:
  """Read narrations: a CSV with start_s, end_s (may be empty) and text.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a column is missing or a time is no number.
  """
  texts = []
  for row in parsing.rows(path, ["start_s", "text"]):
    start_s = parsing.number(path, row, "start_s")
    end_s = parsing.number(path, row, "end_s") if row.get("end_s") else start_s
    texts.append((start_s, end_s, row["text"]))
  return texts
