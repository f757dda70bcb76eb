"""Damaged and hostile files: only documented errors, no hang, little memory.

Every format is mutated from a whole file with a fixed seed, so that a failure
can be repeated. A hundred files a format run by default, 2,000 with -m slow.
"""

import fractions
import functools
import json
import pathlib
import re
import struct
import time
import warnings

import av
import numpy as np
import pytest

from imu2clip_jax.recordings import (
  aria,
  ego4d,
  epic_kitchens,
  gopro,
  imu2clip_lists,
  nymeria,
  opening,
  parsing,
)

LONGEST_S = 2.0
MOST_BYTES = 64e6

# Numbers, texts and brackets that parsers stumble over.
NASTY = [
  b"",
  b"nan",
  b"-inf",
  b"1e999",
  b"-1",
  b"0",
  b"9" * 400,
  b"null",
  b"true",
  b"{}",
  b"[]",
  b"[" * 3000,
  b'{"a":' * 2000,
  b'"',
  b",",
  b"\n",
  b"\r",
  b"\0",
  b"\xff\xfe",
  b"\xed\xa0\x80",
  "é".encode() * 100,
  b"x" * 200_000,
]


def mutate(data, rng):
  """Return `data` with 1-6 small or large injuries."""
  data = bytearray(data)
  for _ in range(rng.integers(1, 7)):
    data = data or bytearray(b"?")
    at = int(rng.integers(len(data)))
    length = int(rng.integers(1, 60))
    other = int(rng.integers(len(data)))
    match rng.integers(9):
      case 0:
        data[at] = rng.integers(256)
      case 1:
        data[at] ^= 1 << int(rng.integers(8))
      case 2:
        del data[at : at + length]
      case 3:
        del data[at:]
      case 4:
        data[at:at] = rng.bytes(length)
      case 5:
        data[at:at] = data[other : other + 40 * length]
      case 6:
        data[at : at + 4] = rng.choice(
          [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"DEVC"]
        )
      case 7:
        data[at : at + length] = NASTY[rng.integers(len(NASTY))]
      case 8:  # a whole token: a number, a word, a string
        tokens = list(re.finditer(rb"[\w.+-]+", bytes(data[at : at + 4000])))
        if tokens:
          token = tokens[0]
          data[at + token.start() : at + token.end()] = NASTY[
            rng.integers(len(NASTY))
          ]
  return bytes(data)


def peak_bytes(reset=False):
  """Highest resident memory since the last reset, None where unknown."""
  try:
    if reset:
      pathlib.Path("/proc/self/clear_refs").write_text("5")
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status)[1])
  except (OSError, TypeError):
    return None


