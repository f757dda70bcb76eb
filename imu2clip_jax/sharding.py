"""Where arrays live: one mesh, batches split over it, parameters on all of it.

The only file that names mesh axes.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"


def make_mesh() -> Mesh:
  """Return a mesh of every device of every process along the data axis.

  The axis is Auto: under Explicit axes (jax's default) a scan with an unsharded
  carry, as in the GRU, is refused.
  """
  return jax.make_mesh(
    (jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,)
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Return the sharding of parameters: a whole copy on each device."""
  return NamedSharding(mesh, PartitionSpec())


def split_by_row(mesh: Mesh) -> NamedSharding:
  """Return the sharding of a batch: rows divided over the devices."""
  return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def global_batch(mesh: Mesh, local_batch: dict[str, np.ndarray]) -> dict:
  """Join each process's rows into arrays over the whole mesh.

  Raises:
    ValueError: the global batch does not divide by the number of devices.
  """
  rows = len(next(iter(local_batch.values()))) * jax.process_count()
  if rows % mesh.size:
    raise ValueError(
      f"config.train.batch_size is {rows}, which does not divide by "
      f"{mesh.size} devices"
    )
  sharding = split_by_row(mesh)
  # This is the one transfer that is meant; JAX counts it as unasked for where
  # an array is cut for several devices.
  with jax.transfer_guard_host_to_device("allow"):
    return {
      name: jax.make_array_from_process_local_data(sharding, array)
      for name, array in local_batch.items()
    }
