"""The built-in world: simulated wearers; see README.md."""

from imu2clip_jax.recordings import synthetic

NAME = "synthetic_imu"
VERSION = "1.0.0"
FIND = synthetic.find
NEEDS_RAW = False
WINDOWS = {"rate_hz": 50.0, "frame_size": 32}
# The simulation runs on jax, which uses every core by itself.
WORKERS = 0
ABOUT = {"licence": "Apache-2.0", "source": "imu2clip_jax simulation"}
