"""The generic data set builder: readers' entries → windows → ArrayRecord.

Written through the Python API of tensorflow-datasets, which needs no
TensorFlow. A built data set is a folder DATA_DIR/NAME/VERSION with the shards,
TFDS's own descriptions, `metadata.json` (options of the build, label names) and
`drop_report.json` (what was left out, and why).
"""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow_datasets as tfds

import imu2clip_jax
from imu2clip_jax import schema
from imu2clip_jax.data import cluster, locks, parts, windows
from imu2clip_jax.recordings import recording as recording_lib

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def features(
  num_samples: int, *, decode_frames: bool
) -> tfds.features.FeaturesDict:
  """Return `schema.FIELDS` as TFDS features.

  Args:
    num_samples: T of every window.
    decode_frames: describe frames as images; else as their encoded bytes, which
      have the same form on disk.
  """
  f = tfds.features
  frame = f.Image(shape=(None, None, 3)) if decode_frames else f.Text()
  described = {"frames": f.Sequence(frame)}
  for name, (dtype, shape, doc) in schema.FIELDS.items():
    if name == "frames":
      continue
    if dtype is str:
      described[name] = f.Sequence(f.Text()) if shape else f.Text(doc=doc)
      continue
    if name == "imu":
      shape = (num_samples, 6)
    # Encoded as bytes: six times faster, and float64 stays float64.
    described[name] = f.Tensor(
      shape=shape, dtype=dtype, encoding="bytes", doc=doc
    )
  return f.FeaturesDict(described)


def build(
  name: str,
  entries: Iterable[recording_lib.Entry],
  data_dir,
  options: windows.Options,
  *,
  version: str = "1.0.0",
  about: dict | None = None,
  workers: int = 0,
  beam_flags: Sequence[str] | None = None,
) -> dict:
  """Cut recordings into windows and write them as a TFDS data set.

  A recording that cannot be read is named in the drop report and the rest goes
  on; a split without a window has 0 there and is left out. Nothing appears
  under its final name before it is whole.

  Args:
    name: name of the data set, a Python identifier in lower case.
    entries: the recordings; every wearer in one split only.
    data_dir: folder that holds data sets.
    options: how to cut.
    version: of the data set, "major.minor.patch".
    about: further JSON-able facts for `metadata.json` (source, licence, ...).
    workers: processes that open and cut recordings; 0 works in this one, which
      readers that run on jax need.
    beam_flags: cut on a Beam runner first (see `data.cluster`); only what it
      could not cut is then tried here.

  Returns:
    {"path", "splits": {split: windows}, "windows": {split: {reason: count}},
    "failed": {recording: error}, "warnings": {recording: [text]}, with
    `options.correct_sync` "sync" as in `parts.Cutter`, "already_built": was
    nothing read, as an equal data set lay there, whose report this then is}.

  Raises:
    ValueError: a wearer in two splits, a recording twice, an unknown split, no
      window at all or none to train on, or a data set of other options in the
      way.
  """
  entries = list(entries)
  _check(name, version, entries)
  metadata = {
    "name": name,
    "version": version,
    "imu2clip_jax": imu2clip_jax.__version__,
    **dataclasses.asdict(options),
    "num_samples": options.num_samples,
    "label_names": [],
    "fingerprint": "",
    "about": about or {},
  }
  metadata = json.loads(json.dumps(metadata))  # as it will be read back
  path = pathlib.Path(data_dir) / name / version
  path.parent.mkdir(parents=True, exist_ok=True)
  busy = f"another build is writing into {path.parent}"
  with locks.held(path.parent, busy):
    if path.exists():
      return _already_built(path, metadata)
    for left in path.parent.glob(f"incomplete.*_{version}"):
      shutil.rmtree(left)  # a build that was killed
    key = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    unfinished = path.parent / f".parts_{version}_{key.hexdigest()[:16]}"
    if beam_flags is not None:
      cluster.write_parts(entries, options, unfinished, beam_flags)
      workers = max(workers, 1)
    report = parts.empty_report(options)
    while not path.exists():
      cutter = parts.Cutter(entries, options, workers, unfinished, report)
      try:
        _write(cutter, metadata, data_dir)
      except parts.EmptySplitError as error:
        if error.split == "train" or len(cutter.splits) == 1:
          raise
        # TFDS knows no empty split. With workers what the others gave lies in
        # parts, else they are cut again.
        entries = [e for e in entries if e.split != error.split]
    for left in path.parent.glob(f".parts_{version}_*"):
      shutil.rmtree(left)
  return _summary(path) | {"already_built": False}


