"""IMU against video: how far one clock is off, from turning and image motion.

Turning the head moves the picture. Between two frames the gyroscope says by how
much it turned, the pictures by how much they moved, each in several numbers
whose relation (mounting, lens) is unknown but linear. The offset and drift of
the IMU's clock are those at which the two say most about each other: their
Gaussian mutual information, summed over clips of the recording, is largest.

Convention: stamp = time + offset_s + drift * time, time on the video's clock.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from imu2clip_jax import image_motion, stamps
from imu2clip_jax.recordings.recording import Recording

# Steps of the first search; image motion and turning stay alike this long.
_STEP_S = 0.02
# More frames a second than this say nothing more; decoded at once, this many.
_FASTEST_HZ, _FRAMES = 30.0, 32
# Offsets further apart than this are different answers.
_APART_S = 0.5
# What makes certain; one clip of slow, unrelated turning reached 0.74.
_CONFIDENCE, _CONFIDENCE_ONE_CLIP, _CORRELATION = 0.1, 0.85, 0.8
# Noise of a gyroscope's mean over a frame, rad/s: less turning says nothing.
_NOISE = 0.002


@dataclasses.dataclass(frozen=True)
class Clip:
  """How the picture moved in one stretch of a recording.

  Attributes:
    times_s: [K] times of consecutive frames, on the video's clock.
    motion: [K - 1, P] pixels from each frame to the next, as `image_motion`
      measures them.
  """

  times_s: np.ndarray
  motion: np.ndarray


@dataclasses.dataclass(frozen=True)
class Alignment:
  """What `estimate` found.

  Attributes:
    offset_s: the IMU's stamps are late by this at time 0.
    drift: and gain this much a second; 0 where the clips span too little time.
    correlation: between turning and image motion, 0..1, mean over the clips,
      freed of what chance alone gives.
    confidence: 0..1, how much better than any offset half a second away; 0 at
      the end of the search.
    clips: how many clips had enough motion to count.
  """

  offset_s: float
  drift: float
  correlation: float
  confidence: float
  clips: int

  @property
  def certain(self) -> bool:
    """Is this the offset: no other, and not by chance?"""
    needed = max(_CONFIDENCE, _CONFIDENCE_ONE_CLIP / self.clips)
    return self.confidence >= needed and self.correlation >= _CORRELATION


def measure(
  recording: Recording,
  *,
  clip_s: float = 20.0,
  max_clips: int = 12,
  max_offset_s: float = 5.0,
  tick: Callable[[float], object] = lambda share: None,
) -> Alignment:
  """Measure the alignment of a recording, from clips spread over its video.

  Args:
    recording: with video and gyroscope.
    clip_s: length of a clip.
    max_clips: how many are decoded at most.
    max_offset_s: see `estimate`.
    tick: called with the share of the work that each step was, for a bar.

  Raises:
    ValueError: no video, no gyroscope, a video too short or without motion.
  """
  video, name = recording.video, recording.recording_id
  if video is None:
    raise ValueError(f"recording {name!r} has no video to check against")
  length_s = video.end_s - video.start_s
  num = int(np.clip(length_s // clip_s, 1, max_clips))
  starts = np.linspace(
    video.start_s, max(video.end_s - clip_s, video.start_s), num
  )
  clips = []
  for start_s in starts:
    times_s = video.times_s(start_s, start_s + clip_s)
    rate_hz = (len(times_s) - 1) / max(np.ptp(times_s), 1e-9)
    times_s = times_s[:: max(1, round(rate_hz / _FASTEST_HZ))]
    grey = []
    for i in range(0, len(times_s), _FRAMES):
      grey.append(
        image_motion.shrink(recording.frames(times_s[i : i + _FRAMES]))
      )
      tick(len(grey[-1]) / len(times_s) / num)
    if len(times_s) > 1:
      clips.append(Clip(times_s, image_motion.measure(np.concatenate(grey))))
  try:
    return estimate(
      clips, recording.imu.gyro_t_s, recording.imu.gyro, max_offset_s
    )
  except ValueError as error:
    raise ValueError(f"recording {name!r}: {error}") from error


def correct(recording: Recording, alignment: Alignment) -> Recording:
  """Return a recording whose IMU stamps are on the video's clock.

  So are texts and labels then, wherever they were timed.
  """

  def moved(stamps_s):
    return to_video_clock(stamps_s, alignment.offset_s, alignment.drift)

  def told(marks):
    return [(*moved(ends).tolist(), what) for *ends, what in marks]

  imu = dataclasses.replace(
    recording.imu,
    accel_t_s=moved(recording.imu.accel_t_s),
    gyro_t_s=moved(recording.imu.gyro_t_s),
  )
  marks = {}
  if recording.told_by_imu:
    marks = {"texts": told(recording.texts), "labels": told(recording.labels)}
  return dataclasses.replace(recording, imu=imu, **marks)


def to_video_clock(stamps_s, offset_s: float, drift: float) -> np.ndarray:
  """Undo an offset and drift.

  >>> to_video_clock([0.5, 101.5], 0.5, 0.01)
  array([  0., 100.])
  """
  return (np.asarray(stamps_s, np.float64) - offset_s) / (1 + drift)


def estimate(
  clips: Sequence[Clip],
  gyro_t_s,
  gyro,
  max_offset_s: float = 5.0,
  max_drift: float = 0.015,
) -> Alignment:
  """Find the offset and drift of the IMU's clock against the video's.

  Args:
    clips: stretches of the recording, of some seconds each.
    gyro_t_s: [M] stamps, as stored.
    gyro: [M, 3] rad/s, in any axes.
    max_offset_s: search offsets up to this, at time 0.
    max_drift: and drifts up to this; drift is only looked for where the middles
      of the clips span 20 s or more.

  Raises:
    ValueError: the picture does not move, the clips are too short, there are no
      gyroscope samples, or none near a clip that turn.
  """
  angle = _Angle(gyro_t_s, gyro)
  views = [view for clip in clips if (view := _view(clip)) is not None]
  if not views:
    raise ValueError(
      "offset and drift cannot be measured: the picture does not move, or the "
      "video has fewer than about 60 frames"
    )
  middles = np.array([times_s.mean() for times_s, _ in views])
  if np.ptp(middles) < 20:
    max_drift = 0.0
  reach = max_offset_s + max_drift * np.abs(middles).max()
  shifts = _STEP_S * np.arange(-np.ceil(reach / _STEP_S), reach / _STEP_S + 1)
  curves = [_curve(view, angle, shifts) for view in views]
  offset_s, drift, confidence = _vote(
    np.stack(curves), shifts, middles, max_offset_s, max_drift
  )
  if not np.any(curves):
    span = f"{angle.t_s[0]:g} to {angle.t_s[-1]:g} s"
    raise ValueError(f"the gyroscope ({span}) does not turn in the video")
  for width_s in (0.06, 0.04, 0.03):
    offset_s, drift = _refine(
      views, angle, offset_s, drift, width_s, max_drift > 0
    )
  if abs(offset_s) > max_offset_s:
    offset_s, confidence = np.clip(offset_s, -max_offset_s, max_offset_s), 0.0
  found = [
    _correlation(basis, angle, (times_s * (1 + drift) + offset_s)[None])
    for times_s, basis in views
  ]
  return Alignment(
    float(offset_s),
    float(drift),
    float(np.mean(found)),
    float(confidence),
    len(views),
  )


class _Angle:
  """The gyroscope's integral, to be read at any time."""

  def __init__(self, gyro_t_s, gyro):
    self.t_s, gyro = stamps.clean(gyro_t_s, gyro)
    if len(self.t_s) < 2:
      raise ValueError("the gyroscope has no usable samples")
    steps = np.diff(self.t_s)[:, None] * (gyro[1:] + gyro[:-1]) / 2
    self.turned = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])

  def rates(self, times_s):
    """Return mean rates [N, K - 1, 3] between times [N, K], 0 outside."""
    turned = [np.interp(times_s, self.t_s, axis) for axis in self.turned.T]
    steps = np.diff(times_s, axis=1)[..., None]
    return np.diff(np.stack(turned, axis=-1), axis=1) / steps


