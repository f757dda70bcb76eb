"""What a narrator would have written, in the manner of Ego4D.

Templates hold {n} (a counted thing's number), {side}, {gaze}, {how}. The last
two or so of each activity are said only about wearers of the test split.
"""

import numpy as np

from imu2clip_jax.recordings.world import bouts

HOW = {
  "slow": ("slowly", "at a slow pace", "gently"),
  "normal": ("", "", "steadily"),
  "fast": ("quickly", "at a fast pace", "hurriedly"),
}
GAZE = {"down": "looking down", "ahead": "looking ahead", "up": "looking up"}
NUMBER = {1: "one", 2: "two", 3: "three", 4: "four"}

# label -> (sentences for every split, sentences for the test split only)
_SAID = {
  "reading a book": (
    (
      "reads a book {how} {gaze}",
      "turns a page with the {side} hand",
      "holds a book and reads {how}",
    ),
    ("goes through the pages of a novel {how}",),
  ),
  "writing in a notebook": (
    (
      "writes in a notebook {how} with the {side} hand",
      "takes notes {how} {gaze}",
      "writes on paper with a pen {how}",
    ),
    ("scribbles on a pad with the {side} hand {how}",),
  ),
  "typing on a computer": (
    (
      "types on a computer {how} {gaze}",
      "types on the laptop keyboard {how}",
      "presses keys of the laptop {how} with a cup on the {side}",
    ),
    ("enters text on a keyboard {how}",),
  ),
  "browsing on a computer": (
    (
      "browses on a computer {how} {gaze}",
      "moves the mouse with the {side} hand {how}",
      "scrolls on the computer screen {how}",
    ),
    ("surfs the web with the {side} hand on the mouse",),
  ),
  "moving head and body while sitting": (
    (
      "moves head and body {how} while sitting",
      "sways on the seat {how} towards the {side}",
      "leans the body to the {side} {how} {gaze}",
    ),
    ("rocks about on the chair {how}",),
  ),
  "moving the chair while sitting": (
    (
      "moves the chair {how} while sitting",
      "rolls the chair to the {side} {how}",
      "shifts the chair {how} {gaze}",
    ),
    ("scoots around on the seat to the {side}",),
  ),
  "standing up from sitting": (
    (
      "keeps standing up from sitting {how}",
      "stands up from the chair again with arms crossed {how}",
      "gets up and sits again {how} {gaze}",
    ),
    ("does chair rises {how}",),
  ),
  "standing still": (
    (
      "stands still {gaze}",
      "stands and waits leaning to the {side}",
      "stays in place with a bag {gaze}",
    ),
    ("remains upright without moving {gaze}",),
  ),
  "walking": (
    (
      "walks {how} {gaze}",
      "walks {how} and bears {side}",
      "goes on foot {how} {gaze}",
    ),
    ("strolls along bearing {side} {how}",),
  ),
  "running": (
    (
      "runs {how} {gaze}",
      "jogs along the street {how}",
      "runs {how} and bears {side}",
    ),
    ("sprints bearing {side} {how}",),
  ),
  "taking stairs": (
    (
      "takes the stairs {how} {gaze}",
      "walks on the stairs {how} with the {side} hand on the rail",
      "steps along the staircase {how} {gaze}",
    ),
    ("climbs a flight of steps {how} {gaze}",),
  ),
  "putting the glasses on and off while sitting": (
    (
      "puts the glasses on and off {how} while sitting",
      "takes off the glasses with the {side} hand while seated",
      "adjusts the glasses {how} while sitting {gaze}",
    ),
    ("removes the spectacles with the {side} hand in the chair",),
  ),
  "putting the glasses on and off while standing": (
    (
      "puts the glasses on and off {how} while standing",
      "takes off the glasses with the {side} hand on the feet",
      "adjusts the glasses {how} while standing {gaze}",
    ),
    ("removes the spectacles with the {side} hand, upright",),
  ),
  "picking up items from the floor while sitting": (
    (
      "picks up {n} items from the floor while sitting",
      "bends from the chair and picks up items with the {side} hand",
      "reaches down to the {side} from the seat for {n} things",
    ),
    ("collects {n} fallen things from the chair",),
  ),
  "picking up items from the floor while standing": (
    (
      "picks up {n} items from the floor while standing",
      "bends down and picks up items with the {side} hand",
      "stoops to the {side} to lift {n} things",
    ),
    ("collects {n} fallen things, bowing",),
  ),
  "head movement": (
    (
      "moves the head {how} {gaze}",
      "turns the head to the {side} {how}",
      "looks around {how} with the {side} hand at the chin",
    ),
    ("glances about towards the {side} {how}",),
  ),
  "stands up": (
    (
      "stands up {how}",
      "stands up {how} leaning on the {side} {gaze}",
      "rises once from the seat {how}",
    ),
    ("gets to the feet {how}",),
  ),
  "sits down": (
    (
      "sits down {how}",
      "sits down on a chair on the {side} {how}",
      "lowers onto the seat {how} {gaze}",
    ),
    ("takes a seat on the {side} {how}",),
  ),
  "chopping vegetables": (
    (
      "chops {n} vegetables {how} with the {side} hand",
      "cuts vegetables on the board {how}",
      "chops vegetables with the knife in the {side} hand",
    ),
    ("dices {n} pieces of food with a blade {how}",),
  ),
  "washing dishes": (
    (
      "washes {n} dishes {how}",
      "scrubs a plate with the {side} hand {how}",
      "washes dishes in the sink {how}",
    ),
    ("cleans {n} plates under the tap {how}",),
  ),
  "cycling": (
    (
      "rides a bicycle {how} {gaze}",
      "cycles on the road {how}",
      "pedals the bike {how} and bears {side}",
    ),
    ("goes by bike bearing {side} {how}",),
  ),
  "driving a car": (
    (
      "drives a car {how} {gaze}",
      "steers the car to the {side} {how}",
      "drives along the road {how}",
    ),
    ("handles the steering wheel to the {side} {how}",),
  ),
  "rowing": (
    (
      "rows the boat {how} {gaze}",
      "pulls the oars {how}",
      "rows on the lake {how} {gaze}",
    ),
    ("paddles across the water {how} {gaze}",),
  ),
  "hammering": (
    (
      "hammers {n} nails {how} with the {side} hand",
      "hits a nail with the hammer {how}",
      "drives nails with the {side} hand {how}",
    ),
    ("pounds {n} pins into the plank {how}",),
  ),
  "sawing wood": (
    (
      "saws wood {how} with the {side} hand",
      "cuts {n} pieces with a saw {how}",
      "moves the saw through the plank {how}",
    ),
    ("cuts {n} logs with the {side} hand {how}",),
  ),
  "sweeping the floor": (
    (
      "sweeps the floor {how} {gaze}",
      "sweeps with a broom to the {side} {how}",
      "cleans the floor with the broom {how}",
    ),
    ("brushes the ground to the {side} {how}",),
  ),
  "jumping": (
    (
      "jumps {how} {gaze}",
      "hops on the spot {how} before {n} cones",
      "jumps with arms raised {how}",
    ),
    ("leaps up and down at {n} markers {how}",),
  ),
  "drinking from a cup": (
    (
      "drinks from a cup {how}",
      "lifts the cup with the {side} hand {how}",
      "takes a sip from the cup {how} {gaze}",
    ),
    ("sips coffee from a mug in the {side} hand {how}",),
  ),
  "brushing teeth": (
    (
      "brushes teeth {how} with the {side} hand",
      "moves the toothbrush {how} {gaze}",
      "brushes teeth at the mirror {how}",
    ),
    ("cleans the mouth with a brush in the {side} hand {how}",),
  ),
  "raking leaves": (
    (
      "rakes leaves {how} with the {side} hand",
      "rakes the lawn {how} {gaze}",
      "gathers leaves with a rake {how}",
    ),
    ("clears the grass with a rake to the {side} {how}",),
  ),
  "kneading dough": (
    (
      "kneads {n} pieces of dough {how}",
      "presses the dough on the counter {how}",
      "kneads dough leaning to the {side} {how}",
    ),
    ("works {n} loaves with both hands {how}",),
  ),
}

