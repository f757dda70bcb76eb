"""What each activity shows: body, hands, tools and the things it counts.

Everything is laid out for the left side; `scenes` mirrors it for the right.
"""

import numpy as np

from imu2clip_jax.recordings.world.things import arm, ball, box, rod

SITTING = [
  box("trousers", (0.13, -0.30, 0.50), (0.085, 0.26, 0.08)),
  box("trousers", (-0.13, -0.30, 0.50), (0.085, 0.26, 0.08)),
]
STANDING = [
  ball("dark", (0.11, -0.16, 0.05), (0.05, 0.14, 0.05)),
  ball("dark", (-0.11, -0.16, 0.05), (0.05, 0.14, 0.05)),
]


def _vigour(bout):
  """How far hands swing: quick work swings wide, which also blurs more."""
  return {"slow": 0.5, "normal": 1.0, "fast": 1.6}[bout.tempo]


def _row(bout, make, y, z, step=0.30):
  """As many things as the bout counts, side by side behind the work."""
  return [make((step * (k - 1.5), y, z)) for k in range(bout.count)]


def _moving(bout, swing, wave="sin1"):
  scaled = tuple(_vigour(bout) * way for way in swing)
  return {"swing": scaled, "wave": wave}


def _reading(bout):
  z = {"down": 0.84, "ahead": 0.95, "up": 1.06}[bout.gaze]
  page = {"tilt": -38, "stripes": 9}
  turning = _moving(bout, (-0.2, 0.0, 0.05), "pulse")
  return [
    box("white", (0.14, -0.44, z), (0.13, 0.18, 0.012), **page),
    box("white", (-0.14, -0.44, z), (0.13, 0.18, 0.012), **page),
    box("red", (0, -0.45, z - 0.02), (0.30, 0.21, 0.008), tilt=-38),
    *arm((-0.27, -0.38, z - 0.03)),
    *arm((0.24, -0.38, z), **turning),
  ]


def _writing(bout):
  along = _moving(bout, (0.03, 0.015, 0.0))
  return [
    box("yellow", (0.0, -0.60, 0.735), (0.25, 0.29, 0.008), yaw=10),
    box("white", (0.0, -0.60, 0.745), (0.20, 0.24, 0.006), yaw=10, stripes=9),
    *arm((0.12, -0.54, 0.78), **along),
    rod("blue", (0.03, -0.64, 0.75), (0.16, -0.48, 0.97), 0.022, **along),
    *arm((-0.24, -0.48, 0.76)),
  ]


def _typing(bout):
  press = _moving(bout, (0, 0, 0.015))
  lift = _moving(bout, (0, 0, -0.015))
  return [
    box("dark", (0, -0.58, 0.735), (0.28, 0.16, 0.012)),
    box("metal", (0, -0.58, 0.75), (0.24, 0.12, 0.006), stripes=9),
    box("dark", (0, -0.78, 0.94), (0.32, 0.015, 0.22), tilt=-8),
    box("white", (0, -0.76, 0.94), (0.28, 0.015, 0.185), tilt=-8, stripes=-7),
    *arm((0.12, -0.55, 0.78), **press),
    *arm((-0.12, -0.55, 0.78), **lift),
    ball("orange", (0.40, -0.66, 0.79), (0.07, 0.07, 0.08)),
  ]


def _browsing(bout):
  along = _moving(bout, (0.03, 0.02, 0.0), "square")
  return [
    box("dark", (0, -0.90, 1.02), (0.40, 0.02, 0.25)),
    box("blue", (0, -0.88, 1.02), (0.37, 0.015, 0.22)),
    box("red", (0.17, -0.865, 1.09), (0.15, 0.01, 0.11)),
    box("yellow", (-0.17, -0.865, 0.95), (0.15, 0.01, 0.11)),
    box("dark", (0, -0.93, 0.78), (0.06, 0.04, 0.06)),
    box("white", (0.27, -0.62, 0.74), (0.05, 0.08, 0.02)),
    *arm((0.27, -0.58, 0.78), **along),
  ]


def _moving_body(bout):
  # A ball is held before the chest and goes with it.
  along = {"swing": (0.10, 0.0, 0.0), "wave": "sin1"}
  return [
    ball("yellow", (0.05, -0.52, 0.92), (0.17, 0.15, 0.16), **along),
    *arm((0.22, -0.46, 0.95), (0.36, -0.08, 0.90), **along),
    *arm((-0.12, -0.46, 0.95), (-0.32, -0.08, 0.90), **along),
  ]


