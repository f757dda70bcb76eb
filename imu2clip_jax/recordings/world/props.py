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


def _reading(bout):
  z = {"down": 0.82, "ahead": 0.95, "up": 1.06}[bout.gaze]
  return [
    box("white", (0.11, -0.40, z), (0.10, 0.13, 0.012), tilt=38, stripes=-9),
    box("white", (-0.11, -0.40, z), (0.10, 0.13, 0.012), tilt=38, stripes=-9),
    box("accent", (0, -0.405, z - 0.02), (0.23, 0.15, 0.008), tilt=38),
    *arm((-0.21, -0.36, z - 0.03)),
    *arm((0.20, -0.36, z), swing=(-0.2, 0.0, 0.05), wave="pulse"),
  ]


def _writing(bout):
  sheets = [
    box("white", (x, y, 0.735), (0.10, 0.14, 0.006), yaw=10, stripes=7)
    for x, y in ((0.02, -0.52), (-0.28, -0.55), (0.34, -0.66), (-0.06, -0.86))
  ]
  return [
    *sheets[: bout.count],
    *arm((0.10, -0.50, 0.77), swing=(0.02, 0.01, 0)),
    rod(
      "blue",
      (0.06, -0.54, 0.745),
      (0.13, -0.48, 0.90),
      0.010,
      swing=(0.02, 0.01, 0),
    ),
    *arm((-0.18, -0.44, 0.76)),
  ]


def _typing(bout):
  return [
    box("metal", (0, -0.58, 0.735), (0.19, 0.13, 0.012), stripes=8),
    box("dark", (0, -0.73, 0.87), (0.20, 0.015, 0.14), tilt=-8),
    box("white", (0, -0.715, 0.87), (0.18, 0.015, 0.12), tilt=-8, stripes=-7),
    *arm((0.10, -0.55, 0.77), swing=(0, 0, 0.012), wave="sin1"),
    *arm((-0.10, -0.55, 0.77), swing=(0, 0, -0.012), wave="sin1"),
    ball("accent", (0.36, -0.6, 0.77), (0.05, 0.05, 0.06)),
  ]


def _browsing(bout):
  return [
    box("dark", (0, -0.93, 1.02), (0.34, 0.02, 0.21)),
    box("glow", (0, -0.91, 1.02), (0.32, 0.015, 0.19)),
    box("red", (0.15, -0.895, 1.08), (0.12, 0.01, 0.09)),
    box("green", (-0.15, -0.895, 0.95), (0.12, 0.01, 0.09)),
    box("dark", (0, -0.93, 0.78), (0.06, 0.04, 0.06)),
    box("white", (0.30, -0.60, 0.74), (0.04, 0.06, 0.02)),
    *arm((0.30, -0.57, 0.77), swing=(0.03, 0.02, 0), wave="square"),
    *arm((-0.30, -0.36, 0.60)),
  ]


def _moving_body(bout):
  return [
    *arm((0.15, -0.48, 0.62), (0.30, -0.12, 0.85)),
    *arm((-0.15, -0.48, 0.62), (-0.30, -0.12, 0.85)),
  ]


def _moving_chair(bout):
  return [
    box("dark", (0.34, -0.25, 0.66), (0.045, 0.24, 0.03)),
    box("dark", (-0.34, -0.25, 0.66), (0.045, 0.24, 0.03)),
    *arm((0.34, -0.42, 0.71), (0.40, -0.10, 0.85)),
    *arm((-0.34, -0.42, 0.71), (-0.40, -0.10, 0.85)),
  ]


def _crossed(bout):
  rise = dict(swing=(0, -0.12, 0.21), wave="square")
  return [
    rod("sleeve", (0.20, -0.20, 0.95), (-0.10, -0.36, 1.02), 0.05, **rise),
    rod("sleeve", (-0.20, -0.20, 0.95), (0.10, -0.34, 1.08), 0.05, **rise),
    ball("skin", (-0.12, -0.36, 1.04), 0.055, **rise),
    ball("skin", (0.12, -0.34, 1.10), 0.055, **rise),
  ]


