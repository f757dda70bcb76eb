import functools
import io
import json
import time
import types
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from imu2clip_jax import embed
from imu2clip_jax.data import builder, cache, windows
from imu2clip_jax.recordings import recording

OPTIONS = windows.Options(
  window_s=2.0, stride_s=2.0, rate_hz=20.0, frame_size=8, num_frames=1
)


class Video:
  """A grey level that rises with time."""

  start_s, end_s = 0.0, 20.0

  def frames(self, times_s):
    levels = np.asarray(times_s) * 10
    return np.broadcast_to(
      levels[:, None, None, None].astype(np.uint8), (len(times_s), 8, 8, 3)
    )


def open_recording(name, narrated=True):
  times = np.arange(0, 20, 0.05)
  accel = np.stack([np.sin(times), np.cos(times), 9.81 + 0 * times], axis=1)
  return recording.Recording(
    recording_id=name,
    wearer_id=name,
    imu=recording.Imu(times, accel, times, accel / 10, "head"),
    video=Video() if narrated else None,
    texts=[(3.0, 3.0, "#C C walks"), (5.0, 5.0, "#C C runs")]
    if narrated
    else [],
    labels=[(0.0, 10.0, "walking"), (10.0, 20.0, "running")],
  )


def fake_clip(fingerprint="a" * 64):
  """Embeds a picture by its brightness and a text by its length."""

  def embed_images(images, normalize=True):
    return np.stack([[np.mean(i), 0, 0, 1] for i in images]).astype("float32")

  def embed_texts(texts, normalize=True):
    rows = [[len(t), 1, 0, 0] for t in texts]
    return np.asarray(rows, np.float32).reshape(-1, 4)

  return types.SimpleNamespace(
    name="fake",
    dim=4,
    fingerprint=fingerprint,
    embed_images=embed_images,
    embed_texts=embed_texts,
  )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  entries = [
    recording.Entry(
      name, name, split, functools.partial(open_recording, name, narrated)
    )
    for name, split, narrated in (
      ("anna", "train", True),
      ("bob", "train", False),
      ("carl", "validation", True),
      ("dora", "test", True),
    )
  ]
  builder.build("tiny_imu", entries, folder, OPTIONS)
  return folder


def test_columns_hold_what_the_windows_hold(data_dir):
  clip = fake_clip()
  folder = embed.write_cache(data_dir, clip, 20.0)
  split = cache.open_split(folder, "train")
  source = builder.open_windows(data_dir, "train")
  assert len(split) == len(source) > 10
  for i in range(len(source)):
    record = source[i]
    np.testing.assert_array_equal(split.imu[i], record["imu"])
    assert split.window_ids[i] == record["window_id"]
    assert split.has_frames[i] == bool(record["frames"])
    texts = [split.texts[j] for j in split.text_ids[i] if j >= 0]
    assert texts == record["texts"]
    assert split.label_names[split.labels[i]] == record["label"]
    if record["frames"]:
      raw = clip.embed_images([embed.decode_frame(record, 0)])[0]
      want = raw / np.linalg.norm(raw)
      np.testing.assert_allclose(split.frame_embeddings[i], want, rtol=1e-6)
    else:
      assert not split.frame_embeddings[i].any()
  assert split.has_text.any()
  assert not split.has_text.all()


def test_another_teacher_or_rate_gets_its_own_cache(data_dir):
  first = embed.write_cache(data_dir, fake_clip(), 20.0)
  assert embed.write_cache(data_dir, fake_clip(), 20.0) == first
  assert embed.write_cache(data_dir, fake_clip("b" * 64), 20.0) != first
  slower = embed.write_cache(data_dir, fake_clip(), 10.0)
  assert slower != first
  assert cache.open_split(slower, "test").imu.shape[1:] == (20, 6)


