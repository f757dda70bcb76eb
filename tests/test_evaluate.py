"""A planted world with known matches: evaluate must find exactly those."""

import io
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imu2clip_jax import (
  adaptation,
  checkpoint,
  command,
  evaluate,
  pretrained,
  recognition,
  recognition_tasks,
  run_files,
)
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
    self.encoder, self.step = self, None

  def apply(self, params, imu, mask=None, sensor_mask=None):
    x = imu[:, :DIM, 0] @ params["kernel"]
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)

  def features(self, params, imu, sensor_mask=None):
    return imu[:, :DIM, 0] @ params["kernel"]

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
    "teacher": {
      "name": "planted",
      "fingerprint": "f",
      "dim": DIM,
      "frames": "mid",
    },
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


@pytest.fixture
def trained(world, monkeypatch):
  """The planted encoder passes for one that was trained."""
  (world[0] / "checkpoints").mkdir()
  monkeypatch.setattr(evaluate.pretrained, "logit_scale", lambda *_: 7.0)


def test_planted_matches_give_exact_numbers(world, trained):
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
  assert ceiling["R@1"] == 1.0
  assert ceiling["gallery"] == 6
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
  assert zero_shot["n"] == 6
  assert zero_shot["n_unlabelled"] == 5
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
  assert "linear_probe_adapted" not in scores


def test_adapted_rows_stand_beside_the_others(world):
  workdir, encoder, _ = world
  plain = evaluate.evaluate(workdir, encoder=encoder)["recognition"]
  encoder.config.recognition.adapt_to_wearer = True
  scores = evaluate.evaluate(workdir, encoder=encoder)["recognition"]
  assert set(scores) - set(plain) == {
    f"{task}_{how}"
    for task in ("linear_probe", "fine_tune")
    for how in ("adapted", "agreed")
  }
  for task in plain:
    assert scores[task] == plain[task]
  for task in set(scores) - set(plain):
    beside = plain[task.rsplit("_", 1)[0]]
    for name in ("n", "constant_macro_f1"):
      assert scores[task][name] == beside[name]


def test_the_adapted_probe_is_one_of_standardised_features(world):
  workdir, encoder, place = world
  encoder.config.recognition.adapt_to_wearer = True
  document = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  parts, seen = [], ["sitting", "walking"]
  for split in ("train", "validation", "test"):
    folder = place.cache / split
    labels = np.load(folder / "labels.npy")
    rows = np.flatnonzero(labels != NAMES.index("rowing"))  # unlabelled, too
    wearers = json.loads((folder / "rows.json").read_text())["wearer_ids"]
    x = np.load(folder / "imu.npy")[rows, :DIM, 0]
    x = adaptation.standardise_by_wearer(x, np.asarray(wearers)[rows])
    parts += [x, np.maximum(labels[rows] - 1, -1)]
  expected, _, head = recognition.linear_probe(
    *parts, seen, encoder.config.recognition.probe_l2
  )
  assert document["recognition"]["linear_probe_adapted"] == expected
  said = adaptation.agree_by_wearer(
    recognition.logits(head, x), x, np.asarray(wearers)[rows]
  )
  agreed = recognition.score(parts[-1], said.argmax(1), seen)
  agreed["l2"] = expected["l2"]
  assert document["recognition"]["linear_probe_agreed"] == agreed
  # Wearers of a set that was trained along may do other things.
  encoder.config.data.mixture_dirs = ("data",)
  mixed = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  assert mixed["recognition"]["linear_probe_adapted"] == expected


def test_the_adapted_fine_tune_reads_two_encoders_side_by_side(
  world, monkeypatch
):
  workdir, encoder, _ = world
  encoder.config.recognition.adapt_to_wearer = True
  asked = []

  def fine_tune(module, params, *args, head, by_wearer, **_):
    asked.append((by_wearer, np.shape(head["kernel"])))
    _, _, test, names = args
    named = np.zeros(len(test["labels"]), int)
    scores = recognition.score(test["labels"], named, names)
    return scores, named, {"by_wearer": by_wearer}

  def features(module, params, part, rows):
    found = np.asarray(part["imu"][rows, :DIM, 0], np.float64)
    # Of each encoder half of the features are lost.
    if "by_wearer" in params:
      found[:, params["by_wearer"] :: 2] = 0
    return found

  monkeypatch.setattr(
    evaluate.recognition_tasks.fine_tuning, "fine_tune", fine_tune
  )
  monkeypatch.setattr(
    evaluate.recognition_tasks.fine_tuning, "features", features
  )
  scores = evaluate.evaluate(workdir, encoder=encoder)["recognition"]
  assert asked == [(False, (DIM, 2)), (True, (DIM, 2))]
  # Between them nothing is lost.
  for how in ("adapted", "agreed"):
    for name in ("macro_f1", "per_class", "n"):
      assert (
        scores[f"fine_tune_{how}"][name] == scores[f"linear_probe_{how}"][name]
      )


