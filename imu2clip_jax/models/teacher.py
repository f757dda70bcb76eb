"""The teacher: a frozen CLIP, loaded from any common checkpoint, ready to use.

clip = load_clip("path/to/folder")
clip.embed_texts(["chops an onion"]) @ clip.embed_images(frames).T
"""

import dataclasses
import functools
import hashlib
import os
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from imu2clip_jax.models import (
  clip,
  clip_config,
  convert,
  preprocess,
  published,
  tokenizer,
  video,
)

_NO_MERGES = (
  "pass merges=, the path of a tokenizer.json, a merges.txt or OpenAI's "
  "bpe_simple_vocab_16e6.txt.gz; every CLIP folder on the Hugging Face hub "
  "holds one, openai/clip-vit-base-patch32 for instance"
)
# Calls smaller than a batch are padded to one of these, so few shapes compile.
_SMALL_BATCHES = (1, 4, 16)
_IMAGE_BATCH, _TEXT_BATCH = 64, 256


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
  """A frozen CLIP.

  Attributes:
    name: of the checkpoint, for tables.
    config: the model.
    params: its parameters; never updated.
    spec: its preprocessing.
    tokenizer: None if the checkpoint came without its merges.
    normalize: "clip" applies the checkpoint's mean and deviation; "none"
      leaves pixels in 0..1, as the published IMU2CLIP code does.
    dtype: of the arithmetic, "float32" or "bfloat16".
    sharding: how batches lie over devices; None for the default device.
  """

  name: str
  config: clip.ClipConfig
  params: dict
  spec: preprocess.Preprocessing
  tokenizer: tokenizer.Tokenizer | None
  normalize: str = "clip"
  dtype: str = "float32"
  sharding: jax.sharding.Sharding | None = None

  @property
  def dim(self) -> int:
    """D, the width of the embeddings."""
    return self.config.embed_dim

  @functools.cached_property
  def fingerprint(self) -> str:
    """Hex sha256 of all that an embedding depends on beside its input.

    The same weights give the same fingerprint whatever file they came from.
    """
    digest = hashlib.sha256()
    stated = [self.config, self.spec, self.normalize, self.dtype]
    if self.tokenizer is not None:
      stated.append(self.tokenizer.merges)
    digest.update(repr(stated).encode())
    leaves = jax.tree_util.tree_leaves_with_path(self.params)
    for path, leaf in leaves:
      digest.update(jax.tree_util.keystr(path).encode())
      digest.update(np.ascontiguousarray(leaf).view(np.uint8).data)
    return digest.hexdigest()

  def embed_images(self, images, normalize: bool = True) -> np.ndarray:
    """Embed images.

    Args:
      images: uint8 [N, H, W, 3], or a list of uint8 [H, W, 3] of any sizes;
        RGB.
      normalize: give unit norm.

    Returns:
      float32 [N, D].

    Raises:
      ValueError: not such images.
    """
    if isinstance(images, np.ndarray) and images.ndim != 4:
      raise ValueError(
        "images must be [N, H, W, 3] or a list of [H, W, 3], "
        f"got {list(images.shape)}"
      )
    size = self._batch_size(len(images), _IMAGE_BATCH)
    spec = self.spec if self.normalize == "clip" else None

    def batches():
      for start in range(0, len(images), size):
        part = images[start : start + size]
        batch = np.zeros((size, self.spec.size, self.spec.size, 3), np.uint8)
        for i, image in enumerate(part):
          batch[i] = preprocess.fit(image, self.spec)
        yield _embed_images(
          self.params, self._place(batch), self.config, spec, self.dtype
        )

    return self._collect(batches(), len(images), normalize)

  def embed_texts(self, texts: list[str], normalize: bool = True) -> np.ndarray:
    """Embed texts, each cut to the model's context.

    Args:
      texts: of any length and script.
      normalize: give unit norm.

    Returns:
      float32 [N, D].

    Raises:
      ValueError: not a list of texts, or the checkpoint has no tokenizer.
    """
    if self.tokenizer is None:
      raise ValueError(f"{self.name} has no tokenizer: {_NO_MERGES}")
    ids = self.tokenizer(texts)
    # Nothing after a text's end matters, so short texts run in short batches.
    lengths = np.argmax(ids == self.tokenizer.vocab_size - 1, axis=1) + 1
    order = np.argsort(lengths, kind="stable")
    size = self._batch_size(len(texts), _TEXT_BATCH)

    def batches():
      for start in range(0, len(texts), size):
        rows = order[start : start + size]
        longest = int(lengths[rows].max())
        bucket = clip.text_bucket(longest, self.config.context)
        batch = np.zeros((size, bucket), np.int32)
        batch[: len(rows)] = ids[rows, :bucket]
        yield _embed_texts(
          self.params, self._place(batch), self.config, self.dtype
        )

    embeddings = self._collect(batches(), len(texts), normalize)
    return embeddings[np.argsort(order)]

  def _batch_size(self, count: int, full: int) -> int:
    devices = len(self.sharding.device_set) if self.sharding else 1
    small = (n * devices for n in _SMALL_BATCHES)
    return next((n for n in small if count <= n), full * devices)

  def _place(self, batch: np.ndarray) -> jax.Array:
    return jax.device_put(batch, self.sharding)

  def _collect(self, batches, count, normalize):
    """Fetch each batch only once the next is under way."""
    parts, last = [np.zeros((0, self.dim), np.float32)], None
    for batch in batches:
      if last is not None:
        parts.append(np.asarray(last))
      last = batch
    if last is not None:
      parts.append(np.asarray(last))
    rows = np.concatenate(parts)[:count]
    return video.unit_norm(rows) if normalize else rows


