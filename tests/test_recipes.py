"""The paper's recipes run on small trees in the real formats.

build → embed → train → evaluate, each by its own verb; sizes alone are made
small. The layouts are those that the readers' own tests explain.
"""

import functools
import importlib.util
import json
import pathlib
import shutil

import numpy as np
import pytest

from imu2clip_jax import build, cli

HERE = pathlib.Path(__file__).parent
SAID = ("picks a cup", "opens a door", "looks around", "sits down")
# What a window of each set is, and the rate that leaves the encoder 50 samples.
CUT = {
  "ego4d": {"window_s": 2.0, "rate_hz": 50.0},
  "epic": {"window_s": 2.0, "rate_hz": 50.0},
  "aria": {"window_s": 0.05, "rate_hz": 1000.0},
}
DATASET = {"ego4d": "ego4d_imu", "epic": "epic_kitchens_imu"}


def sibling(name):
  """The test module of a reader: it knows how to write the reader's files."""
  spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def write_ego4d(root):
  files = sibling("test_ego4d")
  videos, said = [], {}
  for k in range(6):
    uid = f"uid-{k}"
    videos.append(
      {
        "video_uid": uid,
        "duration_sec": 4.2,
        "scenarios": ["Cooking"],
        "video_metadata": {"fps": 30.0, "video_duration_sec": 4.2},
        "device": None,
        "fb_participant_id": k,
        "has_imu": True,
      }
    )
    rng = np.random.default_rng(k)
    rows = [
      f"0,{t!r},{t!r},{g[0]},{g[1]},{g[2]},{a[0]},{9.8 + a[1]},{a[2]}"
      for t, g, a in zip(
        (np.arange(840) * 5.0).tolist(),
        rng.normal(size=(840, 3)).round(4),
        rng.normal(size=(840, 3)).round(4),
        strict=True,
      )
    ]
    files.write_imu(root / "v2" / "imu" / f"{uid}.csv", rows)
    files.write_video(root / "v2" / "video_540ss" / f"{uid}.mp4", 126)
    notes = [
      files.narration(0.8 * (i + 1), f"#C C {SAID[(i + k) % 4]}", i)
      for i in range(4)
    ]
    said[uid] = {
      "status": "complete",
      "narration_pass_1": {"narrations": notes, "summaries": []},
    }
  (root / "v2" / "ego4d.json").write_text(
    json.dumps({"date": "", "version": "v2", "videos": videos, "clips": []})
  )
  (root / "v2" / "annotations").mkdir()
  (root / "v2" / "annotations" / "narration.json").write_text(json.dumps(said))


def write_epic(root):
  files = sibling("test_epic_kitchens")
  segments, durations = files.COLUMNS, "video_id,duration,fps,resolution\n"
  for k in range(1, 7):
    wearer, video = f"P{k:02}", f"P{k:02}_101"
    files.write_imu(root / wearer / "meta_data", video, 14.3, 1.01, (198, 397))
    files.write_video(root / wearer / "videos" / f"{video}.MP4", 14.3)
    durations += f"{video},14.3,50.0,1920x1080\n"
    for i in range(4):
      segments += files.segment(
        i, video, f"00:00:{2 * i + 1:02}.00", f"00:00:{2 * i + 3:02}.20",
        f"{SAID[(i + k) % 4].split()[0]} it", "open",
      )  # fmt: skip
  notes = root / "epic-kitchens-100-annotations"
  notes.mkdir()
  (notes / "EPIC_100_train.csv").write_text(segments)
  (notes / "EPIC_100_video_info.csv").write_text(durations)


def write_aria(root, samples):
  """Six households that wear the published clip, and speak during it."""
  clip = samples / "aria_gen1_samples" / "aria_everyday_activities"
  for k in range(1, 7):
    folder = root / f"loc{k}_script1_seq1_rec1"
    folder.mkdir(parents=True)
    shutil.copy(clip / "recording.vrs", folder)
    (folder / "metadata.json").write_text(f'{{"location": {k}}}')
    words = "startTime_ns,endTime_ns,written,confidence\n"
    for i in range(4):
      start_ns = 86_400_000_000 + 60_000_000 * i
      text = SAID[(i + k) % 4].split()[0]
      words += f"{start_ns},{start_ns + 50_000_000},{text}.,0.9\n"
    (folder / "speech.csv").write_text(words)


