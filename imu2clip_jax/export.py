"""`imu2clip export`: a trained encoder as a folder that others can use."""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from imu2clip_jax import command, exported, pretrained, tables, trees

# What README.md of an export shows, and what the tests run from it.
CONSUMER = """\
import pathlib

import jax.export  # pip install jax flatbuffers
import numpy as np

folder = pathlib.Path("FOLDER")
program = (folder / "encoder.stablehlo").read_bytes()
encoder = jax.export.deserialize(bytearray(program))
imu = np.zeros((3, {num_samples}, 6), np.float32)  # your windows
measured = np.ones((3, 2), bool)  # accelerometer, gyroscope
embeddings = encoder.call(imu, measured)  # [3, {dim}], unit norm
"""


def export(workdir: str | pathlib.Path, out: str | pathlib.Path) -> dict:
  """Write a run's newest whole checkpoint as an export; see `exported`.

  Args:
    workdir: of `imu2clip train`. Its metrics.json, if there, goes into the
      model card.
    out: the new folder; it may exist if it is empty.

  Returns:
    {"out", "embed_dim", "rate_hz", "window_s", "parameters", "files": name ->
    bytes, "platforms"}.

  Raises:
    FileNotFoundError: no run there, or it has no whole checkpoint.
    ValueError: `out` is in use, or config and checkpoint do not fit.
  """
  workdir, out = pathlib.Path(workdir), pathlib.Path(out)
  exported.check_free(out)
  loaded = pretrained.load_run(workdir)
  card = model_card(workdir, loaded)
  exported.write(
    out, loaded.encoder, loaded.params, loaded.config, loaded.teacher, card
  )
  files = [path for path in out.rglob("*") if path.is_file()]
  return {
    "out": str(out),
    "embed_dim": loaded.dim,
    "rate_hz": loaded.rate_hz,
    "window_s": loaded.window_s,
    "parameters": trees.count(loaded.params),
    "files": {
      path.relative_to(out).as_posix(): path.stat().st_size
      for path in sorted(files)
    },
    "platforms": list(exported.PLATFORMS),
  }


def model_card(workdir: pathlib.Path, loaded: pretrained.ImuEmbedder) -> str:
  """Return README.md of an export: what it is, from what, how good, for what.

  Args:
    workdir: its metrics.json is quoted if there, and of this checkpoint.
    loaded: the run.
  """
  num_samples = round(loaded.window_s * loaded.rate_hz)
  use = CONSUMER.format(num_samples=num_samples, dim=loaded.dim)
  parts = [
    "---\nlibrary_name: imu2clip-jax\n"
    "tags: [imu, accelerometer, gyroscope, clip, retrieval]\n---",
    f"# An IMU encoder in the space of {loaded.teacher['name']}",
    "Accelerometer and gyroscope windows become embeddings that can be "
    "compared with a frozen CLIP's embeddings of text and images. Trained with "
    "imu2clip_jax after IMU2CLIP (Moon et al. 2023).",
    _input(loaded, num_samples),
    "## Use",
    _code(
      "import imu2clip_jax\n\n"
      'encoder = imu2clip_jax.load_imu_encoder("FOLDER")  # or "hf:..."\n'
      f"encoder.embed(windows, rate_hz=200.0)  # [N, T, 6] -> [N, {loaded.dim}]"
    ),
    "Without that package and without Flax, by JAX alone, for windows of "
    f"{num_samples} samples:",
    _code(use),
    "JAX promises to read `encoder.stablehlo` for six months of later "
    "releases; `model.safetensors` has no such end.",
    "## Training",
    _training(workdir, loaded),
    "## Measured",
    _measured(workdir, loaded.step),
    "## For what, and for what not",
    _limits(loaded),
  ]
  return "\n\n".join(parts) + "\n"


def _input(loaded, num_samples):
  teacher = loaded.teacher
  rows = [
    ["", ""],
    [
      "input",
      f"windows of {loaded.window_s:g} s, {num_samples} samples at "
      f"{loaded.rate_hz:g} Hz (other rates are resampled)",
    ],
    ["channels", "ax ay az gx gy gz: m/s² with gravity, rad/s"],
    ["axes", "head: x left, y back, z up"],
    ["output", f"{loaded.dim} numbers, unit norm"],
    ["parameters", f"{trees.count(loaded.params):,}"],
    ["teacher", f"{teacher['name']}, frozen"],
    [
      "fingerprint of its weights and preprocessing",
      f"`{teacher['fingerprint']}`",
    ],
  ]
  return _table(rows)


