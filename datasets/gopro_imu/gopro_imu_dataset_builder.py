"""Your own GoPro videos; see README.md."""

from imu2clip_jax.recordings import gopro

NAME = "gopro_imu"
VERSION = "1.0.0"
FIND = gopro.find
WINDOWS = {}
ABOUT = {"source": "GoPro MP4 files as the camera wrote them"}
