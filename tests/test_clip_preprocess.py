"""Resizing, cropping and pixel arithmetic against their references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imu2clip_jax.models import preprocess
from imu2clip_jax.models.preprocess import Preprocessing


def picture(height, width, seed=0):
  """Smooth gradients with hard edges, uint8 [height, width, 3]."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width]
  waves = [np.sin(x * a + y * b) for a, b in rng.uniform(0, 0.3, (3, 2))]
  out = 127 + 90 * np.stack(waves, axis=-1)
  out[height // 4 : height // 2, width // 3 : width // 2] = (255, 0, 40)
  return out.astype(np.uint8)


def reference(image, size):
  """What torchvision's Resize and CenterCrop compute, in their words."""
  height, width = image.shape[:2]
  short, long = sorted((height, width))
  new_long = int(size * long / short)
  new = (new_long, size) if height > width else (size, new_long)
  resized = np.asarray(Image.fromarray(image).resize(new[::-1], Image.BICUBIC))
  top, left = (round((n - size) / 2.0) for n in new)
  return resized[top : top + size, left : left + size]


# Among them sizes whose crop offset ends in a half.
@pytest.mark.parametrize(
  ("height", "width"),
  [
    *((360, 640), (480, 640), (1080, 1920), (640, 360), (224, 224), (100, 80)),
    *((224, 399), (399, 224), (227, 224), (224, 226), (17, 400)),
  ],
)
def test_equals_torchvisions_arithmetic(height, width):
  image = picture(height, width)
  got = preprocess.fit(image, Preprocessing(224))
  np.testing.assert_array_equal(got, reference(image, 224))


@pytest.mark.parity
@pytest.mark.parametrize("size", [(360, 640), (480, 640), (300, 200), (64, 64)])
def test_equals_transformers(size):
  transformers = pytest.importorskip("transformers")
  process = transformers.CLIPImageProcessorPil()
  image = picture(*size)
  want = process(image, return_tensors="np")["pixel_values"][0]
  spec = Preprocessing(224)
  got = preprocess.normalize(preprocess.fit(image, spec), spec)
  np.testing.assert_allclose(
    np.asarray(got).transpose(2, 0, 1), want, rtol=0, atol=1e-6
  )


def test_squash_keeps_the_whole_picture():
  image = picture(50, 100)
  spec = Preprocessing(32, resize="squash", resample="bilinear")
  want = Image.fromarray(image).resize((32, 32), Image.BILINEAR)
  np.testing.assert_array_equal(preprocess.fit(image, spec), want)


@settings(max_examples=50, deadline=None)
@given(
  st.integers(1, 90),
  st.integers(1, 90),
  st.sampled_from(["shortest", "squash"]),
)
def test_any_picture_comes_out_square(height, width, resize):
  image = np.full((height, width, 3), (10, 120, 250), np.uint8)
  out = preprocess.fit(image, Preprocessing(16, resize=resize))
  assert out.shape == (16, 16, 3)
  assert (out == image[0, 0]).all()


def test_pixels():
  spec = Preprocessing(8, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
  pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
  np.testing.assert_allclose(
    preprocess.normalize(pixels, spec), [[[-1, -1, 0], [1, 3, 1]]], atol=1e-6
  )
  np.testing.assert_allclose(preprocess.normalize(pixels, None)[0, 1], 1)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"resize": "longest"}, "'longest'"),
    ({"resample": "lanczos"}, "'lanczos'"),
    ({"std": (1.0, 0.0, 1.0)}, "std positive"),
    ({"mean": (0.5,)}, "three numbers"),
  ],
)
def test_preprocessing_that_cannot_be(changes, message):
  with pytest.raises(ValueError, match=message):
    Preprocessing(224, **changes)