def test_writes_three_whole_files_and_nothing_else(world):
  workdir, encoder, _ = world
  document = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  assert document["labels"] == []
  assert sorted(p.name for p in workdir.iterdir()) == [
    "metrics.json",
    "recall_curves.png",
    "report.html",
  ]
  assert json.loads((workdir / "metrics.json").read_text()) == json.loads(
    json.dumps(document)
  )
  assert (workdir / "recall_curves.png").read_bytes()[:4] == b"\x89PNG"
  page = (workdir / "report.html").read_text()
  assert "<script" not in page
  assert "&lt;script&gt;" in page
  assert "fine_tune" not in document["recognition"]


def test_another_data_set_leaves_the_runs_own_metrics_alone(
  world, tmp_path, monkeypatch
):
  workdir, encoder, _ = world
  evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  own = (workdir / "metrics.json").read_bytes()
  info = {"name": "other", "fingerprint": "0123456789abcdef"}
  monkeypatch.setattr(evaluate.builder, "describe", lambda _: info)
  evaluate.evaluate(
    workdir, encoder=encoder, data_dir=str(tmp_path / "x"), fine_tune=False
  )
  assert (workdir / "metrics.json").read_bytes() == own
  folder = workdir / "evaluations" / "other-01234567"
  assert (folder / "metrics.json").is_file()
  assert (folder / "report.html").is_file()
  # The run's own data set, named again, is no other one.
  assert evaluate.folder_of(workdir, "data", "./data") == workdir


def test_data_that_were_built_anew_are_not_the_runs_own(
  world, tmp_path, monkeypatch
):
  workdir, encoder, place = world
  encoder.config.data.mixture_dirs = ("more",)
  info = {"name": "planted", "fingerprint": "0123456789abcdef"}
  monkeypatch.setattr(
    evaluate.builder, "describe", lambda folder: info | {"path": folder}
  )

  def ask(known, data_dir=""):
    about = {"data": known, "cache_dir": str(place.cache)}
    (workdir / "run.json").write_text(json.dumps(about))
    return evaluate.evaluate(
      workdir, encoder=encoder, data_dir=data_dir, fine_tune=False
    )

  now = info["fingerprint"]
  for known, named in ((["old", now], "data"), ([now, "old"], "more")):
    for data_dir in ("", "./data"):
      with pytest.raises(run_files.OtherRunError, match=f"{named} holds other"):
        ask(known, data_dir)
    assert not (workdir / "metrics.json").exists()
    assert ask(known, data_dir=str(tmp_path / "other"))["step"] is None
  # None is of a cache that an older version wrote.
  for known in ([now, now], [None, now], []):
    ask(known)
    assert (workdir / "metrics.json").is_file()


def test_thorough_adds_few_labels_and_the_official_gallery(world, trained):
  workdir, encoder, _ = world
  document = evaluate.evaluate(
    workdir, encoder=encoder, fine_tune=False, thorough=True
  )
  assert document["retrieval_official"]["text->imu"]["gallery"] == 12
  assert document["few_shot"]["all"]["macro_f1"] == 1.0
  for task in ("zero_shot", "linear_probe"):
    scores = document["recognition"][task]
    assert document["calibration"][task]["accuracy"] == scores["accuracy"]
    assert document["abstention"][task]["unseen"]["n"] == 1


def test_per_wearer_rows_add_up_to_the_whole(world):
  workdir, encoder, _ = world
  document = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  table = document["per_wearer"]
  assert {w: entry["windows"] for w, entry in table.items()} == {"a": 6, "b": 6}
  shares = [entry["R@10 text->imu"] for entry in table.values()]
  assert np.mean(shares) == document["retrieval"]["text->imu"]["R@10"]
  assert table["a"]["zero_shot accuracy"] == pytest.approx(3 / 4)
  assert table["b"]["zero_shot accuracy"] == 1.0


def test_labels_restrict_every_row(world):
  workdir, encoder, _ = world
  document = evaluate.evaluate(
    workdir, encoder=encoder, labels=["walking"], fine_tune=False
  )
  assert document["labels"] == ["walking"]
  assert list(document["recognition"]) == ["zero_shot", "zero_shot_video"]
  assert document["recognition"]["zero_shot"]["n"] == 3
  assert document["recognition"]["zero_shot"]["named_among"] == 1
  notes = " | ".join(document["notes"])
  assert "4 windows with labels outside --labels are not named" in notes
  assert "fewer than two activities" in notes


