"""`imu2clip view RECORDING`: frames, motion and words for the Rerun viewer."""

import argparse
import io
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from imu2clip_jax import command, logs
from imu2clip_jax.recordings import opening
from imu2clip_jax.recordings.recording import Recording

# Okabe and Ito's blue, vermilion and green for x, y, z, as in every figure.
_COLORS = [[0, 114, 178], [213, 94, 0], [0, 158, 115]]
_CLOCK = "time"
# Frames decoded at once.
_FRAMES = 16


def write(
  recording: Recording,
  out: str | os.PathLike,
  *,
  segments: Sequence[dict] = (),
  frames_hz: float = 2.0,
  frame_pixels: int = 480,
) -> dict:
  """Write a recording as a .rrd file, whole or not at all.

  Every sample of the sensors goes in as stored, in the source's axes; samples
  without a finite stamp cannot be placed and are left out.

  Args:
    recording: from `open_recording`.
    out: the new file; one of that name is replaced.
    segments: what `imu2clip timeline` found: "start_s", "end_s", "label",
      "confidence".
    frames_hz: frames a second; 0 for none.
    frame_pixels: larger frames are made smaller, to this longer side.

  Returns:
    {"out", "bytes", "accel", "gyro", "frames", "texts", "segments": counts}.

  Raises:
    ValueError: rerun-sdk is not installed, or an option out of its bounds.
    OSError: the file cannot be written.
  """
  if not (math.isfinite(frames_hz) and frames_hz >= 0 and frame_pixels >= 1):
    raise ValueError(
      f"frames_hz is {frames_hz} and frame_pixels {frame_pixels}, expected 0 "
      "or more and 1 or more"
    )
  try:
    import rerun
  except ImportError as error:
    raise ValueError(
      "view needs rerun-sdk: pip install 'imu2clip-jax[view]'"
    ) from error
  out = pathlib.Path(out)
  out.absolute().parent.mkdir(parents=True, exist_ok=True)
  half = out.with_name(f".{out.name}.tmp{os.getpid()}")
  stream = rerun.RecordingStream(
    "imu2clip", recording_id=recording.recording_id
  )
  try:
    stream.save(half, default_blueprint=_layout(recording, segments))
    counts = _send_sensors(stream, recording)
    counts["frames"] = _send_frames(stream, recording, frames_hz, frame_pixels)
    counts["texts"] = _send_texts(stream, recording)
    counts["segments"] = _send_segments(stream, segments)
    stream.flush()
    stream.disconnect()
    os.replace(half, out)
  finally:
    half.unlink(missing_ok=True)
  return {"out": str(out), "bytes": out.stat().st_size, **counts}


def _layout(recording, segments):
  """What the viewer shows at first: the picture above, signals, words."""
  from rerun import blueprint

  views = [
    blueprint.TimeSeriesView(origin="imu/accel", name="acceleration, m/s²"),
    blueprint.TimeSeriesView(origin="imu/gyro", name="angular rate, rad/s"),
  ]
  if recording.video is not None:
    views.insert(0, blueprint.Spatial2DView(origin="video", name="video"))
  words = []
  if recording.texts or recording.labels:
    words.append(blueprint.TextLogView(origin="texts", name="narrations"))
  if segments:
    words.append(
      blueprint.StateTimelineView(origin="timeline", name="timeline")
    )
  if words:
    views.append(blueprint.Horizontal(*words))
  return blueprint.Blueprint(blueprint.Vertical(*views))


def _send_sensors(stream, recording):
  import rerun

  counts = {}
  for name in ("accel", "gyro"):
    times_s = getattr(recording.imu, f"{name}_t_s")
    placed = np.isfinite(times_s)
    values = np.asarray(getattr(recording.imu, name), np.float64)[placed]
    style = rerun.SeriesLines(names=["x", "y", "z"], colors=_COLORS)
    stream.log(f"imu/{name}", style, static=True)
    counts[name] = len(values)
    _send(
      stream,
      f"imu/{name}",
      times_s[placed],
      lambda values=values: rerun.Scalars.columns(scalars=values),
    )
  return counts


