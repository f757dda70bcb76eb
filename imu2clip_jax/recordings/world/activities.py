"""What people do: how the head moves, where, and which attributes matter.

Numbers were chosen from everyday knowledge of how people move (cadence, height
of a step, how far one bows), not fitted to any recording. Angles are in degrees
here and in radians in `bouts`.
"""

import dataclasses

SIT_M, STAND_M, BETWEEN_M = 1.18, 1.60, 1.39  # eye heights of the mean wearer


@dataclasses.dataclass(frozen=True)
class Activity:
  """One row of the world.

  Attributes:
    label: the plain phrase.
    scenes: places where it happens.
    height_m: eye height at rest, of the mean wearer.
    attributes: those of tempo, side, gaze, count that change it.
    moves: degree of freedom -> {wave or "rest": metres or degrees}.
    stroke_hz, event_hz: rhythm of `motion.WAVES`.
    shake_hz: of vibration.
    sharp: how narrow hit, pulse and square are.
    bursts: strokes come in groups of `count` with rests between; else a
      count makes events more frequent.
    speed, turn, climb: m/s, rad/s, m/s along the path.
    once: the event fills the bout exactly once, from low to high.
    bout_s: shortest and longest bout.
  """

  label: str
  scenes: tuple[str, ...]
  height_m: float
  attributes: tuple[str, ...]
  moves: dict
  stroke_hz: float = 0.5
  event_hz: float = 0.2
  shake_hz: float = 6.0
  sharp: tuple[float, float, float] = (6.0, 4.0, 3.0)
  bursts: bool = False
  speed: float = 0.0
  turn: float = 0.0
  climb: float = 0.0
  once: bool = False
  bout_s: tuple[float, float] = (8.0, 40.0)


def _activity(label, scenes, height_m, attributes, moves, **more):
  return Activity(
    label,
    tuple(scenes.split()),
    height_m,
    tuple(attributes.split()),
    moves,
    **more,
  )


