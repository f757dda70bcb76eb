"""What every verb shares: its parser's look and its one-line errors."""

import argparse
import contextlib
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence


def parser(
  verb: str, description: str, example: str
) -> argparse.ArgumentParser:
  """Return an argument parser with the verb's purpose and an example."""
  return argparse.ArgumentParser(
    prog=f"imu2clip {verb}",
    description=description,
    epilog=f"example:\n  {example}",
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )


def run(
  main: Callable[[Sequence[str] | None], int | None],
  argv: Sequence[str] | None = None,
) -> int:
  """Run a verb; bad input becomes one line on stderr and exit code 1.

  ValueError, OSError and FloatingPointError are what the package raises for
  input that a user can mend; anything else is a defect and keeps its traceback.
  What the package warns of is one line on stderr, too.
  """
  try:
    with _plain_warnings():
      return main(argv) or 0
  except (ValueError, OSError, FloatingPointError) as error:
    if os.environ.get("IMU2CLIP_TRACEBACK"):
      raise
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"imu2clip: error: {message}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(
      "imu2clip: interrupted; the same command goes on from here",
      file=sys.stderr,
    )
    return 130


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
  """Show a UserWarning without the place in the code that it came from."""
  with warnings.catch_warnings():
    shown = warnings.showwarning

    def show(message, category, *place):
      if category is not UserWarning:
        shown(message, category, *place)
        return
      text = " ".join(str(message).split())
      print(f"imu2clip: warning: {text}", file=sys.stderr)

    warnings.showwarning = show
    yield


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
  """Write a whole file or nothing: a temporary name, then a rename."""
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
  try:
    temporary.write_bytes(data)
    os.replace(temporary, path)
  except OSError as error:
    # Named as the caller knows it.
    why = error.strerror or str(error)
    raise OSError(error.errno, why, str(path)) from error
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)


def read_lines(path: str, option: str) -> list[str]:
  """Return the lines of a UTF-8 file that an option names, without empty ones.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is not UTF-8.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"{option}: no file {path}")
  try:
    text = pathlib.Path(path).read_text(encoding="utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{option}: {path} is not UTF-8: {error}") from error
  return [line.strip() for line in text.splitlines() if line.strip()]


def write_text(path: str | os.PathLike, text: str) -> None:
  """Write a whole UTF-8 file or nothing."""
  write_bytes(path, text.encode())


def print_json(document: dict) -> None:
  """Print one JSON document on stdout."""
  json.dump(document, sys.stdout, indent=2)
  sys.stdout.write("\n")