def test_unknown_label_is_answered_with_the_known_ones(world):
  workdir, encoder, _ = world
  with pytest.raises(ValueError, match=r"flying in .* sitting; walking"):
    evaluate.evaluate(workdir, encoder=encoder, labels=["walking", "flying"])
  twice = recognition_tasks.vocabulary(["sits", "walks"], ["walks", "sits"] * 2)
  assert twice == ["walks", "sits"]
  assert not list(workdir.iterdir())


def test_labels_of_a_mixture_are_learned_from(world, tmp_path, monkeypatch):
  workdir, encoder, place = world
  labels = place.cache / "train" / "labels.npy"
  own = np.load(labels)
  np.save(labels, np.where(own == NAMES.index("sitting"), -1, own))
  caches = {"data": place.cache, "more": write_cache(tmp_path / "more")}
  monkeypatch.setattr(
    evaluate.embed, "ensure_cache", lambda c: caches[c.data.dir]
  )
  encoder.config.recognition.adapt_to_wearer = True
  alone = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  assert "linear_probe" not in alone["recognition"]  # walking is all there is
  encoder.config.data.mixture_dirs = ("more",)
  mixed = evaluate.evaluate(workdir, encoder=encoder)
  assert mixed["recognition"]["linear_probe"]["accuracy"] == 1.0
  assert "fine_tune_adapted" in mixed["recognition"]
  np.save(labels, np.full_like(own, -1))
  others = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  assert others["recognition"]["linear_probe"]["accuracy"] == 1.0
  assert "linear_probe_adapted" not in others["recognition"]
  assert any("agreed rows left out" in note for note in others["notes"])
  info = {"name": "other", "fingerprint": "0123456789abcdef"}
  monkeypatch.setattr(evaluate.builder, "describe", lambda _: info)
  # Its own set named again is the run's; on another one they say nothing.
  for data_dir, same in (("./data", others), ("elsewhere", alone)):
    caches[data_dir] = place.cache
    found = evaluate.evaluate(
      workdir, encoder=encoder, data_dir=data_dir, fine_tune=False
    )
    assert found["recognition"].keys() == same["recognition"].keys()


def test_without_a_validation_split_training_wearers_choose(world, tmp_path):
  workdir, encoder, place = world
  place.cache = write_cache(tmp_path / "other", validation=False)
  document = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  assert document["recognition"]["linear_probe"]["accuracy"] == 1.0
  assert any(
    "training wearers t0" in note and "left out of their training" in note
    for note in document["notes"]
  )


def test_where_nothing_is_chosen_all_training_wearers_teach(world, tmp_path):
  workdir, encoder, place = world
  place.cache = write_cache(tmp_path / "other", validation=False)
  encoder.config.recognition.probe_l2 = (0.1,)
  encoder.config.recognition.fine_tune_checks = 1
  document = evaluate.evaluate(workdir, encoder=encoder, thorough=True)
  assert document["recognition"]["linear_probe"]["l2"] == 0.1
  assert document["recognition"]["fine_tune"]["step"] == 4
  assert any("nothing to choose" in note for note in document["notes"])
  # Temperature and threshold ask for windows that taught nothing.
  assert "temperature" not in document["calibration"]["linear_probe"]


def test_a_probe_never_learns_from_the_split_it_is_asked_on(world):
  workdir, encoder, _ = world
  document = evaluate.evaluate(workdir, encoder=encoder, split="validation")
  assert "zero_shot" in document["recognition"]
  assert "linear_probe" not in document["recognition"]
  assert any("learn from split 'validation'" in n for n in document["notes"])


def edit(cache_dir, name, change):
  path = cache_dir / "test" / f"{name}.npy"
  np.save(path, change(np.load(path)))


def test_unlabelled_split_has_retrieval_and_says_why_no_more(world):
  workdir, encoder, place = world
  edit(place.cache, "labels", lambda x: np.full_like(x, -1))
  document = evaluate.evaluate(workdir, encoder=encoder)
  assert document["recognition"] == {}
  assert "text->imu" in document["retrieval"]
  assert any("no window has a label" in note for note in document["notes"])


def test_split_without_text_and_frames_has_recognition_alone(world):
  workdir, encoder, place = world
  edit(place.cache, "text_ids", lambda x: np.full_like(x, -1))
  edit(place.cache, "has_frames", np.zeros_like)
  document = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  assert document["retrieval"] == {}
  assert document["recognition"]["zero_shot"]["n"] == 6
  assert "zero_shot_video" not in document["recognition"]
  assert not (workdir / "recall_curves.png").exists()
  assert any("text → IMU" in note for note in document["notes"])


