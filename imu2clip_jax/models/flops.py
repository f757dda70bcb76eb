"""Count the arithmetic of a function from what JAX traces of it."""

import math

import jax
from jax.extend.core import jaxprs_in_params


def count_flops(function, *args) -> int:
  """Count multiplications and additions of a function's matrix products.

  Products and convolutions count two operations a multiply-add; everything
  else is left out. A scan counts as often as it runs (XLA's own cost analysis
  counts its body once).

  Args:
    function: any traceable function.
    *args: arrays or `jax.ShapeDtypeStruct`s.

  Raises:
    ValueError: a loop whose length is not known when tracing.

  Example:
    >>> import jax.numpy as jnp
    >>> count_flops(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 4)))
    48
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr) -> int:
  return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation) -> int:
  name = equation.primitive.name
  if name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    depth = math.prod(shape[axis] for axis in contracted)
    return 2 * depth * equation.outvars[0].aval.size
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    out_axis = equation.params["dimension_numbers"].rhs_spec[0]
    return (
      2
      * equation.outvars[0].aval.size
      * (math.prod(kernel) // kernel[out_axis])
    )
  inner = sum(_count(sub) for sub in jaxprs_in_params(equation.params))
  if name == "while" and inner:
    raise ValueError("the length of a while loop is not known when tracing")
  return inner * equation.params.get("length", 1) if name == "scan" else inner
