"""Several processes that train as one: how they start, meet and stop."""

import contextlib
import signal
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils


def start(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Join the processes of a run; call it before anything touches a device.

  Args:
    coordinator: HOST:PORT of process 0. None: all three are found out, on TPU
      pods, under SLURM, Open MPI and Kubernetes.
    num_processes: how many there are.
    process_id: which one this is, 0 .. num_processes - 1.

  Raises:
    ValueError: some but not all are given, a number is out of its bounds, or
      nothing is given and no cluster is found.
  """
  given = [x is not None for x in (coordinator, num_processes, process_id)]
  if any(given) and not all(given):
    raise ValueError(
      "give --coordinator, --num_processes and --process_id together, or "
      "--distributed alone"
    )
  if not any(given):
    try:
      jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
      raise ValueError(
        f"--distributed found no cluster ({error}); give --coordinator, "
        "--num_processes and --process_id"
      ) from error
    return
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f"--process_id is {process_id}, expected 0 .. {num_processes - 1}"
    )
  jax.distributed.initialize(coordinator, num_processes, process_id)


def wait_for_all(what: str) -> None:
  """Return when every process has come here; all of them must."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def stop_on_sigterm():
  """Yield stop(step) -> bool: is this the step to end after?

  A SIGTERM to any one process ends all of them after the same step: with
  several processes JAX's preemption service agrees on it.
  """
  if jax.process_count() > 1:
    yield multihost_utils.reached_preemption_sync_point
    return
  asked = []
  before = signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
  try:
    stop: Callable[[int], bool] = lambda step: bool(asked)  # noqa: E731
    yield stop
  finally:
    signal.signal(signal.SIGTERM, before)
