"""What an evaluation measured, as text: names, formats, terminal tables.

Every function takes the document that metrics.json holds (`evaluate` describes
it) and changes nothing in it. R@k is shown in percent; MRR, F1 and accuracy are
fractions.
"""

from collections.abc import Iterator, Sequence

DIRECTIONS = (
  "text->imu",
  "imu->text",
  "imu->video",
  "video->imu",
  "text->video",
)
# Key of metrics.json -> what a reader calls it, in the order of the tables.
RECOGNITION = {
  "zero_shot": "zero-shot",
  "linear_probe": "linear probe",
  "fine_tune": "fine-tune",
  "linear_probe_adapted": "linear probe, adapted",
  "linear_probe_agreed": "linear probe, agreed",
  "fine_tune_adapted": "fine-tune, adapted",
  "fine_tune_agreed": "fine-tune, agreed",
  "zero_shot_unseen": "zero-shot, unseen activities",
  "zero_shot_video": "teacher alone",
  "zero_shot_unseen_video": "teacher alone, unseen activities",
}
COLUMNS = ("R@1", "R@10", "R@50", "MRR")
CONSTANT = "always naming the most frequent class"
UNTRAINED = "transitive: a pair that the run was never trained on"
_TASKS = ("zero_shot", "zero_shot_unseen", "linear_probe", "fine_tune")
_NONE = "-"


def arrow(direction: str) -> str:
  """Return a direction as a reader would write it.

  >>> arrow("text->imu")
  'text → IMU'
  """
  return direction.replace("imu", "IMU").replace("->", " → ")


def number(name: str, value: float) -> str:
  """Return a metric as the tables print it.

  >>> number("R@10", 0.4213), number("MRR", 0.4213)
  ('42.1', '0.421')
  """
  return f"{100 * value:.1f}" if "R@" in name else f"{value:.3f}"


def interval(name: str, scores: dict) -> str:
  """Return a metric's 95 % interval.

  >>> interval("MRR", {"MRR": 0.5, "interval": {"MRR": (0.25, 0.75)}})
  '0.250-0.750'
  """
  return "-".join(number(name, end) for end in scores["interval"][name])


def constant(scores: dict) -> str:
  """Return the constant class's macro-F1 / accuracy."""
  return " / ".join(
    number(name, scores[f"constant_{name}"])
    for name in ("macro_f1", "accuracy")
  )


def clock(seconds: float) -> str:
  """Return a time as a player shows it, to a tenth of a second.

  >>> clock(5), clock(3725.25), clock(-1.5)
  ('0:05.0', '1:02:05.2', '-0:01.5')
  """
  tenths = round(abs(seconds) * 10)
  minutes, tenths = divmod(tenths, 600)
  hours, minutes = divmod(minutes, 60)
  sign = "-" if seconds < 0 else ""
  ahead = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
  return f"{sign}{ahead}:{tenths // 10:02d}.{tenths % 10}"


def title(document: dict) -> str:
  """Return what was evaluated on what."""
  return f"{document['variant']} on {document['dataset']}"


def subtitle(document: dict) -> str:
  """Return the split, its size, the teacher, the protocol and the seed."""
  counts = document["counts"]
  return (
    f"split {document['split']}: {counts['windows']} windows of "
    f"{counts['wearers']} wearers; teacher {document['teacher']}, frozen; "
    f"protocol {document['protocol']}; seed {document['seed']}"
  )


def directions(document: dict) -> Iterator[tuple[str, dict]]:
  """Yield (name, block) of retrieval, a star on pairs never trained."""
  for direction in DIRECTIONS:
    if direction in document["retrieval"]:
      block = document["retrieval"][direction]
      yield arrow(direction) + ("" if block["trained"] else " *"), block


def recognitions(document: dict) -> Iterator[tuple[str, dict]]:
  """Yield (name, scores) of recognition."""
  for key, name in RECOGNITION.items():
    if key in document["recognition"]:
      yield name, document["recognition"][key]


def chance_rows(document: dict) -> list[list[str]]:
  """Return one row of chance levels for every size of gallery."""
  galleries = {block["gallery"]: block for _, block in directions(document)}
  return [
    ["chance", *(number(c, block[f"chance_{c}"]) for c in COLUMNS), str(size)]
    for size, block in sorted(galleries.items())
  ]


