"""What lies below a folder of recordings, behind links too; has it changed?"""

import os
import pathlib
from collections.abc import Callable


def walk(
  root: str | os.PathLike,
  whole: Callable[[pathlib.Path], bool] = lambda folder: False,
) -> list[pathlib.Path]:
  """Return the files below a folder at any depth, sorted.

  Links to folders are followed. A folder is entered once, however many links
  lead to it, and by its own name where it has one below `root`: a wearer's
  recordings come once, and a link back up ends.

  Args:
    root: the folder; of one that does not exist nothing is returned.
    whole: which folders to return themselves, in place of what lies in them.
  """
  found, seen, waiting = [], set(), [pathlib.Path(root)]
  for start in waiting:  # grows by the links that are met
    for name, subfolders, files in os.walk(start):
      folder, real = pathlib.Path(name), os.path.realpath(name)
      if real in seen:
        subfolders.clear()  # os.walk enters what is left in it
        continue
      seen.add(real)
      if whole(folder):
        found.append(folder)
        subfolders.clear()
        continue
      subfolders.sort()
      found += [folder / file for file in files]
      inside = [folder / subfolder for subfolder in subfolders]
      waiting += [path for path in inside if path.is_symlink()]
  return sorted(found)


def state(file: str | os.PathLike) -> list:
  """Return name, size and time of a file that may be missing; JSON."""
  try:
    stat = os.stat(file)
  except OSError:
    return [str(file), None, None]
  return [str(file), stat.st_size, stat.st_mtime_ns]
