"""A CLIP checkpoint's weights on disk: find them, read them, write a folder.

Read: safetensors, in parts too, and PyTorch's zip archives through a reader
that executes nothing. Written: the folder that Hugging Face's tools read.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

from imu2clip_jax.models import (
  clip,
  clip_config,
  convert,
  preprocess,
  tokenizer,
  torch_archive,
)

WEIGHTS = (
  "model.safetensors",
  "model.safetensors.index.json",
  "open_clip_model.safetensors",
  "pytorch_model.bin",
  "open_clip_pytorch_model.bin",
)


def find_weights(folder: Path) -> Path:
  """Find the weights of a checkpoint folder, safetensors first.

  Raises:
    FileNotFoundError: the folder holds none of the known names.
  """
  for name in WEIGHTS:
    if (folder / name).is_file():
      return folder / name
  raise FileNotFoundError(
    f"{folder}: no CLIP weights; expected one of {', '.join(WEIGHTS)}"
  )


def download(name: str) -> Path:
  """Fetch "owner/name" or "owner/name@revision" from the Hugging Face hub.

  Without a network its local cache is used. Pickled weights are fetched only
  where a repository has no safetensors.

  Raises:
    FileNotFoundError: no such repository, or neither network nor cache.
    ValueError: huggingface_hub is not installed, or the name is malformed.
  """
  try:
    import huggingface_hub
  except ImportError as error:
    raise ValueError(
      f"hf:{name} needs huggingface_hub: pip install huggingface_hub"
    ) from error
  repository, _, revision = name.partition("@")
  patterns = ["*.json", "merges.txt", *WEIGHTS[:3], "model-*.safetensors"]

  def fetch(patterns):
    return Path(
      huggingface_hub.snapshot_download(
        repository, revision=revision or None, allow_patterns=patterns
      )
    )

  try:
    folder = fetch(patterns)
    if not any((folder / weights).is_file() for weights in WEIGHTS):
      folder = fetch([*patterns, *WEIGHTS[3:]])
  except huggingface_hub.errors.HFValidationError as error:
    raise ValueError(f"hf:{name}: {error}") from error
  except OSError as error:
    raise FileNotFoundError(f"hf:{name}: {error}") from error
  return folder


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
  """Open weights as name → array, each read when asked for.

  Raises:
    ValueError: truncated, malformed or of a kind that is not read.
  """
  if path.name.endswith(".index.json"):
    index = clip_config.read_json(path).get("weight_map")
    parts = set(index.values()) if isinstance(index, dict) else set()
    if not parts or any(Path(part).name != part for part in parts):
      raise ValueError(f"{path}: weight_map must name files beside it")
    files = [path.parent / part for part in sorted(parts)]
  elif path.suffix == ".safetensors":
    files = [path]
  elif path.suffix in (".pt", ".pth", ".bin"):
    yield torch_archive.read_state_dict(path)
    return
  else:
    raise ValueError(
      f"{path}: unknown kind of weights; "
      "expected .safetensors, .pt, .pth or .bin"
    )
  with contextlib.ExitStack() as stack:
    yield _Safetensors(stack, files)


class _Safetensors(Mapping):
  """Tensors of one or several files, memory-mapped, copied one at a time."""

  def __init__(self, stack: contextlib.ExitStack, files: list[Path]):
    self._handles = {}
    for path in files:
      if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
      try:
        handle = stack.enter_context(safetensors.safe_open(path, "numpy"))
      except safetensors.SafetensorError as error:
        raise ValueError(
          f"{path}: not a whole safetensors file ({error})"
        ) from error
      self._handles |= dict.fromkeys(handle.keys(), handle)

  def __getitem__(self, name):
    return self._handles[name].get_tensor(name)

  def __iter__(self):
    return iter(self._handles)

  def __len__(self):
    return len(self._handles)


def save_folder(
  folder: Path,
  params: dict,
  config: clip.ClipConfig,
  spec: preprocess.Preprocessing,
  merges: tokenizer.Merges,
  card: str,
) -> None:
  """Write a checkpoint as Hugging Face lays it out, whole or not at all.

  Args:
    folder: must not exist yet.
    params: as `clip.init` gives them.
    config: the model.
    spec: its preprocessing.
    merges: its tokenizer's, which must give `config.vocab_size` ids.
    card: text of README.md.

  Raises:
    ValueError: `folder` exists.
  """
  if folder.exists():
    raise ValueError(f"{folder} exists already")
  documents = {
    "config.json": clip_config.to_hugging_face(config),
    "preprocessor_config.json": clip_config.to_processor(spec),
    "tokenizer.json": tokenizer.to_json(merges),
    "tokenizer_config.json": {
      "tokenizer_class": "CLIPTokenizer",
      "model_max_length": config.context,
      "bos_token": tokenizer.START,
      "eos_token": tokenizer.END,
      "pad_token": tokenizer.END,
      "unk_token": tokenizer.END,
    },
  }
  folder.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
    half = Path(temporary) / folder.name
    half.mkdir()
    for name, content in documents.items():
      text = json.dumps(content, indent=2, ensure_ascii=False)
      (half / name).write_text(text + "\n", encoding="utf-8")
    tensors = convert.to_hugging_face(params, config)
    save_file(tensors, half / "model.safetensors", {"format": "pt"})
    # safetensors makes its files private.
    shutil.copymode(half / "config.json", half / "model.safetensors")
    (half / "README.md").write_text(card, encoding="utf-8")
    half.rename(folder)
