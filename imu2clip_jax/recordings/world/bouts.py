"""Who does what, when: wearers, and the schedule of one recording.

Everything is drawn from generators keyed by (seed, purpose, wearer, recording),
so no draw depends on process, order or on what else was asked for.
"""

import dataclasses

import numpy as np

from imu2clip_jax.recordings.world import activities as acts
from imu2clip_jax.recordings.world import motion

# What a generator is for; a new purpose takes a new number.
WEARER, PLAN, SENSOR, SCENE, WORDS, FAULTS = range(6)
TEMPO_FACTOR = {"slow": 0.68, "normal": 1.0, "fast": 1.45}
GAZE_DEG = {"down": 12.0, "ahead": 0.0, "up": -12.0}
_REST_STROKES = 2.5  # between two bursts


def generator(seed: int, purpose: int, *keys: int) -> np.random.Generator:
  """Return the generator of one purpose of one wearer, recording, ..."""
  return np.random.default_rng([seed, purpose, *keys])


@dataclasses.dataclass(frozen=True)
class Wearer:
  """What stays with a person; factors are 1 for the mean wearer.

  Attributes:
    height: of the body.
    strokes, events: rhythm of each activity, [number of activities].
    amplitude: of each degree of freedom in each activity, [activities, 6].
    posture_deg: habitual yaw, pitch and roll in each activity, [activities, 3].
    mount: [3, 3] sensor-to-head rotation.
    scale: [6] gain of each channel.
    skin: RGB in 0..1.
  """

  height: float
  strokes: np.ndarray
  events: np.ndarray
  amplitude: np.ndarray
  posture_deg: np.ndarray
  mount: np.ndarray
  scale: np.ndarray
  skin: np.ndarray


def draw_wearer(seed: int, wearer: int) -> Wearer:
  """Draw the person with number `wearer`."""
  rng = generator(seed, WEARER, wearer)
  size = len(acts.LABELS)
  shade = rng.uniform(0.0, 1.0)
  return Wearer(
    height=float(np.clip(rng.normal(1.0, 0.045), 0.88, 1.12)),
    strokes=np.exp(rng.normal(0.0, 0.05) + rng.normal(0.0, 0.08, size)),
    events=np.exp(rng.normal(0.0, 0.05) + rng.normal(0.0, 0.10, size)),
    amplitude=np.exp(rng.normal(0.0, 0.15) + rng.normal(0.0, 0.22, (size, 6))),
    posture_deg=rng.normal(0.0, (2.0, 4.0, 2.0), (size, 3)),
    mount=_small_rotation(np.radians(rng.normal(0.0, 4.0, 3))),
    scale=1.0 + rng.normal(0.0, 0.01, 6),
    skin=np.array([0.45, 0.29, 0.2]) + shade * np.array([0.47, 0.44, 0.42]),
  )


def _small_rotation(angles):
  x, y, z = angles
  length = max(float(np.linalg.norm(angles)), 1e-12)
  cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
  return (
    np.eye(3)
    + np.sin(length) / length * cross
    + (1 - np.cos(length)) / length**2 * cross @ cross
  )


@dataclasses.dataclass(frozen=True)
class Bout:
  """One stretch of one activity, as its words and pictures need it."""

  label: str
  scene: str
  start_s: float
  end_s: float
  tempo: str
  side: str
  gaze: str
  count: int
  index: int

  @property
  def activity(self) -> acts.Activity:
    """The row of the table."""
    return acts.ACTIVITIES[self.label]


def plan(seed: int, wearer: int, recording: int, duration_s: float):
  """Draw the schedule of one recording.

  Returns:
    A list of `Bout` that covers 0 .. duration_s, and their motion: name ->
    float64 array [number of bouts, ...] as `motion.FIELDS` says, with start_s,
    change_s (length of the blend at its start), place and heading besides.
  """
  person = draw_wearer(seed, wearer)
  rng = generator(seed, PLAN, wearer, recording)
  chosen, rows = [], []
  start, previous, deck = 0.0, None, []
  place, heading = np.zeros(3), rng.uniform(-np.pi, np.pi)
  while start < duration_s:
    if not deck:
      deck = _deck(rng, previous)
    label = deck.pop()
    previous = label
    bout, row = _draw(rng, person, label, start, len(chosen))
    row |= {"place": place, "heading": heading}
    chosen.append(bout)
    rows.append(row)
    moved = {name: np.asarray([value]) for name, value in row.items()}
    place, heading = (
      end[0] for end in motion.arc(moved, np.array([0]), bout.end_s - start)
    )
    start = bout.end_s
  chosen[-1] = dataclasses.replace(chosen[-1], end_s=duration_s)
  return chosen, {
    name: np.stack([np.asarray(row[name], np.float64) for row in rows])
    for name in rows[0]
  }


