"""Project Aria VRS files, e.g. Aria Everyday Activities; see README.md."""

from imu2clip_jax.recordings import aria

NAME = "aria_imu"
VERSION = "1.0.0"
FIND = aria.find
WINDOWS = {}
ABOUT = {
  "licence": "of the data set that the VRS files come from",
  "source": "Project Aria VRS files, frame of the central pupil",
}
