"""What an inertial sensor makes of the motion, and how its record goes wrong.

Random numbers come in slots of fixed size, keyed by their number, so any part
of a recording can be made alone and equals the same part made with the rest.
"""

import dataclasses

import numpy as np

from imu2clip_jax.recordings.world import bouts

ACCEL_RANGE = 8 * 9.81  # m/s²
GYRO_RANGE = np.radians(2000.0)  # rad/s
_BIAS_STEP_S = 5.0
_FAULT_SLOT_S = 60.0


@dataclasses.dataclass(frozen=True)
class Faults:
  """What goes wrong with the IMU record; all zero is a clean one.

  Attributes:
    clock_offset_s: the IMU's clock reads this much more than the video's at 0.
    clock_drift: and gains this many seconds a second.
    jitter_s: standard deviation of each stamp; the samples stay.
    gaps_per_minute: how often samples are lost.
    gap_s: how long a loss lasts.
    nan_per_minute: how often the accelerometer reads NaN.
    nan_s: for how long.
    duplicates_per_minute: how often a stamp repeats the one before.
  """

  clock_offset_s: float = 0.0
  clock_drift: float = 0.0
  jitter_s: float = 0.0
  gaps_per_minute: float = 0.0
  gap_s: float = 0.5
  nan_per_minute: float = 0.0
  nan_s: float = 0.2
  duplicates_per_minute: float = 0.0

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      signed = field.name.startswith("clock")
      if not np.isfinite(value) or (value < 0 and not signed):
        raise ValueError(f"faults: {field.name} must be >= 0, got {value}")
    if self.clock_drift <= -1:
      raise ValueError(
        f"faults: clock_drift must be > -1, got {self.clock_drift}"
      )
    for name in ("gap_s", "nan_s"):
      if getattr(self, name) >= _FAULT_SLOT_S:
        raise ValueError(
          f"faults: {name} must be < {_FAULT_SLOT_S:g} s, "
          f"got {getattr(self, name)}"
        )


CLEAN = Faults()


@dataclasses.dataclass(frozen=True)
class Sensor:
  """Noise of one recording's IMU; see `ideal` for none."""

  mount: np.ndarray
  scale: np.ndarray
  noise: np.ndarray  # [6] standard deviation of a sample, m/s² and rad/s
  bias: np.ndarray  # [steps, 6] at multiples of _BIAS_STEP_S
  keys: tuple[int, ...]

  def read(self, motion: np.ndarray, time_s: np.ndarray, slot: int):
    """Turn true motion into readings.

    Args:
      motion: [n, 6] specific force and angular rate in the head frame.
      time_s: [n] float64 seconds of the samples.
      slot: number of this stretch of samples, the key of its noise.

    Returns:
      [n, 6] float32 in the sensor's own, slightly turned, frame.
    """
    turn = np.zeros((6, 6), np.float32)
    turn[:3, :3] = turn[3:, 3:] = self.mount
    values = motion @ (turn * self.scale.astype(np.float32))
    step = np.clip(time_s / _BIAS_STEP_S, 0, len(self.bias) - 1.001)
    index = step.astype(int)
    share = (step - index)[:, None]
    bias = self.bias[index] * (1 - share) + self.bias[index + 1] * share
    values += bias.astype(np.float32)
    rng = np.random.default_rng([*self.keys, 1, slot])
    noise = rng.standard_normal(values.shape, np.float32)
    values += noise * self.noise.astype(np.float32)
    limit = np.array([ACCEL_RANGE] * 3 + [GYRO_RANGE] * 3, np.float32)
    return np.clip(values, -limit, limit)


def draw_sensor(
  seed: int, wearer: int, recording: int, person, duration_s: float
) -> Sensor:
  """Draw noise and wandering bias of one recording's sensor."""
  rng = bouts.generator(seed, bouts.SENSOR, wearer, recording)
  noise = np.array([0.03] * 3 + [0.004] * 3) * np.exp(rng.normal(0, 0.3))
  start = rng.normal(0.0, [0.06] * 3 + [0.006] * 3)
  steps = 2 + int(np.ceil(duration_s / _BIAS_STEP_S))
  walk = rng.normal(0.0, [0.004] * 3 + [0.0004] * 3, (steps, 6))
  return Sensor(
    mount=person.mount,
    scale=person.scale,
    noise=noise,
    bias=start + np.cumsum(walk, axis=0),
    keys=(seed, bouts.SENSOR, wearer, recording),
  )


IDEAL = Sensor(
  mount=np.eye(3),
  scale=np.ones(6),
  noise=np.zeros(6),
  bias=np.zeros((2, 6)),
  keys=(0,),
)


def events(
  keys: tuple, kind: int, per_minute: float, start_s: float, end_s: float
) -> np.ndarray:
  """Times of random events within [start_s, end_s), by slots of a minute."""
  if per_minute == 0 or end_s <= start_s:
    return np.zeros(0)
  slots = range(
    max(int(start_s // _FAULT_SLOT_S), 0), int(end_s // _FAULT_SLOT_S) + 1
  )
  times = []
  for slot in slots:
    rng = np.random.default_rng([*keys, kind, slot])
    count = rng.poisson(per_minute * _FAULT_SLOT_S / 60.0)
    times.append(np.sort((slot + rng.uniform(size=count)) * _FAULT_SLOT_S))
  times = np.concatenate(times)
  return times[(times >= start_s) & (times < end_s)]


def intervals(keys, kind, per_minute, length_s, start_s, end_s):
  """Merged (start_s, end_s) of events of one length that touch a range."""
  merged = []
  for time in events(keys, kind, per_minute, start_s - length_s, end_s):
    if merged and time <= merged[-1][1]:
      merged[-1] = (merged[-1][0], time + length_s)
    else:
      merged.append((time, time + length_s))
  return merged
