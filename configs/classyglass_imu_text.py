"""Variant (b) imu↔text on ClassyGlass: head-worn IMU, activity phrases as text.

Commands (the set is CC BY 4.0; the teacher is the demo's tiny CLIP, any other
works as well):

    imu2clip build datasets/classyglass_imu --raw CLASSYGLASS --data_dir data/cg
    imu2clip train --config=configs/classyglass_imu_text.py \\
      --workdir=runs/cg0 --config.data.dir=data/cg \\
      --config.teacher.path=runs/demo/tiny_clip --config.seed=0
    imu2clip evaluate --workdir=runs/cg0

Hardware: 2 CPU cores, a few minutes a seed. Expected: README's table.
"""

from imu2clip_jax import config


def get_config():
  c = config.default()
  c.variant = "imu_text"
  c.encoder.rate_hz = 50.0
  c.encoder.hidden = 128
  c.optim.learning_rate = 3e-3
  c.optim.schedule = "cosine"
  c.optim.clip_norm = 1.0
  c.train.batch_size = 128
  c.train.steps = 300
  c.train.save_every_steps = 100
  c.recognition.fine_tune_steps = 150
  return c
