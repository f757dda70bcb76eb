"""The optimizer: schedule, clipping and decay as one optax chain."""

import jax
import optax

# Decay shrinks matrices; biases, norms and logit scales keep their size, also
# where those of several blocks lie stacked in one array.
_MIN_DECAYED_NDIM, _SPARED = 2, ("bias", "scale")


def schedule(
  kind: str, learning_rate: float, steps: int, warmup_steps: int = 0
) -> optax.Schedule:
  """Return step -> learning rate.

  Args:
    kind: "constant" (the paper's), or "cosine" down to zero at `steps`.
    learning_rate: the peak.
    steps: of the whole run.
    warmup_steps: linear from zero.

  Raises:
    ValueError: unknown kind, or a warm-up as long as the run.
  """
  if not 0 <= warmup_steps < steps:
    raise ValueError(
      f"warmup_steps is {warmup_steps}, expected 0 .. {steps - 1} "
      "(fewer than steps)"
    )
  if kind == "constant":
    after = optax.constant_schedule(learning_rate)
  elif kind == "cosine":
    after = optax.cosine_decay_schedule(learning_rate, steps - warmup_steps)
  else:
    raise ValueError(f"schedule is {kind!r}, expected constant or cosine")
  if not warmup_steps:
    return after
  warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
  return optax.join_schedules([warmup, after], [warmup_steps])


def make(
  learning_rate: optax.ScalarOrSchedule,
  weight_decay: float = 0.0,
  clip_norm: float = 0.0,
) -> optax.GradientTransformation:
  """Return Adam (paper section 4), with decay and clipping where asked.

  Args:
    learning_rate: a number or a schedule.
    weight_decay: decoupled (AdamW), on arrays of two or more dimensions that
      are not named bias or scale.
    clip_norm: longest global gradient; 0 leaves gradients alone.
  """
  chain = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
  chain.append(
    optax.adamw(
      learning_rate,
      weight_decay=weight_decay,
      mask=lambda params: jax.tree_util.tree_map_with_path(_decays, params),
    )
    if weight_decay
    else optax.adam(learning_rate)
  )
  return optax.chain(*chain)


def _decays(path, x):
  name = jax.tree_util.keystr(path[-1:], simple=True)
  return x.ndim >= _MIN_DECAYED_NDIM and name not in _SPARED
