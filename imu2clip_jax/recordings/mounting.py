"""How a sensor on the temple of a pair of glasses was mounted, from wear alone.

The sensor may be clipped on either way up and either way round, the clip turns
about the temple or is put on anew between recordings, and glasses sit
differently on every nose. How heads move tells: most of the time they are
upright, they do not lean far to one side for minutes, and the temples lie
before the joint that a head nods about, so that nodding down lowers them. No
label is looked at, but all of a wearer's recordings are, as on a device that
has been worn for some time.
"""

from collections.abc import Sequence

import numpy as np
from scipy import signal

from imu2clip_jax import imu as imu_lib
from imu2clip_jax.recordings import recording as recording_lib

# Gravity is looked at in pieces of this length, nods too; at this rate.
_PIECE_S, _RATE_HZ = 5.0, 50.0
# Rows: left, back and up, where the sensor's x runs forward along the temple,
# its y up.
_ALONG_TEMPLE = np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])
_BACK_TO_FRONT = np.diag([-1.0, -1, 1])
# Share of gravity across the temple below which it does not tell how far the
# sensor was turned about it: glasses that lie on a table.
_ACROSS = 0.3
# Who writes leans to one side by 20 degrees; a clip that has turned by more
# than this was turned by hand.
_SLIP_RAD = np.radians(30)
# How surely nods must speak, in calm pieces of perfect nods, before a clip
# counts as turned round between two recordings.
_TURNED_ROUND = 4.0
# Nods, and how much the head may rise and sink, m/s², for them to show: those
# of steps are made against the rise of the body.
_NOD_HZ, _CALM = (0.5, 3.0), 0.1


def on_temple(worn: Sequence[dict]) -> list[np.ndarray]:
  """Return the turns from the sensor's axes into the head frame.

  How far the sensor was turned about the temple, upside down too, is told by
  the gravity of those recordings between which it did not slip; nods tell front
  from back, and whether the clip was turned round on the way; all together tell
  what is level: their median direction is up. Without one nod the sensor's x is
  taken to run forward.

  Args:
    worn: `look` at every recording of one wearer, in the order of recording, at
      least one of them with an accelerometer. Those that tell nothing are taken
      to be worn as the nearest one that does.

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
  across = np.array([_across(own) for own in directions])
  sure = np.flatnonzero(across >= min(_ACROSS, across.max()))
  angles = _between_slips([directions[i] for i in sure])
  backward = _turned_round(np.array([worn[i]["forward"] for i in sure]))
  turns = [
    (_BACK_TO_FRONT if back else np.eye(3)) @ _along_temple(angle)
    for angle, back in zip(angles, backward, strict=True)
  ]
  away = np.abs(np.arange(len(worn))[:, None] - sure)
  turns = [turns[nearest] for nearest in away.argmin(1)]
  seen = [own @ turn.T for own, turn in zip(directions, turns, strict=True)]
  level = imu_lib.turn_upright(np.median(np.concatenate(seen), 0))
  return [level @ turn for turn in turns]


def look(recording: recording_lib.Recording) -> dict:
  """Say what one recording tells of the mounting.

  Returns:
    {"directions" float64 [N, 3], the mean acceleration of pieces of 5 s and
    more, m/s² (one piece where it is shorter; N is 0 without an accelerometer),
    "forward", how surely the sensor's x runs forward: the sum over pieces of
    the correlation of angular acceleration, as if nodding up, with acceleration
    upward; calm ones count most}.

  Raises:
    ValueError: it has no usable sample, see `imu.to_grid`.
  """
  imu = recording.imu
  grid = imu_lib.to_grid(
    imu.accel_t_s, imu.accel, imu.gyro_t_s, imu.gyro, _RATE_HZ
  )
  length = int(_PIECE_S * _RATE_HZ)
  count = max(len(grid.imu) // length, 1)
  directions = [
    piece[real].mean(0, dtype=np.float64)
    for piece, real in zip(
      np.array_split(grid.imu[:, :3], count),
      np.array_split(grid.real[:, 0], count),
      strict=True,
    )
    if real.any()
  ]
  directions = np.array(directions).reshape(-1, 3)
  whole = count * length <= len(grid.imu) and len(directions) > 0
  forward = _forward(grid, directions, count, length) if whole else 0.0
  return {"directions": directions, "forward": forward}


def _across(directions):
  """Return the share of gravity across the temple, 0 to 1; -1 for no piece."""
  if not len(directions):
    return -1.0
  left, back, up = _ALONG_TEMPLE @ np.median(directions, 0)
  return np.hypot(left, up) / max(np.hypot(np.hypot(left, up), back), 1e-6)


def _about_temple(directions):
  """Return by how much the sensor was turned about the temple, rad."""
  left, _, up = _ALONG_TEMPLE @ np.median(directions, 0)
  return np.arctan2(left, up)


def _along_temple(angle):
  """Turn from the sensor's axes, turned about the temple by `angle`."""
  cos, sin = np.cos(angle), np.sin(angle)
  return np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]) @ _ALONG_TEMPLE


def _between_slips(directions):
  """Return the angle about the temple of each recording.

  Those near to one of them share its group, and a group one angle; the one
  with the most neighbours first, of equals the one in their midst.
  """
  angles = np.array([_about_temple(own) for own in directions])
  away = np.abs(np.angle(np.exp(1j * (angles[:, None] - angles))))
  near = away <= _SLIP_RAD
  left = np.ones(len(angles), bool)
  while left.any():
    weight = np.where(near & left, 1 - away / 100, 0).sum(1) * left
    group = np.flatnonzero(near[np.argmax(weight)] & left)
    angles[group] = _about_temple(
      np.concatenate([directions[i] for i in group])
    )
    left[group] = False
  return angles


def _turned_round(forward):
  """Say of each recording, in order, whether the sensor's x runs backward.

  The most likely course, in which turning the clip round has its price
  (Viterbi's algorithm).
  """
  score, came_from = np.zeros(2), []
  for own in forward:
    best = np.argmax(score[:, None] - 2 * _TURNED_ROUND * (1 - np.eye(2)), 0)
    switched = best != np.arange(2)
    score = score[best] - 2 * _TURNED_ROUND * switched + [own, -own]
    came_from.append(best)
  course = [int(score[1] > score[0])]
  for best in came_from[:0:-1]:
    course.append(int(best[course[-1]]))
  return np.array(course[::-1], bool)


def _forward(grid, directions, count, length):
  """Sum up what nods say, see `look`."""

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
