"""The encoders that the paper's is compared with, behind the same face.

Each is scaled to at most 0.1 GFLOP for a forward pass over 1000 samples, keeps
the input norm of the others so that only the trunk differs, and respects
padding exactly: a step that would mix samples with padding is left out.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from imu2clip_jax.models import blocks
from imu2clip_jax.models.gru import Gru
from imu2clip_jax.models.imu_encoder import CHANNELS, Encoder
from imu2clip_jax.models.signal_layers import (
  Conv,
  GroupNorm,
  max_pool,
  time_mask,
)


def build(
  preset: str,
  embed_dim: int,
  *,
  rate_hz: float = 200.0,
  dtype: jnp.dtype = jnp.float32,
) -> Encoder:
  """Make a baseline encoder; its sizes are fixed by the FLOP budget.

  Args:
    preset: a key of `PRESETS`.
    embed_dim: D, the teacher's width.
    rate_hz: sampling rate of the windows.
    dtype: of the products.

  Raises:
    ValueError: an unknown name, or a number out of its bounds.
  """
  if preset not in PRESETS:
    raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
  if not (rate_hz > 0 and math.isfinite(rate_hz)) or embed_dim < 1:
    raise ValueError(
      f"rate_hz is {rate_hz} and embed_dim {embed_dim}, expected more than 0"
    )
  make, min_samples = PRESETS[preset]
  return Encoder(
    preset, make(dtype=dtype), embed_dim, rate_hz, min_samples, dtype=dtype
  )


class TransformerCnn(nn.Module):
  """Strided convolutions make tokens, a small transformer mixes them.

  The convolution-then-attention form of HAR transformers; tokens are averaged.
  """

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, lengths=None):
    x = GroupNorm(2, name="norm_in")(x, lengths).astype(self.dtype)
    for i, (width, kernel, stride) in enumerate(((64, 10, 5), (128, 5, 4))):
      x = Conv(width, kernel, stride=stride, name=f"conv_{i}")(x)
      x = blocks.ACTIVATIONS["gelu"](x)
      if lengths is not None:
        lengths = (lengths - kernel) // stride + 1
    x = x + _positions(*x.shape[1:])[None].astype(self.dtype)
    x = _transformer(2, self.dtype)(x, lengths)
    return _mean(blocks.layer_norm(1e-5, "norm_out", self.dtype)(x), lengths)


class CnnGru(nn.Module):
  """DeepSense (Yao et al. 2017): convolutions inside intervals, GRU over them.

  Every sensor has its own convolutions before the two are merged. Here they
  are one-dimensional over samples, and an interval has 50 (0.25 s at 200 Hz).
  """

  dtype: jnp.dtype
  interval: int = 50

  @nn.compact
  def __call__(self, x, lengths=None):
    x = GroupNorm(2, name="norm_in")(x, lengths).astype(self.dtype)
    batch, steps = x.shape[0], x.shape[1] // self.interval
    x = x[:, : steps * self.interval]
    x = x.reshape(batch * steps, self.interval, CHANNELS)
    merged = []
    for name, signal in zip(("accel", "gyro"), jnp.split(x, 2, 2), strict=True):
      for i, kernel in enumerate((5, 3)):
        signal = Conv(32, kernel, stride=2, name=f"{name}_{i}")(signal)
        signal = blocks.ACTIVATIONS["gelu"](signal)
      merged.append(signal.reshape(batch, steps, -1))
    x = jnp.concatenate(merged, -1)
    x = blocks.ACTIVATIONS["gelu"](blocks.dense(128, "merge", self.dtype)(x))
    mask = _step_mask(lengths, self.interval, steps)
    return Gru(256, name="gru")(x, mask)


class BiLstm(nn.Module):
  """A bidirectional LSTM over the signal, averaged in fours (50 Hz)."""

  dtype: jnp.dtype
  hidden: int = 128
  group: int = 4

  @nn.compact
  def __call__(self, x, lengths=None):
    x = GroupNorm(2, name="norm_in")(x, lengths)
    x = _patches(x, self.group).reshape(x.shape[0], -1, self.group, CHANNELS)
    x = x.mean(2).astype(self.dtype)
    mask = _step_mask(lengths, self.group, x.shape[1])
    ends = [
      Lstm(self.hidden, reverse=False, name="forward")(x, mask),
      Lstm(self.hidden, reverse=True, name="backward")(x, mask),
    ]
    return jnp.concatenate(ends, -1)


class PatchTransformer(nn.Module):
  """ImageBind's form (Girdhar et al. 2023, appendix B) made small.

  Patches of samples are projected linearly, a class token is put before them,
  and its output is the embedding. Positions are sinusoids, for any length.
  """

  dtype: jnp.dtype
  patch: int = 16
  width: int = 128

  @nn.compact
  def __call__(self, x, lengths=None):
    x = GroupNorm(2, name="norm_in")(x, lengths).astype(self.dtype)
    x = blocks.dense(self.width, "patches", self.dtype)(_patches(x, self.patch))
    x = x + _positions(*x.shape[1:])[None].astype(self.dtype)
    token = self.param("token", nn.initializers.normal(0.02), (self.width,))
    first = jnp.broadcast_to(token, (x.shape[0], 1, self.width))
    x = jnp.concatenate([first.astype(self.dtype), x], 1)
    tokens = None if lengths is None else lengths // self.patch + 1
    x = _transformer(3, self.dtype)(x, tokens)
    return blocks.layer_norm(1e-5, "norm_out", self.dtype)(x[:, 0])


class PatchRnn(nn.Module):
  """A bidirectional GRU over linearly projected patches."""

  dtype: jnp.dtype
  patch: int = 16

  @nn.compact
  def __call__(self, x, lengths=None):
    x = GroupNorm(2, name="norm_in")(x, lengths).astype(self.dtype)
    x = blocks.dense(128, "patches", self.dtype)(_patches(x, self.patch))
    mask = _step_mask(lengths, self.patch, x.shape[1])
    ends = [
      Gru(128, reverse=False, name="forward")(x, mask),
      Gru(128, reverse=True, name="backward")(x, mask),
    ]
    return jnp.concatenate(ends, -1)


class AttentionPooled(nn.Module):
  """The paper's convolutions, twice as wide, pooled by learned attention.

  Each of the heads weighs the steps by itself and averages its own values.
  """

  dtype: jnp.dtype
  width: int = 64
  heads: int = 8

  @nn.compact
  def __call__(self, x, lengths=None):
    x = GroupNorm(2, name="norm_in")(x, lengths).astype(self.dtype)
    for i, kernel in enumerate((10, 5, 5)):
      x = Conv(self.width, kernel, dilation=2, name=f"conv_{i}")(x)
      x = max_pool(blocks.ACTIVATIONS["gelu"](x), 3)
      if lengths is not None:
        lengths = (lengths - 2 * (kernel - 1)) // 3
    x = GroupNorm(4, name="norm_out")(x, lengths).astype(self.dtype)
    logits = blocks.dense(self.heads, "weights", self.dtype)(x)
    if lengths is not None:
      keep = time_mask(lengths, x.shape[1])[..., None]
      logits = jnp.where(keep, logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(logits.astype(jnp.float32), axis=1)
    values = blocks.dense(4 * self.width, "values", self.dtype)(x)
    values = values.reshape(*x.shape[:2], self.heads, -1)
    pooled = jnp.einsum("bth,bthd->bhd", weights.astype(self.dtype), values)
    return pooled.reshape(x.shape[0], -1)


class Lstm(nn.Module):
  """A one-layer LSTM (gates i, f, g, o); its last state, [B, T, F] -> [B, H].

  Where `mask` is False the state stays. The forget gate's bias starts at 1.
  """

  hidden: int
  reverse: bool

  @nn.compact
  def __call__(self, x, mask=None):
    def draw(key, shape):
      bound = self.hidden**-0.5
      return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    gates = 4 * self.hidden
    wi = self.param("wi", draw, (x.shape[-1], gates)).astype(x.dtype)
    wh = self.param("wh", draw, (self.hidden, gates)).astype(x.dtype)
    one = jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0]), self.hidden)
    bias = self.param("bias", lambda key: one)[None]

    def product(x, weights):
      return jnp.matmul(x, weights, preferred_element_type=jnp.float32)

    def step(state, inputs):
      h, cell = state
      x, keep = inputs
      raw = product(x, wi) + product(h.astype(wh.dtype), wh) + bias
      i, f, g, o = jnp.split(raw, 4, -1)
      new_cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
      new = jax.nn.sigmoid(o) * jnp.tanh(new_cell), new_cell
      if keep is not None:
        new = tuple(
          jnp.where(keep[:, None], a, b)
          for a, b in zip(new, state, strict=True)
        )
      return new, None

    zero = jnp.zeros((x.shape[0], self.hidden), jnp.float32)
    inputs = jnp.swapaxes(x, 0, 1), None if mask is None else mask.T
    ends, _ = jax.lax.scan(step, (zero, zero), inputs, reverse=self.reverse)
    return ends[0]


def _transformer(layers, dtype):
  return blocks.Blocks(
    layers,
    heads=4,
    mlp_width=256,
    activation="gelu",
    eps=1e-5,
    dtype=dtype,
    name="blocks",
  )


def _patches(x, size):
  """Lay `size` samples side by side, [B, T, C] -> [B, T // size, size C]."""
  steps = x.shape[1] // size
  return x[:, : steps * size].reshape(x.shape[0], steps, -1)


def _step_mask(lengths, size, steps):
  """Keep the steps of `size` samples that hold no padding."""
  return None if lengths is None else time_mask(lengths // size, steps)


def _positions(steps, width):
  """Return sinusoids [L, W] (Vaswani et al. 2017, section 3.5)."""
  rate = 10_000.0 ** (-jnp.arange(0, width, 2) / width)
  angle = jnp.arange(steps)[:, None] * rate[None, :]
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def _mean(x, lengths):
  if lengths is None:
    return x.mean(1)
  keep = time_mask(lengths, x.shape[1])[..., None]
  return jnp.where(keep, x, 0).sum(1) / jnp.maximum(lengths, 1)[:, None]


# Name -> (trunk, fewest samples that leave it one step).
PRESETS = {
  "transformer_cnn": (TransformerCnn, 30),
  "cnn_gru": (CnnGru, 50),
  "bilstm": (BiLstm, 4),
  "patch_transformer": (PatchTransformer, 16),
  "patch_rnn": (PatchRnn, 16),
  "attention_pooled": (AttentionPooled, 141),
}
