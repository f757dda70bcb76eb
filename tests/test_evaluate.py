"""A planted world with known matches: evaluate must find exactly those."""

import io
import json
import pathlib
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imu2clip_jax import command, evaluate
from imu2clip_jax import config as config_lib
from imu2clip_jax.models import teacher as teacher_lib

DIM, SAMPLES = 16, 20
NAMES = ["rowing", "sitting", "walking"]
EYE = np.eye(DIM, dtype=np.float32)
# Even windows embed as their own text; odd ones as its opposite, so that their
# match comes last. Window 3 sits, but the name "walking" is nearer.
TEST_IMU = np.stack([EYE[i] if i % 2 == 0 else -EYE[i] for i in range(12)])
TEST_LABELS = ["walking", "", "walking", "sitting", "walking", "", "sitting"]
TEST_LABELS += ["", "sitting", "", "rowing", ""]
LABEL_EMBEDDINGS = {
  "walking": (EYE[0] + EYE[2] + EYE[4] - EYE[3]) / 2,
  "sitting": (EYE[6] + EYE[8]) / np.sqrt(2),
  "rowing": EYE[10],
}


class PlantedEncoder:
  """Reads the embedding from where the fixture hid it in the signal."""

  def __init__(self, config):
    self.config, self.dim = config, DIM
    self.teacher = {"name": "planted", "fingerprint": "f", "dim": DIM}
    self.params = {"kernel": jnp.eye(DIM)}
    self.encoder = self

  def apply(self, params, imu, mask=None, sensor_mask=None):
    x = imu[:, :DIM, 0] @ params["kernel"]
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)

  def embed(self, imu, rate_hz, sensor_mask=None, normalize=True):
    assert rate_hz == 10.0
    return np.asarray(self.apply(self.params, imu))


def write_split(folder, embeddings, labels, frames, texts, wearers):
  folder.mkdir(parents=True)
  n = len(embeddings)
  imu = np.zeros((n, SAMPLES, 6), np.float32)
  imu[:, :DIM, 0] = embeddings
  has_frames = np.arange(n) < frames
  columns = {
    "imu": imu,
    "sensor_mask": np.ones((n, 2), bool),
    "frame_embeddings": np.where(
      has_frames[:, None], EYE[np.arange(n) % DIM], 0
    ),
    "has_frames": has_frames,
    "text_embeddings": EYE[np.arange(n) % DIM],
    "text_ids": np.arange(n, dtype=np.int32)[:, None],
    "labels": np.asarray(
      [NAMES.index(name) if name else -1 for name in labels], np.int32
    ),
    "start_s": 61.0 * np.arange(n),
  }
  for name, column in columns.items():
    np.save(folder / f"{name}.npy", column)
  ids = {
    "window_ids": [f"w{i}" for i in range(n)],
    "recording_ids": [f"recording_{wearer}" for wearer in wearers],
    "wearer_ids": wearers,
    "texts": texts,
  }
  (folder / "rows.json").write_text(json.dumps(ids))


def write_cache(folder, validation=True):
  """Train windows are the labelled test windows again, four times over."""
  labelled = [i for i, name in enumerate(TEST_LABELS) if name] * 4
  train = TEST_IMU[labelled]
  train_labels = [TEST_LABELS[i] for i in labelled]
  n = len(labelled)
  wearers = [f"t{i * 4 // n}" for i in range(n)]
  texts = [f"#C C text {i}" for i in range(n)]
  splits = {"train": n, "test": 12}
  write_split(folder / "train", train, train_labels, 0, texts, wearers)
  if validation:
    wearers = [f"v{w}" for w in wearers]
    write_split(folder / "validation", train, train_labels, 0, texts, wearers)
    splits["validation"] = n
  write_split(
    folder / "test",
    TEST_IMU,
    TEST_LABELS,
    6,
    ["<script>alert(1)</script>", *(f"#C C text {i}" for i in range(1, 12))],
    ["a"] * 6 + ["b"] * 6,
  )
  meta = {
    "dataset": "planted",
    "rate_hz": 10.0,
    "window_s": 2.0,
    "label_names": NAMES,
    "teacher": {"name": "planted", "fingerprint": "f", "dim": DIM},
    "splits": splits,
  }
  (folder / "meta.json").write_text(json.dumps(meta))
  return folder


