"""An export is the live encoder, whole, in every form, without this package."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from imu2clip_jax import (
  command,
  config,
  embed,
  export,
  exported,
  pretrained,
  train,
)
from imu2clip_jax.data import builder
from imu2clip_jax.models import encoders, published

SAMPLES, DIM = 150, 8


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, write_cache):
  """A run of two steps with a measurement that somebody made of it."""
  folder = tmp_path_factory.mktemp("run")
  cache_dir = write_cache(folder / "cache", num_samples=SAMPLES, dim=DIM)
  c = config.default()
  c.data.dir = "/home/jane_doe/secret"
  c.teacher.path = "/home/jane_doe/clip"
  c.encoder.preset = "official"
  c.encoder.rate_hz = 30.0
  c.encoder.hidden = 8
  c.encoder.width = 8
  c.train.batch_size = 8
  c.train.steps = 2
  with pytest.MonkeyPatch.context() as patch:
    info = {"path": c.data.dir, "splits": {"train": 32}}
    patch.setattr(builder, "describe", lambda _: info)
    patch.setattr(embed, "ensure_cache", lambda _: cache_dir)
    train.train(c, folder / "run")
  return folder / "run"


@pytest.fixture(scope="module")
def live(workdir):
  return pretrained.load_imu_encoder(workdir)


@pytest.fixture(scope="module")
def folder(workdir, tmp_path_factory):
  out = tmp_path_factory.mktemp("export") / "out"
  export.export(workdir, out)
  return out


@pytest.fixture
def copy(folder, tmp_path):
  """An export that a test may damage."""
  return shutil.copytree(folder, tmp_path / "copy")


def windows(rows, num_samples=SAMPLES, seed=0):
  rng = np.random.default_rng(seed)
  return (3 * rng.normal(size=(rows, num_samples, 6))).astype(np.float32)


@pytest.mark.parametrize(
  "form", ["", "params", "encoder.stablehlo", "model.safetensors"]
)
def test_every_form_is_the_live_encoder(folder, live, form):
  loaded = pretrained.load_imu_encoder(folder / form)
  assert (loaded.dim, loaded.rate_hz, loaded.window_s) == (DIM, 30.0, 5.0)
  assert loaded.teacher == live.teacher
  imu = windows(3)
  sensors = np.array([[1, 1], [1, 0], [0, 1]], bool)
  for mask in (None, sensors):
    np.testing.assert_allclose(
      loaded.embed(imu, 30.0, mask), live.embed(imu, 30.0, mask), atol=1e-6
    )
  fast = windows(2, 2 * SAMPLES)
  np.testing.assert_allclose(
    loaded.embed(fast, 60.0), live.embed(fast, 60.0), atol=1e-6
  )


@pytest.mark.parametrize("form", ["", "params"])
def test_parameters_come_back_bit_by_bit(folder, live, form):
  loaded = pretrained.load_imu_encoder(folder / form)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, live.params)
  long = windows(2, 200)
  for normalize in (True, False):
    np.testing.assert_allclose(
      loaded.embed(long, 30.0, normalize=normalize),
      live.embed(long, 30.0, normalize=normalize),
      atol=1e-6,
    )


def test_the_program_says_what_it_cannot_do(folder):
  loaded = pretrained.load_imu_encoder(folder / "encoder.stablehlo")
  with pytest.raises(ValueError, match=r"windows of \[150, 6\] at 30 Hz"):
    loaded.embed(windows(2, 200), 30.0)
  with pytest.raises(ValueError, match="unit norm only"):
    loaded.embed(windows(2), 30.0, normalize=False)
  bad = windows(2)
  bad[1, 3, 2] = np.nan
  with pytest.raises(ValueError, match="window 1 holds NaN"):
    loaded.embed(bad, 30.0)


def test_the_card_s_program_runs_without_flax_and_without_us(
  folder, live, tmp_path
):
  blocks = re.findall(
    r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL
  )
  (consumer,) = [block for block in blocks if "deserialize" in block]
  assert len([line for line in consumer.splitlines() if line.strip()]) <= 10
  imu = windows(3)
  np.save(tmp_path / "imu.npy", imu)
  consumer = consumer.replace("FOLDER", str(folder)).replace(
    f"np.zeros((3, {SAMPLES}, 6), np.float32)",
    f"np.load({str(tmp_path / 'imu.npy')!r})",
  )
  code = (
    "import sys\n"
    "for name in ('flax', 'imu2clip_jax', 'orbax', 'safetensors'):\n"
    "  sys.modules[name] = None  # its import now fails\n"
    f"{consumer}\nnp.save({str(tmp_path / 'out.npy')!r}, embeddings)\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
  np.testing.assert_allclose(
    np.load(tmp_path / "out.npy"), live.embed(imu, 30.0), atol=1e-6
  )


def test_the_program_serves_every_platform_and_number_of_windows(folder):
  program = (folder / "encoder.stablehlo").read_bytes()
  encoder = jax.export.deserialize(bytearray(program))
  assert encoder.platforms == ("cpu", "cuda", "tpu")
  for rows in (1, 2, 7):
    mask = np.ones((rows, 2), bool)
    assert encoder.call(windows(rows), mask).shape == (rows, DIM)


@pytest.mark.slow
@pytest.mark.parametrize("preset", encoders.NAMES)
def test_every_preset_lowers(preset):
  encoder = encoders.build(preset, 8, rate_hz=200.0)
  num_samples = 1000 if encoder.max_samples is None else encoder.max_samples
  params = encoder.init(jax.random.key(0), num_samples)
  program = exported.to_stablehlo(encoder, params, num_samples)
  call = jax.export.deserialize(bytearray(program)).call
  imu, mask = windows(2, num_samples), np.ones((2, 2), bool)
  np.testing.assert_allclose(
    call(imu, mask), encoder.apply(params, imu, sensor_mask=mask), atol=1e-5
  )


def test_paths_of_this_machine_stay_here(folder):
  package = pathlib.Path(exported.__file__).parent
  words = ["jane_doe", str(package), str(folder.parents[1])]
  for path in folder.rglob("*"):
    for word in words if path.is_file() else ():
      assert word.encode() not in path.read_bytes(), path


def test_the_other_folders_stay_here_too(live, tmp_path):
  c = config.from_json(config.to_json(live.config))
  c.data.mixture_dirs = ("/home/jane_doe/more",)
  c.data.mixture_weights = (0.5, 0.5)
  c.train.compilation_cache_dir = "/home/jane_doe/compiled"
  exported.write(
    tmp_path / "out", live.encoder, live.params, c, live.teacher, "card"
  )
  assert "jane_doe" not in (tmp_path / "out" / "config.json").read_text()
  config.check(pretrained.load_imu_encoder(tmp_path / "out").config)


def test_a_public_teacher_is_named(live, tmp_path):
  c = config.from_json(config.to_json(live.config))
  c.teacher.path = "hf:owner/clip"
  exported.write(
    tmp_path / "out", live.encoder, live.params, c, live.teacher, "card"
  )
  loaded = pretrained.load_imu_encoder(tmp_path / "out")
  assert loaded.config.teacher.path == "hf:owner/clip"


def damage(path):
  """Flip one bit in the middle of a file."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def truncate(path):
  path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("spoil", [damage, truncate])
