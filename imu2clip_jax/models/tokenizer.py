"""CLIP's tokenizer: lower-cased byte-pair encoding, exactly OpenAI's.

Any merge list works: OpenAI's 48,894 merges give its 49,408 ids, a list learned
by `learn_merges` gives a small vocabulary. The 256 bytes are always in it, so
no text is out of vocabulary.
"""

import collections
import functools
import gzip
import html
import itertools
import json
from pathlib import Path

import ftfy
import numpy as np
import regex

START, END = "<|startoftext|>", "<|endoftext|>"
PIECE = (
  r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
  r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_PIECE = regex.compile(PIECE, regex.IGNORECASE)
_SPACE = regex.compile(r"\s+")
_WORD_END = "</w>"
_OPENAI_MERGES = 49152 - 256 - 2  # the rest of the published list is unused

Merges = list[tuple[str, str]]


def byte_symbols() -> dict[int, str]:
  """Name each byte by one printable character, in the vocabulary's order.

  GPT-2's table: printable bytes stand for themselves, the others for the code
  points from 256 on.
  """
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [b for b in range(256) if b not in printable]
  table = {b: chr(b) for b in printable}
  return table | {b: chr(256 + i) for i, b in enumerate(others)}


def clean(text: str) -> str:
  """Repair mojibake and HTML entities, collapse space, lower the case.

  >>> clean("  Fish &amp;amp; chips\\n at the Caf\u00c3\u00a9 ")
  'fish & chips at the caf\u00e9'
  """
  # What repair would leave alone skips it: five times faster on narrations.
  if text.isascii() and text.isprintable() and "&" not in text:
    return " ".join(text.split()).lower()
  text = html.unescape(html.unescape(ftfy.fix_text(text)))
  return _SPACE.sub(" ", text.strip()).strip().lower()


def split_words(text: str) -> list[str]:
  """Cut a text into the pieces within which symbols may merge."""
  symbols = _byte_symbols()
  return [
    "".join(symbols[b] for b in piece.encode())
    for piece in _PIECE.findall(clean(text))
  ]


def vocabulary(merges: Merges) -> dict[str, int]:
  """Number every token: bytes, bytes ending a word, merges, start, end."""
  symbols = list(byte_symbols().values())
  tokens = [
    *symbols,
    *(s + _WORD_END for s in symbols),
    *(a + b for a, b in merges),
    START,
    END,
  ]
  return {token: i for i, token in enumerate(tokens)}


class Tokenizer:
  """Texts → ids, int32 [N, context].

  Attributes:
    merges: pairs of symbols, most important first.
    context: L, ids a text, specials included.
    vocab_size: number of ids; the last two are start and end.
  """

  def __init__(self, merges: Merges, context: int = 77):
    self.merges = merges
    self.context = context
    self._ids = vocabulary(merges)
    self._ranks = {pair: i for i, pair in enumerate(merges)}
    self._encode_word = functools.lru_cache(2**16)(self._merge_word)
    self.vocab_size = 512 + len(merges) + 2
    if len(self._ids) != self.vocab_size:
      raise ValueError(
        f"the merge list makes some tokens twice: {len(merges)} merges "
        f"give {len(self._ids) - 514} new tokens"
      )

  def encode(self, text: str) -> list[int]:
    """Turn one text into ids, start and end included, of any length."""
    ids = [self._ids[START]]
    for word in split_words(text):
      ids.extend(self._encode_word(word))
    return [*ids, self._ids[END]]

  def __call__(self, texts: list[str]) -> np.ndarray:
    """Turn texts into ids, padded with 0; a long text is cut before its end.

    Raises:
      ValueError: `texts` is one string, or holds something else than strings.
    """
    if isinstance(texts, str):
      raise ValueError("expected a list of texts, got one string")
    rows = np.zeros((len(texts), self.context), np.int32)
    for row, text in zip(rows, texts, strict=True):
      if not isinstance(text, str):
        raise ValueError(f"expected a text, got {type(text).__name__}")
      ids = self.encode(text)
      if len(ids) > self.context:
        ids = [*ids[: self.context - 1], ids[-1]]
      row[: len(ids)] = ids
    return rows

  def _merge_word(self, word: str) -> list[int]:
    if word in (START, END):
      return [self._ids[word]]
    parts = [*word[:-1], word[-1] + _WORD_END]
    worst = len(self._ranks)
    while len(parts) > 1:
      pairs = list(itertools.pairwise(parts))
      best = min(pairs, key=lambda pair: self._ranks.get(pair, worst))
      if best not in self._ranks:
        break
      parts = _merge(parts, best)
    return [self._ids[part] for part in parts]


def learn_merges(texts: list[str], count: int) -> Merges:
  """Learn up to `count` merges from texts (Sennrich et al. 2016, section 3.2).

  Stops early when no pair of symbols occurs twice.
  """
  words = collections.Counter(w for text in texts for w in split_words(text))
  for special in (START, END):
    words.pop(special, None)
  parts = {w: [*w[:-1], w[-1] + _WORD_END] for w in words}
  counts, holders = collections.Counter(), collections.defaultdict(set)

  def tally(word, sign):
    for pair in itertools.pairwise(parts[word]):
      counts[pair] += sign * words[word]
      holders[pair].add(word)

  for word in words:
    tally(word, 1)
  merges, made = [], set()
  while len(merges) < count and counts:
    best = max(counts, key=lambda pair: (counts[pair], pair))
    if counts[best] < 2:
      break
    # Two pairs can spell one token; the vocabulary holds it once.
    if "".join(best) in made:
      del counts[best]
      continue
    merges.append(best)
    made.add("".join(best))
    for word in holders.pop(best):
      tally(word, -1)
      parts[word] = _merge(parts[word], best)
      tally(word, 1)
    del counts[best]
  return merges


def read_merges(path: Path) -> Merges | None:
  """Read a merge list from a checkpoint's folder or from one file.

  A file is `tokenizer.json`, `merges.txt` or OpenAI's
  `bpe_simple_vocab_16e6.txt.gz`, of which CLIP uses the first 48,894 merges.
  None if a folder holds none of the first two.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a merge list, or one with other ids than CLIP's order gives.
  """
  if path.is_dir():
    names = ("tokenizer.json", "merges.txt")
    path = next((path / n for n in names if (path / n).is_file()), None)
    if path is None:
      return None
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such merge list")
  try:
    if path.suffix == ".json":
      return _merges_from_json(json.loads(path.read_text(encoding="utf-8")))
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
      lines = file.read().splitlines()
    if lines[0].startswith(("#version", '"')):
      lines = lines[1:]
    return _pairs([line for line in lines if line][:_OPENAI_MERGES])
  except (LookupError, TypeError, ValueError, OSError, EOFError) as error:
    raise ValueError(f"{path}: not a merge list of CLIP's ({error})") from error


def _merges_from_json(content: dict) -> Merges:
  merges = _pairs(content["model"]["merges"])
  ids = content["model"]["vocab"]
  if ids != vocabulary(merges):
    raise ValueError("its ids do not follow from its merges")
  return merges


def _pairs(lines: list) -> Merges:
  """Take "a b" strings or [a, b] pairs: the format has had both."""
  pairs = [tuple(x.split(" ") if isinstance(x, str) else x) for x in lines]
  if wrong := [x for x in pairs if len(x) != 2]:
    raise ValueError(f"{' '.join(wrong[0])!r} is not a pair")
  return pairs


def to_json(merges: Merges) -> dict:
  """Describe the tokenizer as Hugging Face's `tokenizer.json` does.

  Its steps are those that Hugging Face's own CLIP tokenizer has: the same ids
  for text that needs no repair.
  """
  ids = vocabulary(merges)
  special = {
    "special": True,
    "normalized": False,
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
  }
  byte_level = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
  }
  return {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
      {"id": ids[token], "content": token} | special for token in (START, END)
    ],
    "normalizer": {
      "type": "Sequence",
      "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
      ],
    },
    "pre_tokenizer": {
      "type": "Sequence",
      "pretokenizers": [
        {
          "type": "Split",
          "pattern": {"Regex": PIECE},
          "behavior": "Removed",
          "invert": True,
        },
        byte_level,
      ],
    },
    "post_processor": {
      "type": "RobertaProcessing",
      "sep": [END, ids[END]],
      "cls": [START, ids[START]],
      "trim_offsets": False,
      "add_prefix_space": False,
    },
    "decoder": byte_level,
    "model": {
      "type": "BPE",
      "dropout": None,
      "unk_token": END,
      "continuing_subword_prefix": "",
      "end_of_word_suffix": _WORD_END,
      "fuse_unk": False,
      "byte_fallback": False,
      "ignore_merges": False,
      "vocab": ids,
      "merges": [list(pair) for pair in merges],
    },
  }


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
  merged, i = [], 0
  while i < len(parts):
    if tuple(parts[i : i + 2]) == pair:
      merged.append(parts[i] + parts[i + 1])
      i += 2
    else:
      merged.append(parts[i])
      i += 1
  return merged


_byte_symbols = functools.cache(byte_symbols)