def png(colour):
  buffer = io.BytesIO()
  Image.new("RGB", (32, 24), colour).save(buffer, "PNG")
  return buffer.getvalue()


class Records:
  """What `builder.open_windows` returns, for the test split."""

  def __getitem__(self, row):
    frames = [png((20 * row, 80, 120))] if row < 6 else []
    text = "<script>alert(1)</script>" if row == 0 else f"#C C text {row}"
    return {"frames": frames, "texts": [text]}


@pytest.fixture
def world(tmp_path, monkeypatch):
  """Plants data and teacher; returns (workdir, encoder, replace)."""
  config = config_lib.default()
  config.variant = "imu_text"
  config.encoder.rate_hz, config.encoder.window_s = 10.0, 2.0
  config.data.held_out_labels = ("rowing",)
  config.data.dir, config.teacher.path = "data", "clip"
  config.recognition.fine_tune_steps = 4
  config.recognition.fine_tune_batch_size = 8
  place = types.SimpleNamespace(cache=write_cache(tmp_path / "cache"))
  clip = types.SimpleNamespace(
    embed_texts=lambda texts: np.stack([LABEL_EMBEDDINGS[t] for t in texts])
  )
  monkeypatch.setattr(evaluate.embed, "ensure_cache", lambda _: place.cache)
  monkeypatch.setattr(teacher_lib, "load_clip", lambda *_, **__: clip)
  monkeypatch.setattr(evaluate.builder, "open_windows", lambda *_: Records())
  workdir = tmp_path / "run"
  workdir.mkdir()
  return workdir, PlantedEncoder(config), place


def test_planted_matches_give_exact_numbers(world):
  workdir, encoder, _ = world
  document = evaluate.evaluate(workdir, encoder=encoder)
  block = document["retrieval"]["text->imu"]
  assert block["gallery"] == 12
  assert block["R@1"] == block["R@10"] == 0.5
  assert block["R@50"] == 1.0
  assert block["MRR"] == pytest.approx((1 + 1 / 12) / 2)
  assert block["chance_R@10"] == pytest.approx(10 / 12)
  assert block["interval"]["R@1"][0] < 0.5 < block["interval"]["R@1"][1]
  assert document["retrieval"]["imu->text"]["MRR"] == block["MRR"]
  # Only the first six windows have frames.
  video = document["retrieval"]["imu->video"]
  assert video["gallery"] == 6
  assert video["MRR"] == pytest.approx((1 + 1 / 6) / 2)
  ceiling = document["retrieval"]["text->video"]
  assert ceiling["R@1"] == 1.0 and ceiling["gallery"] == 6
  assert [block["trained"], video["trained"], ceiling["trained"]] == [
    True,
    False,
    True,
  ]
  assert any("6 windows have no frame" in note for note in document["notes"])


def test_recognition_scores_seen_unseen_and_teacher_apart(world):
  workdir, encoder, _ = world
  scores = evaluate.evaluate(workdir, encoder=encoder)["recognition"]
  zero_shot = scores["zero_shot"]
  assert zero_shot["n"] == 6 and zero_shot["n_unlabelled"] == 5
  assert zero_shot["accuracy"] == pytest.approx(5 / 6)
  assert zero_shot["macro_f1"] == pytest.approx((6 / 7 + 4 / 5) / 2)
  assert set(zero_shot["per_class"]) == {"sitting", "walking"}
  assert scores["zero_shot_unseen"]["n"] == 1
  assert scores["zero_shot_unseen"]["macro_f1"] == 1.0
  assert set(scores["zero_shot_unseen"]["per_class"]) == {"rowing"}
  # Frames 0 .. 5 alone: window 3's frame is no opposite, so it says neither
  # "walking" nor "sitting" and falls to the larger inner product, 0.
  assert scores["zero_shot_video"]["n"] == 4
  assert scores["zero_shot_video"]["accuracy"] == 1.0
  assert scores["linear_probe"]["accuracy"] == 1.0
  assert scores["linear_probe"]["n"] == scores["fine_tune"]["n"] == 6
  assert scores["fine_tune"]["n_unlabelled"] == 5
  assert 1 <= scores["fine_tune"]["step"] <= 4
