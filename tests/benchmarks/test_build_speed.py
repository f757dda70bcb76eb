"""Building a whole tree, and one window's frames, beside the plain ways.

  pytest tests/benchmarks/test_build_speed.py -m slow -s

The tree is Ego4D's in small: two videos of four minutes at 960x540 with their
IMU CSV and narrations, the built-in world enlarged and with grain. The
reference is what IMU2CLIP's scripts do: every video is decoded and encoded
again at 224 pixels and 10 frames a second with all cores, as ffmpeg does; the
IMU is kept as one .npy a video; and every narrated window loads that file and
decodes the small video from its start until it has its frame. Its time for a
window grows with the video's length, and real ones are longer. Prints seconds
and ratios.
"""

import contextlib
import fractions
import json
import time

import av
import numpy as np
import pytest

from imu2clip_jax.data import builder, windows
from imu2clip_jax.recordings import ego4d, parsing, synthetic
from imu2clip_jax.recordings.video import VideoFile

pytestmark = pytest.mark.slow

WORKERS, VIDEOS, SECONDS, RATE = 2, 2, 240, 30
SIZE = (960, 540)
COLUMNS = [
  "component_idx", "component_timestamp_ms", "canonical_timestamp_ms",
  "gyro_x", "gyro_y", "gyro_z", "accl_x", "accl_y", "accl_z",
]  # fmt: skip


@contextlib.contextmanager
def encoder(path, size, rate, preset):
  """Yield a function that encodes one frame."""
  with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264", rate=rate)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"preset": preset}
    stream.thread_type = "AUTO"
    yield lambda frame: container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_video(world, path):
  rng = np.random.default_rng(0)
  grain = rng.normal(0, 4, (8, SIZE[1], SIZE[0])).clip(-15, 15)
  grain = grain.astype(np.int8).view(np.uint8)  # brightness is 16 to 235
  times_s = np.arange(0, SECONDS, 1 / world.video_rate_hz)
  with encoder(path, SIZE, RATE, "veryfast") as encode:
    for part in np.array_split(times_s, 10):
      for picture in world.frames(part):
        frame = av.VideoFrame.from_ndarray(picture)
        planes = frame.reformat(*SIZE, "yuv420p").to_ndarray()
        for _ in range(round(RATE / world.video_rate_hz)):
          noisy = planes.copy()
          noisy[: SIZE[1]] += grain[rng.integers(len(grain))]
          encode(av.VideoFrame.from_ndarray(noisy, "yuv420p"))


def write_tree(root):
  for folder in ("imu", "video_540ss", "annotations"):
    (root / folder).mkdir(parents=True)
  said, videos = {}, []
  for number in range(VIDEOS):
    world = synthetic.open_synthetic(
      wearer=number, duration_s=SECONDS, rate_hz=200.0, size=64
    )
    uid = f"uid-{number}"
    write_video(world.video, root / "video_540ss" / f"{uid}.mp4")
    t_ms = world.imu.accel_t_s * 1e3
    rows = np.column_stack(
      [0 * t_ms, t_ms, t_ms, world.imu.gyro, world.imu.accel]
    )
    np.savetxt(
      root / "imu" / f"{uid}.csv",
      rows,
      "%.17g",
      delimiter=",",
      header=",".join(COLUMNS),
      comments="",
    )
    lines = [
      {"timestamp_sec": t, "narration_text": s} for t, _, s in world.texts
    ]
    said[uid] = {"narration_pass_1": {"narrations": lines}}
    videos.append(
      {"video_uid": uid, "duration_sec": SECONDS, "fb_participant_id": number}
    )
  (root / "ego4d.json").write_text(json.dumps({"videos": videos}))
  (root / "annotations" / "narration.json").write_text(json.dumps(said))


