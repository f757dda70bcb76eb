"""GoPro: real files against their documented numbers, small ones for the rest.

The numbers come from the published sample files of gopro/gpmf-parser and
JuanIrache/gopro-telemetry, measured with an independent parser.
"""

import fractions
import pathlib
import struct

import av
import numpy as np
import pytest

from imu2clip_jax import build
from imu2clip_jax.data import builder
from imu2clip_jax.recordings import gopro, gpmf, opening

DATASET = pathlib.Path(__file__).parents[1] / "datasets" / "gopro_imu"


@pytest.fixture
def karma(samples):
  return samples / "gopro_karma"


@pytest.mark.parametrize(
  ("name", "num_accel", "num_gyro", "first", "mean", "norm"),
  [
    (
      "karma.mp4",
      2397,
      4795,
      (-0.8517, -3.7010, 10.1579),
      (-0.161, -0.209, 9.688),
      9.799,
    ),
    (
      "hero5.raw",
      199,
      399,
      (-0.1818, 0.9258, 9.7703),
      (-0.912, 0.746, 9.977),
      10.075,
    ),
    (
      "hero6_ble.raw",
      198,
      198,
      (-0.2943, -0.0455, 10.2751),
      (-0.299, -0.061, 10.281),
      10.285,
    ),
    (
      "hero7.raw",
      3369,
      3369,
      (-0.8206, -8.1986, 3.9019),
      (-0.702, -0.382, -7.529),
      11.843,
    ),
    (
      "hero11.raw",
      2192,
      2192,
      (0.0048, 1.5156, 9.2806),
      (0.371, 0.682, 9.811),
      10.016,
    ),
  ],
)
def test_real_files(karma, name, num_accel, num_gyro, first, mean, norm):
  imu = gopro.open_gopro(karma / name).imu
  assert (len(imu.accel), len(imu.gyro)) == (num_accel, num_gyro)
  assert imu.frame == "gopro_camera"
  np.testing.assert_allclose(imu.accel[0], first, atol=5e-5)
  np.testing.assert_allclose(imu.accel.mean(axis=0), mean, atol=5e-4)
  norms = np.linalg.norm(imu.accel, axis=1)
  assert norms.mean() == pytest.approx(norm, abs=5e-4)
  assert np.abs(imu.gyro).max() < 35  # 2000 deg/s: it is in rad/s
  for times in (imu.accel_t_s, imu.gyro_t_s):
    steps = np.diff(times)
    assert 0.9 * np.median(steps) < steps.min()
    assert steps.max() < 1.1 * np.median(steps)


def test_karma_times_and_rates(karma):
  recording = gopro.open_gopro(karma / "karma.mp4")
  imu = recording.imu
  assert imu.accel_t_s[0] == imu.gyro_t_s[0] == 0.0
  in_12 = (
    (imu.accel_t_s < 12.012 - 1e-9).sum(),
    (imu.gyro_t_s < 12.012 - 1e-9).sum(),
  )
  assert len(imu.accel) - in_12[0] == 14
  assert len(imu.gyro) - in_12[1] == 28
  assert in_12[0] / 12.012 == pytest.approx(198.4, abs=0.05)
  assert in_12[1] / 12.012 == pytest.approx(396.9, abs=0.05)
  # The last payload claims 1.001 s and lasts 14 / 198.4 s.
  assert imu.accel_t_s[-1] == pytest.approx(12.012 + 13 / 198.4, abs=1e-3)
  assert recording.video.end_s == pytest.approx(12.079, abs=1e-3)
  assert recording.frames([0.0, 12.07]).shape == (2, 480, 854, 3)
  with pytest.raises(ValueError, match="outside the video"):
    recording.frames([12.2])


def test_payloads_of_the_real_files(karma):
  packets, has_video = gopro._track(str(karma / "karma.mp4"))
  camera = gopro._camera(packets, "karma.mp4")
  assert has_video
  assert [start_s for start_s, _ in camera] == pytest.approx(
    1.001 * np.arange(13)
  )
  assert len(packets) == 26  # the drone is a second device
  for name, count in (
    ("hero5.raw", 1),
    ("hero6_ble.raw", 1),
    ("hero7.raw", 17),
    ("hero11.raw", 11),
  ):
    data = (karma / name).read_bytes()
    found = gpmf.devices(data, ("ACCL", "GYRO"), name)
    cameras = gopro._camera([(None, device) for device in found], name)
    assert len(cameras) == count, name


