"""The contrastive losses without a B x B array, on one device or many.

The B x B pairs are walked tile by tile. Each pair is computed once a walk: a
device holds its rows of `a`, the rows of `b` come to it, and what the columns
learn goes back with them. Rows of `b` come by one all-gather, or round a ring
where the gathered copy would be large.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

# A gathered `b` larger than this would cost a device too much memory, so that
# it goes round a ring. Chosen on paper: the ring sends up to three times the
# bytes, and over one link of a device where an all-gather uses all of them.
RING_BYTES = 1 << 29
# Stands for minus infinity: exp() of it is 0, and differences stay finite.
FLOOR = -1e30


class Plan(NamedTuple):
  """How to walk the B x B pairs; hashable, so that jit can key on it."""

  block: int  # rows and columns of a tile
  shards: int
  mesh: jax.sharding.Mesh | None
  axis: str | tuple | None
  ring: bool


def plan_walk(b, block, mesh, axis, exchange):
  """Choose the walk over the pairs; None stands for the dense one."""
  if exchange not in (None, "gather", "ring"):
    raise ValueError(f"exchange must be 'gather' or 'ring', got {exchange!r}")
  if block is not None and block < 1:
    raise ValueError(f"block must be a positive number of rows, got {block}")
  if (mesh is None) != (axis is None):
    raise ValueError(f"mesh and axis go together, got {mesh} and {axis!r}")
  if mesh is None and block is None:
    return None
  names = axis if isinstance(axis, tuple) else (axis,)
  if mesh is not None and not set(names) <= set(mesh.shape):
    raise ValueError(f"axis {axis!r} is not in the mesh {dict(mesh.shape)}")
  shards = math.prod(mesh.shape[name] for name in names) if mesh else 1
  local = -(-b.shape[0] // shards)
  tiles = -(-local // min(block or local, local))
  if exchange is None:
    gathered_bytes = b.size * b.dtype.itemsize
    exchange = "ring" if gathered_bytes > RING_BYTES else "gather"
  return Plan(-(-local // tiles), shards, mesh, axis, exchange == "ring")


def pad_pairs(plan, a, b, positives, mask, apart=False):
  """Bring the rows to whole tiles on every shard; rows added are masked.

  `apart` says that row i of `a` and row i of `b` are no pair at all.
  Returns a, b and the description of the pairs that the tiles cut up.
  """
  num = a.shape[0]
  step = plan.shards * plan.block
  extra = -num % step

  def pad(array):
    return jnp.pad(array, ((0, extra),) + ((0, 0),) * (array.ndim - 1))

  index = jnp.arange(num + extra, dtype=jnp.int32)
  both = {"mask": pad(mask), "group": index, "index": index}
  row = {}
  if positives is not None and positives.ndim == 1:
    both["group"] = pad(positives)
  elif positives is not None:
    row["positives"] = jnp.pad(positives, ((0, extra), (0, extra)))
  if apart:
    row["apart_from"] = index
  return pad(a), pad(b), {"both": both, "row": row}


def matmul(x, y):
  """Multiply matrices and sum in float32 or wider, whatever the inputs."""
  wide = jnp.promote_types(x.dtype, jnp.float32)
  # On TPU and recent GPUs the default would round float32 factors.
  exact = jax.lax.Precision.HIGHEST if x.dtype == wide else None
  return jnp.matmul(x, y, precision=exact, preferred_element_type=wide)


# The walk. `row` and `col` describe a block of `a` and a block of `b`;
# `row_sum` and `col_sum` gather what a row or a column learns from the tiles.


def _sweep(tile, rows, cols, row_sum, col_sum):
  """Visit every (row block, column block) once; axis 0 counts the blocks."""

  def down(row_sum, col_and_sum):
    col, col_sum = col_and_sum

    def across(col_sum, row_and_sum):
      row_sum, col_sum = tile(row_and_sum[0], col, row_and_sum[1], col_sum)
      return col_sum, row_sum

    col_sum, row_sum = jax.lax.scan(across, col_sum, (rows, row_sum))
    return row_sum, col_sum

  return jax.lax.scan(down, row_sum, (cols, col_sum))


def _visit(plan, tile, merge, rows, cols, row_sum, col_sum):
  """Sweep this device's rows over the columns of all devices.

  `merge` joins what the devices learned about all columns and hands each its
  own; the ring needs none, for there the sums travel with the columns.
  """
  if plan.shards == 1:
    return _sweep(tile, rows, cols, row_sum, col_sum)
  if not plan.ring:
    cols, col_sum = jax.lax.all_gather((cols, col_sum), plan.axis, tiled=True)
    row_sum, col_sum = _sweep(tile, rows, cols, row_sum, col_sum)
    return row_sum, merge(col_sum, plan.axis)
  hop = [(i, (i + 1) % plan.shards) for i in range(plan.shards)]

  def turn(carry, _):
    cols, row_sum, col_sum = carry
    row_sum, col_sum = _sweep(tile, rows, cols, row_sum, col_sum)
    cols, col_sum = jax.lax.ppermute((cols, col_sum), plan.axis, hop)
    return (cols, row_sum, col_sum), None

  start = (cols, row_sum, col_sum)
  carry, _ = jax.lax.scan(turn, start, length=plan.shards)
  return carry[1:]


def _on_shards(plan, body, parts, scalars):
  """Run `body(rows, cols, scalars) -> (rows out, scalars out)` everywhere.

  `parts` holds arrays over all rows under "row", "col" or "both"; the body
  sees its device's share, cut in blocks.
  """

  def local(parts, scalars):
    cut = jax.tree.map(lambda v: v.reshape(-1, plan.block, *v.shape[1:]), parts)
    rows, cols = cut["row"] | cut["both"], cut["col"] | cut["both"]
    out, sums = body(rows, cols, scalars)
    if plan.mesh is not None:
      sums = jax.lax.psum(sums, plan.axis)
    return jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), out), sums

  if plan.mesh is None:
    return local(parts, scalars)
  split, whole = PartitionSpec(plan.axis), PartitionSpec()
  # Forward and backward are both written out below, so JAX need not track
  # which values differ between the devices.
  return jax.shard_map(
    local,
    mesh=plan.mesh,
    in_specs=(split, whole),
    out_specs=(split, whole),
    check_vma=False,
  )(parts, scalars)


def _parts(a, b, pairs, row=(), col=()):
  return {
    "row": {"x": a} | pairs["row"] | dict(row),
    "col": {"x": b} | dict(col),
    "both": pairs["both"],
  }


def _tile_pairs(row, col):
  """Say of the pairs of one tile which match and which exist."""
  valid = row["mask"][:, None] & col["mask"][None, :]
  if "apart_from" in row:
    valid &= row["apart_from"][:, None] != col["index"][None, :]
  if "positives" in row:
    start, size = col["index"][0], valid.shape[1]
    same = jax.lax.dynamic_slice_in_dim(row["positives"], start, size, axis=1)
  else:
    same = row["group"][:, None] == col["group"][None, :]
  return same & valid, valid


def _sum_scatter(sums, axis):
  return jax.lax.psum_scatter(sums, axis, scatter_dimension=0, tiled=True)


# Softmax by tiles: one walk finds each row's and column's normalizer, a second
# one makes the logits again and turns them into gradients.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def softmax(plan, a, b, scale, pairs):
  return _softmax_forward(plan, a, b, scale, pairs)[0]


def _softmax_forward(plan, a, b, scale, pairs):
  def tile(row, col, row_sum, col_sum):
    positive, valid = _tile_pairs(row, col)
    logits = jnp.where(valid, scale * matmul(row["x"], col["x"].T), FLOOR)
    row_sum = _add_online(row_sum, logits, positive, 1)
    return row_sum, _add_online(col_sum, logits, positive, 0)

  def body(rows, cols, _):
    zero = jnp.zeros(rows["mask"].shape, scale.dtype)
    start = (zero + FLOOR, zero, zero, rows["index"] * 0)
    sums = _visit(plan, tile, _merge_online, rows, cols, start, start)
    stats, totals = zip(*map(_direction, sums), strict=True)
    return stats, totals

  (row, col), totals = _on_shards(plan, body, _parts(a, b, pairs), ())
  shares = [1 / jnp.maximum(asking, 1) for _, asking in totals]
  loss = sum(t * s for (t, _), s in zip(totals, shares, strict=True))
  return loss, (a, b, scale, pairs, row, col, shares)


def _add_online(sums, logits, positive, axis):
  """Fold a tile into (largest logit, sum of exp, target logits, positives)."""
  best, total, target, count = sums
  top = jnp.maximum(best, logits.max(axis))
  gained = jnp.exp(logits - jnp.expand_dims(top, axis)).sum(axis)
  total = total * jnp.exp(best - top) + gained
  target = target + jnp.where(positive, logits, 0).sum(axis)
  return top, total, target, count + positive.sum(axis, dtype=count.dtype)


def _merge_online(sums, axis):
  best, *rest = sums
  top = jax.lax.pmax(best, axis)
  rest[0] *= jnp.exp(best - top)
  rest = [_sum_scatter(v, axis) for v in rest]
  own = rest[0].shape[0]
  start = jax.lax.axis_index(axis) * own
  return jax.lax.dynamic_slice_in_dim(top, start, own), *rest


def _direction(sums):
  """Turn a direction's sums into (normalizer, share, asks) and its totals."""
  best, total, target, count = sums
  normalizer = best + jnp.log(total)
  share = 1 / jnp.maximum(count, 1).astype(target.dtype)
  asks = count > 0
  gap = jnp.where(asks, normalizer - target * share, 0)
  return (normalizer, share, asks), (gap.sum(), asks.sum())


