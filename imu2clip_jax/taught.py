"""Names taught by example, kept in WORKDIR/taught.

A name's prototype is the mean of the unit embeddings of its examples, made
unit. One safetensors file a name; its metadata holds the name, the examples and
the fingerprints of the encoder and the teacher that made them.
"""

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import safetensors
import safetensors.numpy

from imu2clip_jax import command

_FOLDER = "taught"


def prototype(embeddings: np.ndarray) -> np.ndarray:
  """Return the unit mean of unit rows, float32 [D].

  Raises:
    ValueError: there is no row, or rows cancel out.

  >>> prototype(np.eye(2)).round(3)
  array([0.707, 0.707], dtype=float32)
  """
  if not len(embeddings):
    raise ValueError("a name needs one example or more")
  mean = np.mean(embeddings, axis=0, dtype=np.float64)
  norm = np.linalg.norm(mean)
  if norm < 1e-6:
    raise ValueError("the examples cancel out: they have nothing in common")
  return (mean / norm).astype(np.float32)


def save(
  workdir: str | os.PathLike,
  name: str,
  vector: np.ndarray,
  examples: Sequence[dict],
  encoder: str,
  teacher: str,
) -> pathlib.Path:
  """Write a prototype; one of the same name is replaced.

  Args:
    workdir: the run's folder.
    name: what it will be called.
    vector: [D] unit norm.
    examples: JSON-able facts of each.
    encoder, teacher: fingerprints.

  Raises:
    ValueError: an empty name.
  """
  if not name.strip():
    raise ValueError("the name to teach is empty")
  metadata = {
    "name": name,
    "encoder": encoder,
    "teacher": teacher,
    "examples": json.dumps(list(examples)),
  }
  data = safetensors.numpy.save(
    {"prototype": np.asarray(vector, np.float32)}, metadata
  )
  path = _path(workdir, name)
  path.parent.mkdir(parents=True, exist_ok=True)
  command.write_bytes(path, data)
  return path


def load(workdir: str | os.PathLike, encoder: str, teacher: str) -> dict:
  """Return name -> {"prototype" [D], "examples"} of all that were taught.

  Args:
    workdir: the run's folder.
    encoder, teacher: fingerprints of those in use.

  Raises:
    ValueError: a file is damaged, or another encoder made it.
  """
  found = {}
  for path in sorted((pathlib.Path(workdir) / _FOLDER).glob("*.safetensors")):
    about, vector = _read(path)
    for what, used in (("encoder", encoder), ("teacher", teacher)):
      if about[what] != used:
        raise ValueError(
          f"{about['name']!r} was taught to another {what} "
          f"({about[what][:12]}, in use is {used[:12]}): teach it again, or "
          f"`imu2clip teach --forget {about['name']!r}`"
        )
    examples = json.loads(about["examples"])
    found[about["name"]] = {"prototype": vector, "examples": examples}
  return found


def forget(workdir: str | os.PathLike, name: str) -> None:
  """Delete a prototype, whatever encoder made it.

  Raises:
    ValueError: nothing of this name was taught.
  """
  path = _path(workdir, name)
  if not path.is_file():
    raise ValueError(f"nothing named {name!r} was taught in {workdir}")
  path.unlink()


def _read(path):
  try:
    with safetensors.safe_open(path, "numpy") as file:
      about, vector = file.metadata(), file.get_tensor("prototype")
    if not (about.keys() >= {"name", "encoder", "teacher", "examples"}):
      raise ValueError("it does not say who made it")
    if vector.ndim != 1 or not np.isfinite(vector).all():
      raise ValueError("its prototype is no finite vector")
  except (safetensors.SafetensorError, ValueError, AttributeError) as error:
    raise ValueError(f"{path} is damaged: {error}; delete it") from error
  return about, vector


def _path(workdir, name):
  """A readable file name that no two names share."""
  plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
  digest = hashlib.sha256(name.encode()).hexdigest()[:12]
  return pathlib.Path(workdir) / _FOLDER / f"{plain}-{digest}.safetensors"