def test_karmas_frames(karma):
  video = gopro.open_gopro(karma / "karma.mp4").video
  times_s = video.times_s(0.0, 99.0)
  np.testing.assert_allclose(times_s, np.arange(362) * 1001 / 30000, atol=1e-5)
  assert video.rate_hz == pytest.approx(30000 / 1001)


@pytest.mark.parametrize(
  ("name", "model", "held", "absent"),
  [
    ("karma.mp4", "HERO5", "DEVC SIMU CSEN", ""),
    ("hero5.raw", "Camera", "DEVC", "ORIN STMP"),
    ("hero6_ble.raw", "Hero6 Black", "DEVC MTRX ORIN ORIO", "STMP"),
    ("hero7.raw", "Hero7 Black", "DEVC MTRX ORIN ORIO", "STMP"),
    ("hero11.raw", "HERO11 Black", "DEVC ORIN STMP GRAV GPS9", "MTRX"),
  ],
)
def test_what_each_camera_stores(karma, name, model, held, absent):
  data = (karma / name).read_bytes()
  assert model.encode() in data
  assert all(key.encode() in data for key in held.split())
  assert not any(key.encode() in data for key in absent.split())
  if name.endswith(".raw"):
    assert data.startswith(b"DEVC")
  if name == "hero11.raw":
    assert b"ORINc\x03\0\x01ZXY" in data
  if name == "hero6_ble.raw":  # its second device has no IMU
    keys = [set(d.streams) for d in gpmf.devices(data, ("ACCL", "GYRO"), name)]
    assert len(keys) == 2
    assert sorted(map(len, keys)) == [0, 2]


def test_karmas_video_and_camera(karma):
  data = (karma / "karma.mp4").read_bytes()
  assert b"HD5.02.02" in data  # firmware 2.02 of a HERO5 Black
  with av.open(str(karma / "karma.mp4")) as container:
    stream = container.streams.video[0]
    assert stream.codec_context.name == "h264"
    assert (stream.width, stream.height, stream.frames) == (854, 480, 362)
    assert stream.average_rate == fractions.Fraction(30000, 1001)


def test_hero11_is_timed_by_its_stamps(karma):
  imu = gopro.open_gopro(karma / "hero11.raw").imu
  assert imu.accel_t_s[0] == pytest.approx(-0.002273, abs=1e-9)
  rate = (len(imu.accel) - 1) / (imu.accel_t_s[-1] - imu.accel_t_s[0])
  assert rate == pytest.approx(199.3, abs=0.1)


def test_hero5_dump_is_timed_by_its_ticks(karma):
  imu = gopro.open_gopro(karma / "hero5.raw").imu
  assert imu.accel_t_s[0] == pytest.approx(-0.015)


