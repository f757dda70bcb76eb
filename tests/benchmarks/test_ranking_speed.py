"""Ranks of 10,000 queries in a gallery of 1,000,000 x 512, beside the product.

  pytest tests/benchmarks/test_ranking_speed.py -m slow -s

The bare product is the same tiles of scores, made and dropped, in the better of
two tilings; nothing is compared or counted in it. Needs 2.5 GB of memory.
"""

import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imu2clip_jax import metrics

pytestmark = pytest.mark.slow

QUERIES, GALLERY, DIM = 10_000, 1_000_000, 512
FLOP = 2.0 * QUERIES * GALLERY * DIM
# (gallery rows, queries) of a tile of the bare product.
TILINGS = ((4096, 1024), (4096, 4096))
# Share of the gallery that each tiling of the bare product runs over.
BARE_SHARE = 0.5


@jax.jit
def product(tile, queries):
  return jnp.matmul(tile, queries.T, precision=jax.lax.Precision.HIGHEST)


def bare_flops(queries, gallery, rows, width):
  """Floating point operations a second of the product alone."""
  blocks = [
    jnp.asarray(queries[i : i + width]) for i in range(0, len(queries), width)
  ]
  stop = int(BARE_SHARE * len(gallery)) // rows * rows
  for block in blocks:
    product(jnp.asarray(gallery[:rows]), block).block_until_ready()
  start_s = time.perf_counter()
  for start in range(0, stop, rows):
    tile = jnp.asarray(gallery[start : start + rows])
    for block in blocks:
      product(tile, block).block_until_ready()
  elapsed_s = time.perf_counter() - start_s
  return 2.0 * len(queries) * stop * DIM / elapsed_s


def peak_bytes():
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak * (1 if sys.platform == "darwin" else 1024)


def test_ranks_of_a_million_rows():
  rng = np.random.default_rng(0)
  gallery = np.empty((GALLERY, DIM), np.float32)
  for rows in np.array_split(gallery, 100):
    rng.standard_normal(dtype=np.float32, out=rows)
  noise = rng.standard_normal((QUERIES, DIM), np.float32)
  queries = gallery[:QUERIES] + 4 * noise
  before = peak_bytes()
  metrics.ranks(queries[:1024], gallery[:4096])  # compiles
  start_s = time.perf_counter()
  ranks = metrics.ranks(queries, gallery)
  elapsed_s = time.perf_counter() - start_s
  grown = peak_bytes() - before
  bare = max(bare_flops(queries, gallery, *tiling) for tiling in TILINGS)
  share = FLOP / elapsed_s / bare
  print(
    f"\nranks: {elapsed_s:.1f} s, {FLOP / elapsed_s / 1e9:.0f} GFLOP/s; bare "
    f"product {bare / 1e9:.0f} GFLOP/s; share {share:.3f}; peak above the "
    f"inputs {grown / 2**20:.0f} MiB"
  )
  own = np.einsum("nd,nd->n", queries[:5], gallery[:5], dtype=np.float64)
  scores = queries[:5] @ gallery.T
  scores[np.arange(5), np.arange(5)] = -np.inf
  # Single precision leaves a near tie open.
  for k in range(5):
    least = (scores[k] > own[k] + 1e-2).sum()
    most = (scores[k] > own[k] - 1e-2).sum()
    assert least <= ranks[k] - 1 <= most
  assert grown <= 512 * 2**20
  assert share >= 0.8
