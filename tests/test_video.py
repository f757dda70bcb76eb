"""Frames by time, checked against decoding every frame from the start."""

import pathlib

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax.recordings.video import VideoFile

RATE = 30


def write_video(
  path, num_frames=90, stamps=None, codec="mpeg4", b_frames=2, rotation=None
):
  """Write 64x48 frames: 11 columns spell their number, the rest is black."""
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=RATE)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.codec_context.gop_size = 12
    stream.codec_context.max_b_frames = b_frames
    if rotation is not None:
      stream.set_display_rotation(rotation)
    for k in range(num_frames):
      image = np.zeros((48, 64, 3), np.uint8)
      bits = (k >> np.arange(11)) & 1
      image[:, :44] = 230 * np.repeat(bits, 4)[:, None]
      frame = av.VideoFrame.from_ndarray(image, format="rgb24")
      frame.pts = k if stamps is None else stamps[k]
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def number(images):
  """Read the frame numbers back."""
  bits = images[:, 24, 2:44:4, 0] > 115
  return bits @ (1 << np.arange(11))


@pytest.fixture(scope="module")
def video_path(tmp_path_factory):
  path = tmp_path_factory.mktemp("video") / "clip.mp4"
  write_video(path)
  return path


def test_span_and_rate(video_path):
  video = VideoFile(video_path)
  assert video.start_s == 0
  assert video.end_s == pytest.approx(3.0, abs=1e-6)
  assert video.rate_hz == RATE


@settings(max_examples=25, deadline=None)
@given(
  times=st.lists(st.floats(0, 3), min_size=1, max_size=6),
  more=st.lists(st.floats(0, 3), min_size=1, max_size=3),
)
def test_any_times_in_any_order_give_the_nearest_frames(
  video_path, times, more
):
  video = VideoFile(video_path)
  for wanted in (times, more):  # the second call starts where the first ended
    got = number(video.frames(wanted))
    exact = np.asarray(wanted) * RATE
    best = np.abs(np.clip(np.rint(exact), 0, 89) - exact)
    assert (np.abs(got - exact) <= best + 1e-6).all()


