"""The paper's IMU encoder: norm, dilated convolutions, pooling, norm, GRU.

`Encoder` is the face that all IMU encoders share, the baselines too: two pure
functions, `init` and `apply`, and the bounds on what may go in. The trunks
behind it take cleaned samples and the number of real ones in every window.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imu2clip_jax.models.blocks import ACTIVATIONS
from imu2clip_jax.models.flops import count_flops
from imu2clip_jax.models.gru import Gru
from imu2clip_jax.models.signal_layers import (
  Conv,
  GroupNorm,
  max_pool,
  time_mask,
  unit_norm,
)

CHANNELS = 6
# (kernel, samples between its taps), no padding, no bias.
_KERNELS = (10, 5, 5)
_DILATION = 2


@dataclasses.dataclass(frozen=True)
class _Preset:
  pools: tuple[int, int, int]  # max pooling behind each convolution
  activation: str
  swap: bool  # the GRU walks over channels, with time as its features
  fixed: bool  # the released network: no choice of activation


PRESETS = {
  # One pooling behind the stack (paper section 3.1).
  "paper": _Preset((1, 1, 5), "gelu", swap=False, fixed=False),
  # The released code's layers with the GRU over time.
  "official": _Preset((3, 3, 3), "none", swap=False, fixed=True),
  # The released network itself: its GRU gets [B, channels, time] as if it were
  # [B, time, channels], which only fits while 32 pooled samples are left.
  "official_swapped": _Preset((3, 3, 3), "none", swap=True, fixed=True),
}
SWAPPED_STEPS = 32


@dataclasses.dataclass(frozen=True)
class Encoder:
  """An IMU encoder as pure functions of its parameters.

  Attributes:
    preset: its name.
    trunk: Linen module, (x [B, T, 6], lengths int [B] or None) -> [B, W].
    embed_dim: D; a linear projection follows the trunk where W differs.
    rate_hz: the rate of the samples it expects.
    min_samples: the shortest window.
    max_samples: the longest, or None.
    dtype: of the products; parameters and statistics stay float32.
  """

  preset: str
  trunk: nn.Module
  embed_dim: int
  rate_hz: float
  min_samples: int
  max_samples: int | None = None
  dtype: jnp.dtype = jnp.float32

  def init(self, key: jax.Array, num_samples: int) -> dict:
    """Draw float32 parameters for windows of `num_samples`.

    Raises:
      ValueError: `num_samples` outside [min_samples, max_samples].
    """
    self._check_shape((1, num_samples, CHANNELS))
    imu = jnp.zeros((1, num_samples, CHANNELS), jnp.float32)
    return jax.jit(self._module().init)(key, imu, None)["params"]

  def apply(
    self,
    params: dict,
    imu: jax.Array,
    mask: jax.Array | None = None,
    sensor_mask: jax.Array | None = None,
    *,
    normalize: bool = True,
  ) -> jax.Array:
    """Embed windows, [B, T, 6] -> float32 [B, D] of unit norm.

    Args:
      params: from `init`.
      imu: float [B, T, 6], m/s² and rad/s at `rate_hz`.
      mask: bool [B, T], False for padding behind the samples. A window gives
        what its samples alone would give, whatever the padding holds.
      sensor_mask: bool [B, 2], False where the accelerometer or the gyroscope
        was not measured; its channels count as constant.
      normalize: False leaves the length of the embedding as it comes.

    Raises:
      ValueError: a shape that does not fit. Values are not looked at, as the
        function is traced: see `check`.
    """
    imu, lengths = self._inputs(imu, mask, sensor_mask)
    x = self._module().apply({"params": params}, imu, lengths)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return unit_norm(x) if normalize else x

  def features(
    self,
    params: dict,
    imu: jax.Array,
    mask: jax.Array | None = None,
    sensor_mask: jax.Array | None = None,
  ) -> jax.Array:
    """Return what the trunk says of windows, float32 [B, W].

    That is before the projection into the teacher's space, which keeps what the
    teacher's embeddings tell apart. Arguments and errors are those of `apply`.
    """
    imu, lengths = self._inputs(imu, mask, sensor_mask)
    x = self.trunk.apply({"params": params["trunk"]}, imu, lengths)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))

  def _inputs(self, imu, mask, sensor_mask):
    imu = jnp.asarray(imu)
    self._check_shape(imu.shape)
    lengths = None
    if mask is not None:
      imu = jnp.where(jnp.asarray(mask)[..., None], imu, 0)
      lengths = jnp.asarray(mask).sum(1, dtype=jnp.int32)
    if sensor_mask is not None:
      measured = jnp.repeat(jnp.asarray(sensor_mask), CHANNELS // 2, axis=1)
      imu = jnp.where(measured[:, None], imu, 0)
    return imu, lengths

  def check(self, imu, mask=None) -> None:
    """Refuse windows that `apply` would embed into nonsense.

    Args:
      imu: array [B, T, 6].
      mask: bool [B, T] as in `apply`.

    Raises:
      ValueError: NaN or infinity in a sample, a mask with a hole, a window
        with too few samples, a wrong shape; names the window and the bound.
    """
    imu = np.asarray(imu)
    self._check_shape(imu.shape)
    if mask is None:
      mask = np.ones(imu.shape[:2], bool)
    mask = np.asarray(mask)
    if mask.shape != imu.shape[:2] or mask.dtype != bool:
      raise ValueError(
        f"mask must be bool {list(imu.shape[:2])}, got {mask.dtype} "
        f"{list(mask.shape)}"
      )
    holes = (mask[:, 1:] & ~mask[:, :-1]).any(1)
    if holes.any():
      raise ValueError(
        f"mask of window {holes.argmax()}: padding must lie behind the samples"
      )
    short = mask.sum(1) < self.min_samples
    if short.any():
      window = short.argmax()
      raise ValueError(
        f"window {window} has {mask[window].sum()} samples, preset "
        f"{self.preset!r} needs at least {self.min_samples}"
      )
    bad = (~np.isfinite(imu).all(2) & mask).any(1)
    if bad.any():
      raise ValueError(f"imu of window {bad.argmax()} holds NaN or infinity")

  def flops(self, num_samples: int) -> int:
    """Count the operations of the products, forward, for one window."""
    imu = jax.ShapeDtypeStruct((1, num_samples, CHANNELS), jnp.float32)
    return count_flops(self.apply, self.param_shapes(num_samples), imu)

  def param_shapes(self, num_samples: int) -> dict:
    """Return the shapes and dtypes of the parameters, computing nothing."""
    return jax.eval_shape(
      lambda key: self.init(key, num_samples), jax.random.key(0)
    )

  def _module(self):
    return _Head(self.trunk, self.embed_dim, self.dtype)

  def _check_shape(self, shape):
    if len(shape) != 3 or shape[2] != CHANNELS:
      raise ValueError(
        f"imu must be [B, T, {CHANNELS}] (accel, gyro), got {list(shape)}"
      )
    longest = math.inf if self.max_samples is None else self.max_samples
    if not self.min_samples <= shape[1] <= longest:
      raise ValueError(
        f"preset {self.preset!r} takes {self.min_samples} to {longest} "
        f"samples a window, got {shape[1]}"
      )


def build(
  preset: str,
  embed_dim: int,
  *,
  rate_hz: float = 200.0,
  hidden: int = 512,
  width: int = 32,
  activation: str | None = None,
  dtype: jnp.dtype = jnp.float32,
) -> Encoder:
  """Make a convolution + GRU encoder.

  Args:
    preset: a key of `PRESETS`.
    embed_dim: D, the teacher's width.
    rate_hz: sampling rate of the windows.
    hidden: states of the GRU; its last state is the embedding if it has the
      teacher's width already.
    width: channels of the convolutions, a multiple of 4.
    activation: behind each convolution, a name in `blocks.ACTIVATIONS` or
      "none" (the paper's three convolutions are then one linear filter); None
      for the preset's own.
    dtype: of the products.

  Raises:
    ValueError: an unknown name, or a number out of its bounds.
  """
  if preset not in PRESETS:
    raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
  form = PRESETS[preset]
  for name, value in (
    ("rate_hz", rate_hz),
    ("hidden", hidden),
    ("width", width),
    ("embed_dim", embed_dim),
  ):
    if not (value > 0 and math.isfinite(value)):
      raise ValueError(f"{name} is {value}, expected more than 0")
  if width % 4:
    raise ValueError(f"width is {width}, expected a multiple of 4 groups")
  activation = activation or form.activation
  if activation != "none" and activation not in ACTIVATIONS:
    names = ", ".join(["none", *ACTIVATIONS])
    raise ValueError(f"activation {activation!r} is not one of {names}")
  if form.fixed and activation != form.activation:
    raise ValueError(
      f"preset {preset!r} has no activation, got {activation!r}; its only "
      "nonlinearity is the pooling"
    )
  bounds = [
    _samples_for(steps, form.pools)
    for steps in ((SWAPPED_STEPS, SWAPPED_STEPS + 1) if form.swap else (1,))
  ]
  return Encoder(
    preset,
    ConvGru(form.pools, activation, form.swap, width, hidden, dtype),
    embed_dim,
    rate_hz,
    min_samples=bounds[0],
    max_samples=bounds[1] - 1 if form.swap else None,
    dtype=dtype,
  )


def _samples_for(steps, pools):
  """Return the fewest samples that leave `steps` for the GRU."""
  for kernel, pool in zip(reversed(_KERNELS), reversed(pools), strict=True):
    steps = steps * pool + _DILATION * (kernel - 1)
  return steps


class _Head(nn.Module):
  """A trunk and, where its width is not the teacher's, a linear projection."""

  trunk: nn.Module
  embed_dim: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, imu, lengths):
    x = self.trunk(imu, lengths)
    if x.shape[-1] == self.embed_dim:
      return x
    return nn.Dense(self.embed_dim, dtype=self.dtype, name="out")(x)


class ConvGru(nn.Module):
  """Norm -> (convolution, activation, pooling) x 3 -> norm -> GRU."""

  pools: tuple[int, int, int]
  activation: str
  swap: bool
  width: int
  hidden: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, lengths=None):
    x = GroupNorm(2, name="norm_in")(x, lengths).astype(self.dtype)
    for i, (kernel, pool) in enumerate(zip(_KERNELS, self.pools, strict=True)):
      x = Conv(self.width, kernel, _DILATION, name=f"conv_{i}")(x)
      if self.activation != "none":
        x = ACTIVATIONS[self.activation](x)
      x = max_pool(x, pool)
      if lengths is not None:
        lengths = (lengths - _DILATION * (kernel - 1)) // pool
    x = GroupNorm(4, name="norm_out")(x, lengths).astype(self.dtype)
    if self.swap:
      return Gru(self.hidden, name="gru")(jnp.swapaxes(x, 1, 2))
    mask = None if lengths is None else time_mask(lengths, x.shape[1])
    return Gru(self.hidden, name="gru")(x, mask)
