"""Half an hour of Ego4D's CSV to windows at 200 Hz, beside pandas and SciPy.

  pytest tests/benchmarks/test_csv_speed.py -m "slow and parity" -s

The reference trusts the mean rate and ignores stamps, gaps and coverage, so it
does less; its windows are compared in shape only. By turns, in one process;
prints the median times and their ratio.
"""

import time
from fractions import Fraction

import numpy as np
import pytest
from scipy import signal

from imu2clip_jax.data import windows
from imu2clip_jax.recordings import ego4d

pytestmark = [pytest.mark.slow, pytest.mark.parity]

ROUNDS = 7
COLUMNS = [
  "canonical_timestamp_ms", "accl_x", "accl_y", "accl_z",
  "gyro_x", "gyro_y", "gyro_z",
]  # fmt: skip


def jittered(rng):
  count = int(1800 * 199.8)
  return (np.arange(count) / 199.8 + rng.uniform(-1e-3, 1e-3, count)) * 1e3


def payloads(rng):
  """As the published files are stamped: n even steps in every second."""
  counts = rng.integers(198, 202, 1800)
  return np.concatenate(
    [1e3 * (k + np.arange(n) / n) for k, n in enumerate(counts)]
  )


def write(pandas, path, stamps):
  rng = np.random.default_rng(0)
  t_ms = stamps(rng)
  count = len(t_ms)
  values = rng.normal(size=(count, 6))
  values[:, 2] += 9.8
  table = {"component_idx": 0, "component_timestamp_ms": t_ms}
  table |= {"canonical_timestamp_ms": t_ms}
  table |= {f"gyro_{a}": values[:, 3 + i] for i, a in enumerate("xyz")}
  table |= {f"accl_{a}": values[:, i] for i, a in enumerate("xyz")}
  path.parent.mkdir()
  pandas.DataFrame(table).to_csv(path, index=False)


def theirs(pandas, path):
  table = pandas.read_csv(path, usecols=COLUMNS)[COLUMNS].dropna()
  table = table.sort_values(COLUMNS[0]).drop_duplicates(COLUMNS[0])
  t_s = table[COLUMNS[0]].to_numpy() / 1e3
  rate_hz = (len(t_s) - 1) / (t_s[-1] - t_s[0])
  ratio = Fraction(200 / rate_hz).limit_denominator(1000)
  values = table[COLUMNS[1:]].to_numpy()
  uniform = signal.resample_poly(
    values, ratio.numerator, ratio.denominator, axis=0
  ).astype(np.float32)
  count = len(uniform) // 1000
  return uniform[: count * 1000].reshape(count, 1000, 6)


def ours(path):
  options = windows.Options(num_frames=0)
  return windows.cut_recording(ego4d.open_ego4d(path), options).records


@pytest.mark.parametrize("stamps", [payloads, jittered])
def test_csv_to_windows(tmp_path, stamps):
  pandas = pytest.importorskip("pandas")
  path = tmp_path / "imu" / "video.csv"
  write(pandas, path, stamps)
  times = {"ours": [], "theirs": []}
  for _ in range(ROUNDS):
    for name, run in (
      ("ours", lambda: ours(path)),
      ("theirs", lambda: theirs(pandas, path)),
    ):
      start = time.perf_counter()
      found = run()
      times[name].append(time.perf_counter() - start)
      assert abs(len(found) - 360) <= 1
  ours_s, theirs_s = (np.median(times[n]) for n in ("ours", "theirs"))
  print(
    f"\n{stamps.__name__}: {ours_s:.3f} s, pandas and resample_poly "
    f"{theirs_s:.3f} s: {theirs_s / ours_s:.2f} times as fast"
  )
