"""Contrastive losses on two towers' embeddings, written in the global view.

One loss, three ways to compute it: dense (one B x B matrix, plain autodiff),
in blocks (no B x B array, forward or backward), and sharded over one axis of
a device mesh. All three give the same value and the same gradients; batches
are global, so every row of every device is a negative of every other.

The sharded way computes each pair once: a device holds its rows of `a`, the
rows of `b` come to it, and what the columns learn goes back with them. Rows of
`b` come by one all-gather, or round a ring where the gathered copy would be
large.
"""

import jax
import jax.numpy as jnp

from imu2clip_jax import axis_types, loss_tiles


@axis_types.in_auto_mode
def softmax_contrastive(
  a,
  b,
  scale,
  *,
  positives=None,
  mask=None,
  block=None,
  mesh=None,
  axis=None,
  exchange=None,
):
  """Sum the cross entropies a→b and b→a, each a mean over the rows that exist.

  The loss of CLIP (Radford et al. 2021, figure 3) without its factor 1/2. With
  several positives to a row the target is spread evenly over them, outside
  the logarithm (SupCon, Khosla et al. 2020, equation 2; UniCL, Yang et al.
  2022, equation 3).

  Args:
    a: [B, D] embeddings of one tower, used as given (no normalization).
    b: [B, D] embeddings of the other; row i belongs to row i of `a`.
    scale: scalar that multiplies the inner products (1 / temperature).
    positives: None: row i matches row i only. int [B]: group ids, equal ids
      match. bool [B, B]: [i, j] says that a_i and b_j match; a row (or column)
      without any match asks nothing in that direction and stays a negative.
    mask: bool [B], the pairs that exist. A row outside it counts neither as a
      query nor as a negative and gets a gradient of exactly zero, whatever it
      holds. (A NaN that reaches the parameters by another way, through the
      normalization before this loss for example, is not stopped here.)
    block: rows and columns of a tile; None: the largest tile at hand.
    mesh: shard over this device mesh, whose axes are Auto or all Explicit; its
      `axis` must be given too.
    axis: name (or names) of the mesh axis over which the rows lie.
    exchange: "gather" or "ring"; None chooses by the size of `b`.

  Returns:
    Scalar, float32 or wider. 0 if no row exists.

  Raises:
    ValueError: a shape, a dtype, `block`, `axis` or `exchange` that does not
      fit.

  Example:
    >>> rows = jnp.eye(2)
    >>> round(float(softmax_contrastive(rows, rows, 1.0)), 4)
    0.6265
  """
  a, b, positives, mask = _prepare(a, b, positives, mask)
  plan = loss_tiles.plan_walk(b, block, mesh, axis, exchange)
  if plan is None:
    return _dense_softmax(a, b, scale, positives, mask)
  a, b, pairs = loss_tiles.pad_pairs(plan, a, b, positives, mask)
  return loss_tiles.softmax(plan, a, b, _scalar(scale, a), pairs)


@axis_types.in_auto_mode
def sigmoid_contrastive(
  a,
  b,
  scale,
  bias,
  *,
  positives=None,
  mask=None,
  block=None,
  mesh=None,
  axis=None,
  exchange=None,
):
  """Sum softplus(-y (scale s + bias)) over all pairs, divided by the rows.

  The loss of SigLIP (Zhai et al. 2023, equation 1): y is +1 where the pair
  matches and -1 elsewhere, s the inner product. Every pair of existing rows
  counts once; the divisor is the number of existing rows.

  Args:
    a, b, positives, mask, block, mesh, axis, exchange: as in
      `softmax_contrastive`.
    scale: scalar that multiplies the inner products.
    bias: scalar added to them (SigLIP starts at -10).

  Returns:
    Scalar, float32 or wider. 0 if no row exists.

  Raises:
    ValueError: as `softmax_contrastive`.

  Example:
    >>> rows = jnp.eye(2)
    >>> round(float(sigmoid_contrastive(rows, rows, 10.0, -5.0)), 6)
    0.013431
  """
  a, b, positives, mask = _prepare(a, b, positives, mask)
  plan = loss_tiles.plan_walk(b, block, mesh, axis, exchange)
  if plan is None:
    return _dense_sigmoid(a, b, scale, bias, positives, mask)
  a, b, pairs = loss_tiles.pad_pairs(plan, a, b, positives, mask)
  scale, bias = _scalar(scale, a), _scalar(bias, a)
  return loss_tiles.sigmoid(plan, a, b, scale, bias, pairs)


