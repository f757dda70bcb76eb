"""How fast recordings are indexed and searched; figures are printed.

    pytest tests/benchmarks/test_index_speed.py -m slow -s

Random parameters and random motion: neither changes the arithmetic. Compilation
is not counted; cleaning, resampling, cutting and writing are.
"""

import time

import jax
import numpy as np
import pytest

from imu2clip_jax import index as index_lib
from imu2clip_jax import pretrained, sources
from imu2clip_jax.data import windows
from imu2clip_jax.models import encoders
from imu2clip_jax.recordings import recording as recording_lib

pytestmark = pytest.mark.slow

HOURS, RAW_RATE_HZ = 10.0, 200.0
# Times real time, on two cores.
ENCODERS = {
  "demo": (
    {"preset": "i2c", "rate_hz": 50.0, "width": 24},
    64,
  ),
  "official": ({"preset": "official", "rate_hz": 200.0, "hidden": 512}, 512),
  "paper": ({"preset": "paper", "rate_hz": 200.0, "hidden": 512}, 512),
}
LEAST = {"demo": 2000, "official": 2000, "paper": 1000}


def motion(hours):
  """A recording of slow noise, stamps with the jitter of a real clock."""
  rng = np.random.default_rng(0)
  count = int(hours * 3600 * RAW_RATE_HZ)
  times_s = np.arange(count) / RAW_RATE_HZ + rng.normal(0, 1e-4, count)
  accel = rng.normal((0, 0, 9.81), 1, (count, 3))
  gyro = rng.normal(0, 0.3, (count, 3))
  imu = recording_lib.Imu(times_s, accel, times_s, gyro, "head")
  return recording_lib.Recording("long", "someone", imu)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_ten_hours_are_indexed(name, tmp_path):
  form, dim = ENCODERS[name]
  functions = encoders.build(embed_dim=dim, **form)
  samples = round(5 * form["rate_hz"])
  params = functions.init(jax.random.key(0), samples)
  encoder = pretrained.ImuEmbedder(
    functions, jax.tree.map(np.asarray, params), 5.0
  )
  options = windows.Options(rate_hz=form["rate_hz"], num_frames=0)
  sources.embed_recording(encoder, motion(0.01), options)  # compiles
  recording = motion(HOURS)
  index = index_lib.Index(tmp_path, "e", "t", dim)
  start = time.perf_counter()
  starts_s, embeddings = sources.embed_recording(encoder, recording, options)
  index.append(
    "a",
    embeddings,
    starts_s,
    starts_s + 5.0,
    np.zeros(len(starts_s), np.int32),
    [{"recording_id": "long"}],
  )
  seconds = time.perf_counter() - start
  times = HOURS * 3600 / seconds
  print(f"\n{name}: {len(starts_s)} windows in {seconds:.1f} s, {times:.0f} x")
  assert len(starts_s) == HOURS * 3600 / 5
  assert times >= LEAST[name]


@pytest.mark.parametrize("dim", [64, 512])
def test_a_million_windows_are_searched(dim, tmp_path):
  rng = np.random.default_rng(0)
  gallery = rng.standard_normal((1_000_000, dim), np.float32)
  gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
  rows = np.arange(len(gallery))
  index = index_lib.Index(tmp_path, "e", "t", dim)
  index.append(
    "a", gallery, 5.0 * rows, 5.0 * rows + 5, 0 * rows, [{"recording_id": "a"}]
  )
  queries = rng.standard_normal((9, 1, dim), np.float32)
  index.search(queries[0], 10)  # the memory map becomes warm
  taken_ms = []
  for query in queries:
    start = time.perf_counter()
    found = index.search(query, 10)
    taken_ms.append((time.perf_counter() - start) * 1e3)
  expected = np.argsort(-(gallery @ query[0]), kind="stable")[:10]
  np.testing.assert_array_equal(found.rows[0], expected)
  print(f"\n1 M x {dim}: median {np.median(taken_ms):.0f} ms of {taken_ms}")
  assert np.median(taken_ms) <= 100
