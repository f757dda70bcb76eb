"""The loaded CLIP as its users meet it: batches, fingerprints, the hub."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imu2clip_jax
from imu2clip_jax.models import teacher, video

GOLDEN = Path(__file__).parent / "golden" / "clip_tiny"
ATOL = 2e-5
WORDS = ("a knife", "picks up", "the cup", "ключ", "")


@pytest.fixture(scope="module")
def clip():
  return imu2clip_jax.load_clip(GOLDEN)


def images(count, seed=0, height=30, width=30):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, height, width, 3), np.uint8)


def texts(count, seed=0):
  rng = np.random.default_rng(seed)
  return [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(count)]


def test_the_public_face(clip):
  assert clip.dim == 20
  assert clip.name == "clip_tiny"
  assert len(clip.fingerprint) == 64
  rows = clip.embed_images(images(3))
  assert (rows.shape, rows.dtype) == ((3, 20), np.float32)
  np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
  raw = clip.embed_images(images(3), normalize=False)
  np.testing.assert_allclose(video.unit_norm(raw), rows, atol=1e-6)
  assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.01


@pytest.mark.parametrize("normalize", [True, False])
def test_nothing_in_nothing_out(clip, normalize):
  for rows in (
    clip.embed_images(np.zeros((0, 30, 30, 3), np.uint8), normalize),
    clip.embed_images([], normalize),
    clip.embed_texts([], normalize),
  ):
    assert (rows.shape, rows.dtype) == ((0, 20), np.float32)


@pytest.mark.parametrize("count", [1, 2, 17, 70])
def test_a_row_does_not_depend_on_its_batch(clip, count):
  """Not on padding, on sorting by length, nor on what stands beside it."""
  pictures, said = images(count), texts(count)
  rows = clip.embed_images(pictures, normalize=False)
  named = clip.embed_texts(said, normalize=False)
  for i in {0, count // 2, count - 1}:
    alone = clip.embed_images(pictures[i : i + 1], normalize=False)
    np.testing.assert_allclose(rows[i : i + 1], alone, rtol=0, atol=ATOL)
    alone = clip.embed_texts(said[i : i + 1], normalize=False)
    np.testing.assert_allclose(named[i : i + 1], alone, rtol=0, atol=ATOL)


def test_lists_of_any_sizes(clip):
  mixed = [images(1, 1)[0], images(1, 2, 40, 77)[0], images(1, 3, 90, 31)[0]]
  rows = clip.embed_images(mixed)
  for image, row in zip(mixed, rows, strict=True):
    alone = clip.embed_images([image])[0]
    np.testing.assert_allclose(row, alone, rtol=0, atol=ATOL)
  whole = images(5, 4, 40, 77)
  np.testing.assert_array_equal(
    clip.embed_images(whole), clip.embed_images(list(whole))
  )


def test_few_shapes_are_compiled(clip):
  jax.clear_caches()
  for count in (1, 3, 4, 5, 12, 16, 60, 64, 65, 130):
    clip.embed_images(images(count))
  assert teacher._embed_images._cache_size() <= 4
  for count in (1, 3, 16, 100, 256, 300):
    clip.embed_texts(texts(count))
  assert teacher._embed_texts._cache_size() <= 8


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (np.zeros((30, 30, 3), np.uint8), r"\[N, H, W, 3\]"),
    (np.zeros((2, 30, 30, 3), np.float32), "uint8.*float32"),
    (np.zeros((2, 30, 30, 4), np.uint8), r"\[30, 30, 4\]"),
    ([np.zeros((30, 30), np.uint8)], r"\[30, 30\]"),
    ([np.zeros((0, 30, 3), np.uint8)], "must have pixels"),
  ],
)
def test_what_is_no_image(clip, wrong, message):
  with pytest.raises(ValueError, match=message):
    clip.embed_images(wrong)


def test_what_is_no_list_of_texts(clip):
  with pytest.raises(ValueError, match="one string"):
    clip.embed_texts("a knife")
  with pytest.raises(ValueError, match="NoneType"):
    clip.embed_texts(["a knife", None])


def test_embedding_changes_no_parameter(clip):
  before = jax.tree.map(np.array, clip.params)
  clip.embed_images(images(2))
  clip.embed_texts(["a knife"])
  jax.tree.map(np.testing.assert_array_equal, before, clip.params)


def test_fingerprints(tmp_path, clip):
  """Equal for equal embeddings, different for anything that changes them."""
  assert imu2clip_jax.load_clip(GOLDEN).fingerprint == clip.fingerprint
  seen = {clip.fingerprint}

  def new(made):
    assert made.fingerprint not in seen
    seen.add(made.fingerprint)

  new(imu2clip_jax.load_clip(GOLDEN, normalize="none"))
  new(imu2clip_jax.load_clip(GOLDEN, dtype="bfloat16"))
  new(dataclasses.replace(clip, tokenizer=None))
  for part, value in (("hidden_act", "gelu"), ("layer_norm_eps", 1e-6)):
    new(edited(tmp_path / part, "config.json", vision_config={part: value}))
  new(edited(tmp_path / "std", "preprocessor_config.json", image_std=[1, 1, 1]))
  params = jax.tree.map(np.array, clip.params)
  params["text"]["head"]["kernel"][3, 4] += 1e-6
  new(dataclasses.replace(clip, params=params))


def edited(folder, name, **changes):
  shutil.copytree(GOLDEN, folder)
  content = json.loads((folder / name).read_text())
  for key, value in changes.items():
    nested = isinstance(value, dict)
    content[key] = content[key] | value if nested else value
  (folder / name).write_text(json.dumps(content))
  return imu2clip_jax.load_clip(folder)


def test_the_published_codes_pixels(clip):
  """`none` feeds 0..1, which the statistics 0 and 1 would give too."""
  none = imu2clip_jax.load_clip(GOLDEN, normalize="none")
  same = dataclasses.replace(
    clip, spec=dataclasses.replace(clip.spec, mean=(0,) * 3, std=(1,) * 3)
  )
  rows = none.embed_images(images(2), normalize=False)
  np.testing.assert_allclose(
    rows, same.embed_images(images(2), normalize=False), rtol=0, atol=ATOL
  )
  assert (
    np.abs(rows - clip.embed_images(images(2), normalize=False)).max() > 0.1
  )


def test_bfloat16(clip):
  rough = imu2clip_jax.load_clip(GOLDEN, dtype="bfloat16")
  assert rough.params["image"]["head"]["kernel"].dtype == "bfloat16"
  rows = rough.embed_images(images(2))
  assert rows.dtype == np.float32
  assert ((rows * clip.embed_images(images(2))).sum(axis=1) > 0.998).all()


def test_batches_over_devices(clip, tmp_path):
  """Four devices embed what one does, each a quarter of every batch."""
  code = """
    import sys
    import jax
    import numpy as np
    import imu2clip_jax
    from imu2clip_jax import sharding
    assert jax.device_count() == 4
    rows = sharding.split_by_row(sharding.make_mesh())
    clip = imu2clip_jax.load_clip(sys.argv[1], sharding=rows)
    kernel = clip.params["image"]["head"]["kernel"]
    assert kernel.sharding.is_fully_replicated
    images = np.load(sys.argv[2])
    np.savez(sys.argv[3], many=clip.embed_images(images),
             few=clip.embed_images(images[:2]), texts=clip.embed_texts(["a"]))
  """
  np.save(tmp_path / "images.npy", images(70))
  flags = "--xla_force_host_platform_device_count=4"
  subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code), str(GOLDEN)]
    + [str(tmp_path / name) for name in ("images.npy", "rows.npz")],
    env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    check=True,
  )
  got = np.load(tmp_path / "rows.npz")
  want = clip.embed_images(images(70))
  np.testing.assert_allclose(got["many"], want, rtol=0, atol=ATOL)
  np.testing.assert_allclose(got["few"], want[:2], rtol=0, atol=ATOL)
  want = clip.embed_texts(["a"])
  np.testing.assert_allclose(got["texts"], want, rtol=0, atol=ATOL)


def test_options_that_do_not_exist():
  with pytest.raises(ValueError, match="'imagenet'"):
    imu2clip_jax.load_clip(GOLDEN, normalize="imagenet")
  with pytest.raises(ValueError, match="'float16'"):
    imu2clip_jax.load_clip(GOLDEN, dtype="float16")


def test_a_folder_that_says_nothing_about_images_or_texts(tmp_path):
  folder = tmp_path / "clip"
  shutil.copytree(GOLDEN, folder)
  (folder / "preprocessor_config.json").unlink()
  (folder / "tokenizer.json").unlink()
  with pytest.warns(UserWarning, match="how it wants its images"):
    made = imu2clip_jax.load_clip(folder)
  assert made.embed_images(images(1)).shape == (1, 20)
  with pytest.raises(ValueError, match="clip has no tokenizer: pass merges="):
    made.embed_texts(["a knife"])


# The hub, by its cache: no test asks the network.


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """A cache as huggingface_hub lays it out, holding the golden checkpoint."""
  constants = pytest.importorskip("huggingface_hub.constants")
  revision = "0123456789abcdef0123456789abcdef01234567"
  store = tmp_path / "models--someone--tiny"
  shutil.copytree(GOLDEN, store / "snapshots" / revision)
  (store / "refs").mkdir()
  (store / "refs" / "main").write_text(revision)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  return store


def test_the_hubs_cache(hub, clip):
  made = imu2clip_jax.load_clip("hf:someone/tiny")
  assert made.name == "someone/tiny"
  assert made.fingerprint == clip.fingerprint
  made = imu2clip_jax.load_clip("hf:someone/tiny@main")
  assert made.fingerprint == clip.fingerprint


def test_what_the_hub_does_not_have(hub):
  with pytest.raises(FileNotFoundError, match="hf:someone/other"):
    imu2clip_jax.load_clip("hf:someone/other")
  with pytest.raises(ValueError, match="hf:not/a/name"):
    imu2clip_jax.load_clip("hf:not/a/name")
  (next((hub / "snapshots").iterdir()) / "model.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match="no CLIP weights"):
    imu2clip_jax.load_clip("hf:someone/tiny")


def test_without_huggingface_hub(monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  with pytest.raises(ValueError, match="pip install huggingface_hub"):
    imu2clip_jax.load_clip("hf:someone/tiny")


# A window's frames.


def test_which_frames():
  """Of the ten frames of a window, those that the published code takes."""
  assert video.choose_frames("mid", 10).tolist() == [5]
  assert video.choose_frames("sum3", 10).tolist() == [0, 5, 9]
  assert video.choose_frames("mean:4", 10).tolist() == [0, 3, 6, 9]
  assert video.choose_frames("mean:12", 4).tolist() == [0, 1, 2, 3]
  for pooling in ("mid", "sum3", "mean:1", "mean:8"):
    assert video.choose_frames(pooling, 1).tolist() == [0]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 80))
def test_chosen_frames_exist_and_are_spread(count, frames):
  chosen = video.choose_frames(f"mean:{count}", frames)
  assert len(chosen) == min(count, frames)
  assert chosen.min() >= 0
  assert chosen.max() < frames
  steps = np.diff(chosen)
  assert not len(steps) or steps.min() >= 1
  assert not len(steps) or steps.max() - steps.min() <= 1


def test_pooling():
  frames = np.array([[3.0, 0.0], [0.0, 1.0]])
  np.testing.assert_allclose(
    video.pool_frames("sum3", frames), np.array([3, 1]) / np.sqrt(10)
  )
  np.testing.assert_allclose(
    video.pool_frames("mean:2", frames), np.sqrt([0.5, 0.5])
  )
  batch = np.stack([frames, frames[::-1]])
  pooled = video.pool_frames("mean:2", batch)
  assert pooled.shape == (2, 2)
  np.testing.assert_allclose(video.pool_frames("mid", frames[:1]), [1, 0])


@pytest.mark.parametrize("pooling", ["max", "mean", "mean:0", "mean:x", ""])
def test_unknown_pooling(pooling):
  with pytest.raises(ValueError, match="known: mid, sum3, mean:F"):
    video.choose_frames(pooling, 10)
  with pytest.raises(ValueError, match="without frames"):
    video.choose_frames("mid", 0)
