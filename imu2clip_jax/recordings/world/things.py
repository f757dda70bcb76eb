"""Shapes that a picture is made of: boxes and balls, and how they are packed.

Places are metres in the scene's axes (x left, y back, z up; the wearer is at
the origin and faces -y), or in the head's where a thing is `worn`.
"""

import dataclasses

import numpy as np

from imu2clip_jax.recordings.world import motion

MAX_BOXES, MAX_BALLS = 22, 12


@dataclasses.dataclass(frozen=True)
class Thing:
  """A box or an ellipsoid.

  Attributes:
    shape: "box" or "ball".
    colour: name in the palette.
    centre, half: metres; half is the half size along its own axes.
    yaw, tilt: degrees, about up, then about its own x.
    swing, wave: it moves by swing times this wave of the bout (metres).
    stripes: pairs of bands along its own x (or z, if negative).
    wrap: it comes again every so many metres of the path, 0 if it stays.
    slope: metres of rise for each metre ahead, for stairs.
    worn: rides with the head.
  """

  shape: str
  colour: str
  centre: tuple[float, float, float]
  half: tuple[float, float, float]
  yaw: float = 0.0
  tilt: float = 0.0
  swing: tuple[float, float, float] = (0.0, 0.0, 0.0)
  wave: str = "sin1"
  stripes: float = 0.0
  wrap: float = 0.0
  slope: float = 0.0
  worn: bool = False


def box(colour, centre, half, **more) -> Thing:
  """A box; see `Thing`."""
  return Thing("box", colour, centre, half, **more)


def ball(colour, centre, half, **more) -> Thing:
  """A ball of radius `half`, or an ellipsoid."""
  if isinstance(half, float):
    half = (half, half, half)
  return Thing("ball", colour, centre, half, **more)


def rod(colour, start, end, thick, **more) -> Thing:
  """A thin box from one point to another."""
  start, end = np.asarray(start, float), np.asarray(end, float)
  x, y, z = end - start
  length = float(np.linalg.norm(end - start))
  yaw = float(np.degrees(np.arctan2(-x, y)))
  tilt = float(np.degrees(np.arcsin(z / length)))
  centre = tuple(0.5 * (start + end))
  half = (thick, 0.5 * length, thick)
  return box(colour, centre, half, yaw=yaw, tilt=tilt, **more)


def arm(hand, elbow=None, **more) -> list[Thing]:
  """A hand and the sleeve behind it; the elbow is found from the hand."""
  x, y, z = hand
  if elbow is None:
    side = np.sign(x) if abs(x) > 0.02 else 1.0
    elbow = (x + side * 0.16, y + 0.30, z - 0.10)
  return [
    ball("skin", hand, (0.048, 0.062, 0.036), **more),
    rod("sleeve", hand, elbow, 0.045, **more),
  ]


def mirrored(thing: Thing) -> Thing:
  """The same thing for the other side."""
  (x, y, z), (a, b, c) = thing.centre, thing.swing
  return dataclasses.replace(
    thing, centre=(-x, y, z), swing=(-a, b, c), yaw=-thing.yaw
  )


def _turn(yaw, tilt):
  sin, cos = np.sin(yaw), np.cos(yaw)
  up, level = np.sin(tilt), np.cos(tilt)
  return (
    (cos, -sin * level, sin * up),
    (sin, cos * level, -cos * up),
    (0.0, up, level),
  )


def pack(things: list[Thing], palette: dict) -> dict:
  """Pack things into arrays of fixed size; unused places are far away.

  Args:
    things: in any order.
    palette: colour name -> RGB [3] in 0..1.

  Returns:
    name -> float32 array [MAX_BOXES + MAX_BALLS, ...], boxes first.
  """
  places = {"box": MAX_BOXES, "ball": MAX_BALLS}
  blank = Thing("box", "", (0.0, 0.0, -90.0), (0.001, 0.001, 0.001))
  rows = []
  for shape, room in places.items():
    mine = [thing for thing in things if thing.shape == shape]
    if len(mine) > room:
      raise ValueError(
        f"a scene has {len(mine)} {shape} shapes, at most {room}"
      )
    rows += mine + [blank] * (room - len(mine))
  packed = {
    "centre": [t.centre for t in rows],
    "half": [t.half for t in rows],
    "turn": [_turn(np.radians(t.yaw), np.radians(t.tilt)) for t in rows],
    "colour": [palette.get(t.colour, (0.0, 0.0, 0.0)) for t in rows],
    "swing": [t.swing for t in rows],
    "stripes": [t.stripes for t in rows],
    "wrap": [t.wrap for t in rows],
    "slope": [t.slope for t in rows],
    "worn": [float(t.worn) for t in rows],
    "wave": np.eye(len(motion.WAVES))[
      [motion.WAVES.index(t.wave) for t in rows]
    ],
  }
  return {name: np.asarray(value, np.float32) for name, value in packed.items()}
