"""Time and memory of the contrastive losses, dense and by blocks.

  pytest tests/benchmarks/test_loss_speed.py -m slow -s

Forward and backward pass of D = 512 in float32, compiled beforehand. Every row
is measured in a process of its own, dense and by blocks in turns; "peak" is
what the process needs at most above its inputs, gradients included. Beyond
16,384 rows the dense loss is arithmetic: four B x B arrays at once. Needs Linux
and 5 GB of memory; three minutes on two cores.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

DIM, BLOCK = 512, 1024
DENSE = 0
# Rows of a batch -> rounds of (dense, by blocks), or of blocks alone.
BOTH = {1024: 3, 4096: 3, 8192: 3, 16384: 2}
BLOCKS_ALONE = {32768: 1, 65536: 1}
MIB, GIB = 2**20, 2**30

CHILD = """
import json, pathlib, re, sys, time
import jax, jax.numpy as jnp
from imu2clip_jax import losses

kind, rows, block, dim = sys.argv[1], *map(int, sys.argv[2:])

def size(name):
  text = pathlib.Path("/proc/self/status").read_text()
  return 1024 * int(re.search(name + r":\\s+(\\d+)", text)[1])

def rows_of(key):
  x = jax.random.normal(key, (rows, dim))
  return x / jnp.linalg.norm(x, axis=1, keepdims=True)

def loss(a, b, scale):
  if kind == "softmax":
    return losses.softmax_contrastive(a, b, scale, block=block or None)
  return losses.sigmoid_contrastive(a, b, scale, -10.0, block=block or None)

a, b = jax.block_until_ready([rows_of(jax.random.key(i)) for i in (0, 1)])
both = jax.value_and_grad(loss, argnums=(0, 1, 2))
step = jax.jit(both).lower(a, b, 10.0).compile()
before = size("VmRSS")
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
times = []
for _ in range(2 if rows <= 16384 else 1):
  start = time.perf_counter()
  value = float(jax.block_until_ready(step(a, b, 10.0))[0])
  times.append(time.perf_counter() - start)
peak = size("VmHWM") - before
print(json.dumps({"s": min(times), "peak": peak, "loss": value}))
"""


def measure(kind, rows, block):
  command = [sys.executable, "-c", CHILD, kind, *map(str, (rows, block, DIM))]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  return json.loads(done.stdout)


def line(kind, rows, way, found, ratio=""):
  # Dense: one product forward, two backward. Softmax by blocks makes the
  # logits again; sigmoid finds loss and gradients in one walk.
  products = 4 if (kind, way) == ("softmax", "blocks") else 3
  rate = products * 2 * rows**2 * DIM / found["s"]
  return (
    f"{kind:8}{rows:7} {way:7}{found['s']:9.3f}{found['peak'] / MIB:10.0f}"
    f"{rate / 1e9:10.0f}{ratio:>9}"
  )


def median(runs):
  return {k: float(np.median([r[k] for r in runs])) for k in runs[0]}


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_blocks_beside_dense(kind):
  print("\nloss        B  way          s  peak MiB  GFLOP/s    ratio")
  ratios = []
  for rows, rounds in BOTH.items():
    if kind == "sigmoid" and rows not in (4096, 16384):
      continue
    runs = [
      (measure(kind, rows, DENSE), measure(kind, rows, BLOCK))
      for _ in range(rounds)
    ]
    dense, blocks = (median(way) for way in zip(*runs, strict=True))
    ratios.append(np.median([b["s"] / d["s"] for d, b in runs]))
    np.testing.assert_allclose(blocks["loss"], dense["loss"], rtol=1e-5)
    print(line(kind, rows, "dense", dense))
    print(line(kind, rows, "blocks", blocks, f"{ratios[-1]:.2f}"))
  assert max(ratios) <= 1.3


def test_blocks_where_dense_does_not_fit():
  print("\nloss        B  way          s  peak MiB  GFLOP/s")
  for rows in BLOCKS_ALONE:
    found = measure("softmax", rows, BLOCK)
    print(line("softmax", rows, "blocks", found))
    dense = 4 * rows**2 * 4
    print(f"softmax{rows:8} dense {'':10}{dense / MIB:10.0f} by arithmetic")
    assert found["peak"] < 2 * GIB
