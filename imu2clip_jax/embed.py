"""`imu2clip embed`: run the frozen CLIP once over a built data set.

Windows are read in blocks; each block's embeddings go to a part file, so a
killed run goes on where it stopped. When all parts exist they are joined into
the columns of `data.cache`, and the cache's meta.json is written last.
"""

import hashlib
import io
import json
import math
import pathlib
import shutil
import sys
from collections.abc import Sequence

import ml_collections
import numpy as np
from PIL import Image

from imu2clip_jax import command, imu, logs
from imu2clip_jax import config as config_lib
from imu2clip_jax.data import builder, cache, checksums, locks
from imu2clip_jax.models import teacher as teacher_lib
from imu2clip_jax.models import video

_BLOCK_ROWS = 2048


def ensure_cache(config: ml_collections.ConfigDict) -> pathlib.Path:
  """Return the cache that `config` trains from, writing it if it is missing.

  Raises:
    FileNotFoundError: the data set or the teacher is missing.
    ValueError: the data set's windows have another length than the encoder's.
  """
  if not config.data.dir:
    raise ValueError(
      "config.data.dir is empty: name the folder that `imu2clip build` wrote, "
      "--config.data.dir=DIR"
    )
  if not config.teacher.path:
    raise ValueError(
      "config.teacher.path is empty: name a frozen CLIP, "
      "--config.teacher.path=PATH"
    )
  clip = teacher_lib.load_clip(
    config.teacher.path, normalize=config.teacher.normalize
  )
  info = builder.describe(config.data.dir)
  if not np.isclose(info["window_s"], config.encoder.window_s):
    raise ValueError(
      f"{config.data.dir} holds windows of {info['window_s']:g} s, "
      f"config.encoder.window_s is {config.encoder.window_s:g}; build the data "
      "again or change the option"
    )
  return write_cache(
    config.data.dir, clip, config.encoder.rate_hz, config.teacher.frames
  )


def mixture_caches(config: ml_collections.ConfigDict) -> list[pathlib.Path]:
  """Return the caches of `config.data.mixture_dirs`, written if missing.

  Raises:
    FileNotFoundError, ValueError: as `ensure_cache`.
  """
  caches = []
  for folder in config.data.mixture_dirs:
    other = config.copy_and_resolve_references()
    other.data.dir = folder
    caches.append(ensure_cache(other))
  return caches


def write_cache(
  data_dir: str | pathlib.Path,
  clip: teacher_lib.Clip,
  rate_hz: float,
  frames: str = "mid",
) -> pathlib.Path:
  """Embed every split of a built data set and return the cache's folder.

  Args:
    data_dir: what `build` wrote.
    clip: the frozen teacher.
    rate_hz: the IMU rate of the cache; windows are resampled to it.
    frames: how a window's frames become one embedding: mid, mean:F or sum3.

  Raises:
    FileNotFoundError: no data set there.
    ValueError: a rate or pooling that cannot be, before anything is written; a
      corrupt record, which it names.
  """
  info = builder.describe(data_dir)
  if not 0 < rate_hz < math.inf:
    raise ValueError(f"rate_hz is {rate_hz:g}, expected more than 0 and finite")
  imu.samples_in(info["window_s"], rate_hz)  # refuses a rate that is too low
  video.choose_frames(frames, num_frames=1)  # refuses what it does not know
  identity = {
    "data": info["fingerprint"],
    "teacher": clip.fingerprint,
    "frames": frames,
    "rate_hz": float(rate_hz),
    "format": 2,
  }
  key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
  folder = pathlib.Path(info["path"]) / "teacher_cache" / key.hexdigest()[:16]
  if (folder / "meta.json").is_file():
    return folder
  folder.mkdir(parents=True, exist_ok=True)
  busy = f"another run is writing the cache {folder}"
  with locks.held(folder / ".lock", busy, wait=True):
    if not (folder / "meta.json").is_file():
      _write_cache(folder, data_dir, info, clip, rate_hz, frames)
  return folder


