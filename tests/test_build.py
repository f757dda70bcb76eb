"""`imu2clip build`: from a dataset folder and raw files to windows."""

import json
import pathlib

import numpy as np
import pytest

from imu2clip_jax import build, cli
from imu2clip_jax.data import builder

DATASETS = pathlib.Path(__file__).parents[1] / "datasets"
FAST = ["--rate_hz=20", "--window_s=2", "--stride_s=2", "--workers=0"]


@pytest.fixture
def raw(tmp_path):
  folder = tmp_path / "raw"
  folder.mkdir()
  t = np.arange(500) / 50
  rows = np.c_[t, np.sin(t), np.cos(t), np.full(500, 9.8), t, -t, t]
  for name in "abc":
    np.savetxt(
      folder / f"{name}.csv", rows, "%.5f", ",",
      header="t_s,ax,ay,az,gx,gy,gz", comments="",
    )  # fmt: skip
  (folder / "recordings.csv").write_text(
    "file,wearer,split,label\n"
    "a.csv,ann,train,walking\nb.csv,bo,validation,\nc.csv,cy,test,running\n"
  )
  return folder


def run(*words):
  return cli.main(["build", *map(str, words)])


def test_a_folder_of_csv_becomes_windows(raw, tmp_path, capsys):
  code = run(
    DATASETS / "csv_imu", f"--raw={raw}", f"--data_dir={tmp_path}", *FAST,
    "--with", "labels_as_texts=true",
  )  # fmt: skip
  out = capsys.readouterr().out
  assert code == 0
  assert out.splitlines()[0].split() == ["split", "kept"]
  assert out.splitlines()[1].split() == ["train", "5"]
  record = builder.open_windows(tmp_path, "train")[0]
  assert record["imu"].shape == (40, 6)
  assert (record["label"], record["texts"]) == ("walking", ["walking"])
  about = builder.describe(tmp_path)["about"]
  assert about["reader"] == {"labels_as_texts": True}


@pytest.mark.parametrize(
  ("reader", "words", "value"),
  [
    ("csv_imu", "labels_as_texts=False", False),
    ("csv_imu", "labels_as_texts=TRUE", True),
    ("csv_imu", 'test_wearers=["ann", 7]', ["ann", 7]),
    ("csv_imu", "test_wearers=[]", []),
    ("csv_imu", "test_wearers=null", None),
    ("csv_imu", "test_wearers=bo", ["bo"]),
    ("csv_imu", 'test_wearers="bo"', ["bo"]),
    ("csv_imu", "test_wearers=12", ["12"]),
    ("csv_imu", "test_wearers=1e3", ["1e3"]),
    ("nymeria_imu", "narrations=atomic_action", ["atomic_action"]),
    ("aria_imu", "min_confidence=1", 1),
    ("ego4d_imu", "wearer_only=False", False),
    ("ego4d_imu", "checkout=2024", "2024"),
    ("synthetic_imu", "test_wearers=4", 4),
  ],
)
def test_a_readers_option_is_what_its_signature_says(
  reader, words, value, monkeypatch
):
  given = {}
  monkeypatch.setattr(
    build, "build", lambda *_, reader_options, **__: given | reader_options
  )
  monkeypatch.setattr(build, "table", given.update)
  assert run(DATASETS / reader, "--data_dir=x", "--with", words) == 0
  assert given == {words.partition("=")[0]: value}


def test_json_is_one_document_on_stdout(raw, tmp_path, capsys):
  words = [
    DATASETS / "csv_imu",
    f"--raw={raw}",
    f"--data_dir={tmp_path}",
    *FAST,
  ]
  assert run(*words, "--json") == 0
  first = json.loads(capsys.readouterr().out)
  assert first["splits"] == {"train": 5, "validation": 5, "test": 5}
  assert run(*words, "--json") == 0
  again = json.loads(capsys.readouterr().out)
  assert again == first | {"already_built": True}


