"""Search over a split and over files, by every kind of query."""

import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import types

import numpy as np
import pytest
from PIL import Image

from imu2clip_jax import (
  cli,
  evaluate,
  export,
  run_files,
  runs,
  search,
  search_page,
  sources,
  taught,
  timeline,
)
from imu2clip_jax.data import cache
from imu2clip_jax.recordings import synthetic


def run_json(capsys, *arguments):
  assert cli.main(["search", "--json", *map(str, arguments)]) == 0
  return json.loads(capsys.readouterr().out)


def test_queries_give_the_recall_that_evaluate_gives(workdir, tmp_path, capsys):
  document = evaluate.evaluate(workdir, fine_tune=False)
  capsys.readouterr()
  block = document["retrieval"]["text->imu"]
  cache_dir = json.loads((workdir / "run.json").read_text())["cache_dir"]
  windows = cache.open_split(cache_dir, "test")
  rows = np.flatnonzero(windows.has_text)
  assert len(rows) > 10
  texts = [windows.texts[windows.text_ids[row, 0]] for row in rows]
  (tmp_path / "queries.txt").write_text("\n".join(texts) + "\n")
  found = run_json(
    capsys, f"--workdir={workdir}", f"--queries={tmp_path / 'queries.txt'}"
  )
  assert found["gallery"]["windows"] == block["gallery"] == len(rows)
  assert [answer["query"] for answer in found["queries"]] == texts
  for k in (1, 10):
    right = [
      any(
        hit["window_id"] == windows.window_ids[row] and hit["rank"] <= k
        for hit in answer["hits"]
      )
      for row, answer in zip(rows, found["queries"], strict=True)
    ]
    assert np.mean(right) == pytest.approx(block[f"R@{k}"])


def test_the_split_is_embedded_once_and_named(workdir, capsys, monkeypatch):
  first = run_json(capsys, f"--workdir={workdir}", "walking", "--top=3")
  monkeypatch.setattr(search.retrieval, "embed_windows", None)
  again = run_json(capsys, f"--workdir={workdir}", "walking", "--top=3")
  assert again == first
  (answer,) = first["queries"]
  assert answer["kind"] == "text"
  assert len(answer["hits"]) == 3
  scores = [hit["score"] for hit in answer["hits"]]
  assert scores == sorted(scores, reverse=True)
  assert {"text", "label", "window_id"} <= answer["hits"][0].keys()
  assert first["gallery"]["recordings"] == 1
  best = answer["moments"][0]
  assert best["start_s"] <= answer["hits"][0]["start_s"] < best["end_s"]


def test_a_file_is_cut_embedded_and_kept(
  workdir, recording, capsys, monkeypatch
):
  asked = (f"--workdir={workdir}", "--in", recording, "walking")
  first = run_json(capsys, *asked)
  assert first["gallery"]["windows"] == 39  # 100 s, a window every 2.5 s
  assert first["queries"][0]["moments"][0]["path"] == str(recording)
  monkeypatch.setattr(sources, "embed_recording", None)
  assert run_json(capsys, *asked) == first
  # However it is spelled.
  monkeypatch.chdir(recording.parent)
  other = pathlib.Path("..", recording.parent.name, recording.name)
  again = run_json(capsys, *asked[:2], other, "walking")
  assert again["queries"] == first["queries"]


def test_a_changed_file_is_embedded_anew(workdir, recording, tmp_path, capsys):
  path = pathlib.Path(shutil.copy(recording, tmp_path / "a.npz"))
  asked = (f"--workdir={workdir}", "walking", "--in", path)
  first = run_json(capsys, *asked)
  arrays = dict(np.load(path))
  np.savez(path, **{name: array[:3000] for name, array in arrays.items()})
  second = run_json(capsys, *asked)
  assert second["gallery"]["windows"] < first["gallery"]["windows"]
  assert len(runs.open_run(workdir).index.segments) == 1


def test_recordings_embed_as_the_windows_of_the_split(workdir):
  run = runs.open_run(workdir)
  split = search.split_gallery(run)["segments"][0]
  opened = synthetic.open_synthetic(wearer=20_000, duration_s=100.0)
  starts, found = sources.embed_recording(run.encoder, opened, run.cutting(5.0))
  # A built data set is shuffled.
  order = np.argsort(split.start_s)
  np.testing.assert_allclose(starts, split.start_s[order])
  np.testing.assert_allclose(found, split.embeddings[order], atol=1e-5)


