"""How a sensor on the temple of a pair of glasses was mounted, from wear alone.

The sensor may be clipped on either way up and either way round, the clip turns
about the temple between recordings, and glasses sit differently on every nose.
How heads move tells: most of the time they are upright, they do not lean far to
one side for minutes, and the temples lie before the joint that a head nods
about, so that nodding down lowers them. No label is looked at, but all of a
wearer's recordings are, as on a device that has been worn for some time.
"""

from collections.abc import Sequence

import numpy as np
from scipy import signal

from imu2clip_jax import imu as imu_lib
from imu2clip_jax.recordings import recording as recording_lib

_PIECE_S = 5.0
# Rows: left, back and up, where the sensor's x runs forward along the temple,
# its y up.
_ALONG_TEMPLE = np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])
_BACK_TO_FRONT = np.diag([-1.0, -1, 1])
# Who writes leans to one side by 20 degrees; a clip that has turned by more
# than this was turned by hand.
_SLIP_RAD = np.radians(30)
# Nods, and how much the head may rise and sink, m/s², for them to show: those
# of steps are made against the rise of the body.
_RATE_HZ, _NOD_HZ, _CALM = 50.0, (0.5, 3.0), 0.1


def on_temple(worn: Sequence[dict]) -> list[np.ndarray]:
  """Return the turns from the sensor's axes into the head frame.

  How far the sensor was turned about the temple, upside down too, is told by
  the gravity of those recordings between which it did not slip. All together
  tell the rest: their median direction is up, and nods tell front from back;
  without one nod the sensor's x is taken to run forward.

  Args:
    worn: `look` at every recording of one wearer.

  Returns:
    float64 [3, 3] for each: head = turn @ sensor; x left, y back, z up.

  Example:
    >>> up, bowed = [0, -9.8, 0], [-4.0, -8.9, 0]  # upside down
    >>> seen = {"directions": np.array([up, up, bowed]), "forward": 1.0}
    >>> (turn,) = on_temple([seen])
    >>> (turn @ bowed).round(1) + 0
    array([0. , 4. , 8.9])
  """
  directions = [own["directions"] for own in worn]
  angles = np.array([_about_temple(own) for own in directions])
  groups = _between_slips(angles)
  for group in np.unique(groups):
    of_group = np.flatnonzero(groups == group)
    angles[of_group] = _about_temple(
      np.concatenate([directions[i] for i in of_group])
    )
  turns = [_along_temple(angle) for angle in angles]
  seen = [own @ turn.T for own, turn in zip(directions, turns, strict=True)]
  level = imu_lib.turn_upright(np.median(np.concatenate(seen), 0))
  if sum(own["forward"] for own in worn) < 0:
    level = _BACK_TO_FRONT @ level
  return [level @ turn for turn in turns]


def look(recording: recording_lib.Recording) -> dict | None:
  """Say what one recording tells of the mounting.

  Returns:
    {"directions" float64 [N, 3], the mean acceleration of pieces of 5 s, m/s²
    (one piece where it is shorter), "forward", how surely the sensor's x runs
    forward: the sum over pieces of the correlation of angular acceleration, as
    if nodding up, with acceleration upward; calm ones count most}. None without
    an accelerometer.
  """
  imu = recording.imu
  accel = imu.accel[np.isfinite(imu.accel).all(-1)]
  if not len(accel):
    return None
  duration_s = np.ptp(imu.accel_t_s)
  pieces = np.array_split(accel, max(1, int(duration_s / _PIECE_S)))
  directions = np.stack([piece.mean(0) for piece in pieces if len(piece)])
  return {"directions": directions, "forward": _forward(imu, directions)}


def _about_temple(directions):
  """Return by how much the sensor was turned about the temple, rad."""
  left, _, up = _ALONG_TEMPLE @ np.median(directions, 0)
  return np.arctan2(left, up)


def _along_temple(angle):
  """Turn from the sensor's axes, turned about the temple by `angle`."""
  cos, sin = np.cos(angle), np.sin(angle)
  return np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]) @ _ALONG_TEMPLE


def _between_slips(angles):
  """Return a number for each recording; those near to one of them share its."""
  away = np.angle(np.exp(1j * (angles[:, None] - angles)))
  near = np.abs(away) <= _SLIP_RAD
  groups = np.full(len(angles), -1)
  while (left := groups < 0).any():
    most = np.argmax((near & left).sum(1) * left)
    groups[near[most] & left] = most
  return groups


def _forward(imu, directions):
  grid = imu_lib.to_grid(
    imu.accel_t_s, imu.accel, imu.gyro_t_s, imu.gyro, _RATE_HZ
  )
  length = int(_PIECE_S * _RATE_HZ)
  count = len(grid.imu) // length
  if not count:
    return 0.0

  def pieces(x):
    return x[: count * length].reshape(count, length, -1)

  turn = _along_temple(_about_temple(directions))
  nods = signal.butter(2, _NOD_HZ, "bandpass", fs=_RATE_HZ, output="sos")
  turned = pieces(signal.sosfiltfilt(nods, grid.imu[:, :3] @ turn.T, axis=0))
  rate = signal.sosfiltfilt(nods, grid.imu[:, 3:] @ turn[0])  # to nod down
  nodding_up = pieces(-np.gradient(rate))[:, :, 0]
  mean = pieces(grid.imu[:, :3] @ turn.T).mean(1)
  up = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-6)
  rising = np.einsum("ptc,pc->pt", turned, up)
  power = (rising**2).sum(1) * (nodding_up**2).sum(1)
  found = (rising * nodding_up).sum(1) / np.sqrt(np.maximum(power, 1e-12))
  calm = _CALM**2 / (_CALM**2 + rising.var(1))
  return float((found * calm)[pieces(grid.real).all((1, 2))].sum())