def test_window_without_any_sensor_is_no_query_and_no_answer(world):
  workdir, encoder, place = world
  edit(place.cache, "sensor_mask", lambda x: x & (np.arange(12) > 0)[:, None])
  document = evaluate.evaluate(workdir, encoder=encoder, fine_tune=False)
  assert document["retrieval"]["text->imu"]["gallery"] == 11
  assert document["retrieval"]["text->video"]["gallery"] == 6
  assert document["counts"]["without_accel"] == 1


def test_encoder_of_another_width_or_teacher_is_refused(world):
  workdir, encoder, _ = world
  own = encoder.teacher
  encoder.teacher = own | {"dim": 8}
  with pytest.raises(ValueError, match="planted is 16 wide, the encoder 8"):
    evaluate.evaluate(workdir, encoder=encoder)
  encoder.teacher = own | {"fingerprint": "other"}
  with pytest.raises(ValueError, match="other weights"):
    evaluate.evaluate(workdir, encoder=encoder)
  assert not list(workdir.iterdir())


def test_the_best_checkpoint_is_measured_if_asked(workdir):
  with pytest.raises(FileNotFoundError, match="no validated checkpoint"):
    evaluate.evaluate(workdir, best=True)
  first = evaluate.evaluate(workdir, fine_tune=False)
  loaded = pretrained.load_run(workdir)
  variant = loaded.config.variant
  params = {
    "imu_encoder": loaded.params,
    "log_scale": dict.fromkeys(
      config_lib.VARIANTS[variant], np.ones((), np.float32)
    ),
  }
  worse = jax.tree.map(lambda x: np.asarray(-x), params)
  checkpoints = checkpoint.Checkpoints(workdir, keep=1, keep_best=1)
  data = {"next_index": 0}
  checkpoints.save(10, {"params": params}, data, score=0.5)
  checkpoints.save(20, {"params": worse}, data, score=0.4)
  checkpoints.save(30, {"params": worse}, data)
  checkpoints.close()
  best = evaluate.evaluate(workdir, fine_tune=False, best=True)
  newest = evaluate.evaluate(workdir, fine_tune=False)
  assert best["retrieval"] == first["retrieval"] != newest["retrieval"]
  assert "checkpoint 10: the best MRR on validation" in best["notes"]
  assert not any("checkpoint" in note for note in newest["notes"])
  assert (best["step"], newest["step"]) == (10, 30)
  scales = [pretrained.logit_scale(workdir, variant, b) for b in (True, False)]
  np.testing.assert_allclose(scales, np.exp([1.0, -1.0]), rtol=1e-6)


# The command


def run(capsys, *argv):
  code = command.run(evaluate.main, argv)
  captured = capsys.readouterr()
  return code, captured.out, captured.err


def test_json_is_one_document_on_stdout(world, capsys, monkeypatch):
  workdir, encoder, _ = world
  monkeypatch.setattr(evaluate.pretrained, "load_run", lambda *_, **__: encoder)
  code, out, _ = run(capsys, f"--workdir={workdir}", "--json", "--no-fine-tune")
  assert code == 0
  assert json.loads(out) == json.loads((workdir / "metrics.json").read_text())


def test_tables_name_teacher_gallery_and_chance(world, capsys, monkeypatch):
  workdir, encoder, _ = world
  monkeypatch.setattr(evaluate.pretrained, "load_run", lambda *_, **__: encoder)
  code, out, _ = run(
    capsys,
    f"--workdir={workdir}",
    "--no-fine-tune",
    "--labels=walking; sitting",
    "--protocol=official",
  )
  assert code == 0
  assert "teacher planted" in out
  assert "gallery" in out
  assert "chance" in out
  assert "IMU → video *" in out
  assert "protocol official" in out


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    ((), "--workdir is missing"),
    (("--workdir=/nowhere/run",), "/nowhere/run holds no run"),
  ],
)
def test_bad_input_is_one_line_and_exit_code_1(capsys, argv, message):
  code, out, err = run(capsys, *argv)
  assert code == 1
  assert out == ""
  assert message in err
  assert err.count("\n") == 1


def test_missing_split_is_one_line(world, capsys, monkeypatch):
  workdir, encoder, _ = world
  monkeypatch.setattr(evaluate.pretrained, "load_run", lambda *_, **__: encoder)
  code, _, err = run(capsys, f"--workdir={workdir}", "--split=dusk")
  assert code == 1
  assert "no split 'dusk'" in err
  assert err.count("\n") == 1