def _nothing(bout):
  return []


def _clasped(bout):
  return [
    *arm((0.03, -0.32, 1.02), (0.30, -0.05, 1.15)),
    *arm((-0.03, -0.32, 1.02), (-0.30, -0.05, 1.15)),
  ]


def _swinging(reach, height):
  def build(bout):
    return [
      *arm(
        (0.24, -0.28, height),
        (0.28, 0.05, height + 0.05),
        swing=(0, reach, -0.3 * reach),
        wave="sin1",
      ),
      *arm(
        (-0.24, -0.28, height),
        (-0.28, 0.05, height + 0.05),
        swing=(0, -reach, 0.3 * reach),
        wave="sin1",
      ),
    ]

  return build


def _stairs(bout):
  return [*arm((0.62, -0.42, 1.22), (0.5, -0.05, 1.15))]


def _glasses(bout):
  return [
    ball("skin", (0.125, -0.12, -0.03), (0.035, 0.06, 0.05), worn=True),
    ball("skin", (0.10, -0.14, -0.085), (0.03, 0.05, 0.035), worn=True),
    rod("sleeve", (0.13, -0.11, -0.10), (0.30, -0.05, -0.40), 0.05, worn=True),
    box("dark", (0, -0.10, 0.062), (0.13, 0.008, 0.010), worn=True),
    box("dark", (0.0, -0.10, -0.02), (0.008, 0.008, 0.03), worn=True),
  ]


def _picking(height):
  spots = ((0.30, -0.62), (0.05, -0.85), (0.55, -0.95), (-0.30, -0.75))
  colours = ("red", "blue", "yellow", "green")

  def build(bout):
    items = [
      box(colour, (x, y, 0.06), (0.07, 0.07, 0.06), yaw=20)
      for colour, (x, y) in zip(colours, spots, strict=True)
    ]
    drop = dict(swing=(0.08, -0.12, 0.16 - height), wave="pulse")
    hand = (0.20, -0.42, height)
    return [
      *items[: bout.count],
      *arm(hand, (0.32, -0.10, height + 0.18), **drop),
    ]

  return build


def _chin(bout):
  return [
    ball("skin", (0.035, -0.11, -0.105), (0.03, 0.035, 0.03), worn=True),
    rod("sleeve", (0.05, -0.10, -0.15), (0.16, -0.10, -0.40), 0.045, worn=True),
  ]


def _stands_up(bout):
  return [
    *arm((0.15, -0.40, 0.62), (0.34, -0.08, 0.90)),
    *arm((-0.15, -0.40, 0.62), (-0.34, -0.08, 0.90)),
    box("desk", (0.55, -0.9, 0.45), (0.22, 0.22, 0.03)),
  ]


def _sits_down(bout):
  return [
    box("accent", (0.30, -0.55, 0.46), (0.24, 0.24, 0.035)),
    box("accent", (0.50, -0.62, 0.80), (0.03, 0.22, 0.30)),
    *arm((0.44, -0.42, 0.74), (0.38, -0.05, 0.95)),
  ]


def _chopping(bout):
  spots = ((-0.05, -0.60), (-0.24, -0.72), (0.34, -0.70), (-0.36, -0.52))
  food = [
    ball("orange" if k % 2 else "green", (x, y, 0.955), (0.06, 0.045, 0.04))
    for k, (x, y) in enumerate(spots)
  ]
  cut = dict(swing=(0, 0, -0.06), wave="hit1")
  return [
    box("pale", (0, -0.60, 0.915), (0.24, 0.16, 0.015)),
    *food[: bout.count],
    *arm((0.14, -0.50, 1.03), **cut),
    box("metal", (0.07, -0.62, 1.00), (0.006, 0.13, 0.035), yaw=-20, **cut),
    *arm((-0.13, -0.56, 0.97)),
  ]


