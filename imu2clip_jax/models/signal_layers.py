"""Layers over signals [B, T, C] whose windows may end in padding.

`lengths` counts the real samples of every window, int32 [B]; None says that all
are real. Parameters are drawn as torch.nn draws them.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

_EPS = 1e-5  # torch's; flax has 1e-6


class GroupNorm(nn.Module):
  """torch.nn.GroupNorm over time and the channels of a group, [B, T, C].

  Only the first `lengths[b]` samples of a window count, and the others come
  out as zero. Computed in float32, in two passes: gravity makes the mean of
  an accelerometer large beside its spread.
  """

  groups: int

  @nn.compact
  def __call__(self, x, lengths=None):
    batch, time, channels = x.shape
    scale = self.param("scale", nn.initializers.ones, (channels,))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    y = x.astype(wide).reshape(batch, time, self.groups, -1)
    if lengths is None:
      y = y - y.mean((1, 3), keepdims=True)
      spread = (y * y).mean((1, 3), keepdims=True)
    else:
      keep = time_mask(lengths, time)[:, :, None, None]
      count = jnp.maximum(lengths, 1) * y.shape[3]
      count = count[:, None, None, None].astype(wide)
      y = jnp.where(keep, y, 0)
      y = jnp.where(keep, y - y.sum((1, 3), keepdims=True) / count, 0)
      spread = (y * y).sum((1, 3), keepdims=True) / count
    y = (y * jax.lax.rsqrt(spread + _EPS)).reshape(x.shape) * scale[None, None]
    y = y + bias[None, None]
    return y if lengths is None else jnp.where(keep[..., 0], y, 0)


class Conv(nn.Module):
  """torch.nn.Conv1d without bias or padding, drawn as torch draws it."""

  features: int
  kernel: int
  dilation: int = 1
  stride: int = 1

  @nn.compact
  def __call__(self, x):
    shape = (self.kernel, x.shape[-1], self.features)
    bound = (self.kernel * x.shape[-1]) ** -0.5
    kernel = self.param(
      "kernel",
      lambda key: jax.random.uniform(key, shape, jnp.float32, -bound, bound),
    )
    return jax.lax.conv_general_dilated(
      x,
      kernel.astype(x.dtype),
      window_strides=(self.stride,),
      padding="VALID",
      rhs_dilation=(self.dilation,),
      dimension_numbers=("NWC", "WIO", "NWC"),
    )


def max_pool(x: jax.Array, size: int) -> jax.Array:
  """Take the maximum of every `size` samples, [B, T, C] -> [B, T // size, C].

  Elementwise maxima of slices: on CPUs the gradient of a window reduction is
  far slower. A tie shares its gradient.
  """
  time = x.shape[1] // size * size
  parts = [x[:, i:time:size] for i in range(size)]
  while len(parts) > 1:
    parts = [
      jnp.maximum(*parts[i : i + 2]) if parts[i + 1 :] else parts[i]
      for i in range(0, len(parts), 2)
    ]
  return parts[0]


def time_mask(lengths: jax.Array, time: int) -> jax.Array:
  """Return bool [B, T]: the first `lengths[b]` samples of each window."""
  return jnp.arange(time)[None, :] < lengths[:, None]


def unit_norm(x: jax.Array) -> jax.Array:
  """Divide rows by their length.

  Rows shorter than 1e-6, zeros above all, stay short: their gradient would be
  without bound.
  """
  squares = jnp.sum(x * x, -1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))