def _write(cutter, metadata, data_dir):
  with (
    contextlib.closing(cutter),
    _quiet_tfds(),
    tempfile.TemporaryDirectory() as downloads,
  ):
    builder = _builder_class(cutter, metadata)(data_dir=str(data_dir))
    builder.download_and_prepare(
      download_dir=downloads, file_format="array_record"
    )


def _check(name, version, entries):
  if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
    raise ValueError(
      f"a data set cannot be named {name!r}: use a-z, 0-9 and _ only"
    )
  if not _VERSION.fullmatch(version):
    raise ValueError(f"version is {version!r}, expected like '1.0.0'")
  if not entries:
    raise ValueError("no recording was found")
  seen, split_of = set(), {}
  for entry in entries:
    if entry.split not in parts.SPLITS:
      raise ValueError(
        f"recording {entry.recording_id!r}: unknown split {entry.split!r}, "
        f"expected one of {', '.join(parts.SPLITS)}"
      )
    if entry.recording_id in seen:
      raise ValueError(f"recording {entry.recording_id!r} is listed twice")
    seen.add(entry.recording_id)
    if not entry.wearer_id:
      raise ValueError(
        f"recording {entry.recording_id!r} names no wearer, the unit of splits"
      )
    other = split_of.setdefault(entry.wearer_id, entry.split)
    if other != entry.split:
      raise ValueError(
        f"wearer {entry.wearer_id!r} is in split {other!r} and in split "
        f"{entry.split!r}: splits must not share a wearer"
      )


def _already_built(path, metadata):
  # An older build lacks newer options, whose defaults are its ways.
  built = dataclasses.asdict(windows.Options())
  built |= json.loads((path / "metadata.json").read_text())
  for key, value in metadata.items():
    if (
      key not in ("label_names", "fingerprint", "imu2clip_jax")
      and built.get(key) != value
    ):
      raise ValueError(
        f"{path} is already built with {key} = {built.get(key)!r}, not "
        f"{value!r}: remove that folder or choose another data folder"
      )
  return _summary(path) | {"already_built": True}


def _summary(path):
  report = json.loads((path / "drop_report.json").read_text())
  splits = {s: w["kept"] for s, w in report["windows"].items()}
  return {"path": str(path), "splits": splits, **report}


class _Info(tfds.core.DatasetInfo):
  def initialize_from_bucket(self):
    """Look nowhere: no bucket has ours, and TFDS leaves a folder behind."""


def _builder_class(cutter, metadata):
  """Return a TFDS builder class of one data set."""

  class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    name = metadata["name"]
    VERSION = tfds.core.Version(metadata["version"])

    def _info(self):
      return _Info(
        builder=self,
        description="Windows of IMU, frames and narrations (imu2clip_jax).",
        features=features(metadata["num_samples"], decode_frames=True),
        metadata=tfds.core.MetadataDict(metadata),
        disable_shuffling=False,
      )

    def _split_generators(self, dl_manager):
      return {s: self._generate_examples(s) for s in cutter.splits}

    def _generate_examples(self, split):
      for record in cutter.records(split):
        frames = [io.BytesIO(frame) for frame in record["frames"]]
        yield record["window_id"], record | {"frames": frames}
      # Into the unfinished folder, which gets its name when all is written.
      self.info.metadata["label_names"] = sorted(cutter.labels - {""})
      self.info.metadata["fingerprint"] = cutter.digest.hexdigest()
      report = pathlib.Path(self.data_dir) / "drop_report.json"
      report.write_text(json.dumps(cutter.report, indent=2) + "\n")

  return Builder


