"""A timeline as text: terminal, Markdown, subtitles, a language model's log.

Every function takes the document that `timeline` returns and changes nothing
in it.
"""

from collections.abc import Callable

from imu2clip_jax import tables

UNKNOWN = "unknown"


def terminal(document: dict) -> str:
  """Return the segments as an aligned table."""
  rows = [["activity", "from", "to", "confidence"]]
  for part in document["segments"]:
    ends = [tables.clock(part[end]) for end in ("start_s", "end_s")]
    rows.append([_shown(part), *ends, f"{part['confidence']:.2f}"])
  return "\n".join([_heading(document), "", *tables.aligned(rows)])


def markdown(document: dict) -> str:
  """Return the segments and the time that each activity took."""
  lines = [
    f"# {_cell(document['recording_id'])}",
    "",
    _heading(document),
    "",
    "| from | to | activity | confidence |",
    "|---:|---:|---|---:|",
  ]
  for part in document["segments"]:
    ends = [tables.clock(part[end]) for end in ("start_s", "end_s")]
    lines.append(
      f"| {ends[0]} | {ends[1]} | {_cell(_shown(part))} | "
      f"{part['confidence']:.2f} |"
    )
  lines += ["", "| activity | time | share |", "|---|---:|---:|"]
  totals = _totals(document)
  whole_s = sum(totals.values())
  for label, seconds in totals.items():
    share = f"{seconds / whole_s:.0%}"
    lines.append(f"| {_cell(label)} | {tables.clock(seconds)} | {share} |")
  return "\n".join(lines) + "\n"


def srt(document: dict) -> str:
  """Return SubRip subtitles; what lies before the first frame is left out."""
  cues = _cues(document, ",", lambda text: text)
  return "\n".join(f"{i}\n{cue}" for i, cue in enumerate(cues, start=1))


def vtt(document: dict) -> str:
  """Return WebVTT subtitles (W3C), in whose text & and < are escaped."""

  def escaped(text):
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
      text = text.replace(sign, name)
    return text

  return "\n".join(["WEBVTT\n", *_cues(document, ".", escaped)])


def for_llm(document: dict) -> str:
  """Return a time-stamped log with confidences, grounded in the recording.

  The paper (section 5) lets a language model answer questions about a day from
  such a log. It states what the numbers mean, so that the model can weigh them.
  """
  told = document.get("narrations", [])
  narrated = (
    "Narrations were recorded with it; nothing else" if told else "Nothing"
  )
  lines = [
    f"Activity log of recording {_line(document['recording_id'])}, "
    f"{tables.clock(document['start_s'])} to {tables.clock(document['end_s'])} "
    "(h:mm:ss).",
    "Source: a head-worn motion sensor (accelerometer, gyroscope), named by a "
    f"model. {narrated} here was seen or heard.",
    "Each line: [from - to] activity (confidence 0..1; next guess and its "
    f'confidence). "{UNKNOWN}": the model could not tell.',
    "Names the model chose from: "
    + "; ".join(map(_line, document["labels"]))
    + ".",
    "",
  ]
  entries = [
    (part["start_s"], part["end_s"], _logged(part))
    for part in document["segments"]
  ]
  entries += [
    (text["start_s"], text["end_s"], f'narration: "{_line(text["text"])}"')
    for text in told
  ]
  for start_s, end_s, text in sorted(entries, key=lambda entry: entry[0]):
    ends = f"{tables.clock(start_s)} - {tables.clock(end_s)}"
    lines.append(f"[{ends}] {text}")
  return "\n".join(lines)


def _logged(part):
  if part["guess"] is None:
    return f"{UNKNOWN} (no sensor measured)"
  found = f"{_line(part['label'])} ({part['confidence']:.2f}"
  if part["label"] == UNKNOWN:
    found = f"{UNKNOWN} ({_line(part['guess'])} {part['confidence']:.2f}"
  runner_up = part["runner_up_confidence"]
  return f"{found}; {_line(part['runner_up'])} {runner_up:.2f})"


def _heading(document):
  length_s = document["end_s"] - document["start_s"]
  return (
    f"{document['recording_id']}: {tables.clock(length_s)} of motion, "
    f"{len(document['segments'])} segments, named among "
    f"{len(document['labels'])}"
  )


def _shown(part):
  if part["label"] == UNKNOWN and part["guess"] is not None:
    return f"{UNKNOWN} ({part['guess']}?)"
  return part["label"]


def _totals(document):
  totals = {}
  for part in document["segments"]:
    seconds = part["end_s"] - part["start_s"]
    totals[part["label"]] = totals.get(part["label"], 0.0) + seconds
  return dict(sorted(totals.items(), key=lambda item: -item[1]))


def _cues(document, point, escape: Callable[[str], str]):
  cues = []
  for part in document["segments"]:
    if part["end_s"] <= 0:
      continue
    start, end = (
      _stamp(max(part[name], 0.0), point) for name in ("start_s", "end_s")
    )
    text = escape(_line(part["label"]))
    cues.append(f"{start} --> {end}\n{text} ({part['confidence']:.0%})\n")
  return cues


def _stamp(seconds, point):
  ms = round(seconds * 1000)
  minutes, ms = divmod(ms, 60_000)
  hours, minutes = divmod(minutes, 60)
  return f"{hours:02d}:{minutes:02d}:{ms // 1000:02d}{point}{ms % 1000:03d}"


def _line(text):
  return " ".join(str(text).split())


def _cell(text):
  return _line(text).replace("|", "\\|")