def _training(workdir, loaded):
  config = loaded.config
  c, loss, optim = config.encoder, config.loss, config.optim
  rows = [
    ["", ""],
    ["data", _data(workdir)],
    ["pairs", config.variant],
    ["encoder", f"{c.preset}, {c.hidden} states, {c.width} channels"],
    ["loss", f"{loss.objective}, logit scale from {loss.initial_scale:g}"],
    [
      "optimizer",
      f"Adam, learning rate {optim.learning_rate:g}, "
      f"{optim.schedule}, {optim.warmup_steps} steps of warm-up",
    ],
    ["steps", f"{config.train.steps:,} of {config.train.batch_size} windows"],
    ["seed", str(config.seed)],
  ]
  if config.data.held_out_labels:
    rows.append(
      ["left out of training", ", ".join(config.data.held_out_labels)]
    )
  return _table(rows) + "\n\nEvery option stands in `config.json`."


def _data(workdir):
  run = json.loads((workdir / "run.json").read_text())
  meta = pathlib.Path(run["cache_dir"]) / "meta.json"
  if not meta.is_file():
    return "not known: the training cache is gone"
  meta = json.loads(meta.read_text())
  sizes = ", ".join(f"{n:,} {split}" for split, n in meta["splits"].items())
  return f"{meta['dataset']}: {sizes} windows"


def _measured(workdir, step):
  path = workdir / "metrics.json"
  if not path.is_file():
    return "Nothing was measured before this export (`imu2clip evaluate`)."
  document = json.loads(path.read_text())
  measured = document.get("step")
  if measured != step:
    which = "an unnamed one" if measured is None else f"checkpoint {measured}"
    return (
      f"This is checkpoint {step}, and what was measured is {which}: run "
      "`imu2clip evaluate` and export again to see its numbers here."
    )
  rows = [["retrieval (R@k in %)", *tables.COLUMNS, "gallery"]]
  for name, block in tables.directions(document):
    cells = [tables.number(c, block[c]) for c in tables.COLUMNS]
    rows.append([name, *cells, str(block["gallery"])])
  rows += tables.chance_rows(document)
  parts = [f"{document['dataset']}, {tables.subtitle(document)}.", _table(rows)]
  if tables.has_untrained(document):
    parts.append(f"\\* {tables.UNTRAINED}")
  named = list(tables.recognitions(document))
  if named:
    fields = ("macro_f1", "accuracy", "constant_macro_f1", "constant_accuracy")
    rows = [["recognition", *(f.replace("_", " ") for f in fields), "windows"]]
    for name, scores in named:
      cells = [tables.number(f, scores[f]) for f in fields]
      rows.append([name, *cells, str(scores["n"])])
    parts += [_table(rows), f"constant: {tables.CONSTANT}."]
  parts += [f"Note: {note}." for note in document["notes"]]
  return "\n\n".join(parts)


def _limits(loaded):
  return (
    "For finding moments of motion by text or picture, for naming activities "
    "by text, and as features of a classifier. The teacher's words and "
    f"pictures must be embedded by {loaded.teacher['name']} itself, the one "
    "with the fingerprint above; any other CLIP spans another space.\n\n"
    "Sensors worn elsewhere than in the training data, other mountings and "
    "activities never trained are not covered by the numbers above, nor is any "
    "use in which a wrong answer can harm somebody. Motion can tell what a "
    "person does, and perhaps who it is: ask the wearer. No licence is given "
    "here: the training data's own terms may bind the weights."
  )


def _table(rows):
  head, *body = rows
  lines = [head, ["---"] * len(head), *body]
  return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _code(text):
  return f"```python\n{text.rstrip()}\n```"


def parser() -> argparse.ArgumentParser:
  """Return the verb's argument parser."""
  p = command.parser(
    "export",
    "Write the newest whole checkpoint of a run as one folder: config.json, "
    "model.safetensors, an orbax tree, a StableHLO program and a model card.",
    "imu2clip export --workdir=runs/demo/imu_text --out=my_encoder",
  )
  p.add_argument("--workdir", help="the run's folder")
  p.add_argument("--out", help="the new folder")
  p.add_argument(
    "--json", action="store_true", help="what was written, as JSON"
  )
  return p


def main(argv: Sequence[str] | None = None) -> int:
  """Run the verb."""
  args = parser().parse_args(argv)
  for name in ("workdir", "out"):
    if not getattr(args, name):
      raise ValueError(f"--{name} is missing; see imu2clip export --help")
  written = export(args.workdir, args.out)
  if args.json:
    command.print_json(written)
    return 0
  print(
    f"{written['out']}: {written['parameters']:,} parameters, windows of "
    f"{written['window_s']:g} s at {written['rate_hz']:g} Hz -> "
    f"{written['embed_dim']} numbers"
  )
  for name, size in written["files"].items():
    if not name.startswith(exported.TREE + "/"):
      print(f"  {name:<18} {size:>9,} bytes")
  tree = sum(
    size
    for name, size in written["files"].items()
    if name.startswith(exported.TREE + "/")
  )
  print(f"  {exported.TREE + '/':<18} {tree:>9,} bytes")
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
