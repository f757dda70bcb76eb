"""Functions in JAX's automatic mode, called from its explicit one.

`jax.make_mesh` makes axes of type Explicit where it is not told otherwise:
arrays on them have their sharding in their type, and each operation must know
what becomes of it. What is written in the global view leaves that to the
compiler, so its axes are Auto.
"""

import functools
from collections.abc import Callable

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def in_auto_mode(function: Callable) -> Callable:
  """Let a function of arrays -> scalar work on meshes of either type.

  Args:
    function: (*arrays, **options); the options may hold arrays, and a `mesh`,
      which it is given with Auto axes if all of them are Explicit.

  Returns:
    the same function for arrays on meshes whose axes are all Auto or all
    Explicit, inside or outside of `jax.set_mesh`; mixed meshes are left as they
    are. Without a `mesh`, the gradient with respect to arrays on Explicit axes
    needs `jax.set_mesh`, as JAX then says.
  """

  @functools.wraps(function)
  def run(*args, mesh=None, **options):
    if mesh is not None:
      if _explicit(mesh) and isinstance(mesh, Mesh):
        mesh = Mesh(mesh.devices, mesh.axis_names)
      options["mesh"] = mesh
    arrays, rest = _split(options)
    around = jax.sharding.get_abstract_mesh()
    typed = [
      jax.typeof(x).sharding.mesh
      for x in jax.tree.leaves((args, arrays))
      if isinstance(x, jax.Array)
    ]
    if not any(map(_explicit, [around, *typed])):
      return function(*args, **options)
    if mesh is not None and not _explicit(around):
      args, arrays = jax.tree.map(lambda x: _retyped(x, mesh), (args, arrays))
      return function(*args, **arrays, **rest)
    whole, axes = PartitionSpec(), around.axis_names
    if not _explicit(around):
      own = next(filter(_explicit, typed))
      whole, axes = NamedSharding(own, whole), own.axis_names
    auto = jax.sharding.auto_axes(
      lambda args, arrays: function(*args, **arrays, **rest),
      axes=axes,
      out_sharding=whole,
    )
    return auto(args, arrays)

  return run


def _split(options):
  """Part options into arrays and the others."""
  arrays = {k: v for k, v in options.items() if isinstance(v, jax.Array)}
  return arrays, {k: v for k, v in options.items() if k not in arrays}


def _explicit(mesh):
  return set(mesh.axis_types) == {AxisType.Explicit}


def _retyped(x, mesh):
  """Put an array that lies on Explicit axes on the same of an Auto mesh."""
  if not isinstance(x, jax.Array) or not _explicit(jax.typeof(x).sharding.mesh):
    return x
  return jax.device_put(x, NamedSharding(mesh, jax.typeof(x).sharding.spec))
