"""Ego4D videos with IMU, windows around narrations; see README.md."""

from imu2clip_jax.recordings import ego4d

NAME = "ego4d_imu"
VERSION = "1.0.0"
FIND = ego4d.find
# The CSV does not say how the camera sat: turn it until gravity is up.
WINDOWS = {"rule": "narration", "gravity": "recording"}
ABOUT = {
  "licence": "Ego4D licence agreement",
  "source": "Ego4D v1 or v2: imu, video_540ss, annotations",
}
