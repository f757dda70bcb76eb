"""Every direction of retrieval between motion, text and video of one split.

A side is (embeddings [N, D], has [N] bool): row i of every side is window i,
and `has` says whether the window holds that modality. A direction runs over the
windows that hold both of its sides, each of them query and gallery row; the one
right answer is the query's own window.
"""

import numpy as np

from imu2clip_jax import logs, metrics, tables
from imu2clip_jax.data import cache

_RESAMPLES = 1000
_BLOCK_ROWS = 4096
# The pair that a variant must contrast to have trained a direction; text and
# video are the frozen teacher's own pair.
_PAIRS = {
  "text->imu": "imu_text",
  "imu->text": "imu_text",
  "imu->video": "imu_video",
  "video->imu": "imu_video",
}


def embed_windows(encoder, split: cache.Split, rows: np.ndarray) -> np.ndarray:
  """Embed some windows of a split, block by block: it need not fit in memory.

  Args:
    encoder: what `load_imu_encoder` returns.
    split: the cached split.
    rows: [R] its rows.

  Returns:
    float32 [R, D], unit norm.
  """
  parts = [np.zeros((0, encoder.dim), np.float32)]
  with logs.progress(
    what=f"embed {split.name}", unit="windows", total=len(rows)
  ) as bar:
    for start in range(0, len(rows), _BLOCK_ROWS):
      block = rows[start : start + _BLOCK_ROWS]
      parts.append(
        encoder.embed(
          np.asarray(split.imu[block]),
          split.meta["rate_hz"],
          sensor_mask=np.asarray(split.sensor_mask[block]),
        )
      )
      bar.update(len(block))
  return np.concatenate(parts)


def sides(split: cache.Split, imu: np.ndarray) -> dict:
  """Return {"imu", "text", "video"} -> side.

  Args:
    split: the cached split.
    imu: [N, D] embeddings of its windows.
  """
  return {
    "imu": (imu, np.asarray(split.sensor_mask).any(1)),
    "text": (split.nearest_text_embeddings, split.has_text),
    "video": (np.asarray(split.frame_embeddings), np.asarray(split.has_frames)),
  }


def official_rows(
  recording_ids: list[str], seed: int, windows: int = 320, each: int = 2
) -> np.ndarray:
  """Draw the gallery that the paper's released code ranks.

  That code takes about 320 windows, two of a recording. Where the recordings
  are too few for that, each gives two more in turn until 320 are drawn or none
  is left.

  Args:
    recording_ids: the recording of every window.
    seed: of the draw.
    windows: size of the gallery.
    each: windows of a recording in one turn.

  Returns:
    sorted rows, int64.
  """
  rng = np.random.default_rng(seed)
  of_recording = {}
  for row in rng.permutation(len(recording_ids)):
    of_recording.setdefault(recording_ids[row], []).append(row)
  turn = {}
  for place, rows in enumerate(of_recording.values()):
    for index, row in enumerate(rows):
      turn[row] = (index // each, place, index)
  return np.sort(sorted(turn, key=turn.get)[:windows]).astype(np.int64)


def measure(
  sides: dict,
  rows: np.ndarray,
  text_ids: np.ndarray,
  pairs: tuple[str, ...],
  seed: int,
) -> tuple[dict, dict]:
  """Rank every direction that at least two of the windows allow.

  Args:
    sides: see `sides`.
    rows: the windows that take part.
    text_ids: [N] equal where the narration is equal.
    pairs: the pairs that the run contrasted.
    seed: of the bootstrap over queries.

  Returns:
    direction -> block of metrics.json, and direction -> (rows, their ranks).
  """
  blocks, ranked = {}, {}
  for direction in tables.DIRECTIONS:
    (queries, has_query), (gallery, has_row) = _ends(sides, direction)
    used = rows[has_query[rows] & has_row[rows]]
    if len(used) < 2:
      continue
    asked, answers = queries[used], gallery[used]
    ranks = metrics.ranks(asked, answers)
    block = metrics.of_ranks(
      ranks, len(answers), bootstrap=_RESAMPLES, seed=seed
    )
    last = metrics.ranks(asked, answers, ties="pessimistic")
    pair = _PAIRS.get(direction)
    block["trained"] = pair is None or pair in pairs
    block["tied"] = float(np.mean(last > ranks))
    if "text" in direction and len(np.unique(text_ids[used])) < len(used):
      same = text_ids[used], text_ids[used]
      block["equal_texts_match"] = metrics.retrieval(asked, answers, match=same)
    blocks[direction], ranked[direction] = block, (used, ranks)
  return blocks, ranked


def examples(
  sides: dict,
  direction: str,
  rows: np.ndarray,
  ranks: np.ndarray,
  groups: np.ndarray,
  *,
  count: int,
  hits: int = 5,
  seed: int = 0,
) -> list[dict]:
  """Draw queries by chance, no two of one group, with what they found.

  Args:
    sides: see `sides`.
    direction: "text->imu", ...
    rows, ranks: what `measure` returned for it.
    groups: [N] int, for variety: labels or texts.
    count: queries to draw.
    hits: best rows to return.
    seed: of the draw.

  Returns:
    [{"row", "rank", "hits": best rows first}].
  """
  (queries, _), (gallery, _) = _ends(sides, direction)
  order = np.random.default_rng(seed).permutation(len(rows))
  _, first = np.unique(groups[rows][order], return_index=True)
  drawn = order[np.sort(first)][:count]
  scores = queries[rows[drawn]] @ gallery[rows].T
  best = np.argsort(-scores, axis=1, kind="stable")[:, :hits]
  return [
    {"row": int(rows[i]), "rank": float(ranks[i]), "hits": rows[found].tolist()}
    for i, found in zip(drawn, best, strict=True)
  ]


def _ends(sides, direction):
  query, gallery = direction.split("->")
  return sides[query], sides[gallery]