def test_a_killed_run_goes_on_with_its_parts(data_dir, monkeypatch):
  monkeypatch.setattr(embed, "_BLOCK_ROWS", 4)
  whole = embed.write_cache(data_dir, fake_clip("c" * 64), 20.0)
  embedded = []

  def stops_after_three(images, normalize=True):
    embedded.append(len(images))
    if len(embedded) > 3:
      raise KeyboardInterrupt
    return fake_clip().embed_images(images)

  clip = fake_clip("d" * 64)
  goes_on, clip.embed_images = clip.embed_images, stops_after_three
  with pytest.raises(KeyboardInterrupt):
    embed.write_cache(data_dir, clip, 20.0)
  clip.embed_images = lambda images, normalize=True: (
    embedded.append(len(images)) or goes_on(images)
  )
  resumed = embed.write_cache(data_dir, clip, 20.0)
  windows_with_frames = sum(
    np.load(whole / split / "has_frames.npy").sum()
    for split in ("train", "validation", "test")
  )
  # The part at which it was killed is the only one done twice.
  assert sum(embedded) == windows_with_frames + embedded[3]
  for column in cache.COLUMNS:
    for split in ("train", "validation", "test"):
      np.testing.assert_array_equal(
        np.load(whole / split / f"{column}.npy"),
        np.load(resumed / split / f"{column}.npy"),
      )
  assert not list(resumed.glob("*.parts"))


def test_runs_that_start_together_embed_once(data_dir):
  clip, embedded = fake_clip("9" * 64), []

  def slowly(images, normalize=True):
    embedded.append(len(images))
    time.sleep(0.1)  # in which the other one comes
    return fake_clip().embed_images(images)

  clip.embed_images = slowly
  with futures.ThreadPoolExecutor(2) as pool:
    both = [
      pool.submit(embed.write_cache, data_dir, clip, 20.0) for _ in range(2)
    ]
  first, second = (run.result() for run in both)
  assert first == second
  windows_with_frames = sum(
    np.load(first / split / "has_frames.npy").sum()
    for split in ("train", "validation", "test")
  )
  assert sum(embedded) == windows_with_frames


def test_an_unfinished_cache_is_not_opened(data_dir):
  folder = embed.write_cache(data_dir, fake_clip("e" * 64), 20.0)
  (folder / "meta.json").unlink()
  with pytest.raises(FileNotFoundError, match="imu2clip embed"):
    cache.open_split(folder, "train")


def test_the_cache_names_its_teacher(data_dir):
  folder = embed.write_cache(data_dir, fake_clip("f" * 64), 20.0)
  meta = json.loads((folder / "meta.json").read_text())
  assert meta["teacher"] == {
    "name": "fake",
    "fingerprint": "f" * 64,
    "dim": 4,
    "frames": "mid",
  }


def png():
  buffer = io.BytesIO()
  Image.new("RGB", (8, 8), (200, 30, 30)).save(buffer, "PNG")
  return buffer.getvalue()


@pytest.mark.parametrize(
  "damaged",
  [
    png()[:40],
    b"no picture",
    # Pixels of no length: Pillow raises SyntaxError.
    png()[:33] + bytes(4) + png()[37:],
  ],
  ids=["cut off", "no picture", "broken chunk"],
)
def test_a_damaged_frame_names_its_window(damaged):
  record = {"window_id": "anna@2000", "frames": [damaged]}
  with pytest.raises(ValueError, match=r"'anna@2000': frame 0 cannot be deco"):
    embed.decode_frame(record, 0)


def test_json_is_one_document(workdir, capsys):
  assert embed.main([f"--workdir={workdir}", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  meta = cache.read_meta(found.pop("cache_dir"))
  assert found == {name: meta[name] for name in ("splits", "teacher")}


@pytest.mark.parametrize(
  ("argument", "says"),
  [
    ("--rate_hz=0", "rate_hz is 0"),
    ("--rate_hz=-5", "rate_hz is -5"),
    ("--rate_hz=inf", "rate_hz is inf"),
    ("--rate_hz=nan", "rate_hz is nan"),
    ("--rate_hz=0.1", r"2 s at 0\.1 Hz holds no sample"),
    ("--frames=foo", "unknown frame pooling 'foo'"),
  ],
)
def test_bad_numbers_leave_nothing(data_dir, monkeypatch, argument, says):
  clip = fake_clip("0" * 64)
  monkeypatch.setattr(embed.teacher_lib, "load_clip", lambda *_, **__: clip)
  before = sorted(data_dir.rglob("*"))
  with pytest.raises(ValueError, match=says):
    embed.main([f"--data_dir={data_dir}", "--clip=fake", argument])
  assert sorted(data_dir.rglob("*")) == before


def test_bad_arguments_are_one_clear_error(tmp_path):
  with pytest.raises(ValueError, match="--workdir, or --data_dir and --clip"):
    embed.main([])
  with pytest.raises(FileNotFoundError, match=r"no file .*config\.json"):
    embed.main([f"--workdir={tmp_path}"])
