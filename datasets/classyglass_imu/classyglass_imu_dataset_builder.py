"""ClassyGlass, a head-worn IMU with 15 activities; see README.md."""

from imu2clip_jax.recordings import classyglass

NAME = "classyglass_imu"
VERSION = "1.0.0"
FIND = classyglass.find
# The sensor sits on the glasses either way up: turn it until gravity is up.
WINDOWS = {"rate_hz": 50.0, "gravity": "recording"}
ABOUT = {
  "licence": "CC BY 4.0",
  "source": "MU-Smart/ClassyGlass, Dataset_1A and Dataset_1B",
}
