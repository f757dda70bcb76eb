"""Align motion sensors with video and language: IMU2CLIP in JAX.

The house, floor by floor; a file imports only from floors below its own.

Floor 0, arrays only: `imu` (units, clocks, resampling, windows), `schema` (the
window record), `losses`, `metrics`, `trees` (parameter paths), `config`.
Floor 1: `models` (encoders and the frozen CLIP), `recordings` (one reader a
source), `data` (building, caching and streaming windows), `sharding`, `optim`.
Floor 2: `train_step`, `checkpoint`, `logs`, `command`, `pretrained`.
Floor 3: one entry point each, `imu2clip VERB` = `python -m imu2clip_jax.VERB`.
Floor 4: `demo`, which runs all of it on the built-in world, and `cli`.

Axes: `B` batch, `T` IMU samples, `C` = 6 channels `ax ay az gx gy gz`, `F`
frames, `L` tokens, `D` embedding, `N` rows of a gallery. Arrays are
`[B, T, C]`, time before channels. Acceleration is in m/s² and includes gravity,
angular rate is in rad/s, rates are in Hz, times are float64 seconds.
"""

import importlib

__version__ = "0.1.0"

# Loaded on first use, so that `imu2clip --help` and readers need no jax.
_PUBLIC = {
  "load_clip": "models.teacher",
  "load_imu_encoder": "pretrained",
  "open_recording": "recordings.opening",
}


def __getattr__(name: str):
  if name in _PUBLIC:
    module = importlib.import_module(f"{__name__}.{_PUBLIC[name]}")
    return getattr(module, name)
  if name in ("losses", "metrics"):
    return importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
  return [*globals(), *_PUBLIC, "losses", "metrics"]
