"""Do built data sets have the splits and windows that a training run needs?

Told from the data sets' own descriptions, before the frozen CLIP runs.
"""

from collections.abc import Sequence

from imu2clip_jax.data import mixture


def check(
  infos: Sequence[dict],
  train_split: str,
  validation_split: str,
  batch_size: int,
  weights: Sequence[float] = (),
) -> None:
  """Refuse data that a run cannot train on or validate with.

  Windows without a partner are known only once they are embedded, so data that
  pass may still turn out to be too few.

  Args:
    infos: of each data set that is trained, see `builder.describe`; the first
      is the one to validate with.
    train_split: name of the split to train on.
    validation_split: name of the split to validate with; "" for none.
    batch_size: windows a step.
    weights: of each set, its share of a batch; () is by their windows.

  Raises:
    ValueError: a split is missing, or has fewer windows than its part of a
      batch; names the options to change. Weights that no
      mixture can have.
  """
  for info in infos:
    if train_split not in info["splits"]:
      raise ValueError(
        f"{_missing(info, train_split)}: name another config.data.train_split"
      )
  if validation_split and validation_split not in infos[0]["splits"]:
    raise ValueError(
      f"{_missing(infos[0], validation_split)}: set "
      "config.train.validate_every_steps=0 or name another "
      "config.data.validation_split"
    )
  sizes = [info["splits"][train_split] for info in infos]
  if len(infos) == 1:
    if batch_size > sizes[0]:
      raise ValueError(
        f"config.train.batch_size is {batch_size}, but split {train_split!r} "
        f"of {infos[0]['path']} has only {sizes[0]} windows: set it to "
        f"{sizes[0]} or less"
      )
    return
  weights = mixture.checked_weights(weights or sizes, len(infos))
  parts = batch_size * weights / weights.sum()
  for info, size, part in zip(infos, sizes, parts, strict=True):
    # From step to step a part is rounded up or down.
    if part > size - 1:
      raise ValueError(
        f"a batch of {batch_size} takes {part:.2f} windows of split "
        f"{train_split!r} of {info['path']}, which has only {size}: lower "
        "config.train.batch_size or its share in config.data.mixture_weights"
      )


def _missing(info, split):
  known = ", ".join(info["splits"])
  return f"{info['path']} has no split {split!r}, only {known}"
