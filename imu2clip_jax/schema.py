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
  why = _contradiction(record, num_samples)
  if why:
    raise ValueError(f"window {record.get('window_id', '?')!r}: {why}")


def _contradiction(record, num_samples):
  """Say what is wrong with a record; None if nothing is."""
  if record.keys() != FIELDS.keys():
    missing, extra = set(FIELDS) - set(record), set(record) - set(FIELDS)
    return f"missing fields {sorted(missing)}, unknown fields {sorted(extra)}"
  for name, (dtype, shape, _) in FIELDS.items():
    why = _unfit(record[name], dtype, shape)
    if why:
      return f"{name} {why}"
  length = record["imu"].shape[0]
  if length != num_samples:
    return f"imu has {length} samples, the data set has {num_samples}"
  if not any(record["sensor_mask"]):
    return "no sensor was measured"
  frames, times = len(record["frames"]), len(record["frame_times_s"])
  if frames != times:
    return f"{frames} frames but {times} frame times"
  if not record["end_s"] > record["start_s"]:
    return f"ends at {record['end_s']} s, starts at {record['start_s']} s"
  return None


def _unfit(value, dtype, shape):
  """Say why a value is not of its dtype and shape and finite, or None."""
  if dtype in (str, bytes):
    fits = [isinstance(v, dtype) for v in (value if shape else (value,))]
    return None if all(fits) else f"must be {dtype.__name__}"
  if not shape and type(value) is dtype:
    return None if math.isfinite(value) else "holds NaN or infinity"
  array = np.asarray(value)
  got = array.shape
  fits = len(got) == len(shape) and all(
    [w in (None, n) for w, n in zip(shape, got, strict=True)]
  )
  if array.dtype != dtype or not fits:
    return (
      f"must be {np.dtype(dtype).name} {list(shape)}, "
      f"got {array.dtype.name} {list(got)}"
    )
  finite = dtype is np.bool_ or np.isfinite(array).all()
  return None if finite else "holds NaN or infinity"
