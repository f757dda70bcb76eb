"""How fast a stream is on one core, and that a hop costs the same for hours.

taskset -c 0 pytest tests/benchmarks/test_streaming_speed.py -m slow -s
"""

import os
import statistics
import time

import jax
import numpy as np
import pytest

from imu2clip_jax import config, pretrained
from imu2clip_jax.models import encoders
from imu2clip_jax.streaming import ImuStream

SOURCE_HZ, HOP_S = 198.4, 0.5


def encoder(preset, rate_hz):
  c = config.default()
  c.encoder.preset, c.encoder.rate_hz = preset, rate_hz
  if rate_hz < 100:  # the demo's
    c.encoder.hidden, c.encoder.width = 128, 48
  functions = encoders.from_config(c.encoder, c.encoder.hidden)
  samples = round(5 * rate_hz)
  params = jax.tree.map(np.asarray, functions.init(jax.random.key(0), samples))
  return pretrained.ImuEmbedder(functions, params, 5.0, c)


@pytest.fixture(autouse=True)
def one_core():
  """Pin this process to one core; XLA's pool follows."""
  if hasattr(os, "sched_setaffinity"):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)
  else:
    yield


@pytest.mark.slow
@pytest.mark.parametrize(
  ("preset", "rate_hz", "least"),
  [("paper", 50.0, 10), ("official", 200.0, 10), ("paper", 200.0, 2)],
)
def test_real_time_factor(preset, rate_hz, least):
  """Chunks of 0.1 s, as a phone sends them; the first minute warms up."""
  stream = ImuStream(encoder(preset, rate_hz), HOP_S)
  rng = np.random.default_rng(0)
  chunk, minutes, spent, hops = 20, 4, [], 0
  for minute in range(minutes + 1):
    count = round(60 * SOURCE_HZ / chunk)
    samples = rng.normal(size=(count, chunk, 6))
    stamps = np.arange(count * chunk).reshape(count, chunk) / SOURCE_HZ
    stamps += minute * count * chunk / SOURCE_HZ
    begin = time.perf_counter()
    came = sum(
      len(stream.push(imu, t_s))
      for imu, t_s in zip(samples, stamps, strict=True)
    )
    if minute:
      spent.append(time.perf_counter() - begin)
      hops += came
  factor = 60 * minutes / sum(spent)
  print(
    f"\n{preset} at {rate_hz:g} Hz: {factor:.0f}x real time, "
    f"{1e3 * sum(spent) / hops:.1f} ms a hop of {HOP_S} s, "
    f"{stream.buffered} samples kept"
  )
  assert factor > least
  # The last minute costs what the first did.
  assert spent[-1] < 2 * statistics.median(spent)