def _send_frames(stream, recording, frames_hz, frame_pixels):
  import rerun

  if recording.video is None or not frames_hz:
    return 0
  times_s = frame_times(recording, frames_hz)
  batches = range(0, len(times_s), _FRAMES)
  for begin in logs.progress(batches, what="frames", unit="batches"):
    some = times_s[begin : begin + _FRAMES]
    jpegs = list(_jpegs(recording.frames(some), frame_pixels))
    _send(
      stream,
      "video",
      some,
      lambda jpegs=jpegs: rerun.EncodedImage.columns(
        blob=jpegs, media_type=["image/jpeg"] * len(jpegs)
      ),
    )
  return len(times_s)


def frame_times(recording: Recording, frames_hz: float) -> np.ndarray:
  """Return stamps of frames that there are, at most `frames_hz` a second."""
  video = recording.video
  times_s = np.asarray(video.times_s(video.start_s, video.end_s))
  if not len(times_s):
    return times_s
  # The first frame of every 1 / frames_hz; a hair forgives rounding.
  slot = np.floor((times_s - times_s[0]) * frames_hz + 1e-6)
  return times_s[np.diff(slot, prepend=-1) > 0]


def _jpegs(frames: np.ndarray, pixels: int) -> Iterator[bytes]:
  for frame in frames:
    image = Image.fromarray(frame)
    image.thumbnail((pixels, pixels))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    yield buffer.getvalue()


def _send_texts(stream, recording):
  import rerun

  said = sorted(
    [
      (start, f"{text} ({start:.1f}-{end:.1f} s)" if end > start else text)
      for start, end, text in [*recording.texts, *recording.labels]
    ]
  )
  _send(
    stream,
    "texts",
    [start for start, _ in said],
    lambda: rerun.TextLog.columns(text=[text for _, text in said]),
  )
  return len(said)


def _send_segments(stream, segments):
  import rerun

  states = [f"{s['label']} ({s['confidence']:.2f})" for s in segments]
  _send(
    stream,
    "timeline",
    [s["start_s"] for s in segments],
    lambda: rerun.StateChange.columns(state=states),
  )
  return len(states)


def _send(stream, entity, times_s, columns):
  """Send one column of an entity, if there is anything in it."""
  import rerun

  if len(times_s):
    clock = rerun.TimeColumn(_CLOCK, duration=np.asarray(times_s, np.float64))
    stream.send_columns(entity, [clock], columns())


def read_segments(path: str | os.PathLike) -> list[dict]:
  """Read the segments of what `imu2clip timeline --json` printed.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is no such document.
  """
  try:
    found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    return [
      {
        "start_s": float(s["start_s"]),
        "end_s": float(s["end_s"]),
        "label": str(s["label"]),
        "confidence": float(s["confidence"]),
      }
      for s in found["segments"]
    ]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path} is not what `imu2clip timeline --json` prints: {error!r}"
    ) from error


def parser() -> argparse.ArgumentParser:
  """Return the verb's argument parser."""
  p = command.parser(
    "view",
    "Write frames, IMU and narrations of a recording on one clock, for the "
    "Rerun viewer (`rerun FILE.rrd`). Needs the extra 'view'.",
    "imu2clip view GX010042.MP4 --out=walk.rrd",
  )
  p.add_argument("recording", help="IMU or video file, or sequence folder")
  p.add_argument("--out", help="the .rrd file; default: RECORDING's name")
  p.add_argument("--video", help="its video, where the layout does not tell")
  p.add_argument(
    "--timeline", help="what `imu2clip timeline --json` printed for it"
  )
  p.add_argument(
    "--frames_hz", type=float, default=2.0, help="frames a second; default 2"
  )
  p.add_argument(
    "--frame_pixels", type=int, default=480, help="longer side; default 480"
  )
  p.add_argument("--json", action="store_true", help="counts as JSON on stdout")
  return p


def main(argv: Sequence[str] | None = None) -> int:
  """Run the verb."""
  args = parser().parse_args(argv)
  segments = read_segments(args.timeline) if args.timeline else []
  recording = opening.open_recording(args.recording, video=args.video)
  written = write(
    recording,
    args.out or pathlib.Path(args.recording).stem + ".rrd",
    segments=segments,
    frames_hz=args.frames_hz,
    frame_pixels=args.frame_pixels,
  )
  if args.json:
    command.print_json(written)
    return 0
  print(
    f"{written['out']}: {written['accel']:,} samples of acceleration, "
    f"{written['gyro']:,} of angular rate, {written['frames']} frames, "
    f"{written['texts']} texts; {written['bytes']:,} bytes\n"
    f"open it with: rerun {written['out']}"
  )
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
