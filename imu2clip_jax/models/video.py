"""A window's frames as one embedding: which frames, and how they are pooled.

`mid` is the paper's choice (one frame), `sum3` the published code's for its
zero-shot rows, `mean:F` is meanP of CLIP4Clip (Luo et al. 2021, section 3.3).
"""

import numpy as np


def choose_frames(pooling: str, num_frames: int) -> np.ndarray:
  """Say which of a window's frames to embed.

  Args:
    pooling: "mid", "sum3" or "mean:F".
    num_frames: frames in the window, at least 1.

  Returns:
    indices, ascending, none twice.

  Raises:
    ValueError: another pooling, or no frames.

  >>> choose_frames("mid", 10), choose_frames("mean:4", 10)
  (array([5]), array([0, 3, 6, 9]))
  """
  if num_frames < 1:
    raise ValueError("a window without frames has none to choose")
  kind, _, count = pooling.partition(":")
  if pooling == "mid":
    return np.array([num_frames // 2])
  if pooling == "sum3":
    return np.unique([0, num_frames // 2, num_frames - 1])
  if kind == "mean" and count.isdecimal() and int(count):
    if count == "1":
      return np.array([num_frames // 2])
    places = np.linspace(0, num_frames - 1, int(count))
    return np.unique(places.round().astype(int))
  raise ValueError(
    f"unknown frame pooling {pooling!r}; known: mid, sum3, mean:F"
  )


def pool_frames(pooling: str, embeddings: np.ndarray) -> np.ndarray:
  """Pool the embeddings of the chosen frames.

  Args:
    pooling: as for `choose_frames`.
    embeddings: [..., F, D], not normalised: in `sum3` a frame with a larger
      norm weighs more.

  Returns:
    [..., D] with unit norm.
  """
  if pooling.startswith("mean"):
    embeddings = unit_norm(embeddings)
  return unit_norm(embeddings.sum(axis=-2))


def unit_norm(rows: np.ndarray) -> np.ndarray:
  """Scale the last axis to unit norm; a zero vector stays zero."""
  norms = np.linalg.norm(rows, axis=-1, keepdims=True)
  return rows / np.maximum(norms, 1e-12)