def test_axes_that_one_recording_cannot_have_are_said(
  workdir, capsys, monkeypatch
):
  (known,) = json.loads((workdir / "run.json").read_text())["data"]
  told = {"gravity": "none", "about": {"reader": {"frame": "head"}}}
  told |= {"fingerprint": known, "path": "data"}
  monkeypatch.setattr(runs.builder, "describe", lambda _: told)
  run = runs.open_run(workdir)
  assert [run.cutting(hop_s).gravity for hop_s in (1.0, 5.0)] == ["none"] * 2
  assert capsys.readouterr().err.count("stays in its sensor's axes") == 1


def test_blocks_change_nothing(workdir, monkeypatch):
  run = runs.open_run(workdir)
  opened = synthetic.open_synthetic(wearer=20_000, duration_s=100.0)
  options = run.cutting(1.0, "recording")
  whole = sources.embed_recording(run.encoder, opened, options)
  monkeypatch.setattr(sources, "_BLOCK_WINDOWS", 7)
  parts = sources.embed_recording(run.encoder, opened, options)
  for a, b in zip(whole, parts, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_folder_is_searched_and_what_is_no_recording_is_named(
  workdir, recording, tmp_path, capsys
):
  folder = tmp_path / "week"
  (folder / "monday").mkdir(parents=True)
  for name in ("a.npz", "monday/b.npz"):
    shutil.copy(recording, folder / name)
  (folder / "notes.csv").write_text("what,when\nlunch,noon\n")
  (folder / "readme.txt").write_text("no recording")
  asked = ["search", f"--workdir={workdir}", "--json", "--in", str(folder)]
  assert cli.main([*asked, "walking"]) == 0
  output = capsys.readouterr()
  found = json.loads(output.out)
  assert found["gallery"]["recordings"] == 2
  assert "passed over" in output.err
  assert "notes.csv" in output.err
  assert "readme.txt" not in output.err
  # Equal windows of two files are two moments.
  paths = {m["path"] for m in found["queries"][0]["moments"]}
  assert len(paths) == 2


def test_motion_finds_itself(workdir, recording, capsys):
  asked = (f"--workdir={workdir}", "--in", recording, "--hop=5")
  found = run_json(capsys, *asked, f"--imu={recording}:20-25")
  (answer,) = found["queries"]
  assert answer["kind"] == "imu"
  assert answer["hits"][0]["start_s"] == pytest.approx(20, abs=0.05)
  assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
  whole = run_json(capsys, *asked, f"--imu={recording}")
  assert whole["queries"][0]["hits"][0]["score"] < 1


def test_a_picture_is_a_query(workdir, tmp_path, capsys):
  Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "red.png")
  found = run_json(
    capsys, f"--workdir={workdir}", f"--image={tmp_path / 'red.png'}"
  )
  assert found["queries"][0]["kind"] == "image"


def test_a_photo_is_turned_upright(tmp_path):
  """Its EXIF says that the sensor lay on its side."""
  clip = types.SimpleNamespace(embed_images=lambda images: images)
  lying = np.zeros((40, 80, 3), np.uint8)
  lying[:, :40] = 255
  exif = Image.Exif()
  exif[0x112] = 6  # to be turned clockwise by a quarter
  path = tmp_path / "photo.png"
  Image.fromarray(lying).save(path, exif=exif)
  query = search.image_query(types.SimpleNamespace(clip=clip), str(path))
  np.testing.assert_array_equal(query["embedding"], np.rot90(lying, -1))


def test_a_picture_too_large_to_open_is_one_line(workdir, tmp_path, capsys):
  path = tmp_path / "large.png"
  Image.new("1", (14_000, 14_000)).save(path)
  assert cli.main(["search", f"--workdir={workdir}", f"--image={path}"]) == 1
  err = capsys.readouterr().err
  assert "cannot be read" in err
  assert "Traceback" not in err


def test_a_taught_name_is_its_prototype(workdir, capsys):
  run = runs.open_run(workdir)
  segment = search.split_gallery(run)["segments"][0]
  taught.save(
    workdir,
    "my dance",
    segment.embeddings[7],
    [],
    run.fingerprint,
    run.encoder.teacher["fingerprint"],
  )
  (answer,) = run_json(capsys, f"--workdir={workdir}", "my dance")["queries"]
  assert answer["kind"] == "taught"
  assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
  assert answer["hits"][0]["start_s"] == segment.start_s[7]


