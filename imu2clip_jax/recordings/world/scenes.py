"""Places, their colours and light, and the arrays that `render` takes."""

import colorsys
import dataclasses

import numpy as np

from imu2clip_jax.recordings.world import bouts, props, things
from imu2clip_jax.recordings.world.things import ball, box, rod

LOOP_M = 24.0  # every `wrap` divides it, so travel can be reduced by it

# Base colours, RGB; each recording bends them a little.
_COLOURS = {
  "wood": (0.55, 0.36, 0.2),
  "pale": (0.83, 0.7, 0.5),
  "white": (0.95, 0.95, 0.93),
  "dark": (0.12, 0.12, 0.14),
  "metal": (0.66, 0.69, 0.72),
  "red": (0.8, 0.16, 0.13),
  "orange": (0.93, 0.5, 0.1),
  "yellow": (0.93, 0.83, 0.2),
  "green": (0.22, 0.52, 0.2),
  "blue": (0.2, 0.38, 0.78),
  "water": (0.3, 0.55, 0.66),
  "cream": (0.94, 0.88, 0.72),
  "asphalt": (0.32, 0.32, 0.34),
  "leaf": (0.2, 0.42, 0.16),
  "brick": (0.6, 0.34, 0.27),
  "glow": (0.88, 0.94, 1.0),
  "trousers": (0.22, 0.25, 0.36),
}


def _trees(wrap, far):
  things_ = []
  for x, y in ((far, -6.0), (-far, -3.0)):
    things_.append(rod("wood", (x, y, 0), (x, y, 2.2), 0.14, wrap=wrap))
    things_.append(ball("leaf", (x, y, 3.0), (1.1, 1.1, 1.2), wrap=wrap))
  return things_


# scene -> (room half width, depth ahead, height, floor colour, tile, open sky)
_ROOMS = {
  "desk": (2.2, 2.4, 2.5, "wood", 2.0, False),
  "room": (2.8, 3.6, 2.6, "pale", 1.3, False),
  "hall": (1.1, 30.0, 2.5, "metal", 2.6, False),
  "kitchen": (2.2, 1.15, 2.5, "cream", 5.0, False),
  "workshop": (2.4, 1.6, 2.8, "asphalt", 1.6, False),
  "bathroom": (1.4, 0.95, 2.4, "water", 7.0, False),
  "stairs": (1.0, 12.0, 9.0, "asphalt", 2.0, False),
  "street": (60.0, 60.0, 30.0, "asphalt", 1.0, True),
  "track": (60.0, 60.0, 30.0, "brick", 1.0, True),
  "garden": (60.0, 60.0, 30.0, "green", 2.2, True),
  "car": (60.0, 60.0, 30.0, "asphalt", 0.5, True),
  "lake": (60.0, 60.0, 30.0, "water", 2.0, True),
}

