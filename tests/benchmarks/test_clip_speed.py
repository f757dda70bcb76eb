"""CLIP's towers beside transformers' on torch SDPA, in one process, by turns.

  pytest tests/benchmarks/test_clip_speed.py -m "slow and parity" -s

ViT-B/32 with random weights, two threads each. Texts fill the whole context of
77 tokens on both sides, although ours would cut shorter ones. Every cell
alternates ours and torch's, so that a slow moment of the machine hits both;
the ratio is the median of the rounds' own.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imu2clip_jax.models import clip

pytestmark = [pytest.mark.slow, pytest.mark.parity]

CONFIG = clip.ClipConfig(
  512,
  clip.Tower(768, 12, 12, 3072, "quick_gelu"),
  clip.Tower(512, 12, 8, 2048, "quick_gelu"),
  image_size=224,
  patch_size=32,
  vocab_size=49408,
  context=77,
)
CELLS = [
  (dtype, tower, batch)
  for dtype in ("float32", "bfloat16")
  for tower in ("image", "text")
  for batch in (1, 16, 64)
]
CELL_S = 6.0  # time for one cell, within the bounds of its rounds
MIN_ROUNDS, MAX_ROUNDS = 3, 60
ROWS = []


@pytest.fixture(scope="module")
def params():
  return clip.init(jax.random.key(0), CONFIG)


@pytest.fixture(scope="module")
def model():
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  torch.set_num_threads(2)
  torch.manual_seed(0)
  config = transformers.CLIPConfig(projection_dim=512)
  config._attn_implementation = "sdpa"
  return transformers.CLIPModel(config).eval()


def inputs(tower, batch):
  rng = np.random.default_rng(0)
  if tower == "image":
    return rng.standard_normal((batch, 224, 224, 3), np.float32)
  ids = rng.integers(1, 49000, (batch, 77))
  ids[:, -1] = 49407
  return ids


def ours(params, tower, x, dtype):
  encode = clip.encode_images if tower == "image" else clip.encode_texts
  dtype = jnp.dtype(dtype)
  # Kernels lie in the arithmetic's dtype, as `load_clip` keeps them.
  params = jax.tree.map(
    lambda leaf: leaf.astype(dtype) if leaf.ndim >= 2 else leaf, params
  )
  run = jax.jit(lambda params, x: encode(params, x, CONFIG, dtype))
  x = jnp.asarray(x)
  return lambda: run(params, x).block_until_ready()


def theirs(model, tower, x, dtype):
  import torch

  model = model.to(getattr(torch, dtype))
  if tower == "image":
    pixels = torch.tensor(x.transpose(0, 3, 1, 2).copy())
    pixels = pixels.to(getattr(torch, dtype))
    return lambda: model.get_image_features(pixel_values=pixels)
  ids = torch.tensor(x)
  return lambda: model.get_text_features(input_ids=ids)


def seconds(run):
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


@pytest.mark.parametrize(("dtype", "tower", "batch"), CELLS)
def test_against_torch(params, model, dtype, tower, batch):
  import torch

  x = inputs(tower, batch)
  runs = ours(params, tower, x, dtype), theirs(model, tower, x, dtype)
  with torch.no_grad():
    warm_up = [seconds(run) and seconds(run) for run in runs]
    rounds = int(np.clip(CELL_S / sum(warm_up), MIN_ROUNDS, MAX_ROUNDS))
    times = []
    for i in range(rounds):
      order = (0, 1) if i % 2 else (1, 0)
      pair = {which: seconds(runs[which]) for which in order}
      times.append((pair[0], pair[1]))
  mine, reference = np.median(times, axis=0)
  ratio = np.median([a / b for a, b in times])
  ROWS.append(
    f"{dtype:9} {tower:6} {batch:5} {mine * 1e3:9.1f} "
    f"{reference * 1e3:9.1f} {ratio:7.2f} {rounds:7}"
  )


def test_print_the_table():
  print("\ndtype     tower  batch   ours ms  torch ms   ratio  rounds")
  print("\n".join(ROWS))
  assert ROWS
