"""What a CLIP checkpoint's JSON files state: the model and its preprocessing.

Hugging Face's `config.json` with `preprocessor_config.json`, and OpenCLIP's
`open_clip_config.json`, which holds both. An option that would change the model
and that this port does not have is refused by name.
"""

import json
from pathlib import Path

from imu2clip_jax.models import clip, preprocess

# Defaults of Hugging Face's CLIPConfig, which a file may leave out.
_HF_TEXT = {
  "vocab_size": 49408,
  "hidden_size": 512,
  "intermediate_size": 2048,
  "num_hidden_layers": 12,
  "num_attention_heads": 8,
  "max_position_embeddings": 77,
  "hidden_act": "quick_gelu",
  "layer_norm_eps": 1e-5,
  "eos_token_id": 49407,
}
_HF_IMAGE = {
  "hidden_size": 768,
  "intermediate_size": 3072,
  "num_hidden_layers": 12,
  "num_attention_heads": 12,
  "num_channels": 3,
  "image_size": 224,
  "patch_size": 32,
  "hidden_act": "quick_gelu",
  "layer_norm_eps": 1e-5,
}
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers

# Options of OpenCLIP that change nothing in a frozen model...
_OPEN_CLIP_HARMLESS = (
  *("patch_dropout", "output_tokens", "timm_model_pretrained", "timm_drop"),
  *("attn_pooler_queries", "attn_pooler_heads", "hf_model_pretrained"),
  *("hf_tokenizer_name", "tokenizer_kwargs", "pad_id", "eos_id"),
)
# ...those that this port reads, and those that must have one value.
_OPEN_CLIP_READ = (
  *("layers", "width", "heads", "head_width", "mlp_ratio", "norm_kwargs"),
  *("patch_size", "image_size", "context_length", "vocab_size"),
)
_OPEN_CLIP_FIXED = {
  "pool_type": ("tok", "argmax"),
  "pos_embed_type": ("learnable",),
  "proj_type": ("linear",),
  "block_type": ("default",),
}


def find_config(folder: Path) -> Path | None:
  """Find the JSON that describes the model, or None.

  OpenCLIP's comes first: some repositories carry a `config.json` of another
  library beside it.
  """
  names = ("open_clip_config.json", "config.json")
  return next((folder / n for n in names if (folder / n).is_file()), None)


def read_config(path: Path) -> clip.ClipConfig:
  """Read the model's configuration from Hugging Face's or OpenCLIP's JSON.

  Raises:
    ValueError: not a CLIP, or one with parts that this port does not have.
  """
  content = read_json(path)
  read = _open_clip_config if "model_cfg" in content else _hugging_face_config
  try:
    return read(content)
  except KeyError as error:
    raise ValueError(f"{path}: {error.args[0]!r} is missing") from error
  except (TypeError, AttributeError, ValueError) as error:
    raise ValueError(f"{path}: {error}") from error


def _hugging_face_config(content: dict) -> clip.ClipConfig:
  kind = content.get("model_type")
  if kind != "clip":
    raise ValueError(f"model_type is {kind!r}, expected 'clip'")

  def section(name, defaults):
    # Old files repeat a section as *_dict, which then has the last word.
    stated = (content.get(name), content.get(f"{name}_dict"))
    return defaults | (stated[0] or {}) | (stated[1] or {})

  def tower(part):
    return clip.Tower(
      part["hidden_size"],
      part["num_hidden_layers"],
      part["num_attention_heads"],
      part["intermediate_size"],
      part["hidden_act"],
      part["layer_norm_eps"],
    )

  text = section("text_config", _HF_TEXT)
  image = section("vision_config", _HF_IMAGE)
  if image["num_channels"] != 3:
    raise ValueError(f"{image['num_channels']} image channels, expected 3")
  # The first published files state 2, which never was the end's id; Hugging
  # Face pools a model that says so, and only it, at the largest id.
  eot_id = text["eos_token_id"]
  return clip.ClipConfig(
    content.get("projection_dim", 512),
    tower(image),
    tower(text),
    image["image_size"],
    image["patch_size"],
    text["vocab_size"],
    text["max_position_embeddings"],
    None if eot_id in (2, None) else eot_id,
  )