@pytest.fixture(scope="module")
def built(tmp_path_factory, request):
  """Builds a source's small tree, once: name -> the built data set."""

  @functools.cache
  def make(source):
    folder = tmp_path_factory.mktemp(source)
    raw = folder / "raw"
    raw.mkdir()
    if source == "aria":
      if importlib.util.find_spec("projectaria_tools") is None:
        pytest.skip("projectaria-tools is not installed")
      write_aria(raw, request.getfixturevalue("samples"))
    else:
      {"ego4d": write_ego4d, "epic": write_epic}[source](raw)
    window = {"window_s": CUT[source]["window_s"], "frame_size": 32}
    window["stride_s"] = window["window_s"]
    dataset = HERE.parent / "datasets" / DATASET.get(source, f"{source}_imu")
    summary = build.build(
      dataset, raw, folder / "data", workers=0, window_options=window
    )
    assert summary["failed"] == {}
    return folder / "data"

  return make


def run_recipe(name, source, data_dir, workdir, *more):
  """Train by the recipe and evaluate; returns what metrics.json says."""
  c = "--config"
  code = cli.main(
    [
      "train",
      f"{c}={HERE.parent / 'configs' / f'{name}.py'}",
      f"--workdir={workdir}",
      f"{c}.data.dir={data_dir}",
      f"{c}.teacher.path={HERE / 'golden' / 'clip_tiny'}",
      f"{c}.encoder.window_s={CUT[source]['window_s']}",
      f"{c}.encoder.rate_hz={CUT[source]['rate_hz']}",
      f"{c}.encoder.hidden=8",
      f"{c}.encoder.width=8",
      f"{c}.train.batch_size=8",
      f"{c}.train.steps=2",
      f"{c}.train.log_every_steps=1",
      f"{c}.recognition.fine_tune_steps=2",
      *more,
    ]
  )
  assert code == 0
  log = (workdir / "train.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in log] == [0, 1]
  assert all(np.isfinite(json.loads(line)["loss"]) for line in log)
  assert cli.main(["evaluate", f"--workdir={workdir}"]) == 0
  assert (workdir / "report.html").stat().st_size > 10_000
  return json.loads((workdir / "metrics.json").read_text())


def _recipes():
  # One by default, for the others add ten seconds each.
  quick = ("ego4d_imu_video_text",)
  for source in CUT:
    for variant in ("imu_video", "imu_text", "imu_video_text"):
      name = f"{source}_{variant}"
      marks = () if name in quick else pytest.mark.slow
      yield pytest.param(source, variant, id=name, marks=marks)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize(("source", "variant"), list(_recipes()))
def test_a_recipe_runs_from_raw_files_to_a_report(
  built, tmp_path, source, variant
):
  found = run_recipe(
    f"{source}_{variant}", source, built(source), tmp_path / "run"
  )
  assert found["variant"] == variant
  assert found["counts"]["with_text"] > 1
  assert found["counts"]["with_frames"] > 1
  trained = {d for d, block in found["retrieval"].items() if block["trained"]}
  assert ("text->imu" in trained) == ("text" in variant)
  assert ("imu->video" in trained) == ("video" in variant)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_the_mixture_runs_on_two_sets(built, tmp_path):
  found = run_recipe(
    "mixture",
    "ego4d",
    built("ego4d"),
    tmp_path / "run",
    f"--config.data.mixture_dirs=('{built('epic')}',)",
    "--config.data.mixture_weights=(0.5, 0.5)",
  )
  assert found["dataset"] == "ego4d_imu"
  # Then asked on the other set, by text alone: it has no labels.
  words = [f"--workdir={tmp_path / 'run'}", f"--data_dir={built('epic')}"]
  assert cli.main(["evaluate", *words, "--no-fine-tune"]) == 0
  (other,) = (tmp_path / "run" / "evaluations").iterdir()
  metrics = json.loads((other / "metrics.json").read_text())
  assert metrics["dataset"] == "epic_kitchens_imu"