def _softmax_backward(plan, saved, cotangent):
  a, b, scale, pairs, row, col, shares = saved

  def tile(row, col, row_sum, col_sum):
    positive, valid = _tile_pairs(row, col)
    cosine = matmul(row["x"], col["x"].T)
    logits = jnp.where(valid, scale * cosine, FLOOR)
    slope = 0.0
    for side, lift in ((row, lambda v: v[:, None]), (col, lambda v: v[None])):
      normalizer, share, weight = map(lift, side["stats"])
      target = jnp.where(positive, share, 0)
      slope += weight * (jnp.exp(logits - normalizer) - target)
    return _add_gradients(slope, cosine, row, col, row_sum, col_sum)

  def weighted(stats, share):
    normalizer, target, asks = stats
    return normalizer, target, asks * (share * cotangent)

  parts = _parts(
    a,
    b,
    pairs,
    row={"stats": weighted(row, shares[0])},
    col={"stats": weighted(col, shares[1])},
  )

  def body(rows, cols, _):
    start = _no_gradients(rows, cols, scale.dtype)
    sums = _visit(plan, tile, _sum_scatter, rows, cols, *start)
    (grad_a, grad_scale, _), grad_b = sums
    return (grad_a, grad_b), grad_scale.sum()

  (grad_a, grad_b), grad_scale = _on_shards(plan, body, parts, ())
  grad_a, grad_b = (
    (scale * g).astype(x.dtype) for g, x in ((grad_a, a), (grad_b, b))
  )
  return grad_a, grad_b, grad_scale, None


