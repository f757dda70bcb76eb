"""Embeddings of the windows of many recordings, on disk and searchable.

    FOLDER/index.json                    whose embeddings these are
    FOLDER/segments/NUMBER-KEY/          what one `append` wrote
        embeddings.npy                   [N, D] float32, unit norm
        start_s.npy, end_s.npy           [N] float64 on the recording's clock
        recording.npy                    [N] int32 into about.json's recordings
        about.json                       recordings, and what the caller adds

A segment gets its name when it is whole, and is never changed. The columns are
memory-mapped; a search reads them once, block by block, and is exact: with BLAS
a million windows of 512 numbers take less than a tenth of a second, so nothing
approximate is kept.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from imu2clip_jax import command, trees

_FORMAT = 1
_COLUMNS = ("embeddings", "start_s", "end_s", "recording")
# Scores held at once: 16 MiB, which the processor's cache takes best.
_BLOCK_ROWS, _BLOCK_QUERIES = 32_768, 128
_NAME = "{:06d}-{}"


def fingerprint(encoder) -> str:
  """Return a hex sha256 of all that an embedding depends on beside its input.

  Args:
    encoder: what `load_imu_encoder` returns.
  """
  stated = [repr(encoder.encoder), encoder.window_s]
  digest = hashlib.sha256(repr(stated).encode())
  for name, leaf in sorted(trees.flatten(encoder.params).items()):
    leaf = np.ascontiguousarray(leaf)
    digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
    digest.update(leaf.tobytes())
  return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Segment:
  """The windows of one `append`; the module docstring gives the shapes.

  Attributes:
    key: what the caller named it.
    about: the caller's facts; "recordings" is a list of dicts.
    first: row of its first window in this opened index.
    path: its folder.
  """

  key: str
  about: dict
  first: int
  path: pathlib.Path
  embeddings: np.ndarray
  start_s: np.ndarray
  end_s: np.ndarray
  recording: np.ndarray

  def __len__(self) -> int:
    return len(self.start_s)


@dataclasses.dataclass(frozen=True)
class Hits:
  """What a search found.

  Attributes:
    rows: [Q, K] windows, the best first; equal scores in order of rows.
    scores: [Q, K] float32 inner products.
    mean: [Q] the mean score over all that was searched.
    searched: number of windows that was.
  """

  rows: np.ndarray
  scores: np.ndarray
  mean: np.ndarray
  searched: int


class Index:
  """An index in a folder, of one encoder towards one teacher.

  Attributes:
    segments: list of `Segment`, in the order in which they were appended.
  """

  def __init__(self, folder, encoder: str, teacher: str, dim: int):
    """Open an index; a folder that is not there is an empty one.

    Args:
      folder: where it is, or is to be.
      encoder: `fingerprint` of the encoder.
      teacher: fingerprint of the frozen CLIP whose space this is.
      dim: D, the width of the embeddings.

    Raises:
      ValueError: it holds another encoder's embeddings, or it is damaged.
    """
    self.folder = pathlib.Path(folder)
    self._identity = {
      "format": _FORMAT,
      "encoder": encoder,
      "teacher": teacher,
      "dim": dim,
    }
    self.segments: list[Segment] = []
    if (self.folder / "index.json").is_file():
      self._check(_read_json(self.folder / "index.json"))
      for path in self._paths("*"):
        if not self.find(path.name.split("-", 1)[1]):
          self._open(path)

  def _paths(self, key):
    return sorted((self.folder / "segments").glob(f"[0-9]*-{key}"))

  def _check(self, found):
    for name, want in self._identity.items():
      if found.get(name) != want:
        raise ValueError(
          f"{self.folder} holds embeddings of {name} {found.get(name)!r}, not "
          f"{want!r}: embeddings of two encoders cannot be compared; use "
          "another folder, or delete this one"
        )

  def _open(self, path):
    about = _read_json(path / "about.json")
    columns = {}
    for name in _COLUMNS:
      try:
        mode = "r" if about["windows"] else None  # nothing cannot be mapped
        columns[name] = np.load(
          path / f"{name}.npy", mmap_mode=mode, allow_pickle=False
        )
      except (ValueError, OSError, EOFError) as error:
        raise ValueError(
          f"{path / name}.npy is damaged: {error}; delete {path}"
        ) from error
    shapes = {name: column.shape for name, column in columns.items()}
    rows = (about["windows"],)
    want = dict.fromkeys(_COLUMNS, rows) | {
      "embeddings": (*rows, self._identity["dim"])
    }
    if shapes != want:
      raise ValueError(
        f"{path} is damaged: its columns are {shapes}, expected {want}; "
        "delete it"
      )
    self.segments.append(
      Segment(about["key"], about, len(self), path, **columns)
    )

  def __len__(self) -> int:
    return sum(map(len, self.segments))

  def find(self, key: str) -> Segment | None:
    """Return the segment of this key, or None."""
    return next((s for s in self.segments if s.key == key), None)

  def locate(self, row: int) -> tuple[Segment, int]:
    """Return the segment of a window and its row in there."""
    for segment in self.segments:
      if segment.first <= row < segment.first + len(segment):
        return segment, row - segment.first
    raise IndexError(f"row {row} of {len(self)}")

  def append(
    self,
    key: str,
    embeddings: np.ndarray,
    start_s: np.ndarray,
    end_s: np.ndarray,
    recording: np.ndarray,
    recordings: Sequence[dict],
    about: dict | None = None,
  ) -> Segment:
    """Add windows; what is there already is not touched.

    Where another process has added this key since, its windows are taken.

    Args:
      key: letters and digits that name these windows.
      embeddings: [N, D] unit norm.
      start_s, end_s: [N] on the recording's clock.
      recording: [N] int into `recordings`.
      recordings: {"recording_id": ...} each, JSON-able.
      about: further JSON-able facts.

    Raises:
      ValueError: shapes that do not fit, a value that is not finite, or a key
        that is taken or holds other signs.
    """
    columns = {
      "embeddings": np.asarray(embeddings, np.float32),
      "start_s": np.asarray(start_s, np.float64),
      "end_s": np.asarray(end_s, np.float64),
      "recording": np.asarray(recording, np.int32),
    }
    self._check_columns(key, columns, len(recordings))
    about = {
      **(about or {}),
      "key": key,
      "windows": len(columns["start_s"]),
      "recordings": list(recordings),
    }
    (self.folder / "segments").mkdir(parents=True, exist_ok=True)
    if not (self.folder / "index.json").is_file():
      command.write_text(
        self.folder / "index.json", json.dumps(self._identity, indent=2) + "\n"
      )
    number = 1 + max(
      [int(s.path.name.split("-")[0]) for s in self.segments], default=-1
    )
    path = self.folder / "segments" / _NAME.format(number, key)
    temporary = _hidden(path)
    temporary.mkdir()
    try:
      for name, column in columns.items():
        np.save(temporary / f"{name}.npy", column)
      command.write_text(temporary / "about.json", json.dumps(about, indent=2))
      if written := self._paths(key):  # by another process, meanwhile
        path = written[0]
      else:
        os.rename(temporary, path)
    finally:
      shutil.rmtree(temporary, ignore_errors=True)
    self._open(path)
    return self.segments[-1]

  def _check_columns(self, key, columns, recordings):
    if not key.isalnum() or self.find(key):
      raise ValueError(f"key {key!r} is taken, or not of letters and digits")
    rows, dim = len(columns["start_s"]), self._identity["dim"]
    for name, column in columns.items():
      want = (rows, dim) if name == "embeddings" else (rows,)
      if column.shape != want:
        raise ValueError(
          f"{name} must be {list(want)}, got {list(column.shape)}"
        )
      if not np.isfinite(column).all():
        raise ValueError(f"{name} holds NaN or infinity")
    places = columns["recording"]
    if rows and not (places.min() >= 0 and places.max() < recordings):
      raise ValueError(f"recording must be 0 .. {recordings - 1}")

  def remove(self, key: str) -> None:
    """Delete a segment; the rows behind it move up.

    Raises:
      KeyError: there is none of this key.
    """
    segment = self.find(key)
    if segment is None:
      raise KeyError(key)
    hidden = _hidden(segment.path)
    os.rename(segment.path, hidden)
    shutil.rmtree(hidden)
    kept, self.segments = [s for s in self.segments if s is not segment], []
    for other in kept:
      self.segments.append(dataclasses.replace(other, first=len(self)))

  def search(
    self,
    queries: np.ndarray,
    top: int,
    *,
    keys: Collection[str] | None = None,
    keep: np.ndarray | None = None,
  ) -> Hits:
    """Find the windows with the largest inner product, exactly.

    Beside the columns this holds 16 MiB of scores, whatever the sizes.

    Args:
      queries: [Q, D].
      top: windows wanted for a query.
      keys: search these segments only; None searches all.
      keep: [rows of the index] bool, search these windows only.

    Returns:
      `Hits` with K = min(top, windows searched).

    Raises:
      ValueError: the queries do not fit, or nothing is there to be searched.
    """
    queries = np.asarray(queries, np.float32)
    dim = self._identity["dim"]
    if queries.ndim != 2 or queries.shape[1] != dim:
      raise ValueError(f"queries must be [Q, {dim}], got {queries.shape}")
    if not np.isfinite(queries).all():
      raise ValueError("a query holds NaN or infinity")
    if top < 1:
      raise ValueError(f"top is {top}, expected 1 or more")
    searched = sum(
      len(block) if kept is None else int(kept.sum())
      for _, block, kept in self._blocks(keys, keep)
    )
    if not searched:
      raise ValueError(f"{self.folder} holds no window to search")
    top = min(top, searched)
    parts = [
      self._search(queries[i : i + _BLOCK_QUERIES], top, keys, keep)
      for i in range(0, len(queries), _BLOCK_QUERIES)
    ]
    if not parts:
      empty = np.zeros((0, top))
      return Hits(empty.astype(np.int64), empty, np.zeros(0), searched)
    rows, scores, total = (np.concatenate(x) for x in zip(*parts, strict=True))
    return Hits(rows, scores, total / searched, searched)

  def _blocks(self, keys, keep) -> Iterator:
    """Yield (first row, embeddings, which of them to keep or None)."""
    for segment in self.segments:
      if keys is not None and segment.key not in keys:
        continue
      for start in range(0, len(segment), _BLOCK_ROWS):
        block = segment.embeddings[start : start + _BLOCK_ROWS]
        first = segment.first + start
        kept = None if keep is None else keep[first : first + len(block)]
        yield first, np.asarray(block), kept

  def _search(self, queries, top, keys, keep):
    best = [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
    total = np.zeros(len(queries))
    for first, block, kept in self._blocks(keys, keep):
      scores = queries @ block.T
      total += scores.sum(1, dtype=np.float64, where=_all_or(kept))
      if kept is not None:
        scores[:, ~kept] = -np.inf
      best = [
        _better(*found, first, row, top)
        for found, row in zip(best, scores, strict=True)
      ]
    rows, scores = zip(*best, strict=True)
    return np.stack(rows), np.stack(scores), total


def _hidden(path):
  """Return a free name beside a segment's that no reader takes for one."""
  hidden = path.with_name(f".{path.name}.tmp{os.getpid()}")
  if hidden.exists():
    shutil.rmtree(hidden)  # left by a killed process that had our number
  return hidden


def _all_or(kept):
  return True if kept is None else kept[None, :]


def _better(rows, scores, first, new, top):
  """Merge the best so far with a block's scores, both cut to `top`.

  Of equal scores the earlier row wins, whatever the size of blocks.
  """
  if len(rows) == top:
    # A later row must be strictly better than the last one.
    found = np.flatnonzero(new > scores[-1])
  elif len(new) > top:
    found = np.flatnonzero(new >= np.partition(new, -top)[-top])
  else:
    found = np.arange(len(new))
  found = found[np.isfinite(new[found])]
  rows = np.concatenate([rows, first + found])
  scores = np.concatenate([scores, new[found]])
  order = np.lexsort((rows, -scores))[:top]
  return rows[order], scores[order]


def _read_json(path):
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{path} is damaged: {error}; delete {path.parent}"
    ) from error
