"""Save and restore a run; the only file that imports orbax.

    WORKDIR/checkpoints/STEP/          what orbax writes, whole or not at all
    WORKDIR/checksums/STEP.json        sha256 of each of its files

A checkpoint counts once its checksums are there: orbax alone loads a flipped
byte silently. Damaged or unfinished ones are moved to WORKDIR/damaged, and the
next older one serves.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from absl import logging
from orbax.checkpoint import v1 as ocp

from imu2clip_jax import command, distributed


class Checkpoints:
  """The checkpoints of one run, written in the background."""

  def __init__(self, workdir: str | os.PathLike, keep: int, keep_best: int = 0):
    """Open a run's checkpoints, moving damaged ones aside.

    Args:
      workdir: the run's folder.
      keep: how many of the newest to keep.
      keep_best: how many of those with the highest score to keep as well.
    """
    self._workdir = pathlib.Path(workdir).absolute()
    self._folder = self._workdir / "checkpoints"
    self._folder.mkdir(parents=True, exist_ok=True)
    (self._workdir / "checksums").mkdir(exist_ok=True)
    if jax.process_index() == 0:
      self._set_damaged_aside()
    distributed.wait_for_all("checkpoints verified")
    policies = ocp.training.preservation_policies
    kept = [policies.LatestN(keep)]
    if keep_best:
      kept.append(
        policies.BestN(
          get_metric_fn=lambda metrics: metrics["score"],
          n=keep_best,
          keep_checkpoints_without_metrics=False,
        )
      )
    self._checkpointer = ocp.training.Checkpointer(
      self._folder,
      save_decision_policy=ocp.training.save_decision_policies.AnySavePolicy(
        []
      ),
      preservation_policy=policies.AnyPreservationPolicy(kept),
      cleanup_tmp_directories=True,
    )
    self._unsealed: int | None = None

  def latest_step(self) -> int | None:
    """Return the step of the newest whole checkpoint, or None."""
    latest = self._checkpointer.latest
    return None if latest is None else latest.step

  def restore(self, state: dict) -> tuple[dict, dict]:
    """Load the newest whole checkpoint.

    Args:
      state: a state of the same structure, shapes, dtypes and shardings.

    Returns:
      (state, what was given as `data_state` to `save`).

    Raises:
      ValueError: the checkpoint holds another structure.
    """
    step = self.latest_step()
    _check_params(self._folder / str(step), state["params"])
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      state,
    )
    loaded = self._checkpointer.load_checkpointables(
      step, {"state": abstract, "data": None}
    )
    return loaded["state"], loaded["data"]

  def save(
    self,
    step: int,
    state: dict,
    data_state: dict,
    score: float | None = None,
  ) -> None:
    """Start saving; device arrays are copied before this returns.

    Args:
      step: how many steps made it.
      state: the training state.
      data_state: of the batches' iterator.
      score: on validation, higher is better; None if it was not measured.

    Raises:
      OSError: the save before could not be written.
    """
    self.wait()
    with self._failing_loudly(step):
      self._checkpointer.save_checkpointables_async(
        step,
        {"state": state, "data": data_state},
        force=True,
        metrics=None if score is None else {"score": score},
      )
    self._unsealed = step

  def seal_if_finished(self) -> None:
    """Write the checksums of a save that has ended meanwhile."""
    busy = self._checkpointer.is_saving_in_progress()
    if self._unsealed is not None and not busy:
      self.wait()

  def wait(self) -> None:
    """Wait for the save under way, then write its checksums.

    Processes come here at moments of their own, so none waits for another:
    orbax has ended a save only when all have written.

    Raises:
      OSError: it could not be written.
    """
    if self._unsealed is None:
      return
    step, self._unsealed = self._unsealed, None
    with self._failing_loudly(step):
      self._checkpointer.wait()
      if jax.process_index() == 0:
        sums = checksums(self._folder / str(step))
        command.write_text(self._seal(step), json.dumps(sums))
        self._drop_stale_seals()

  def close(self) -> None:
    """Wait for the save under way and seal it."""
    try:
      self.wait()
    finally:
      self._checkpointer.close()

  @contextlib.contextmanager
  def _failing_loudly(self, step):
    # A full disk comes up as many types, from threads and from C++.
    try:
      yield
    except Exception as error:
      whole = [s for s in _steps(self._folder) if not damage(self._workdir, s)]
      last = f"checkpoint {whole[-1]}" if whole else "no checkpoint"
      raise OSError(
        f"checkpoint {step} could not be saved in {self._folder} ({error}); "
        f"{last} is the last whole one"
      ) from error

  def _seal(self, step):
    return self._workdir / "checksums" / f"{step}.json"

  def _drop_stale_seals(self):
    steps = {c.step for c in self._checkpointer.checkpoints}
    for path in (self._workdir / "checksums").glob("*.json"):
      if int(path.stem) not in steps:
        path.unlink()

  def _set_damaged_aside(self):
    for step in _steps(self._folder)[::-1]:
      reason = damage(self._workdir, step)
      if reason is None:
        return
      logging.warning("checkpoint %d is set aside: %s", step, reason)
      aside = self._workdir / "damaged" / str(step)
      aside.parent.mkdir(exist_ok=True)
      if aside.exists():
        shutil.rmtree(aside)
      os.replace(self._folder / str(step), aside)


def damage(workdir: str | os.PathLike, step: int) -> str | None:
  """Return what is wrong with a checkpoint's bytes, or None."""
  workdir = pathlib.Path(workdir)
  seal = workdir / "checksums" / f"{step}.json"
  if not seal.is_file():
    return "its save did not finish"
  want, got = (
    json.loads(seal.read_text()),
    checksums(workdir / "checkpoints" / str(step)),
  )
  for name in sorted(want.keys() | got.keys()):
    if want.get(name) != got.get(name):
      return f"file {name} is not what was saved"
  return None