def _no_gradients(rows, cols, dtype):
  zero = jnp.zeros(rows["mask"].shape, dtype)
  grad = jnp.zeros(rows["x"].shape, dtype)
  return (grad, zero, zero), grad


def _add_gradients(slope, cosine, row, col, row_sum, col_sum):
  """Fold d loss / d logits of a tile into d/da, d/dscale, d/dbias, d/db.

  The factor `scale` of d/da and d/db is left to the caller.
  """
  grad_a, grad_scale, grad_bias = row_sum
  half = slope.astype(row["x"].dtype)
  grad_a = grad_a + matmul(half, col["x"])
  grad_scale = grad_scale + (slope * cosine).sum(1)
  grad_bias = grad_bias + slope.sum(1)
  return (grad_a, grad_scale, grad_bias), col_sum + matmul(half.T, row["x"])


softmax.defvjp(_softmax_forward, _softmax_backward)


# Sigmoid by tiles: a pair needs no other pair, so one walk gives all.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def sigmoid(plan, a, b, scale, bias, pairs):
  return _sigmoid_forward(plan, a, b, scale, bias, pairs)[0]


def _sigmoid_forward(plan, a, b, scale, bias, pairs):
  def tile(row, col, row_sum, col_sum):
    positive, valid = _tile_pairs(row, col)
    cosine = matmul(row["x"], col["x"].T)
    sign = jnp.where(positive, 1.0, -1.0).astype(cosine.dtype)
    wrong = -sign * (scale * cosine + bias)
    loss = row_sum[0] + jnp.where(valid, jax.nn.softplus(wrong), 0).sum(1)
    slope = jnp.where(valid, -sign * jax.nn.sigmoid(wrong), 0)
    grads = _add_gradients(slope, cosine, row, col, row_sum[1], col_sum)
    return (loss, grads[0]), grads[1]

  def body(rows, cols, _):
    row_start, col_start = _no_gradients(rows, cols, scale.dtype)
    start = (row_start[1], row_start), col_start
    sums = _visit(plan, tile, _sum_scatter, rows, cols, *start)
    (loss, (grad_a, *grad_scalars)), grad_b = sums
    sums = [v.sum() for v in (loss, *grad_scalars)]
    return (grad_a, grad_b), sums

  grads, sums = _on_shards(plan, body, _parts(a, b, pairs), ())
  share = 1 / jnp.maximum(pairs["both"]["mask"].sum(), 1)
  grads = [
    (share * scale * g).astype(x.dtype)
    for g, x in zip(grads, (a, b), strict=True)
  ]
  loss, *grad_scalars = (share * v for v in sums)
  return loss, (*grads, *grad_scalars)


def _sigmoid_backward(plan, grads, cotangent):
  del plan
  return *((cotangent * g).astype(g.dtype) for g in grads), None


sigmoid.defvjp(_sigmoid_forward, _sigmoid_backward)
