"""The loop over steps: dispatch, look at the step before, validate, save."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable

import jax
from absl import logging

from imu2clip_jax import checkpoint, distributed, logs, sharding
from imu2clip_jax.data import checksums, pipeline

# The first steps of a start compile and fill caches: no trace of those.
_PROFILE_AFTER = 10


@dataclasses.dataclass(frozen=True)
class Parts:
  """What a loop works with.

  Attributes:
    step: jitted (state, batch) -> (state, metrics); donates the state.
    batches: global steps to this host's slice.
    validate: encoder parameters -> metrics, or None.
    checkpoints: of the run.
    log: of the run.
    mesh: all devices.
    watch: verifies the cache beside the loop.
    what: the progress bar's label.
  """

  step: Callable
  batches: pipeline.StepBatches
  validate: Callable | None
  checkpoints: checkpoint.Checkpoints
  log: logs.MetricLog
  mesh: jax.sharding.Mesh
  watch: checksums.Watch
  what: str


def run(
  options,
  workdir: pathlib.Path,
  state: dict,
  parts: Parts,
  first: int,
  profile_steps: int = 0,
) -> int:
  """Train from step `first` to the last one, or until SIGTERM.

  No transfer between host and device happens unasked: a NumPy array that slips
  into a step is an error.

  Args:
    options: `config.train`.
    workdir: the run's folder.
    state: the training state on all devices.
    parts: what the loop works with.
    first: steps that are done.
    profile_steps: steps to trace into WORKDIR/profile.

  Returns:
    steps that are done.

  Raises:
    FloatingPointError, OSError, ValueError: see `train.train`.
  """
  iterator = pipeline.batches(parts.batches, options.steps, first)
  bar = logs.progress(
    what=parts.what, unit="steps", total=options.steps, initial=first
  )
  trace = _Trace(workdir / "profile", first + _PROFILE_AFTER, profile_steps)
  done = first
  with (
    distributed.stop_on_sigterm() as stop,
    bar,
    contextlib.closing(trace),
    jax.transfer_guard("disallow"),
  ):
    previous = None
    for index in range(first, options.steps):
      trace.at(index)
      batch = sharding.global_batch(parts.mesh, next(iterator))
      state, metrics = parts.step(state, batch)
      # Metrics of the step before: fetching this one's would wait for it.
      if previous is not None:
        _report(parts, bar, workdir, *previous, state)
      last = index + 1 == options.steps
      validates = parts.validate is not None and (
        last or (index + 1) % options.validate_every_steps == 0
      )
      stops = stop(index + 1)
      saves = last or stops or (index + 1) % options.save_every_steps == 0
      # A checkpoint must hold a good state, so its step is looked at first.
      due = (index + 1) % options.log_every_steps == 0
      previous = (index, metrics) if due or saves or validates else None
      done = index + 1
      bar.update()
      parts.watch.check()
      with jax.transfer_guard("allow"):
        parts.checkpoints.seal_if_finished()
        if saves or validates:
          score = None
          extra = {}
          if validates:
            extra = parts.validate(state["params"]["imu_encoder"])
            score = extra["validation/MRR"]
          _report(parts, bar, workdir, *previous, state, extra)
          previous = None
          parts.checkpoints.save(index + 1, state, iterator.get_state(), score)
      if stops:
        logging.warning("SIGTERM: saved step %d and stopped", index + 1)
        break
    if previous is not None:
      _report(parts, bar, workdir, *previous, state)
  return done


def _report(parts, bar, workdir, index, metrics, state, extra=None):
  metrics = jax.device_get(metrics)
  done = int(metrics.pop("steps_done"))
  if done <= index:
    _stop_at_bad_step(parts, workdir, done, state)
  values = parts.log.write(index, metrics | (extra or {}))
  bar.set_postfix_str(f"loss {values['loss']:.3f}")


def _stop_at_bad_step(parts, workdir, step, state):
  batches = parts.batches
  rows = batches.global_rows_of(step)
  ids = [batches.split.window_ids[row] for row in rows]
  with jax.transfer_guard("allow"):
    folder = checkpoint.save_for_inspection(workdir, step, state, ids)
  raise FloatingPointError(
    f"the loss or its gradient is not finite at step {step}; its batch starts "
    f"with windows {', '.join(ids[:8])}; all of them and the state before the "
    f"step are in {folder}; lower config.optim.learning_rate or set "
    "config.optim.clip_norm"
  )


class _Trace:
  """A profiler trace of some steps."""

  def __init__(self, folder, start, steps):
    self._folder, self._start, self._steps = folder, start, steps
    self._running = False

  def at(self, index):
    if self._steps and index == self._start:
      jax.profiler.start_trace(str(self._folder))
      self._running = True
    if index == self._start + self._steps:
      self.close()

  def close(self):
    if self._running:
      jax.profiler.stop_trace()
      self._running = False