def _open_clip_config(content: dict) -> clip.ClipConfig:
  model = content["model_cfg"]
  image, text = model["vision_cfg"], model["text_cfg"]
  for section in (image, text):
    for option, value in section.items():
      if option in _OPEN_CLIP_READ + _OPEN_CLIP_HARMLESS or not value:
        continue
      if value not in _OPEN_CLIP_FIXED.get(option, ()):
        raise ValueError(f"{option} = {value!r} is not supported")
  if isinstance(image["layers"], list):
    raise ValueError("a ResNet image tower is not supported, only ViT")

  def tower(part, heads):
    return clip.Tower(
      part["width"],
      part["layers"],
      heads,
      int(part["width"] * part.get("mlp_ratio", 4.0)),
      "quick_gelu" if model.get("quick_gelu") else "gelu",
      (part.get("norm_kwargs") or {}).get("eps", 1e-5),
    )

  return clip.ClipConfig(
    model["embed_dim"],
    tower(image, image["width"] // image.get("head_width", 64)),
    tower(text, text["heads"]),
    image["image_size"],
    image["patch_size"],
    text.get("vocab_size", 49408),
    text.get("context_length", 77),
  )


def read_preprocessing(
  folder: Path, image_size: int
) -> preprocess.Preprocessing | None:
  """Read how a checkpoint wants its images; None where it does not say.

  Raises:
    ValueError: no scheme of CLIP's, or another size than the model's.
  """
  path = folder / "open_clip_config.json"
  if path.is_file() and "preprocess_cfg" in read_json(path):
    content = read_json(path)["preprocess_cfg"]
    return _preprocessing(
      path,
      image_size,
      content.get("resize_mode", "shortest"),
      content.get("interpolation", "bicubic"),
      content.get("mean", preprocess.OPENAI_MEAN),
      content.get("std", preprocess.OPENAI_STD),
    )
  path = folder / "preprocessor_config.json"
  if path.is_file():
    return _hugging_face_preprocessing(path, read_json(path), image_size)
  path = folder / "processor_config.json"
  if path.is_file() and "image_processor" in read_json(path):
    content = read_json(path)["image_processor"]
    return _hugging_face_preprocessing(path, content, image_size)
  return None


def _hugging_face_preprocessing(path, content, image_size):
  for step in ("do_resize", "do_normalize", "do_rescale"):
    if not content.get(step, True):
      raise ValueError(f"{path}: {step} is false, which no CLIP wants")
  size = content.get("size", image_size)
  crop = content.get("crop_size", image_size)
  crop = crop.get("height") if isinstance(crop, dict) else crop
  resize = "shortest"
  if isinstance(size, dict) and "shortest_edge" not in size:
    resize, size, crop = "squash", size.get("height"), image_size
  elif isinstance(size, dict):
    size = size["shortest_edge"]
  if (size, crop) != (image_size, image_size):
    raise ValueError(
      f"{path}: resizes to {size} and crops to {crop} pixels, "
      f"but the model takes {image_size}"
    )
  return _preprocessing(
    path,
    image_size,
    resize,
    _RESAMPLE.get(content.get("resample", 3), content.get("resample")),
    content.get("image_mean", preprocess.OPENAI_MEAN),
    content.get("image_std", preprocess.OPENAI_STD),
  )


def _preprocessing(path, size, resize, resample, mean, std):
  try:
    return preprocess.Preprocessing(
      size, resize, resample, tuple(mean), tuple(std)
    )
  except (TypeError, ValueError) as error:
    raise ValueError(f"{path}: {error}") from error


def to_hugging_face(config: clip.ClipConfig) -> dict:
  """Describe a model as Hugging Face's `config.json` does."""

  def tower(part, kind):
    return {
      "model_type": f"clip_{kind}_model",
      "hidden_size": part.width,
      "intermediate_size": part.mlp_width,
      "num_hidden_layers": part.layers,
      "num_attention_heads": part.heads,
      "hidden_act": part.activation,
      "layer_norm_eps": part.eps,
      "projection_dim": config.embed_dim,
    }

  end = config.vocab_size - 1
  text = {
    "vocab_size": config.vocab_size,
    "max_position_embeddings": config.context,
    "bos_token_id": end - 1,
    "eos_token_id": 2 if config.eot_id is None else config.eot_id,
    "pad_token_id": end,
  }
  image = {
    "image_size": config.image_size,
    "patch_size": config.patch_size,
    "num_channels": 3,
  }
  return {
    "architectures": ["CLIPModel"],
    "model_type": "clip",
    "projection_dim": config.embed_dim,
    "text_config": tower(config.text, "text") | text,
    "vision_config": tower(config.image, "vision") | image,
  }


def to_processor(spec: preprocess.Preprocessing) -> dict:
  """Describe preprocessing as `preprocessor_config.json` does."""
  square = {"height": spec.size, "width": spec.size}
  shortest = {"shortest_edge": spec.size}
  return {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": shortest if spec.resize == "shortest" else square,
    "resample": next(k for k, v in _RESAMPLE.items() if v == spec.resample),
    "do_center_crop": True,
    "crop_size": square,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(spec.mean),
    "image_std": list(spec.std),
  }


def read_json(path: Path) -> dict:
  """Read a JSON object.

  Raises:
    ValueError: not JSON, or not an object.
  """
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: not JSON ({error})") from error
  if not isinstance(content, dict):
    raise ValueError(f"{path}: expected a JSON object")
  return content