@contextlib.contextmanager
def _quiet_tfds():
  """Keep TFDS from printing on stdout, which belongs to `--json`."""
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(io.StringIO()):
    yield


class Windows:
  """A split of a built data set, by row: `len(windows)`, `windows[i]`.

  Attributes:
    meta: what `metadata.json` holds.
    path: the folder of the data set.
    split: name of the split.
  """

  def __init__(self, path: pathlib.Path, split: str):
    self.path, self.split = path, split
    self.meta = describe(path)
    self._features = features(self.meta["num_samples"], decode_frames=False)
    if not self.meta["splits"].get(split):
      known = [f"{s} ({n})" for s, n in self.meta["splits"].items()]
      raise ValueError(
        f"{path} has no windows in split {split!r}; it has "
        f"{', '.join(known) or 'none'}"
      )
    try:
      self._source = tfds.builder_from_directory(path).as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
      )
      self._source[0]
    except Exception as error:  # TFDS and ArrayRecord raise many kinds
      raise ValueError(
        f"{path}: a shard of split {split!r} is missing or damaged: {error}"
      ) from error

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, row: int) -> dict:
    """Return one record of `schema.FIELDS`.

    Raises:
      IndexError: no such row.
      ValueError: the record is damaged; names the folder, split and row.
    """
    if not 0 <= row < len(self):
      raise IndexError(f"row {row} of {len(self)}")
    try:
      record = _decode(self._features.deserialize_example_np(self._source[row]))
      schema.validate(record, self.meta["num_samples"])
    except Exception as error:
      raise ValueError(
        f"{self.path}: record {row} of split {self.split!r} is damaged: {error}"
      ) from error
    return record


def _decode(example):
  record = {}
  for name, (dtype, shape, _) in schema.FIELDS.items():
    value = example[name]
    if dtype is str:
      value = [v.decode() for v in value] if shape else value.decode()
    elif dtype is bytes:
      value = list(value)
    else:
      value = np.asarray(value, dtype)[()]
    record[name] = value
  return record


def describe(data_dir) -> dict:
  """Return what a built data set is, without opening its shards.

  Args:
    data_dir: see `open_windows`.

  Returns:
    `metadata.json` (name, version, window_s, rate_hz, num_samples, label_names,
    fingerprint of all windows, every option of the build) and "path",
    "splits": {split: number of windows}.

  Raises:
    FileNotFoundError, ValueError: as `open_windows`.
  """
  path = _find(pathlib.Path(data_dir))
  try:
    meta = json.loads((path / "metadata.json").read_text())
    info = tfds.builder_from_directory(path).info
    splits = {s: info.splits[s].num_examples for s in info.splits}
    return meta | {"path": str(path), "splits": splits}
  except Exception as error:  # TFDS raises many kinds for a damaged folder
    raise ValueError(f"data set {path} cannot be read: {error}") from error


def open_windows(data_dir, split: str) -> Windows:
  """Open a split of a built data set.

  Args:
    data_dir: the folder that `build` wrote into, or one inside it: the data
      set's own, or that of a version. Of several versions the newest is taken.
    split: "train", "validation" or "test".

  Raises:
    FileNotFoundError: there is no data set.
    ValueError: there are several, the split is unknown or empty, or a file is
      damaged.
  """
  return Windows(_find(pathlib.Path(data_dir)), split)


def _find(folder):
  if not folder.is_dir():
    raise FileNotFoundError(f"data folder {folder} does not exist")
  if (folder / "dataset_info.json").exists():
    return folder
  found = collections.defaultdict(list)
  for pattern in ("*/dataset_info.json", "*/*/dataset_info.json"):
    for info in folder.glob(pattern):
      path = info.parent
      if _VERSION.fullmatch(path.name):
        found[path.parent].append(path)
  if not found:
    raise FileNotFoundError(f"no built data set lies in {folder}")
  if len(found) > 1:
    names = ", ".join(sorted(p.name for p in found))
    raise ValueError(f"several data sets lie in {folder}: {names}; name one")
  (paths,) = found.values()
  return max(paths, key=lambda p: [int(n) for n in p.name.split(".")])