# One line holds as many degrees of freedom as fit.
# fmt: off
_TABLE = (
  _activity(
    "reading a book", "desk room",
    SIT_M, "tempo side gaze", {
      "x": {"drift2": 0.006}, "y": {"drift1": 0.008},
      "yaw": {"rest": 4, "sin_event": 2.6, "drift2": 2.5},
      "pitch": {"rest": 24, "drift1": 2.5, "pulse": 3.0},
      "roll": {"rest": 3, "drift3": 1.5, "pulse": 2.0},
    }, event_hz=0.3, sharp=(6, 9, 3),
  ),
  _activity(
    "writing in a notebook", "desk",
    SIT_M, "tempo side gaze", {
      "x": {"rest": 0.04, "sin_event": 0.01, "sin1": 0.0007},
      "z": {"cos1": 0.0005},
      "yaw": {"rest": 7, "sin_event": 2.2, "sin1": 0.25, "drift2": 1.5},
      "pitch": {"rest": 31, "cos2": 0.25, "drift1": 2},
      "roll": {"rest": 7, "sin1": 0.35, "drift3": 1},
    }, stroke_hz=2.4, event_hz=0.16,
  ),
  _activity(
    "typing on a computer", "desk",
    SIT_M, "tempo gaze side", {
      "x": {"rest": 0.02, "drift2": 0.005, "shake1": 0.0002},
      "y": {"shake1": 0.0003, "drift1": 0.006},
      "z": {"hit1": 0.0012, "shake2": 0.0002},
      "yaw": {"rest": 3, "drift2": 2, "sin1": 0.12},
      "pitch": {"rest": 12, "square": 4.5, "hit1": 0.25, "drift1": 1.2},
      "roll": {"rest": 2, "drift3": 1},
    }, stroke_hz=4.2, event_hz=0.17, shake_hz=9.0,
  ),
  _activity(
    "browsing on a computer", "desk",
    SIT_M, "tempo gaze side", {
      "x": {"rest": 0.03, "drift2": 0.007}, "y": {"drift1": 0.01},
      "z": {"drift3": 0.004}, "yaw": {"rest": 6, "square": 4.0, "drift2": 3},
      "pitch": {"rest": 8, "pulse": 3.0, "drift1": 2},
      "roll": {"rest": 3, "drift3": 1.5},
    }, event_hz=0.33, sharp=(6, 5, 5),
  ),
  _activity(
    "moving head and body while sitting", "desk room",
    SIT_M, "tempo side gaze", {
      "x": {"rest": 0.05, "sin1": 0.13}, "y": {"cos1": 0.04, "drift1": 0.03},
      "z": {"cos2": 0.02}, "yaw": {"rest": 5, "cos1": 16, "drift2": 5},
      "pitch": {"rest": 6, "sin_event": 8, "drift1": 3},
      "roll": {"rest": 6, "sin1": 13, "drift3": 2},
    }, stroke_hz=0.34, event_hz=0.23,
  ),
  _activity(
    "moving the chair while sitting", "desk room",
    SIT_M, "tempo side gaze", {
      "x": {"square": 0.16, "shake1": 0.0012}, "y": {"sin_event": 0.1},
      "z": {"shake2": 0.0012, "change": 0.02},
      "yaw": {"rest": 4, "square": 14, "drift2": 3, "shake1": 0.12},
      "pitch": {"rest": 12, "change": 9, "drift1": 2},
      "roll": {"rest": 2, "change": 4, "drift3": 1},
    }, event_hz=0.24, shake_hz=8.0, sharp=(6, 4, 4),
  ),
  _activity(
    "standing up from sitting", "desk room",
    BETWEEN_M, "tempo gaze", {
      "x": {"change": 0.03, "drift2": 0.01},
      "y": {"square": -0.12, "change": -0.16}, "z": {"square": 0.21},
      "yaw": {"change": 5, "drift2": 3},
      "pitch": {"rest": 4, "change": 26, "drift1": 2},
      "roll": {"change": 4, "drift3": 1.5},
    }, event_hz=0.19, sharp=(6, 4, 4.5), bout_s=(10, 30),
  ),
  _activity(
    "standing still", "room kitchen street",
    STAND_M, "gaze side", {
      "x": {"rest": 0.03, "drift1": 0.01, "drift2": 0.006},
      "y": {"drift2": 0.012, "drift3": 0.005},
      "yaw": {"rest": 4, "drift2": 2.5}, "pitch": {"rest": 2, "drift1": 2},
      "roll": {"rest": 4, "drift3": 1.2},
    },
  ),
  _activity(
    "walking", "hall street",
    STAND_M, "tempo side gaze", {
      "x": {"sin1": 0.022}, "y": {"cos2": 0.012},
      "z": {"cos2": -0.022, "hit2": -0.006, "shake1": 0.0005},
      "yaw": {"rest": 3, "sin1": 2.2, "drift2": 4},
      "pitch": {"rest": 4, "cos2": 1.0, "drift1": 2},
      "roll": {"rest": 4, "cos1": 1.4},
    }, stroke_hz=0.92, speed=1.3, turn=0.12, bout_s=(8, 60),
  ),
  _activity(
    "running", "street track",
    STAND_M, "tempo side gaze", {
      "x": {"sin1": 0.025}, "y": {"cos2": 0.02},
      "z": {"cos2": -0.038, "hit2": -0.01, "shake1": 0.0008},
      "yaw": {"rest": 3, "sin1": 4, "drift2": 2},
      "pitch": {"rest": 7, "cos2": 1.8, "drift1": 2},
      "roll": {"rest": 3, "cos1": 2.2},
    }, stroke_hz=1.38, speed=2.4, turn=0.18, bout_s=(8, 60),
  ),
  _activity(
    "taking stairs", "stairs",
    STAND_M, "tempo side gaze", {
      "x": {"rest": 0.05, "sin1": 0.03}, "y": {"sin2": 0.02},
      "z": {"cos2": -0.026, "sin2": 0.012, "hit2": -0.008},
      "yaw": {"rest": 6, "sin1": 2.8, "drift2": 3},
      "pitch": {"rest": 17, "cos2": 1.3, "drift1": 3},
      "roll": {"rest": 6, "cos1": 2.3},
    }, stroke_hz=0.74, speed=0.5, climb=0.28, bout_s=(8, 25),
  ),
  _activity(
    "putting the glasses on and off while sitting", "desk room",
    SIT_M - 0.1, "tempo side gaze", {
      "x": {"change": 0.07, "drift2": 0.006}, "y": {"square": 0.13},
      "z": {"square": 0.12, "shake1": 0.0006},
      "yaw": {"rest": 2, "square": -6, "change": 11, "drift2": 3},
      "pitch": {"rest": 24, "square": -21, "drift1": 3, "shake1": 0.25},
      "roll": {"rest": 3, "square": -5, "change": 12, "shake2": 0.25},
    }, event_hz=0.19, shake_hz=4.0, sharp=(6, 4, 5),
  ),
  _activity(
    "putting the glasses on and off while standing", "room kitchen street",
    STAND_M - 0.12, "tempo side gaze", {
      "x": {"change": 0.08, "drift1": 0.03}, "y": {"square": 0.16},
      "z": {"square": 0.15, "shake1": 0.0006},
      "yaw": {"rest": 2, "square": -9, "change": 9, "drift2": 6},
      "pitch": {"rest": 27, "square": -25, "drift1": 4, "shake1": 0.25},
      "roll": {"rest": 2, "square": -7, "change": 9, "shake2": 0.25},
    }, event_hz=0.3, shake_hz=4.0, sharp=(6, 4, 4),
  ),
  _activity(
    "picking up items from the floor while sitting", "room hall",
    SIT_M, "side count", {
      "x": {"pulse": 0.24}, "y": {"pulse": -0.22}, "z": {"pulse": -0.42},
      "yaw": {"rest": 3, "pulse": 14, "drift2": 4},
      "pitch": {"rest": 10, "pulse": 48, "drift1": 3},
      "roll": {"pulse": 24, "drift3": 2},
    }, event_hz=0.27, sharp=(6, 2.6, 3),
  ),
  _activity(
    "picking up items from the floor while standing", "room hall street",
    STAND_M, "side count", {
      "x": {"pulse": 0.12}, "y": {"pulse": -0.32}, "z": {"pulse": -0.78},
      "yaw": {"rest": 3, "pulse": 9, "drift2": 7},
      "pitch": {"rest": 12, "pulse": 58, "drift1": 3},
      "roll": {"pulse": 12, "drift3": 2, "drift1": 2},
    }, event_hz=0.24, sharp=(6, 2.2, 3),
  ),
  _activity(
    "head movement", "desk room street",
    STAND_M, "tempo side gaze", {
      "x": {"drift1": 0.008}, "y": {"cos1": 0.012},
      "yaw": {"rest": 9, "sin1": 26, "drift2": 5},
      "pitch": {"sin_event": 12, "drift1": 3},
      "roll": {"rest": 2, "cos1": 3, "drift3": 2},
    }, event_hz=0.36,
  ),
  _activity(
    "stands up", "room desk",
    BETWEEN_M, "tempo side gaze", {
      "x": {"change": 0.05, "drift2": 0.008},
      "y": {"square": -0.1, "change": -0.1}, "z": {"square": 0.21},
      "yaw": {"change": 7, "drift2": 2},
      "pitch": {"rest": 7, "change": 19, "drift1": 2},
      "roll": {"change": 7, "drift3": 1.5},
    }, sharp=(6, 4, 2.6), once=True, bout_s=(7.5, 9.5),
  ),
  _activity(
    "sits down", "room desk",
    BETWEEN_M, "tempo side gaze", {
      "x": {"change": 0.05, "drift2": 0.008},
      "y": {"square": 0.14, "change": -0.08}, "z": {"square": -0.21},
      "yaw": {"change": 16, "drift2": 2},
      "pitch": {"rest": 9, "change": 24, "drift1": 2},
      "roll": {"change": 9, "drift3": 1.5},
    }, once=True, bout_s=(7.5, 9.5),
  ),
  _activity(
    "chopping vegetables", "kitchen",
    STAND_M, "tempo side count", {
      "x": {"rest": 0.03, "drift2": 0.01},
      "z": {"hit1": -0.004, "shake1": 0.0002},
      "yaw": {"rest": 5, "sin1": 0.3, "drift2": 2},
      "pitch": {"rest": 30, "hit1": -0.55, "drift1": 2},
      "roll": {"rest": 4, "hit1": 0.5, "drift3": 1},
    }, stroke_hz=2.3, bursts=True,
  ),
  _activity(
    "washing dishes", "kitchen",
    STAND_M, "tempo side count", {
      "x": {"rest": 0.02, "sin1": 0.01, "sin_event": 0.05},
      "y": {"cos1": 0.007}, "z": {"sin2": 0.002},
      "yaw": {"rest": 4, "sin1": 0.9, "sin_event": 7, "drift2": 2},
      "pitch": {"rest": 28, "cos1": 0.7, "cos_event": 2.5, "drift1": 2},
      "roll": {"rest": 3, "sin1": 1.1, "drift3": 1},
    }, stroke_hz=1.25, event_hz=0.14, bursts=True,
  ),
  _activity(
    "cycling", "street",
    STAND_M, "tempo side gaze", {
      "x": {"sin1": 0.014}, "z": {"shake1": 0.0013, "shake2": 0.001},
      "y": {"cos2": 0.004, "shake2": 0.0006},
      "yaw": {"rest": 4, "sin1": 0.8, "drift2": 4},
      "pitch": {"rest": 6, "drift1": 3, "shake1": 0.25},
      "roll": {"rest": 5, "sin1": 1.5, "drift3": 2},
    }, stroke_hz=1.15, shake_hz=9.5, speed=3.2, turn=0.16, bout_s=(10, 60),
  ),
  _activity(
    "driving a car", "car",
    SIT_M, "tempo side gaze", {
      "x": {"shake2": 0.0002, "drift2": 0.02},
      "y": {"drift1": 0.1, "drift3": 0.05},
      "z": {"shake1": 0.0004, "drift3": 0.01},
      "yaw": {"rest": 4, "pulse": 17, "drift2": 3},
      "pitch": {"rest": 2, "drift1": 2, "shake2": 0.03},
      "roll": {"rest": 3, "drift3": 1.2},
    }, event_hz=0.16, shake_hz=11.5, sharp=(6, 8, 3), speed=5.0, turn=0.14,
    bout_s=(10, 60),
  ),
  _activity(
    "rowing", "lake",
    SIT_M - 0.2, "tempo gaze", {
      "y": {"sin1": 0.3, "sin2": 0.03}, "z": {"cos1": 0.05, "drift3": 0.01},
      "yaw": {"drift2": 3}, "pitch": {"rest": 4, "sin1": -15, "drift1": 2},
      "roll": {"drift3": 2.5, "cos1": 1},
    }, stroke_hz=0.42, speed=1.6, bout_s=(10, 60),
  ),
  _activity(
    "hammering", "workshop",
    STAND_M, "tempo side count", {
      "x": {"rest": 0.03, "sin1": 0.006},
      "z": {"sin1": 0.008, "hit1": -0.006, "shake1": 0.0003},
      "yaw": {"rest": 5, "sin1": 0.9, "drift2": 2},
      "pitch": {"rest": 24, "hit1": 1.3, "sin1": 0.8, "drift1": 2},
      "roll": {"rest": 5, "sin1": 1.2, "drift3": 1},
    }, stroke_hz=1.5, sharp=(12, 4, 3), bursts=True,
  ),
  _activity(
    "sawing wood", "workshop",
    STAND_M, "tempo side count", {
      "x": {"rest": 0.04, "sin1": 0.008}, "y": {"sin1": 0.03},
      "z": {"sin1": 0.008, "shake1": 0.0003},
      "yaw": {"rest": 6, "sin1": 1.2, "drift2": 2},
      "pitch": {"rest": 30, "sin1": 1.8, "drift1": 2},
      "roll": {"rest": 6, "cos1": 0.9, "drift3": 1},
    }, stroke_hz=1.1, bursts=True,
  ),
  _activity(
    "sweeping the floor", "room hall",
    STAND_M, "tempo side gaze", {
      "x": {"rest": 0.02, "sin1": 0.06}, "y": {"cos1": 0.03},
      "z": {"cos2": 0.008, "hit2": -0.003},
      "yaw": {"rest": 7, "sin1": 9, "drift2": 6},
      "pitch": {"rest": 25, "cos1": 2.5, "drift1": 3},
      "roll": {"rest": 5, "sin1": 2.5, "drift3": 1.5},
    }, stroke_hz=0.62, speed=0.15,
  ),
  _activity(
    "jumping", "room street",
    STAND_M, "tempo count gaze", {
      "x": {"sin_event": 0.02}, "y": {"cos1": 0.015},
      "z": {"sin1": 0.095, "cos2": -0.022, "hit1": 0.01}, "yaw": {"drift2": 5},
      "pitch": {"rest": 4, "cos1": 3, "drift1": 2},
      "roll": {"drift3": 2, "sin_event": 1.5},
    }, stroke_hz=1.75, bursts=True,
  ),
  _activity(
    "drinking from a cup", "desk room",
    SIT_M, "tempo side gaze", {
      "x": {"rest": 0.02, "pulse": 0.02, "drift2": 0.008}, "y": {"pulse": 0.05},
      "z": {"pulse": 0.02}, "yaw": {"rest": 3, "pulse": -4, "drift2": 4},
      "pitch": {"rest": 11, "pulse": -27, "drift1": 2},
      "roll": {"rest": 2, "pulse": 3, "drift3": 1.5},
    }, event_hz=0.19, sharp=(6, 2.5, 3),
  ),
  _activity(
    "brushing teeth", "bathroom",
    STAND_M, "tempo side gaze", {
      "x": {"rest": 0.01, "sin1": 0.0014, "drift2": 0.01},
      "y": {"drift1": 0.012}, "yaw": {"rest": 5, "sin1": 0.75, "drift2": 3},
      "pitch": {"rest": 7, "cos2": 0.25, "sin_event": 2.5, "drift1": 2},
      "roll": {"rest": 6, "sin1": 0.65, "drift3": 2},
    }, stroke_hz=3.3, event_hz=0.15,
  ),
  _activity(
    "raking leaves", "garden",
    STAND_M, "tempo side gaze", {
      "x": {"rest": 0.03, "sin1": 0.035}, "y": {"sin1": 0.1},
      "z": {"cos1": 0.02, "hit1": -0.006},
      "yaw": {"rest": 7, "sin1": 5, "drift2": 6},
      "pitch": {"rest": 24, "sin1": 5, "drift1": 3},
      "roll": {"rest": 5, "sin1": 2.5, "drift3": 1.5},
    }, speed=0.1,
  ),
  _activity(
    "kneading dough", "kitchen",
    STAND_M, "tempo side count", {
      "x": {"rest": 0.02, "sin_event": 0.01}, "y": {"sin1": -0.035},
      "z": {"sin1": -0.018, "hit1": -0.004}, "yaw": {"rest": 4, "drift2": 2},
      "pitch": {"rest": 30, "sin1": 3.0, "drift1": 2},
      "roll": {"rest": 4, "cos1": 0.8, "drift3": 1},
    }, stroke_hz=0.85, bursts=True,
  ),
)
# fmt: on

ACTIVITIES = {activity.label: activity for activity in _TABLE}
LABELS = tuple(ACTIVITIES)
# Kept out of IMU training: relatives of sweeping and of kitchen work.
HELD_OUT = ("raking leaves", "kneading dough")

TEMPOS = ("slow", "normal", "fast")
SIDES = ("left", "right")
GAZES = ("down", "ahead", "up")
COUNTS = (1, 2, 3, 4)
