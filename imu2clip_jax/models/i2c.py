"""Our own IMU encoders: posture, rhythm, energy and shape of a motion.

`i2c` keeps four things that the paper's form loses:

* Orientation. Signals are turned until the window's mean acceleration points
  up. Of the heading that is then left, nothing shows: horizontal signals are
  filtered as complex numbers by complex kernels, and only the magnitude goes
  on, as in harmonic networks (arXiv 1612.04642). So the embedding is the same
  however the wearer faces, without augmentation or averaging.
* Posture. The direction of gravity in the sensor's own axes stays beside it.
* Amplitude. No norm over the window: signals go through asinh, which is linear
  for small motions and a signed logarithm for large ones.
* Rhythm and energy. Mean, spread and peak of every feature over the window, of
  learned filters at three time scales and of the energies of frequency bands.

`i2c_head` is for sensors that all face forward, as in the head frame: it also
sees which way horizontal motion goes, and how the wearer leans and turns in the
middle of the window, where its frame is.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imu2clip_jax.models.blocks import ACTIVATIONS, dense, layer_norm
from imu2clip_jax.models.imu_encoder import Encoder
from imu2clip_jax.models.signal_layers import Conv, time_mask

PRESETS = ("i2c", "i2c_head")

# The kernels, frames and bands below are in samples at about this rate.
RATE_HZ = 50.0
_KERNELS = (5, 15, 41)
_STRIDE = 2
_FRAME, _HOP = 100, 25
_BAND_EDGES_HZ = (0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 13, 17, 21, 25)
_GRAVITY = 9.80665
# Where asinh turns from linear to logarithmic: a calm head's motion.
_CALM_ACCEL, _CALM_GYRO = 0.1, 0.02
# Below this mean acceleration, m/s², there is no telling what is up.
_WEIGHTLESS = 1.0
_MIN_SQUARE = 1e-6
# The middle of a window, as a spread around it in lengths of the window; where
# leaning, m/s², and turning, rad/s, are bent.
_MIDDLE, _LEAN, _TURN = 0.08, 0.5, 0.1


def build(
  preset: str,
  embed_dim: int,
  *,
  rate_hz: float = RATE_HZ,
  width: int = 32,
  dtype: jnp.dtype = jnp.float32,
) -> Encoder:
  """Make the encoder `i2c` or `i2c_head`.

  Args:
    preset: which of them.
    embed_dim: D, the teacher's width.
    rate_hz: sampling rate of the windows. The filters are sized for 50 Hz,
      which holds all of human motion; other rates work, with other bands.
    width: filters of each time scale and kind of signal.
    dtype: of the products.

  Raises:
    ValueError: an unknown name, or a number out of its bounds.
  """
  if preset not in PRESETS:
    raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
  for name, value in (
    ("rate_hz", rate_hz),
    ("width", width),
    ("embed_dim", embed_dim),
  ):
    if not (value > 0 and math.isfinite(value)):
      raise ValueError(f"{name} is {value}, expected more than 0")
  return Encoder(
    preset,
    I2c(width, preset == "i2c_head", dtype),
    embed_dim,
    rate_hz,
    _FRAME,
    dtype=dtype,
  )


class I2c(nn.Module):
  """Gravity alignment -> filters and band energies -> pooling -> mixing."""

  width: int
  forward: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, lengths=None):
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if lengths is None:
      lengths = jnp.full(x.shape[0], x.shape[1], jnp.int32)
    x, posture = upright(x, lengths)
    bands = band_energies(x)
    upward, level = compress(x)
    stem = self._stem(upward.astype(self.dtype), level.astype(self.dtype))
    gelu = ACTIVATIONS["gelu"]
    body = gelu(Conv(4 * self.width, 5, stride=2, name="conv")(stem))
    steps = _steps(lengths, max(_KERNELS), _STRIDE)
    parts = {
      "stem": pool(stem, steps),
      "body": pool(body, _steps(steps, 5, 2)),
      "bands": pool(bands, _steps(lengths, _FRAME, _HOP)),
    }
    energy = parts["bands"][:, : bands.shape[2]] / 4
    parts = [
      layer_norm(1e-5, f"norm_{name}", self.dtype)(part.astype(self.dtype))
      for name, part in parts.items()
    ]
    # The norms take the amount of energy away; here it stays.
    parts += [energy, 2 * posture]
    if self.forward:
      parts.append(lean_and_turn(x, lengths))
    x = jnp.concatenate([part.astype(self.dtype) for part in parts], -1)
    for i in range(2):
      x = gelu(dense(8 * self.width, f"mix_{i}", self.dtype)(x))
    return x

  def _stem(self, upward, level):
    """Filter at three time scales, centred on the same samples."""
    out = []
    for i, kernel in enumerate(_KERNELS):
      margin = (max(_KERNELS) - kernel) // 2
      inside = slice(margin, upward.shape[1] - margin)
      conv = Conv(self.width // 2, kernel, stride=_STRIDE, name=f"up_{i}")
      out.append(ACTIVATIONS["gelu"](conv(upward[:, inside])))
      flat = level[:, inside]
      conv = LevelConv(self.width, kernel, _STRIDE, name=f"level_{i}")
      out.append(conv(flat))
      if self.forward:
        conv = Conv(self.width // 2, kernel, stride=_STRIDE, name=f"ahead_{i}")
        flat = flat.reshape(*flat.shape[:2], -1)
        out.append(ACTIVATIONS["gelu"](conv(flat)))
    return jnp.concatenate(out, -1)


class LevelConv(nn.Module):
  """Magnitudes of complex filters over horizontal vectors.

  [B, T, 2 axes, C] -> [B, T', features]; turning all vectors about the
  vertical turns the phase of every output and leaves its magnitude.
  """

  features: int
  kernel: int
  stride: int

  @nn.compact
  def __call__(self, x):
    batch, time, _, channels = x.shape
    shape = (2, self.kernel, channels, self.features)
    bound = (2 * self.kernel * channels) ** -0.5
    real, imaginary = self.param(
      "kernel",
      lambda key: jax.random.uniform(key, shape, jnp.float32, -bound, bound),
    ).astype(x.dtype)
    # (a + ib)(x + iy) as one real product: rows x, y; columns real, imaginary.
    kernel = jnp.concatenate(
      [
        jnp.concatenate([real, imaginary], -1),
        jnp.concatenate([-imaginary, real], -1),
      ],
      1,
    )
    y = jax.lax.conv_general_dilated(
      x.reshape(batch, time, 2 * channels),
      kernel,
      window_strides=(self.stride,),
      padding="VALID",
      dimension_numbers=("NWC", "WIO", "NWC"),
    )
    y = y.reshape(batch, -1, 2, self.features)
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    length = jnp.sqrt((y * y).sum(2) + _MIN_SQUARE)
    return ACTIVATIONS["gelu"](length + bias[None, None].astype(x.dtype))


def upright(x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Turn windows until their mean acceleration points along +z.

  By the shortest turn, after half a turn about x where that direction lies
  below the horizon: so no turn is near the half circle, where the shortest one
  is not unique and its gradient has no bound. What lies behind `lengths` is
  zero.

  Args:
    x: [B, T, 6] accel, gyro.
    lengths: int32 [B], real samples.

  Returns:
    x in the upright frame with gravity removed from z, and posture [B, 6]: the
    direction of gravity in the sensor's axes and its absolute values. Windows
    without acceleration stay as they are, their posture is zero.
  """
  real = time_mask(lengths, x.shape[1])[:, :, None]
  x = jnp.where(real, x, 0)
  mean = x[:, :, :3].sum(1) / jnp.maximum(lengths, 1)[:, None]
  square = (mean * mean).sum(1)
  known = square > _WEIGHTLESS**2
  mean = jnp.where(known[:, None], mean, jnp.asarray([[0.0, 0.0, 1.0]]))
  up = mean / jnp.sqrt((mean * mean).sum(1, keepdims=True))
  flip = jnp.where(up[:, 2:] < 0, jnp.asarray([[1, -1, -1]]), 1)
  east, north, top = jnp.moveaxis(up * flip, 1, 0)
  share = 1 / (1 + top)  # Rodrigues' formula about the axis up x z
  rotation = jnp.stack(
    [
      jnp.stack([1 - east * east * share, -east * north * share, -east], 1),
      jnp.stack([-east * north * share, 1 - north * north * share, -north], 1),
      jnp.stack([east, north, top], 1),
    ],
    1,
  )
  sensors = x.reshape(*x.shape[:2], 2, 3) * flip[:, None, None]
  turned = jnp.einsum("btsj,bij->btsi", sensors, rotation).reshape(x.shape)
  weight = jnp.where(known, _GRAVITY, 0)[:, None, None]
  turned = turned - weight * jnp.asarray([[[0, 0, 1, 0, 0, 0]]])
  posture = jnp.where(known[:, None], jnp.concatenate([up, jnp.abs(up)], 1), 0)
  return jnp.where(real, turned, 0), posture


def lean_and_turn(x: jax.Array, lengths: jax.Array) -> jax.Array:
  """Say how a wearer leans and turns in the middle of a window.

  Args:
    x: [B, T, 6] from `upright`.
    lengths: int32 [B], real samples.

  Returns:
    [B, 6]: acceleration, in which leaning away from the mean posture shows, and
    angular rate, both bent.
  """
  place = (jnp.arange(x.shape[1])[None] + 0.5) / jnp.maximum(lengths, 1)[
    :, None
  ]
  weight = jnp.exp(-(((place - 0.5) / _MIDDLE) ** 2))
  weight = jnp.where(time_mask(lengths, x.shape[1]), weight, 0)
  weight = weight / jnp.maximum(weight.sum(1, keepdims=True), _MIN_SQUARE)
  middle = (x * weight[:, :, None]).sum(1)
  bend = jnp.repeat(jnp.asarray([_LEAN, _TURN]), 3)
  return jnp.arcsinh(middle / bend[None])


def compress(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Bend upright signals so that calm and violent motion fit one scale.

  Args:
    x: [B, T, 6] from `upright`.

  Returns:
    upward [B, T, 4]: vertical accel and gyro, horizontal lengths of both;
    level [B, T, 2 axes, 2 sensors]: horizontal vectors, bent by their length.
  """
  calm = jnp.asarray([_CALM_ACCEL, _CALM_GYRO])
  sensors = jnp.swapaxes(x.reshape(*x.shape[:2], 2, 3), 2, 3)
  sensors = sensors / calm[None, None, None]
  flat = sensors[:, :, :2]
  length = jnp.sqrt((flat * flat).sum(2) + _MIN_SQUARE)
  bent = jnp.arcsinh(length)
  upward = jnp.concatenate([jnp.arcsinh(sensors[:, :, 2]), bent], -1)
  return upward, flat * (bent / length)[:, :, None]


def band_energies(x: jax.Array) -> jax.Array:
  """Measure log energies of frequency bands in overlapping frames.

  Frames of 2 s with a Hann window, every 0.5 s (at 50 Hz), their mean taken
  out; the energies of both horizontal axes are added.

  Args:
    x: [B, T, 6] from `upright`, T >= 100.

  Returns:
    [B, (T - 100) // 25 + 1, 4 * bands] float32.
  """
  batch, time, channels = x.shape
  waves, into_bands = _fourier()
  frames = jax.lax.conv_general_dilated(
    jnp.swapaxes(x, 1, 2).reshape(batch * channels, time, 1),
    jnp.asarray(waves, x.dtype)[:, None],
    window_strides=(_HOP,),
    padding="VALID",
    dimension_numbers=("NWC", "WIO", "NWC"),
  )
  energy = (frames * frames) @ jnp.asarray(into_bands, x.dtype)
  energy = energy.reshape(batch, 2, 3, *energy.shape[1:])
  energy = jnp.stack([energy[:, :, 2], energy[:, :, 0] + energy[:, :, 1]], 2)
  calm = jnp.asarray([_CALM_ACCEL, _CALM_GYRO])[None, :, None, None, None]
  # The floor lies below the noise of the quietest sensors.
  level = jnp.log(energy / calm**2 + 1e-2)
  level = jnp.moveaxis(level, 3, 1)
  return level.reshape(batch, level.shape[1], -1)


def _fourier():
  """Windowed sines and cosines [frame, 2 K], and bins to bands [2 K, bands].

  Sums over a frame give its variance in the bins of a band.
  """
  ticks = np.arange(_FRAME)
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * (ticks + 0.5) / _FRAME)
  bins = np.arange(1, _FRAME // 2)
  phases = 2 * np.pi * np.outer(ticks, bins) / _FRAME
  waves = np.concatenate([np.cos(phases), np.sin(phases)], 1) * hann[:, None]
  waves -= waves.mean(0)
  waves *= np.sqrt(2 / (_FRAME * (hann**2).sum()))
  hz = np.tile(bins * RATE_HZ / _FRAME, 2)
  low, high = np.array(_BAND_EDGES_HZ[:-1]), np.array(_BAND_EDGES_HZ[1:])
  return waves, ((hz[:, None] >= low) & (hz[:, None] < high)).astype(float)


def pool(x: jax.Array, steps: jax.Array) -> jax.Array:
  """Return mean, spread and maximum of the first `steps`, [B, 3 C] float32."""
  keep = time_mask(steps, x.shape[1])[:, :, None]
  count = jnp.maximum(steps, 1)[:, None].astype(jnp.float32)
  x = jnp.where(keep, x, 0).astype(jnp.promote_types(x.dtype, jnp.float32))
  mean = x.sum(1) / count
  rest = jnp.where(keep, x - mean[:, None], 0)
  spread = jnp.sqrt((rest * rest).sum(1) / count + _MIN_SQUARE)
  peak = jnp.where(keep, x, -jnp.inf).max(1)
  return jnp.concatenate([mean, spread, peak], -1)


def _steps(lengths, kernel, stride):
  return (lengths - kernel) // stride + 1
