"""CLIP's towers: equal to PyTorch's, and what must hold of any weights.

`python tests/test_clip.py` writes the golden checkpoint and what transformers
makes of it; it needs the extra `parity`.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax import trees
from imu2clip_jax.models import clip, published, teacher, tokenizer
from imu2clip_jax.models.preprocess import Preprocessing

GOLDEN = Path(__file__).parent / "golden" / "clip_tiny"
# Right ports differ by 4e-6 at most, wrong ones by 1e-4 at least; a cosine
# would see neither a wrong epsilon nor the wrong form of GELU.
ATOL = 2e-5

# Every width differs, so that a wrong transpose changes a shape.
TINY = clip.ClipConfig(
  embed_dim=20,
  image=clip.Tower(24, 2, 3, 56, "quick_gelu"),
  text=clip.Tower(16, 3, 2, 40, "quick_gelu"),
  image_size=30,
  patch_size=10,
  vocab_size=526,
  context=24,
  eot_id=525,
)
MERGES = tokenizer.learn_merges(
  ["#C C picks up a knife", "#C C picks up the knife", "a knife, a cup"] * 2, 12
)
TEXTS = ["#C C picks up a knife", "", "a cup", "the " * 40, "ключ ☕"]


def random_params(config, seed=0):
  """Draw parameters of which none is at its usual start of 0 or 1."""
  rng = np.random.default_rng(seed)

  def draw(leaf):
    noise = rng.standard_normal(leaf.shape, np.float32)
    return noise * (0.05 if leaf.ndim < 2 else 0.1)

  params = jax.tree.map(draw, clip.init(jax.random.key(0), config))
  leaves = trees.flatten(params)
  for name, leaf in leaves.items():
    if name.endswith("scale"):
      leaves[name] = np.float32(1) + leaf
  return trees.unflatten(leaves)


def random_images(count, size, seed=0):
  shape = (count, size, size, 3)
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_tiny_fits_its_tokenizer():
  assert len(MERGES) == 12
  assert tokenizer.Tokenizer(MERGES).vocab_size == TINY.vocab_size


def edited(folder, target, **changes):
  """Copy the golden checkpoint with other values in both towers' config."""
  shutil.copytree(folder, target)
  config = json.loads((target / "config.json").read_text())
  for section in ("text_config", "vision_config"):
    config[section] |= changes
  (target / "config.json").write_text(json.dumps(config))
  return teacher.load_clip(target)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_golden_embeddings(tmp_path, activation):
  """What transformers gave for these weights, on a machine without it."""
  golden = np.load(GOLDEN / "expected.npz")
  made = edited(GOLDEN, tmp_path / "clip", hidden_act=activation)
  got = made.embed_images(golden["images"], normalize=False)
  want = golden[f"{activation}_images"]
  np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)
  got = made.embed_texts(TEXTS, normalize=False)
  want = golden[f"{activation}_texts"]
  np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


@pytest.mark.parametrize(
  "change", [{"layer_norm_eps": 1e-6}, {"hidden_act": "gelu"}]
)
def test_the_tolerance_sees_small_mistakes(tmp_path, change):
  golden = np.load(GOLDEN / "expected.npz")
  made = edited(GOLDEN, tmp_path / "clip", **change)
  images = made.embed_images(golden["images"], normalize=False)
  texts = made.embed_texts(TEXTS, normalize=False)
  assert np.abs(images - golden["quick_gelu_images"]).max() > 2 * ATOL
  assert np.abs(texts - golden["quick_gelu_texts"]).max() > 2 * ATOL


PARAMS = random_params(TINY)
IDS = tokenizer.Tokenizer(MERGES, TINY.context)(TEXTS)


encode_images = jax.jit(clip.encode_images, static_argnames=("config", "dtype"))
encode_texts = jax.jit(clip.encode_texts, static_argnames="config")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 9, 20]))
def test_nothing_after_a_texts_end_matters(seed, end):
  rng = np.random.default_rng(seed)
  ids = rng.integers(0, TINY.vocab_size - 1, (2, TINY.context))
  ids[:, end] = TINY.eot_id
  ids[0, end + 1 :] = 0
  ids[1, : end + 1] = ids[0, : end + 1]
  rows = encode_texts(PARAMS, ids, TINY)
  np.testing.assert_allclose(rows[0], rows[1], rtol=0, atol=ATOL)
  cut = encode_texts(PARAMS, ids[:, : end + 1], TINY)
  np.testing.assert_allclose(cut, rows, rtol=0, atol=ATOL)


