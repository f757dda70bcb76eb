"""`Recording`: one wearer's continuous capture, every stream on one clock.

Times are float64 seconds since the first video frame (where the format's own
clock is the video's, that clock), else since the first IMU sample. Readers fill
this in and change nothing that was stored: no resampling, trimming or dropping.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Protocol

import numpy as np

from imu2clip_jax import imu as imu_lib


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

  def times_s(self, start_s: float, end_s: float) -> np.ndarray:
    """Times of the frames that there are from start_s to end_s, in order."""


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
    told_by_imu: texts and labels are timed by the IMU's stamps, so they move
      with these where its clock is put right.
    dropped: texts that the reader left out, by reason, for the drop report.
    blacked_out: stretches (start_s, end_s) in which the video shows nothing.
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
  told_by_imu: bool = False
  dropped: dict[str, int] = dataclasses.field(default_factory=dict)
  blacked_out: list[tuple[float, float]] = dataclasses.field(
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
      ~((times_s >= self.video.start_s) & (times_s <= self.video.end_s))
    ]
    if outside.size:
      raise ValueError(
        f"time {outside[0]:g} s is outside the video of recording "
        f"{self.recording_id!r}, {self.video.start_s:g} .. "
        f"{self.video.end_s:g} s"
      )
    return self.video.frames(times_s)

  def shown(self, times_s: np.ndarray) -> np.ndarray:
    """Which of the times [N] does the video show? [N] bool."""
    if self.video is None:
      return np.zeros(len(times_s), bool)
    seen = (times_s >= self.video.start_s) & (times_s <= self.video.end_s)
    for start_s, end_s in self.blacked_out:
      seen &= (times_s < start_s) | (times_s > end_s)
    return seen

  def window(
    self,
    t_s: float,
    window_s: float,
    *,
    rate_hz: float = 200.0,
    num_frames: int = 1,
  ) -> dict:
    """Return everything that was recorded around a time.

    Args:
      t_s: the middle of the window, seconds on the recording's clock.
      window_s: its length.
      rate_hz: the rate to which both sensors are resampled.
      num_frames: frames at the middles of as many equal parts of the window;
        those outside the video or blacked out are left out.

    Returns:
      start_s, end_s; imu [T, 6] float32 m/s², rad/s in the axes of `imu.frame`;
      sensor_mask [2] bool; coverage, the share of real samples in 0..1;
      frames uint8 [F, H, W, 3]; frame_times_s [F]; texts, a list of str, the
      nearest to the middle first.

    Raises:
      ValueError: no usable IMU sample within 1 s of the window, or no length.
    """
    if not 0 < window_s < np.inf:
      raise ValueError(f"window_s is {window_s}, expected more than 0")
    near = [
      np.abs(times - t_s) < window_s / 2 + 1.0
      for times in (self.imu.accel_t_s, self.imu.gyro_t_s)
    ]
    if not (near[0].any() or near[1].any()):
      raise ValueError(
        f"recording {self.recording_id!r} has no IMU sample near {t_s:g} s"
      )
    grid = imu_lib.to_grid(
      self.imu.accel_t_s[near[0]],
      self.imu.accel[near[0]],
      self.imu.gyro_t_s[near[1]],
      self.imu.gyro[near[1]],
      rate_hz,
    )
    starts, imu, share = imu_lib.cut(grid, [t_s - window_s / 2], window_s)
    start_s, end_s = float(starts[0]), float(starts[0]) + window_s
    mask = share[0] > 0
    times = frame_times(start_s, window_s, num_frames)
    times = times[self.shown(times)]
    frames = np.zeros((0, 0, 0, 3), np.uint8)
    frames = self.frames(times) if times.size else frames
    intervals = np.array([t[:2] for t in self.texts]).reshape(-1, 2)
    return {
      "start_s": start_s,
      "end_s": end_s,
      "imu": np.where(np.repeat(mask, 3), imu[0], 0),
      "sensor_mask": mask,
      "coverage": float(share[0][mask].min()) if mask.any() else 0.0,
      "frames": frames,
      "frame_times_s": times,
      "texts": [
        self.texts[i][2] for i in overlapping(intervals, start_s, end_s)
      ],
    }


def frame_times(start_s: float, window_s: float, num_frames: int) -> np.ndarray:
  """Return the middles of `num_frames` equal parts of a window, seconds."""
  return start_s + window_s * (np.arange(num_frames) + 0.5) / num_frames


def overlapping(intervals, start_s: float, end_s: float) -> np.ndarray:
  """Return the rows of `intervals` that overlap a window, nearest middle first.

  Args:
    intervals: [K, 2] start and end seconds; a point in time has both equal.
    start_s: start of the window.
    end_s: end of the window; a point there belongs to the next window.
  """
  begins, ends = intervals[:, 0], intervals[:, 1]
  point = begins == ends
  inside = (begins < end_s) & np.where(point, ends >= start_s, ends > start_s)
  rows = np.flatnonzero(inside)
  middle = intervals[rows].mean(axis=1) - (start_s + end_s) / 2
  return rows[np.argsort(np.abs(middle), kind="stable")]


@dataclasses.dataclass(frozen=True)
class Entry:
  """One recording that a reader found, not yet opened.

  Attributes:
    recording_id: unique within the data set.
    wearer_id: the unit of every split.
    split: "train", "validation" or "test".
    open: returns the Recording; picklable, for other processes.
    files: all that `open` may read, there or not yet: a build that goes on cuts
      a recording again if one of them came, went or changed.
  """

  recording_id: str
  wearer_id: str
  split: str
  open: Callable[[], Recording]
  files: tuple[pathlib.Path, ...] = ()
