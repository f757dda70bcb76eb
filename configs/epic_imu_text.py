"""Variant (b) imu↔text on EPIC-KITCHENS-100, with the paper's settings.

    imu2clip build datasets/epic_kitchens_imu --raw EPIC --data_dir data/epic
    imu2clip train --config=configs/epic_imu_text.py \\
      --workdir=runs/epic_imu_text --config.data.dir=data/epic \\
      --config.teacher.path=hf:openai/clip-vit-base-patch32
    imu2clip evaluate --workdir=runs/epic_imu_text

The paper and its released code: CLIP ViT-B/32, windows of 5 s at 200 Hz, Adam
at 2e-4 without schedule or decay, 15 epochs, 256 windows a step over 8 GPUs,
temperature 0.1, negatives of one's own GPU alone (31 of them).
Ours: the same, but negatives are the whole batch, the temperature is learned
from 0.1 on, and equal narrations are no negatives of each other. Steps are 15
epochs of 50 h of windows, a stand-in until yours are counted;
for another number N of windows set --config.train.steps to 15 * N / 256.

The paper has no EPIC rows: its settings carried over.
Not run here: the recordings need a licence. Expected: nothing is promised.
"""

from imu2clip_jax import config


def get_config():
  return config.paper("imu_text", hours=50)
