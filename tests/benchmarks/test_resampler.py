"""Half an hour of jittered stamps to 200 Hz, beside an integer rate.

  pytest tests/benchmarks/test_resampler.py -m slow -s

IMU2CLIP's code truncates the source rate to a whole number (199.8 Hz becomes
199) and resamples by the ratio of whole numbers. A 20 Hz sine was sampled at
199.8 Hz with 1 ms of jitter; prints how large and how late ours is in the last
minute, and how late the end comes with the integer rate.
"""

import numpy as np
import pytest
from scipy import signal

from imu2clip_jax import imu

pytestmark = pytest.mark.slow

SECONDS, SOURCE_HZ, RATE_HZ, TONE_HZ = 1800, 199.8, 200, 20.0


def last_minute(values, times_s):
  """Return (amplitude, delay in ms) of the tone in the last whole minute."""
  part = slice(-61 * RATE_HZ, -RATE_HZ)
  turn = np.exp(-2j * np.pi * TONE_HZ * times_s[part])
  found = 2 * np.mean(values[part] * turn) * 1j
  return abs(found), -1e3 * np.angle(found) / (2 * np.pi * TONE_HZ)


def test_drift(capsys):
  rng = np.random.default_rng(0)
  count = int(SECONDS * SOURCE_HZ)
  even_s = np.arange(count) / SOURCE_HZ
  stamps_s = even_s + rng.uniform(-1e-3, 1e-3, count)
  tone = np.sin(2 * np.pi * TONE_HZ * stamps_s)[:, None] * np.ones(3)
  grid = imu.to_grid(stamps_s, tone, stamps_s, tone, RATE_HZ)
  times_s = (grid.first + np.arange(len(grid.imu))) / RATE_HZ
  size, late_ms = last_minute(grid.imu[:, 0], times_s)

  whole_hz = int(1000 / np.mean(np.diff(1e3 * even_s)))
  stretched = signal.resample_poly(tone[:, 0], RATE_HZ, whole_hz)
  ends_s = len(stretched) / RATE_HZ
  with capsys.disabled():
    print(
      f"\nby stamps: amplitude {size:.4f}, {late_ms:+.4f} ms in the last of "
      f"30 minutes; by {whole_hz} Hz: {SECONDS} s end at {ends_s:.2f} s, "
      f"{ends_s - SECONDS:.2f} s late"
    )
  assert size == pytest.approx(1, abs=0.01)
  assert abs(late_ms) < 1
  assert ends_s - SECONDS > 7