def save_for_inspection(
  workdir: str | os.PathLike, step: int, state: dict, window_ids: list[str]
) -> pathlib.Path:
  """Write a state and a batch's windows to WORKDIR/non_finite/STEP.

  It lies where no run resumes from. All processes call it together; an older
  one of the same step gives way.
  """
  folder = pathlib.Path(workdir).absolute() / "non_finite" / str(step)
  ocp.save(folder / "state", state, overwrite=True)
  if jax.process_index() == 0:
    command.write_text(folder / "window_ids.json", json.dumps(window_ids))
  return folder


def best_step(workdir: str | os.PathLike) -> int:
  """Return the whole checkpoint with the highest score on validation.

  Raises:
    FileNotFoundError: no whole checkpoint has a score.
  """
  workdir = pathlib.Path(workdir)
  scores = {}
  for step in _steps(workdir / "checkpoints"):
    path = workdir / "checkpoints" / str(step) / "metrics" / "metrics"
    if path.is_file() and not damage(workdir, step):
      scores[step] = json.loads(path.read_text())["score"]
  if not scores:
    raise FileNotFoundError(
      f"{workdir} has no validated checkpoint; train with "
      "--config.train.validate_every_steps=N"
    )
  return max(scores, key=lambda step: (scores[step], step))


def find_step(workdir: str | os.PathLike, best: bool = False) -> int:
  """Return a run's newest whole checkpoint.

  Args:
    workdir: the run's folder.
    best: the one with the highest score on validation instead.

  Raises:
    FileNotFoundError: the run has no such checkpoint.
  """
  if best:
    return best_step(workdir)
  folder = pathlib.Path(workdir) / "checkpoints"
  for step in reversed(_steps(folder)):
    if not damage(workdir, step):
      return step
  raise FileNotFoundError(
    f"{workdir} has no whole checkpoint; run `imu2clip train` on it"
  )


def load_params(
  workdir: str | os.PathLike, abstract_params: Any, step: int | None = None
) -> dict:
  """Load some parameters of a run's checkpoint to the host.

  Args:
    workdir: the run's folder.
    abstract_params: the wanted groups, such as {"imu_encoder": tree of
      `jax.ShapeDtypeStruct`}; each must be the whole group.
    step: which whole checkpoint, see `find_step`; None takes the newest.

  Returns:
    The same tree of NumPy arrays.

  Raises:
    FileNotFoundError: the run has no whole checkpoint.
    ValueError: its parameters have another structure or other shapes.
  """
  step = find_step(workdir) if step is None else step
  folder = pathlib.Path(workdir).absolute() / "checkpoints" / str(step)
  want = {
    "params": jax.tree.map(
      lambda x: np.empty(x.shape, x.dtype), abstract_params
    )
  }
  context = ocp.Context()
  context.pytree.loading.partial_load = True
  _check_params(folder, abstract_params)
  with context:
    loaded = ocp.load(folder, want, checkpointable_name="state")
  return jax.tree.map(np.asarray, loaded["params"])


def save_tree(folder: str | os.PathLike, params: dict) -> None:
  """Write a nested dict of arrays, nothing else, as an orbax checkpoint.

  Args:
    folder: must not exist yet.
    params: nested dict of arrays.
  """
  folder = pathlib.Path(folder).absolute()
  ocp.save(folder, params)
  # Only that it is there counts; orbax names this machine's folders in it.
  (folder / "commit_success.txt").write_text("The save is complete.\n")


def load_tree(folder: str | os.PathLike, abstract_params: Any) -> dict:
  """Load what `save_tree` wrote to the host.

  Args:
    folder: where it lies.
    abstract_params: tree of `jax.ShapeDtypeStruct`, all of it.

  Returns:
    The same tree of NumPy arrays.

  Raises:
    FileNotFoundError: no checkpoint there.
    ValueError: it has another structure or other shapes.
  """
  folder = pathlib.Path(folder).absolute()
  if not (folder / "_CHECKPOINT_METADATA").is_file():
    raise FileNotFoundError(f"{folder} holds no orbax checkpoint")
  _compare(folder, ocp.metadata(folder).metadata, abstract_params)
  want = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), abstract_params)
  return jax.tree.map(np.asarray, ocp.load(folder, want))


def checksums(folder: str | os.PathLike) -> dict[str, str]:
  """Return the sha256 of every file below a folder, by relative path."""
  folder = pathlib.Path(folder)
  return {
    path.relative_to(folder).as_posix(): checksum(path)
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def checksum(path: str | os.PathLike) -> str:
  """Return a file's sha256 in hexadecimal."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _check_params(folder, abstract_params):
  # A tree that does not fit loads in part, or fails with orbax's internals.
  saved = ocp.metadata(folder, checkpointable_name="state").metadata["params"]
  saved = {group: saved[group] for group in abstract_params if group in saved}
  _compare(folder, saved, abstract_params)


def _compare(folder, saved, abstract_params):
  have, want = (
    {
      jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
      for path, leaf in jax.tree.leaves_with_path(tree)
    }
    for tree in (saved, abstract_params)
  )
  for name in sorted(have.keys() | want.keys()):
    if have.get(name) != want.get(name):
      raise ValueError(
        f"{folder} does not fit this config: parameter {name} is "
        f"{have.get(name, 'absent')} there and {want.get(name, 'absent')} here"
      )


def _steps(folder):
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