def _moving_chair(bout):
  return [
    box("red", (0.25, -0.34, 0.74), (0.06, 0.26, 0.05)),
    box("red", (-0.25, -0.34, 0.74), (0.06, 0.26, 0.05)),
    *arm((0.25, -0.50, 0.82), (0.36, -0.10, 0.92)),
    *arm((-0.25, -0.50, 0.82), (-0.36, -0.10, 0.92)),
  ]


def _crossed(bout):
  # The chest rises and bows with the head.
  return [
    rod("sleeve", (0.26, -0.10, -0.34), (-0.10, -0.25, -0.22), 0.05, worn=True),
    rod("sleeve", (-0.26, -0.10, -0.34), (0.10, -0.24, -0.17), 0.05, worn=True),
    ball("skin", (-0.13, -0.26, -0.20), 0.05, worn=True),
    ball("skin", (0.13, -0.25, -0.15), 0.05, worn=True),
  ]


def _waiting(bout):
  return [
    box("green", (0, -0.52, 1.18), (0.19, 0.06, 0.15)),
    *arm((0.06, -0.47, 1.33), (0.34, -0.10, 1.15)),
    *arm((-0.06, -0.47, 1.33), (-0.34, -0.10, 1.15)),
  ]


def _walking(bout):
  reach = 0.22 * _vigour(bout)
  far, near = (0, reach, -0.06), (0, -reach, 0.06)
  return [
    *arm((0.28, -0.36, 1.08), (0.28, 0.05, 1.15), swing=far),
    *arm((-0.28, -0.36, 1.08), (-0.28, 0.05, 1.15), swing=near),
  ]


def _running(bout):
  reach = 0.14 * _vigour(bout)
  far, near = (0, reach, -0.10), (0, -reach, 0.10)
  z = {"slow": 1.24, "normal": 1.29, "fast": 1.34}[bout.tempo]
  return [
    *arm((0.20, -0.46, z), (0.34, -0.05, z - 0.1), swing=far),
    *arm((-0.20, -0.46, z), (-0.34, -0.05, z - 0.1), swing=near),
  ]


def _stairs(bout):
  return arm((0.55, -0.62, 1.30), (0.45, -0.05, 1.2))


def _glasses(bout):
  return [
    ball("skin", (0.105, -0.14, -0.03), (0.03, 0.05, 0.045), worn=True),
    ball("skin", (0.09, -0.15, -0.085), (0.03, 0.05, 0.035), worn=True),
    rod("sleeve", (0.12, -0.12, -0.10), (0.30, -0.05, -0.40), 0.05, worn=True),
    box("dark", (0, -0.10, 0.045), (0.13, 0.008, 0.010), worn=True),
    box("dark", (0.0, -0.10, -0.03), (0.008, 0.008, 0.03), worn=True),
  ]


def _picking(hand, far):
  def build(bout):
    def item(centre):
      return box("red", centre, (0.11, 0.11, 0.11), yaw=20)

    drop = {"swing": (0.08, -0.12, 0.2 - hand[2]), "wave": "pulse"}
    elbow = (hand[0] + 0.10, hand[1] + 0.32, hand[2] + 0.15)
    return [*_row(bout, item, far, 0.11, 0.34), *arm(hand, elbow, **drop)]

  return build


def _chin(bout):
  elbow = (0.16, -0.10, -0.40)
  return [
    ball("skin", (0.03, -0.12, -0.11), (0.042, 0.04, 0.042), worn=True),
    rod("sleeve", (0.05, -0.10, -0.15), elbow, 0.045, worn=True),
  ]


def _stands_up(bout):
  # Leaning on a stick, whose grip stays before the rising chest.
  return [
    rod("red", (0.07, -0.36, -0.20), (0.10, -0.62, -1.0), 0.04, worn=True),
    ball("red", (0.07, -0.36, -0.17), (0.07, 0.07, 0.06), worn=True),
    ball("skin", (0.08, -0.33, -0.15), (0.06, 0.06, 0.04), worn=True),
    rod("sleeve", (0.09, -0.32, -0.18), (0.26, -0.06, -0.42), 0.05, worn=True),
  ]


def _sits_down(bout):
  # One looks for the seat on that side.
  return [
    box("blue", (0.26, -0.75, 0.46), (0.26, 0.26, 0.04)),
    box("blue", (0.50, -0.85, 0.84), (0.04, 0.26, 0.36)),
    *arm((0.40, -0.55, 0.86), (0.38, -0.08, 1.0)),
  ]