@pytest.mark.parametrize(
  ("form", "name"),
  [
    ("", "model.safetensors"),
    ("", "config.json"),
    ("encoder.stablehlo", "encoder.stablehlo"),
    ("params", "params"),
  ],
)
def test_a_damaged_export_is_refused(copy, form, name, spoil):
  path = copy / name
  if path.is_dir():
    files = [p for p in path.rglob("*") if p.is_file()]
    path = max(files, key=lambda p: p.stat().st_size)
  spoil(path)
  with pytest.raises(ValueError, match="is not what was exported") as error:
    pretrained.load_imu_encoder(copy / form)
  assert str(path) in str(error.value)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "name", ["model.safetensors", "config.json", "checksums.json"]
)
def test_a_part_that_is_missing_is_named(copy, name):
  (copy / name).unlink()
  with pytest.raises(FileNotFoundError, match=re.escape(name)):
    pretrained.load_imu_encoder(copy)


def test_a_lost_file_of_the_tree_is_named(copy):
  manifest = next((copy / "params").rglob("manifest.ocdbt"))
  manifest.unlink()
  with pytest.raises(ValueError, match=r"manifest\.ocdbt is not what"):
    pretrained.load_imu_encoder(copy / "params")


def reseal(folder):
  """What an honest tool would write after changing a file."""
  (folder / "checksums.json").unlink()
  (folder / "README.md").unlink()
  sums = exported.checkpoint.checksums(folder)
  (folder / "checksums.json").write_text(json.dumps(sums))


@pytest.mark.parametrize(
  ("form", "says"),
  [
    ("", "trunk/conv_0/kernel is"),
    ("params", "parameter trunk/conv_0/kernel is"),
  ],
)
def test_parts_that_do_not_fit_each_other_are_refused(copy, form, says):
  document = json.loads((copy / "config.json").read_text())
  document["run"]["encoder"]["width"] = 12
  (copy / "config.json").write_text(json.dumps(document))
  reseal(copy)
  with pytest.raises(ValueError, match=says):
    pretrained.load_imu_encoder(copy / form)


def test_a_program_of_other_sizes_is_refused(copy):
  document = json.loads((copy / "config.json").read_text())
  document["num_samples"] = 151
  (copy / "config.json").write_text(json.dumps(document))
  reseal(copy)
  with pytest.raises(ValueError, match="maps 150 samples to 8 numbers"):
    pretrained.load_imu_encoder(copy / "encoder.stablehlo")


