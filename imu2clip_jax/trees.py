"""Names for the leaves of a nested dict of arrays.

A leaf's name is its keys joined by "/", as in "imu_encoder/trunk/gru/wh".
"""

import math
from typing import Any

import jax


def flatten(tree) -> dict[str, Any]:
  """Return leaf name -> leaf, in the order JAX visits the leaves.

  Example:
    >>> flatten({"gru": {"wh": 1, "wi": 2}, "scale": 3})
    {'gru/wh': 1, 'gru/wi': 2, 'scale': 3}
  """
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
  }


def unflatten(leaves: dict[str, Any]) -> dict:
  """Return the nested dict whose leaves have these names.

  Raises:
    ValueError: a name is also the folder of another one.

  Example:
    >>> unflatten({"gru/wh": 1, "gru/wi": 2, "scale": 3})
    {'gru': {'wh': 1, 'wi': 2}, 'scale': 3}
  """
  tree: dict = {}
  for name, leaf in leaves.items():
    *folders, last = name.split("/")
    node = tree
    for folder in folders:
      node = node.setdefault(folder, {})
      if not isinstance(node, dict):
        raise ValueError(f"{name!r}: {folder!r} is a leaf already")
    if last in node:
      raise ValueError(f"{name!r} is named twice or has leaves below it")
    node[last] = leaf
  return tree


def count(tree) -> int:
  """Count the numbers in all leaves.

  Example:
    >>> import numpy as np
    >>> count({"kernel": np.zeros((3, 4)), "bias": np.zeros(4)})
    16
  """
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def table(tree) -> str:
  """Lay out every leaf's name, shape, dtype and size, and the total.

  Leaves need only `shape` and `dtype`, so `jax.eval_shape` will do.

  Example:
    >>> import numpy as np
    >>> print(table({"kernel": np.zeros((3, 4), np.float32)}))
    name    shape   dtype    numbers
    kernel  [3, 4]  float32       12
    total                         12
  """
  rows = [("name", "shape", "dtype", "numbers")]
  for name, leaf in flatten(tree).items():
    shape = str(list(leaf.shape))
    rows.append((name, shape, str(leaf.dtype), f"{math.prod(leaf.shape):,}"))
  rows.append(("total", "", "", f"{count(tree):,}"))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join(
      cell.rjust(width) if i == 3 else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in rows
  )
