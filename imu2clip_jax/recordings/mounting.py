"""How a sensor on the temple of a pair of glasses was mounted, from wear alone.

The sensor may be clipped on either way up and either way round, and glasses sit
differently on every nose. What people do with their heads tells: most of the
time a head is upright, and when it is not it is bowed, not thrown back. No
label is looked at, but all of a wearer's recordings are, as on a device that
has been worn for some time.
"""

from collections.abc import Sequence

import numpy as np

from imu2clip_jax import imu as imu_lib
from imu2clip_jax.recordings import recording as recording_lib

_PIECE_S = 5.0
# Rows: left, back and up, where the sensor's x runs forward along the temple,
# its y up.
_ALONG_TEMPLE = np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])
_UPSIDE_DOWN = np.diag([-1.0, 1, -1])  # half a turn about the temple
_BACK_TO_FRONT = np.diag([-1.0, -1, 1])


def directions(recording: recording_lib.Recording) -> np.ndarray:
  """Return the mean acceleration of pieces of 5 s, float64 [N, 3] m/s².

  A recording shorter than that is one piece; without an accelerometer N is 0.
  """
  accel = recording.imu.accel[np.isfinite(recording.imu.accel).all(-1)]
  if not len(accel):
    return np.zeros((0, 3))
  duration_s = np.ptp(recording.imu.accel_t_s)
  pieces = np.array_split(accel, max(1, int(duration_s / _PIECE_S)))
  return np.stack([piece.mean(0) for piece in pieces if len(piece)])


def on_temple(pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Return the turns from the sensor's axes into the head frame.

  Upside down is told for each recording by its own gravity. Together the
  recordings tell the rest: their median direction is up, and the mean of the
  leans, weighted by their size, is to the back of the head (whose owner bows).

  Args:
    pieces: `directions` of every recording of one wearer, [N, 3] each, N > 0.

  Returns:
    float64 [3, 3] for each: head = turn @ sensor; x left, y back, z up.

  Example:
    >>> up, bowed = [0, -9.8, 0], [-4.0, -8.9, 0]  # upside down
    >>> (turn,) = on_temple([np.array([up, up, bowed])])
    >>> (turn @ bowed).round(1) + 0
    array([0. , 4. , 8.9])
  """
  turns = []
  for own in pieces:
    flip = _UPSIDE_DOWN if np.median(own[:, 1]) < 0 else np.eye(3)
    turns.append(flip @ _ALONG_TEMPLE)
  seen = np.concatenate(
    [own @ turn.T for own, turn in zip(pieces, turns, strict=True)]
  )
  level = imu_lib.turn_upright(np.median(seen, 0))
  lean = (seen @ level.T)[:, :2]
  back = (lean[:, 1] * np.linalg.norm(lean, axis=-1)).mean()
  level = level if back >= 0 else _BACK_TO_FRONT @ level
  return [level @ turn for turn in turns]
