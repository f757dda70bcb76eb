"""The suite's cells, that it goes on, that one broken cell costs no other."""

import copy
import json

import numpy as np
import pytest

from imu2clip_jax import config as config_lib
from imu2clip_jax import paper_results, suite, suite_tables
from imu2clip_jax.models import encoders


def document(seed=0, dataset="ego4d_imu"):
  block = {"R@1": 0.02, "R@10": 0.2 + 0.02 * seed, "R@50": 0.5, "MRR": 0.1}
  block |= {f"chance_{name}": 0.01 for name in list(block)}
  block |= {"gallery": 700, "trained": True}
  scores = {"macro_f1": 0.5 + 0.1 * seed, "accuracy": 0.6, "n": 9}
  scores |= {"constant_macro_f1": 0.05, "constant_accuracy": 0.3}
  scores["per_class"] = {"walks": {"f1": 0.4, "support": 9}}
  return {
    "dataset": dataset,
    "retrieval": {
      "text->imu": block,
      "imu->video": block | {"trained": False},
      "text->video": block,
    },
    "retrieval_official": {"text->imu": block | {"gallery": 320}},
    "recognition": {"zero_shot": scores, "fine_tune": scores},
    "few_shot": {"1": {"macro_f1": 0.3}, "all": {"macro_f1": 0.6}},
    "calibration": {"zero_shot": {"ece": 0.07}},
    "abstention": {"zero_shot": {"aurc": 0.2, "aurc_best": 0.1, "error": 0.4}},
  }


@pytest.fixture
def ran(monkeypatch):
  """Plants the runs; returns the names of those that were really run."""
  names = []

  def finish(workdir, cell, fine_tune):
    folder = workdir / "cells" / cell.name
    if (folder / "metrics.json").is_file():
      return json.loads((folder / "metrics.json").read_text())
    names.append(cell.name)
    if cell.row == "encoder bilstm":
      raise FloatingPointError("loss is not finite")
    folder.mkdir(parents=True)
    found = document(cell.config.seed)
    (folder / "metrics.json").write_text(json.dumps(found))
    return found

  meta = {"dataset": "ego4d_imu", "teacher": {"name": "clip"}}
  look = (meta, [], list(config_lib.VARIANTS))
  monkeypatch.setattr(suite, "_finish", finish)
  monkeypatch.setattr(suite, "_look", lambda _: look)
  return names


def test_cells_are_variants_by_seed_and_every_baseline_once():
  config = config_lib.demo("imu_video_text")
  cells = suite.cells(config, 3)
  assert sum(c.group == "variants" for c in cells) == 9
  rows = [c.row for c in cells if c.group == "baselines"]
  others = len(encoders.NAMES) + len(config_lib.OBJECTIVES) - 2
  assert len(rows) == len(set(rows)) == others + 1
  for cell in cells:
    config_lib.check(cell.config)
  assert config == config_lib.demo("imu_video_text")
  with pytest.raises(ValueError, match="--seeds is 0"):
    suite.cells(config, 0)


def test_broken_cell_is_told_and_finished_ones_are_not_run_again(ran, tmp_path):
  config = config_lib.demo("imu_video_text")
  first = suite.run(tmp_path, config, seeds=2)
  assert list(first["failed"]) == ["encoder bilstm/seed_0"]
  assert first["finished"]
  assert len(ran) == len(suite.cells(config, 2))
  ran.clear()
  again = suite.run(tmp_path, config, seeds=2)
  assert ran == ["encoder bilstm/seed_0"]
  assert again == first
  assert json.loads((tmp_path / "suite.json").read_text()) == first
  assert "<script" not in (tmp_path / "suite.html").read_text()
  assert "loss is not finite" in (tmp_path / "suite.md").read_text()


def test_tables_have_spread_stars_floors_and_published_rows(ran, tmp_path):
  made = suite.run(tmp_path, config_lib.demo("imu_video_text"), seeds=2)
  text = suite_tables.text(made)
  assert "21.0 ± 1.4" in text
  assert "0.550 ± 0.071" in text
  assert "20.0 *" in text
  assert "transitive" in text
  for name in ("chance", "constant class", "teacher alone", "700", "320"):
    assert name in text
  assert "published: i↔t" in text
  assert "0.319" in text
  assert "33.7" in text
  assert "article not seen" in text
  lines = suite_tables.markdown(made).splitlines()
  grid = [line for line in lines if line.startswith("|")]
  assert all(line.endswith("|") for line in grid)


def test_finished_cell_of_another_recipe_is_refused(tmp_path):
  config = config_lib.demo("imu_video_text")
  cell = suite.cells(config, 1)[0]
  folder = tmp_path / "cells" / cell.name
  folder.mkdir(parents=True)
  other = copy.deepcopy(cell.config)
  other.train.steps += 1
  (folder / "config.json").write_text(config_lib.to_json(other))
  with pytest.raises(suite.OtherOptionsError, match="another config"):
    suite._finish(tmp_path, cell, True)


def test_published_numbers_are_shares_with_a_source():
  for result in paper_results.RECOGNITION + paper_results.RETRIEVAL:
    assert result.source
    assert all(0 < v < 1 for v in result.values.values())
  assert np.isclose(605 / 1261, 0.4798, atol=1e-4)
