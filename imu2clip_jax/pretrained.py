"""Trained IMU encoders, loaded from where they are kept, ready to use.

encoder = load_imu_encoder("runs/demo/imu_video_text")
encoder.embed(windows, rate_hz=100.0)
"""

import dataclasses
import functools
import json
import os
import pathlib

import jax
import ml_collections
import numpy as np

from imu2clip_jax import checkpoint, exported
from imu2clip_jax import config as config_lib
from imu2clip_jax import imu as imu_lib
from imu2clip_jax.models import convert_imu, encoders, imu_encoder, published

# Rows are padded to one of these, so that few programs serve any number: one
# window for a stream, many for a recording.
_BATCHES = (1, 16, 256)
# The released code's windows (its configs, window_sec).
_RELEASED_WINDOW_S = 5.0


@dataclasses.dataclass(frozen=True, eq=False)
class ImuEmbedder:
  """A trained encoder with its parameters.

  Attributes:
    encoder: its pure functions, or the compiled form alone.
    params: its parameters, on the host; empty in the compiled form.
    window_s: the length it was trained on.
    config: every option of its run, None if it came without.
    teacher: {"name", "fingerprint", "dim"} of the space it embeds into, None
      if it came without.
    step: the checkpoint of its run that it is, None if it came without.
  """

  encoder: imu_encoder.Encoder | exported.Program
  params: dict
  window_s: float
  config: ml_collections.ConfigDict | None = None
  teacher: dict | None = None
  step: int | None = None

  @property
  def dim(self) -> int:
    """D, the width of the embeddings."""
    return self.encoder.embed_dim

  @property
  def rate_hz(self) -> float:
    """The rate to which windows are resampled first."""
    return self.encoder.rate_hz

  def embed(
    self,
    imu: np.ndarray,
    rate_hz: float,
    sensor_mask: np.ndarray | None = None,
    normalize: bool = True,
  ) -> np.ndarray:
    """Embed windows.

    Args:
      imu: [N, T, 6], m/s² including gravity and rad/s, in the head frame. What
        a sensor holds that was not measured does not matter, NaN neither.
      rate_hz: of the samples; resampled to the encoder's own.
      sensor_mask: bool [N, 2], accel and gyro measured? None: both, always.
      normalize: give unit norm.

    Returns:
      float32 [N, D].

    Raises:
      ValueError: a shape or rate that does not fit, or a value that is not
        finite; names it and the bound.
    """
    imu = np.asarray(imu)
    if imu.ndim != 3 or imu.shape[2] != imu_encoder.CHANNELS:
      raise ValueError(
        f"imu must be [N, T, {imu_encoder.CHANNELS}], got {list(imu.shape)}"
      )
    if not (np.isfinite(rate_hz) and rate_hz > 0):
      raise ValueError(f"rate_hz is {rate_hz}, expected more than 0")
    if sensor_mask is None:
      sensor_mask = np.ones((len(imu), 2), bool)
    shape = np.shape(sensor_mask)
    if shape != (len(imu), 2):
      raise ValueError(
        f"sensor_mask must be [{len(imu)}, 2], got {list(shape)}"
      )
    sensor_mask = np.asarray(sensor_mask, bool)
    if not sensor_mask.all():
      imu = np.where(np.repeat(sensor_mask, 3, axis=1)[:, None], imu, 0)
    if rate_hz != self.rate_hz:
      imu = imu_lib.resample_windows(imu, rate_hz, self.rate_hz)
    # The bounds on the length hold at the encoder's rate.
    self.encoder.check(imu)
    parts = [np.zeros((0, self.dim), np.float32)]
    for start in range(0, len(imu), _BATCHES[-1]):
      rows = slice(start, start + _BATCHES[-1])
      signals, masks = _padded(imu[rows]), _padded(sensor_mask[rows])
      out = _apply(self.encoder, self.params, signals, masks, normalize)
      parts.append(out[: len(imu) - start])
    found = np.concatenate(parts)
    if not np.isfinite(found).all():
      row = np.flatnonzero(~np.isfinite(found).all(axis=1))[0]
      raise ValueError(
        f"window {row} cannot be embedded: it holds {np.abs(imu[row]).max():g}"
      )
    return found


def _padded(rows):
  missing = next(size for size in _BATCHES if size >= len(rows)) - len(rows)
  return np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)])


def _apply(encoder, params, imu, sensor_mask, normalize):
  embed = _compiled(encoder, normalize)
  return np.asarray(embed(params, imu.astype(np.float32), sensor_mask))


@functools.lru_cache(maxsize=16)
def _compiled(encoder, normalize):
  return jax.jit(
    lambda params, imu, sensor_mask: encoder.apply(
      params, imu, sensor_mask=sensor_mask, normalize=normalize
    )
  )


