"""A trained run, opened to be asked: encoder, teacher, index, taught names."""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import sys
from collections.abc import Sequence

import ml_collections
import numpy as np

from imu2clip_jax import config as config_lib
from imu2clip_jax import embed, pretrained, recognition, run_files, taught
from imu2clip_jax import index as index_lib
from imu2clip_jax.data import builder, windows
from imu2clip_jax.models import teacher as teacher_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """One workdir and what its questions need.

  Attributes:
    workdir: the run's folder.
    encoder: what `load_imu_encoder` returned for it.
  """

  workdir: pathlib.Path
  encoder: pretrained.ImuEmbedder

  @property
  def config(self) -> ml_collections.ConfigDict:
    """The run's options."""
    return self.encoder.config

  @functools.cached_property
  def fingerprint(self) -> str:
    """Of the encoder, see `index.fingerprint`."""
    return index_lib.fingerprint(self.encoder)

  @functools.cached_property
  def clip(self) -> teacher_lib.Clip:
    """The frozen CLIP.

    Raises:
      ValueError: its weights are not those that the run was trained towards.
    """
    options = self.config.teacher
    clip = teacher_lib.load_clip(options.path, normalize=options.normalize)
    found = {
      name: getattr(clip, name) for name in ("name", "fingerprint", "dim")
    }
    pretrained.check_teacher(self.encoder.teacher, found, options.path)
    return clip

  @functools.cached_property
  def cache_dir(self) -> pathlib.Path:
    """The training cache, written again if it is gone.

    Raises:
      FileNotFoundError, ValueError: as `embed.ensure_cache`; also if it is gone
        and other windows than the run's lie at config.data.dir.
    """
    run = json.loads((self.workdir / "run.json").read_text())
    folder = pathlib.Path(run["cache_dir"])
    if (folder / "meta.json").is_file():
      return folder
    run_files.check_data(self.workdir, [self.config.data.dir])
    return embed.ensure_cache(self.config)

  @functools.cached_property
  def index(self) -> index_lib.Index:
    """The embeddings that this encoder has made; others' lie beside it."""
    return index_lib.Index(
      self.workdir / "index" / self.fingerprint[:16],
      self.fingerprint,
      self.encoder.teacher["fingerprint"],
      self.encoder.dim,
    )

  @functools.cached_property
  def taught(self) -> dict:
    """What was taught by example, see `taught.load`."""
    own = self.encoder.teacher["fingerprint"]
    return taught.load(self.workdir, self.fingerprint, own)

  def cutting(self, hop_s: float, gravity: str = "") -> windows.Options:
    """Return how recordings are cut: as the run's training data were.

    Args:
      hop_s: step from one window to the next.
      gravity: in place of the training data's, see `windows.Options`.

    Raises:
      ValueError: a step shorter than a sample of the encoder, or the training
        data are gone, or others lie there, and `gravity` does not say how to
        turn the signals.
    """
    shortest_s = 1 / self.encoder.rate_hz
    if not hop_s >= shortest_s:
      raise ValueError(
        f"--hop is {hop_s:g} s, expected a sample of the encoder or more, "
        f"{shortest_s:g} s"
      )
    return windows.Options(
      window_s=self.encoder.window_s,
      stride_s=hop_s,
      rate_hz=self.encoder.rate_hz,
      num_frames=0,
      gravity=gravity or self._gravity,
    )

  @functools.cached_property
  def _gravity(self):
    try:
      data = builder.describe(self.config.data.dir)
      run_files.check_data(self.workdir, [self.config.data.dir])
    except (FileNotFoundError, run_files.OtherRunError) as error:
      raise ValueError(
        f"{error}: how the signals of the training data were turned is not "
        "known; say it with --gravity=none, recording or window"
      ) from error
    if data["about"].get("reader", {}).get("frame") == "head":
      # It takes all of a wearer's recordings, and one is opened here.
      print(
        "check: the training recordings were turned into the head frame, "
        "wearer by wearer; one opened by itself stays in its sensor's axes",
        file=sys.stderr,
      )
    return data["gravity"]

  def names(self, texts: Sequence[str]) -> np.ndarray:
    """Embed names: prototypes of the taught ones, prompted texts else.

    Returns:
      [C, D] unit norm.
    """
    found = np.zeros((len(texts), self.encoder.dim), np.float32)
    new = [i for i, name in enumerate(texts) if name not in self.taught]
    if new:
      found[new] = recognition.prompt_embeddings(
        self.clip.embed_texts,
        [texts[i] for i in new],
        self.config.recognition.prompts,
      )
    for i, name in enumerate(texts):
      if name in self.taught:
        found[i] = self.taught[name]["prototype"]
    return found

  @functools.cached_property
  def logit_scale(self) -> float:
    """The trained scale of the similarities, with text where it was trained.

    An objective that trains none, `distill`, leaves it at its start.
    """
    return pretrained.logit_scale(self.workdir, self.config.variant)


def add_gravity_option(parser: argparse.ArgumentParser) -> None:
  """Add --gravity, which goes to `Run.cutting`."""
  parser.add_argument(
    "--gravity",
    default="",
    choices=windows.GRAVITY,
    help="how to turn the signals (default: as the training data)",
  )


def open_run(workdir: str | os.PathLike) -> Run:
  """Open the workdir of `imu2clip train`.

  Raises:
    FileNotFoundError, ValueError: as `load_imu_encoder`; also an encoder that
      came without its run, or one that was trained without a teacher.
  """
  if not workdir:
    raise ValueError("--workdir is missing: name the run's folder")
  encoder = pretrained.load_imu_encoder(workdir)
  if not (pathlib.Path(workdir) / "run.json").is_file():
    raise ValueError(
      f"{workdir} is an encoder without its run: data and teacher are not "
      "known; name the workdir of `imu2clip train`"
    )
  objective = encoder.config.loss.objective
  if not config_lib.has_teacher(objective):
    raise ValueError(
      f"{workdir} was trained with {objective!r} alone: it shares no space "
      "with texts or images and cannot be asked by them"
    )
  return Run(pathlib.Path(workdir), encoder)
