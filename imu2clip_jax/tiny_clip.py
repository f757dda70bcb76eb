"""A tiny CLIP from scratch: frames and captions in, a checkpoint folder out.

The same towers, tokenizer and files as the published models, at their smallest,
so that everything behind `load_clip` can be tried without downloading weights.
Trained as CLIP is (Radford et al. 2021, section 2.3), except that equal
captions in a batch count as matches and not as negatives of each other.
"""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imu2clip_jax import logs, losses, optim, trees
from imu2clip_jax.models import clip, preprocess, published, tokenizer

_CARD = """\
---
library_name: imu2clip-jax
tags: [clip]
---

# A tiny CLIP

Trained from scratch by imu2clip_jax on {frames:,} frames of {size} x {size}
pixels and {captions:,} different captions: {steps} steps of {batch_size} pairs,
seed {seed}, last loss {loss:.3f}; {parameters:,} parameters.

It knows nothing but those frames and captions. It exists so that the whole of
imu2clip_jax can be tried without downloading weights.

    import imu2clip_jax
    clip = imu2clip_jax.load_clip("this folder")
    clip.embed_texts(["a caption"]) @ clip.embed_images(frames).T

The files are laid out as Hugging Face's `CLIPModel` and `CLIPTokenizer` have
them.
"""
_WEIGHT_DECAY = 0.1
_WARMUP_SHARE = 0.1
_MAX_SCALE = 100.0


def train(
  frames: np.ndarray,
  captions: list[list[str]],
  folder: str | Path,
  *,
  steps: int = 180,
  batch_size: int = 128,
  seed: int = 0,
  learning_rate: float = 1e-2,
  embed_dim: int = 64,
  width: int = 96,
  layers: int = 3,
  text_width: int = 64,
  text_layers: int = 2,
  patch_size: int = 8,
  num_merges: int = 1000,
  context: int = 32,
) -> Path:
  """Train a tiny CLIP and save it as a folder that `load_clip` reads.

  Args:
    frames: uint8 [N, S, S, 3], RGB.
    captions: for each frame one or more texts; each step draws one of them.
    folder: where to save; must not exist yet.
    steps: of the optimizer.
    batch_size: pairs a step, N at most.
    seed: of the parameters and of the draws.
    learning_rate: the peak of a cosine schedule.
    embed_dim: D of the shared space.
    width: of the image tower, in heads of 32.
    layers: of the image tower.
    text_width: of the text tower, in heads of 32.
    text_layers: of the text tower.
    patch_size: pixels; must divide S.
    num_merges: of the tokenizer; fewer if the captions repeat less.
    context: longest text in tokens.

  Returns:
    `folder`.

  Raises:
    ValueError: frames and captions that do not fit each other, or `folder`
      exists.
    FloatingPointError: the training diverged.
  """
  folder = Path(folder)
  if folder.exists():
    raise ValueError(f"{folder} exists already")
  _check(frames, captions)
  merges = tokenizer.learn_merges(
    [text for group in captions for text in group], num_merges
  )
  encode = tokenizer.Tokenizer(merges, context)
  config = clip.ClipConfig(
    embed_dim,
    _tower(width, layers),
    _tower(text_width, text_layers),
    image_size=frames.shape[1],
    patch_size=patch_size,
    vocab_size=encode.vocab_size,
    context=context,
    eot_id=encode.vocab_size - 1,
  )
  spec = _preprocessing(frames)
  texts = sorted({text for group in captions for text in group})
  ids = encode(texts)
  longest = int((ids == config.eot_id).argmax(axis=1).max()) + 1
  ids = ids[:, : clip.text_bucket(longest, context)]
  pairs = _pairs(captions, texts, steps, min(batch_size, len(frames)), seed)
  params, loss = _fit(frames, ids, pairs, config, spec, learning_rate, seed)
  card = _CARD.format(
    frames=len(frames),
    size=frames.shape[1],
    captions=len(texts),
    steps=steps,
    batch_size=pairs.shape[2],
    seed=seed,
    loss=loss,
    parameters=trees.count(params),
  )
  published.save_folder(folder, params, config, spec, merges, card)
  return folder


