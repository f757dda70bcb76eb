"""Block checksums of a split's files: written by `embed`, verified by `train`.

    DIR/SPLIT/checksums.json   {"block_bytes", "sha256": {file: [one a block]}}

A flipped byte in a memory-mapped column would train silently on a wrong window.
"""

import hashlib
import json
import pathlib
import threading

from imu2clip_jax import command

BLOCK_BYTES = 1 << 24
# As many bytes are verified before the first step; more, beside the training.
AT_START_BYTES = 4 << 30
_NAME = "checksums.json"


def write(folder) -> None:
  """Write the checksums of every file of a split's folder."""
  folder = pathlib.Path(folder)
  blocks = {
    path.name: [_digest(path, i) for i in range(_count(path))]
    for path in sorted(folder.iterdir())
    if path.is_file() and path.name != _NAME
  }
  document = {"block_bytes": BLOCK_BYTES, "sha256": blocks}
  command.write_text(folder / _NAME, json.dumps(document))


def size(folders) -> int:
  """Return the bytes that `verify` would read."""
  return sum(
    p.stat().st_size for f in folders for p in pathlib.Path(f).iterdir()
  )


def verify(folders, share: tuple[int, int] = (0, 1), stop=None) -> None:
  """Compare the files of splits with their checksums.

  Args:
    folders: of splits.
    share: (i, n) looks at every n-th block from the i-th on, so that n hosts
      share the work.
    stop: a `threading.Event` that ends it early.

  Raises:
    ValueError: a block differs or is missing; names the file and its bytes.
  """
  number = 0
  for folder in map(pathlib.Path, folders):
    path = folder / _NAME
    if not path.is_file():
      raise ValueError(
        f"{path} is missing; delete {folder.parent} and run `imu2clip embed` "
        "again"
      )
    for name, want in json.loads(path.read_text())["sha256"].items():
      for i, digest in enumerate(want):
        number += 1
        if stop is not None and stop.is_set():
          return
        if number % share[1] != share[0]:
          continue
        file = folder / name
        if not file.is_file() or _digest(file, i) != digest:
          raise ValueError(
            f"{file} is damaged between bytes {i * BLOCK_BYTES} and "
            f"{(i + 1) * BLOCK_BYTES}; delete {folder.parent} and run "
            "`imu2clip embed` again"
          )


class Watch:
  """Verifies in a background thread; `check` raises what it found."""

  def __init__(self, folders, share: tuple[int, int] = (0, 1)):
    self._error = None
    self._stop = threading.Event()
    self._thread = threading.Thread(
      target=self._run, args=(list(folders), share), daemon=True
    )
    self._thread.start()

  def _run(self, folders, share):
    try:
      verify(folders, share, self._stop)
    except (ValueError, OSError) as error:
      self._error = error

  def check(self) -> None:
    """Raise ValueError or OSError if the thread has met damage."""
    if self._error is not None:
      raise self._error

  def close(self) -> None:
    self._stop.set()
    self._thread.join()


def _count(path):
  # At least one, so that a file that was empty is missed too.
  return max(1, -(-path.stat().st_size // BLOCK_BYTES))


def _digest(path, block):
  with path.open("rb") as file:
    file.seek(block * BLOCK_BYTES)
    data = file.read(BLOCK_BYTES)
    # A file that grew differs as well.
    if len(data) == BLOCK_BYTES and block + 1 < _count(path):
      return hashlib.sha256(data).hexdigest()
    return hashlib.sha256(data + file.read(1)).hexdigest()
