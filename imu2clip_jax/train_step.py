"""The training step as pure functions on plain dicts of arrays.

The state is {"params": {"imu_encoder", "log_scale", "bias"}, "opt_state",
"step"}. The teacher is not in it: its embeddings arrive with the batch, so
nothing can train it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

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
) -> dict:
  """Return the state before the first step.

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
  return {
    "params": params,
    "opt_state": optimizer.init(params),
    "step": jnp.zeros((), jnp.int32),
  }


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

  # A chunk takes every (rows / chunk)-th row: of a batch that is split over
  # devices each of them then holds its share of every chunk.
  def cut(x):
    x = x.reshape(chunk, rows // chunk, *x.shape[1:])
    return jnp.swapaxes(x, 0, 1)

  again = jax.checkpoint(embed, prevent_cse=False)
  parts = jax.lax.map(again, (cut(imu), cut(sensor_mask)))
  return jnp.swapaxes(parts, 0, 1).reshape(rows, -1)


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
) -> Callable[[dict, dict], tuple[jax.Array, dict]]:
  """Return loss(params, batch) -> (weighted sum, metrics).

  For two pairs each objective is the sum of the two pair losses (paper
  section 3). Rows without the pair's partner contribute nothing. `batch` is
  what `data.pipeline.StepBatches` makes.

  Args:
    encoder: the IMU encoder.
    pairs: "imu_video", "imu_text" or both.
    objectives: name -> weight; "contrastive" (softmax, the paper's),
      "sigmoid" and "distill". None is the paper's alone.
    equal_texts_match: windows with one narration are positives of each other.
    block: rows a block of the loss holds at once; None: the whole array.
    chunk: rows whose activations are kept at once; 0 keeps all.
    mesh: devices over which rows and loss are split; None for one device.
    change: (step, imu, sensor_mask) -> both, augmented; None leaves them.
  """
  objectives = objectives or {"contrastive": 1.0}
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

  def loss(params, batch):
    windows = batch["imu"], batch["sensor_mask"]
    if change is not None:
      windows = change(batch["step"][0], *windows)
    imu = embed_in_chunks(encoder, params["imu_encoder"], *windows, chunk)
    values = {
      pair: {
        name: weight * pair_loss(name, params, imu, batch, pair)
        for name, weight in objectives.items()
      }
      for pair in pairs
    }
    metrics = {f"loss/{pair}": sum(values[pair].values()) for pair in pairs}
    total = sum(metrics.values())
    for pair in pairs:
      metrics[f"scale/{pair}"] = jnp.exp(params["log_scale"][pair])
    if len(objectives) > 1:
      for name in objectives:
        metrics[f"loss/{name}"] = sum(values[pair][name] for pair in pairs)
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