def _view(clip):
  """Return (times [K], orthonormal basis [K - 1, P] of the motion), or None."""
  motion = clip.motion - clip.motion.mean(axis=0)
  basis, size, _ = np.linalg.svd(motion, full_matrices=False)
  basis = basis[:, size > max(1e-3 * size[0], 1e-3)]
  if not basis.shape[1] or len(motion) < 3 * basis.shape[1]:
    return None
  return clip.times_s, basis


def _agreement(basis, angle, times_s):
  """Compare image motion with the turning at shifted times.

  Args:
    basis: [K - 1, P] orthonormal, of the image motion.
    angle: the gyroscope's.
    times_s: [N, K] times of the frames on the IMU's clock, N of them to try.

  Returns:
    mutual information [N] in nats.
  """
  whole, shared, _ = _squares(basis, angle, times_s)
  rest = np.linalg.slogdet(whole - shared)[1]
  return len(basis) / 2 * (np.linalg.slogdet(whole)[1] - rest)


def _correlation(basis, angle, times_s):
  """Return the largest canonical correlation [N], freed of chance's share."""
  whole, shared, rates = _squares(basis, angle, times_s)
  root = np.linalg.inv(np.linalg.cholesky(whole))
  square = np.linalg.eigvalsh(root @ shared @ root.transpose(0, 2, 1))[:, -1]
  square = 1 - (1 - square) / (1 - _chance(basis, rates))
  return np.sqrt(np.clip(square, 0, 1))