_PLACES = {
  "desk": [
    box("desk", (0, -0.78, 0.70), (0.85, 0.42, 0.025)),
    box("glow", (0.9, -2.36, 1.5), (0.5, 0.03, 0.45)),
    box("accent", (-1.2, -2.2, 1.0), (0.4, 0.18, 1.0), stripes=-5),
  ],
  "room": [
    box("accent", (0, -1.9, 0.005), (1.2, 0.8, 0.01), stripes=6),
    box("sofa", (-1.1, -3.1, 0.4), (0.9, 0.4, 0.4)),
    box("red", (0.9, -3.56, 1.6), (0.4, 0.03, 0.3)),
    rod("metal", (1.9, -3.0, 0), (1.9, -3.0, 1.5), 0.04),
    ball("yellow", (1.9, -3.0, 1.6), 0.22),
  ],
  "hall": [
    box("wood", (1.05, -3.0, 1.0), (0.06, 0.45, 1.0), wrap=6.0),
    box("wood", (-1.05, -5.0, 1.0), (0.06, 0.45, 1.0), wrap=6.0),
    box("glow", (0, -2.0, 2.47), (0.2, 0.6, 0.02), wrap=4.0),
    box("glow", (0, -5.0, 2.47), (0.2, 0.6, 0.02), wrap=8.0),
  ],
  "kitchen": [
    box("counter", (0, -0.68, 0.87), (2.1, 0.34, 0.03)),
    box("cupboard", (0, -0.70, 0.42), (2.1, 0.30, 0.42), stripes=8),
    box("cupboard", (0, -1.0, 1.95), (2.1, 0.16, 0.32), stripes=9),
    box("accent", (0, -1.13, 1.25), (2.1, 0.01, 0.3), stripes=14),
  ],
  "workshop": [
    box("wood", (0, -0.66, 0.86), (1.1, 0.34, 0.05), stripes=3),
    box("pale", (0, -1.55, 1.6), (1.3, 0.03, 0.6)),
    rod("metal", (0.5, -1.5, 1.3), (0.5, -1.5, 1.9), 0.04),
    rod("red", (-0.2, -1.5, 1.3), (-0.2, -1.5, 1.8), 0.05),
    rod("dark", (-0.8, -1.5, 1.4), (-0.5, -1.5, 1.9), 0.04),
  ],
  "bathroom": [
    box("white", (0, -0.62, 0.82), (0.45, 0.28, 0.06)),
    ball("water", (0, -0.55, 0.88), (0.26, 0.18, 0.03)),
    rod("metal", (0, -0.85, 0.9), (0, -0.70, 1.08), 0.025),
    box("glow", (0, -0.93, 1.6), (0.5, 0.02, 0.5)),
    ball("skin", (0, -0.92, 1.58), (0.13, 0.05, 0.18)),
    ball("hair", (0, -0.93, 1.72), (0.15, 0.05, 0.10)),
    box("sleeve", (0, -0.925, 1.22), (0.26, 0.02, 0.15)),
  ],
  "stairs": [
    *(
      box(
        "pale" if k % 2 else "wood",
        (0, -0.4 - 0.3 * k, -0.12),
        (0.95, 0.15, 0.10),
        wrap=3.0,
        slope=0.56,
      )
      for k in range(10)
    ),
    rod("metal", (0.8, 0.3, 0.75), (0.8, -4.0, 3.2), 0.035),
    rod("metal", (-0.8, 0.3, 0.75), (-0.8, -4.0, 3.2), 0.035),
  ],
  "street": [
    box("white", (0, -2.0, 0.004), (0.06, 0.8, 0.006), wrap=4.0),
    box("green", (3.4, -20, 0.003), (1.2, 60.0, 0.005)),
    box("green", (-3.4, -20, 0.003), (1.2, 60.0, 0.005)),
    *_trees(12.0, 3.4),
    box("brick", (8.0, -12.0, 2.5), (2.0, 4.0, 2.5), wrap=24.0, stripes=-4),
    box("cream", (-8.0, -4.0, 2.0), (2.0, 4.0, 2.0), wrap=24.0, stripes=-3),
  ],
  "track": [
    *(
      box("white", (x, -30.0, 0.003), (0.05, 40.0, 0.005))
      for x in (-2.0, -0.7, 0.7, 2.0)
    ),
    box("green", (6.4, -20, 0.003), (3.2, 60.0, 0.005)),
    *_trees(12.0, 4.4),
  ],
  "garden": [
    *_trees(0.0, 3.0),
    box("wood", (0, -9.0, 0.6), (9.0, 0.05, 0.6), stripes=40),
    *(
      ball("orange", (x, y, 0.02), (0.16, 0.12, 0.03))
      for x, y in ((0.5, -1.5), (-0.6, -1.9), (0.2, -2.6), (-0.2, -1.2))
    ),
  ],
  "car": [
    box("dark", (0, -0.95, 0.72), (1.0, 0.30, 0.16)),
    rod("dark", (0.85, -0.7, 0.8), (0.62, -0.5, 1.5), 0.05),
    rod("dark", (-1.25, -0.9, 0.8), (-1.0, -0.6, 1.5), 0.05),
    box("dark", (-0.2, -0.45, 1.52), (1.0, 0.4, 0.03)),
    box("metal", (-0.28, -0.62, 1.40), (0.12, 0.02, 0.04)),
    box("white", (0.9, -3.0, 0.004), (0.07, 1.2, 0.006), wrap=6.0),
    box("green", (8.4, -20, 0.003), (4.2, 60.0, 0.005)),
    box("green", (-7.4, -20, 0.003), (4.2, 60.0, 0.005)),
    *_trees(12.0, 5.0),
  ],
  "lake": [
    box("wood", (0.55, -0.7, 0.30), (0.05, 1.2, 0.22)),
    box("wood", (-0.55, -0.7, 0.30), (0.05, 1.2, 0.22)),
    box("pale", (0, -1.6, 0.2), (0.5, 0.4, 0.12)),
    box("leaf", (0, -50.0, 1.0), (50.0, 1.0, 1.6), stripes=9),
  ],
}


