"""Variant (a) imu↔video on the built-in world: what `imu2clip demo` runs.

Command, after `imu2clip demo --workdir=runs/demo` has built the world and
taught the tiny CLIP:

    imu2clip train --config=configs/synthetic_imu_video.py \\
      --workdir=runs/imu_video \\
      --config.data.dir=runs/demo/data \\
      --config.teacher.path=runs/demo/tiny_clip

Hardware: 2 CPU cores, about 20 seconds. Expected: README's table.
"""

from imu2clip_jax import config


def get_config():
  return config.demo("imu_video")
