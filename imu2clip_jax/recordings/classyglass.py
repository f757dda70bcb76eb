"""ClassyGlass (MU-Smart): an IMU on the temple of a pair of glasses, 27 people.

Two forms are read. The upstream tree, Dataset_1A and Dataset_1B with a folder a
user and two CSVs a recording:

    <exp>_<device name>_<start>_<device mac>_<sensor>_<rate>Hz_<firmware>.csv
    epoch (ms),time (-13:00),elapsed (s),x-axis (g),y-axis (g),z-axis (g)

And any folder of `.npz` in which all recordings lie one after another:
`accl_i16` [N, 3] times `accl_lsb_g`, `gyro_i16` times `gyro_lsb_dps`, at
`rate_hz`; `rec_start`, `rec_length` (rows), `rec_user`, `rec_exp`, `rec_label`.

Acceleration is in g and angular rate in deg/s (the upstream README says m/s²,
the file headers are right). The sensor is mounted either way up, so the frame
is "device" unless `find` is asked for "head". Every recording is one activity,
which is also its only text.
"""

import collections
import dataclasses
import functools
import pathlib
import re

import numpy as np

from imu2clip_jax import imu
from imu2clip_jax.recordings import folders, mounting, parsing
from imu2clip_jax.recordings import recording as recording_lib

# The data sheets' activities 1-15, as short phrases. Set 1A has the first 11.
ACTIVITIES = (
  "reading a book",
  "writing in a notebook",
  "typing on a computer",
  "browsing on a computer",
  "moving head and body while sitting",
  "moving the chair while sitting",
  "standing up from sitting",
  "standing still",
  "walking",
  "running",
  "taking stairs",
  "putting the glasses on and off while sitting",
  "putting the glasses on and off while standing",
  "picking up items from the floor while sitting",
  "picking up items from the floor while standing",
)
# Test wearers of the published reference numbers.
TEST_WEARERS = {
  "common": (9, 10, 11, 12, 23, 24, 25, 26, 27),
  "all": (23, 24, 25, 26, 27),
}
# Users 24-27 skip activity 10; their first experiments.
_FIRST_EXP = {24: 298, 25: 312, 26: 326, 27: 340}
_SENSORS = {"Accelerometer": "accel", "Gyroscope": "gyro"}
_FILE = re.compile(
  r"(?P<exp>\d+)_.*_(?P<start>\d{4}-\d\d-\d\dT[\d.]+)_[0-9A-F]+_"
  r"(?P<sensor>Accelerometer|Gyroscope)_[\d.]+Hz_[\d.]+\.csv"
)
_TO_SI = {
  "g": ("accel", imu.accel_to_si),
  "deg/s": ("gyro", imu.gyro_to_si),
}
_SCALARS = ("accl_lsb_g", "gyro_lsb_dps", "rate_hz")
_TABLE = ("rec_start", "rec_length", "rec_user", "rec_exp", "rec_label")
_KEYS = ("accl_i16", "gyro_i16", *_SCALARS, *_TABLE)


def find(
  root,
  *,
  classes: str = "common",
  test_wearers: list | None = None,
  validation_wearers: list | None = None,
  frame: str = "device",
) -> list[recording_lib.Entry]:
  """List the recordings of a folder, split by wearer.

  Args:
    root: folder of the upstream tree, or of `.npz` files.
    classes: "common", the activities that every set (1A, 1B; every npz) has, 11
      upstream; or "all", every activity, from the sets that have all of them
      (15 upstream, set 1B).
    test_wearers: default 9-12 and 23-27 for "common", 23-27 for "all".
    validation_wearers: default every fifth of the others in order.
    frame: "device", the sensor's own axes; or "head", into which each wearer's
      recordings of all activities are turned together, unlabelled
      (`mounting.on_temple`). They are all read here, then.

  Raises:
    FileNotFoundError: the folder holds neither form.
    ValueError: a file is damaged, a wearer is unknown, a wearer is in both
      lists, or nobody is left to train on.
  """
  root = pathlib.Path(root)
  if not root.is_dir():
    raise FileNotFoundError(f"folder {root} does not exist")
  arrays = sorted(root.glob("*.npz"))
  found = _in_arrays(arrays) if arrays else _in_tree(root)
  if not found:
    raise FileNotFoundError(
      f"{root} holds neither .npz files nor the folders Dataset_1A, Dataset_1B"
    )
  if frame not in ("device", "head"):
    raise ValueError(f"frame is {frame!r}, expected 'device' or 'head'")
  if frame == "head":
    found = _turned(found)
  found = _select(found, classes)
  splits = _splits(found, classes, test_wearers, validation_wearers)
  return [
    recording_lib.Entry(name, str(user), splits[user], opener, files)
    for name, user, _, _, files, opener in found
  ]