def _write_cache(folder, data_dir, info, clip, rate_hz, frames):
  meta = {
    "dataset": info["name"],
    "data_fingerprint": info["fingerprint"],
    "rate_hz": float(rate_hz),
    "window_s": info["window_s"],
    "label_names": list(info["label_names"]),
    "teacher": {
      "name": clip.name,
      "fingerprint": clip.fingerprint,
      "dim": clip.dim,
      "frames": frames,
    },
    "splits": {},
  }
  for split in info["splits"]:
    windows = builder.open_windows(data_dir, split)
    meta["splits"][split] = len(windows)
    parts = folder / f"{split}.parts"
    parts.mkdir(exist_ok=True)
    _write_parts(parts, windows, clip, info, rate_hz, frames)
    _join_parts(parts, folder / split, len(windows), clip, meta)
    checksums.write(folder / split)
  command.write_text(folder / "meta.json", json.dumps(meta, indent=2))
  for split in info["splits"]:
    shutil.rmtree(folder / f"{split}.parts")


def _write_parts(parts, windows, clip, info, rate_hz, frames):
  with logs.progress(
    what=f"embed {parts.stem}", unit="windows", total=len(windows)
  ) as bar:
    for start in range(0, len(windows), _BLOCK_ROWS):
      rows = range(start, min(start + _BLOCK_ROWS, len(windows)))
      path = parts / f"{start:012d}.npz"
      if not path.is_file():
        block = [windows[i] for i in rows]
        part = _embed_block(block, clip, info, rate_hz, frames)
        temporary = parts / "unfinished.npz"
        np.savez(temporary, **part)
        temporary.replace(path)
      bar.update(len(rows))


def _embed_block(block, clip, info, rate_hz, frames):
  signals = np.stack([record["imu"] for record in block])
  if rate_hz != info["rate_hz"]:
    signals = imu.resample_windows(signals, info["rate_hz"], rate_hz)
  embeddings = _frame_embeddings(block, clip, frames)
  return {
    "imu": signals.astype(np.float32),
    "sensor_mask": np.stack([record["sensor_mask"] for record in block]),
    "frame_embeddings": embeddings,
    "has_frames": np.asarray([bool(record["frames"]) for record in block]),
    "start_s": np.asarray([record["start_s"] for record in block]),
    # Text goes through JSON: a NumPy string drops trailing zeros bytes.
    "strings": np.frombuffer(
      json.dumps(
        [
          {
            name: record[name]
            for name in (
              "window_id",
              "recording_id",
              "wearer_id",
              "texts",
              "label",
            )
          }
          for record in block
        ]
      ).encode(),
      np.uint8,
    ),
  }


def _frame_embeddings(block, clip, pooling):
  chosen = [
    video.choose_frames(pooling, len(record["frames"]))
    if record["frames"]
    else []
    for record in block
  ]
  images = [
    decode_frame(record, i)
    for record, indices in zip(block, chosen, strict=True)
    for i in indices
  ]
  rows = np.zeros((len(block), clip.dim), np.float32)
  if images:
    flat = clip.embed_images(images, normalize=False)
    ends = np.cumsum([len(indices) for indices in chosen])
    for i, indices in enumerate(chosen):
      if len(indices):
        rows[i] = video.pool_frames(
          pooling, flat[ends[i] - len(indices) : ends[i]]
        )
  return rows


def decode_frame(record: dict, index: int) -> np.ndarray:
  """Return one of a window's frames, uint8 [H, W, 3].

  Raises:
    ValueError: it cannot be decoded; names the window.
  """
  encoded = io.BytesIO(record["frames"][index])
  try:
    return np.asarray(Image.open(encoded).convert("RGB"))
  except Exception as error:  # Pillow raises many kinds for damaged bytes
    raise ValueError(
      f"window {record['window_id']!r}: frame {index} cannot be decoded: "
      f"{error}"
    ) from error


