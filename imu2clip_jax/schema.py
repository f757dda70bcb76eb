"""The window record: what `build` writes and every later step reads.

A window is an aligned slice of a recording. Frames, texts, the label and either
sensor may be missing; masks and empty lists say so, never zeros that look real.
"""

import math

import numpy as np

SENSORS = ("accel", "gyro")
CHANNELS = ("ax", "ay", "az", "gx", "gy", "gz")

# name -> (dtype, shape, meaning); None in a shape means any length.
FIELDS = {
  "window_id": (str, (), "unique: recording id, '@', start in milliseconds"),
  "recording_id": (str, (), "unique within the data set"),
  "wearer_id": (str, (), "the unit of every split"),
  "start_s": (np.float64, (), "on the recording's clock"),
  "end_s": (np.float64, (), "on the recording's clock"),
  "imu": (np.float32, (None, 6), "m/s², rad/s; 0 where a sensor is missing"),
  "sensor_mask": (np.bool_, (2,), "accel, gyro: measured in this window?"),
  "coverage": (np.float32, (), "share of the window with real samples, 0..1"),
  "frames": (bytes, (None,), "encoded images (PNG or JPEG), upright RGB"),
  "frame_times_s": (np.float64, (None,), "one time a frame"),
  "texts": (str, (None,), "narrations that overlap, nearest the middle first"),
  "label": (str, (), "activity of the window, '' if unlabelled"),
}


def validate(record: dict, num_samples: int) -> None:
  """Check one window record against `FIELDS`.

  Args:
    record: field name -> value.
    num_samples: T, the number of IMU samples of every window in the data set.

  Raises:
    ValueError: a field is missing, extra, of the wrong dtype or shape, not
      finite, or contradicts another one; names the window and the field.
  """
  where = f"window {record.get('window_id', '?')!r}"
  if record.keys() != FIELDS.keys():
    missing, extra = set(FIELDS) - set(record), set(record) - set(FIELDS)
    raise ValueError(
      f"{where}: missing fields {sorted(missing)}, "
      f"unknown fields {sorted(extra)}"
    )
  for name, (dtype, shape, _) in FIELDS.items():
    _check_field(where, name, record[name], dtype, shape)
  if record["imu"].shape[0] != num_samples:
    raise ValueError(
      f"{where}: imu has {record['imu'].shape[0]} samples, "
      f"the data set has {num_samples}"
    )
  if not record["sensor_mask"].any():
    raise ValueError(f"{where}: no sensor was measured")
  if len(record["frames"]) != len(record["frame_times_s"]):
    raise ValueError(
      f"{where}: {len(record['frames'])} frames but "
      f"{len(record['frame_times_s'])} frame times"
    )
  if not record["end_s"] > record["start_s"]:
    raise ValueError(
      f"{where}: ends at {record['end_s']} s, starts at {record['start_s']} s"
    )


def _check_field(where, name, value, dtype, shape):
  if dtype in (str, bytes):
    values = value if shape else (value,)
    if not all([isinstance(v, dtype) for v in values]):
      raise ValueError(f"{where}: {name} must be {dtype.__name__}")
    return
  array = np.asarray(value)
  fits = array.shape == shape or (
    array.ndim == len(shape)
    and all(
      [w in (None, got) for w, got in zip(shape, array.shape, strict=True)]
    )
  )
  if array.dtype != dtype or not fits:
    raise ValueError(
      f"{where}: {name} must be {np.dtype(dtype).name} {list(shape)}, "
      f"got {array.dtype.name} {list(array.shape)}"
    )
  # NumPy would take long to say it of so little.
  if dtype is np.bool_ or not array.size:
    return
  if not (np.isfinite(array).all() if shape else math.isfinite(array)):
    raise ValueError(f"{where}: {name} holds NaN or infinity")