def _select(found, classes):
  """Keep the recordings of the chosen classes."""
  labels_of = collections.defaultdict(set)
  for _, _, label, group, *_ in found:
    labels_of[group].add(label)
  if classes == "common":
    wanted = set.intersection(*labels_of.values())
    return [f for f in found if f[2] in wanted]
  if classes == "all":
    union = set.union(*labels_of.values())
    found = [f for f in found if labels_of[f[3]] == union]
    if not found:
      raise ValueError("no set of recordings has all activities")
    return found
  raise ValueError(f"classes is {classes!r}, expected 'common' or 'all'")


def _turned(found):
  """Let every opener turn its recording into the head frame."""
  worn = collections.defaultdict(dict)
  for name, user, *_, opener in found:
    try:
      worn[user][name] = mounting.look(opener())
    except (ValueError, OSError):
      continue  # opened again by the build, which reports it
  turns = {}
  for own in worn.values():
    if any(len(seen["directions"]) for seen in own.values()):
      turns |= zip(own, mounting.on_temple(list(own.values())), strict=True)
  return [
    (name, *rest, functools.partial(_open_turned, opener, turn))
    if (turn := turns.get(name)) is not None
    else (name, *rest, opener)
    for name, *rest, opener in found
  ]


def _open_turned(opener, turn):
  recording = opener()
  sensors = recording.imu
  turned = dataclasses.replace(
    sensors,
    accel=sensors.accel @ turn.T,
    gyro=sensors.gyro @ turn.T,
    frame="head",
  )
  return dataclasses.replace(recording, imu=turned)


def _splits(found, classes, test, validation):
  """Return user -> split."""
  users = sorted({user for _, user, *_ in found})
  known = f"the wearers are {', '.join(str(u) for u in users)}"
  if test is None:
    test = [user for user in TEST_WEARERS[classes] if user in users]
    if not test:
      raise ValueError(f"none of the default test wearers is there; {known}")
  test = _users(test, users, known)
  rest = [user for user in users if user not in test]
  validation = (
    rest[4::5] if validation is None else _users(validation, users, known)
  )
  both = set(test) & set(validation)
  if both:
    raise ValueError(f"wearer {min(both)} is in test and in validation")
  if not set(rest) - set(validation):
    raise ValueError(f"no wearer is left to train on; {known}")
  return {
    user: "test"
    if user in test
    else "validation"
    if user in validation
    else "train"
    for user in users
  }


def _users(chosen, users, known):
  named = {str(user): user for user in users}
  for user in map(str, chosen):
    if user not in named:
      raise ValueError(f"there is no wearer {user}; {known}")
  return [named[str(user)] for user in chosen]


def _in_arrays(paths):
  """Return (recording id, user, label, set, files, opener) of every one."""
  found = []
  for path in paths:
    arrays = _load(path)
    group = path.stem.removeprefix("classyglass_")
    for i, user in enumerate(arrays["rec_user"].tolist()):
      name = f"{group}_user{user:02d}_exp{arrays['rec_exp'][i]:03d}"
      opener = functools.partial(_open_row, path, i, name)
      label = str(arrays["rec_label"][i])
      found.append((name, user, label, group, (path,), opener))
  return found


@functools.lru_cache(maxsize=2)
def _load(path):
  """Return the arrays of a file; two are kept, every recording asks for one."""
  arrays = parsing.arrays(path, _KEYS)
  rows, count = len(arrays["accl_i16"]), len(arrays["rec_user"])
  start, length = arrays["rec_start"], arrays["rec_length"]
  fits = (
    arrays["accl_i16"].shape == arrays["gyro_i16"].shape == (rows, 3)
    and all(arrays[k].shape == (count,) for k in _TABLE)
    and all(arrays[k].shape == () for k in _SCALARS)
    and all(arrays[k].dtype.kind in "iu" for k in _TABLE[:-1])
    and arrays["rec_label"].dtype.kind == "U"
    and (start >= 0).all()
    and (length > 0).all()
    and (start + length <= rows).all()
  )
  if not fits:
    raise ValueError(
      f"{path}: shapes or types of the arrays contradict each other"
    )
  return arrays


def _open_row(path, row, name):
  arrays = _load(path)
  begin, length = int(arrays["rec_start"][row]), int(arrays["rec_length"][row])
  rows = slice(begin, begin + length)
  times_s = np.arange(length) / float(arrays["rate_hz"])
  accel = arrays["accl_i16"][rows] * float(arrays["accl_lsb_g"])
  gyro = arrays["gyro_i16"][rows] * float(arrays["gyro_lsb_dps"])
  return _recording(
    name,
    int(arrays["rec_user"][row]),
    str(arrays["rec_label"][row]),
    (times_s, imu.accel_to_si(accel, "g")),
    (times_s, imu.gyro_to_si(gyro, "deg/s")),
  )


