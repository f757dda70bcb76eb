"""Recordings cut one by one, here or in other processes, each into a file.

A part is the windows of one recording as a `.npz` of columns. It is how a
worker hands its result over, what a build that was killed goes on from, and
what machines that share a folder may write for each other.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import pathlib
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import process

import numpy as np
import tqdm

from imu2clip_jax.data import sync, windows
from imu2clip_jax.recordings import folders
from imu2clip_jax.recordings import recording as recording_lib

SPLITS = ("train", "validation", "test")
_ARRAYS = ("start_s", "end_s", "imu", "sensor_mask", "coverage")
_STRINGS = ("window_id", "recording_id", "wearer_id", "texts", "label")


class EmptySplitError(ValueError):
  """No recording of a split gave a window; `split` names it."""

  def __init__(self, split: str, why: str):
    super().__init__(why)
    self.split = split


class Cutter:
  """Cuts all recordings, split by split, and keeps count.

  Attributes:
    splits: the splits that have recordings.
    labels: every label met so far.
    digest: sha256 of all windows met so far.
    report: what it is given, filled in; see `empty_report`.
  """

  def __init__(
    self,
    entries: list[recording_lib.Entry],
    options: windows.Options,
    workers: int,
    folder: pathlib.Path,
    report: dict,
  ):
    self.splits = [s for s in SPLITS if any(e.split == s for e in entries)]
    self.labels = set()
    self.digest = hashlib.sha256()
    self.report = report
    self._entries = sorted(entries, key=lambda e: SPLITS.index(e.split))
    self._cuts = cut_entries(self._entries, options, workers, folder)
    self._bar = tqdm.tqdm(
      total=len(entries),
      desc="build",
      unit=" recording",
      dynamic_ncols=True,
      mininterval=0.3,
    )

  def close(self):
    self._cuts.close()
    self._bar.close()

  def records(self, split: str) -> Iterator[dict]:
    """Yield the windows of the next split; fill in the report.

    Raises:
      EmptySplitError: there are none.
    """
    entries = [e for e in self._entries if e.split == split]
    counts = collections.Counter(kept=0)
    self.report["windows"][split] = counts
    for entry, cut, error in itertools.islice(self._cuts, len(entries)):
      self._bar.update()
      if error:
        self.report["failed"][entry.recording_id] = error
        continue
      if cut.warnings:
        self.report["warnings"][entry.recording_id] = cut.warnings
      if cut.sync:
        self.report["sync"][entry.recording_id] = cut.sync
      counts.update(cut.dropped)
      counts["kept"] += len(cut.records)
      for record in cut.records:
        self.labels.add(record["label"])
        self._digest(record)
        yield record
    if not counts["kept"]:
      raise EmptySplitError(split, self._why_empty(split, entries, counts))

  def _digest(self, record):
    strings = [record[name] for name in _STRINGS]
    self.digest.update(json.dumps(strings).encode())
    self.digest.update(record["imu"].tobytes())
    for frame in record["frames"]:
      self.digest.update(frame)

  def _why_empty(self, split, entries, counts):
    reasons = [f"{n} windows: {r}" for r, n in counts.items() if r != "kept"]
    failed = self.report["failed"]
    broken = [e.recording_id for e in entries if e.recording_id in failed]
    if broken:
      reasons.append(
        f"{len(broken)} recordings failed, the first, {broken[0]!r}: "
        f"{failed[broken[0]]}"
      )
    return (
      f"split {split!r} is empty: {len(entries)} recordings gave no window "
      f"({'; '.join(reasons)})"
    )


def empty_report(options: windows.Options) -> dict:
  """Return what a build reports, still empty.

  {"windows": {split: {reason: count}}, "failed": {recording: error},
  "warnings": {recording: [text]}}, and "sync": {recording: see `sync.correct`}
  where clocks are corrected.
  """
  report = {"windows": {}, "failed": {}, "warnings": {}}
  return report | ({"sync": {}} if options.correct_sync else {})


def cut_entries(
  entries: Iterable[recording_lib.Entry],
  options: windows.Options,
  workers: int,
  folder: pathlib.Path,
) -> Iterator[tuple[recording_lib.Entry, windows.Cut | None, str | None]]:
  """Open and cut recordings, in their order, a few in memory at a time.

  Args:
    entries: the recordings.
    options: how to cut.
    workers: processes; 0 works in this one and writes no parts.
    folder: where workers leave their parts; those that lie there are not cut
      again.

  Yields:
    (entry, its windows or None, what went wrong or None).
  """
  if not workers:
    for entry in entries:
      yield entry, *_cut(entry, options)
    return
  folder.mkdir(parents=True, exist_ok=True)
  pool = _pool(workers)
  waiting = collections.deque()

  def take():
    entry, path, future = waiting.popleft()
    try:
      error = future.result()
    except process.BrokenProcessPool:
      error = _write_alone(entry, path, options)
    if error:
      return entry, None, error
    return entry, _load(path), None

  try:
    for entry in entries:
      path = part_path(folder, entry)
      try:
        future = pool.submit(write, entry, path, options)
      except process.BrokenProcessPool:
        pool = _pool(workers)
        future = pool.submit(write, entry, path, options)
      waiting.append((entry, path, future))
      if len(waiting) > 2 * workers:
        yield take()
    while waiting:
      yield take()
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers):
  # Spawned: a fork of a process that runs threads may lock up.
  return concurrent.futures.ProcessPoolExecutor(
    workers,
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_start_worker,
  )


def _start_worker():
  # Ctrl-C is for the parent, which then stops the workers; where the parent is
  # killed, they end by themselves.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
  multiprocessing.parent_process().join()
  os._exit(1)


def _write_alone(entry, path, options):
  """Cut a recording again that was waiting when a worker died.

  Alone in a process it shows whether it was the one that killed it.
  """
  with _pool(1) as pool:
    try:
      return pool.submit(write, entry, path, options).result()
    except process.BrokenProcessPool:
      return "its process died: out of memory, or a crash in a decoder"


def write(
  entry: recording_lib.Entry, path: pathlib.Path, options: windows.Options
) -> str | None:
  """Cut one recording into its part; return what went wrong, or None.

  A part that is already there is kept: its `part_path` says what it is from.
  """
  if path.exists():
    return None
  cut, error = _cut(entry, options)
  if cut is not None:
    _save(path, cut)
  return error


def part_path(folder: pathlib.Path, entry: recording_lib.Entry) -> pathlib.Path:
  """Return where a recording's part lies.

  Any id becomes a safe file name. Another split, other arguments of its opener,
  or another size or time of one of its files, make it another part.
  """
  files = [folders.state(file) for file in entry.files]
  made_from = json.dumps(
    [entry.recording_id, entry.split, _facts(entry.open), files]
  )
  name = hashlib.sha256(made_from.encode()).hexdigest()[:32]
  return pathlib.Path(folder) / f"{name}.npz"


def _facts(value):
  """Describe an opener or one of its arguments; JSON."""
  if isinstance(value, functools.partial):
    return [_facts(part) for part in (value.func, value.args, value.keywords)]
  if isinstance(value, dict):
    return [[str(key), _facts(value[key])] for key in value]
  if isinstance(value, list | tuple):
    return [_facts(item) for item in value]
  if isinstance(value, np.ndarray):
    return value.tolist()
  if callable(value):
    return value.__qualname__
  return repr(value)


def _cut(entry, options):
  options = options.of_split(entry.split)
  try:
    with warnings.catch_warnings(record=True) as heard:
      warnings.simplefilter("always", UserWarning)
      recording, found = entry.open(), None
      if options.correct_sync:
        recording, found = sync.correct(recording)
      cut = windows.cut_recording(recording, options)
  except Exception as error:  # one broken recording must not end the build
    return None, f"{type(error).__name__}: {error}"
  said = dict.fromkeys(str(warning.message) for warning in heard)
  return dataclasses.replace(
    cut, warnings=[*said, *cut.warnings], sync=found
  ), None


def _save(path, cut):
  columns = {
    name: np.array([record[name] for record in cut.records]) for name in _ARRAYS
  }
  frames = [f for record in cut.records for f in record["frames"]]
  times = [record["frame_times_s"] for record in cut.records]
  columns["frame_counts"] = np.array([len(t) for t in times], np.int64)
  columns["frame_times_s"] = np.concatenate([np.zeros(0), *times])
  columns["frame_ends"] = np.cumsum([len(f) for f in frames], dtype=np.int64)
  columns["frame_bytes"] = np.frombuffer(b"".join(frames), np.uint8)
  strings = {
    "records": [{k: r[k] for k in _STRINGS} for r in cut.records],
    "dropped": dict(cut.dropped),
    "warnings": cut.warnings,
    "sync": cut.sync,
  }
  columns["strings"] = np.frombuffer(json.dumps(strings).encode(), np.uint8)
  temporary = path.with_suffix(f".tmp{os.getpid()}")
  with temporary.open("wb") as file:
    np.savez(file, **columns)
  os.replace(temporary, path)


def _load(path):
  with np.load(path, allow_pickle=False) as stored:
    columns = {name: stored[name] for name in stored.files}
  strings = json.loads(columns["strings"].tobytes())
  data = columns["frame_bytes"].tobytes()
  ends = columns["frame_ends"].tolist()
  frames = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
  last = np.cumsum(columns["frame_counts"])
  first = last - columns["frame_counts"]
  records = []
  for i, named in enumerate(strings["records"]):
    own = slice(first[i], last[i])
    record = named | {name: columns[name][i] for name in _ARRAYS}
    record["frames"] = frames[own]
    record["frame_times_s"] = columns["frame_times_s"][own]
    records.append(record)
  dropped = collections.Counter(strings["dropped"])
  return windows.Cut(records, dropped, strings["warnings"], strings["sync"])
