"""Variant (b) imu↔text on several data sets at once: Ego4D and Nymeria.

Commands, after both have been built with the same --window_s:

    imu2clip train --config=configs/mixture.py --workdir=runs/mixture \\
      --config.data.dir=data/ego4d_imu \\
      --config.data.mixture_dirs="('data/nymeria_imu',)" \\
      --config.data.mixture_weights="(0.7, 0.3)" \\
      --config.teacher.path=hf:openai/clip-vit-base-patch32

Of every batch the first set fills 70 %, the second 30 %; without weights their
windows decide. Validation and evaluation are on config.data.dir; `imu2clip
evaluate --data_dir` asks another set. Hardware: one accelerator. Expected: not
measured, as both sets need a licence; tests/test_mixture.py checks the mixing.
"""

from imu2clip_jax import config


def get_config():
  c = config.default()
  c.variant = "imu_text"
  return c
