"""The frames that windows show: decoded once, scaled down, encoded again."""

import io

import numpy as np
from PIL import Image

from imu2clip_jax.recordings.recording import Recording, frame_times

# Frames decoded at once, so that an hour of video never lies in memory.
_AT_ONCE = 64


def of_windows(
  recording: Recording, starts_s: np.ndarray, shown_s: float, options
) -> tuple[list[np.ndarray], list[list[bytes]], list[str]]:
  """Decode the frames of windows and encode them again, small.

  Args:
    recording: with or without video.
    starts_s: [N] of the windows.
    shown_s: how much of a window there is to see.
    options: see `windows.Options`; only what concerns frames is read.

  Returns:
    per window the times of its frames, float64 [F] seconds, and the encoded
    frames; warnings. Frames outside the video or blacked out are left out, and
    those that cannot be decoded.
  """
  times = [np.zeros(0)] * len(starts_s)
  frames = [[] for _ in starts_s]
  video = recording.video
  if video is None or not options.num_frames or not len(starts_s):
    return times, frames, []
  for i, start in enumerate(starts_s):
    wanted = frame_times(start, shown_s, options.num_frames)
    times[i] = wanted[recording.shown(wanted)]
  owner = np.repeat(np.arange(len(starts_s)), [len(t) for t in times])
  flat = np.concatenate(times)
  if not flat.size:
    black = ", in part blacked out" if recording.blacked_out else ""
    unseen = (
      f"no window has a frame: the windows lie at {starts_s[0]:g} to "
      f"{starts_s[-1] + shown_s:g} s, the video at {video.start_s:g} to "
      f"{video.end_s:g} s{black}"
    )
    return times, frames, [unseen]
  seen, why = np.zeros(len(flat), bool), ""
  for begin in range(0, len(flat), _AT_ONCE):
    part = np.arange(begin, min(begin + _AT_ONCE, len(flat)))
    for row, pixels, error in _decoded(recording, flat, part):
      why = why or error
      if pixels is not None:
        seen[row] = True
        encoded = encode(pixels, options.frame_size, options.frame_format)
        frames[owner[row]].append(encoded)
  if seen.all():
    return times, frames, []
  times = [flat[(owner == i) & seen] for i in range(len(starts_s))]
  lost = np.count_nonzero(~seen)
  return times, frames, [f"{lost} of {len(flat)} frames are damaged: {why}"]


def _decoded(recording, times_s, rows):
  """Yield (row, frame or None, what is wrong) of rows of times.

  Where the video is damaged, halves are tried apart, down to single frames.
  """
  try:
    frames = recording.frames(times_s[rows])
  except ValueError as error:
    if len(rows) == 1:
      yield rows[0], None, str(error)
      return
    for half in np.array_split(rows, 2):
      yield from _decoded(recording, times_s, half)
    return
  for row, frame in zip(rows, frames, strict=True):
    yield row, frame, ""


def encode(pixels: np.ndarray, frame_size: int, frame_format: str) -> bytes:
  """Encode one frame uint8 [H, W, 3], scaled down to a shorter side."""
  image = Image.fromarray(pixels)
  shorter = min(image.size)
  if shorter > frame_size:
    size = [round(side * frame_size / shorter) for side in image.size]
    image = image.resize(size, Image.Resampling.BICUBIC)
  data = io.BytesIO()
  if frame_format == "png":
    image.save(data, "PNG", compress_level=1)
  else:
    image.save(data, "JPEG", quality=95)
  return data.getvalue()