def test_the_table_shows_moments(workdir, recording, capsys):
  asked = ["search", f"--workdir={workdir}", "walking", "--in", str(recording)]
  assert cli.main(asked) == 0
  out = capsys.readouterr().out
  assert "39 windows of 1 recordings" in out
  assert "walking (text; mean score" in out
  assert str(recording) in out


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    ([], "give one query"),
    (["walking", "--image=x.png"], "give one query"),
    ([" "], "is empty"),
    (["--image=absent.png"], "no file absent.png"),
    (["--queries=absent.txt"], "no file absent.txt"),
    (["--imu=absent.csv"], "absent.csv"),
    (["--in", "absent.csv", "walking"], "no file or folder absent.csv"),
    (["walking", "--top=0"], "--top is 0"),
    (["walking", "--hop=0", "--in", "REC"], "--hop is 0"),
    (["walking", "--hop=1e-9", "--in", "REC"], "a sample of the encoder or"),
    (["walking", "--hop=nan", "--in", "REC"], "--hop is nan"),
    (["--in", "REC", "REC", "typo.csv"], "no file typo.csv"),
    (["--imu=REC:90-400"], "is not inside its IMU"),
    (["--imu=REC:9-4"], "ends before it starts"),
  ],
)
def test_bad_input_is_one_line(workdir, recording, arguments, says, capsys):
  arguments = [a.replace("REC", str(recording)) for a in arguments]
  assert cli.main(["search", f"--workdir={workdir}", *arguments]) == 1
  err = capsys.readouterr().err
  assert says in err
  assert err.count("imu2clip: error") == 1
  assert "Traceback" not in err


def test_no_workdir_is_said(capsys):
  assert cli.main(["search", "walking"]) == 1
  assert "--workdir is missing" in capsys.readouterr().err


def test_a_clip_shorter_than_a_window_says_so(
  workdir, recording, tmp_path, capsys
):
  arrays = dict(np.load(recording))
  np.savez(tmp_path / "s.npz", **{k: v[:300] for k, v in arrays.items()})
  asked = ["search", f"--workdir={workdir}", "x", "--in"]
  assert cli.main([*asked, str(tmp_path / "s.npz")]) == 1
  err = capsys.readouterr().err
  assert "less than one window of the encoder, 5 s" in err


def test_another_teacher_is_refused(workdir):
  run_file = workdir / "run.json"
  document = json.loads(run_file.read_text())
  document["teacher"]["fingerprint"] = "0" * 64
  run_file.write_text(json.dumps(document))
  run = runs.open_run(workdir)
  with pytest.raises(ValueError, match="other weights"):
    run.clip  # noqa: B018
  with pytest.raises(ValueError, match="other weights"):
    search.split_gallery(run)


def forget_fingerprints(workdir):
  """As an older version wrote it."""
  about = json.loads((workdir / "run.json").read_text())
  del about["data"]
  (workdir / "run.json").write_text(json.dumps(about))


@pytest.fixture
def rebuilt(workdir, tmp_path):
  """The run's data are no longer those that it was trained on."""
  about = json.loads((workdir / "run.json").read_text())
  about["data"], about["cache_dir"] = ["0" * 64], str(tmp_path / "gone")
  (workdir / "run.json").write_text(json.dumps(about))
  return workdir


def test_data_that_were_built_anew_are_not_the_runs_own(rebuilt, recording):
  run = runs.open_run(rebuilt)
  for ask in (search.split_gallery, timeline.vocabulary):
    with pytest.raises(run_files.OtherRunError, match="holds other windows"):
      ask(run)
  # Nor is it known how the signals were turned that it has learnt from.
  with pytest.raises(ValueError, match=r"holds other windows.*--gravity"):
    search.recordings_gallery(run, [recording], 5.0)
  assert search.recordings_gallery(run, [recording], 5.0, "none")["segments"]
  forget_fingerprints(rebuilt)
  run = runs.open_run(rebuilt)
  assert search.split_gallery(run)["segments"]
  assert search.recordings_gallery(run, [recording], 5.0)["segments"]


def test_no_pictures_of_data_that_were_built_anew(workdir, rebuilt):
  """The cache of a version may be there still beside a newer one."""
  run = runs.open_run(workdir)
  gallery = {"windows": types.SimpleNamespace(name="test", window_ids=[])}
  with pytest.raises(run_files.OtherRunError, match="holds other windows"):
    search_page.pictures(run, gallery)


