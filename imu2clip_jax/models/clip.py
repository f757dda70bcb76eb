"""CLIP's two towers (Radford et al. 2021): images and texts into one space.

Used functionally: `init(key, config)` gives a nested dict of float32 arrays,
`encode_images` and `encode_texts` apply it. Every number that could differ
between checkpoints is in `ClipConfig`; nothing hangs on an architecture's name.

    params = {"image": ..., "text": ..., "log_scale": []}
"""

import contextlib
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from imu2clip_jax.models import blocks

# Narrations are short: most fit the first bucket, and few shapes compile.
TEXT_BUCKETS = (16, 32, 48)


@dataclasses.dataclass(frozen=True)
class Tower:
  """One transformer: sizes, activation and LayerNorm's epsilon."""

  width: int
  layers: int
  heads: int
  mlp_width: int
  activation: str
  eps: float = 1e-5

  def __post_init__(self):
    if self.activation not in blocks.ACTIVATIONS:
      raise ValueError(
        f"unknown activation {self.activation!r}; "
        f"CLIP uses {' or '.join(blocks.ACTIVATIONS)}"
      )
    if self.width % self.heads:
      raise ValueError(
        f"a width of {self.width} does not divide into {self.heads} heads"
      )


@dataclasses.dataclass(frozen=True)
class ClipConfig:
  """The whole model.

  Attributes:
    embed_dim: D, the width of the shared space.
    image: the image transformer.
    text: the text transformer.
    image_size: pixels along each side of the square input.
    patch_size: pixels along each side of a patch.
    vocab_size: number of token ids.
    context: L, the longest text in tokens, specials included.
    eot_id: texts are pooled at the first such id; None pools at the largest
      id, which in OpenAI's vocabulary is the same place.
  """

  embed_dim: int
  image: Tower
  text: Tower
  image_size: int
  patch_size: int
  vocab_size: int
  context: int
  eot_id: int | None = None

  def __post_init__(self):
    if self.image_size % self.patch_size:
      raise ValueError(
        f"an image size of {self.image_size} does not divide into "
        f"patches of {self.patch_size}"
      )


def _run_blocks(tower: Tower, dtype, *, causal: bool) -> blocks.Blocks:
  return blocks.Blocks(
    tower.layers,
    tower.heads,
    tower.mlp_width,
    tower.activation,
    tower.eps,
    causal,
    dtype,
    name="blocks",
  )


class ImageTower(nn.Module):
  """Vision transformer: normalised pixels [B, S, S, 3] → [B, D]."""

  config: ClipConfig
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images):
    tower, patch = self.config.image, self.config.patch_size
    width, grid = tower.width, self.config.image_size // patch
    batch = images.shape[0]
    # A convolution whose stride is its size is one product over flat patches.
    x = images.astype(self.dtype).reshape(batch, grid, patch, grid, patch, 3)
    x = x.swapaxes(2, 3).reshape(batch, grid * grid, patch * patch * 3)
    x = blocks.dense(width, "patch", self.dtype, use_bias=False)(x)

    small = nn.initializers.normal(width**-0.5)
    first = self.param("class_token", small, (width,))
    places = self.param("positions", small, (grid * grid + 1, width))
    first = jnp.broadcast_to(first.astype(self.dtype), (batch, 1, width))
    x = jnp.concatenate([first, x], axis=1) + places.astype(self.dtype)[None]

    x = blocks.layer_norm(tower.eps, "norm_pre", self.dtype)(x)
    x = _run_blocks(tower, self.dtype, causal=False)(x)
    # Norms act on each token alone, so pooling first gives the same numbers.
    x = blocks.layer_norm(tower.eps, "norm_post", self.dtype)(x[:, 0])
    head = blocks.dense(
      self.config.embed_dim, "head", self.dtype, use_bias=False
    )
    return head(x).astype(jnp.float32)


class TextTower(nn.Module):
  """Causal transformer: ids [B, L] → [B, D], pooled at the end of the text.

  L may be anything up to the context: nothing after a text's end can change
  its embedding.
  """

  config: ClipConfig
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, ids):
    tower, config = self.config.text, self.config
    table = self.param(
      "tokens", nn.initializers.normal(0.02), (config.vocab_size, tower.width)
    )
    places = self.param(
      "positions", nn.initializers.normal(0.01), (config.context, tower.width)
    )
    x = table.astype(self.dtype)[ids]
    x = x + places[None, : ids.shape[1]].astype(self.dtype)
    x = _run_blocks(tower, self.dtype, causal=True)(x)

    ends = ids if config.eot_id is None else ids == config.eot_id
    x = x[jnp.arange(ids.shape[0]), jnp.argmax(ends, axis=1)]
    x = blocks.layer_norm(tower.eps, "norm_final", self.dtype)(x)
    head = blocks.dense(config.embed_dim, "head", self.dtype, use_bias=False)
    return head(x).astype(jnp.float32)


def init(key: jax.Array, config: ClipConfig) -> dict:
  """Draw random parameters: a nested dict of float32 arrays.

  The scale starts at 1 / 0.07 and is stored as a logarithm, as in the paper.
  """
  image_key, text_key = jax.random.split(key)
  images = jnp.zeros((1, config.image_size, config.image_size, 3))
  ids = jnp.zeros((1, config.context), jnp.int32)
  return {
    "image": ImageTower(config).init(image_key, images)["params"],
    "text": TextTower(config).init(text_key, ids)["params"],
    "log_scale": jnp.log(jnp.float32(1 / 0.07)),
  }


def encode_images(
  params: dict, images: jax.Array, config: ClipConfig, dtype=jnp.float32
) -> jax.Array:
  """Embed images.

  Args:
    params: as `init` gives them; kernels may be stored in `dtype`.
    images: [B, S, S, 3] floats, mean and deviation already applied.
    config: the model.
    dtype: of the arithmetic, float32 or bfloat16.

  Returns:
    [B, D] float32, not normalised.
  """
  with _exact_products(dtype):
    return ImageTower(config, dtype).apply({"params": params["image"]}, images)


def encode_texts(
  params: dict, ids: jax.Array, config: ClipConfig, dtype=jnp.float32
) -> jax.Array:
  """Embed token ids [B, L ≤ context], each row with its end inside.

  Returns:
    [B, D] float32, not normalised.
  """
  with _exact_products(dtype):
    return TextTower(config, dtype).apply({"params": params["text"]}, ids)


def text_bucket(length: int, context: int) -> int:
  """Round a text length in tokens up to one of the few that get compiled.

  >>> [text_bucket(n, 77) for n in (3, 16, 17, 60)]
  [16, 16, 32, 77]
  """
  return min([b for b in TEXT_BUCKETS if length <= b < context] or [context])


def _exact_products(dtype):
  """Make float32 mean float32 also where the default is TF32 or bfloat16."""
  if dtype == jnp.float32:
    return jax.default_matmul_precision("highest")
  return contextlib.nullcontext()
