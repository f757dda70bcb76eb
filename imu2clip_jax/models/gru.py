"""The GRU of torch.nn.GRU, one layer, as a scan; only its last state is kept.

Both biases are kept apart as PyTorch has them, in the gate order r, z, n:

  r = sigmoid(x Wi_r + bi_r + h Wh_r + bh_r)
  z = sigmoid(x Wi_z + bi_z + h Wh_z + bh_z)
  n = tanh(x Wi_n + bi_n + r (h Wh_n + bh_n))
  h ← (1 - z) n + z h

The gradient is written by hand because memory bounds a large batch. Autodiff
keeps nine arrays [T, B, H] of the loop, 3.7 GB for 1024 windows of 193 steps;
XLA fills each before the loop, eight of them by copies on one thread, and every
page of them is new to the process: 17.6 s of CPU time where this takes 12.5.

- Four are kept, in one buffer that is filled once: h, r, z and h Wh_n + bh_n.
  n follows from them by a small product and a tanh; to take h Wh once more
  would be the whole forward pass.
- The loop backward holds what must be sequential. The weights' gradients are
  taken of several steps at a time: enough rows that adding up [H, 3H] is small
  beside the product (a single step has few rows if the batch is small), few
  enough that no second set of [T, B, H] is written.
- The buffers are carried and sliced by index: what a scan takes and returns
  would have to be reshaped into blocks, which XLA does by a copy of it all.

On several devices call it inside shard_map, as `train_step` does: left to the
compiler, the rows of a block are gathered on every device.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

# Rows, steps times batch, that meet in one product for the weights' gradients.
_BLOCK_ROWS = 1024


def gru_last(
  params: dict,
  x: jax.Array,
  mask: jax.Array | None = None,
  *,
  reverse: bool = False,
  hoist: bool = False,
  unroll: int = 1,
) -> jax.Array:
  """Run a GRU over time from a zero state and return its last state.

  Products are taken in the dtype of `x`, those of the gradient too, and summed
  in float32; the state and the gates are float32 (under float64 inputs,
  float64). Gradients are for reverse mode, of first order.

  Args:
    params: {"wi": [F, 3H], "wh": [H, 3H], "bi": [3H], "bh": [3H]}.
    x: [B, T, F].
    mask: bool [B, T]; where it is False the state stays as it is, so padding
      before or behind the samples changes nothing, whatever finite it holds.
    reverse: run from the last sample to the first.
    hoist: project all inputs before the loop. That costs a [T, B, 3H] buffer
      and saves small products: slower on CPUs.
    unroll: steps a turn of the loop.

  Returns:
    [B, H].
  """
  names = "wi", "wh", "bi", "bh"
  params = {name: jnp.asarray(params[name]) for name in names}
  mask = None if mask is None else jnp.asarray(mask).T
  return _last((reverse, hoist, unroll), params, jnp.swapaxes(x, 0, 1), mask)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _last(options, params, x, mask):
  return _forward(options, params, x, mask)[0]


def _last_and_residuals(options, params, x, mask):
  h, saved = _forward(options, params, x, mask, save=True)
  return h, (params, x, mask, saved)


def _forward(options, params, x, mask, save=False):
  """Return h [B, H] and, to save, h, r, z, h Wh_n + bh_n as [T, 4, B, H]."""
  reverse, hoist, unroll = options
  wi, wh, bias, bias_n = _cast(params, x.dtype)
  steps, batch, hidden = *x.shape[:2], wh.shape[0]

  def step(carry, inputs):
    h, saved = carry
    t, x, keep = inputs
    if not hoist:
      x = _product(x, wi) + bias
    xr, xz, xn = jnp.split(x, 3, -1)
    hr, hz, hn = jnp.split(_product(h, wh), 3, -1)
    r, z, hn = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz), hn + bias_n
    n = jnp.tanh(xn + r * hn)
    new = n + z * (h - n)
    if save:
      for i, value in enumerate((h, r, z, hn)):
        saved = jax.lax.dynamic_update_slice(
          saved, value[None, None], (t, i, 0, 0)
        )
    if keep is not None:
      new = jnp.where(keep[:, None], new, h)
    return (new, saved), None

  h = jnp.zeros((batch, hidden), bias.dtype)
  saved = jnp.zeros((steps, 4, batch, hidden), bias.dtype) if save else None
  if hoist:
    x = _product(x, wi) + bias[None]
  return jax.lax.scan(
    step,
    (h, saved),
    (jnp.arange(steps), x, mask),
    reverse=reverse,
    unroll=unroll,
  )[0]


def _backward(options, residuals, dh):
  reverse, _, unroll = options
  params, x = residuals[:2]
  wi, wh, bias, _ = _cast(params, x.dtype)
  steps, batch, _ = x.shape
  n_gate = 2 * wh.shape[0]
  wi_rz, wi_n = wi.at[:, n_gate:].set(0), wi[:, n_gate:]

  def step(dh, inputs):
    xn, keep, (h, r, z, hn) = inputs
    stay = 0
    if keep is not None:
      stay = jnp.where(keep[:, None], 0, dh)
      dh = dh - stay
    n = jnp.tanh(xn + r * hn)
    # Of what tanh and the two sigmoids are taken of, and of h Wh_n + bh_n.
    dn = dh * (1 - z) * (1 - n * n)
    dz = dh * (h - n) * z * (1 - z)
    dhn = dn * r
    dr = dhn * hn * (1 - r)
    d = jnp.concatenate([dr, dz, dhn], -1)
    return stay + dh * z + _product(d, wh.T), (d, dn)

  def block(carry, start, size):
    dh, sums = carry
    x, keep, saved = jax.tree.map(
      lambda v: jax.lax.dynamic_slice_in_dim(v, start, size), residuals[1:]
    )
    xn = _product(x, wi_n) + bias[None, :, n_gate:]
    dh, (d, dn) = jax.lax.scan(
      step, dh, (xn, keep, saved), reverse=not reverse, unroll=unroll
    )
    # wi_rz is zero where d holds the gradient of h Wh_n instead of x Wi_n.
    dx = _product(d, wi_rz.T) + _product(dn, wi_n.T)
    h = saved[:, 0].astype(x.dtype)
    x, h, d, dn = (v.reshape(size * batch, -1) for v in (x, h, d, dn))
    db = d.sum(0)
    own = {
      "wi": _product(x.T, d).at[:, n_gate:].set(_product(x.T, dn)),
      "wh": _product(h.T, d),
      "bi": db.at[n_gate:].set(dn.sum(0)),
      "bh": db,
    }
    return (dh, jax.tree.map(jnp.add, sums, own)), dx

  sums = {name: jnp.zeros(v.shape, bias.dtype) for name, v in params.items()}
  size = min(steps, max(1, _BLOCK_ROWS // max(1, batch)))
  rest = steps % size
  # The steps that fill no block are the first of the recurrence.
  starts = jnp.arange(0 if reverse else rest, steps - rest * reverse, size)
  carry, dx = jax.lax.scan(
    lambda carry, start: block(carry, start, size),
    (dh, sums),
    starts,
    reverse=not reverse,
  )
  dx = dx.reshape(steps - rest, *x.shape[1:])
  if rest:
    carry, dx_rest = block(carry, steps - rest if reverse else 0, rest)
    dx = jnp.concatenate([dx, dx_rest] if reverse else [dx_rest, dx])
  gradient = {k: v.astype(params[k].dtype) for k, v in carry[1].items()}
  return gradient, dx.astype(x.dtype), None


_last.defvjp(_last_and_residuals, _backward)


def _cast(params, dtype):
  """Return Wi and Wh in `dtype` and, wide, bi with r's and z's bh, and bh_n."""
  wide = jnp.promote_types(dtype, jnp.float32)
  wi, wh = (params[name].astype(dtype) for name in ("wi", "wh"))
  bi, bh = (params[name].astype(wide) for name in ("bi", "bh"))
  n_gate = 2 * wh.shape[0]
  # The biases of r and z only ever appear as a sum.
  return wi, wh, (bi + bh.at[n_gate:].set(0))[None], bh[None, n_gate:]


def _product(a, b):
  """Multiply in the narrower of the two dtypes, summed in float32 at least."""
  narrow = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
  wide = jnp.promote_types(narrow, jnp.float32)
  a, b = a.astype(narrow), b.astype(narrow)
  return jnp.matmul(a, b, preferred_element_type=wide)


class Gru(nn.Module):
  """`gru_last` with its parameters, drawn as torch.nn.GRU draws them.

  Everything is U(-1/√H, 1/√H), the biases too.
  """

  hidden: int
  reverse: bool = False

  @nn.compact
  def __call__(self, x, mask=None):
    def draw(key, shape):
      bound = self.hidden**-0.5
      return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    gates = 3 * self.hidden
    params = {
      "wi": self.param("wi", draw, (x.shape[-1], gates)),
      "wh": self.param("wh", draw, (self.hidden, gates)),
      "bi": self.param("bi", draw, (gates,)),
      "bh": self.param("bh", draw, (gates,)),
    }
    return gru_last(params, x, mask, reverse=self.reverse)
