"""The built-in world: head-worn recordings computed from nothing.

A wearer's head moves as an analytic function of time; the IMU follows by
differentiation and a sensor model, the picture by casting rays from the same
pose, the narrations from the same attributes. See `recordings.world`.

Everything is a function of (seed, wearer, recording): no file is read, and any
range of time can be asked for alone, in any order and process.
"""

import dataclasses
import functools

import numpy as np

from imu2clip_jax.recordings.recording import Entry, Imu, Recording
from imu2clip_jax.recordings.world import (
  bouts,
  motion,
  narration,
  render,
  scenes,
  sensor,
)
from imu2clip_jax.recordings.world.activities import HELD_OUT, LABELS
from imu2clip_jax.recordings.world.sensor import CLEAN, Faults

__all__ = [
  "ACTIVITIES",
  "HELD_OUT",
  "Faults",
  "Simulation",
  "Truth",
  "find",
  "open_synthetic",
  "split_of",
]

ACTIVITIES = LABELS
# Wearers of a split are numbered from here, so that more wearers in one split
# leave those of the others as they were.
_FIRST_WEARER = {"train": 0, "validation": 10_000, "test": 20_000}
_BLOCKS = 64  # of one call of the compiled IMU: its shape never changes
_FRAMES = 64  # of one call of the compiled renderer
_JITTER, _GAPS, _NANS, _DUPLICATES = range(4)  # keys of the faults


def split_of(wearer: int) -> str:
  """Return the split that a wearer's number belongs to."""
  if wearer < 0:
    raise ValueError(f"wearer must be >= 0, got {wearer}")
  return [s for s, first in _FIRST_WEARER.items() if wearer >= first][-1]


@dataclasses.dataclass(frozen=True)
class Truth:
  """What is wrong with an IMU record, on the video's clock.

  Attributes:
    rate_hz: the sensor's true rate.
    clock_offset_s, clock_drift: stamp = time + offset + drift * time.
    gaps: (start_s, end_s) without samples.
    nans: (start_s, end_s) where the accelerometer reads NaN.
    duplicates_s: true times of samples that repeat the stamp before.
  """

  rate_hz: float
  clock_offset_s: float
  clock_drift: float
  gaps: list[tuple[float, float]]
  nans: list[tuple[float, float]]
  duplicates_s: np.ndarray


