"""The suite's cells, that it goes on, that one broken cell costs no other."""

import collections
import copy
import json
import pathlib

import jax
import numpy as np
import pytest

from imu2clip_jax import config as config_lib
from imu2clip_jax import paper_results, run_files, suite, suite_tables, train
from imu2clip_jax.models import encoders

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def document(seed=0, dataset="ego4d_imu"):
  block = {"R@1": 0.02, "R@10": 0.2 + 0.02 * seed, "R@50": 0.5, "MRR": 0.1}
  block |= {f"chance_{name}": 0.01 for name in list(block)}
  block |= {"gallery": 700, "trained": True}
  block["interval"] = {"R@10": [0.15, 0.25]}
  scores = {"macro_f1": 0.5 + 0.1 * seed, "accuracy": 0.6, "n": 9}
  scores |= {"constant_macro_f1": 0.05, "constant_accuracy": 0.3}
  scores["per_class"] = {"walks": {"f1": 0.4, "support": 9}}
  return {
    "dataset": dataset,
    "encoder": {"preset": "official"},
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

  def finish(workdir, cell, fine_tune, made_from):
    folder = workdir / "cells" / cell.name
    if (folder / "metrics.json").is_file():
      return json.loads((folder / "metrics.json").read_text())
    names.append(cell.name)
    if cell.row == "encoder bilstm":
      raise FloatingPointError("loss is not finite")
    folder.mkdir(parents=True)
    log = [{"step": 9}, {"step": 19, "step_ms": 30.0}]
    log.append({"step": 29, "step_ms": 50.0 + 2 * cell.config.seed})
    lines = "".join(json.dumps(line) + "\n" for line in log)
    (folder / "train.jsonl").write_text(lines)
    found = document(cell.config.seed)
    (folder / "metrics.json").write_text(json.dumps(found))
    return found

  meta = {"dataset": "ego4d_imu", "teacher": {"name": "clip", "dim": 64}}
  look = (meta, {}, [], list(config_lib.VARIANTS))
  monkeypatch.setattr(suite, "_finish", finish)
  monkeypatch.setattr(suite, "_look", lambda _: look)
  return names


@pytest.fixture
def cheap(monkeypatch):
  """Traces no encoder for what it costs."""
  cost = {"parameters": 1, "mflop": 1.0}
  monkeypatch.setattr(suite, "_cost", lambda *_: cost)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("recipe", ["demo", "classyglass_imu_text_i2c"])
def test_cells_are_variants_by_seed_and_every_baseline(recipe):
  config = config_lib.demo("imu_video_text")
  if recipe != "demo":
    config = train.load_config(CONFIGS / f"{recipe}.py")
  before = config_lib.to_json(config)
  cells = suite.cells(config, 3)
  assert sum(c.group == "variants" for c in cells) == 9
  rows = collections.Counter(c.row for c in cells if c.group == "baselines")
  others = len(encoders.NAMES) + len(config_lib.OBJECTIVES) - 2
  assert len(rows) == others + 1
  for row, seeds in rows.items():
    three = row.split()[-1] in ("official", "official_swapped", "i2c")
    assert seeds == (3 if three else 1), row
  for cell in cells:
    config_lib.check(cell.config)
  for encoder, window_s in {
    (encoders.from_config(c.config.encoder, 64), c.config.encoder.window_s)
    for c in cells
  }:
    # Sizes fit: nothing is computed.
    encoder.param_shapes(round(encoder.rate_hz * window_s))
  assert config_lib.to_json(config) == before
  with pytest.raises(ValueError, match="--seeds is 0"):
    suite.cells(config, 0)


@pytest.mark.usefixtures("cheap")
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


@pytest.mark.usefixtures("cheap")
def test_tables_have_spread_stars_floors_and_published_rows(ran, tmp_path):
  made = suite.run(tmp_path, config_lib.demo("imu_video_text"), seeds=2)
  text = suite_tables.text(made)
  assert "21.0 ± 1.4" in text
  assert "0.550 ± 0.071" in text
  assert "20.0 (15.0-25.0) *" in text
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
  title = "A wearer's windows named together"
  assert title not in text
  for seed, found in enumerate(made["rows"][0]["documents"]):
    scores = found["recognition"]["fine_tune"] | {"macro_f1": 0.7 + 0.1 * seed}
    found["recognition"]["fine_tune_agreed"] = scores
  named = {t["title"]: t for t in suite_tables.all_tables(made)}
  assert "fine-tune, agreed F1" not in named["Table 3: recognition"]["columns"]
  rows = {row[0]: row[1:] for row in named[title]["rows"]}
  assert list(rows) == [
    f"{made['rows'][0]['name']} (2 seeds)",
    "constant class",
  ]
  place = named[title]["columns"].index("fine-tune, agreed F1")
  assert [row[place] for row in rows.values()] == ["0.750 ± 0.071", "0.050"]


def test_encoders_are_compared_with_their_cost(ran, tmp_path):
  config = config_lib.demo("imu_video_text")
  made = suite.run(tmp_path, config, seeds=2)
  compared = [row for row in made["rows"] if row["compares_encoders"]]
  # The variant itself stands for its encoder; one broken cell has no row.
  assert len(compared) == len(encoders.NAMES) - 1
  assert compared[0]["name"] == config.variant
  table = next(
    t for t in suite_tables.all_tables(made) if t["title"] == "Encoders"
  )
  assert len(table["rows"]) == len(compared)
  first = dict(zip(table["columns"], table["rows"][0][1:], strict=True))
  encoder = encoders.from_config(config.encoder, 64)
  params = jax.tree.leaves(encoder.param_shapes(250))
  assert first["parameters"] == f"{sum(x.size for x in params):,}"
  assert first["MFLOP"] == f"{encoder.flops(250) / 1e6:.1f}"
  assert first["step, ms"] == "40"
  assert first["fine-tuned F1"] == "0.550 ± 0.071"
  assert first["text → IMU R@10"] == "21.0 ± 1.4"


def test_finished_cell_of_another_recipe_is_refused(tmp_path):
  config = config_lib.demo("imu_video_text")
  cell = suite.cells(config, 1)[0]
  folder = tmp_path / "cells" / cell.name
  folder.mkdir(parents=True)
  other = copy.deepcopy(cell.config)
  other.train.steps += 1
  (folder / "config.json").write_text(config_lib.to_json(other))
  with pytest.raises(run_files.OtherRunError, match="another config"):
    suite._finish(tmp_path, cell, True, {})


def test_numbers_of_another_data_set_or_teacher_are_not_given(tmp_path):
  cell = suite.cells(config_lib.demo("imu_video_text"), 1)[0]
  made_from = {"teacher": {"name": "t", "dim": 8, "fingerprint": "a"}}
  made_from |= {"data": ["a"], "cache_dir": ""}
  folder = tmp_path / "cells" / cell.name
  folder.mkdir(parents=True)
  run_files.write(folder, cell.config, made_from)
  (folder / "metrics.json").write_text("never read")
  other = made_from | {"data": ["b"]}
  with pytest.raises(run_files.OtherRunError, match="other windows"):
    suite._finish(tmp_path, cell, True, other)
  other = made_from | {"teacher": made_from["teacher"] | {"fingerprint": "b"}}
  with pytest.raises(run_files.OtherRunError, match="towards teacher"):
    suite._finish(tmp_path, cell, True, other)


def lacking(document, *keys):
  """Yield the document without each key: older versions did not write it."""
  for key in keys:
    yield {k: v for k, v in document.items() if k != key}


def measured_as_asked(cell):
  return {
    "split": cell.config.data.test_split,
    "step": cell.config.train.steps,
    "protocol": "full",
    "labels": [],
  }


def test_a_cell_is_finished_when_all_that_is_asked_was_measured(
  tmp_path, monkeypatch
):
  cell = suite.cells(config_lib.demo("imu_video_text"), 1)[0]
  whole = measured_as_asked(cell) | {
    "retrieval_official": {},
    "recognition": {"linear_probe": {}, "fine_tune": {}},
  }
  named = {"recognition": {"linear_probe": {}}}
  path = tmp_path / "cells" / cell.name / "metrics.json"
  path.parent.mkdir(parents=True)

  def finish(document, fine_tune=True):
    path.write_text(json.dumps(document))
    return suite._finish(tmp_path, cell, fine_tune, {})

  assert finish(whole) == whole
  assert finish(whole | named, fine_tune=False) == whole | named
  assert finish(whole | {"recognition": {}})["recognition"] == {}

  def train_again(*_):
    raise NotADirectoryError("asked again")

  monkeypatch.setattr(suite.train_lib, "train", train_again)
  for other in (
    *lacking(whole, "retrieval_official", "labels"),
    whole | named,
    whole | {"split": "validation"},
    whole | {"protocol": "official"},
    whole | {"labels": ["walking"]},
    whole | {"step": 10},
  ):
    with pytest.raises(NotADirectoryError, match="asked again"):
      finish(other)


def test_another_data_sets_row_is_measured_as_the_suite_asks(
  tmp_path, monkeypatch
):
  cell = suite.cells(config_lib.demo("imu_video_text"), 1)[0]
  asked = measured_as_asked(cell)
  monkeypatch.setattr(suite.evaluate, "folder_of", lambda *_: tmp_path)
  monkeypatch.setattr(suite.evaluate, "evaluate", lambda *_, **__: "anew")

  def transfer(document):
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    return suite._transfer(tmp_path, cell, "other")

  assert transfer(asked) == asked
  for other in (
    *lacking(asked, "labels"),
    asked | {"split": "train"},
    asked | {"protocol": "official"},
    asked | {"labels": ["walking"]},
    asked | {"step": 10},
  ):
    assert transfer(other) == "anew"


def test_published_numbers_are_shares_with_a_source():
  for result in paper_results.RECOGNITION + paper_results.RETRIEVAL:
    assert result.source
    assert all(0 < v < 1 for v in result.values.values())
  assert np.isclose(605 / 1261, 0.4798, atol=1e-4)
