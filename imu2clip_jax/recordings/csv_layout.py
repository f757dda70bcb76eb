"""`dataset.json` of a folder of CSV or npz files: columns, units and axes.

    {
      "time":  {"column": "t", "unit": "ms"},
      "accel": {"columns": ["ax", "ay", "az"], "unit": "g"},
      "gyro":  {"columns": ["gx", "gy", "gz"], "unit": "deg/s"},
      "frame": "device",
      "label_column": "activity", "no_label": ["", "0"], "delimiter": ";"
    }

Time units: s, ms, us, ns, or {"unit": "none", "rate_hz": 50} where a file has
no times. Acceleration, gravity in it: g, m/s2; angular rate: deg/s, rad/s. A
sensor may be left out, or have a "time" of its own. In an npz "columns" may
also name one array [N, 3]. Without dataset.json a CSV has the columns t_s, ax,
ay, az, gx, gy, gz and an npz the arrays t_s, accel, gyro, in SI units.
"""

import pathlib

import numpy as np

from imu2clip_jax import imu
from imu2clip_jax.recordings import parsing

SENSORS = ("accel", "gyro")
TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_CONVERT = {"accel": imu.accel_to_si, "gyro": imu.gyro_to_si}
_COMMON = {"frame": "device", "delimiter": ",", "no_label": [""]}
_TIME = {"column": "t_s", "unit": "s"}
_CSV = _COMMON | {
  "accel": {"columns": ["ax", "ay", "az"], "unit": "m/s2", "time": _TIME},
  "gyro": {"columns": ["gx", "gy", "gz"], "unit": "rad/s", "time": _TIME},
}
_NPZ = _COMMON | {
  "accel": {"columns": ["accel"], "unit": "m/s2", "time": _TIME},
  "gyro": {"columns": ["gyro"], "unit": "rad/s", "time": _TIME},
}
_KEYS = {
  "the file": {*_COMMON, *SENSORS, "time", "label_column"},
  "time": {"column", "unit", "rate_hz"},
  "accel": {"columns", "unit", "time"},
  "gyro": {"columns", "unit", "time"},
}


def load(folder: pathlib.Path) -> dict | None:
  """Return the checked content of FOLDER/dataset.json, None without one.

  Every sensor of the result has its "time".

  Raises:
    ValueError: it is no JSON, or a key, a unit or the frame is unknown.
  """
  path = pathlib.Path(folder) / "dataset.json"
  if not path.is_file():
    return None
  content = parsing.read_json(path)
  try:
    return _check(content)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def for_file(layout: dict | None, path: pathlib.Path) -> dict:
  """Return the layout of a file: the folder's, or the one of its kind."""
  if layout is not None:
    return layout
  return _NPZ if path.suffix.lower() == ".npz" else _CSV


def _check(found):
  _check_keys("the file", found)
  if not set(SENSORS) & set(found):
    raise ValueError("names neither accel nor gyro")
  layout = _COMMON | {k: v for k, v in found.items() if k != "time"}
  for sensor in SENSORS:
    if sensor in found:
      _check_keys(sensor, found[sensor])
      layout[sensor] = {"time": found.get("time")} | found[sensor]
      _check_sensor(sensor, layout[sensor])
  for key in ("delimiter", "label_column"):
    if not isinstance(layout.get(key, ""), str):
      raise ValueError(f"{key} is {layout[key]!r}, expected a string")
  if len(layout["delimiter"]) != 1:
    raise ValueError(f"delimiter is {layout['delimiter']!r}, not one character")
  if not isinstance(layout["no_label"], list):
    raise ValueError(f"no_label is {layout['no_label']!r}, expected a list")
  layout["no_label"] = [str(name) for name in layout["no_label"]]
  imu.to_head_frame(
    np.zeros((1, 6)), str(layout["frame"])
  )  # refuses unknown ones
  return layout


def _check_keys(where, found):
  if not isinstance(found, dict):
    raise ValueError(f"{where} must be an object {{...}}, got {found!r}")
  unknown = sorted(set(found) - _KEYS[where])
  if unknown:
    raise ValueError(
      f"unknown key {unknown[0]!r} in {where}, expected one of "
      f"{', '.join(sorted(_KEYS[where]))}"
    )


def _check_sensor(sensor, found):
  columns = found.get("columns")
  if (
    not isinstance(columns, list)
    or len(columns) not in (1, 3)
    or not all(isinstance(name, str) for name in columns)
  ):
    raise ValueError(
      f"{sensor}.columns must name three columns, or one array [N, 3] of an "
      f"npz, got {columns!r}"
    )
  try:
    _CONVERT[sensor](np.zeros(3), str(found.get("unit")))
  except ValueError as error:
    raise ValueError(f"{sensor}: {error}") from error
  time = found["time"]
  _check_keys("time", time)
  if time.get("unit") == "none":
    rate_hz = time.get("rate_hz")
    if not isinstance(rate_hz, int | float) or not rate_hz > 0:
      raise ValueError("time.unit 'none' needs time.rate_hz, a number above 0")
  elif str(time.get("unit")) not in TIME_UNITS or "column" not in time:
    raise ValueError(
      f"time needs a column and a unit of {', '.join(TIME_UNITS)}, or the "
      f"unit 'none' and rate_hz, got {time!r}"
    )