class Simulation:
  """One recording of the built-in world, computed where it is asked.

  It is also the `Video` of its `Recording`.

  Attributes:
    recording_id, wearer_id, split, duration_s: see `Recording`.
    bouts: list of `bouts.Bout`, the truth.
    labels: activity segments as (start_s, end_s, label).
    rate_hz: true rate of the IMU.
    start_s, end_s: of the video.
  """

  def __init__(
    self,
    *,
    seed: int = 0,
    wearer: int = 0,
    recording: int = 0,
    duration_s: float = 600.0,
    rate_hz: float = 100.0,
    size: int = 32,
    video_rate_hz: float = 10.0,
    faults: Faults = CLEAN,
    ideal: bool = False,
  ):
    """Draw the schedule; nothing else is computed yet.

    Args:
      seed: of the whole world.
      wearer: number of the person; says the split, see `split_of`.
      recording: number of the recording of that person.
      duration_s: at least 10.
      rate_hz: nominal, 20 to 1000; the true rate is within 0.8 % of it.
      size: of the square pictures, in pixels.
      video_rate_hz: frames exist at multiples of its inverse.
      faults: of the IMU record.
      ideal: leave the sensor model out.

    Raises:
      ValueError: names the option out of range.
    """
    for name, value, low, high in (
      ("duration_s", duration_s, 10.0, np.inf),
      ("rate_hz", rate_hz, 20.0, 1000.0),
      ("size", size, 8, 512),
      ("video_rate_hz", video_rate_hz, 0.1, 1000.0),
      ("seed", seed, 0, np.inf),
      ("recording", recording, 0, np.inf),
    ):
      if not low <= value <= high:
        raise ValueError(f"{name} must be {low:g} .. {high:g}, got {value}")
    self.split = split_of(wearer)
    self.wearer_id, self.recording_id = _names(seed, wearer, recording)
    self.duration_s = float(duration_s)
    self.start_s = 0.0
    self.video_rate_hz = float(video_rate_hz)
    self.end_s = np.floor(duration_s * video_rate_hz) / video_rate_hz
    self.size, self.faults = size, faults
    self._keys = (seed, wearer, recording)
    self.wearer = bouts.draw_wearer(seed, wearer)
    self.bouts, self._motion = bouts.plan(*self._keys, self.duration_s)
    self.labels = [(b.start_s, b.end_s, b.label) for b in self.bouts]
    self._fault_keys = (seed, bouts.FAULTS, wearer, recording)
    rng = bouts.generator(seed, bouts.FAULTS, wearer, recording)
    self.rate_hz = float(rate_hz * rng.uniform(0.992, 1.008))
    self._first_s = float(-rng.uniform(0.0, 0.02))
    # A block may see one change of bouts only, so it stays under 2.6 s.
    self._samples = 2 ** min(8, int(np.floor(np.log2(2.6 * self.rate_hz))))
    self._sensor = (
      sensor.IDEAL
      if ideal
      else sensor.draw_sensor(*self._keys, self.wearer, self.duration_s)
    )

  def bout_at(self, time_s: float) -> bouts.Bout:
    """The bout of a time; the later one at a change."""
    starts = self._motion["start_s"]
    index = np.searchsorted(starts, time_s, side="right") - 1
    return self.bouts[int(np.clip(index, 0, len(starts) - 1))]

  def pose(self, times_s) -> tuple[np.ndarray, np.ndarray]:
    """Where the head is: position [n, 3] in metres and head-to-world [n, 3, 3].

    World axes: z up; one path through the whole recording.
    """
    times_s = np.atleast_1d(np.asarray(times_s, np.float64))
    places, turns = [], []
    for start in range(0, len(times_s), 256):
      part = _padded(times_s[start : start + 256], 256)
      block, origin = motion.blocks(self._motion, part, 0.1)
      place, turn = motion.pose_blocks(np.zeros((256, 1), np.float32), block)
      places.append(origin + np.asarray(place)[:, :, 0])
      turns.append(np.asarray(turn)[..., 0])
    count = len(times_s)
    return np.concatenate(places)[:count], np.concatenate(turns)[:count]

  def imu(self, start_s: float = 0.0, end_s: float | None = None) -> Imu:
    """The IMU record of the samples taken in [start_s, end_s).

    The range counts on the video's clock; stamps are on the sensor's, which is
    another one where the faults say so. Any range gives the same samples as
    the whole.
    """
    end_s = self.duration_s if end_s is None else end_s
    start_s = self._first_s if start_s <= 0 else start_s
    first, last = (
      int(np.ceil((t - self._first_s) * self.rate_hz - 1e-9))
      for t in (start_s, min(end_s, self.duration_s))
    )
    if last <= first:
      raise ValueError(
        f"recording {self.recording_id!r} has no samples in "
        f"{start_s:g} .. {end_s:g} s"
      )
    size = _BLOCKS * self._samples
    slots = range(first // size, (last - 1) // size + 1)
    parts = [self._slot(slot) for slot in slots]
    stamps, values, kept = (
      np.concatenate(part) for part in zip(*parts, strict=True)
    )
    inside = slice(first - slots[0] * size, last - slots[0] * size)
    kept = kept[inside]
    stamps, values = stamps[inside][kept], values[inside][kept]
    values = values.astype(np.float64)
    return Imu(stamps, values[:, :3], stamps.copy(), values[:, 3:], "head")

  def _slot(self, slot: int):
    """Stamps, readings and which are kept, of one fixed stretch of samples."""
    size = _BLOCKS * self._samples
    count = slot * size + np.arange(size)
    time_s = self._first_s + count / self.rate_hz
    starts = time_s[:: self._samples]
    length_s = self._samples / self.rate_hz
    block, _ = motion.blocks(self._motion, starts, length_s)
    within = (np.arange(self._samples) / self.rate_hz).astype(np.float32)
    true = motion.imu_blocks(np.tile(within, (_BLOCKS, 1)), block)
    values = self._sensor.read(np.asarray(true).reshape(size, 6), time_s, slot)
    return self._spoil(slot, time_s, values)

  def _spoil(self, slot, time_s, values):
    faults = self.faults
    stamps = time_s * (1.0 + faults.clock_drift) + faults.clock_offset_s
    if faults.jitter_s:
      rng = np.random.default_rng([*self._fault_keys, _JITTER, slot])
      stamps += faults.jitter_s * rng.standard_normal(len(stamps))
    truth = self.truth(time_s[0], time_s[-1] + 1.0 / self.rate_hz)
    repeated = np.searchsorted(time_s, truth.duplicates_s - 1e-9)
    for index in repeated:
      stamps[index] = stamps[index - 1]
    values[_within(time_s, truth.nans), :3] = np.nan
    return stamps, values, ~_within(time_s, truth.gaps)

  def truth(self, start_s: float = 0.0, end_s: float | None = None) -> Truth:
    """What the faults did in a range of time."""
    end_s = self.duration_s if end_s is None else end_s
    faults, keys = self.faults, self._fault_keys
    # The sample that repeats a stamp is the next one after the event.
    early_s = start_s - 1.0 / self.rate_hz
    drawn = sensor.events(
      keys, _DUPLICATES, faults.duplicates_per_minute, early_s, end_s
    )
    count = np.ceil((drawn - self._first_s) * self.rate_hz).astype(np.int64)
    # The first sample of a stretch has no stamp before it at hand.
    count = np.unique(count[count % (_BLOCKS * self._samples) != 0])
    repeated = self._first_s + count / self.rate_hz
    return Truth(
      rate_hz=self.rate_hz,
      clock_offset_s=faults.clock_offset_s,
      clock_drift=faults.clock_drift,
      gaps=sensor.intervals(
        keys, _GAPS, faults.gaps_per_minute, faults.gap_s, start_s, end_s
      ),
      nans=sensor.intervals(
        keys, _NANS, faults.nan_per_minute, faults.nan_s, start_s, end_s
      ),
      duplicates_s=repeated[(repeated >= start_s) & (repeated < end_s)],
    )

  def frames(self, times_s) -> np.ndarray:
    """Nearest frames, uint8 [N, size, size, 3], upright RGB."""
    times_s = np.atleast_1d(np.asarray(times_s, np.float64))
    times_s = np.round(times_s * self.video_rate_hz) / self.video_rate_hz
    parts = [
      self._render(_padded(times_s[start : start + _FRAMES], _FRAMES))
      for start in range(0, len(times_s), _FRAMES)
    ]
    return np.concatenate(parts)[: len(times_s)]

  def times_s(self, start_s: float, end_s: float) -> np.ndarray:
    """Times of the frames from start_s to end_s."""
    first = np.ceil(max(start_s, self.start_s) * self.video_rate_hz - 1e-9)
    last = np.floor(min(end_s, self.end_s) * self.video_rate_hz + 1e-9)
    return np.arange(first, last + 1) / self.video_rate_hz

  def _render(self, times_s):
    starts = self._motion["start_s"]
    block, _ = motion.blocks(self._motion, times_s, render.SHUTTER_S)
    index = np.searchsorted(starts, times_s, side="right") - 1
    index = np.clip(index, 0, len(starts) - 1)
    looks = [self._look(int(i)) for i in index]
    scene = {name: np.stack([x[name] for x in looks]) for name in looks[0]}
    speed = self._motion["speed"][index]
    travel = np.mod(speed * (times_s - starts[index]), scenes.LOOP_M)
    block["speed"] = speed.astype(np.float32)
    pictures = render.frames(
      scene, block, travel.astype(np.float32), size=self.size
    )
    return np.asarray(pictures)

  @functools.lru_cache(maxsize=64)  # noqa: B019 (dies with the simulation)
  def _look(self, index):
    return scenes.look(*self._keys, self.wearer, self.bouts[index])

  @functools.cached_property
  def texts(self) -> list[tuple[float, float, str]]:
    """Narrations of the whole recording, by time."""
    test = self.split == "test"
    lines = []
    for bout in self.bouts:
      rng = narration.generator(*self._keys, bout)
      lines += narration.narrate(rng, bout, test=test)
    return sorted(lines, key=lambda line: line[0])

  def captions(self, time_s: float) -> list[str]:
    """Sentences that describe the picture at a time; the label comes first."""
    return narration.captions(self.bout_at(time_s))


def _names(seed, wearer, recording):
  """Ids of the wearer and of the recording."""
  return (
    f"wearer_{wearer:05d}",
    f"synthetic_{seed}_{wearer:05d}_{recording:03d}",
  )


def _padded(times_s, count):
  return np.concatenate([times_s, np.full(count - len(times_s), times_s[-1])])


def _within(times_s, spans):
  inside = np.zeros(len(times_s), bool)
  for start, end in spans:
    inside |= (times_s >= start) & (times_s < end)
  return inside


def open_synthetic(**options) -> Recording:
  """Open one recording of the built-in world; options as of `Simulation`.

  Its `video` is the `Simulation`, with captions, poses and the truth.
  """
  world = Simulation(**options)
  return Recording(
    recording_id=world.recording_id,
    wearer_id=world.wearer_id,
    imu=world.imu(),
    video=world,
    texts=world.texts,
    labels=world.labels,
  )


def find(
  root=None,
  *,
  seed: int = 0,
  train_wearers: int = 12,
  validation_wearers: int = 2,
  test_wearers: int = 4,
  recordings_per_wearer: int = 2,
  duration_s: float = 600.0,
  rate_hz: float = 100.0,
  size: int = 32,
  video_rate_hz: float = 10.0,
  faults: Faults = CLEAN,
) -> list[Entry]:
  """List the recordings of a world, wearer by wearer.

  Args:
    root: must be None: the world is on no disk.
    seed: of the whole world.
    train_wearers, validation_wearers, test_wearers: how many in each split.
    recordings_per_wearer: how many of each.
    duration_s, rate_hz, size, video_rate_hz, faults: see `Simulation`.
  """
  if root is not None:
    raise ValueError(f"the built-in world has no root folder, got {root!r}")
  options = {
    "duration_s": duration_s,
    "rate_hz": rate_hz,
    "size": size,
    "video_rate_hz": video_rate_hz,
    "faults": faults,
  }
  wearers = {
    "train": train_wearers,
    "validation": validation_wearers,
    "test": test_wearers,
  }
  return [
    _entry(split, options | {"seed": seed, "wearer": w, "recording": r})
    for split, count in wearers.items()
    for w in range(_FIRST_WEARER[split], _FIRST_WEARER[split] + count)
    for r in range(recordings_per_wearer)
  ]


def _entry(split, options):
  wearer_id, recording_id = _names(
    options["seed"], options["wearer"], options["recording"]
  )
  return Entry(
    recording_id=recording_id,
    wearer_id=wearer_id,
    split=split,
    open=functools.partial(open_synthetic, **options),
  )