def test_pooling_at_the_end_or_at_the_largest_id():
  """They agree where the end has the largest id, and only there."""
  largest = dataclasses.replace(TINY, eot_id=None)
  ends = encode_texts(PARAMS, IDS, TINY)
  np.testing.assert_array_equal(ends, encode_texts(PARAMS, IDS, largest))
  elsewhere = dataclasses.replace(TINY, eot_id=int(IDS[0, 1]))
  got = encode_texts(PARAMS, IDS[:1], elsewhere)
  want = encode_texts(PARAMS, IDS[:1, :2], elsewhere)
  np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)
  assert np.abs(got - ends[:1]).max() > 0.01


def test_patches_are_cut_row_by_row():
  """Moving one patch's content and its position together changes nothing."""
  images = np.random.default_rng(0).standard_normal((1, 30, 30, 3))
  images = images.astype(np.float32)
  moved = images.copy()
  moved[:, 0:10, 10:20] = images[:, 20:30, 0:10]  # patch 6 of 9 to place 1
  moved[:, 20:30, 0:10] = images[:, 0:10, 10:20]
  params = dict(PARAMS, image=dict(PARAMS["image"]))
  order = np.arange(10)
  order[[2, 7]] = [7, 2]  # the first position is the class token's
  params["image"]["positions"] = PARAMS["image"]["positions"][order]
  np.testing.assert_allclose(
    encode_images(params, moved, TINY),
    encode_images(PARAMS, images, TINY),
    rtol=0,
    atol=ATOL,
  )


def test_bfloat16_stays_close():
  images = random_images(4, 30).astype(np.float32) / 128 - 1
  exact = encode_images(PARAMS, images, TINY)
  rough = encode_images(PARAMS, images, TINY, jnp.bfloat16)
  assert rough.dtype == jnp.float32
  off = np.abs(rough - exact).max() / np.abs(exact).max()
  assert 1e-4 < off < 0.05


def test_every_parameter_matters():
  """Each leaf moves the embeddings, so none is read and left unused."""
  images = random_images(2, 30).astype(np.float32) / 128 - 1

  def total(params):
    image = encode_images(params, images, TINY)
    text = encode_texts(params, IDS, TINY)
    return (image**2).sum() + (text**2).sum()

  grads = trees.flatten(jax.jit(jax.grad(total))(PARAMS))
  assert float(grads.pop("log_scale")) == 0
  for name, grad in grads.items():
    layers = len(grad) if "/layers/" in name else 1
    per_layer = grad.reshape(layers, -1)
    assert (np.abs(per_layer).max(axis=-1) > 1e-9).all(), name


def test_impossible_sizes():
  with pytest.raises(ValueError, match="tanh"):
    clip.Tower(24, 2, 3, 56, "tanh")
  with pytest.raises(ValueError, match="25 does not divide into 3 heads"):
    clip.Tower(25, 2, 3, 56, "gelu")
  with pytest.raises(ValueError, match="31"):
    dataclasses.replace(TINY, image_size=31)


# Against torch.


def transformers_clip(folder, config=None, seed=0, **changes):
  """Save a random CLIPModel as transformers does; every vector is jittered."""
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  if config is None:
    text = {
      "hidden_size": 32,
      "intermediate_size": 80,
      "num_hidden_layers": 3,
      "num_attention_heads": 4,
      "vocab_size": 532,
      "max_position_embeddings": 24,
      "bos_token_id": 530,
      "eos_token_id": changes.pop("eos_token_id", 531),
    }
    image = {
      "hidden_size": 48,
      "intermediate_size": 112,
      "num_hidden_layers": 2,
      "num_attention_heads": 3,
      "image_size": 40,
      "patch_size": 8,
    }
    config = transformers.CLIPConfig(
      projection_dim=24,
      text_config=text | changes,
      vision_config=image | changes,
    )
  torch.manual_seed(seed)
  model = transformers.CLIPModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim == 1:
        parameter.add_(0.05 * torch.randn_like(parameter))
  model.save_pretrained(folder)
  return model


def transformers_embeddings(model, pixels, ids):
  """Embed normalised pixels [B, S, S, 3] and ids, not normalised."""
  import torch

  pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
  ids = torch.from_numpy(ids.astype(np.int64))
  with torch.inference_mode():
    image = model.get_image_features(pixels).pooler_output.numpy()
    text = model.get_text_features(ids).pooler_output.numpy()
  return image, text