@functools.partial(jax.jit, static_argnames=("config", "spec", "dtype"))
def _embed_images(params, pixels, config, spec, dtype):
  images = preprocess.normalize(pixels, spec)
  return clip.encode_images(params, images, config, jnp.dtype(dtype))


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _embed_texts(params, ids, config, dtype):
  return clip.encode_texts(params, ids, config, jnp.dtype(dtype))


def load_clip(
  path: str | os.PathLike,
  *,
  merges: str | os.PathLike | None = None,
  config: str | os.PathLike | None = None,
  normalize: str = "clip",
  dtype: str = "float32",
  sharding: jax.sharding.Sharding | None = None,
) -> Clip:
  """Load a frozen CLIP from any common checkpoint.

  Args:
    path: a folder in Hugging Face's or OpenCLIP's form, a `.safetensors` or
      `.pt` file, or "hf:owner/name", "hf:owner/name@revision" for the Hugging
      Face hub or, without a network, its cache.
    merges: the tokenizer's file or folder, where the checkpoint has none.
    config: `config.json` or `open_clip_config.json`, where a file has none
      beside it. Without it a file must have the shapes of one of OpenAI's four
      ViTs and is taken to be one.
    normalize: "clip" or "none", see `Clip`.
    dtype: "float32", which is exact on every device, or "bfloat16".
    sharding: of batches over devices; parameters are copied to all of them.

  Raises:
    FileNotFoundError: no such checkpoint, or a part of it is absent.
    ValueError: it is damaged, no CLIP, or of a kind that is not supported.
  """
  if normalize not in ("clip", "none"):
    raise ValueError(f"normalize must be 'clip' or 'none', got {normalize!r}")
  if dtype not in ("float32", "bfloat16"):
    raise ValueError(f"dtype must be 'float32' or 'bfloat16', got {dtype!r}")
  name, place = str(path), Path(path)
  if name.startswith("hf:"):
    name = name.removeprefix("hf:")
    place = published.download(name)
  elif not place.exists():
    raise FileNotFoundError(f"{place}: no such CLIP checkpoint")
  else:
    name = place.resolve().name
  weights = published.find_weights(place) if place.is_dir() else place
  folder = weights.parent

  pairs = tokenizer.read_merges(Path(merges) if merges else folder)
  if pairs is None and place.is_file():
    raise ValueError(f"{place}: weights without a tokenizer: {_NO_MERGES}")
  stated = Path(config) if config else clip_config.find_config(folder)
  if stated is None and place.is_dir():
    raise FileNotFoundError(
      f"{place}: no config.json and no open_clip_config.json"
    )
  with published.open_tensors(weights) as tensors:
    model = (
      clip_config.read_config(stated)
      if stated
      else convert.openai_config(tensors, str(weights))
    )
    params = convert.to_params(tensors, model, str(weights), dtype)
  spec = clip_config.read_preprocessing(
    stated.parent if stated else folder, model.image_size
  )
  if spec is None:
    spec = preprocess.Preprocessing(model.image_size)
    warnings.warn(
      f"{place} does not say how it wants its images; taking OpenAI's mean, "
      "deviation and resizing",
      stacklevel=2,
    )
  if sharding is not None:
    everywhere = jax.sharding.NamedSharding(
      sharding.mesh, jax.sharding.PartitionSpec()
    )
    params = jax.device_put(params, everywhere)
  return Clip(
    name,
    model,
    params,
    spec,
    _tokenizer(pairs, model, place),
    normalize,
    dtype,
    sharding,
  )


def _tokenizer(merges, config, place):
  if merges is None:
    return None
  made = tokenizer.Tokenizer(merges, config.context)
  end = made.vocab_size - 1
  if end >= config.vocab_size or config.eot_id not in (None, end):
    raise ValueError(
      f"{place}: its tokenizer has {made.vocab_size} tokens and ends texts "
      f"with {end}; the model has {config.vocab_size} and ends with "
      f"{config.eot_id if config.eot_id is not None else 'the largest'}"
    )
  return made
