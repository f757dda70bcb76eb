"""Image preprocessing as CLIP checkpoints state it: resize, crop, mean, std.

The geometry runs on the host in Pillow, whose 8-bit bicubic is what the
published weights were trained and measured with; the arithmetic on pixels runs
on the device, so that uint8 travels.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

# Of OpenAI's training images; most, not all, other checkpoints keep them.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_FILTERS = {
  "bicubic": Image.Resampling.BICUBIC,
  "bilinear": Image.Resampling.BILINEAR,
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """What happens to an image before the image tower.

  Attributes:
    size: pixels along each side of the square result.
    resize: "shortest" scales the shorter side to `size`, then crops the
      centre; "squash" scales both sides to it.
    resample: "bicubic" or "bilinear".
    mean: of each channel, in 0..1.
    std: of each channel, in 0..1.
  """

  size: int
  resize: str = "shortest"
  resample: str = "bicubic"
  mean: tuple[float, float, float] = OPENAI_MEAN
  std: tuple[float, float, float] = OPENAI_STD

  def __post_init__(self):
    if self.resize not in ("shortest", "squash"):
      raise ValueError(
        f"unknown resize mode {self.resize!r}; known: shortest, squash"
      )
    if self.resample not in _FILTERS:
      raise ValueError(
        f"unknown resampling {self.resample!r}; known: {', '.join(_FILTERS)}"
      )
    if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
      raise ValueError(
        f"mean {self.mean} and std {self.std} must be three numbers each, "
        "std positive"
      )


def fit(image: np.ndarray, spec: Preprocessing) -> np.ndarray:
  """Resize and crop one RGB image, uint8 [H, W, 3] → uint8 [S, S, 3].

  Crop offsets round half to even, as torchvision's and so OpenAI's do; Hugging
  Face's processor rounds down, one pixel off for some sizes.

  Raises:
    ValueError: not a uint8 [H, W, 3] array.
  """
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(
      f"an image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
    )
  height, width = image.shape[:2]
  if not height or not width:
    raise ValueError(f"an image must have pixels, got {list(image.shape)}")
  size = spec.size
  if spec.resize == "squash":
    new_height = new_width = size
  elif height <= width:
    new_height, new_width = size, size * width // height
  else:
    new_height, new_width = size * height // width, size
  if (new_height, new_width) != (height, width):
    resized = Image.fromarray(image).resize(
      (new_width, new_height), _FILTERS[spec.resample]
    )
    image = np.asarray(resized)
  top, left = round((new_height - size) / 2), round((new_width - size) / 2)
  return image[top : top + size, left : left + size]


def normalize(pixels: jax.Array, spec: Preprocessing | None) -> jax.Array:
  """Turn uint8 [..., 3] into the float32 that the image tower takes.

  With None the pixels are only scaled to 0..1: what the published IMU2CLIP code
  feeds to CLIP.
  """
  scaled = pixels.astype(jnp.float32) / 255
  if spec is None:
    return scaled
  mean, std = (
    jnp.expand_dims(jnp.asarray(of), range(pixels.ndim - 1))
    for of in (spec.mean, spec.std)
  )
  return (scaled - mean) / std
