"""The floors, the file lengths and what must not lie in a folder."""

import ast
import configparser
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "imu2clip_jax"
MAX_LINES = 400

# Module (or folder) -> floor. A file imports only from floors below; on its own
# floor only from those listed before it.
FLOORS = [
  [
    "stamps",
    "resampling",
    "imu",
    "image_motion",
    "schema",
    "axis_types",
    "loss_tiles",
    "losses",
    "ranking",
    "metrics",
    "calibration",
    "paper_results",
    "trees",
    "segmentation",
    "moments",
    "config",
  ],
  [
    "models",
    "recordings",
    "alignment",
    "command",
    "data",
    "distributed",
    "sharding",
    "optim",
  ],
  [
    "train_step",
    "checkpoint",
    "logs",
    "validation",
    "train_loop",
    "run_files",
    "tiny_clip",
    "exported",
    "pretrained",
    "streaming",
    "index",
    "tables",
    "timeline_text",
    "retrieval",
    "logistic",
    "adaptation",
    "recognition",
    "fine_tuning",
    "taught",
    "sources",
    "few_shot",
    "confidence",
    "recognition_tasks",
    "figures",
    "pages",
    "report",
    "suite_tables",
  ],
  [
    "build",
    "embed",
    "runs",
    "train",
    "examples",
    "evaluate",
    "check_sync",
    "export",
    "view",
    "teach",
    "search_page",
    "search",
    "timeline",
  ],
  ["demo", "suite", "cli", "__main__"],
]
PLACE = {
  name: (floor, position)
  for floor, names in enumerate(FLOORS)
  for position, name in enumerate(names)
}
FILES = sorted(PACKAGE.rglob("*.py"))


def top_name(path: pathlib.Path) -> str:
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: pathlib.Path) -> list[str]:
  """Names of the package's modules that a file imports, as top-level names."""
  names = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      parts = node.module.split(".")
      if parts[0] == "imu2clip_jax":
        names += [parts[1]] if parts[1:] else [a.name for a in node.names]
    if isinstance(node, ast.Import):
      for alias in node.names:
        parts = alias.name.split(".")
        if parts[0] == "imu2clip_jax" and parts[1:]:
          names.append(parts[1])
  return names


def external(path: pathlib.Path) -> set[str]:
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
      found.add(node.module.split(".")[0])
    if isinstance(node, ast.Import):
      found |= {alias.name.split(".")[0] for alias in node.names}
  return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.name))
def test_imports_point_downwards(path):
  if path == PACKAGE / "__init__.py":
    return
  here = PLACE[top_name(path)]
  for name in imported(path):
    if name == "__version__" or name == top_name(path):
      continue
    assert PLACE[name] < here, f"{path.name} imports {name} from above"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.name))
def test_file_is_short(path):
  lines = len(path.read_text().splitlines())
  assert lines <= MAX_LINES, f"{path.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.name))
def test_library_needs_no_rival_and_no_outside_folder(path):
  banned = {"torch", "tensorflow", "configs", "datasets", "notebooks", "tests"}
  assert not external(path) & banned


def test_orbax_and_mesh_axes_have_one_place():
  users = {p.name for p in FILES if "orbax" in external(p)}
  assert users == {"checkpoint.py"}
  # The loss takes mesh and axis as arguments, and names neither.
  naming = {p.name for p in FILES if "DATA_AXIS" in p.read_text()}
  assert naming == {"sharding.py"}


def test_only_models_import_flax():
  users = {top_name(p) for p in FILES if "flax" in external(p)}
  assert users <= {"models"}


@pytest.mark.parametrize(
  "folder", ["configs", "datasets", "notebooks", "tests"]
)
def test_outer_folders_are_no_packages(folder):
  assert not (ROOT / folder / "__init__.py").exists()


def test_only_the_package_is_installed():
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg")
  include = setup["options.packages.find"]["include"].split()
  assert include == ["imu2clip_jax", "imu2clip_jax.*"]


def test_readers_and_help_load_without_jax():
  code = (
    "import sys, imu2clip_jax.cli as c, imu2clip_jax.recordings.recording;"
    "c.main(['--help']); assert 'jax' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
