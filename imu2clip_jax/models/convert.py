"""Published CLIP weights ↔ our parameters: one table of rules a layout.

Two layouts cover what is published: OpenAI's, kept by OpenCLIP, and Hugging
Face's. Every parameter of ours is filled once, every tensor of the file is used
or known to be no weight; anything else is one error that lists the names.
"""

import math
import warnings
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imu2clip_jax import trees
from imu2clip_jax.models import clip


class Rule(NamedTuple):
  """Where one parameter comes from.

  Attributes:
    target: its path in our parameters.
    sources: the tensors that, joined on their first axis, hold it. "{}" stands
      for the layer; ours stacks the layers.
    form: how the two differ: "same", "transposed" or "patches".
  """

  target: str
  sources: tuple[str, ...]
  form: str = "same"


def _block(ours: str, theirs: str, table: tuple) -> tuple[Rule, ...]:
  return tuple(
    Rule(
      f"{ours}/blocks/layers/{target}",
      tuple(theirs + source for source in sources.split()),
      "transposed" if target.endswith("kernel") else "same",
    )
    for target, sources in table
  )


_OPENAI_BLOCK = (
  ("norm_1/scale", "ln_1.weight"),
  ("norm_1/bias", "ln_1.bias"),
  ("attention/qkv/kernel", "attn.in_proj_weight"),
  ("attention/qkv/bias", "attn.in_proj_bias"),
  ("attention/out/kernel", "attn.out_proj.weight"),
  ("attention/out/bias", "attn.out_proj.bias"),
  ("norm_2/scale", "ln_2.weight"),
  ("norm_2/bias", "ln_2.bias"),
  ("mlp/up/kernel", "mlp.c_fc.weight"),
  ("mlp/up/bias", "mlp.c_fc.bias"),
  ("mlp/down/kernel", "mlp.c_proj.weight"),
  ("mlp/down/bias", "mlp.c_proj.bias"),
)

# The two projections are used as x @ W here and as x @ W.T by Hugging Face.
OPENAI = (
  Rule("log_scale", ("logit_scale",)),
  Rule("image/patch/kernel", ("visual.conv1.weight",), "patches"),
  Rule("image/class_token", ("visual.class_embedding",)),
  Rule("image/positions", ("visual.positional_embedding",)),
  Rule("image/norm_pre/scale", ("visual.ln_pre.weight",)),
  Rule("image/norm_pre/bias", ("visual.ln_pre.bias",)),
  *_block("image", "visual.transformer.resblocks.{}.", _OPENAI_BLOCK),
  Rule("image/norm_post/scale", ("visual.ln_post.weight",)),
  Rule("image/norm_post/bias", ("visual.ln_post.bias",)),
  Rule("image/head/kernel", ("visual.proj",)),
  Rule("text/tokens", ("token_embedding.weight",)),
  Rule("text/positions", ("positional_embedding",)),
  *_block("text", "transformer.resblocks.{}.", _OPENAI_BLOCK),
  Rule("text/norm_final/scale", ("ln_final.weight",)),
  Rule("text/norm_final/bias", ("ln_final.bias",)),
  Rule("text/head/kernel", ("text_projection",)),
)

_HUGGING_FACE_BLOCK = (
  ("norm_1/scale", "layer_norm1.weight"),
  ("norm_1/bias", "layer_norm1.bias"),
  (
    "attention/qkv/kernel",
    "self_attn.q_proj.weight self_attn.k_proj.weight self_attn.v_proj.weight",
  ),
  (
    "attention/qkv/bias",
    "self_attn.q_proj.bias self_attn.k_proj.bias self_attn.v_proj.bias",
  ),
  ("attention/out/kernel", "self_attn.out_proj.weight"),
  ("attention/out/bias", "self_attn.out_proj.bias"),
  ("norm_2/scale", "layer_norm2.weight"),
  ("norm_2/bias", "layer_norm2.bias"),
  ("mlp/up/kernel", "mlp.fc1.weight"),
  ("mlp/up/bias", "mlp.fc1.bias"),
  ("mlp/down/kernel", "mlp.fc2.weight"),
  ("mlp/down/bias", "mlp.fc2.bias"),
)
_VISION, _TEXT = "vision_model.", "text_model."