def _washing(bout):
  plates = [
    ball(
      "white", (-0.42 - 0.03 * k, -0.70, 0.95 + 0.045 * k), (0.13, 0.13, 0.016)
    )
    for k in range(4)
  ]
  rub = dict(swing=(0.05, 0.03, 0.0), wave="sin1")
  return [
    box("metal", (0, -0.60, 0.905), (0.32, 0.22, 0.012)),
    box("water", (0, -0.60, 0.915), (0.28, 0.18, 0.008)),
    rod("metal", (0, -0.95, 0.9), (0, -0.80, 1.22), 0.02),
    ball("white", (-0.02, -0.56, 1.00), (0.12, 0.09, 0.02)),
    *plates[: bout.count],
    *arm((-0.14, -0.52, 1.00)),
    *arm((0.10, -0.53, 1.03), **rub),
    box("yellow", (0.06, -0.57, 1.02), (0.04, 0.03, 0.02), **rub),
  ]


def _cycling(bout):
  return [
    rod("dark", (0.30, -0.52, 1.08), (-0.30, -0.52, 1.08), 0.02),
    rod("red", (0, -0.52, 1.08), (0, -0.62, 0.60), 0.03),
    ball("dark", (0, -0.75, 0.36), (0.025, 0.34, 0.34)),
    *arm((0.28, -0.50, 1.11), (0.30, -0.15, 1.25)),
    *arm((-0.28, -0.50, 1.11), (-0.30, -0.15, 1.25)),
  ]


def _driving(bout):
  rim = []
  corners = np.radians([20, 80, 140, 200, 260, 320])
  points = [
    (0.19 * np.cos(a), -0.52 - 0.06 * np.sin(a), 0.86 + 0.18 * np.sin(a))
    for a in corners
  ]
  for start, end in zip(points, points[1:] + points[:1], strict=True):
    rim.append(rod("asphalt", start, end, 0.018))
  return [
    *rim,
    *arm((0.17, -0.50, 0.98), (0.30, -0.15, 0.75)),
    *arm((-0.19, -0.49, 0.80), (-0.30, -0.15, 0.75)),
  ]


def _rowing(bout):
  pull = dict(swing=(0, 0.22, 0.03), wave="sin1")
  buoys = ((1.6, -4.0), (-1.4, -5.0), (0.4, -6.0), (-2.6, -3.6))
  return [
    rod("pale", (0.10, -0.55, 0.68), (1.9, -0.9, 0.25), 0.03, **pull),
    rod("pale", (-0.10, -0.55, 0.68), (-1.9, -0.9, 0.25), 0.03, **pull),
    *arm((0.12, -0.53, 0.70), (0.30, -0.10, 0.75), **pull),
    *arm((-0.12, -0.53, 0.70), (-0.30, -0.10, 0.75), **pull),
    *[ball("red", (x, y, 0.15), 0.22) for x, y in buoys[: bout.count]],
  ]


def _hammering(bout):
  beat = dict(swing=(0.0, 0.03, 0.10), wave="sin1")
  nails = ((0.0, -0.66), (-0.15, -0.72), (0.20, -0.80), (-0.30, -0.60))
  return [
    box("pale", (0, -0.66, 0.93), (0.42, 0.12, 0.03)),
    *[
      rod("dark", (x, y, 0.95), (x, y, 1.05), 0.014)
      for x, y in nails[: bout.count]
    ],
    *arm((0.14, -0.46, 1.10), **beat),
    rod("red", (0.14, -0.42, 1.09), (0.02, -0.64, 1.16), 0.018, **beat),
    box("dark", (0.02, -0.65, 1.15), (0.035, 0.035, 0.07), **beat),
    *arm((-0.12, -0.60, 0.98)),
  ]


def _sawing(bout):
  draw = dict(swing=(0.0, 0.13, 0.04), wave="sin1")
  pieces = ((-0.55, -0.55), (0.55, -0.75), (-0.62, -0.80), (0.62, -0.5))
  return [
    box("pale", (-0.08, -0.64, 0.95), (0.34, 0.09, 0.045), yaw=8),
    *[
      box("pale", (x, y, 0.94), (0.08, 0.07, 0.04), yaw=30)
      for x, y in pieces[: bout.count]
    ],
    box("metal", (0.10, -0.70, 1.02), (0.006, 0.28, 0.055), tilt=-8, **draw),
    box("orange", (0.11, -0.42, 1.06), (0.02, 0.05, 0.05), **draw),
    *arm((0.13, -0.40, 1.06), **draw),
    *arm((-0.20, -0.58, 1.00)),
  ]


