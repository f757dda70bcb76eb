"""Exact ranks of matches in a gallery of any size.

No queries x gallery array is ever held: tiles of scores are made, counted and
dropped, on whatever device JAX has.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

TIES = ("optimistic", "average", "pessimistic")
# Gallery rows and queries of one tile: 16 MiB of float32 scores. Larger ones
# leave the processor's caches and cost a third of the speed of the products.
_TILE_ROWS, _TILE_QUERIES = 4096, 1024
# Queries for which one pass over the gallery is made.
_PASS_QUERIES = 16 * _TILE_QUERIES


def ranks(queries, gallery, match=None, *, ties="optimistic") -> np.ndarray:
  """Return the rank of every query's best match, float64 [Nq], from 1.

  Arguments and errors as in `metrics.retrieval`. Peak memory above the inputs
  is a few tiles, whatever the sizes.

  Example:
    >>> ranks(np.eye(3)[:2], np.eye(3), match=np.array([0, 2]))
    array([1., 2.])
  """
  if ties not in TIES:
    raise ValueError(f"ties must be one of {TIES}, got {ties!r}")
  queries, gallery = map(_as_array, (queries, gallery))
  num, size, dtype = _check_embeddings(queries, gallery)
  with jax.enable_x64(dtype == np.float64):
    return _ranks(queries, gallery, dtype, match, num, size, ties)


def _ranks(queries, gallery, dtype, match, num, size, ties):
  target, pairs = _check_match(match, num, size)
  # No more queries than rows: `_ranks_of` puts their matches into one tile.
  width = min(_TILE_QUERIES, _TILE_ROWS, size)
  parts = []
  for start in range(0, num, _PASS_QUERIES):
    stop = min(start + _PASS_QUERIES, num)
    blocks = [
      slice(first, min(first + width, stop))
      for first in range(start, stop, width)
    ]
    parts += _ranks_of(blocks, queries, gallery, dtype, target, pairs, ties)
  return np.concatenate(parts)


def _ranks_of(blocks, queries, gallery, dtype, target, pairs, ties):
  """Rank the gallery, in one pass over it, for every block of queries."""
  asked = [jnp.asarray(queries[block], dtype) for block in blocks]
  own = [_pairs_of(pairs, block) for block in blocks]
  largest = max(
    _largest(rows, "queries", block.start)
    for block, rows in zip(blocks, asked, strict=True)
  )
  wide = jnp.promote_types(dtype, jnp.float32)
  best = [jnp.full(len(rows), -jnp.inf, wide) for rows in asked]
  if target is not None:
    # In a tile of the same shape as all others: another shape may sum in
    # another order, and the match would not tie with its own duplicates.
    for i, block in enumerate(blocks):
      rows = np.resize(target[block], min(len(gallery), _TILE_ROWS))
      ids = np.arange(len(asked[i])), np.arange(len(rows))
      best[i] = _fold_best(best[i], asked[i], gallery[rows], ids, 0)
  else:
    for tile, part, skip, _ in _tiles(gallery):
      for i in range(len(blocks)):
        tile_pairs = _pairs_in(own[i], part)
        best[i] = _fold_best(best[i], asked[i], tile, tile_pairs, skip)
  counts = [jnp.zeros((3, len(rows)), jnp.int32) for rows in asked]
  for tile, part, skip, start in _tiles(gallery):
    _refuse_overflow(largest, _largest(tile, "gallery", start), tile, wide)
    for i in range(len(blocks)):
      counts[i].block_until_ready()  # or all tiles would queue up in memory
      counts[i] = _fold_counts(
        counts[i],
        best[i],
        asked[i],
        tile,
        _pairs_in(own[i], part),
        skip,
        ties != "optimistic",
      )
  return [_placed(np.asarray(c, np.float64), ties) for c in counts]


def _placed(counts, ties):
  better, wrong, right = counts
  if ties == "pessimistic":
    return 1 + better + wrong
  # Of w wrong and m right rows in a tie the first right one comes, on
  # average over their orders, behind w / (m + 1) wrong ones.
  return 1 + better + wrong / (right + 1)


def _pairs_of(pairs, block):
  """The right pairs of a block of queries."""
  if isinstance(pairs, tuple):
    return pairs[0][block], pairs[1]
  return pairs[block]


def _pairs_in(pairs, part):
  """The right pairs of a block of queries inside a tile of the gallery."""
  if isinstance(pairs, tuple):
    return pairs[0], pairs[1][part]
  return pairs[:, part].T


def _tiles(gallery):
  """Yield (rows, their place, leading rows to skip, index of the first row).

  Every tile has one shape, so the last one starts early and repeats rows.
  """
  size = len(gallery)
  rows = min(size, _TILE_ROWS)
  for start in range(0, size, rows):
    first = min(start, size - rows)
    part = slice(first, first + rows)
    if isinstance(gallery, jax.Array):
      tile = jax.lax.dynamic_slice_in_dim(gallery, first, rows)
    else:
      tile = jnp.asarray(gallery[part])
    yield tile, part, start - first, first


def _scores(queries, tile, pairs, skip):
  """Return scores [rows, queries] of a tile, the right pairs, the new rows."""
  tile = tile.astype(queries.dtype)
  scores = jnp.matmul(
    tile,
    queries.T,
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.promote_types(tile.dtype, jnp.float32),
  )
  if isinstance(pairs, tuple):
    pairs = pairs[1][:, None] == pairs[0][None, :]
  return scores, pairs, jnp.arange(tile.shape[0])[:, None] >= skip


@jax.jit
def _fold_best(best, queries, tile, pairs, skip):
  scores, right, _ = _scores(queries, tile, pairs, skip)
  return jnp.maximum(best, jnp.where(right, scores, -jnp.inf).max(0))


@functools.partial(jax.jit, static_argnames="count_ties")
def _fold_counts(counts, best, queries, tile, pairs, skip, count_ties):
  """Add (wrong rows above the best match, wrong tied, right tied)."""
  scores, right, new = _scores(queries, tile, pairs, skip)

  def count(rows):
    # Exact in float32 up to 2**24 rows, and vectorized on CPUs, unlike ints.
    return jnp.where(rows, 1.0, 0.0).sum(0).astype(jnp.int32)

  better = count((scores > best[None, :]) & ~right & new)
  if not count_ties:
    return counts.at[0].add(better)
  tied = (scores == best[None, :]) & new
  return counts + jnp.stack([better, count(tied & ~right), count(tied & right)])


def _largest(rows, name, start):
  """Return the largest absolute value of rows, which must be finite."""
  largest = float(jnp.abs(rows).max(initial=0))
  if not np.isfinite(largest):
    bad = start + int(jnp.argmin(jnp.isfinite(rows).all(1)))
    raise ValueError(f"{name} row {bad} holds NaN or infinity")
  return largest


def _refuse_overflow(in_queries, in_gallery, tile, dtype):
  if in_queries * in_gallery * tile.shape[1] > float(jnp.finfo(dtype).max):
    raise ValueError(
      f"inner products of values up to {in_queries:g} and {in_gallery:g} "
      f"exceed {dtype}: scale the rows down"
    )


def _as_array(rows):
  return rows if hasattr(rows, "dtype") else np.asarray(rows)


def _check_embeddings(queries, gallery):
  if np.ndim(queries) != 2 or np.ndim(gallery) != 2:
    raise ValueError(
      f"queries and gallery must be [N, D], got {np.shape(queries)} "
      f"and {np.shape(gallery)}"
    )
  (num, dim), (size, gallery_dim) = queries.shape, gallery.shape
  if not num or not size or dim != gallery_dim:
    raise ValueError(
      f"queries {queries.shape} and gallery {gallery.shape} must hold rows of "
      "one width"
    )
  kinds = [np.dtype(rows.dtype) for rows in (queries, gallery)]
  if any(kind == np.float64 or kind.kind in "iub" for kind in kinds):
    return num, size, np.dtype(np.float64)
  return num, size, jnp.result_type(*kinds)


def _check_match(match, num, size):
  """Return (row of every query or None, the pairs that are right).

  The pairs are a bool [Nq, Ng] or the int ids of the queries and the gallery.
  """
  if match is None:
    if num > size:
      raise ValueError(
        f"{num} queries need as many gallery rows or a `match`, got {size}"
      )
    match = np.arange(num)
  if isinstance(match, tuple) and list(map(np.ndim, match)) == [1, 1]:
    ids, gallery_ids = (np.asarray(m) for m in match)
    if ids.shape != (num,) or gallery_ids.shape != (size,):
      raise ValueError(
        f"match must be ids [{num}] and [{size}], got {list(ids.shape)} "
        f"and {list(gallery_ids.shape)}"
      )
    _, codes = np.unique(
      np.concatenate([ids, gallery_ids]), return_inverse=True
    )
    codes = codes.astype(np.int32)
    target, pairs = None, (codes[:num], codes[num:])
    lost = ~np.isin(pairs[0], pairs[1])
  else:
    match = np.asarray(match)
    if match.dtype == bool and match.shape == (num, size):
      target, pairs, lost = None, match, ~match.any(1)
    elif match.shape == (num,) and match.dtype.kind in "iu":
      target, pairs = match, (match, np.arange(size))
      lost = (match < 0) | (match >= size)
    else:
      raise ValueError(
        f"match must be int [{num}], bool [{num}, {size}] or a pair of ids, "
        f"got {match.dtype} {list(match.shape)}"
      )
  if lost.any():
    raise ValueError(
      f"query {lost.argmax()} and {lost.sum() - 1} more have no match in the "
      f"gallery of {size} rows"
    )
  return target, pairs


def chance(num, size, ks=(1, 10, 50), match=None) -> dict:
  """Return the expected recalls and MRR under a random order of the gallery.

  Args:
    num: Nq, queries.
    size: Ng, gallery rows.
    ks: cut-offs of recall.
    match: as in `metrics.retrieval`; with m right rows the best ranked counts.

  Returns:
    {"R@k" for k in ks, "MRR"}.

  Example:
    >>> chance(2, 4, ks=(1, 2))["R@2"]
    0.5
  """
  target, pairs = _check_match(match, num, size)
  if target is not None:
    matches = np.ones(num, np.int64)
  elif isinstance(pairs, tuple):
    matches = np.bincount(pairs[1], minlength=pairs[0].max() + 1)[pairs[0]]
  else:
    matches = pairs.sum(1)
  total = dict.fromkeys([*(f"R@{k}" for k in ks), "MRR"], 0.0)
  for count, share in zip(*np.unique(matches, return_counts=True), strict=True):
    above = _share_above(int(count), size)
    for k in ks:
      late = above[k] if k < len(above) else 0.0
      total[f"R@{k}"] += (1 - late) * share / num
    reciprocal = 1 / np.arange(1, len(above))
    total["MRR"] += -np.diff(above) @ reciprocal * share / num
  return {name: float(value) for name, value in total.items()}


def _share_above(matches, size):
  """Return the chance that none of r random rows matches, r = 0, 1, ..."""
  drawn = np.arange(size - matches + 1)
  return np.cumprod(np.r_[1.0, (size - matches - drawn) / (size - drawn)])
