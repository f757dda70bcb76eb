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


def make_loss(
  encoder,
  *,
  pairs: tuple[str, ...],
  objective: str = "softmax",
  equal_texts_match: bool = True,
  block: int | None = None,
) -> Callable[[dict, dict], tuple[jax.Array, dict]]:
  """Return loss(params, batch) -> (sum over pairs, metrics).

  For two pairs the loss is the sum of the two pair losses (paper section 3).
  Rows without the pair's partner contribute nothing. `batch` is what
  `data.pipeline.StepBatches` makes.
  """

  def loss(params, batch):
    imu = encoder.apply(
      params["imu_encoder"], batch["imu"], sensor_mask=batch["sensor_mask"]
    )
    metrics = {}
    for pair in pairs:
      column, has = _TARGETS[pair]
      target = jax.lax.stop_gradient(batch[column])
      scale = jnp.exp(params["log_scale"][pair])
      positives = None
      if pair == "imu_text" and equal_texts_match:
        positives = batch["text_id"]
      options = {"positives": positives, "mask": batch[has], "block": block}
      if objective == "softmax":
        value = losses.softmax_contrastive(imu, target, scale, **options)
      else:
        bias = params["bias"][pair]
        value = losses.sigmoid_contrastive(imu, target, scale, bias, **options)
      metrics[f"loss/{pair}"] = value
      metrics[f"scale/{pair}"] = scale
    total = sum(metrics[f"loss/{pair}"] for pair in pairs)
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
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    new_state = {
      "params": params,
      "opt_state": opt_state,
      "step": state["step"] + 1,
    }
    return new_state, metrics

  return step
