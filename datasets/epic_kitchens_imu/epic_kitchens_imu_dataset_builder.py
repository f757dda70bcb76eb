"""EPIC-KITCHENS-100 videos with IMU, a window a narration; see README.md."""

from imu2clip_jax.recordings import epic_kitchens

NAME = "epic_kitchens_imu"
VERSION = "1.0.0"
FIND = epic_kitchens.find
# The axes are not documented: turn them until gravity is up.
WINDOWS = {"rule": "segment", "gravity": "recording"}
ABOUT = {
  "licence": "CC BY-NC 4.0",
  "source": "EPIC-KITCHENS-100 meta_data, videos and annotations",
}