def _sweeping(bout):
  push = dict(swing=(0.30, 0.05, 0.0), wave="sin1")
  return [
    rod("pale", (0.05, -0.34, 1.25), (0.28, -0.95, 0.12), 0.018, **push),
    box(
      "yellow",
      (0.29, -0.98, 0.09),
      (0.19, 0.05, 0.09),
      yaw=-15,
      stripes=7,
      **push,
    ),
    *arm((0.09, -0.42, 1.08), **push),
    *arm((-0.02, -0.32, 1.24), **push),
  ]


def _jumping(bout):
  up = dict(swing=(0, 0, 0.10), wave="sin1")
  cones = ((0.5, -1.4), (-0.5, -1.4), (0.9, -2.0), (-0.9, -2.0))
  return [
    *[
      box("orange", (x, y, 0.15), (0.10, 0.10, 0.15))
      for x, y in cones[: bout.count]
    ],
    *arm((0.36, -0.42, 1.78), (0.40, -0.10, 1.45), **up),
    *arm((-0.36, -0.42, 1.78), (-0.40, -0.10, 1.45), **up),
  ]


def _drinking(bout):
  z = 0.86 if bout.activity.height_m < 1.3 else 1.25
  sip = dict(swing=(-0.06, 0.16, 0.17), wave="pulse")
  return [
    ball("accent", (0.10, -0.36, z), (0.05, 0.05, 0.065), **sip),
    ball("white", (0.10, -0.36, z + 0.045), (0.045, 0.045, 0.03), **sip),
    *arm((0.15, -0.34, z), **sip),
  ]


def _teeth(bout):
  rub = dict(swing=(0.018, 0, 0.004), wave="sin1", worn=True)
  return [
    ball("skin", (0.075, -0.12, -0.115), (0.045, 0.04, 0.035), **rub),
    rod("glow", (0.0, -0.115, -0.088), (0.12, -0.12, -0.098), 0.009, **rub),
    rod("sleeve", (0.11, -0.11, -0.14), (0.30, -0.05, -0.32), 0.045, **rub),
  ]


def _raking(bout):
  pull = dict(swing=(0.03, 0.28, 0.0), wave="sin1")
  return [
    rod("wood", (0.05, -0.34, 1.20), (0.20, -1.45, 0.06), 0.018, **pull),
    box("metal", (0.21, -1.48, 0.05), (0.26, 0.05, 0.04), stripes=9, **pull),
    *arm((0.09, -0.50, 1.05), **pull),
    *arm((0.02, -0.32, 1.20), **pull),
  ]


def _kneading(bout):
  push = dict(swing=(0, -0.08, -0.02), wave="sin1")
  spots = ((-0.40, -0.62), (0.42, -0.66), (-0.46, -0.84))
  loaves = [ball("cream", (x, y, 0.94), (0.09, 0.07, 0.045)) for x, y in spots]
  return [
    ball("cream", (0.02, -0.58, 0.95), (0.17, 0.13, 0.06)),
    *loaves[: bout.count - 1],
    *arm((0.10, -0.52, 1.00), **push),
    *arm((-0.08, -0.50, 1.00), **push),
  ]


SHOWN = {
  "reading a book": _reading,
  "writing in a notebook": _writing,
  "typing on a computer": _typing,
  "browsing on a computer": _browsing,
  "moving head and body while sitting": _moving_body,
  "moving the chair while sitting": _moving_chair,
  "standing up from sitting": _crossed,
  "standing still": _clasped,
  "walking": _swinging(0.22, 1.12),
  "running": _swinging(0.20, 1.26),
  "taking stairs": _stairs,
  "putting the glasses on and off while sitting": _glasses,
  "putting the glasses on and off while standing": _glasses,
  "picking up items from the floor while sitting": _picking(0.62),
  "picking up items from the floor while standing": _picking(0.85),
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