HUGGING_FACE = (
  Rule("log_scale", ("logit_scale",)),
  Rule(
    "image/patch/kernel",
    (_VISION + "embeddings.patch_embedding.weight",),
    "patches",
  ),
  Rule("image/class_token", (_VISION + "embeddings.class_embedding",)),
  Rule("image/positions", (_VISION + "embeddings.position_embedding.weight",)),
  # The misspelling is the format's.
  Rule("image/norm_pre/scale", (_VISION + "pre_layrnorm.weight",)),
  Rule("image/norm_pre/bias", (_VISION + "pre_layrnorm.bias",)),
  *_block("image", _VISION + "encoder.layers.{}.", _HUGGING_FACE_BLOCK),
  Rule("image/norm_post/scale", (_VISION + "post_layernorm.weight",)),
  Rule("image/norm_post/bias", (_VISION + "post_layernorm.bias",)),
  Rule("image/head/kernel", ("visual_projection.weight",), "transposed"),
  Rule("text/tokens", (_TEXT + "embeddings.token_embedding.weight",)),
  Rule("text/positions", (_TEXT + "embeddings.position_embedding.weight",)),
  *_block("text", _TEXT + "encoder.layers.{}.", _HUGGING_FACE_BLOCK),
  Rule("text/norm_final/scale", (_TEXT + "final_layer_norm.weight",)),
  Rule("text/norm_final/bias", (_TEXT + "final_layer_norm.bias",)),
  Rule("text/head/kernel", ("text_projection.weight",), "transposed"),
)

# Width, patch and image size → layers, and the width of the text tower, which
# is that of the shared space too (Radford et al. 2021, table 20).
_OPENAI_VITS = {
  (768, 32, 224): (12, 512),
  (768, 16, 224): (12, 512),
  (1024, 14, 224): (24, 768),
  (1024, 14, 336): (24, 768),
}

# Stored beside the weights by some writers; they are no weights.
IGNORED = (
  "input_resolution",
  "context_length",
  "vocab_size",
  "attn_mask",
  "text_model.embeddings.position_ids",
  "vision_model.embeddings.position_ids",
)


def plain_name(name: str, names) -> str:
  """Drop the prefixes that wrappers put before OpenAI's names."""
  name = name.removeprefix("module.")
  if any(n.endswith("text.token_embedding.weight") for n in names):
    name = name.removeprefix("text.")
  return name


def rules_for(names: list[str], where: str) -> tuple[Rule, ...]:
  """Tell the layout from tensor names, prefixes dropped.

  Raises:
    ValueError: neither layout, or one of the two towers is absent.
  """
  starts = {name.split(".")[0] for name in names}
  if {"vision_model", "text_model"} & starts:
    rules, towers = HUGGING_FACE, ("vision_model", "text_model")
  elif {"visual", "token_embedding", "transformer"} & starts:
    rules, towers = OPENAI, ("visual", "transformer")
  else:
    raise ValueError(
      f"{where}: not a CLIP checkpoint: no tensor is named like OpenAI's "
      f"(visual.*) or Hugging Face's (vision_model.*); "
      f"it holds {_some(names)}"
    )
  for tower, kind in zip(towers, ("image", "text"), strict=True):
    if tower not in starts:
      raise ValueError(
        f"{where}: the {kind} tower is absent (no tensor named {tower}.*); "
        "CLIP needs both towers"
      )
  return rules


def to_params(
  tensors: Mapping[str, np.ndarray],
  config: clip.ClipConfig,
  where: str,
  dtype: str = "float32",
) -> dict:
  """Turn a published state dict into our parameters.

  Leaves are read largest first and one at a time, so that the peak of memory
  stays near the size of the result.

  Args:
    tensors: name → array; read lazily if the mapping does so.
    config: the model, which fixes every shape.
    where: names the source in errors.
    dtype: of the kernels and the token table; everything else is float32.

  Raises:
    ValueError: a missing, unknown or mis-shaped tensor.
  """
  names = {plain_name(name, tensors): name for name in tensors}
  rules = rules_for(list(names), where)
  expected = jax.eval_shape(
    lambda key: clip.init(key, config), jax.random.key(0)
  )
  shapes = {p: leaf.shape for p, leaf in trees.flatten(expected).items()}
  wanted = {n for rule in rules for n in _names(rule, config)}
  missing, unknown = wanted - set(names), set(names) - wanted - set(IGNORED)
  if missing or unknown:
    raise ValueError(
      f"{where}: does not fit its configuration: "
      f"missing {_some(missing)}; unknown {_some(unknown)}"
    )
  by_size = sorted(rules, key=lambda rule: -np.prod(shapes[rule.target]))
  leaves = {}
  for rule in by_size:
    read = lambda name: tensors[names[name]]  # noqa: E731
    array = _fill(rule, shapes[rule.target], config, read, where)
    large = rule.target.endswith(("kernel", "tokens"))
    leaves[rule.target] = jnp.asarray(array, dtype if large else None)
  return trees.unflatten(leaves)


