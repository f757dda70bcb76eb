"""Every IMU encoder by its name."""

import jax.numpy as jnp

from imu2clip_jax.models import baselines, i2c, imu_encoder
from imu2clip_jax.models.imu_encoder import Encoder

NAMES = (*imu_encoder.PRESETS, *i2c.PRESETS, *baselines.PRESETS)


def build(preset: str, embed_dim: int, **options) -> Encoder:
  """Make the encoder of this name.

  Args:
    preset: one of `NAMES`.
    embed_dim: D, the teacher's width.
    **options: what the preset's own `build` takes.

  Raises:
    ValueError: an unknown name, or an option out of its bounds.
  """
  if preset in imu_encoder.PRESETS:
    return imu_encoder.build(preset, embed_dim, **options)
  if preset in i2c.PRESETS:
    return i2c.build(preset, embed_dim, **options)
  if preset in baselines.PRESETS:
    return baselines.build(preset, embed_dim, **options)
  raise ValueError(f"preset {preset!r} is not one of {', '.join(NAMES)}")


def from_config(options, embed_dim: int, dtype="float32") -> Encoder:
  """Make the encoder that `config.encoder` describes.

  Args:
    options: has `preset`, `rate_hz`, `hidden`, `width` and `activation`; the
      baselines have sizes of their own and read the first two only, `i2c`
      and `i2c_head` read `width` too.
    embed_dim: D, the teacher's width.
    dtype: of the products; parameters stay float32.

  Raises:
    ValueError: as `build`.
  """
  common = {"rate_hz": options.rate_hz, "dtype": jnp.dtype(dtype)}
  if options.preset in baselines.PRESETS:
    return build(options.preset, embed_dim, **common)
  if options.preset in i2c.PRESETS:
    return build(options.preset, embed_dim, **common, width=options.width)
  return build(
    options.preset,
    embed_dim,
    **common,
    hidden=options.hidden,
    width=options.width,
    activation=options.activation,
  )
