"""Step times at 64 windows a device, over devices and processes of one machine.

  pytest tests/benchmarks/test_weak_scaling.py -m slow -s

The devices are forced ones: they share the same cores, so twice the devices
take twice the time at best, and "efficiency" is windows a second beside one
device's. It shows what sharding, collectives (gloo between processes) and
dispatch cost, not what more hardware brings. Preset `official`, both pairs,
softmax loss over the mesh. "collectives" are those of the compiled step, with
the bytes that they hand to each device.
"""

import json
import os
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

WINDOWS_A_DEVICE, STEPS, ROUNDS = 64, 8, 2
# (processes, devices of each)
LAYOUTS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 4))

CHILD = """
import collections, json, re, statistics, sys, time
import jax, numpy as np

processes, process, port, rows, steps = map(int, sys.argv[1:])
from imu2clip_jax import config, distributed, sharding, train, train_step
from imu2clip_jax.models import encoders
if processes > 1:
  distributed.start(f"127.0.0.1:{port}", processes, process)

c = config.default()
c.encoder.preset = "official"
mesh = sharding.make_mesh()
encoder = encoders.from_config(c.encoder, 512)
optimizer = train.make_optimizer(c)
state = jax.jit(
  lambda key: train_step.init(
    encoder, optimizer, key, num_samples=1000,
    pairs=config.VARIANTS[c.variant], initial_scale=10.0, initial_bias=-10.0,
  ),
  out_shardings=sharding.replicated(mesh),
)(jax.random.key(0))
local = rows * jax.local_device_count()
rng = np.random.default_rng(process)
def unit():
  x = rng.standard_normal((local, 512), np.float32)
  return x / np.linalg.norm(x, axis=1, keepdims=True)
def batch(step):
  return sharding.global_batch(mesh, columns | {
    "step": np.full(local, step, np.int32)})
columns = {
  "imu": rng.standard_normal((local, 1000, 6), np.float32),
  "sensor_mask": np.ones((local, 2), bool),
  "frame_embedding": unit(), "has_frames": np.ones(local, bool),
  "text_embedding": unit(), "has_text": np.ones(local, bool),
  "text_id": np.arange(local, dtype=np.int32) + process * local,
}
step = jax.jit(train.make_step(c, encoder, mesh), donate_argnums=0)
step = step.lower(state, batch(0)).compile()
moved = collections.Counter()
width = {"f32": 4, "s32": 4, "pred": 1}
for line in step.as_text().splitlines():
  found = re.search(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|collective-permute|"
    r"all-to-all)(-start)?\\(", line)
  if found:
    for kind, shape in re.findall(r"(f32|s32|pred)\\[([\\d,]*)\\]", found[1]):
      sizes = [int(n) for n in shape.split(",") if n]
      moved[found[2]] += width[kind] * int(np.prod(sizes))
state, metrics = jax.block_until_ready(step(state, batch(0)))
times = []
for index in range(1, steps + 1):
  ready = batch(index)
  start = time.perf_counter()
  state, metrics = jax.block_until_ready(step(state, ready))
  times.append(time.perf_counter() - start)
if process == 0:
  assert int(metrics["steps_done"]) == steps + 1
  print("RESULT", json.dumps({
    "s": statistics.median(times), "moved": dict(moved),
    "parameters": sum(x.size for x in jax.tree.leaves(state["params"]))}))
"""


def free_port():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


def measure(processes, devices):
  flags = f"--xla_force_host_platform_device_count={devices}"
  env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
  numbers = free_port(), WINDOWS_A_DEVICE, STEPS
  children = [
    subprocess.Popen(
      [sys.executable, "-c", CHILD, *map(str, (processes, i, *numbers))],
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(processes)
  ]
  try:
    outs = [child.communicate(timeout=200) for child in children]
  finally:
    for child in children:
      child.kill()
  for child, (_, error) in zip(children, outs, strict=True):
    assert child.returncode == 0, error[-4000:]
  (line,) = (x for x in outs[0][0].splitlines() if x.startswith("RESULT"))
  return json.loads(line.removeprefix("RESULT"))


def test_print_the_table():
  cores = len(os.sched_getaffinity(0))
  print(
    f"\n{cores} cores\nprocesses  devices  batch  step ms  windows/s  "
    "efficiency  collectives, MB a device"
  )
  one = None
  for processes, each in LAYOUTS:
    runs = [measure(processes, each) for _ in range(ROUNDS)]
    found = min(runs, key=lambda run: run["s"])
    batch = processes * each * WINDOWS_A_DEVICE
    rate = batch / found["s"]
    one = one or rate
    moved = ", ".join(f"{k} {v / 1e6:.2f}" for k, v in found["moved"].items())
    print(
      f"{processes:9}{processes * each:9}{batch:7}{found['s'] * 1e3:9.0f}"
      f"{rate:11.0f}{rate / one:12.2f}  {moved}"
    )
    # The gradients' bytes, once, however many devices there are.
    assert found["moved"].get("all-reduce", 0) < 1.1 * 4 * found["parameters"]