def compare(model, folder, vocab_size=532, context=24):
  """Hold the port against transformers on random pixels and ids."""
  made = teacher.load_clip(folder)
  rng = np.random.default_rng(1)
  side = made.config.image_size
  pixels = rng.standard_normal((3, side, side, 3), np.float32)
  ids = np.zeros((4, context), np.int32)
  for row in ids:
    length = rng.integers(1, context - 2)
    row[: length + 1] = rng.integers(0, vocab_size - 2, length + 1)
    row[0], row[length + 1] = vocab_size - 2, vocab_size - 1
  want = transformers_embeddings(model, pixels, ids)
  got = (
    encode_images(made.params, pixels, made.config),
    encode_texts(made.params, ids, made.config),
  )
  for ours, theirs in zip(got, want, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=ATOL)
    assert np.abs(theirs).max() > 0.5  # so that the tolerance means something


pytestmark = pytest.mark.filterwarnings(
  "ignore:.*does not say how it wants its images:UserWarning"
)


@pytest.mark.parity
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos_token_id", [531, 2])
def test_equals_transformers(tmp_path, activation, eos_token_id):
  changes = {"hidden_act": activation, "eos_token_id": eos_token_id}
  compare(transformers_clip(tmp_path, **changes), tmp_path)


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B/32", "ViT-B/16", "ViT-L/14"])
def test_equals_transformers_at_full_size(tmp_path, name):
  transformers = pytest.importorskip("transformers")
  text, image, width = {}, {"patch_size": int(name[-2:])}, 512
  if name.startswith("ViT-L"):
    width = 768
    text = {"hidden_size": 768, "intermediate_size": 3072}
    text["num_attention_heads"] = 12
    image |= {"hidden_size": 1024, "intermediate_size": 4096}
    image |= {"num_hidden_layers": 24, "num_attention_heads": 16}
  config = transformers.CLIPConfig(
    projection_dim=width, text_config=text, vision_config=image
  )
  model = transformers_clip(tmp_path, config)
  compare(model, tmp_path, vocab_size=49408, context=77)


@pytest.mark.parity
def test_transformers_reads_what_we_write(tmp_path):
  """Model, tokenizer and processor of a saved folder, all by transformers."""
  transformers = pytest.importorskip("transformers")
  folder = tmp_path / "clip"
  spec = Preprocessing(30, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
  published.save_folder(folder, PARAMS, TINY, spec, MERGES, "# card")
  made = teacher.load_clip(folder)
  model = transformers.CLIPModel.from_pretrained(folder)
  encode = transformers.CLIPTokenizer.from_pretrained(folder)
  process = transformers.CLIPImageProcessorPil.from_pretrained(folder)
  images = random_images(3, 30)
  pixels = process(list(images), return_tensors="np")["pixel_values"]
  ids = encode(TEXTS, padding=True, truncation=True, return_tensors="np")
  image, text = transformers_embeddings(
    model, np.asarray(pixels).transpose(0, 2, 3, 1), ids["input_ids"]
  )
  np.testing.assert_allclose(
    made.embed_images(images, normalize=False), image, rtol=0, atol=ATOL
  )
  np.testing.assert_allclose(
    made.embed_texts(TEXTS, normalize=False), text, rtol=0, atol=ATOL
  )


def _write_golden():
  shutil.rmtree(GOLDEN, ignore_errors=True)
  import transformers
  from safetensors.numpy import load_file, save_file

  spec = Preprocessing(30)
  published.save_folder(GOLDEN, PARAMS, TINY, spec, MERGES, "")
  (GOLDEN / "README.md").unlink()
  path = GOLDEN / "model.safetensors"
  halves = {k: v.astype(np.float16) for k, v in load_file(path).items()}
  save_file(halves, path)
  images = random_images(3, 30, seed=5)
  mean, std = np.float32(spec.mean), np.float32(spec.std)
  pixels = (images.astype(np.float32) / 255 - mean) / std
  expected = {"images": images}
  for activation in ("quick_gelu", "gelu"):
    config = transformers.CLIPConfig.from_pretrained(GOLDEN)
    config.text_config.hidden_act = activation
    config.vision_config.hidden_act = activation
    model = transformers.CLIPModel.from_pretrained(
      GOLDEN, config=config, dtype="float32"
    )
    image, text = transformers_embeddings(model, pixels, IDS)
    expected |= {f"{activation}_images": image, f"{activation}_texts": text}
  np.savez_compressed(GOLDEN / "expected.npz", **expected)


if __name__ == "__main__":
  _write_golden()
