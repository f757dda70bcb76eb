"""The training cache: one split of windows as memory-mapped columns.

A step reads windows and the frozen teacher's embeddings from here and touches
neither frames nor CLIP. `embed` writes it once for a data set, a teacher and an
IMU rate; `meta.json` is written last, so a folder without it is unfinished.

    DIR/meta.json                 what was embedded, by which teacher
    DIR/SPLIT/imu.npy             [N, T, 6] float32, m/s² and rad/s
    DIR/SPLIT/sensor_mask.npy     [N, 2] bool: accel, gyro measured?
    DIR/SPLIT/frame_embeddings.npy [N, D] float32 unit norm, 0 without frames
    DIR/SPLIT/has_frames.npy      [N] bool
    DIR/SPLIT/text_embeddings.npy [M, D] float32 unit norm, of distinct texts
    DIR/SPLIT/text_ids.npy        [N, K] int32 rows of the above, nearest the
                                  middle of the window first, padded with -1
    DIR/SPLIT/labels.npy          [N] int32 into meta's label_names, -1 if none
    DIR/SPLIT/start_s.npy         [N] float64 on the recording's clock
    DIR/SPLIT/rows.json           window, recording and wearer ids; the texts
    DIR/SPLIT/checksums.json      of every block of these files
"""

import dataclasses
import functools
import json
import pathlib

import numpy as np

COLUMNS = (
  "imu",
  "sensor_mask",
  "frame_embeddings",
  "has_frames",
  "text_embeddings",
  "text_ids",
  "labels",
  "start_s",
)


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of the cache; the module docstring gives every column's shape.

  Attributes:
    name: "train", "validation" or "test".
    meta: of the whole cache: dataset, teacher, rate_hz, window_s, label_names.
    columns: column name -> read-only memory-mapped array.
    window_ids, recording_ids, wearer_ids: one string a row.
    texts: the distinct texts, one a row of text_embeddings.
  """

  name: str
  meta: dict
  columns: dict
  window_ids: list[str]
  recording_ids: list[str]
  wearer_ids: list[str]
  texts: list[str]

  def __len__(self) -> int:
    return len(self.window_ids)

  def __getattr__(self, name):
    if name in COLUMNS:
      return self.columns[name]
    raise AttributeError(name)

  @property
  def label_names(self) -> list[str]:
    return self.meta["label_names"]

  @functools.cached_property
  def has_text(self) -> np.ndarray:
    """[N] bool: is there a narration?"""
    return self.columns["text_ids"][:, 0] >= 0

  @functools.cached_property
  def nearest_text_embeddings(self) -> np.ndarray:
    """[N, D] float32: the narration nearest the middle, 0 without one."""
    ids = self.columns["text_ids"][:, 0]
    if not len(self.texts):
      return np.zeros((len(self), self.meta["teacher"]["dim"]), np.float32)
    return np.where(
      ids[:, None] >= 0, self.columns["text_embeddings"][np.maximum(ids, 0)], 0
    ).astype(np.float32)


def read_meta(cache_dir) -> dict:
  """Read what a cache holds.

  Raises:
    FileNotFoundError: there is no finished cache; says how to make one.
  """
  path = pathlib.Path(cache_dir) / "meta.json"
  if not path.is_file():
    raise FileNotFoundError(
      f"no finished training cache in {cache_dir}; write one with "
      "`imu2clip embed --workdir=DIR`"
    )
  return json.loads(path.read_text())


def open_split(cache_dir, name: str) -> Split:
  """Open one split of a finished cache.

  Raises:
    FileNotFoundError: the cache is missing or unfinished.
    ValueError: no such split, the split is empty, or a column does not fit.
  """
  meta = read_meta(cache_dir)
  if name not in meta["splits"]:
    raise ValueError(
      f"{cache_dir} has no split {name!r}, only {', '.join(meta['splits'])}"
    )
  rows = meta["splits"][name]
  if rows == 0:
    raise ValueError(f"split {name!r} of {cache_dir} is empty")
  folder = pathlib.Path(cache_dir) / name
  strings = json.loads((folder / "rows.json").read_text())
  columns = {c: _open_column(folder / f"{c}.npy") for c in COLUMNS}
  for column, array in columns.items():
    want = len(strings["texts"]) if column == "text_embeddings" else rows
    if len(array) != want:
      raise ValueError(
        f"{folder / column}.npy has {len(array)} rows, expected {want}; "
        "delete the cache and run `imu2clip embed` again"
      )
  return Split(name, meta, columns, **strings)


def _open_column(path):
  # Unreadable columns are named: numpy's own messages give no file.
  try:
    return np.load(path, mmap_mode="r", allow_pickle=False)
  except (ValueError, OSError) as error:
    # An empty array cannot be mapped, and is no damage.
    try:
      array = np.load(path, allow_pickle=False)
    except (ValueError, OSError):
      raise ValueError(f"{path} is damaged: {error}") from error
    if array.size:
      raise ValueError(f"{path} is damaged: {error}") from error
    return array
