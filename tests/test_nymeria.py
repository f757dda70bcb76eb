"""Nymeria: trees in its layout, made from the published Aria clip."""

import importlib.util
import pathlib
import shutil

import numpy as np
import pytest

from imu2clip_jax import build
from imu2clip_jax.recordings import nymeria, opening

FIRST_RGB_S = 86.385246037
HEADER = "\ufeffrequest_id,gaia_id,start_time,end_time,annotator,creation_time,"
NAMES = (
  "20230607_s0_james_johnson_act0_e72nhq",
  "20230607_s0_james_johnson_act1_7xwm28",
  "20230612_s1_jane_doe_act2_abcdef",
)


@pytest.fixture
def tree(samples, tmp_path):
  if importlib.util.find_spec("projectaria_tools") is None:
    pytest.skip("projectaria-tools is not installed")
  clip = samples / "aria_gen1_samples" / "aria_everyday_activities"
  for name in NAMES:
    data = tmp_path / name / "recording_head" / "data"
    data.mkdir(parents=True)
    shutil.copy(clip / "recording.vrs", data / "data.vrs")
    shutil.copy(clip / "recording.vrs", data / "motion.vrs")
  notes = tmp_path / NAMES[0] / "narration"
  notes.mkdir()
  (notes / "atomic_action.csv").write_text(
    HEADER
    + "Describe my atomic actions\n"
    + "1,2,91.0,96.0,a,t,C stands up.\n"
    + '1,2,86.0,91.0,a,t,"C picks up a cup, then turns."\n'
    + "1,2,96.0,95.0,a,t,ends before it starts\n"
    + "1,2,96.0,101.0,a,t,\n"
    + ",,,,,,\n",
    encoding="utf-8",
  )
  (notes / "motion_narration.csv").write_text(
    HEADER
    + '"Describe my body posture","Describe my hands/arms motion",'
    + '"Describe my legs/feet motion","Describe my focus attention"\n'
    + "1,2,86.0,91.0,a,t,C is upright,C reaches out,,C looks down\n",
    encoding="utf-8",
  )
  return tmp_path


def test_imu_and_images_share_the_clock_of_the_first_frame(tree):
  recording = nymeria.open_nymeria(tree / NAMES[0])
  assert recording.wearer_id == "james_johnson"
  assert recording.imu.frame == "aria_cpf"
  assert len(recording.imu.accel) == 319
  assert recording.imu.accel_t_s[0] == pytest.approx(-0.0370, abs=1e-4)
  assert recording.frames([0.0]).shape == (1, 1408, 1408, 3)
  right = nymeria.open_nymeria(tree / NAMES[0], imu="imu-right")
  assert len(right.imu.gyro) == 400


def test_open_recording_knows_the_folder(tree):
  recording = opening.open_recording(tree / NAMES[0])
  assert recording.wearer_id == "james_johnson"


def test_narrations_are_in_device_time(tree):
  recording = nymeria.open_nymeria(tree / NAMES[0])
  starts = [start for start, _, _ in recording.texts]
  np.testing.assert_allclose(starts, [86 - FIRST_RGB_S, 91 - FIRST_RGB_S])
  assert [text for _, _, text in recording.texts] == [
    "C picks up a cup, then turns.",
    "C stands up.",
  ]
  assert recording.window(0.1, 0.2)["texts"] == [
    "C picks up a cup, then turns."
  ]
  both = nymeria.open_nymeria(
    tree / NAMES[0], narrations=("atomic_action", "motion_narration")
  )
  assert len(both.texts) == 5
  assert nymeria.open_nymeria(tree / NAMES[1]).texts == []


def test_images_may_be_left_out_of_a_download(tree, monkeypatch):
  (tree / NAMES[0] / "recording_head" / "data" / "data.vrs").unlink()
  monkeypatch.setattr(
    nymeria.aria.Vrs, "rgb_times_ns", lambda self: np.zeros(0, np.int64)
  )
  recording = nymeria.open_nymeria(tree / NAMES[0])
  assert recording.video is None
  assert recording.imu.accel_t_s[0] == 0
  assert recording.texts[0][0] == pytest.approx(86 - 86.348264162)


def test_find_splits_by_wearer(tree):
  entries = nymeria.find(tree, imu="imu-right")
  assert [e.recording_id for e in entries] == list(NAMES)
  assert entries[0].split == entries[1].split != entries[2].split
  assert len(entries[2].open().imu.accel) == 400


def test_what_is_missing_or_damaged_is_named(tree, tmp_path):
  with pytest.raises(FileNotFoundError, match="holds no SEQUENCE"):
    nymeria.find(tmp_path / "nowhere")
  with pytest.raises(FileNotFoundError, match=r"motion\.vrs"):
    nymeria.open_nymeria(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="narrations name 'poems'"):
    nymeria.open_nymeria(tree / NAMES[0], narrations=("poems",))
  notes = tree / NAMES[0] / "narration" / "atomic_action.csv"
  notes.write_text(HEADER + "Describe my atomic actions\n1,2,x,96,a,t,text\n")
  with pytest.raises(ValueError, match=r"atomic_action\.csv: column 'start_t"):
    nymeria.open_nymeria(tree / NAMES[0])
  notes.write_text(HEADER + "Describe my day\n")
  with pytest.raises(ValueError, match="lacks the columns Describe my atomic"):
    nymeria.open_nymeria(tree / NAMES[0])


def test_a_small_tree_is_built(tree, tmp_path):
  dataset = pathlib.Path(__file__).parents[1] / "datasets" / "nymeria_imu"
  shutil.copytree(tree / NAMES[0] / "narration", tree / NAMES[2] / "narration")
  summary = build.build(
    dataset,
    tree,
    tmp_path / "data",
    workers=0,
    window_options={"window_s": 0.2},
  )
  # James has one sequence with narrations and one without.
  assert summary["splits"]["train"] == summary["splits"]["test"] == 1