def test_without_the_training_data_gravity_must_be_said(workdir, recording):
  config = json.loads((workdir / "config.json").read_text())
  config["data"]["dir"] = str(workdir / "gone")
  (workdir / "config.json").write_text(json.dumps(config))
  run = runs.open_run(workdir)
  with pytest.raises(ValueError, match="--gravity"):
    search.recordings_gallery(run, [recording], 5.0)
  found = search.recordings_gallery(run, [recording], 5.0, "none")
  assert len(found["segments"]) == 1


# The page


class Page(html.parser.HTMLParser):
  def __init__(self, text):
    super().__init__()
    self.text, self.sources, self.tags = "", [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.sources += [v for k, v in attributes if k in ("src", "href")]

  def handle_data(self, data):
    self.text += data


def test_the_page_needs_nothing_from_outside(workdir, tmp_path, capsys):
  path = tmp_path / "found.html"
  run_json(capsys, f"--workdir={workdir}", "walking", f"--html={path}")
  page = Page(path.read_text())
  assert page.tags.count("article") >= 1
  assert page.tags.count("svg") == page.tags.count("article")
  assert page.sources
  assert all(s.startswith("data:image/jpeg") for s in page.sources)
  assert "script" not in page.tags
  assert set(re.findall(r"https?://[^\s\"']+", path.read_text())) == {
    "http://www.w3.org/2000/svg"
  }


def test_the_page_escapes_what_it_is_given():
  hostile = "<script>alert(1)</script>"
  moment = {"rank": 1, "score": 0.5, "start_s": 61.0, "end_s": 66.0}
  moment |= {"recording_id": hostile, "path": None}
  document = {
    "gallery": {"what": hostile, "windows": 3, "recordings": 1},
    "queries": [
      {
        "query": hostile,
        "kind": "text",
        "mean_score": 0.1,
        "moments": [moment],
      }
    ],
  }
  text = search_page.page(
    document, lambda _: {"frames": [], "signal": "<svg/>", "text": hostile}
  )
  assert "<script" not in text
  assert "1:01.0 to 1:06.0" in Page(text).text


@pytest.mark.slow
def test_a_browser_draws_the_page(workdir, tmp_path, capsys):
  chromium = shutil.which("chromium") or shutil.which("chromium-browser")
  if chromium is None:
    pytest.skip("chromium is not installed")
  path, picture = tmp_path / "found.html", tmp_path / "found.png"
  run_json(capsys, f"--workdir={workdir}", "walking", f"--html={path}")
  subprocess.run(
    [
      chromium,
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      f"--user-data-dir={tmp_path / 'profile'}",
      "--window-size=1000,900",
      f"--screenshot={picture}",
      path.as_uri(),
    ],
    check=True,
    capture_output=True,
    timeout=120,
    env=os.environ | {"HOME": str(tmp_path)},
  )
  pixels = np.asarray(Image.open(picture).convert("RGB"))
  assert pixels.shape == (900, 1000, 3)
  # Frames, curves and text: more than a few flat colours.
  assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200


# Real recordings


def test_a_gopro_video_is_searched_as_it_is(samples, workdir, tmp_path, capsys):
  path = samples / "gopro_karma" / "karma.mp4"
  page = tmp_path / "found.html"
  found = run_json(
    capsys, f"--workdir={workdir}", "--in", path, "flying", f"--html={page}"
  )
  assert found["gallery"]["windows"] == 4  # 0, 2.5, 5, and the end
  best = found["queries"][0]["moments"][0]
  assert 0 <= best["start_s"] < best["end_s"] <= 12.1
  assert len(Page(page.read_text()).sources) >= 4


def test_a_gopro_clip_of_one_second_says_it_is_short(samples, workdir, capsys):
  path = samples / "gopro_karma" / "hero5.raw"
  asked = ["search", f"--workdir={workdir}", "x", "--in", str(path)]
  assert cli.main(asked) == 1
  assert "less than one window" in capsys.readouterr().err


def test_a_run_without_a_teacher_cannot_be_asked(workdir, capsys):
  path = workdir / "config.json"
  document = json.loads(path.read_text())
  document["loss"]["objective"] = "simclr"
  path.write_text(json.dumps(document))
  assert cli.main(["search", "--workdir", str(workdir), "walking"]) == 1
  assert "shares no space with texts" in capsys.readouterr().err


def test_an_export_cannot_stand_for_its_run(workdir, tmp_path, capsys):
  export.export(workdir, tmp_path / "out")
  place = f"--workdir={tmp_path / 'out'}"
  assert cli.main(["search", place, "walking"]) == 1
  assert "an encoder without its run" in capsys.readouterr().err
  assert cli.main(["evaluate", place]) == 1
  assert "run.json is missing" in capsys.readouterr().err
