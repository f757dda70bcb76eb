"""An exported encoder: one folder in the manner of Hugging Face.

    config.json          what it expects and gives, every option of its run
    model.safetensors    its parameters, "trunk.gru.wi" -> float32
    params/              the same as an orbax tree
    encoder.stablehlo    the whole encoder as `jax.export` writes it: any number
                         of windows, on CPU, CUDA and TPU, without Flax
    checksums.json       sha256 of each of the files above
    README.md            the model card; may be edited

Whatever is read is compared with its checksum first.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import safetensors
from jax import export
from safetensors.numpy import load_file, save_file

from imu2clip_jax import checkpoint, schema, trees
from imu2clip_jax import config as config_lib
from imu2clip_jax import imu as imu_lib
from imu2clip_jax.models import encoders, imu_encoder

CONFIG, WEIGHTS, TREE = "config.json", "model.safetensors", "params"
PROGRAM, CHECKSUMS, CARD = "encoder.stablehlo", "checksums.json", "README.md"
PLATFORMS = ("cpu", "cuda", "tpu")
_MODEL_TYPE, _FORMAT = "imu2clip_imu_encoder", 1


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
  """An encoder of which only the compiled form is at hand.

  Attributes:
    call: (imu float32 [B, T, 6], sensor_mask bool [B, 2]) -> float32 [B, D].
    embed_dim: D.
    rate_hz: the rate of the samples it expects.
    num_samples: T; it takes windows of this length only.
  """

  call: Callable
  embed_dim: int
  rate_hz: float
  num_samples: int

  def check(self, imu) -> None:
    """Refuse windows that it cannot embed.

    Raises:
      ValueError: NaN or infinity in a sample, or a wrong shape.
    """
    want = (self.num_samples, imu_encoder.CHANNELS)
    if np.shape(imu)[1:] != want:
      raise ValueError(
        f"{PROGRAM} takes windows of {list(want)} at {self.rate_hz:g} Hz, got "
        f"{list(np.shape(imu)[1:])}; load the folder for other lengths"
      )
    bad = ~np.isfinite(imu).all((1, 2))
    if bad.any():
      raise ValueError(f"imu of window {bad.argmax()} holds NaN or infinity")

  def apply(self, params, imu, *, sensor_mask, normalize=True):
    """Embed windows; `params` is an empty dict, they are in the program."""
    if not normalize:
      raise ValueError(
        f"{PROGRAM} gives unit norm only; load the folder for normalize=False"
      )
    return self.call(imu, sensor_mask)


def write(
  out: str | os.PathLike,
  encoder: imu_encoder.Encoder,
  params: dict,
  config: ml_collections.ConfigDict,
  teacher: dict,
  card: str,
) -> None:
  """Write an export, whole or not at all.

  Args:
    out: the new folder; it may exist if it is empty.
    encoder: the functions.
    params: their parameters.
    config: every option of the run. Paths of this machine are left out.
    teacher: {"name", "fingerprint", "dim", ...} of the space.
    card: text of README.md.

  Raises:
    ValueError: `out` exists and is not an empty folder.
  """
  out = pathlib.Path(out).resolve()
  check_free(out)
  num_samples = imu_lib.samples_in(config.encoder.window_s, encoder.rate_hz)
  document = {
    "model_type": _MODEL_TYPE,
    "format": _FORMAT,
    "embed_dim": encoder.embed_dim,
    "rate_hz": encoder.rate_hz,
    "window_s": config.encoder.window_s,
    "num_samples": num_samples,
    "channels": schema.CHANNELS,
    "units": {"accel": "m/s², gravity included", "gyro": "rad/s"},
    "axes": "x left, y back, z up",
    "teacher": teacher,
    "run": _without_paths(config).to_dict(),
  }
  out.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
    half = pathlib.Path(temporary) / out.name
    half.mkdir()
    _write_json(half / CONFIG, document)
    tensors = {
      name.replace("/", "."): np.ascontiguousarray(leaf)
      for name, leaf in trees.flatten(params).items()
    }
    save_file(tensors, half / WEIGHTS, {"format": "np"})
    # safetensors makes its files private.
    shutil.copymode(half / CONFIG, half / WEIGHTS)
    checkpoint.save_tree(half / TREE, params)
    (half / PROGRAM).write_bytes(to_stablehlo(encoder, params, num_samples))
    _write_json(half / CHECKSUMS, checkpoint.checksums(half))
    (half / CARD).write_text(card, encoding="utf-8")
    half.replace(out)


def check_free(out: str | os.PathLike) -> None:
  """Raise ValueError if a folder is in use already."""
  out = pathlib.Path(out)
  if out.resolve() == pathlib.Path.cwd():
    raise ValueError(f"{out} is the folder you are in, name a new one")
  if out.exists() and not (out.is_dir() and not any(out.iterdir())):
    raise ValueError(f"{out} exists already and is no empty folder")


def to_stablehlo(
  encoder: imu_encoder.Encoder, params: dict, num_samples: int
) -> bytes:
  """Serialize an encoder with its parameters by `jax.export`.

  Returns:
    The program (imu float32 [B, num_samples, 6], sensor_mask bool [B, 2]) ->
    float32 [B, D] of unit norm, for any B >= 1 and each of `PLATFORMS`.
  """
  (batch,) = export.symbolic_shape("b")
  imu = (batch, num_samples, imu_encoder.CHANNELS)
  frames = jax.config.jax_traceback_in_locations_limit
  # Without this the program names the source files of this machine.
  jax.config.update("jax_traceback_in_locations_limit", 0)
  try:
    program = export.export(
      jax.jit(lambda imu, mask: encoder.apply(params, imu, sensor_mask=mask)),
      platforms=PLATFORMS,
    )(
      jax.ShapeDtypeStruct(imu, jnp.float32),
      jax.ShapeDtypeStruct((batch, len(schema.SENSORS)), jnp.bool_),
    )
    return bytes(program.serialize())
  finally:
    jax.config.update("jax_traceback_in_locations_limit", frames)


def holds_export(folder: pathlib.Path) -> bool:
  """Return whether a folder is an export, be it a damaged one."""
  return (folder / CHECKSUMS).is_file() or (folder / WEIGHTS).is_file()


def read_document(folder: pathlib.Path) -> dict:
  """Read config.json.

  Raises:
    FileNotFoundError: it is missing.
    ValueError: it is damaged, or of another kind or format.
  """
  _verify(folder, CONFIG)
  document = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
  kind = document.get("model_type"), document.get("format")
  if kind != (_MODEL_TYPE, _FORMAT):
    raise ValueError(
      f"{folder / CONFIG}: model_type and format are {kind[0]!r} and "
      f"{kind[1]!r}, this version reads {_MODEL_TYPE!r} and {_FORMAT}"
    )
  return document


def run_options(document: dict) -> ml_collections.ConfigDict:
  """Return every option of the run that config.json describes."""
  return config_lib.from_json(json.dumps(document["run"]))


def read_params(
  folder: pathlib.Path, document: dict, form: str
) -> tuple[imu_encoder.Encoder, dict]:
  """Read an encoder and its parameters.

  Args:
    folder: of the export.
    document: its config.json.
    form: `WEIGHTS` or `TREE`.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is not what was exported, or does not fit config.json.
  """
  _verify(folder, form)
  options = run_options(document).encoder
  encoder = encoders.from_config(options, document["embed_dim"])
  want = encoder.param_shapes(document["num_samples"])
  if form == TREE:
    return encoder, checkpoint.load_tree(folder / TREE, want)
  try:
    tensors = load_file(folder / WEIGHTS)
  except safetensors.SafetensorError as error:
    raise ValueError(f"{folder / WEIGHTS}: {error}") from error
  leaves = {name.replace(".", "/"): leaf for name, leaf in tensors.items()}
  for name, leaf in trees.flatten(want).items():
    have = leaves[name].shape if name in leaves else "absent"
    if have != leaf.shape:
      raise ValueError(
        f"{folder / WEIGHTS}: {name} is {have}, {CONFIG} needs {leaf.shape}"
      )
  if extra := sorted(leaves.keys() - trees.flatten(want).keys()):
    raise ValueError(f"{folder / WEIGHTS}: {CONFIG} knows no {extra[0]}")
  return encoder, trees.unflatten(leaves)


def read_program(folder: pathlib.Path, document: dict) -> Program:
  """Read the compiled encoder, its parameters inside.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is not what was exported, or does not fit config.json.
  """
  _verify(folder, PROGRAM)
  program = export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
  have = program.in_avals[0].shape[1], program.out_avals[0].shape[1]
  want = document["num_samples"], document["embed_dim"]
  if have != want:
    raise ValueError(
      f"{folder / PROGRAM} maps {have[0]} samples to {have[1]} numbers, "
      f"{CONFIG} says {want[0]} and {want[1]}"
    )
  return Program(program.call, want[1], document["rate_hz"], want[0])


def _verify(folder, what):
  """Compare a file, or each file of a subfolder, with its checksum."""
  if not (folder / CHECKSUMS).is_file():
    raise FileNotFoundError(
      f"{folder} is no whole export: {CHECKSUMS} is missing"
    )
  try:
    sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"{folder / CHECKSUMS} is damaged: {error}") from error
  if not isinstance(sums, dict):
    raise ValueError(f"{folder / CHECKSUMS} is damaged: it is no JSON object")
  names = [n for n in sums if n == what or n.startswith(what + "/")]
  if not names or not (folder / what).exists():
    raise FileNotFoundError(f"{folder} is no whole export: {what} is missing")
  for name in names:
    path = folder / name
    if not path.is_file() or checkpoint.checksum(path) != sums[name]:
      raise ValueError(
        f"{path} is not what was exported: truncated, changed or of another "
        "export; fetch or export it again"
      )


def _without_paths(config):
  # Folders of the machine that trained say nothing to others.
  config = config_lib.from_json(config_lib.to_json(config))
  config.data.dir, config.train.compilation_cache_dir = "", ""
  # Weights are counted against the folders.
  config.data.mixture_dirs, config.data.mixture_weights = (), ()
  if not config.teacher.path.startswith("hf:"):
    config.teacher.path = ""
  return config


def _write_json(path, document):
  text = json.dumps(document, indent=2, ensure_ascii=False)
  path.write_text(text + "\n", encoding="utf-8")
