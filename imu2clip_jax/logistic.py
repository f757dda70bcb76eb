"""Multinomial logistic regression, solved to convergence in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize


def fit(
  x: np.ndarray,
  y: np.ndarray,
  num_classes: int,
  l2: float,
  *,
  start: dict | None = None,
  tolerance: float = 1e-6,
) -> dict:
  """Minimise mean cross entropy + l2/2 · |kernel|² by L-BFGS, in float64.

  The bias is not penalised; scikit-learn's C is 1 / (n · l2).

  Args:
    x: [n, D] features.
    y: [n] int classes 0 .. num_classes - 1.
    num_classes: C.
    l2: the penalty.
    start: an earlier solution to begin at; None begins at zero.
    tolerance: largest entry of the gradient at the end.

  Returns:
    {"kernel" [D, C], "bias" [C]} float64.

  Raises:
    FloatingPointError: the solver did not get there.
  """
  dim = x.shape[1]
  first = np.zeros((dim + 1) * num_classes)
  if start is not None:
    first = np.concatenate([start["kernel"].ravel(), start["bias"]])
  options = {
    "gtol": tolerance,
    "ftol": 0.0,
    "maxiter": 10_000,
    "maxfun": 20_000,
  }
  cpu = jax.local_devices(backend="cpu")[0]
  with jax.enable_x64(True), jax.default_device(cpu):
    rows = jnp.asarray(x, jnp.float64), jnp.asarray(y, jnp.int32)

    def value_and_gradient(flat):
      return tuple(
        map(np.asarray, _cross_entropy(flat, *rows, l2, num_classes))
      )

    result = scipy.optimize.minimize(
      value_and_gradient, first, jac=True, method="L-BFGS-B", options=options
    )
  # The line search may end at rounding error, a little above the tolerance.
  if not np.abs(result.jac).max() < 10 * tolerance:
    raise FloatingPointError(f"logistic regression stopped: {result.message}")
  return {
    "kernel": result.x[:-num_classes].reshape(dim, -1),
    "bias": result.x[-num_classes:],
  }


# XLA's products, not NumPy's: a BLAS that spins on more threads than it has
# cores made this ten times slower.
@functools.partial(jax.jit, static_argnames="num_classes")
def _cross_entropy(flat, x, y, l2, num_classes):
  """The value and the gradient that `fit` minimises."""

  def value(flat):
    kernel = flat[:-num_classes].reshape(x.shape[1], num_classes)
    z = x @ kernel + flat[None, -num_classes:]
    cross = optax.softmax_cross_entropy_with_integer_labels(z, y)
    return cross.mean() + l2 / 2 * (kernel**2).sum()

  return jax.value_and_grad(value)(flat)
