"""The GRU of torch.nn.GRU, one layer, as a scan; only its last state is kept.

Both biases are kept apart as PyTorch has them, in the gate order r, z, n:

  r = sigmoid(x Wi_r + bi_r + h Wh_r + bh_r)
  z = sigmoid(x Wi_z + bi_z + h Wh_z + bh_z)
  n = tanh(x Wi_n + bi_n + r (h Wh_n + bh_n))
  h ← (1 - z) n + z h
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


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

  Products are taken in the dtype of `x`, summed in float32; the state and the
  gates are float32 (under float64 inputs, float64).

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
  wide = jnp.promote_types(x.dtype, jnp.float32)
  wi, wh = (jnp.asarray(params[name], x.dtype) for name in ("wi", "wh"))
  bi, bh = (jnp.asarray(params[name], wide) for name in ("bi", "bh"))
  hidden = wh.shape[0]
  # The biases of r and z only ever appear as a sum.
  bias = (bi + bh.at[2 * hidden :].set(0))[None, :]
  bias_n = bh[None, 2 * hidden :]

  def step(h, inputs):
    x, keep = inputs
    if not hoist:
      x = jnp.matmul(x, wi, preferred_element_type=wide) + bias
    from_h = jnp.matmul(h.astype(wh.dtype), wh, preferred_element_type=wide)
    xr, xz, xn = jnp.split(x, 3, -1)
    hr, hz, hn = jnp.split(from_h, 3, -1)
    r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
    n = jnp.tanh(xn + r * (hn + bias_n))
    new = n + z * (h - n)
    return (new if keep is None else jnp.where(keep[:, None], new, h)), None

  h = jnp.zeros((x.shape[0], hidden), wide)
  x = jnp.swapaxes(x, 0, 1)
  if hoist:
    x = jnp.matmul(x, wi, preferred_element_type=wide) + bias[None]
  inputs = (x, None if mask is None else jnp.asarray(mask).T)
  return jax.lax.scan(step, h, inputs, reverse=reverse, unroll=unroll)[0]


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
