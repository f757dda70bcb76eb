"""Nymeria: Project Aria glasses with written narrations; see README.md."""

from imu2clip_jax.recordings import nymeria

NAME = "nymeria_imu"
VERSION = "1.0.0"
FIND = nymeria.find
# A narration describes about 5 s: one window each.
WINDOWS = {"rule": "segment"}
ABOUT = {
  "licence": "CC BY-NC 4.0",
  "source": "facebookresearch/nymeria_dataset, recording_head and narration",
}