@axis_types.in_auto_mode
def nt_xent(
  views, scale, *, mask=None, block=None, mesh=None, axis=None, exchange=None
):
  """Average the cross entropy of finding a window's other view among all.

  The loss of SimCLR (Chen et al. 2020, equation 1 and algorithm 1): of 2B
  views each one's positive is its twin, its negatives are the 2B - 2 others,
  and it is not compared with itself.

  Args:
    views: [2B, D] embeddings, used as given; rows 2i and 2i + 1 are twins.
    scale: scalar that multiplies the inner products (1 / temperature).
    mask: bool [2B], the views that exist, as in `softmax_contrastive`; a view
      without its twin asks nothing and stays a negative.
    block, mesh, axis, exchange: as in `softmax_contrastive`.

  Returns:
    Scalar, float32 or wider. 0 if no twins exist.

  Raises:
    ValueError: an odd number of rows, or as `softmax_contrastive`.

  Example:
    >>> twins = jnp.repeat(jnp.eye(2), 2, axis=0)
    >>> round(float(nt_xent(twins, 1.0)), 4)
    0.5514
  """
  a, b, _, mask = _prepare(views, views, None, mask)
  if a.shape[0] % 2:
    raise ValueError(f"views has {a.shape[0]} rows, expected two a window")
  twins = jnp.arange(a.shape[0]) // 2
  plan = loss_tiles.plan_walk(b, block, mesh, axis, exchange)
  # Both directions of the symmetric matrix are the same; the loss is their sum.
  if plan is None:
    return _dense_softmax(a, b, scale, twins, mask, apart=True) / 2
  a, b, pairs = loss_tiles.pad_pairs(plan, a, b, twins, mask, apart=True)
  return loss_tiles.softmax(plan, a, b, _scalar(scale, a), pairs) / 2


@axis_types.in_auto_mode
def distill(student, teacher, *, mask=None):
  """Average 1 - cosine to the teacher's embedding: no negatives, one way.

  Only the student moves, as where Wav2CLIP (Wu et al. 2022) distils the frozen
  CLIP into sound; that work keeps a contrastive form, this one compares each
  row with its own target alone.

  Args:
    student, teacher: [B, D]; row i of one belongs to row i of the other.
    mask: bool [B], the rows that exist, as in `softmax_contrastive`.

  Returns:
    Scalar in [0, 2], float32 or wider. 0 if no row exists.

  Raises:
    ValueError: a shape or dtype that does not fit.

  Example:
    >>> float(distill(jnp.eye(2), 3 * jnp.eye(2)))
    0.0
    >>> float(distill(jnp.eye(2), -jnp.eye(2)))
    2.0
  """
  a, b, _, mask = _prepare(student, teacher, None, mask)
  wide = jnp.promote_types(a.dtype, jnp.float32)
  a, b = a.astype(wide), b.astype(wide)
  # The floor keeps the gradient of a masked, blanked row at zero, not NaN.
  squares = jnp.maximum((a * a).sum(1) * (b * b).sum(1), 1e-24)
  gap = 1 - (a * b).sum(1) * jax.lax.rsqrt(squares)
  return jnp.where(mask, gap, 0).sum() / jnp.maximum(mask.sum(), 1)


# Arguments.


def _prepare(a, b, positives, mask):
  """Check the arrays and blank the masked rows; return all four."""
  a, b = jnp.asarray(a), jnp.asarray(b)
  if a.ndim != 2 or a.shape != b.shape or not a.shape[0]:
    raise ValueError(
      f"a and b must both be [B, D] with B >= 1, got {a.shape} and {b.shape}"
    )
  num = a.shape[0]
  if positives is not None:
    positives = jnp.asarray(positives)
    is_ids = jnp.issubdtype(positives.dtype, jnp.integer)
    shape = (num,) if is_ids else (num, num)
    if positives.shape != shape or not (is_ids or positives.dtype == bool):
      raise ValueError(
        f"positives must be int [{num}] or bool [{num}, {num}], "
        f"got {positives.dtype} {positives.shape}"
      )
  if mask is None:
    return a, b, positives, jnp.ones(num, bool)
  mask = jnp.asarray(mask)
  if mask.shape != (num,) or mask.dtype != bool:
    raise ValueError(
      f"mask must be bool [{num}], got {mask.dtype} {mask.shape}"
    )
  # Garbage in a masked row must not meet any product: 0 * NaN is NaN.
  keep = mask[:, None]
  return jnp.where(keep, a, 0), jnp.where(keep, b, 0), positives, mask


def _scalar(value, a):
  return jnp.asarray(value, jnp.promote_types(a.dtype, jnp.float32))


# Dense.


def _dense_pairs(positives, mask):
  """Say of all [B, B] pairs which match and which exist."""
  valid = mask[:, None] & mask[None, :]
  if positives is None:
    positives = jnp.arange(mask.shape[0])
  if positives.ndim == 1:
    positives = positives[:, None] == positives[None, :]
  return positives & valid, valid


def _dense_softmax(a, b, scale, positives, mask, apart=False):
  positive, valid = _dense_pairs(positives, mask)
  if apart:
    other = ~jnp.eye(mask.shape[0], dtype=bool)
    positive, valid = positive & other, valid & other
  logits = jnp.where(valid, scale * loss_tiles.matmul(a, b.T), loss_tiles.FLOOR)
  loss = 0.0
  for axis in (1, 0):
    count = positive.sum(axis)
    target = jnp.where(positive, logits, 0).sum(axis) / jnp.maximum(count, 1)
    gap = jax.nn.logsumexp(logits, axis=axis) - target
    asks = count > 0
    loss += jnp.where(asks, gap, 0).sum() / jnp.maximum(asks.sum(), 1)
  return loss


def _dense_sigmoid(a, b, scale, bias, positives, mask):
  positive, valid = _dense_pairs(positives, mask)
  logits = scale * loss_tiles.matmul(a, b.T) + bias
  terms = jax.nn.softplus(jnp.where(positive, -logits, logits))
  return jnp.where(valid, terms, 0).sum() / jnp.maximum(mask.sum(), 1)
