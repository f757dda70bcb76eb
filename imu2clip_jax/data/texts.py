"""Narrations made fit for CLIP: two cleaning rules, both named."""

import re
import string

_LONGEST = 128  # characters, as in the official code

# Ego4D marks who acts: #C the camera wearer (then "C" as the subject), #O
# another person; "#summary" opens a passage, "#unsure" stands for a word.
_WEARER = re.compile(r"^\s*#\s*c\b[\s,:.]*(c\b['’]?s?\s+)?", re.IGNORECASE)  # noqa: RUF001
_OTHERS = re.compile(r"#\s*(o|summary)\b", re.IGNORECASE)
_UNSURE = re.compile(r"#\s*unsure\b", re.IGNORECASE)
_TAG = re.compile(r"#\s*\w*")


def official(text: str) -> str:
  """Clean a narration exactly as IMU2CLIP's published code does.

  Removes "#C C " and "#C" (that case only), says "something" for "#unsure",
  strips outer punctuation, lowers the case and keeps 128 characters. A text
  with tags but without "#c" in either case is about somebody else and gives "".

  >>> official("#C C picks a #unsure.")
  'picks a something'
  >>> official("#c c picks a knife"), official("#O a man X walks")
  ('c c picks a knife', '')
  """
  if "#" in text and "#c" not in text.lower():
    return ""
  for old, new in (("#C C ", ""), ("#C", ""), ("#unsure", "something")):
    text = text.replace(old, new)
  return text.strip().strip(string.punctuation).lower()[:_LONGEST]


def plain(text: str) -> str:
  """Clean a narration into a plain phrase.

  Unlike `official`: tags count in any case and spacing, white space is folded,
  unknown tags go, and a long text ends at a whole word. A text is about
  somebody else only if it does not begin with the wearer's tag.

  >>> plain("#c c  picks a # unsure. "), plain("#C C's hand moves")
  ('picks a something', 'hand moves')
  >>> plain("#O a man X walks"), plain("#C C hands a cup to #O man X")
  ('', 'hands a cup to man x')
  """
  text, by_wearer = _WEARER.subn("", text)
  if not by_wearer and _OTHERS.search(text):
    return ""
  text = _UNSURE.sub("something", text)
  text = " ".join(_TAG.sub("", text).split())
  text = text.strip(string.punctuation + string.whitespace).lower()
  if len(text) > _LONGEST:
    text = text[: _LONGEST + 1].rsplit(" ", 1)[0][:_LONGEST]
  return text


CLEANING = {"plain": plain, "official": official, "none": str}
