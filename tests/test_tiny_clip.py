"""The tiny CLIP learns to name what it sees, and saves what others can read."""

import json

import numpy as np
import pytest

import imu2clip_jax
from imu2clip_jax import tiny_clip
from imu2clip_jax.models import tokenizer

COLOURS = {
  "red": (220, 40, 40),
  "green": (40, 200, 60),
  "blue": (50, 60, 220),
  "yellow": (230, 220, 50),
}
SHAPES = ("square", "bar", "cross")


def draw(rng, colour, shape):
  """Draw one shape near the middle of a noisy ground, uint8 [16, 16, 3]."""
  image = rng.integers(60, 120, (16, 16, 3)).astype(np.uint8)
  row, column = 7 + rng.integers(-1, 2, 2)
  y, x = np.mgrid[:16, :16]
  down, across = abs(y - row), abs(x - column)
  inside = {
    "square": (down < 5) & (across < 5),
    "bar": (down < 2) & (across < 7),
    "cross": ((down < 2) | (across < 2)) & (down < 7) & (across < 7),
  }[shape]
  image[inside] = COLOURS[colour]
  return image


def world(count, seed):
  """Draw frames, their captions and the names of what they show."""
  rng = np.random.default_rng(seed)
  frames, captions, names = [], [], []
  for _ in range(count):
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    frames.append(draw(rng, colour, shape))
    names.append(f"a {colour} {shape}")
    captions.append([names[-1], f"#C C looks at a {shape} that is {colour}"])
  return np.stack(frames), captions, names


SMALL = {"patch_size": 4, "width": 32, "layers": 1, "text_layers": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  frames, captions, _ = world(600, seed=0)
  folder = tmp_path_factory.mktemp("tiny") / "clip"
  options = SMALL | {"steps": 120, "batch_size": 64, "learning_rate": 5e-3}
  assert tiny_clip.train(frames, captions, folder, **options) == folder
  return folder


def test_it_names_what_it_sees(trained):
  """New pictures of every colour and shape are told apart by their names."""
  clip = imu2clip_jax.load_clip(trained)
  frames, _, names = world(200, seed=1)
  choices = sorted(set(names))
  assert len(choices) == 12
  scores = clip.embed_images(frames) @ clip.embed_texts(choices).T
  named = [choices[i] for i in scores.argmax(axis=1)]
  assert np.mean([a == b for a, b in zip(named, names, strict=True)]) > 0.8
  # Other words for the same, which it has read, and a new order of words.
  other = [f"{c.split()[2]}, {c.split()[1]}" for c in choices]
  scores = clip.embed_images(frames) @ clip.embed_texts(other).T
  named = [choices[i] for i in scores.argmax(axis=1)]
  assert np.mean([a == b for a, b in zip(named, names, strict=True)]) > 0.5


def test_the_folder_says_what_it_is(trained):
  assert {path.name for path in trained.iterdir()} == {
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "README.md",
    "tokenizer.json",
    "tokenizer_config.json",
  }
  card = (trained / "README.md").read_text()
  assert "600 frames" in card
  assert "24 different captions" in card
  config = json.loads((trained / "config.json").read_text())
  merges = tokenizer.read_merges(trained)
  assert config["text_config"]["vocab_size"] == 514 + len(merges)
  assert {path.name for path in trained.parent.iterdir()} == {"clip"}


def test_the_same_seed_gives_the_same_model(tmp_path):
  frames, captions, _ = world(40, seed=0)
  fingerprints = []
  for name, seed in (("a", 0), ("b", 0), ("c", 1)):
    options = SMALL | {"steps": 3, "batch_size": 8, "seed": seed}
    tiny_clip.train(frames, captions, tmp_path / name, **options)
    clip = imu2clip_jax.load_clip(tmp_path / name)
    fingerprints.append(clip.fingerprint)
  assert fingerprints[0] == fingerprints[1] != fingerprints[2]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda f, c: (f.astype(np.float32), c), "uint8.*float32"),
    (lambda f, c: (f[:, :8], c), r"\[8, 8, 16, 3\]"),
    (lambda f, c: (f[:0], []), r"\[0, 16, 16, 3\]"),
    (lambda f, c: (f, c[:-1]), "8 frames but captions for 7"),
    (lambda f, c: (f, [*c[:3], [], *c[4:]]), "frame 3 has no caption"),
  ],
)
def test_what_cannot_be_learned_from(tmp_path, change, message):
  frames, captions, _ = world(8, seed=0)
  frames, captions = change(frames, captions)
  with pytest.raises(ValueError, match=message):
    tiny_clip.train(frames, captions, tmp_path / "clip")
  assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_kept(tmp_path):
  frames, captions, _ = world(8, seed=0)
  with pytest.raises(ValueError, match="exists already"):
    tiny_clip.train(frames, captions, tmp_path)
  with pytest.raises(ValueError, match="does not divide"):
    tiny_clip.train(frames, captions, tmp_path / "clip", patch_size=5)