def has_untrained(document: dict) -> bool:
  """Return whether a direction bears a star."""
  return not all(block["trained"] for _, block in directions(document))


def terminal(document: dict) -> str:
  """Return one evaluation as aligned tables, 95 % intervals in brackets."""
  lines = [title(document), subtitle(document)]
  if document["retrieval"]:
    rows = [["retrieval (R@k in %)", *COLUMNS, "gallery"]]
    for name, block in directions(document):
      cells = [_both(column, block) for column in COLUMNS]
      rows.append([name, *cells, str(block["gallery"])])
    lines += ["", *aligned([*rows, *chance_rows(document)])]
    if has_untrained(document):
      lines.append(f"* {UNTRAINED}")
  if document["recognition"]:
    head = ["macro-F1", "accuracy", "constant", "windows", "names"]
    rows = [["recognition", *head]]
    for name, scores in recognitions(document):
      cells = [_both(c, scores) for c in ("macro_f1", "accuracy")]
      sizes = [str(scores["n"]), str(scores["named_among"])]
      rows.append([name, *cells, constant(scores), *sizes])
    note = f"constant: macro-F1 / accuracy of {CONSTANT}"
    lines += ["", *aligned(rows), note]
  lines += [f"note: {note}" for note in document["notes"]]
  return "\n".join(lines) + "\n"


def closing(documents: Sequence[dict]) -> str:
  """Return several variants, asked on one split, as one table.

  The teacher's row is the ceiling: text ranks frames, text names frames, and no
  motion is involved. Fits 110 columns.
  """
  first = documents[0]
  rows = [
    [
      "",
      "text→IMU",
      "",
      "",
      "",
      "IMU→video",
      "",
      "",
      "",
      "macro-F1",
      "",
      "",
      "",
    ],
    ["", *COLUMNS, *COLUMNS, "zero-shot", "unseen", "probe", "tuned"],
  ]
  for document in documents:
    rows.append(
      [
        document["variant"],
        *_recalls(document, "text->imu"),
        *_recalls(document, "imu->video"),
        *_f1(document, _TASKS),
      ]
    )
  rows.append(
    [
      "teacher alone",
      *_recalls(first, "text->video"),
      *[_NONE] * len(COLUMNS),
      *_f1(first, ("zero_shot_video", "zero_shot_unseen_video")),
      *[_NONE] * 2,
    ]
  )
  rows.append(
    [
      "chance",
      *_recalls(first, "text->imu", "chance_"),
      *_recalls(first, "imu->video", "chance_"),
      *_f1(first, _TASKS, "constant_macro_f1"),
    ]
  )
  sizes = sorted({block["gallery"] for _, block in directions(first)})
  return "\n".join(
    [
      f"{first['dataset']}, {subtitle(first)}",
      f"gallery: {' or '.join(str(size) for size in sizes)} windows",
      "",
      *aligned(rows, head=2),
      f"R@k in %. * {UNTRAINED}. unseen: activities left out of training.",
      f"teacher alone: text→video, frames named by text. chance of macro-F1: "
      f"{CONSTANT}.",
      "",
    ]
  )


def _recalls(document, direction, chance=""):
  block = document["retrieval"].get(direction)
  if block is None:
    return [_NONE] * len(COLUMNS)
  star = " " if block["trained"] or chance else "*"
  return [number(c, block[chance + c]) + star for c in COLUMNS]


def _f1(document, keys, field="macro_f1"):
  found = [document["recognition"].get(key) for key in keys]
  return [number(field, scores[field]) if scores else _NONE for scores in found]


def _both(name, scores):
  return f"{number(name, scores[name])} ({interval(name, scores)})"


def aligned(rows: Sequence[Sequence[str]], head: int = 1) -> list[str]:
  """Return rows of equal length as lines of equal columns.

  First column to the left, the others to the right, a rule under `head` lines.
  """
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = []
  for row in rows:
    cells = [row[0].ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
    lines.append("  ".join(cells).rstrip())
  rule = "─" * max(len(line) for line in lines)
  return [*lines[:head], rule, *lines[head:]]
