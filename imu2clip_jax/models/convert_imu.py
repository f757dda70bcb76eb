"""The released PyTorch IMU encoder (`*_src_encoder.pt`) as ours."""

from collections.abc import Mapping

import numpy as np

from imu2clip_jax import trees
from imu2clip_jax.models import imu_encoder
from imu2clip_jax.models.imu_encoder import Encoder
from imu2clip_jax.models.torch_archive import read_state_dict

# PyTorch's name -> ours. Matrices and kernels are transposed: torch has
# outputs first ([3H, F], [out, in, kernel]), we have them last.
NAMES = {
  "net.0.weight": "trunk/norm_in/scale",
  "net.0.bias": "trunk/norm_in/bias",
  "net.1.net.0.weight": "trunk/conv_0/kernel",
  "net.2.net.0.weight": "trunk/conv_1/kernel",
  "net.3.net.0.weight": "trunk/conv_2/kernel",
  "net.4.weight": "trunk/norm_out/scale",
  "net.4.bias": "trunk/norm_out/bias",
  "net.5.weight_ih_l0": "trunk/gru/wi",
  "net.5.weight_hh_l0": "trunk/gru/wh",
  "net.5.bias_ih_l0": "trunk/gru/bi",
  "net.5.bias_hh_l0": "trunk/gru/bh",
}


def load_torch_encoder(path) -> tuple[Encoder, dict]:
  """Read a released encoder without PyTorch and without running its pickle.

  Args:
    path: `*_src_encoder.pt`, a state dict written by torch.save.

  Returns:
    The `official_swapped` encoder of that size, and its parameters.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not such an archive, or not such an encoder.
  """
  state = read_state_dict(path)
  try:
    return from_state_dict(state)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def from_state_dict(state: Mapping[str, np.ndarray]) -> tuple[Encoder, dict]:
  """Map the released encoder's tensors to our parameters.

  Args:
    state: PyTorch's names -> arrays; the sizes come from the shapes.

  Returns:
    The encoder and its float32 parameters.

  Raises:
    ValueError: a tensor is missing, left over or of the wrong shape.
  """
  missing, extra = sorted(NAMES.keys() - state), sorted(state.keys() - NAMES)
  if missing or extra:
    raise ValueError(
      f"not a released IMU encoder: missing {missing}, unknown {extra}"
    )
  hidden = state["net.5.weight_hh_l0"].shape[-1]
  width = state["net.1.net.0.weight"].shape[0]
  encoder = imu_encoder.build(
    "official_swapped", hidden, hidden=hidden, width=width
  )
  leaves = {
    ours: np.ascontiguousarray(np.asarray(state[theirs], np.float32).T)
    for theirs, ours in NAMES.items()
  }
  want = trees.flatten(encoder.param_shapes(encoder.min_samples))
  for theirs, ours in NAMES.items():
    if leaves[ours].shape != want[ours].shape:
      raise ValueError(
        f"{theirs} is {list(state[theirs].shape)}, an encoder of {hidden} "
        f"states and {width} channels needs {list(want[ours].shape)[::-1]}"
      )
  return encoder, trees.unflatten(leaves)
