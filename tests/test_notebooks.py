"""The notebooks run as a reader runs them, very small, and are kept clean.

Three go on from one small run, a minute of CPU, and so are marked slow.
"""

import ast
import base64
import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NAMES = [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]


def cells(name, kind):
  notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
  return [
    "".join(cell["source"])
    for cell in notebook["cells"]
    if cell["cell_type"] == kind
  ]


def run(name, workdir):
  """Execute a notebook at smoke size; returns (printed text, pictures)."""
  nbformat = pytest.importorskip("nbformat")
  nbclient = pytest.importorskip("nbclient")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("IMU2CLIP_SMOKE", "1")
    patch.setenv("IMU2CLIP_WORKDIR", str(workdir))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
      notebook,
      timeout=300,
      kernel_name="python3",
      resources={"metadata": {"path": str(workdir)}},
    )
    client.execute()
  outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
  text = "".join(
    o.get("text", "") for o in outputs if o.get("name") == "stdout"
  )
  pngs = [
    o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})
  ]
  return text, [Image.open(io.BytesIO(base64.b64decode(png))) for png in pngs]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
  """(workdir, what the first notebook printed); the others go on from it."""
  workdir = tmp_path_factory.mktemp("notebooks")
  text, _ = run("01_quickstart", workdir)
  return workdir, text


def assert_drawn(image):
  """A figure with lines in it, wide enough for a column of a paper."""
  assert image.width >= 700
  assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.slow
def test_quickstart_measures_and_asks(quickstart):
  workdir, text = quickstart
  assert (workdir / "imu_video_text" / "report.html").is_file()
  assert "chance" in text
  assert text.count("5. ") >= 3


def test_windows_are_shown(tmp_path):
  text, images = run("02_look_at_windows", tmp_path)
  assert "m/s²" in text
  assert len(images) == 2
  for image in images:
    assert_drawn(image)


@pytest.mark.slow
def test_recall_curves_are_drawn(quickstart):
  text, images = run("03_recall_curves", quickstart[0])
  assert "chance" in text
  assert len(images) == 2
  for image in images:
    assert_drawn(image)


@pytest.mark.slow
def test_the_export_agrees_and_streams(quickstart):
  text, images = run("04_export", quickstart[0])
  differences = [
    float(line.split()[-1]) for line in text.splitlines() if "at most" in line
  ]
  assert len(differences) == 3
  assert max(differences) <= 1e-6
  assert "(3, 64)" in text
  assert "35 hops" in text
  assert_drawn(images[0])


def test_the_four_are_here():
  assert NAMES == [
    "01_quickstart",
    "02_look_at_windows",
    "03_recall_curves",
    "04_export",
  ]


@pytest.mark.parametrize("name", NAMES)
def test_each_installs_in_its_first_cell_alike(name):
  first, *others = cells(name, "code")
  assert first == cells("01_quickstart", "code")[0]
  assert "imu2clip-jax" in first
  assert "cwd().parent" in first
  assert not any(
    "pip" in cell.replace("pip install jax", "") for cell in others
  )


@pytest.mark.parametrize("name", NAMES)
def test_each_is_stored_without_outputs(name):
  notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
  for cell in notebook["cells"]:
    assert not cell.get("outputs")
    assert cell.get("execution_count") is None
    assert set(cell["metadata"]) == set()


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_document(name):
  words, code = cells(name, "markdown"), cells(name, "code")
  assert words[0].startswith("# ")
  assert len(words) >= 5
  for cell in code:
    ast.parse(cell)
    assert max(map(len, cell.splitlines())) <= 88


def test_the_install_cell_falls_back_to_the_checkout(monkeypatch):
  import importlib.util
  import subprocess

  asked = []

  def fake(command, **options):
    asked.append(command[-1])
    return subprocess.CompletedProcess(command, len(asked) == 1)

  monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
  monkeypatch.setattr(subprocess, "run", fake)
  monkeypatch.chdir(FOLDER)
  exec(cells("01_quickstart", "code")[0], {})
  assert asked == ["imu2clip-jax", str(FOLDER.parent)]
