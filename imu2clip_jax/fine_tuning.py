"""Train encoder and linear head together on labelled windows (paper, Table 3).

A part of the data is {"imu" [N, T, 6], "sensor_mask" [N, 2], "labels" [N] int,
-1 where there is none, -2 where it is not asked about; "wearers" [N] ids, where
features are standardised by them}.
"""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imu2clip_jax import adaptation, optim, recognition
from imu2clip_jax.data import augment

_CHUNK_ROWS = 256
# How often wearers' moments are taken anew, and the share of the mean spread
# that is added to each: what a wearer hardly changes must not be blown up.
_MOMENTS, _LEAST_SPREAD = 10, 0.05


def fine_tune(
  encoder,
  params: dict,
  train: dict,
  validation: dict,
  test: dict,
  label_names: Sequence[str],
  *,
  head: dict,
  steps: int,
  batch_size: int,
  learning_rate: float,
  weight_decay: float = 1e-2,
  checks: int = 10,
  change: Callable | None = None,
  mixup: float = 0.0,
  label_smoothing: float = 0.0,
  ema: float = 0.0,
  by_wearer: bool = False,
  seed: int = 0,
  progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict, np.ndarray, dict]:
  """Train encoder and linear head together on labelled windows.

  AdamW with a cosine to zero. The probe's head is the start: a fresh one would
  tear the features apart in its first steps (arXiv 2202.10054). Of `checks`
  equally spaced looks at the validation split, the parameters with the best
  macro-F1 are kept; one look keeps the last.

  Args:
    encoder: has apply(params, imu, sensor_mask=) -> [B, D], and features alike.
    params: its parameters; left as they are.
    train, validation, test: parts of the data, see the module docstring.
    label_names: C names.
    head: {"kernel" [D, C], "bias" [C]}, see `recognition.linear_probe`.
    steps: optimizer steps.
    batch_size: windows a step.
    learning_rate: its peak.
    weight_decay: of matrices.
    checks: looks at the validation split.
    change: (step, imu, sensor_mask) -> both, augmented; None leaves them.
    mixup: see `augment.mixup`; 0 mixes nothing.
    label_smoothing: share of a label that is spread over all names.
    ema: what a step keeps of the running mean of parameters, which is what is
      looked at and kept; 0 takes the parameters themselves.
    by_wearer: the head reads the trunk's features, standardised by the windows
      of each wearer whose labels are asked about or missing. While training,
      the moments are those of the parameters of a while ago.
    seed: of the order of windows.
    progress: wraps the steps, for a progress bar.

  Returns:
    scores (with "step", the one that was kept), predictions (-1 where none was
    made, by_wearer and not asked about), the encoder's parameters at that step.

  Raises:
    ValueError: a split without a labelled row.
  """
  rows = recognition.labelled(train["labels"], "training")
  checked = recognition.labelled(validation["labels"], "validation")
  optimizer = optim.make(
    optim.schedule("cosine", learning_rate, steps), weight_decay
  )

  read = encoder.features if by_wearer else encoder.apply
  loss = _make_loss(
    read, len(label_names), change, mixup, label_smoothing, seed
  )

  @jax.jit
  def step(params, mean, opt_state, *batch):
    gradients = jax.grad(loss)(params, *batch)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    params = optax.apply_updates(params, updates)
    mean = jax.tree.map(lambda a, b: ema * a + (1 - ema) * b, mean, params)
    return params, mean, opt_state

  embed = jax.jit(lambda params, imu, mask: read(params, imu, sensor_mask=mask))

  asked = np.flatnonzero(train["labels"] >= -1)
  codes = np.zeros(len(train["labels"]), int)
  table = np.zeros((1, 0), np.float32)
  if by_wearer:
    codes = np.unique(train["wearers"], return_inverse=True)[1]
  tuned = {key: jnp.asarray(x, jnp.float32) for key, x in head.items()}
  tuned["encoder"] = params
  mean, opt_state, best_f1 = tuned, optimizer.init(tuned), -1.0
  every, anew = -(-steps // checks), -(-steps // _MOMENTS)
  order = _order(rows, steps, batch_size, seed)
  for index, batch in enumerate(progress(order), start=1):
    if by_wearer and index % anew == 1 % anew:
      x = _in_chunks(embed, tuned["encoder"], train, asked)
      table = _moments(x, codes[asked], codes.max() + 1)
    tuned, mean, opt_state = step(
      tuned,
      mean,
      opt_state,
      np.int32(index),
      *_columns(train, batch),
      train["labels"][batch],
      table[codes[batch]],
    )
    if index % every == 0 or index == steps:
      f1 = recognition.macro_f1(
        validation["labels"],
        _named(embed, mean, validation, checked, by_wearer),
        len(label_names),
      )
      if f1 > best_f1:
        best_f1, kept, best = f1, index, mean
  rows = np.arange(len(test["labels"]))
  predictions = _named(embed, best, test, rows, by_wearer)
  scores = recognition.score(test["labels"], predictions, label_names)
  return scores | {"step": kept}, predictions, best["encoder"]


def _make_loss(read, classes, change, mixup, label_smoothing, seed):
  """Return loss(params, step index, imu, sensor_mask, labels, moments).

  `moments` [B, 2 W] are mean and spread of each window's wearer, or [B, 0].
  """

  def loss(params, index, imu, sensor_mask, labels, moments):
    targets = jax.nn.one_hot(labels, classes)
    targets = optax.smooth_labels(targets, label_smoothing)
    if change is not None:
      imu, sensor_mask = change(index, imu, sensor_mask)
    if mixup:
      key = jax.random.fold_in(jax.random.key(seed), index)
      # Who wears a mixed window is mixed alike.
      both = jnp.concatenate([targets, moments], 1)
      imu, both = augment.mixup(key, imu, both, mixup)
      targets, moments = jnp.split(both, [classes], 1)
    x = read(params["encoder"], imu, sensor_mask=sensor_mask)
    if moments.shape[1]:
      mean, spread = jnp.split(moments, 2, axis=1)
      x = (x - mean) / spread
    z = x @ params["kernel"] + params["bias"][None, :]
    return optax.softmax_cross_entropy(z, targets).mean()

  return loss


def _named(embed, params, part, rows, by_wearer):
  """Name `rows`, or all windows asked about; int [N], -1 for the others."""
  if by_wearer:
    rows = np.flatnonzero(part["labels"] >= -1)
  x = _in_chunks(embed, params["encoder"], part, rows)
  if by_wearer:
    x = adaptation.standardise_by_wearer(x, part["wearers"][rows])
  head = {key: np.asarray(params[key]) for key in ("kernel", "bias")}
  found = np.full(len(part["labels"]), -1)
  found[rows] = recognition.name(head, x)
  return found


def _moments(x, codes, count):
  """Mean and spread of each wearer's features, float32 [count, 2 W]."""
  mean, spread = adaptation.moments_by_wearer(x, codes, count)
  spread[spread < 1e-6] = 1
  spread += _LEAST_SPREAD * spread.mean()
  return np.concatenate([mean, spread], 1).astype(np.float32)


def features(encoder, params: dict, part: dict, rows: np.ndarray) -> np.ndarray:
  """Return what the encoder's trunk says of some windows, float32 [R, W].

  Args:
    encoder: has features(params, imu, sensor_mask=) -> [B, W].
    params: its parameters.
    part: a part of the data, see the module docstring.
    rows: [R] its rows.
  """
  run = jax.jit(
    lambda params, imu, mask: encoder.features(params, imu, sensor_mask=mask)
  )
  return _in_chunks(run, params, part, rows)


def _order(rows, steps, batch_size, seed):
  """Batches of rows, every row once an epoch; a short set repeats inside."""
  rng = np.random.default_rng(seed)
  epochs = -(-steps * batch_size // len(rows))
  stream = np.concatenate([rng.permutation(rows) for _ in range(epochs)])
  return stream[: steps * batch_size].reshape(steps, batch_size)


def _columns(part, rows):
  return np.asarray(part["imu"][rows]), np.asarray(part["sensor_mask"][rows])


def _in_chunks(embed, params, part, rows):
  """Embed rows in chunks of one shape, so that they compile once."""
  size = min(_CHUNK_ROWS, len(rows))
  chunks = []
  for start in range(0, len(rows), size):
    chunk = rows[start : start + size]
    padded = np.resize(chunk, size)
    chunks.append(
      np.asarray(embed(params, *_columns(part, padded)))[: len(chunk)]
    )
  return np.concatenate(chunks)
