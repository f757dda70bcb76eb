"""What a run says while it runs: JSON lines on disk, a progress bar on stderr.

Only process 0 writes.
"""

import json
import os
import pathlib
import time
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

  Every line but the first of a start says "step_ms": the mean wall time of a
  step since the line before, all that happened in between included.

  A resumed run repeats steps whose lines are already there: those of
  `first_step` and later are dropped when the log is opened.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    first_step: int = 0,
    tensorboard: bool = False,
  ):
    """Open the log.

    Args:
      path: the file of JSON lines.
      first_step: of this run, or of its rest.
      tensorboard: write TensorBoard events too, in the folder tensorboard
        beside it.

    Raises:
      ValueError: tensorboardX is not installed.
    """
    self._path = pathlib.Path(path)
    self._file = self._events = self._last = None
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
    if tensorboard:
      self._events = _event_writer(
        self._path.parent / "tensorboard", first_step
      )

  def write(self, step: int, metrics: dict) -> dict:
    """Fetch `metrics` from the device, append them, return them as floats."""
    fetched = jax.device_get(metrics)
    values = {name: float(value) for name, value in fetched.items()}
    now = time.monotonic()
    if self._last is not None:
      before, then = self._last
      values["step_ms"] = 1000 * (now - then) / (step - before)
    self._last = step, now
    if self._file is not None:
      self._file.write(json.dumps({"step": step} | values) + "\n")
      self._file.flush()
    if self._events is not None:
      for name, value in values.items():
        self._events.add_scalar(name, value, step)
    return values

  def close(self) -> None:
    if self._file is not None:
      self._file.close()
    if self._events is not None:
      self._events.close()


def _event_writer(folder, first_step):
  try:
    import tensorboardX  # an extra: only who asks for events needs it
  except ImportError as error:
    raise ValueError(
      "config.train.tensorboard needs `pip install 'imu2clip-jax[tensorboard]'`"
    ) from error
  # Events of steps that a resumed run repeats are dropped by the viewer.
  return tensorboardX.SummaryWriter(str(folder), purge_step=first_step)
