"""A build that goes on cuts a recording again whose files came or changed."""

import json

import pytest

from imu2clip_jax.data import parts
from imu2clip_jax.recordings import (
  aria,
  classyglass,
  csv_folder,
  ego4d,
  epic_kitchens,
  gopro,
  nymeria,
)

SEQUENCE = "20230607_s0_ann_lee_act0_abcdef"
GLASSES = "Dataset_1A/User{}/{}_glass_2023-01-01T00.00.00.000_C0FFEE_{}"
# What `find` itself reads.
TABLES = {
  "v2/ego4d.json": json.dumps(
    {"videos": [{"video_uid": "u", "duration_sec": 9}]}
  ),
  "annotations/EPIC_100_train.csv": (
    "narration_id,video_id,start_timestamp,stop_timestamp,narration\n"
  ),
  "recordings.csv": "file,wearer,video\na.csv,ann,a.mp4\n",
}


def glasses(user, number, sensor):
  name = GLASSES.format(user, number, sensor)
  return f"{name}_25.000Hz_1.7.3.csv"


@pytest.mark.parametrize(
  ("reader", "first", "later"),
  [
    (
      ego4d,
      ["v2/ego4d.json", "v2/imu/u.csv"],
      ["v2/imu/u.csv", "v2/video_540ss/u.mp4", "v2/full_scale/u.mp4"],
    ),
    (
      epic_kitchens,
      ["annotations/EPIC_100_train.csv", "P01/meta_data/P01_101-accl.csv"],
      [
        "P01/meta_data/P01_101-accl.csv",
        "P01/meta_data/P01_101-gyro.csv",
        "P01/videos/P01_101.MP4",
      ],
    ),
    (gopro, ["GX010001.MP4"], ["GX010001.MP4", "GX010001.texts.csv"]),
    (aria, ["loc/recording.vrs"], ["loc/recording.vrs", "loc/speech.csv"]),
    (
      nymeria,
      [f"{SEQUENCE}/recording_head/data/motion.vrs"],
      [
        f"{SEQUENCE}/recording_head/data/motion.vrs",
        f"{SEQUENCE}/recording_head/data/data.vrs",
        f"{SEQUENCE}/narration/atomic_action.csv",
      ],
    ),
    (csv_folder, ["recordings.csv", "a.csv", "a.mp4"], ["a.csv", "a.mp4"]),
    (
      classyglass,
      [
        glasses(2, 12, "Accelerometer"),
        glasses(2, 12, "Gyroscope"),
        glasses(9, 12, "Accelerometer"),
      ],
      [glasses(2, 12, "Accelerometer"), glasses(2, 12, "Gyroscope")],
    ),
  ],
  ids=lambda value: getattr(value, "__name__", "").rpartition(".")[2],
)
def test_a_part_is_another_when_a_file_came_or_changed(
  tmp_path, reader, first, later
):
  def write(name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

  def part():
    return parts.part_path(tmp_path, reader.find(tmp_path)[0])

  for name in first:
    write(name, TABLES.get(name, ""))
  seen = [part()]
  assert part() == seen[0]
  for name in later:
    write(name, "more of it")
    seen.append(part())
  assert len(set(seen)) == len(seen)
