"""Files that others wrote: CSV as rows of text or as numbers, npz and JSON.

Whatever is wrong with one raises ValueError with its name.
"""

import csv
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow
import pyarrow.csv

# What NumPy and zipfile raise for a damaged or hostile npz.
_DAMAGED = (
  ValueError,
  OSError,
  EOFError,
  KeyError,
  NotImplementedError,
  RuntimeError,
  MemoryError,
  SyntaxError,
  zipfile.BadZipFile,
  zlib.error,
)
# Signals hardly shrink: what grows tenfold was made to fill memory.
_LARGEST_UNPACKED = 64_000_000
_MISSING = ["", "NULL", "null", "None", "nan", "NaN", "NA"]


def rows(
  path: str | os.PathLike, required: Sequence[str]
) -> list[dict[str, str]]:
  """Read a small file as a list of column name -> text.

  Args:
    path: UTF-8 with a header, a byte order mark allowed; columns may be quoted.
    required: columns that must be there; others are kept too.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not CSV or UTF-8, or a column is missing; names the file.
  """
  try:
    with open(path, newline="", encoding="utf-8-sig") as file:
      reader = csv.DictReader(file, restval="")
      found = list(reader)
      header = reader.fieldnames or []
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: is not a CSV file in UTF-8: {error}") from error
  _check_header(path, header, required)
  return found


def number(path, row: dict[str, str], column: str) -> float:
  """Return one cell of a row as a finite float.

  Raises:
    ValueError: it is not; names the file, the column and the cell.
  """
  try:
    value = float(row[column])
  except ValueError:
    value = np.nan
  if not np.isfinite(value):
    raise ValueError(
      f"{path}: column {column!r} holds {row[column][:40]!r}, expected a number"
    )
  return value


def texts(path: str | os.PathLike) -> list[tuple[float, float, str]]:
  """Read narrations: a CSV with start_s, end_s (may be empty) and text.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a column is missing or a time is no number.
  """
  found = []
  for row in rows(path, ["start_s", "text"]):
    start_s = number(path, row, "start_s")
    end_s = number(path, row, "end_s") if row.get("end_s") else start_s
    found.append((start_s, end_s, row["text"]))
  return found


def numbers(
  path: str | os.PathLike,
  columns: Sequence[str],
  strings: Sequence[str] = (),
  delimiter: str = ",",
) -> dict[str, np.ndarray]:
  """Read columns of a long file as float64.

  Args:
    path: UTF-8 with a header.
    columns: names of the columns to read; the others are skipped.
    strings: names of columns to read as text.
    delimiter: one character.

  Returns:
    column -> [N] float64, empty cells and NULL are NaN; or [N] str.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a column is missing, a cell is no number, a row has too few or
      too many cells; names the file.
  """
  table = _table(path, columns, strings, delimiter)
  return {
    name: table[name].to_numpy().astype(np.float64, copy=False)
    for name in columns
  } | {
    name: table[name].to_numpy(zero_copy_only=False).astype(str)
    for name in strings
  }


def matrix(path: str | os.PathLike, columns: Sequence[str]) -> np.ndarray:
  """Read columns of a long file as one float64 [len(columns), N].

  Raises:
    FileNotFoundError, ValueError: as `numbers`.
  """
  table = _table(path, columns, (), ",")
  found = np.empty((len(columns), len(table)))
  for row, name in zip(found, columns, strict=True):
    chunks = [c.to_numpy(zero_copy_only=False) for c in table[name].chunks]
    np.concatenate(chunks, out=row)
  return found


def _table(path, columns, strings, delimiter):
  parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
  convert = pyarrow.csv.ConvertOptions(
    column_types=dict.fromkeys(columns, pyarrow.float64())
    | dict.fromkeys(strings, pyarrow.string()),
    include_columns=[*columns, *strings],
    null_values=_MISSING,
  )
  try:
    try:
      return pyarrow.csv.read_csv(
        path, parse_options=parse, convert_options=convert
      )
    except pyarrow.ArrowKeyError:  # a column is missing: say which
      with pyarrow.csv.open_csv(path, parse_options=parse) as file:
        _check_header(path, file.schema.names, [*columns, *strings])
      raise
  except (pyarrow.ArrowException, UnicodeDecodeError) as error:
    why = _with_column_names(str(error), path, delimiter)
    raise ValueError(f"{path}: is not a table of numbers: {why}") from error


def _with_column_names(message, path, delimiter):
  """Put the names of columns where pyarrow counts them."""
  with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
    names = dict(enumerate(file.readline(1 << 16).strip().split(delimiter)))
  return re.sub(
    r"(?<=^In CSV column )#(\d+)",
    lambda number: repr(names.get(int(number[1]), number[0])),
    message,
  )


def arrays(
  path: str | os.PathLike, names: Sequence[str]
) -> dict[str, np.ndarray]:
  """Read arrays of an npz; nothing in it is unpickled.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is damaged, lacks an array or holds objects; names the file.
  """
  # Opened here: np.load leaves the file of a damaged zip open.
  with open(path, "rb") as file:
    try:
      return _unpack(np.load(file, allow_pickle=False), file, names)
    except _DAMAGED as error:
      raise ValueError(f"{path}: is not a usable npz: {error}") from error


def _unpack(stored, file, names):
  if not isinstance(stored, np.lib.npyio.NpzFile):
    raise ValueError("is a single array")
  unpacked = sum(part.file_size for part in stored.zip.infolist())
  if unpacked > max(10 * os.fstat(file.fileno()).st_size, _LARGEST_UNPACKED):
    raise ValueError(f"unpacks to {unpacked / 1e6:.0f} MB")
  missing = [name for name in names if name not in stored.files]
  if missing:
    raise ValueError(
      f"lacks the arrays {', '.join(missing)}; it has "
      f"{', '.join(stored.files[:20])}"
    )
  return {name: stored[name] for name in names}


def read_json(path: str | os.PathLike, slim: Callable[[dict], object] = dict):
  """Parse a JSON file.

  Args:
    path: the file, UTF-8.
    slim: what to keep of every object, called from the inside out; makes huge
      files fit into memory.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is no JSON; names the file.
  """
  try:
    with open(path, encoding="utf-8-sig") as file:
      return json.load(file, object_hook=slim)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path}: is not a JSON file: {error}") from error


def _check_header(path, header, required):
  missing = [name for name in required if name not in header]
  if missing:
    raise ValueError(
      f"{path}: lacks the columns {', '.join(missing)}; it has "
      f"{', '.join(header[:20]) or 'none'}"
    )