def openai_config(
  tensors: Mapping[str, np.ndarray], where: str
) -> clip.ClipConfig:
  """Describe weights that came without a description as one of OpenAI's ViTs.

  Shapes cannot tell which activation weights were trained with; it is taken to
  be OpenAI's, with a warning unless the file is OpenAI's own archive.

  Raises:
    ValueError: shapes of none of the four.
  """
  names = {plain_name(name, tensors): name for name in tensors}
  sources = {r.target: r.sources[0] for r in rules_for(list(names), where)}
  wanted = ("image/patch/kernel", "image/positions", "text/tokens")
  if not all(sources[target] in names for target in wanted):
    raise ValueError(
      f"{where}: no patches, positions or tokens among its names"
    )
  patch, positions, tokens = (
    tensors[names[sources[target]]].shape for target in wanted
  )
  width, patch_size = patch[0], patch[-1]
  image_size = math.isqrt(positions[0] - 1) * patch_size
  layers, text_width = _OPENAI_VITS.get((width, patch_size, image_size), (0, 0))
  if tokens != (49408, text_width):
    raise ValueError(
      f"{where}: unknown architecture (image width {width}, patches of "
      f"{patch_size}, {image_size} pixels, token table {list(tokens)}); put "
      "its config.json or open_clip_config.json beside it or pass config="
    )
  if "input_resolution" not in names:
    warnings.warn(
      f"{where} has no configuration beside it; taking OpenAI's activation, "
      "quick_gelu (LAION's and DataComp's weights need gelu: pass config=)",
      stacklevel=3,
    )

  def tower(width, layers):
    return clip.Tower(width, layers, width // 64, 4 * width, "quick_gelu")

  return clip.ClipConfig(
    text_width,
    tower(width, layers),
    tower(text_width, 12),
    image_size,
    patch_size,
    *tokens[:1],
    77,
  )


def to_hugging_face(
  params: dict, config: clip.ClipConfig
) -> dict[str, np.ndarray]:
  """Turn our parameters into Hugging Face's state dict, float32."""
  leaves, tensors = trees.flatten(params), {}
  for rule in HUGGING_FACE:
    array = np.asarray(leaves[rule.target], np.float32)
    layers = array if "{}" in rule.sources[0] else [array]
    for i, layer in enumerate(layers):
      if rule.form == "transposed":
        layer = layer.T
      if rule.form == "patches":
        side = config.patch_size
        layer = layer.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)
      parts = np.split(layer, len(rule.sources)) if layer.ndim else [layer]
      for source, part in zip(rule.sources, parts, strict=True):
        tensors[source.format(i)] = np.array(part, order="C")
  return tensors


def _names(rule, config):
  if "{}" not in rule.sources[0]:
    return list(rule.sources)
  tower = config.image if rule.target.startswith("image") else config.text
  return [s.format(i) for i in range(tower.layers) for s in rule.sources]


def _fill(rule, shape, config, read, where):
  """Read the tensors of one rule into one array of the wanted shape."""
  stacked = "{}" in rule.sources[0]
  out = np.empty(shape, np.float32)
  step = len(rule.sources)
  names = _names(rule, config)
  for i, slot in enumerate(out if stacked else [out]):
    group = names[i * step : (i + 1) * step]
    parts = [np.asarray(read(name)) for name in group]
    joined = parts[0] if step == 1 else np.concatenate(parts)
    if rule.form == "patches" and joined.ndim == 4:
      joined = joined.transpose(2, 3, 1, 0).reshape(-1, joined.shape[0])
    if rule.form == "transposed":
      joined = joined.T
    if rule.target == "log_scale" and joined.shape == (1,):
      joined = joined[0]
    if joined.shape != slot.shape or joined.dtype.kind not in "fV":
      raise ValueError(
        f"{where}: {' + '.join(group)} is {parts[0].dtype} "
        f"{[list(part.shape) for part in parts]}, which does not give the "
        f"{list(slot.shape)} of {rule.target} that the configuration asks for"
      )
    slot[...] = joined
  return out


def _some(names) -> str:
  names = sorted(names)
  shown = ", ".join(names[:4]) or "nothing"
  return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")