def _squares(basis, angle, times_s):
  """Return the turning's squares, what the motion explains, and its rates."""
  rates = angle.rates(times_s)
  rates -= rates.mean(axis=1, keepdims=True)
  whole = np.einsum("nki,nkj->nij", rates, rates)
  whole += len(basis) * _NOISE**2 * np.eye(3)
  shared = np.einsum("kp,nki->npi", basis, rates)
  return whole, np.einsum("npi,npj->nij", shared, shared), rates


def _chance(basis, rates):
  """Return the share [N] of turning that unrelated motion would explain:
  both autocorrelations, summed over lags and columns (Bartlett 1935)."""
  size = 2 * len(basis)
  power = (np.abs(np.fft.rfft(basis, size, axis=0)) ** 2).sum(axis=1)
  turning = (np.abs(np.fft.rfft(rates, size, axis=1)) ** 2).sum(axis=2)
  own = np.fft.irfft(turning, size, axis=1)
  lags = own / np.maximum(own[:, :1], 1e-30) * np.fft.irfft(power, size)
  share = np.maximum(lags.sum(axis=1), basis.shape[1]) / len(basis)
  return np.minimum(share, 1 - 1e-9)


def _curve(view, angle, shifts):
  """Information at every shift, above what chance gives."""
  times_s, basis = view
  parts = [
    _agreement(basis, angle, times_s + shifts[i : i + 256, None])
    for i in range(0, len(shifts), 256)
  ]
  curve = np.concatenate(parts)
  return np.maximum(curve - np.median(curve), 0)


def _vote(curves, shifts, middles, max_offset_s, max_drift):
  """Return the (offset, drift) on which the clips agree, and the confidence."""
  num = int(np.ceil(max_offset_s / _STEP_S))
  offsets = _STEP_S * np.arange(-num, num + 1)
  num = int(np.ceil(max_drift * np.abs(middles).max() / _STEP_S))
  drifts = np.linspace(-max_drift, max_drift, 2 * num + 1)
  votes = np.zeros((len(drifts), len(offsets)))
  for curve, middle in zip(curves, middles, strict=True):
    shift = offsets + drifts[:, None] * middle
    place = np.rint((shift - shifts[0]) / _STEP_S).astype(int)
    votes += curve[np.clip(place, 0, len(shifts) - 1)]
  row, column = np.unravel_index(votes.argmax(), votes.shape)
  best = votes[row, column]
  apart = np.abs(offsets - offsets[column]) > _APART_S
  runner_up = votes[:, apart].max(initial=0.0)
  confidence = (best - runner_up) / best if best > 0 else 0.0
  return offsets[column], drifts[row], confidence


def _refine(views, angle, offset_s, drift, width_s, with_drift):
  """Move to the top of a quadric through the agreement around a guess."""
  middles = np.array([times_s.mean() for times_s, _ in views])
  centre = middles.mean()
  span = max(np.abs(middles - centre).max(), 1.0)
  steps = np.linspace(-width_s, width_s, 9)
  # x: shift at the recording's centre; y: what drift adds to it at the end.
  x, y = np.meshgrid(steps, steps if with_drift else [0.0])
  x, y = x.ravel(), y.ravel()
  total = np.zeros(len(x))
  for times_s, basis in views:
    base = times_s * (1 + drift) + offset_s
    shifted = base + x[:, None] + y[:, None] * (times_s - centre) / span
    total += _agreement(basis, angle, shifted)
  terms = [np.ones_like(x), x, x * x]
  if with_drift:
    terms += [y, y * y, x * y]
  fit = np.linalg.lstsq(np.stack(terms, axis=1), total, rcond=None)[0]
  if with_drift:
    slope = fit[[1, 3]]
    curvature = np.array([[2 * fit[2], fit[5]], [fit[5], 2 * fit[4]]])
  else:
    slope, curvature = fit[[1]], 2 * fit[2].reshape(1, 1)
  top = np.stack([x, y])[: len(slope), total.argmax()]
  if np.linalg.eigvalsh(curvature).max() < 0:
    top = np.clip(-np.linalg.solve(curvature, slope), -width_s, width_s)
  more = top[1] / span if with_drift else 0.0
  return offset_s + top[0] - more * centre, drift + more