def gpmf_item(key, kind, form, rows):
  rows = np.atleast_2d(rows)
  body = b"".join(struct.pack(f">{form}", v) for v in rows.ravel().tolist())
  head = key + kind + struct.pack(">BH", len(body) // len(rows), len(rows))
  return head + body + bytes(-len(body) % 4)


def gpmf_nest(key, *parts):
  body = b"".join(parts)
  return key + b"\0" + struct.pack(">BH", 1, len(body)) + body


def gpmf_payload():
  def stream(key, count):
    return gpmf_nest(
      b"STRM",
      gpmf_item(b"STMP", b"J", "Q", [[1_000_000]]),
      gpmf_item(b"SCAL", b"s", "h", [[418]]),
      gpmf_item(b"ORIN", b"c", "c", [[b"Z"], [b"X"], [b"Y"]]),
      gpmf_item(key, b"s", "h", np.arange(3 * count).reshape(-1, 3)),
    )

  return gpmf_nest(
    b"DEVC",
    gpmf_item(b"DVID", b"L", "I", [[1]]),
    stream(b"ACCL", 40),
    stream(b"GYRO", 40),
    gpmf_nest(b"STRM", gpmf_item(b"SHUT", b"f", "f", [[0.1]])),
  )


def write_gpmf(path):
  path.write_bytes(gpmf_payload() * 3)


def write_mp4(path):
  """A GoPro's video, short and small, so that most injuries hit its tables."""
  with av.open(str(path), "w") as container:
    video = container.add_stream("mpeg4", rate=30)
    video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
    track = container.add_data_stream("bin_data")
    track.time_base = fractions.Fraction(1, 1000)
    for _ in range(40):
      image = np.zeros((48, 64, 3), np.uint8)
      container.mux(video.encode(av.VideoFrame.from_ndarray(image)))
    packet = av.Packet(gpmf_payload())
    packet.stream, packet.time_base = track, track.time_base
    packet.pts, packet.dts, packet.duration = 0, 0, 1001
    container.mux(packet)
    container.mux(video.encode())


def read_mp4(path):
  video = gopro.open_gopro(path).video
  if video is not None:
    video.times_s(video.start_s, min(video.end_s, 60))
    video.frames([video.start_s, video.start_s + 0.5])


def write_ego4d_csv(path):
  rows = [
    "component_idx,component_timestamp_ms,canonical_timestamp_ms,"
    "gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z"
  ]
  rows += [
    f"0,{5 * k},{5 * k},0.1,{k},0.3,9.8,0.1,{-k}" if k % 7 else "0,0,NULL,,,,,,"
    for k in range(60)
  ]
  path.write_text("\n".join(rows) + "\n")


def write_epic_csv(path):
  rows = [f"{10 * k}.5,{k},9.8,0.1" for k in range(60)]
  path.write_text("\n".join(["Milliseconds,AcclX,AcclY,AcclZ", *rows]) + "\n")
  whole = path.with_name(path.name.replace("-accl", "-gyro"))
  whole.write_text("\n".join(["Milliseconds,GyroX,GyroY,GyroZ", *rows]) + "\n")


def write_narrations(path, v2):
  said = [(k, f"#C C does thing {k}") for k in range(20)]
  one = {
    "narrations": [
      {"time": t, "text": s}
      if v2
      else {"timestamp_sec": t, "narration_text": s}
      for t, s in said
    ],
    "summaries": [{"start_sec": 0, "end_sec": 9, "summary_text": "#Summary"}],
  }
  video = one if v2 else {"status": "complete", "narration_pass_1": one}
  videos = {f"uid-{k}": video for k in range(3)}
  path.write_text(json.dumps({"videos": videos} if v2 else videos))


def write_metadata(path):
  videos = [
    {
      "video_uid": f"uid-{k}",
      "duration_sec": 100.0,
      "video_metadata": {"video_duration_sec": 99.5},
      "fb_participant_id": k,
    }
    for k in range(5)
  ]
  path.write_text(json.dumps({"videos": videos}))


def write_bad_windows(path):
  path.write_text(json.dumps([[f"uid-{k}", k, k + 5.0] for k in range(30)]))


def write_speech(path):
  rows = [f"{k}000000000,{k}500000000,word{k}.,0.5" for k in range(30)]
  path.write_text(
    "\n".join(["startTime_ns,endTime_ns,written,confidence", *rows])
  )


def write_atomic_actions(path):
  rows = [f'1,2,{5 * k},{5 * k + 5},a,t,"C moves, {k}"' for k in range(20)]
  header = "request_id,gaia_id,start_time,end_time,annotator,creation_time,"
  path.parent.mkdir(parents=True)
  path.write_text("\n".join([header + "Describe my atomic actions", *rows]))


def write_segments(path):
  header = "narration_id,video_id,start_timestamp,stop_timestamp,narration"
  rows = [
    f'P01_101_{k},P01_101,00:00:{k:02d}.50,00:01:{k:02d}.25,"open, door"'
    for k in range(20)
  ]
  path.write_text("\n".join([header, *rows]))


def write_npz(path):
  rng = np.random.default_rng(0)
  np.savez(
    path,
    t_s=np.arange(200) / 100,
    accel=rng.normal(size=(200, 3)),
    gyro=rng.normal(size=(200, 3)),
  )


def write_csv(path):
  rows = [f"{k / 50},0.1,{k}.5,9.8,0.1,-0.2,1e-3" for k in range(60)]
  path.write_text("\n".join(["t_s,ax,ay,az,gx,gy,gz", *rows]) + "\n")


def write_texts(path):
  rows = [f'{k}.5,{k + 2},"walks, {k}"' for k in range(30)]
  path.write_text("\n".join(["start_s,end_s,text", *rows]) + "\n")


# format -> (file name, how a whole one is written, how it is read)
FORMATS = {
  "gpmf": ("a.raw", write_gpmf, gopro.open_gopro),
  "mp4": ("a.mp4", write_mp4, read_mp4),
  "ego4d_imu": (
    "a.csv",
    write_ego4d_csv,
    functools.partial(ego4d.open_ego4d, texts=[]),
  ),
  "epic_imu": (
    "P01_1-accl.csv",
    write_epic_csv,
    functools.partial(epic_kitchens.open_epic, duration_s=3.0),
  ),
  "narrations_v1": (
    "n.json",
    functools.partial(write_narrations, v2=False),
    ego4d.read_narrations,
  ),
  "narrations_v2": (
    "n.json",
    functools.partial(write_narrations, v2=True),
    ego4d.read_narrations,
  ),
  "ego4d_json": ("ego4d.json", write_metadata, ego4d._metadata),
  "bad_windows": (
    "bad.json",
    write_bad_windows,
    imu2clip_lists.read_bad_windows,
  ),
  "speech": ("speech.csv", write_speech, aria.read_words),
  "atomic_actions": (
    "narration/atomic_action.csv",
    write_atomic_actions,
    lambda path: nymeria._read(path.parents[1], "atomic_action"),
  ),
  "segments": (
    "EPIC_100_train.csv",
    write_segments,
    lambda path: epic_kitchens.read_segments(path.parent),
  ),
  "npz": ("a.npz", write_npz, opening.open_recording),
  "csv": ("a.csv", write_csv, opening.open_recording),
  "texts": ("texts.csv", write_texts, parsing.texts),
}


def attack(name, count, folder, seed=0):
  """Read `count` mutations of a format; return how many were refused."""
  file_name, write, read = FORMATS[name]
  path = folder / file_name
  write(path)
  read(path)  # the whole file is fine
  whole = path.read_bytes()
  refused = 0
  for number in range(count):
    data = mutate(whole, np.random.default_rng([seed, number]))
    path.write_bytes(data)
    before, message = peak_bytes(reset=True), path.stem
    begin = time.perf_counter()
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(path)
    except (ValueError, OSError) as error:
      refused += 1
      message = str(error)
    except Exception as error:
      raise AssertionError(f"{name}, file {number}: {error!r}") from error
    assert path.stem.split("-")[0] in message  # the file is named
    took_s = time.perf_counter() - begin
    assert took_s < LONGEST_S, f"{name}, file {number}: {took_s:.1f} s"
    if before is not None:
      grown = peak_bytes() - before
      allowed = max(10 * len(data), MOST_BYTES)
      assert grown <= allowed, f"{name}, file {number}: {grown / 1e6:.0f} MB"
  return refused


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files(name, tmp_path):
  refused = attack(name, 100, tmp_path)
  assert refused > 10  # the injuries do reach the parser


def test_an_npz_made_to_fill_memory(tmp_path):
  path = tmp_path / "bomb.npz"
  np.savez_compressed(
    path, t_s=np.zeros(20_000_000), accel=np.zeros((1, 3)), gyro=np.zeros(3)
  )
  with pytest.raises(ValueError, match=r"bomb\.npz.* unpacks to 160 MB"):
    opening.open_recording(path)
  np.save(tmp_path / "one.npy", np.zeros(3))
  single = (tmp_path / "one.npy").rename(tmp_path / "one.npz")
  with pytest.raises(ValueError, match=r"one\.npz.* is a single array"):
    opening.open_recording(single)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_damaged_files(name, tmp_path):
  assert attack(name, 2000, tmp_path, seed=1) > 200


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hero5.raw", "hero6_ble.raw", "hero11.raw"])
def test_damaged_real_dumps(name, samples, tmp_path, monkeypatch):
  whole = (samples / "gopro_karma" / name).read_bytes()
  monkeypatch.setitem(
    FORMATS,
    "gpmf",
    ("a.raw", lambda path: path.write_bytes(whole), gopro.open_gopro),
  )
  assert attack("gpmf", 700, tmp_path, seed=2) > 70