def test_what_was_dropped_is_shown(raw, tmp_path, capsys):
  with (raw / "recordings.csv").open("a") as table:
    table.write("d.csv,dee,train,\ne.csv,eve,train,\n")
  (raw / "d.csv").write_text("t_s,ax\n0,1\n")
  lines = (raw / "a.csv").read_text().splitlines()
  (raw / "e.csv").write_text("\n".join(lines[:120] + lines[200:]) + "\n")
  words = [
    DATASETS / "csv_imu",
    f"--raw={raw}",
    f"--data_dir={tmp_path}",
    *FAST,
  ]
  assert run(*words) == 0
  out = capsys.readouterr().out.splitlines()
  assert out[0].split() == ["split", "kept", "low", "coverage"]
  assert out[1].split() == ["train", "9", "1"]
  assert any(line.startswith("left out d: ValueError:") for line in out)


def test_another_name_stands_beside(raw, tmp_path):
  words = [
    DATASETS / "csv_imu",
    f"--raw={raw}",
    f"--data_dir={tmp_path}",
    *FAST,
  ]
  assert run(*words) == run(*words, "--name=mine") == 0
  assert builder.describe(tmp_path / "mine")["name"] == "mine"


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["csv_imu"], "csv_imu needs --raw"),
    (["csv_imu", "--raw=RAW", "--with", "oops"], "expected KEY=VALUE"),
    (["csv_imu", "--raw=RAW", "--with", "spilt=1"], "keyword argument 'spilt'"),
    (
      ["csv_imu", "--raw=RAW", "--with", "labels_as_texts=no"],
      "expected labels_as_texts=true or labels_as_texts=false",
    ),
    (["csv_imu", "--raw=RAW", "--with", "test_wearers=12"], "no wearer '12'"),
    (["synthetic_imu", "--with", "seed=one"], "seed=one: expected a whole"),
    (["csv_imu", "--raw=RAW", "--rule=often"], "rule is 'often'"),
    (["csv_imu", "--raw=RAW", "--window_s=60"], "no window fits"),
    (["csv_imu", "--raw=RAW", "--name=My Set"], "'My Set'"),
    (["csv_imu", "--raw=gone"], "gone"),
    (["gone_imu", "--raw=RAW"], "no dataset builder"),
  ],
)
def test_mistakes_are_one_line(raw, tmp_path, capsys, words, message):
  folder, *others = words
  others = [word.replace("RAW", str(raw)) for word in others]
  data_dir = tmp_path / "data"
  code = run(
    DATASETS / folder, f"--data_dir={data_dir}", "--workers=0", *others
  )
  lines = [
    line for line in capsys.readouterr().err.splitlines() if "error" in line
  ]
  assert code == 1
  assert len(lines) == 1
  assert message in lines[0]
  assert not list(data_dir.rglob("*.*"))


def test_dataset_folders_name_a_reader_and_options():
  for folder in sorted(DATASETS.glob("*_imu")):
    spec = build.load(folder)
    assert spec["NAME"] == folder.name
    assert callable(spec["FIND"])
    build.windows.Options(**spec["WINDOWS"])
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}")


def test_classyglass_is_built_from_arrays(samples, tmp_path):
  summary = build.build(
    DATASETS / "classyglass_imu",
    samples / "classyglass",
    tmp_path,
    reader_options={
      "classes": "all", "test_wearers": [24], "validation_wearers": [25]
    },
    window_options={"rate_hz": 10.0, "stride_s": 60.0},
    workers=0,
  )  # fmt: skip
  assert not summary["failed"]
  meta = builder.describe(tmp_path)
  assert len(meta["label_names"]) == 15
  assert meta["about"]["licence"] == "CC BY 4.0"


def test_the_built_in_world_is_built_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  summary = build.build(
    DATASETS / "synthetic_imu",
    None,
    "data",
    reader_options={
      "train_wearers": 1,
      "validation_wearers": 1,
      "test_wearers": 1,
      "recordings_per_wearer": 1,
      "duration_s": 30.0,
    },
  )
  assert not summary["failed"]
  record = builder.open_windows("data", "train")[0]
  assert record["imu"].shape == (250, 6)
  assert record["frames"]
