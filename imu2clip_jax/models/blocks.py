"""Transformer parts, one copy each: attention, MLP, block, stack of blocks.

Pre-norm blocks as in CLIP (Radford et al. 2021, section 2.4) and GPT-2. Widths
come from the input; `dtype` is the dtype of the arithmetic, parameters are
stored in float32 unless the caller casts them.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

# Up to the depth of ViT-B. In the body of a loop XLA on CPUs leaves the native
# bfloat16 instructions: one image through ViT-B/32 took 135 ms, unrolled 68.
_UNROLLED = 12

ACTIVATIONS = {
  # The sigmoid form that OpenAI's weights were trained with.
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
  # The exact form with erf; jax's own default is the tanh approximation.
  "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


def _dot_general(a, b, dimensions, precision=None, preferred_element_type=None):
  """Multiply with float32 sums, return the inputs' dtype.

  XLA on CPUs uses the native bfloat16 instructions only when asked for a
  float32 result; for float32 inputs nothing changes.
  """
  del preferred_element_type
  out = jax.lax.dot_general(
    a, b, dimensions, precision, preferred_element_type=jnp.float32
  )
  return out.astype(a.dtype)


def dense(features: int, name: str, dtype, use_bias: bool = True) -> nn.Dense:
  """Make a linear layer whose products are summed in float32."""
  return nn.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    dot_general=_dot_general,
    name=name,
  )


def layer_norm(eps: float, name: str, dtype) -> nn.LayerNorm:
  """Make a LayerNorm with torch's arithmetic.

  Flax's default, E[x²] - E[x]², loses digits where the mean is large.
  """
  return nn.LayerNorm(
    epsilon=eps, use_fast_variance=False, dtype=dtype, name=name
  )


class Attention(nn.Module):
  """Multi-head self-attention, [B, L, W] → [B, L, W].

  With `lengths`, int32 [B], nothing attends to what lies behind them.
  """

  heads: int
  causal: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, lengths=None):
    batch, length, width = x.shape
    if width % self.heads:
      raise ValueError(f"width {width} is not a multiple of {self.heads} heads")
    qkv = dense(3 * width, "qkv", self.dtype)(x)
    qkv = qkv.reshape(batch, length, 3, self.heads, width // self.heads)
    query, key, value = (qkv[:, :, i] for i in range(3))
    mixed = jax.nn.dot_product_attention(
      query,
      key,
      value,
      is_causal=self.causal,
      key_value_seq_lengths=lengths,
    )
    return dense(width, "out", self.dtype)(mixed.reshape(x.shape))


class Mlp(nn.Module):
  """Two linear layers with an activation between, [B, L, W] → [B, L, W]."""

  width: int
  activation: str
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    hidden = dense(self.width, "up", self.dtype)(x)
    hidden = ACTIVATIONS[self.activation](hidden)
    return dense(x.shape[-1], "down", self.dtype)(hidden)


class Block(nn.Module):
  """Attention, then MLP, each on a normalised copy and added back."""

  heads: int
  mlp_width: int
  activation: str
  eps: float
  causal: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, lengths=None):
    y = layer_norm(self.eps, "norm_1", self.dtype)(x)
    attention = Attention(self.heads, self.causal, self.dtype, name="attention")
    x = x + attention(y, lengths)
    y = layer_norm(self.eps, "norm_2", self.dtype)(x)
    x = x + Mlp(self.mlp_width, self.activation, self.dtype, name="mlp")(y)
    return x, None  # the form that a scan over layers wants


class Blocks(nn.Module):
  """`layers` blocks in a row; every parameter is stacked on a first axis.

  The scan compiles one block however many there are. A few blocks are unrolled:
  their loop would cost more at run time than it saves in compilation.
  """

  layers: int
  heads: int
  mlp_width: int
  activation: str
  eps: float
  causal: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, lengths=None):
    scanned = nn.scan(
      Block,
      in_axes=nn.broadcast,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      length=self.layers,
      unroll=self.layers if self.layers <= _UNROLLED else 1,
    )
    block = scanned(
      self.heads,
      self.mlp_width,
      self.activation,
      self.eps,
      self.causal,
      self.dtype,
      name="layers",
    )
    return block(x, lengths)[0]