def _deck(rng, previous):
  # Every activity once; short ones twice, or they would fill too little time.
  deck = [
    label
    for label, activity in acts.ACTIVITIES.items()
    for _ in range(2 if activity.once else 1)
  ]
  order = list(rng.permutation(len(deck)))
  labels = [deck[i] for i in order]
  for i in range(1, len(labels)):
    if labels[i] == labels[i - 1]:
      labels[i - 1], labels[0] = labels[0], labels[i - 1]
  if labels[-1] == previous:
    labels.insert(0, labels.pop())
  return labels


def _draw(rng, person, label, start_s, index):
  activity = acts.ACTIVITIES[label]
  low, high = activity.bout_s
  length = float(np.exp(rng.uniform(np.log(low), np.log(high))))
  scene = activity.scenes[rng.integers(len(activity.scenes))]
  bout = Bout(
    label=label,
    scene=scene,
    start_s=start_s,
    end_s=start_s + length,
    tempo=str(rng.choice(acts.TEMPOS)),
    side=str(rng.choice(acts.SIDES)),
    gaze=str(rng.choice(acts.GAZES)),
    count=int(rng.choice(acts.COUNTS)),
    index=index,
  )
  named = {
    "tempo": "normal",
    "side": "left",
    "gaze": "ahead",
    "count": 1,
  }
  for name, value in named.items():
    if name not in activity.attributes:
      bout = dataclasses.replace(bout, **{name: value})
  return bout, motion_row(rng, person, bout)


def motion_row(rng, person: Wearer, bout: Bout) -> dict:
  """Draw the motion of one bout: name -> array, as `motion.FIELDS` says.

  It lacks place and heading, which depend on the bouts before.
  """
  activity = bout.activity
  number = acts.LABELS.index(activity.label)
  length = bout.end_s - bout.start_s
  tempo = TEMPO_FACTOR[bout.tempo] * np.exp(rng.normal(0.0, 0.05))
  stroke = activity.stroke_hz * person.strokes[number] * tempo
  event = activity.event_hz * person.events[number] * tempo
  if "count" in activity.attributes and not activity.bursts:
    event *= 0.5 + 0.25 * bout.count
  rates = np.array(
    [
      stroke,
      0.5 / length if activity.once else event,
      stroke / (bout.count + _REST_STROKES),
      *rng.uniform((0.04, 0.10, 0.20), (0.10, 0.22, 0.42)),
      *(activity.shake_hz * rng.uniform((0.8, 1.1), (1.0, 1.5))),
    ]
  )
  phases = rng.uniform(0.0, 2 * np.pi, len(rates))
  square = activity.sharp[2]
  if activity.once:  # the bout is as long as it is; its change is quick or slow
    phases[1] = -0.5 * np.pi
    square *= tempo**1.5
  weights, offset = _weights(rng, person, activity, number)
  mirror = np.array([1, 1, 1, 1, 1, 1.0])
  if bout.side == "right":
    mirror = np.array([-1, 1, 1, -1, 1, -1.0])
  offset[4] += np.radians(GAZE_DEG[bout.gaze])
  climb = activity.climb * (-1.0 if bout.gaze == "down" else 1.0)
  return {
    "rate": 2 * np.pi * rates,
    "phase": phases,
    "wobble": np.array([0.5, 0.0 if activity.once else 0.6]),
    "sharpness": np.array([*activity.sharp[:2], square, 9.0]),
    "rest": np.array(
      [
        0.95 if activity.bursts else 0.0,
        np.cos(np.pi * bout.count / (bout.count + _REST_STROKES)),
      ]
    ),
    "offset": mirror * offset,
    "weights": mirror[:, None] * weights,
    "speed": activity.speed * tempo,
    "turn": activity.turn * mirror[3] * rng.uniform(0.5, 1.2),
    "climb": climb * tempo,
    "start_s": bout.start_s,
    "change_s": rng.uniform(1.2, 2.0),
  }


def _weights(rng, person, activity, number):
  """[6, waves] and [6] in metres and radians, for the left side."""
  weights = np.zeros((len(motion.DOFS), len(motion.WAVES)))
  offset = np.zeros(len(motion.DOFS))
  for dof, waves in activity.moves.items():
    for wave, size in waves.items():
      if wave == "rest":
        offset[motion.DOFS.index(dof)] = size
      else:
        weights[motion.DOFS.index(dof), motion.WAVES.index(wave)] = size
  each = np.exp(rng.normal(0.0, 0.12, len(motion.WAVES)))
  # Nobody sits or stands like a statue.
  for dof, metres in (("x", 0.004), ("y", 0.004), ("z", 0.001)):
    weights[motion.DOFS.index(dof), motion.WAVES.index("drift3")] += metres
  weights *= person.amplitude[number][:, None] * each
  offset[3:] += person.posture_deg[number] + rng.normal(0.0, (2, 3, 1.5))
  offset[2] += activity.height_m * person.height
  degrees = np.array([1, 1, 1, *[np.pi / 180] * 3])
  return weights * degrees[:, None], offset * degrees