def _chopping(bout):
  def food(centre):
    return ball("orange", centre, (0.11, 0.07, 0.07))

  cut = _moving(bout, (0, 0, -0.08), "hit1")
  return [
    box("green", (0, -0.64, 0.915), (0.36, 0.20, 0.015)),
    ball("orange", (-0.03, -0.68, 0.95), (0.13, 0.07, 0.05)),
    *_row(bout, food, -0.93, 0.97),
    *arm((0.16, -0.52, 1.05), **cut),
    box("white", (0.09, -0.70, 1.03), (0.014, 0.19, 0.06), yaw=-20, **cut),
    *arm((-0.18, -0.58, 0.98)),
  ]


def _washing(bout):
  def plate(centre):
    return ball("white", centre, (0.12, 0.03, 0.12))

  rub = _moving(bout, (0.06, 0.04, 0.0))
  return [
    box("metal", (0, -0.62, 0.905), (0.42, 0.26, 0.012)),
    box("blue", (0, -0.62, 0.92), (0.38, 0.22, 0.008)),
    rod("metal", (0, -0.95, 0.9), (0, -0.80, 1.25), 0.03),
    ball("white", (-0.03, -0.60, 1.00), (0.14, 0.11, 0.025)),
    *_row(bout, plate, -0.95, 1.02),
    *arm((-0.16, -0.54, 1.00)),
    *arm((0.12, -0.55, 1.04), **rub),
    box("yellow", (0.07, -0.60, 1.04), (0.05, 0.04, 0.03), **rub),
  ]


def _cycling(bout):
  z = {"slow": 1.10, "normal": 1.05, "fast": 1.0}[bout.tempo]
  return [
    rod("dark", (0.34, -0.58, z), (-0.34, -0.58, z), 0.03),
    rod("red", (0, -0.58, z), (0, -0.68, 0.60), 0.04),
    ball("dark", (0, -0.85, 0.42), (0.03, 0.36, 0.36)),
    *arm((0.30, -0.56, z + 0.03), (0.30, -0.15, 1.25)),
    *arm((-0.30, -0.56, z + 0.03), (-0.30, -0.15, 1.25)),
  ]


def _driving(bout):
  lean = np.radians(25.0)  # the wheel is turned towards the side
  corners = np.radians([20, 80, 140, 200, 260, 320])

  def on_rim(angle):
    across, up = 0.19 * np.cos(angle), 0.18 * np.sin(angle)
    return across, -0.52 - 0.3 * up, 0.86 + up

  points = [on_rim(a) for a in corners]
  ends = points[1:] + points[:1]
  rim = [
    rod("asphalt", start, end, 0.022)
    for start, end in zip(points, ends, strict=True)
  ]
  return [
    *rim,
    *arm(on_rim(np.radians(75) - lean), (0.30, -0.15, 0.75)),
    *arm(on_rim(np.radians(185) - lean), (-0.30, -0.15, 0.75)),
  ]


def _rowing(bout):
  pull = _moving(bout, (0, 0.22, 0.03))
  return [
    rod("pale", (0.10, -0.55, 0.68), (1.9, -0.9, 0.25), 0.04, **pull),
    rod("pale", (-0.10, -0.55, 0.68), (-1.9, -0.9, 0.25), 0.04, **pull),
    *arm((0.12, -0.53, 0.70), (0.30, -0.10, 0.75), **pull),
    *arm((-0.12, -0.53, 0.70), (-0.30, -0.10, 0.75), **pull),
  ]


def _hammering(bout):
  def nail(centre):
    return box("blue", centre, (0.045, 0.045, 0.07))

  beat = _moving(bout, (0.0, 0.03, 0.11))
  return [
    box("pale", (0, -0.70, 0.93), (0.52, 0.13, 0.03)),
    *_row(bout, nail, -0.92, 0.98),
    *arm((0.16, -0.48, 1.12), **beat),
    rod("red", (0.16, -0.44, 1.11), (0.02, -0.70, 1.19), 0.024, **beat),
    box("dark", (0.02, -0.71, 1.18), (0.05, 0.05, 0.09), **beat),
    *arm((-0.14, -0.62, 0.99)),
  ]


