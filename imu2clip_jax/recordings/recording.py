"""`Recording`: one wearer's continuous capture, every stream on one clock.

Times are float64 seconds since the first video frame (where the format's own
clock is the video's, that clock), else since the first IMU sample. Readers fill
this in and change nothing that was stored: no resampling, trimming or dropping.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Imu:
  """Two sensors, each with its own clock readings, in SI units.

  Attributes:
    accel_t_s: [Ma] float64 seconds; may be negative, jittered, unsorted.
    accel: [Ma, 3] float64 m/s² including gravity.
    gyro_t_s: [Mg] float64 seconds.
    gyro: [Mg, 3] float64 rad/s.
    frame: names the axes: "head" (x left, y back, z up), "gopro_camera",
      "aria_cpf" or "device" (unknown mounting).
  """

  accel_t_s: np.ndarray
  accel: np.ndarray
  gyro_t_s: np.ndarray
  gyro: np.ndarray
  frame: str

  def __post_init__(self):
    for name in ("accel", "gyro"):
      times, values = getattr(self, f"{name}_t_s"), getattr(self, name)
      if values.shape != (len(times), 3):
        raise ValueError(
          f"{name} must be [{len(times)}, 3] to match {name}_t_s, "
          f"got {list(values.shape)}"
        )


class Video(Protocol):
  """Frames by time; the reader decides how they are decoded."""

  start_s: float
  end_s: float

  def frames(self, times_s: np.ndarray) -> np.ndarray:
    """Nearest frames, uint8 [N, H, W, 3], upright RGB."""


@dataclasses.dataclass(frozen=True)
class Recording:
  """What a reader returns; see the module docstring for the clock.

  Attributes:
    recording_id: unique within its data set.
    wearer_id: who wore it, the unit of every split ("" if unknown).
    imu: the two sensors as stored.
    video: frames by time, or None.
    texts: narrations as (start_s, end_s, text); a point in time has both equal.
    labels: activity segments as (start_s, end_s, label).
  """

  recording_id: str
  wearer_id: str
  imu: Imu
  video: Video | None = None
  texts: list[tuple[float, float, str]] = dataclasses.field(
    default_factory=list
  )
  labels: list[tuple[float, float, str]] = dataclasses.field(
    default_factory=list
  )

  def frames(self, times_s) -> np.ndarray:
    """Nearest frames to `times_s` (seconds), uint8 [N, H, W, 3], upright RGB.

    Raises:
      ValueError: no video, or a time outside it.
    """
    if self.video is None:
      raise ValueError(f"recording {self.recording_id!r} has no video")
    times_s = np.atleast_1d(np.asarray(times_s, np.float64))
    outside = times_s[
      (times_s < self.video.start_s) | (times_s > self.video.end_s)
    ]
    if outside.size:
      raise ValueError(
        f"time {outside[0]:g} s is outside the video of recording "
        f"{self.recording_id!r}, {self.video.start_s:g} .. "
        f"{self.video.end_s:g} s"
      )
    return self.video.frames(times_s)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One recording that a reader found, not yet opened.

  Attributes:
    recording_id: unique within the data set.
    wearer_id: the unit of every split.
    split: "train", "validation" or "test".
    open: returns the Recording; picklable, for other processes.
  """

  recording_id: str
  wearer_id: str
  split: str
  open: Callable[[], Recording]