def load_imu_encoder(
  path: str | os.PathLike, best: bool = False
) -> ImuEmbedder:
  """Load a trained IMU encoder.

  Args:
    path: one of
      the workdir of `imu2clip train`, of which the newest whole checkpoint is
        taken;
      the folder that `imu2clip export` wrote, or the `params` or
        `encoder.stablehlo` in it;
      "hf:owner/name" or "hf:owner/name@revision", such a folder on the Hugging
        Face hub;
      a state dict of the released PyTorch code (`*_src_encoder.pt`), which is
        read without PyTorch and embeds as it does.
    best: of a run, take the checkpoint with the best MRR on validation.

  Raises:
    FileNotFoundError: no encoder there, a part is missing, or a run has no
      whole checkpoint (with `best`: none that was validated).
    ValueError: a file that is damaged, of another export or no such state
      dict; config and checkpoint do not fit each other; or `best` of what is
      no run.
  """
  if best and not (pathlib.Path(path) / "checkpoints").is_dir():
    raise ValueError(
      f"{path} is no workdir of `imu2clip train`: only a run has a best "
      "checkpoint"
    )
  if os.fspath(path).startswith("hf:"):
    folder = published.download(os.fspath(path).removeprefix("hf:"))
    return _load_export(folder, exported.WEIGHTS)
  path = pathlib.Path(path)
  if path.name in (exported.WEIGHTS, exported.PROGRAM):
    return _load_export(path.parent, path.name)
  if path.is_file():
    encoder, params = convert_imu.load_torch_encoder(path)
    return ImuEmbedder(encoder, params, _RELEASED_WINDOW_S)
  if exported.holds_export(path):
    return _load_export(path, exported.WEIGHTS)
  if path.name == exported.TREE and exported.holds_export(path.parent):
    return _load_export(path.parent, exported.TREE)
  return load_run(path, best)


def load_run(workdir: str | os.PathLike, best: bool = False) -> ImuEmbedder:
  """Load the encoder of a run's newest whole checkpoint.

  Args:
    workdir: the run's folder.
    best: take the checkpoint with the best MRR on validation instead.

  Raises:
    FileNotFoundError: no run there, or it has no such checkpoint.
    ValueError: config and checkpoint do not fit each other.
  """
  workdir = pathlib.Path(workdir)
  for name in ("config.json", "run.json"):
    if not (workdir / name).is_file():
      raise FileNotFoundError(
        f"{workdir} holds no run ({name} is missing); make one with "
        "`imu2clip train --workdir=DIR`"
      )
  try:
    config = config_lib.from_json((workdir / "config.json").read_text())
    teacher = json.loads((workdir / "run.json").read_text())["teacher"]
    encoder = encoders.from_config(config.encoder, teacher["dim"])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{workdir}: config.json or run.json is damaged: {error!r}"
    ) from error
  samples = imu_lib.samples_in(config.encoder.window_s, encoder.rate_hz)
  step = checkpoint.find_step(workdir, best)
  params = checkpoint.load_params(
    workdir, {"imu_encoder": encoder.param_shapes(samples)}, step
  )["imu_encoder"]
  return ImuEmbedder(
    encoder, params, config.encoder.window_s, config, teacher, step
  )


def check_teacher(own: dict, found: dict, where: str) -> None:
  """Refuse a teacher of another space than the encoder's.

  Args:
    own: {"name", "fingerprint", "dim"} of the encoder's teacher.
    found: the same of the other one.
    where: what that one belongs to, for the message.

  Raises:
    ValueError: they differ.
  """
  if own["dim"] != found["dim"]:
    raise ValueError(
      f"{where}: teacher {found['name']} is {found['dim']} wide, the encoder "
      f"{own['dim']}: they share no space"
    )
  if own["fingerprint"] != found["fingerprint"]:
    raise ValueError(
      f"{where}: teacher {found['name']} has other weights than "
      f"{own['name']}, towards which the encoder was trained"
    )


def logit_scale(
  workdir: str | os.PathLike, variant: str, best: bool = False
) -> float:
  """Return a run's trained scale of similarities, with text if it has one.

  Raises:
    FileNotFoundError: the run has no such checkpoint, see `load_run`.
  """
  pairs = config_lib.VARIANTS[variant]
  scalar = jax.ShapeDtypeStruct((), np.float32)
  logs = checkpoint.load_params(
    workdir,
    {"log_scale": dict.fromkeys(pairs, scalar)},
    checkpoint.find_step(workdir, best),
  )["log_scale"]
  return float(np.exp(logs["imu_text" if "imu_text" in logs else pairs[0]]))


def _load_export(folder, form):
  document = exported.read_document(folder)
  if form == exported.PROGRAM:
    encoder, params = exported.read_program(folder, document), {}
  else:
    encoder, params = exported.read_params(folder, document, form)
  return ImuEmbedder(
    encoder,
    params,
    document["window_s"],
    exported.run_options(document),
    document["teacher"],
  )
