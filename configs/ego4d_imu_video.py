"""Variant (a) imu↔video on Ego4D, with the paper's settings.

    imu2clip build datasets/ego4d_imu --raw EGO4D --data_dir data/ego4d
    imu2clip train --config=configs/ego4d_imu_video.py \\
      --workdir=runs/ego4d_imu_video --config.data.dir=data/ego4d \\
      --config.teacher.path=hf:openai/clip-vit-base-patch32
    imu2clip evaluate --workdir=runs/ego4d_imu_video

The paper and its released code: CLIP ViT-B/32, windows of 5 s at 200 Hz, Adam
at 2e-4 without schedule or decay, 15 epochs, 128 windows a step over 8 GPUs,
temperature 0.1, negatives of one's own GPU alone (15 of them).
Ours: the same, but negatives are the whole batch, the temperature is learned
from 0.1 on, and equal narrations are no negatives of each other. Steps are 15
epochs of 540 h of windows, as the paper reports for training;
for another number N of windows set --config.train.steps to 15 * N / 128.

Its narrations are points in time, so a window takes the nearest one.
Not run here: the recordings need a licence. Expected: nothing is promised.
"""

from imu2clip_jax import config


def get_config():
  return config.paper("imu_video", hours=540)