# Drawn anew for each recording: spans of hue, saturation and value.
_FURNISHED = {
  "wall": ((0.0, 1.0), (0.0, 0.14), (0.75, 0.95)),
  "desk": ((0.06, 0.12), (0.25, 0.5), (0.5, 0.8)),
  "counter": ((0.0, 1.0), (0.0, 0.14), (0.55, 0.85)),
  "cupboard": ((0.0, 1.0), (0.0, 0.25), (0.5, 0.9)),
  "sofa": ((0.0, 1.0), (0.1, 0.5), (0.4, 0.7)),
  "accent": ((0.0, 1.0), (0.1, 0.5), (0.5, 0.9)),
  "hair": ((0.03, 0.1), (0.3, 0.6), (0.1, 0.6)),
  "sleeve": ((0.0, 1.0), (0.0, 0.6), (0.25, 0.75)),
}


def _palette(rng, person):
  """Colours of one recording: hues bent, rooms and clothes of their own."""
  palette = {
    name: np.clip(np.array(rgb) * np.exp(rng.normal(0, 0.06, 3)), 0, 1)
    for name, rgb in _COLOURS.items()
  }
  for name, (hue, saturation, value) in _FURNISHED.items():
    drawn = [rng.uniform(*span) for span in (hue, saturation, value)]
    palette[name] = np.array(colorsys.hsv_to_rgb(*drawn))
  return palette | {"skin": person.skin}


def look(seed, wearer, recording, person, bout) -> dict:
  """Arrays of everything the camera can see in one bout, for `render.frames`.

  Args:
    seed, wearer, recording: the keys of colours.
    person: the `bouts.Wearer`.
    bout: the `bouts.Bout`.
  """
  rng = bouts.generator(seed, bouts.SCENE, wearer, recording)
  palette = _palette(rng, person)
  own = bouts.generator(seed, bouts.SCENE, wearer, recording, bout.index)
  shown = props.SHOWN[bout.label](bout)
  body = props.SITTING if bout.activity.height_m < 1.5 else props.STANDING
  if bout.tempo == "fast":  # sleeves are pushed up for quick work
    palette["sleeve"] = 0.9 * palette["skin"]
  if bout.side == "right":
    shown = [things.mirrored(thing) for thing in shown]
  width, depth, height, floor, tile, is_open = _ROOMS[bout.scene]
  downstairs = bout.scene == "stairs" and bout.gaze == "down"
  place = [_turned(thing, downstairs) for thing in _PLACES[bout.scene]]
  packed = things.pack([*place, *body, *shown], palette)
  light = np.array([own.uniform(-0.6, 0.6), 0.5, 0.8])
  low = -40.0 if bout.scene == "stairs" else 0.0
  return packed | {
    name: np.asarray(value, np.float32)
    for name, value in {
      "room_low": (-width, -depth, low),
      "room_high": (width, 3.0, height),
      "floor": palette[floor],
      "wall": (0.35, 0.45, 0.35) if is_open else palette["wall"],
      "sky": (0.75, 0.85, 0.95),
      "tile": tile * np.pi,
      "open": float(is_open),
      "light": light / np.linalg.norm(light),
      "exposure": np.exp(own.normal(0, 0.08)) * np.exp(own.normal(0, 0.03, 3)),
    }.items()
  }


def _turned(thing, downstairs):
  if not downstairs:
    return thing
  return dataclasses.replace(thing, slope=-thing.slope, tilt=-thing.tilt)
