"""What a run says while it runs: JSON lines on disk, a progress bar on stderr.

Only process 0 writes.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterable

import jax
import tqdm


def progress(
  iterable: Iterable | None = None, *, what: str, unit: str, **options
) -> tqdm.tqdm:
  """Return a progress bar on stderr; silent on every process but the first."""
  return tqdm.tqdm(
    iterable,
    desc=what,
    unit=f" {unit}",
    disable=jax.process_index() != 0,
    dynamic_ncols=True,
    mininterval=0.3,
    **options,
  )


class MetricLog:
  """Appends one JSON object a line to `path`.

  A resumed run repeats steps whose lines are already there: those of
  `first_step` and later are dropped when the log is opened.
  """

  def __init__(self, path: str | os.PathLike, first_step: int = 0):
    self._path = pathlib.Path(path)
    self._file = None
    if jax.process_index() != 0:
      return
    kept = []
    if self._path.exists():
      for line in self._path.read_text().splitlines():
        # A kill can leave half a line at the end.
        if line.endswith("}") and json.loads(line)["step"] < first_step:
          kept.append(line + "\n")
    temporary = self._path.with_name(f".{self._path.name}.tmp")
    temporary.write_text("".join(kept))
    os.replace(temporary, self._path)
    self._file = self._path.open("a")

  def write(self, step: int, metrics: dict) -> dict:
    """Fetch `metrics` from the device, append them, return them as floats.

    Raises:
      FloatingPointError: the loss is not finite; names the step.
    """
    values = {name: float(value) for name, value in metrics.items()}
    if not math.isfinite(values["loss"]):
      raise FloatingPointError(f"the loss is {values['loss']} at step {step}")
    if self._file is not None:
      self._file.write(json.dumps({"step": step} | values) + "\n")
      self._file.flush()
    return values

  def close(self) -> None:
    if self._file is not None:
      self._file.close()