def item(key, kind, rows, form):
  rows = np.atleast_2d(rows)
  body = b"".join(struct.pack(f">{form}", v) for v in rows.ravel().tolist())
  head = key + kind + struct.pack(">BH", len(body) // len(rows), len(rows))
  return head + body + bytes(-len(body) % 4)


def text(key, words):
  body = words.encode("latin-1")
  return (
    key + b"c" + struct.pack(">BH", 1, len(body)) + body + bytes(-len(body) % 4)
  )


def nest(key, *parts):
  body = b"".join(parts)
  return key + b"\0" + struct.pack(">BH", 1, len(body)) + body


def stream(key, rows, *about, kind=b"s", form="h"):
  return nest(b"STRM", *about, item(key, kind, rows, form))


def payload(accel, gyro, *about, name="Camera", number=1, shut=(), unit="m/s²"):
  return nest(
    b"DEVC",
    item(b"DVID", b"L", [[number]], "I"),
    text(b"DVNM", name),
    stream(b"ACCL", accel, *about, text(b"SIUN", unit)),
    stream(b"GYRO", gyro, *about, text(b"SIUN", "rad/s")),
    *([stream(b"SHUT", [[1]], *shut)] if shut else []),
  )


def stamp(microseconds):
  return item(b"STMP", b"J", [[microseconds]], "Q")


def write_raw(path, *payloads):
  path.write_bytes(b"".join(payloads))
  return gopro.open_gopro(path).imu


def write_mp4(path, packets, step_ms=1001, late_ms=0):
  """An MP4 with a sound-less video and a telemetry track, as a camera's."""
  with av.open(str(path), "w") as container:
    video = container.add_stream("mpeg4", rate=30)
    video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
    track = container.add_data_stream("bin_data")
    track.time_base = fractions.Fraction(1, 1000)
    for _ in range(30 * len(packets)):
      image = np.zeros((48, 64, 3), np.uint8)
      container.mux(video.encode(av.VideoFrame.from_ndarray(image)))
    for k, data in enumerate(packets):
      packet = av.Packet(data)
      packet.stream = track
      packet.pts = packet.dts = late_ms + k * step_ms
      packet.time_base = track.time_base
      packet.duration = step_ms
      container.mux(packet)
    container.mux(video.encode())


@pytest.mark.parametrize(
  ("about", "name", "want"),
  [
    ((), "Camera", (2, 3, 1)),  # stored Z, X, Y
    ((text(b"ORIN", "ZXY"),), "HERO11 Black", (2, 3, 1)),
    ((text(b"ORIN", "YxZ"),), "Hero6 Black", (-2, 1, 3)),
    ((text(b"ORIN", "XzY"),), "GoPro Max", (1, 3, -2)),
    ((), "Fusion", (2, -1, 3)),  # stored -Y, X, Z
  ],
)
def test_axes_by_orientation_or_model(tmp_path, about, name, want):
  rows = [[1, 2, 3]] * 4
  imu = write_raw(tmp_path / "a.raw", payload(rows, rows, *about, name=name))
  assert imu.accel[0].tolist() == list(want)
  assert imu.gyro[0].tolist() == list(want)


def test_the_device_with_both_sensors_is_taken(tmp_path):
  rows = [[7, 7, 7]] * 4
  belt = nest(b"DEVC", item(b"DVID", b"L", [[2]], "I"), stream(b"ACCL", rows))
  own = payload([[1, 2, 3]] * 5, [[1, 2, 3]] * 6)
  imu = write_raw(tmp_path / "a.raw", belt, own, belt, own)
  assert (len(imu.accel), len(imu.gyro)) == (10, 12)
  assert not (imu.accel == 7).any()
  with pytest.raises(ValueError, match=r"b\.raw: no device .* \['ACCL'\]"):
    write_raw(tmp_path / "b.raw", belt)


def test_stamps_need_not_start_at_zero(tmp_path):
  rows = [[1, 2, 3]] * 10
  first = payload(rows, rows, stamp(900_990_000), shut=[stamp(901_000_000)])
  later = payload(rows, rows, stamp(901_990_000), shut=[stamp(902_000_000)])
  imu = write_raw(tmp_path / "chapter2.raw", first, later)
  np.testing.assert_allclose(imu.accel_t_s, np.arange(20) * 0.1 - 0.01)


def test_without_any_clock_a_payload_lasts_1001_ms(tmp_path):
  rows = [[1, 2, 3]] * 10
  imu = write_raw(tmp_path / "a.raw", *[payload(rows, rows)] * 3)
  np.testing.assert_allclose(imu.accel_t_s, np.arange(30) * 0.1001)


def test_a_hole_in_the_track_is_not_stretched_over(tmp_path):
  rows = [[1, 2, 3]] * 10
  parts = [
    payload(rows, rows, stamp(t), shut=[stamp(0)])
    for t in (0, 1_000_000, 5_000_000, 6_000_000)
  ]
  imu = write_raw(tmp_path / "a.raw", *parts)
  want = np.concatenate([np.arange(20) / 10, 5 + np.arange(20) / 10])
  np.testing.assert_allclose(imu.accel_t_s, want, atol=1e-9)


def test_an_mp4_is_timed_by_its_packets(tmp_path):
  path = tmp_path / "GX010001.MP4"
  rows = [[1, 2, 3]] * 10
  short = payload(rows[:2], rows[:4])
  write_mp4(path, [payload(rows, rows)] * 3 + [short], late_ms=20)
  recording = gopro.open_gopro(path)
  want = 0.02 + np.arange(32) * 0.1001
  np.testing.assert_allclose(recording.imu.accel_t_s, want, atol=1e-3)
  assert recording.imu.gyro_t_s[-1] == pytest.approx(0.02 + 3.3033, abs=2e-3)
  assert recording.frames([1.0]).shape == (1, 48, 64, 3)


def test_open_recording_knows_videos_and_dumps(tmp_path):
  rows = [[1, 2, 3]] * 10
  write_mp4(tmp_path / "GX010001.MP4", [payload(rows, rows)] * 2)
  said = [(0.0, 1.0, "someone waits")]
  recording = opening.open_recording(tmp_path / "GX010001.MP4", texts=said)
  assert len(recording.imu.accel) == 20
  assert recording.video is not None
  assert recording.texts == said
  (tmp_path / "a.raw").write_bytes(payload(rows, rows))
  assert len(opening.open_recording(tmp_path / "a.raw").imu.gyro) == 10


def test_texts_may_lie_beside_a_video(tmp_path):
  rows = [[1, 2, 3]] * 10
  write_mp4(tmp_path / "GX010001.MP4", [payload(rows, rows)])
  (tmp_path / "GX010001.texts.csv").write_text(
    'start_s,end_s,text\n0.5,,starts\n0.5,0.9,"turns, then stops"\n'
  )
  recording = gopro.open_gopro(tmp_path / "GX010001.MP4")
  assert recording.texts == [
    (0.5, 0.5, "starts"),
    (0.5, 0.9, "turns, then stops"),
  ]


def test_what_cannot_be_read_is_named(tmp_path):
  rows = [[1, 2, 3]] * 4
  with pytest.raises(FileNotFoundError, match="nowhere"):
    gopro.open_gopro(tmp_path / "nowhere.mp4")
  write_mp4(tmp_path / "export.mp4", [b"else"])
  with pytest.raises(ValueError, match=r"export\.mp4: holds no GoPro telem"):
    gopro.open_gopro(tmp_path / "export.mp4")
  with pytest.raises(ValueError, match="ACCL: orientation is 'XXY'"):
    write_raw(tmp_path / "a.raw", payload(rows, rows, text(b"ORIN", "XXY")))
  with pytest.raises(ValueError, match="ACCL is in 'g', expected"):
    write_raw(tmp_path / "a.raw", payload(rows, rows, unit="g"))
  with pytest.raises(ValueError, match="ACCL has 2 axes"):
    write_raw(tmp_path / "a.raw", payload([[1, 2]], rows))
  with pytest.raises(ValueError, match="no device"):
    write_raw(tmp_path / "empty.raw")


def test_find_keeps_wearers_and_chapters_together(tmp_path):
  rows = [[1, 2, 3]] * 200
  names = ["ann/GX010001.MP4", "ann/GX010002.mp4", "bo/GH010001.MP4"]
  names += ["GH010042.MP4", "GH020042.MP4", "GOPR0043.MP4", "GP010043.MP4"]
  for name in names:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write_mp4(path, [payload(rows, rows)])
  (tmp_path / "._GH010042.MP4").write_bytes(b"left by macOS")
  entries = gopro.find(tmp_path)
  wearer = {e.recording_id: e.wearer_id for e in entries}
  assert wearer == {
    "ann/GX010001": "ann",
    "ann/GX010002": "ann",
    "bo/GH010001": "bo",
    "GH010042": "take_0042",
    "GH020042": "take_0042",
    "GOPR0043": "take_0043",
    "GP010043": "take_0043",
  }
  splits = {(e.wearer_id, e.split) for e in entries}
  assert len(splits) == 4
  assert {s for _, s in splits} == {"train", "validation", "test"}
  opened = entries[0].open()
  assert opened.recording_id == entries[0].recording_id
  assert opened.wearer_id == entries[0].wearer_id
  with pytest.raises(FileNotFoundError, match=r"no \.mp4"):
    gopro.find(tmp_path / "nowhere")


def test_a_small_tree_is_built(tmp_path):
  rows = [[9, 1, 2]] * 100  # stored z, x, y
  for wearer in ("ann", "bo", "cy"):
    path = tmp_path / "raw" / wearer / "GX010001.MP4"
    path.parent.mkdir(parents=True)
    write_mp4(path, [payload(rows, rows)] * 11)
  (path.parent / "GX010002.MP4").write_bytes(b"broken")
  summary = build.build(DATASET, tmp_path / "raw", tmp_path / "data", workers=0)
  assert summary["splits"] == {"train": 2, "validation": 2, "test": 2}
  assert list(summary["failed"]) == ["cy/GX010002"]
  found = builder.open_windows(tmp_path / "data", "test")
  np.testing.assert_allclose(
    found[0]["imu"][500], [1, 2, 9, 1, 2, 9], atol=1e-4
  )
  assert len(found[0]["frames"]) == 1