def scripts_way(root, out):
  """Return the windows as (IMU [T, 6], frame), made the plain way."""
  said = ego4d.read_narrations(root / "annotations" / "narration.json")
  found = []
  for path in sorted((root / "imu").glob("*.csv")):
    small, signals = out / f"{path.stem}.mp4", out / f"{path.stem}.npy"
    shrink(root / "video_540ss" / f"{path.stem}.mp4", small)
    columns = parsing.numbers(path, COLUMNS[2:])
    np.save(signals, np.stack(list(columns.values())))
    for time_s, text in said[path.stem]:
      if "#c" not in text.lower():
        continue
      start_s = min(max(time_s - 2.5, 0), SECONDS - 5)
      stored = np.load(signals)
      inside = (stored[0] >= 1e3 * start_s) & (stored[0] < 1e3 * start_s + 5e3)
      found.append((stored[1:, inside].T, scan(small, start_s + 2.5)))
  return found


def shrink(path, small):
  with (
    av.open(str(path)) as container,
    encoder(small, (224, 224), 10, "medium") as encode,
  ):
    container.streams.video[0].thread_type = "AUTO"
    for number, frame in enumerate(container.decode(video=0)):
      if number % (RATE // 10) == 0:
        # Its centre would be cut out too, which costs nothing to speak of.
        frame = frame.reformat(224, 224)
        frame.pts = number // (RATE // 10)
        frame.time_base = fractions.Fraction(1, 10)
        encode(frame)


def scan(path, time_s):
  with av.open(str(path)) as container:
    container.streams.video[0].thread_type = "AUTO"
    for frame in container.decode(video=0):
      if frame.time >= time_s:
        break
    return frame.to_ndarray(format="rgb24")


def timed(run):
  begin = time.perf_counter()
  return run(), time.perf_counter() - begin


def test_a_tree(tmp_path):
  root, plain = tmp_path / "v2", tmp_path / "plain"
  plain.mkdir()
  write_tree(root)
  theirs, theirs_s = timed(lambda: scripts_way(root, plain))
  options = windows.Options(rule="narration", gravity="recording")

  def build():
    return builder.build(
      "ego4d_imu", ego4d.find(root), tmp_path / "data", options, workers=WORKERS
    )

  summary, ours_s = timed(build)
  kept = sum(summary["splits"].values())
  print(
    f"\n{kept} windows of {VIDEOS * SECONDS} s of video in {ours_s:.1f} s, "
    f"the scripts' way {theirs_s:.1f} s: {theirs_s / ours_s:.1f} times as fast"
  )
  # Each is kept or counted as another's repeat, at the very ends.
  counts = [sum(split.values()) for split in summary["windows"].values()]
  assert sum(counts) == len(theirs)
  assert kept > 0.9 * len(theirs)


def test_one_windows_frames_from_ten_minutes(tmp_path):
  path = tmp_path / "long.mp4"
  with encoder(path, (320, 180), RATE, "veryfast") as encode:
    column = np.arange(320, dtype=np.uint8)
    for number in range(600 * RATE):
      picture = np.broadcast_to(column[:, None] + number % 256, (180, 320, 3))
      encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8)))
  video = VideoFile(path)
  rng = np.random.default_rng(0)
  ours_s, theirs_s = [], []
  for start_s in rng.uniform(0, 594, 8):
    times_s = start_s + 5 * (np.arange(8) + 0.5) / 8
    ours_s.append(timed(lambda t=times_s: video.frames(t))[1])
    theirs_s.append(timed(lambda t=times_s: read_on(path, t))[1])
  ratio = np.sum(theirs_s) / np.sum(ours_s)
  print(
    f"\n8 frames of a window in {np.mean(ours_s):.3f} s, by a linear scan "
    f"{np.mean(theirs_s):.2f} s: {ratio:.0f} times as fast"
  )
  assert ratio >= 20


def read_on(path, times_s):
  """Decode from the start on, keeping the frames asked for."""
  found = []
  with av.open(str(path)) as container:
    for frame in container.decode(video=0):
      if frame.time >= times_s[len(found)]:
        found.append(frame.to_ndarray(format="rgb24"))
        if len(found) == len(times_s):
          return found
  return found