def _sawing(bout):
  def piece(centre):
    return box("cream", centre, (0.10, 0.06, 0.08))

  draw = _moving(bout, (0.0, 0.13, 0.04))
  return [
    box("cream", (-0.06, -0.64, 0.96), (0.34, 0.11, 0.055), yaw=8),
    *_row(bout, piece, -0.93, 0.99),
    box("metal", (0.12, -0.74, 1.05), (0.010, 0.32, 0.08), tilt=-8, **draw),
    box("orange", (0.13, -0.42, 1.08), (0.03, 0.07, 0.07), **draw),
    *arm((0.15, -0.40, 1.08), **draw),
    *arm((-0.24, -0.58, 1.02)),
  ]


def _sweeping(bout):
  push = _moving(bout, (0.22, 0.05, 0.0))
  return [
    rod("yellow", (0.08, -0.40, 1.25), (0.24, -1.0, 0.25), 0.035, **push),
    box("yellow", (0.25, -1.05, 0.18), (0.36, 0.09, 0.18), yaw=-15, **push),
    *arm((0.12, -0.50, 1.10), **push),
    *arm((0.02, -0.40, 1.26), **push),
  ]


def _jumping(bout):
  def cone(centre):
    return box("orange", centre, (0.14, 0.14, 0.22))

  up = _moving(bout, (0, 0, 0.12))
  return [
    *_row(bout, cone, -1.7, 0.22, 0.5),
    *arm((0.32, -0.52, 1.62), (0.40, -0.05, 1.35), **up),
    *arm((-0.32, -0.52, 1.62), (-0.40, -0.05, 1.35), **up),
  ]


def _drinking(bout):
  sip = {"swing": (-0.06, 0.16, 0.17), "wave": "pulse"}
  return [
    ball("blue", (0.08, -0.44, 0.93), (0.09, 0.09, 0.11), **sip),
    ball("white", (0.08, -0.44, 1.00), (0.085, 0.085, 0.055), **sip),
    *arm((0.18, -0.40, 0.92), **sip),
  ]


def _teeth(bout):
  rub = _moving(bout, (0.018, 0, 0.004)) | {"worn": True}
  return [
    ball("skin", (0.070, -0.12, -0.10), (0.045, 0.04, 0.035), **rub),
    rod("blue", (-0.01, -0.115, -0.075), (0.12, -0.12, -0.085), 0.012, **rub),
    rod("sleeve", (0.11, -0.11, -0.13), (0.30, -0.05, -0.32), 0.045, **rub),
  ]


def _raking(bout):
  pull = _moving(bout, (0.03, 0.26, 0.0))
  return [
    rod("wood", (0.08, -0.40, 1.22), (0.22, -1.35, 0.1), 0.025, **pull),
    box("metal", (0.23, -1.40, 0.08), (0.36, 0.06, 0.06), stripes=9, **pull),
    *arm((0.12, -0.55, 1.06), **pull),
    *arm((0.04, -0.40, 1.20), **pull),
  ]


def _kneading(bout):
  def loaf(centre):
    return ball("cream", centre, (0.12, 0.08, 0.08))

  push = _moving(bout, (0, -0.08, -0.03))
  return [
    box("white", (0, -0.62, 0.91), (0.46, 0.24, 0.006)),
    ball("cream", (0.02, -0.62, 0.97), (0.26, 0.17, 0.09)),
    *_row(bout, loaf, -0.93, 0.98),
    *arm((0.11, -0.52, 1.04), **push),
    *arm((-0.09, -0.52, 1.04), **push),
  ]


SHOWN = {
  "reading a book": _reading,
  "writing in a notebook": _writing,
  "typing on a computer": _typing,
  "browsing on a computer": _browsing,
  "moving head and body while sitting": _moving_body,
  "moving the chair while sitting": _moving_chair,
  "standing up from sitting": _crossed,
  "standing still": _waiting,
  "walking": _walking,
  "running": _running,
  "taking stairs": _stairs,
  "putting the glasses on and off while sitting": _glasses,
  "putting the glasses on and off while standing": _glasses,
  "picking up items from the floor while sitting": _picking(
    (0.24, -0.50, 0.75), -1.0
  ),
  "picking up items from the floor while standing": _picking(
    (0.24, -0.50, 1.05), -1.25
  ),
  "head movement": _chin,
  "stands up": _stands_up,
  "sits down": _sits_down,
  "chopping vegetables": _chopping,
  "washing dishes": _washing,
  "cycling": _cycling,
  "driving a car": _driving,
  "rowing": _rowing,
  "hammering": _hammering,
  "sawing wood": _sawing,
  "sweeping the floor": _sweeping,
  "jumping": _jumping,
  "drinking from a cup": _drinking,
  "brushing teeth": _teeth,
  "raking leaves": _raking,
  "kneading dough": _kneading,
}
