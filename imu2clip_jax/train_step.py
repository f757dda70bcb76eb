"""The training step as pure functions on plain dicts of arrays.

The state is {"params": {"imu_encoder", "log_scale", "bias"}, "opt_state",
"step"}; SimCLR's head is params["view_head"]. The teacher is not in it: its
embeddings arrive with the batch, so nothing can train it.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from imu2clip_jax import losses

# For each pair: the teacher's column and the mask of rows that have it.
_TARGETS = {
  "imu_video": ("frame_embedding", "has_frames"),
  "imu_text": ("text_embedding", "has_text"),
}


def init(
  encoder,
  optimizer: optax.GradientTransformation,
  key: jax.Array,
  *,
  num_samples: int,
  pairs: tuple[str, ...],
  initial_scale: float,
  initial_bias: float,
  view_dim: int = 0,
) -> dict:
  """Return the state before the first step.

  With `view_dim` it holds a head of that width for the objective "simclr".

  Scales and biases are explicit float32: a weakly typed scalar would compile
  the step once more for each of its first steps.
  """
  params = {
    "imu_encoder": encoder.init(key, num_samples),
    "log_scale": {
      pair: jnp.log(jnp.asarray(initial_scale, jnp.float32)) for pair in pairs
    },
    "bias": {pair: jnp.asarray(initial_bias, jnp.float32) for pair in pairs},
  }
  if view_dim:
    params["view_head"] = _init_view_head(key, encoder.embed_dim, view_dim)
  return {
    "params": params,
    "opt_state": optimizer.init(params),
    "step": jnp.zeros((), jnp.int32),
  }


def _init_view_head(key, dim, view_dim):
  # Keeps these draws apart from the encoder's, which have the same key.
  keys = jax.random.split(jax.random.fold_in(key, 1))
  draw = jax.nn.initializers.lecun_normal()
  return {
    "hidden": {"kernel": draw(keys[0], (dim, dim)), "bias": jnp.zeros(dim)},
    "out": {"kernel": draw(keys[1], (dim, view_dim))},
  }


def view_head(params: dict, x: jax.Array) -> jax.Array:
  """Map embeddings [N, D] to unit vectors [N, V] that SimCLR contrasts.

  Linear, ReLU, linear (Chen et al. 2020, section 4.2): what the contrast of
  views throws away, it throws away behind the encoder.
  """
  hidden = params["hidden"]
  x = jax.nn.relu(x @ hidden["kernel"] + hidden["bias"][None])
  x = x @ params["out"]["kernel"]
  square = (x * x).sum(1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


def embed_in_chunks(
  encoder,
  params: dict,
  imu: jax.Array,
  sensor_mask: jax.Array,
  chunk: int = 0,
) -> jax.Array:
  """Embed a batch, keeping the activations of one chunk of it at a time.

  With `chunk` the backward pass runs the encoder once more, chunk by chunk, so
  that the batch of the loss may exceed what activations allow: gradient caching
  (GradCache, Gao et al. 2021, section 3), written as a rematerialized scan.

  Args:
    encoder: has `apply`.
    params: the encoder's.
    imu: [B, T, 6].
    sensor_mask: bool [B, 2].
    chunk: rows at a time, a divisor of B; 0 takes the whole batch.

  Returns:
    float32 [B, D].
  """

  def embed(rows):
    return encoder.apply(params, rows[0], sensor_mask=rows[1])

  rows = imu.shape[0]
  if not chunk or chunk >= rows:
    return embed((imu, sensor_mask))

  def cut(x):
    return x.reshape(rows // chunk, chunk, *x.shape[1:])

  again = jax.checkpoint(embed, prevent_cse=False)
  parts = jax.lax.map(again, (cut(imu), cut(sensor_mask)))
  return parts.reshape(rows, -1)


def embed_on_devices(
  encoder,
  params: dict,
  imu: jax.Array,
  sensor_mask: jax.Array,
  chunk: int = 0,
  mesh: jax.sharding.Mesh | None = None,
) -> jax.Array:
  """Embed a batch whose rows are split over a mesh; see `embed_in_chunks`.

  Each device embeds its own rows as if it were alone, and the parameters'
  gradients meet once, behind the whole backward pass. Left to the compiler,
  those of the recurrence are summed over all devices in every one of its steps,
  32 (`official`) or 193 (`paper`) times for windows of 1000 samples.

  Args:
    encoder, params, imu, sensor_mask: as there.
    chunk: rows at a time over all devices.
    mesh: the devices; None for one.

  Returns:
    float32 [B, D], split like `imu`.
  """
  if mesh is None or mesh.size == 1:
    return embed_in_chunks(encoder, params, imu, sensor_mask, chunk)
  # A chunk that does not divide by the devices becomes a smaller one.
  local = imu.shape[0] // mesh.size
  chunk = chunk and math.gcd(local, max(1, chunk // mesh.size))
  split, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
  return jax.shard_map(
    lambda *own: embed_in_chunks(encoder, *own, chunk),
    mesh=mesh,
    in_specs=(whole, split, split),
    out_specs=split,
    # Else the parameters' gradients are summed where they are used: in a scan.
    check_vma=False,
  )(params, imu, sensor_mask)


def make_loss(
  encoder,
  *,
  pairs: tuple[str, ...],
  objectives: dict[str, float] | None = None,
  equal_texts_match: bool = True,
  block: int | None = None,
  chunk: int = 0,
  mesh: jax.sharding.Mesh | None = None,
  change: Callable | None = None,
  simclr_scale: float = 10.0,
) -> Callable[[dict, dict], tuple[jax.Array, dict]]:
  """Return loss(params, batch) -> (weighted sum, metrics).

  For two pairs each objective is the sum of the two pair losses (paper
  section 3); "simclr" counts once, as it knows no teacher. Rows without the
  pair's partner contribute nothing. `batch` is what
  `data.pipeline.StepBatches` makes.

  Args:
    encoder: the IMU encoder.
    pairs: "imu_video", "imu_text" or both.
    objectives: name -> weight; "contrastive" (softmax, the paper's),
      "sigmoid", "distill" and "simclr", for which the first view of a window
      also meets the teacher. None is the paper's alone.
    equal_texts_match: windows with one narration are positives of each other.
    block: rows a block of the loss holds at once; None: the whole array.
    chunk: rows whose activations are kept at once; 0 keeps all.
    mesh: devices over which rows and loss are split; None for one device.
    change: (step, imu, sensor_mask, view=0) -> both, augmented; None leaves
      them, which "simclr" cannot use.
    simclr_scale: the fixed logit scale between views.

  Raises:
    ValueError: "simclr" without `change`.
  """
  towards = dict(objectives or {"contrastive": 1.0})
  between_views = towards.pop("simclr", 0.0)
  if between_views and change is None:
    raise ValueError("simclr needs augmentations: its two views would be equal")
  ways = {"block": block}
  if mesh is not None and mesh.size > 1:
    ways |= {"mesh": mesh, "axis": mesh.axis_names}

  def pair_loss(name, params, imu, batch, pair):
    column, has = _TARGETS[pair]
    target = jax.lax.stop_gradient(batch[column])
    if name == "distill":
      return losses.distill(imu, target, mask=batch[has])
    options = {"mask": batch[has]} | ways
    if pair == "imu_text" and equal_texts_match:
      options["positives"] = batch["text_id"]
    scale = jnp.exp(params["log_scale"][pair])
    if name == "contrastive":
      return losses.softmax_contrastive(imu, target, scale, **options)
    bias = params["bias"][pair]
    return losses.sigmoid_contrastive(imu, target, scale, bias, **options)

  def embed_views(params, batch):
    windows = batch["imu"], batch["sensor_mask"]
    if change is not None:
      views = [change(batch["step"][0], *windows)]
      if between_views:
        views.append(change(batch["step"][0], *windows, view=1))
      # Twins side by side: on several devices both lie on the same one.
      windows = jax.tree.map(
        lambda *v: jnp.stack(v, 1).reshape(-1, *v[0].shape[1:]), *views
      )
    return embed_on_devices(
      encoder, params["imu_encoder"], *windows, chunk, mesh
    )

  def loss(params, batch):
    views = embed_views(params, batch)
    imu = views[:: 2 if between_views else 1]
    terms = {
      name: {
        pair: weight * pair_loss(name, params, imu, batch, pair)
        for pair in pairs
      }
      for name, weight in towards.items()
    }
    metrics = {f"scale/{p}": jnp.exp(params["log_scale"][p]) for p in pairs}
    if towards:
      for pair in pairs:
        metrics[f"loss/{pair}"] = sum(term[pair] for term in terms.values())
    if between_views:
      projected = view_head(params["view_head"], views)
      views_loss = losses.nt_xent(projected, simclr_scale, **ways)
      terms["simclr"] = {"views": between_views * views_loss}
    sums = {name: sum(term.values()) for name, term in terms.items()}
    if len(sums) > 1:
      metrics |= {f"loss/{name}": value for name, value in sums.items()}
    total = sum(sums.values())
    return total, metrics | {"loss": total}

  return loss


def make_train_step(
  loss: Callable,
  optimizer: optax.GradientTransformation,
  *,
  min_scale: float,
  max_scale: float,
) -> Callable[[dict, dict], tuple[dict, dict]]:
  """Return step(state, batch) -> (state, metrics), to be jitted by the caller.

  The logit scale is put back inside [min_scale, max_scale] after the update,
  not while it is used: a clipped use has no gradient and could never return.

  A step whose loss or gradient is not finite leaves the state as it was, and
  so do all later ones: state["step"] stays at the batch that did it. The
  caller, who looks at metrics seldom, still finds the state before the damage.
  """
  bounds = jnp.log(jnp.asarray([min_scale, max_scale], jnp.float32))

  def step(state, batch):
    gradients, metrics = jax.grad(loss, has_aux=True)(state["params"], batch)
    updates, opt_state = optimizer.update(
      gradients, state["opt_state"], state["params"]
    )
    params = optax.apply_updates(state["params"], updates)
    params["log_scale"] = jax.tree.map(
      lambda x: jnp.clip(x, bounds[0], bounds[1]), params["log_scale"]
    )
    norm = optax.tree.norm(gradients)
    good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
    good &= batch["step"][0] == state["step"]
    new = {
      "params": params,
      "opt_state": opt_state,
      "step": state["step"] + 1,
    }
    new = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, state)
    metrics |= {"gradient_norm": norm, "steps_done": new["step"]}
    return new, metrics

  return step
