"""Strict jax for every test, and where the real recordings are."""

import os
import pathlib

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(scope="session")
def samples() -> pathlib.Path:
  """The folder of real recordings, if this machine has it."""
  folder = os.environ.get("IMU2CLIP_SAMPLES")
  if not folder:
    pytest.skip("IMU2CLIP_SAMPLES names no folder of real recordings")
  return pathlib.Path(folder)