def _in_tree(root):
  """Return (recording id, user, label, set, files, opener) of every one."""
  files = collections.defaultdict(list)
  for path in folders.walk(root):
    match = _FILE.fullmatch(path.name)
    home = re.fullmatch(
      r"Dataset_(1A|1B)/User(\d+)", "/".join(path.parts[-3:-1])
    )
    if match and home:
      key = home[1], int(home[2]), int(match["exp"])
      files[key].append((match["sensor"], match["start"], path))
  found = []
  for (group, user, exp), sensors in sorted(files.items()):
    name = f"{group}_user{user:02d}_exp{exp:03d}"
    label = ACTIVITIES[activity(group, user, exp) - 1]
    paths = _pair(sensors)
    opener = functools.partial(open_files, paths, name, user, label)
    found.append((name, user, label, group, paths, opener))
  return found


def activity(group: str, user: int, exp: int) -> int:
  """Return the activity, 1-15, of an experiment number.

  Args:
    group: "1A" (users 1-12, 11 activities) or "1B" (13-27, 15 activities).
    user: who wore the glasses.
    exp: number at the start of the file name.

  Raises:
    ValueError: the user has no such experiment.

  >>> activity("1A", 2, 12), activity("1B", 25, 321)
  (1, 11)
  """
  if group == "1A":
    return (exp - 1) % 11 + 1
  if user not in _FIRST_EXP:
    return (exp - 133) % 15 + 1
  number = exp - _FIRST_EXP[user] + 1
  number += number >= 10
  if not 1 <= number <= 15:
    raise ValueError(f"user {user} has no experiment {exp}")
  return number


def _pair(files):
  """Return the paths of the two sensors that started together.

  One experiment has a second accelerometer file; its start is another.
  """
  starts = collections.Counter(start for _, start, _ in files)
  files = sorted(files, key=lambda f: (-starts[f[1]], f[1]))
  chosen = {}
  for sensor, _, path in files:
    chosen.setdefault(sensor, path)
  return tuple(chosen.values())


def open_files(
  paths, recording_id: str, user: int | str, label: str
) -> recording_lib.Recording:
  """Open the one or two CSVs of a recording.

  Both carry the same epoch clock and start up to 0.1 s apart; zero is the first
  sample of either. A sensor without a file has no samples.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a header names other units than g and deg/s.
  """
  sensors = {}
  for path in paths:
    with open(path, encoding="utf-8-sig") as file:
      header = file.readline()
    unit = re.search(r"x-axis \(([^)]*)\)", header)
    if not unit or unit[1] not in _TO_SI:
      raise ValueError(
        f"{path}: expected columns x-axis (g) or x-axis (deg/s), the header is "
        f"{header[:80].strip()!r}"
      )
    sensor, to_si = _TO_SI[unit[1]]
    axes = [f"{axis}-axis ({unit[1]})" for axis in "xyz"]
    columns = parsing.numbers(path, ["epoch (ms)", *axes])
    values = np.stack([columns[axis] for axis in axes], axis=-1)
    sensors[sensor] = columns["epoch (ms)"], to_si(values, unit[1])
  empty = np.zeros(0), np.zeros((0, 3))
  accel, gyro = (sensors.get(s, empty) for s in ("accel", "gyro"))
  stamps = np.concatenate([accel[0], gyro[0]])
  if not np.isfinite(stamps).any():
    raise ValueError(f"{paths[0]}: holds no sample")
  zero_ms = np.nanmin(stamps)
  return _recording(
    recording_id,
    user,
    label,
    *(((t - zero_ms) / 1000, values) for t, values in (accel, gyro)),
  )


def open_file(path) -> recording_lib.Recording:
  """Open the recording that one CSV of the upstream tree belongs to.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file does not lie in Dataset_1A/UserN or Dataset_1B/UserN.
  """
  path = pathlib.Path(path)
  for *_, paths, opener in _in_tree(path.parents[2]):
    if path in paths:
      return opener()
  raise ValueError(f"{path}: is no file of a Dataset_1A or Dataset_1B tree")


def is_upstream_file(path) -> bool:
  """Does the name follow the upstream scheme?"""
  return _FILE.fullmatch(pathlib.Path(path).name) is not None


def _recording(name, user, label, accel, gyro):
  end_s = max(times[-1] for times, _ in (accel, gyro) if len(times))
  span = [(0.0, float(end_s), label)]
  return recording_lib.Recording(
    name,
    str(user),
    recording_lib.Imu(accel[0], accel[1], gyro[0], gyro[1], "device"),
    texts=list(span),
    labels=list(span),
  )