def _check(frames, captions):
  square = frames.ndim == 4 and frames.shape[1:] == (frames.shape[1],) * 2 + (
    3,
  )
  if frames.dtype != np.uint8 or not square or not len(frames):
    raise ValueError(
      f"frames must be uint8 [N, S, S, 3], got {frames.dtype} "
      f"{list(frames.shape)}"
    )
  if len(captions) != len(frames):
    raise ValueError(f"{len(frames)} frames but captions for {len(captions)}")
  without = [i for i, group in enumerate(captions) if not group]
  if without:
    raise ValueError(f"frame {without[0]} has no caption")


def _tower(width, layers):
  return clip.Tower(width, layers, max(1, width // 32), 4 * width, "quick_gelu")


def _preprocessing(frames):
  """Take the mean and deviation of each channel over the frames."""
  some = frames[:: max(1, len(frames) // 512)] / 255.0
  mean, std = some.mean(axis=(0, 1, 2)), some.std(axis=(0, 1, 2))
  return preprocess.Preprocessing(
    frames.shape[1],
    mean=tuple(map(float, mean)),
    # A channel that never changes carries nothing; leave it in 0..1.
    std=tuple(float(s) if s > 1e-3 else 1.0 for s in std),
  )


def _pairs(captions, texts, steps, batch_size, seed):
  """Draw every step's frames and texts, int32 [steps, 2, batch_size].

  Frames are dealt without return, pass after pass.
  """
  number = {text: i for i, text in enumerate(texts)}
  rng = np.random.default_rng(seed)
  passes = math.ceil(steps * batch_size / len(captions))
  dealt = np.concatenate(
    [rng.permutation(len(captions)) for _ in range(passes)]
  )
  drawn = [number[captions[i][rng.integers(len(captions[i]))]] for i in dealt]
  pairs = np.stack([dealt, drawn])[:, : steps * batch_size].astype(np.int32)
  return pairs.reshape(2, steps, batch_size).swapaxes(0, 1)


def _fit(frames, ids, pairs, config, spec, learning_rate, seed):
  """Run the optimizer over all `pairs`; return params and the last loss."""
  steps = len(pairs)
  schedule = optim.schedule(
    "cosine", learning_rate, steps, int(_WARMUP_SHARE * steps)
  )
  optimizer = _muon(schedule, config.vocab_size)
  params = clip.init(jax.random.key(seed), config)
  state = optimizer.init(params)
  step = functools.partial(_step, config=config, spec=spec, optimizer=optimizer)
  step = jax.jit(step, donate_argnums=(0, 1))
  frames, ids = jnp.asarray(frames), jnp.asarray(ids)
  bar = logs.progress(pairs, what="train a tiny CLIP", unit="steps")
  for pair in bar:
    params, state, loss = step(params, state, frames, ids, pair)
    bar.set_postfix_str(f"loss {float(loss):.3f}", refresh=False)
  if not math.isfinite(loss):
    raise FloatingPointError(f"the tiny CLIP's loss is {float(loss)}")
  return params, float(loss)


def _muon(schedule, vocab_size):
  """Muon for the matrices inside the towers, Adam for everything else.

  In these few hundred steps it names 0.83 of the built-in world's activities
  where Adam names 0.76 (macro-F1, wearers not met in training).
  """

  def dimensions(params):
    def of(leaf):
      inner = leaf.ndim >= 2 and min(leaf.shape[-2:]) > 8
      if not inner or vocab_size in leaf.shape:
        return None
      return optax.contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)

    return jax.tree.map(of, params)

  return optax.contrib.muon(
    schedule,
    weight_decay=_WEIGHT_DECAY,
    adam_learning_rate=schedule,
    muon_weight_dimension_numbers=dimensions,
  )


def _step(params, state, frames, ids, pair, *, config, spec, optimizer):
  loss, grads = jax.value_and_grad(_loss)(
    params, frames[pair[0]], ids[pair[1]], pair[1], config, spec
  )
  updates, state = optimizer.update(grads, state, params)
  params = optax.apply_updates(params, updates)
  largest = math.log(_MAX_SCALE)
  params["log_scale"] = jnp.minimum(params["log_scale"], largest)
  return params, state, loss


def _loss(params, frames, ids, text_numbers, config, spec):
  images = preprocess.normalize(frames, spec)
  images = _unit(clip.encode_images(params, images, config))
  texts = _unit(clip.encode_texts(params, ids, config))
  return losses.softmax_contrastive(
    images, texts, jnp.exp(params["log_scale"]), positives=text_numbers
  )


def _unit(rows):
  return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
