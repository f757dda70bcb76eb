"""config.json and run.json of a run: what it was asked, what it is made from.

A run that is taken up again must be the same run. Options are compared by
value, data and teacher by their fingerprints, however their paths are spelled.
"""

import copy
import json
import pathlib
from collections.abc import Iterator, Sequence

import ml_collections

from imu2clip_jax import command
from imu2clip_jax import config as config_lib
from imu2clip_jax.data import builder, cache

# A resumed run may change these: they leave the parameters as they are.
_FREE = {
  "train": (
    "log_every_steps",
    "save_every_steps",
    "keep_checkpoints",
    "validate_every_steps",
    "keep_best",
    "compilation_cache_dir",
    "tensorboard",
    # But for rounding, as does another number of devices.
    "grad_cache_chunk",
  ),
  # What lies there has a fingerprint.
  "data": ("dir", "mixture_dirs"),
  "teacher": ("path",),
}


class OtherRunError(ValueError):
  """A folder holds another run than the one that is asked for."""


def describe(cache_dirs: Sequence[str | pathlib.Path]) -> dict:
  """Return what run.json holds.

  Args:
    cache_dirs: the training caches of config.data.dir and mixture_dirs.

  Returns:
    {"teacher": {"name", "fingerprint", "dim", ...}, "data": fingerprint of each
    data set, None from a cache of an older version, "cache_dir": the first}.
  """
  metas = [cache.read_meta(cache_dir) for cache_dir in cache_dirs]
  return {
    "teacher": metas[0]["teacher"],
    "data": [meta.get("data_fingerprint") for meta in metas],
    "cache_dir": str(pathlib.Path(cache_dirs[0]).resolve()),
  }


def write(
  workdir: pathlib.Path, config: ml_collections.ConfigDict, made_from: dict
) -> None:
  """Write config.json, with paths that hold anywhere, and run.json."""
  config = copy.deepcopy(config)
  config.data.dir = _whole(config.data.dir)
  config.data.mixture_dirs = tuple(map(_whole, config.data.mixture_dirs))
  config.teacher.path = _whole(config.teacher.path)
  command.write_text(workdir / "config.json", config_lib.to_json(config))
  command.write_text(workdir / "run.json", json.dumps(made_from, indent=2))


def _whole(path):
  # "hf:owner/name" is no file, and "" no folder.
  file = pathlib.Path(path)
  return str(file.resolve()) if path and file.exists() else path


def check_options(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Refuse a folder whose run was asked for something else.

  Raises:
    OtherRunError: it was; names each option that differs.
  """
  path = workdir / "config.json"
  if not path.is_file():
    return
  # By way of the options, as those that are newer than the run have defaults.
  saved = config_lib.from_json(path.read_text())
  old, new = (json.loads(config_lib.to_json(c)) for c in (saved, config))
  for both in (old, new):
    for group, options in _FREE.items():
      for option in options:
        both[group].pop(option, None)
  changed = [
    f"{name}: {before} -> {after}"
    for name, before, after in _differences(old, new)
  ]
  if changed:
    raise OtherRunError(
      f"{workdir} holds a run with another config "
      f"({'; '.join(changed)}); use another --workdir"
    )


def _differences(old, new, prefix="") -> Iterator[tuple]:
  for key in sorted(old.keys() | new.keys()):
    before, after = old.get(key), new.get(key)
    if isinstance(before, dict) and isinstance(after, dict):
      yield from _differences(before, after, f"{prefix}{key}.")
    elif before != after:
      yield prefix + key, before, after


def check_input(
  workdir: pathlib.Path, config: ml_collections.ConfigDict, made_from: dict
) -> None:
  """Refuse a folder whose run has learnt from other data or another teacher.

  Args:
    workdir: the run's folder.
    config: every option.
    made_from: what `describe` returns.

  Raises:
    OtherRunError: it has.
  """
  path = workdir / "run.json"
  if not path.is_file():
    return
  saved = json.loads(path.read_text())
  old, teacher = saved["teacher"], made_from["teacher"]
  if old["fingerprint"] != teacher["fingerprint"]:
    raise OtherRunError(
      f"{workdir} was trained towards teacher {old['name']} "
      f"({old['dim']} wide), this is {teacher['name']} ({teacher['dim']} "
      "wide, other weights); use another --workdir"
    )
  before = config_lib.from_json((workdir / "config.json").read_text())
  folders = list(map(_whole, _folders(before)))
  now = list(map(_whole, _folders(config)))
  # Older versions kept no fingerprint and went by the path.
  known = saved.get("data", [None] * len(folders))
  same = len(known) == len(now) and all(
    a == b if a and b else old == new
    for a, b, old, new in zip(
      known, made_from["data"], folders, now, strict=True
    )
  )
  if not same:
    raise OtherRunError(
      f"{workdir} was trained on other windows than those that now lie at "
      "config.data.dir and mixture_dirs; use another --workdir"
    )


def check_data(workdir: pathlib.Path, folders: Sequence[str]) -> None:
  """Refuse to ask a run's own data if others have been built there since.

  A wearer whom it was trained on may be a test wearer by now.

  Args:
    workdir: the run's folder.
    folders: config.data.dir, and mixture_dirs if they are asked along with it.

  Raises:
    FileNotFoundError: nothing is there.
    OtherRunError: other windows are.
  """
  path = workdir / "run.json"
  if not path.is_file():
    return
  # Older versions kept no fingerprint, and nothing is known of their windows.
  known = json.loads(path.read_text()).get("data", [])
  for before, folder in zip(known, folders, strict=False):
    found = builder.describe(folder)
    if before and found["fingerprint"] != before:
      raise OtherRunError(
        f"{found['path']} holds other windows than those that {workdir} was "
        "trained on: put those back, without a newer version beside them, or "
        "train anew with another --workdir; to ask these, move them and name "
        "them with `imu2clip evaluate --data_dir`"
      )


def _folders(config):
  return [config.data.dir, *config.data.mixture_dirs]
