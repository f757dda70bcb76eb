"""Frames of a video file by time: seek to a key frame, then decode onward.

PyAV (FFmpeg) does the decoding. Times are the frames' own stamps, so variable
frame rates and streams that start late are right; a frame's rotation (phones,
cameras hung upside down) is applied, which FFmpeg leaves to the caller. Where
FFmpeg says that it has patched a damaged frame, it and those that rest on it
are refused. It says so of H.264 and MPEG-4, hardly of later codecs.
"""

import collections
import contextlib
import os
from collections.abc import Iterator

import av
import numpy as np

# Without a full index of key frames, decoding this far beats seeking.
_DECODE_AHEAD_S = 5.0
# B frames rest on a frame that is shown later, by no more than this: the most
# that encoders can be asked for (x264, x265).
_REORDERED = 16


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
  """Turn FFmpeg's errors into ValueError that names the file.

  Raises:
    OSError: the file is missing or may not be read. FFmpeg's own OSErrors are
      about what is in the file.
  """
  with open(path, "rb"):
    pass
  try:
    yield
  except av.error.FFmpegError as error:
    raise ValueError(f"{path}: cannot be read as video: {error}") from error


class VideoFile:
  """The frames of one video file on a recording's clock.

  Attributes:
    path: the file.
    start_s: time of the first frame.
    end_s: time at which the last frame ends.
    rate_hz: mean frame rate as the file states it, 0 if it does not.
    zero_s: the container's time at which the recording's clock is zero.
  """

  def __init__(
    self, path: str | os.PathLike, container_zero_s: float | None = None
  ):
    """Open a video.

    Args:
      path: any container and codec that FFmpeg reads.
      container_zero_s: the container's time at which the recording's clock is
        zero; None puts the zero at the first frame.

    Raises:
      FileNotFoundError: no such file.
      ValueError: it holds no video that can be decoded.
    """
    self.path = os.fspath(path)
    with reading(self.path):
      self._container = av.open(self.path, metadata_errors="replace")
      self._stream = self._container.streams.best("video")
      if self._stream is None:
        raise ValueError(f"{self.path}: holds no video stream")
      for stream in self._container.streams:
        if stream is not self._stream:
          stream.discard = av.stream.Discard.all  # its bytes are not read
      self.zero_s = 0.0
      last_end_s = self._last_end_s()
      self._container.seek(self._stream.start_time or 0, stream=self._stream)
      frames = self._container.decode(self._stream)
      # A damaged one will do here: it has its time and its shape.
      first = next((f for f in frames if f.time is not None), None)
    if first is None:
      raise ValueError(f"{self.path}: no frame can be decoded")
    self._decoder = _sound(frames, self.path)
    self._before, self._after = None, first
    self._astray = first.is_corrupt  # must the next frame be sought?
    self.zero_s = first.time if container_zero_s is None else container_zero_s
    self.start_s = first.time - self.zero_s
    self.end_s = max(last_end_s, first.time) - self.zero_s
    self.rate_hz = float(self._stream.average_rate or 0)
    self._shape = _upright(first).shape

  def frames(self, times_s) -> np.ndarray:
    """Return the nearest frames, in any order of times, repeats allowed.

    Args:
      times_s: [N] seconds on the recording's clock; a time outside the video
        gets its first or last frame.

    Returns:
      [N, H, W, 3] uint8, upright RGB.

    Raises:
      ValueError: a frame cannot be decoded, or is damaged.
    """
    times_s = np.asarray(times_s, np.float64)
    out = np.empty((len(times_s), *self._shape), np.uint8)
    shown = None
    with reading(self.path):
      for i in np.argsort(times_s, kind="stable"):
        frame = self._nearest(times_s[i])
        if frame is not shown:
          shown, image = frame, _upright(frame)
        if image.shape != self._shape:
          raise ValueError(
            f"{self.path}: frames change size from {self._shape[:2]} to "
            f"{image.shape[:2]} at {times_s[i]:g} s"
          )
        out[i] = image
    return out

  def times_s(self, start_s: float, end_s: float) -> np.ndarray:
    """Return the times of the frames in a range, without decoding them.

    Args:
      start_s: first time.
      end_s: last time; both belong to the range.

    Returns:
      [K] seconds on the recording's clock, increasing.
    """
    base, found = self._stream.time_base, []
    with reading(self.path):
      # Key frames are found by decoding stamps, up to a second ahead.
      stamp = int((start_s - 1 + self.zero_s) / base)
      begin = self._stream.start_time or 0
      self._container.seek(max(begin, stamp), stream=self._stream)
      for packet in self._container.demux(self._stream):
        if packet.pts is None or packet.is_discard:
          continue
        found.append(float(packet.pts * base) - self.zero_s)
        if packet.dts is not None and packet.dts * base - self.zero_s > end_s:
          break  # what is decoded later is shown later
      self._astray = True
    times_s = np.unique(found)
    return times_s[(times_s >= start_s) & (times_s <= end_s)]

  def close(self) -> None:
    """Close the file; a closed video cannot be read again."""
    self._container.close()

  def _time_s(self, frame) -> float:
    return frame.time - self.zero_s

  def _nearest(self, time_s):
    if self._seek_is_shorter(time_s):
      self._seek(time_s)
    while self._after is not None and self._time_s(self._after) < time_s:
      self._before, self._after = self._after, self._decode()
    found = [f for f in (self._before, self._after) if f is not None]
    if not found:
      raise ValueError(f"{self.path}: no frame near {time_s:g} s")
    return min(found, key=lambda frame: abs(self._time_s(frame) - time_s))

  def _seek_is_shorter(self, time_s):
    """Is a key frame before `time_s` ahead of the decoder, or behind it?"""
    if self._astray:
      return True
    before, after = self._before, self._after
    if before is not None and time_s < self._time_s(before):
      return True
    if after is None:
      return False
    now_s = self._time_s(after)
    if before is None and time_s < now_s:
      return time_s > self.start_s
    index = self._stream.index_entries
    stamp = int((time_s + self.zero_s) / self._stream.time_base)
    key = index.search_timestamp(stamp, backward=True)
    key_s = index[key].timestamp * self._stream.time_base if key >= 0 else 0
    return key_s - self.zero_s > now_s or time_s - now_s > _DECODE_AHEAD_S

  def _seek(self, time_s):
    """Start decoding at a key frame at or before `time_s`.

    Key frames are found by decoding stamps, which run ahead of the shown ones
    where frames are reordered: step back until the first frame is not late.
    """
    base, back_s = self._stream.time_base, 0.0
    begin = self._stream.start_time or 0
    while True:
      stamp = max(begin, int((time_s - back_s + self.zero_s) / base))
      self._container.seek(stamp, stream=self._stream)
      self._decoder = _sound(self._container.decode(self._stream), self.path)
      self._before, self._after = None, self._decode()
      if stamp == begin:
        return
      if self._after is not None and self._time_s(self._after) <= time_s:
        return
      back_s = 2 * back_s + 1

  def _decode(self):
    # A decoder that failed says of what follows that the film has ended.
    self._astray = True
    for frame in self._decoder:
      if frame.time is not None:
        self._astray = False
        return frame
    self._astray = False
    return None

  def _last_end_s(self) -> float:
    """Return when the last frame ends, from packets, without decoding."""
    base = self._stream.time_base
    length = self._stream.duration
    if length is None:
      length = int((self._container.duration or 0) / av.time_base / base)
    begin = self._stream.start_time or 0
    end = 0
    for stamp in (begin + length, begin):
      self._container.seek(stamp, stream=self._stream)
      for packet in self._container.demux(self._stream):
        if packet.pts is not None and not packet.is_discard:
          end = max(end, packet.pts + (packet.duration or 0))
      if end:
        break
    return float(end * base)


def _sound(frames, path):
  """Yield frames up to one that FFmpeg has patched, and the B frames before it.

  It patches in silence what it cannot decode, and what rests on that is wrong
  too, up to the next key frame. Right behind a seek a patched frame may come
  out late; its neighbours are given then.

  Raises:
    ValueError: a frame is damaged.
  """
  waiting = collections.deque()
  for frame in frames:
    if frame.is_corrupt:
      raise ValueError(f"{path}: a frame is damaged (stamp {frame.pts})")
    waiting.append(frame)
    is_b = frame.pict_type == av.video.frame.PictureType.B
    while len(waiting) > (_REORDERED if is_b else 0):
      yield waiting.popleft()
  yield from waiting


def _upright(frame) -> np.ndarray:
  image = frame.to_ndarray(format="rgb24")
  # The angle is counter-clockwise, as numpy's; only right angles can be shown.
  turns = round(frame.rotation / 90) % 4
  return np.rot90(image, turns) if turns else image
