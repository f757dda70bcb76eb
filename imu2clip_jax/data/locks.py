"""One process at a time; a lock dies with the process that holds it."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def held(
  path: str | os.PathLike, busy: str, *, wait: bool = False
) -> Iterator[None]:
  """Hold a folder, or a file that is made if it is missing.

  Args:
    path: what to hold. NFS locks files only.
    busy: what it means that another process holds it.
    wait: until it is free, saying so on stderr; else refuse.

  Raises:
    ValueError: another process holds it, and this one does not wait.
  """
  flags = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT
  handle = os.open(path, flags, 0o666)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      if not wait:
        raise ValueError(busy) from error
      print(f"{busy}: waiting for it", file=sys.stderr)
      fcntl.flock(handle, fcntl.LOCK_EX)
    yield
  finally:
    os.close(handle)