@pytest.mark.parametrize("codec", ["mpeg4", "libx264", "libvpx-vp9"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_codecs_with_reordered_frames(tmp_path, codec, suffix):
  path = tmp_path / f"clip.{suffix}"
  write_video(path, codec=codec, b_frames=0 if "vp9" in codec else 3)
  video = VideoFile(path)
  wanted = [80, 3, 11, 12, 13, 59, 60, 61, 89, 0]
  assert number(video.frames(np.array(wanted) / RATE)).tolist() == wanted
  assert video.end_s == pytest.approx(3.0, abs=2e-3)


def test_the_clock_starts_at_the_first_frame(tmp_path):
  path = tmp_path / "late.mp4"
  write_video(path, 60, stamps=np.arange(60) + 45)
  assert VideoFile(path).start_s == 0
  assert number(VideoFile(path).frames([0.0, 1.0])).tolist() == [0, 30]


def test_the_clock_may_be_the_containers(tmp_path):
  path = tmp_path / "late.mkv"
  write_video(path, 60, stamps=np.arange(60) + 45)
  video = VideoFile(path, container_zero_s=0.0)
  assert video.start_s == pytest.approx(1.5, abs=2e-3)
  assert number(video.frames([1.5, 2.5])).tolist() == [0, 30]


def test_variable_frame_rate(tmp_path):
  path = tmp_path / "vfr.mp4"
  stamps = np.cumsum(np.random.default_rng(0).integers(1, 9, 60))
  write_video(path, 60, stamps=stamps)
  times = (stamps - stamps[0]) / RATE
  wanted = np.random.default_rng(1).uniform(0, times[-1], 20)
  nearest = np.abs(times - wanted[:, None]).argmin(axis=1)
  assert number(VideoFile(path).frames(wanted)).tolist() == nearest.tolist()


def test_frame_times_are_told_without_decoding(video_path, tmp_path):
  video = VideoFile(video_path)
  np.testing.assert_allclose(video.times_s(0.0, 9.0), np.arange(90) / RATE)
  np.testing.assert_allclose(
    video.times_s(0.99, 1.51), np.arange(30, 46) / RATE, atol=1e-6
  )
  assert number(video.frames([1.0])).tolist() == [30]
  stamps = np.cumsum(np.random.default_rng(0).integers(1, 9, 60))
  write_video(tmp_path / "vfr.mkv", 60, stamps=stamps, codec="libx264")
  video = VideoFile(tmp_path / "vfr.mkv")
  times = (stamps - stamps[0]) / RATE
  want = times[(times >= 2.5) & (times <= 5.5)]
  np.testing.assert_allclose(video.times_s(2.5, 5.5), want, atol=2e-3)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_come_upright(tmp_path, degrees):
  path = tmp_path / "turned.mp4"
  write_video(path, 3, b_frames=0, rotation=degrees)
  image = VideoFile(path).frames([2 / RATE])[0]
  back = np.rot90(image, -degrees // 90)
  assert back.shape == (48, 64, 3)
  assert number(back[None]) == [2]


def test_a_phones_portrait_matrix_turns_clockwise(tmp_path):
  # tkhd's matrix of a phone held upright: x' = -y, y' = x (ISO 14496-12).
  path = tmp_path / "phone.mp4"
  write_video(path, 3, b_frames=0)
  data = path.read_bytes()
  plain = b"".join(v.to_bytes(4, "big") for v in (65536, 0, 0, 0, 65536))
  at = data.index(plain, data.index(b"tkhd"))
  turned = (0).to_bytes(4, "big") + (65536).to_bytes(4, "big")
  turned += (0).to_bytes(4, "big") + (2**32 - 65536).to_bytes(4, "big")
  path.write_bytes(data[:at] + turned + bytes(4) + data[at + 20 :])
  image = VideoFile(path).frames([1 / RATE])[0]
  assert image.shape == (64, 48, 3)
  assert image[:4, :, 0].min() > 115 > image[8:, :, 0].max()  # left -> top


def test_no_times_no_frames(video_path):
  assert VideoFile(video_path).frames([]).shape == (0, 48, 64, 3)


def test_one_frame(tmp_path):
  path = tmp_path / "one.mp4"
  write_video(path, 1)
  video = VideoFile(path)
  assert number(video.frames([0.0, video.end_s])).tolist() == [0, 0]


def test_seeking_decodes_few_frames(tmp_path, monkeypatch):
  path = tmp_path / "long.mp4"
  write_video(path, 1200)
  video = VideoFile(path)
  decoded = []
  inner = VideoFile._decode
  monkeypatch.setattr(
    VideoFile, "_decode", lambda self: decoded.append(1) or inner(self)
  )
  video.frames([5.0, 20.0, 35.0])
  assert len(decoded) <= 3 * 14  # a key frame every 12, one frame beyond


def test_missing_and_broken_files(tmp_path, video_path):
  with pytest.raises(FileNotFoundError, match="nowhere"):
    VideoFile(tmp_path / "nowhere.mp4")
  broken = tmp_path / "broken.mp4"
  broken.write_bytes(b"not a video at all" * 50)
  with pytest.raises(ValueError, match=r"broken\.mp4"):
    VideoFile(broken)
  with av.open(str(tmp_path / "sound.wav"), "w") as container:
    stream = container.add_stream("pcm_s16le", rate=8000)
    frame = av.AudioFrame.from_ndarray(
      np.zeros((1, 800), np.int16), format="s16", layout="mono"
    )
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
  with pytest.raises(ValueError, match="no video stream"):
    VideoFile(tmp_path / "sound.wav")
  cut = tmp_path / "cut.mp4"
  cut.write_bytes(pathlib.Path(video_path).read_bytes()[:3000])
  with pytest.raises(ValueError, match=r"cut\.mp4"):
    VideoFile(cut)


def test_karma_matches_a_linear_scan(samples):
  path = samples / "gopro_karma" / "karma.mp4"
  video = VideoFile(path)
  assert video.end_s == pytest.approx(12.079, abs=1e-3)
  wanted = [100, 361, 7, 8, 250]
  with av.open(str(path)) as container:
    scan = [
      frame.to_ndarray(format="rgb24")
      for k, frame in enumerate(container.decode(video=0))
      if k in wanted
    ]
  got = video.frames(np.array(wanted) * 1001 / 30000)
  for image, k in zip(got, wanted, strict=True):
    np.testing.assert_array_equal(image, scan[sorted(wanted).index(k)])


def test_behind_damage_frames_are_the_right_ones_or_none(tmp_path):
  path = tmp_path / "damaged.mp4"
  write_video(path, 240, b_frames=0)
  with av.open(str(path)) as container:
    packets = [
      (packet.pos, packet.size, packet.pts)
      for packet in container.demux(video=0)
      if packet.size
    ]
  data = bytearray(path.read_bytes())
  stamps = sorted(pts for *_, pts in packets)
  for position, size, pts in packets:
    if stamps[100] <= pts <= stamps[102]:
      data[position : position + size] = b"\xff" * size
  path.write_bytes(data)
  video, seen = VideoFile(path), []
  for time_s in (np.arange(240) + 0.5) / RATE:
    try:
      seen.append(number(video.frames([time_s]))[0])
    except ValueError:
      seen.append(-1)
  lost = [k for k, found in enumerate(seen) if found < 0]
  # From the damage on to the next key frame, every 12th.
  assert lost
  assert 95 <= min(lost) <= max(lost) <= 110
  for k, found in enumerate(seen):
    if found >= 0 and not 95 <= k <= 110:
      assert abs(found - k) <= 1


@pytest.mark.parametrize(("codec", "b_frames"), [("mpeg4", 0), ("libx264", 2)])
def test_patched_frames_are_refused_and_few_are_lost(tmp_path, codec, b_frames):
  path = tmp_path / "film.mp4"
  write_video(path, 96, codec=codec, b_frames=b_frames)
  whole = path.read_bytes()
  begin = whole.index(b"mdat") + 4
  end = begin - 8 + int.from_bytes(whole[begin - 8 : begin - 4], "big")
  rng, lost, wrong = np.random.default_rng(1), 0, 0
  for place in rng.integers(begin, end - 20, 20):
    damage = rng.integers(0, 256, 20, dtype=np.uint8).tobytes()
    path.write_bytes(whole[:place] + damage + whole[place + 20 :])
    video = VideoFile(path)
    for k in range(96):
      try:
        found = video.frames([k / RATE])
      except ValueError:
        lost += 1
      else:
        wrong += number(found)[0] != k
  assert 0 < lost <= 20 * 12  # about one group of 12 frames of each film
  assert wrong < 3  # damage may look like sound data, but seldom does


def test_a_film_whose_first_frame_is_patched_opens(tmp_path):
  path = tmp_path / "film.mp4"
  write_video(path, 60, b_frames=0)
  with av.open(str(path)) as container:
    first = next(container.demux(video=0))
  data = bytearray(path.read_bytes())
  middle = first.pos + first.size // 2
  data[middle : middle + 20] = np.random.default_rng(0).bytes(20)
  path.write_bytes(data)
  video = VideoFile(path)
  with pytest.raises(ValueError, match=r"film\.mp4: a frame is damaged"):
    video.frames([0.0])
  assert video.times_s(0.0, 0.05).tolist() == pytest.approx([0, 1 / RATE])
  assert number(video.frames([1.0])).tolist() == [30]