_OTHERS = (
  "#O a man X walks by",
  "#O a woman Y talks to C",
  "#O a person X looks at C",
  "#unsure",
)


def sentence(template: str, bout, how: str) -> str:
  """Fill one template with the bout's attributes."""
  text = template.format(
    how=how,
    n=NUMBER[bout.count],
    side=bout.side,
    gaze=GAZE[bout.gaze] if "gaze" in bout.activity.attributes else "",
  )
  return " ".join(text.split())


def templates(label: str, *, test_only: bool) -> tuple[str, ...]:
  """The templates of every split, or those of the test split alone."""
  return _SAID[label][1 if test_only else 0]


def narrate(rng, bout, *, test: bool) -> list[tuple[float, float, str]]:
  """Narrate one bout: (time, time, text) every 2 to 4 s, with human flaws."""
  lines = []
  time = bout.start_s + rng.uniform(0.5, 2.0)
  while time < bout.end_s - 0.3:
    said = templates(bout.label, test_only=test and rng.uniform() < 0.3)
    text = sentence(rng.choice(said), bout, rng.choice(HOW[bout.tempo]))
    text = f"#C C {text}"
    draw = rng.uniform()
    if draw < 0.04:
      text = str(rng.choice(_OTHERS))
    elif draw < 0.08:
      text += " #unsure"
    elif draw < 0.13:
      text = text.lower()
    elif draw < 0.18:
      text += "  "
    elif draw < 0.21:
      text = text.upper()
    lines.append((time, time, text))
    if rng.uniform() < 0.15:  # a second annotator says nearly the same
      later = min(time + rng.uniform(0.0, 0.5), bout.end_s)
      lines.append((later, later, text.rstrip() + rng.choice(("", ".", " "))))
    time += rng.uniform(2.0, 4.0)
  return lines


def captions(bout) -> list[str]:
  """Every caption of a picture of this bout that a teacher may learn from.

  The plain label comes first; sentences of the test split are not among them.
  """
  attributes = bout.activity.attributes
  words = {
    "tempo": [how for how in HOW[bout.tempo] if how],
    "side": [f"with the {bout.side} hand", f"to the {bout.side}"],
    "gaze": [GAZE[bout.gaze]],
    "count": [NUMBER[bout.count]],
  }
  lines = [bout.label]
  lines += [
    f"{bout.label} {word}" for name in attributes for word in words[name]
  ]
  for template in templates(bout.label, test_only=False):
    for how in HOW[bout.tempo]:
      lines.append("#C C " + sentence(template, bout, how))
  return list(dict.fromkeys(lines))


def generator(seed, wearer, recording, bout) -> np.random.Generator:
  """The generator of one bout's words."""
  return bouts.generator(seed, bouts.WORDS, wearer, recording, bout.index)
