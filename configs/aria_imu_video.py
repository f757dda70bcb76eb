"""Variant (a) imu↔video on Project Aria, with the paper's settings.

    imu2clip build datasets/aria_imu --raw ARIA --data_dir data/aria
    imu2clip train --config=configs/aria_imu_video.py \\
      --workdir=runs/aria_imu_video --config.data.dir=data/aria \\
      --config.teacher.path=hf:openai/clip-vit-base-patch32
    imu2clip evaluate --workdir=runs/aria_imu_video

The paper and its released code: CLIP ViT-B/32, windows of 5 s at 200 Hz, Adam
at 2e-4 without schedule or decay, 15 epochs, 128 windows a step over 8 GPUs,
temperature 0.1, negatives of one's own GPU alone (15 of them).
Ours: the same, but negatives are the whole batch, the temperature is learned
from 0.1 on, and equal narrations are no negatives of each other. Steps are 15
epochs of 138 h of windows, as the paper reports for training;
for another number N of windows set --config.train.steps to 15 * N / 128.

The paper's pilot set may no longer be given out; any Aria sequences will do.
Not run here: the recordings need a licence. Expected: nothing is promised.
"""

from imu2clip_jax import config


def get_config():
  return config.paper("imu_video", hours=138)