def _join_parts(parts, folder, rows, clip, meta):
  folder.mkdir(exist_ok=True)
  paths = sorted(parts.glob("[0-9]*.npz"))
  strings = []
  for path in paths:
    with np.load(path, allow_pickle=False) as part:
      strings += json.loads(part["strings"].tobytes())
  for name in (
    "imu",
    "sensor_mask",
    "frame_embeddings",
    "has_frames",
    "start_s",
  ):
    _join_column(paths, name, folder / f"{name}.npy", rows)
  texts = list(dict.fromkeys(t for row in strings for t in row["texts"]))
  row_of = {text: i for i, text in enumerate(texts)}
  longest = max([1, *(len(row["texts"]) for row in strings)])
  text_ids = np.full((rows, longest), -1, np.int32)
  for i, row in enumerate(strings):
    text_ids[i, : len(row["texts"])] = [row_of[t] for t in row["texts"]]
  label_of = {name: i for i, name in enumerate(meta["label_names"])} | {"": -1}
  labels = np.asarray([label_of[row["label"]] for row in strings], np.int32)
  np.save(folder / "text_ids.npy", text_ids)
  np.save(folder / "labels.npy", labels)
  np.save(folder / "text_embeddings.npy", clip.embed_texts(texts))
  document = {
    "window_ids": [row["window_id"] for row in strings],
    "recording_ids": [row["recording_id"] for row in strings],
    "wearer_ids": [row["wearer_id"] for row in strings],
    "texts": texts,
  }
  command.write_text(folder / "rows.json", json.dumps(document))


def _join_column(paths, name, target, rows):
  column, start = None, 0
  for path in paths:
    with np.load(path, allow_pickle=False) as part:
      block = part[name]
    if column is None:
      column = np.lib.format.open_memmap(
        target, mode="w+", dtype=block.dtype, shape=(rows, *block.shape[1:])
      )
    column[start : start + len(block)] = block
    start += len(block)
  if column is not None:
    column.flush()


def main(argv: Sequence[str] | None = None) -> int:
  """Run `imu2clip embed`."""
  parser = command.parser(
    "embed",
    "Run the frozen CLIP once over a built data set and write the training "
    "cache. A killed run goes on where it stopped.",
    "imu2clip embed --data_dir=data/ego4d --clip=hf:openai/clip-vit-base-"
    "patch32",
  )
  parser.add_argument("--workdir", help="take everything from its config.json")
  parser.add_argument("--data_dir", help="what `imu2clip build` wrote")
  parser.add_argument("--clip", help="folder, file or hf:owner/name of a CLIP")
  parser.add_argument(
    "--rate_hz", type=float, help="IMU rate of the cache (default: the data's)"
  )
  parser.add_argument(
    "--frames", default="mid", help="mid (default), mean:F or sum3"
  )
  parser.add_argument(
    "--normalize",
    default="clip",
    choices=("clip", "none"),
    help="pixels as CLIP was trained, or as the official code fed them",
  )
  parser.add_argument(
    "--verify",
    action="store_true",
    help="compare every byte of the cache with its checksums",
  )
  parser.add_argument(
    "--json", action="store_true", help="one JSON document on stdout"
  )
  args = parser.parse_args(argv)
  if args.workdir:
    path = pathlib.Path(args.workdir) / "config.json"
    if not path.is_file():
      raise FileNotFoundError(f"--workdir: no file {path}")
    folder = ensure_cache(config_lib.from_json(path.read_text()))
  elif args.data_dir and args.clip:
    info = builder.describe(args.data_dir)
    clip = teacher_lib.load_clip(args.clip, normalize=args.normalize)
    rate_hz = info["rate_hz"] if args.rate_hz is None else args.rate_hz
    folder = write_cache(args.data_dir, clip, rate_hz, args.frames)
  else:
    raise ValueError("give --workdir, or --data_dir and --clip")
  meta = cache.read_meta(folder)
  sizes = meta["splits"]
  if args.verify:
    checksums.verify(folder / name for name in sizes)
  if args.json:
    found = {"splits": sizes, "teacher": meta["teacher"]}
    command.print_json({"cache_dir": str(folder)} | found)
    return 0
  rows = ", ".join(f"{count} {name}" for name, count in sizes.items())
  print(f"{folder}: {rows} windows")
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