@pytest.mark.parametrize("key", ["model_type", "format"])
def test_another_format_is_refused(copy, key):
  document = json.loads((copy / "config.json").read_text())
  document[key] = 99
  (copy / "config.json").write_text(json.dumps(document))
  reseal(copy)
  with pytest.raises(ValueError, match="this version reads"):
    pretrained.load_imu_encoder(copy)


def test_the_card_may_be_edited(copy):
  (copy / "README.md").write_text("My words.")
  (copy / ".gitattributes").write_text("*.safetensors filter=lfs")
  pretrained.load_imu_encoder(copy)


def test_the_hub_gives_such_a_folder(folder, live, monkeypatch):
  asked = []

  def download(name):
    asked.append(name)
    return folder

  monkeypatch.setattr(published, "download", download)
  loaded = pretrained.load_imu_encoder("hf:owner/name@main")
  assert asked == ["owner/name@main"]
  imu = windows(2)
  np.testing.assert_allclose(
    loaded.embed(imu, 30.0), live.embed(imu, 30.0), atol=1e-6
  )


def test_the_hub_s_own_client_fetches_what_is_needed(
  folder, tmp_path, monkeypatch
):
  hub = pytest.importorskip("huggingface_hub")

  def snapshot_download(repository, *, revision, allow_patterns):
    # As the hub does: only files that a pattern names.
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
      name = path.relative_to(folder)
      if any(name.match(pattern) for pattern in allow_patterns):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / name)
    return str(tmp_path)

  monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
  assert pretrained.load_imu_encoder("hf:owner/name").dim == DIM
  assert not (tmp_path / "encoder.stablehlo").exists()


def test_a_folder_in_use_is_left_alone(workdir, tmp_path, monkeypatch):
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(ValueError, match="exists already"):
    export.export(workdir, tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
  (tmp_path / "here").mkdir()
  monkeypatch.chdir(tmp_path / "here")
  with pytest.raises(ValueError, match="the folder you are in"):
    export.export(workdir, ".")
  (tmp_path / "link").symlink_to(tmp_path / "here")
  monkeypatch.chdir(tmp_path)
  export.export(workdir, "link")
  assert exported.holds_export(tmp_path / "here")


def test_an_empty_folder_is_filled(workdir, tmp_path):
  (tmp_path / "out").mkdir()
  export.export(workdir, tmp_path / "out")
  assert pretrained.load_imu_encoder(tmp_path / "out").dim == DIM
  assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_is_left_when_writing_fails(workdir, tmp_path, monkeypatch):
  def fail(*_):
    raise OSError("disk full")

  monkeypatch.setattr(exported, "to_stablehlo", fail)
  with pytest.raises(OSError, match="disk full"):
    export.export(workdir, tmp_path / "out")
  assert not list(tmp_path.iterdir())


def test_the_card_tells_what_was_measured(workdir, live, tmp_path):
  retrieval = {"R@1": 0.123, "R@10": 0.5, "R@50": 0.7, "MRR": 0.2}
  chance = {f"chance_{name}": 0.01 for name in retrieval}
  document = {
    "dataset": "random",
    "split": "test",
    "step": 2,
    "counts": {"windows": 12, "wearers": 3},
    "teacher": "random",
    "protocol": "full",
    "seed": 0,
    "retrieval": {
      "text->imu": {**retrieval, **chance, "gallery": 12, "trained": True}
    },
    "recognition": {},
    "notes": ["5 windows are not named"],
  }
  assert "Nothing was measured" in export.model_card(workdir, live)
  other = shutil.copytree(workdir, tmp_path / "run")
  (other / "metrics.json").write_text(json.dumps(document))
  card = export.model_card(other, live)
  assert "| text → IMU | 12.3 | 50.0 | 70.0 | 0.200 | 12 |" in card
  assert "| chance | 1.0 |" in card
  assert "Note: 5 windows are not named." in card
  assert live.teacher["fingerprint"] in card
  assert "random: 32 train, 12 validation, 12 test windows" in card
  for step, says in ((1, "is checkpoint 1"), (None, "is an unnamed one")):
    (other / "metrics.json").write_text(json.dumps(document | {"step": step}))
    card = export.model_card(other, live)
    assert f"This is checkpoint 2, and what was measured {says}:" in card
    assert "12.3" not in card


def test_the_verb(workdir, tmp_path, capsys):
  argv = [f"--workdir={workdir}", f"--out={tmp_path / 'out'}"]
  assert command.run(export.main, argv) == 0
  assert "8 numbers" in capsys.readouterr().out
  assert command.run(export.main, argv) == 1
  assert capsys.readouterr().err.count("\n") == 1
  assert command.run(export.main, ["--out=x"]) == 1
  assert "--workdir is missing" in capsys.readouterr().err
  again = [f"--workdir={workdir}", f"--out={tmp_path / 'b'}", "--json"]
  assert command.run(export.main, again) == 0
  written = json.loads(capsys.readouterr().out)
  assert written["embed_dim"] == DIM
  assert "model.safetensors" in written["files"]
