"""Every option of a run, its unit and its meaning.

`configs/NAME.py` states only differences from `default()`. Library functions
take explicit arguments, never the config; the entry points take it apart.
"""

import json

import ml_collections

VARIANTS = {
  "imu_video": ("imu_video",),
  "imu_text": ("imu_text",),
  "imu_video_text": ("imu_video", "imu_text"),
}
OBJECTIVES = ("contrastive", "sigmoid", "distill", "simclr")


def default() -> ml_collections.ConfigDict:
  """Return the options of a run with the paper's settings where it has any."""
  c = ml_collections.ConfigDict()
  c.seed = 0
  # Which pairs are contrasted: imu_video (a), imu_text (b), imu_video_text (c).
  c.variant = "imu_video_text"

  c.data = ml_collections.ConfigDict()
  # The folder that `imu2clip build` wrote.
  c.data.dir = ""
  # Further data sets that are trained with it, cut and cached alike. Validation
  # and evaluation stay with `dir`.
  c.data.mixture_dirs = ()
  # Shares of a batch of `dir` and of each of them; () is by their windows.
  c.data.mixture_weights = ()
  c.data.train_split = "train"
  c.data.validation_split = "validation"
  c.data.test_split = "test"
  # Windows with these labels are left out of IMU training, to be met unseen.
  c.data.held_out_labels = ()
  # Which narration of a window a step sees: "nearest" the middle, or "any".
  c.data.text_choice = "nearest"

  c.teacher = ml_collections.ConfigDict()
  # Folder, file or "hf:owner/name" of the frozen CLIP.
  c.teacher.path = ""
  # How a window's frames become one embedding: mid, mean:F or sum3.
  c.teacher.frames = "mid"
  # Pixels as CLIP was trained ("clip") or as the official code fed them
  # ("none": no mean, no std).
  c.teacher.normalize = "clip"

  c.encoder = ml_collections.ConfigDict()
  c.encoder.preset = "paper"
  c.encoder.rate_hz = 200.0
  c.encoder.window_s = 5.0
  # States of the recurrence; a projection follows if the teacher's width
  # differs.
  c.encoder.hidden = 512
  # Channels of the convolutions.
  c.encoder.width = 32
  # Behind each convolution; "" is the preset's own.
  c.encoder.activation = ""

  c.loss = ml_collections.ConfigDict()
  # contrastive (the paper's InfoNCE in both directions), sigmoid (SigLIP's),
  # distill (1 - cosine to the teacher, no negatives), simclr (two augmented
  # views of a window against those of all others, no teacher: a motion encoder
  # that shares no space with texts), or a weighted sum such as
  # "contrastive + 0.5*simclr".
  c.loss.objective = "contrastive"
  # The learned logit scale starts here (temperature 0.1) and stays inside.
  c.loss.initial_scale = 10.0
  c.loss.min_scale = 1.0
  c.loss.max_scale = 100.0
  # SigLIP's learned bias starts here; softmax has none.
  c.loss.initial_bias = -10.0
  # SimCLR's fixed logit scale (temperature 0.1) and the width of the head that
  # it contrasts behind; the head is not part of the encoder.
  c.loss.simclr_scale = 10.0
  c.loss.simclr_dim = 128
  # Windows with the same narration are positives of each other.
  c.loss.equal_texts_match = True
  # Rows a block of the loss holds at once; 0 computes the whole B x B array.
  c.loss.block = 0

  c.optim = ml_collections.ConfigDict()
  c.optim.learning_rate = 2e-4
  # "constant" (the paper's) or "cosine" to zero.
  c.optim.schedule = "constant"
  c.optim.warmup_steps = 0
  c.optim.weight_decay = 0.0
  # Gradients longer than this are scaled down to it; 0 leaves them alone.
  c.optim.clip_norm = 0.0

  c.train = ml_collections.ConfigDict()
  # Windows a step, over all devices and hosts.
  c.train.batch_size = 256
  c.train.steps = 10_000
  c.train.log_every_steps = 20
  c.train.save_every_steps = 500
  c.train.keep_checkpoints = 2
  # Retrieval on the validation split so often; 0 never. Saves each time.
  c.train.validate_every_steps = 0
  # Of the validated checkpoints, how many of the best MRR are kept as well.
  c.train.keep_best = 1
  # Windows whose activations are kept at once (gradient caching), over all
  # devices; a divisor of batch_size; 0 keeps all.
  c.train.grad_cache_chunk = 0
  # Of the encoder's products: float32 or bfloat16. Parameters, loss and
  # optimizer stay float32.
  c.train.compute_dtype = "float32"
  # Compiled programs are kept here from run to run; "" keeps none.
  c.train.compilation_cache_dir = ""
  # TensorBoard events in WORKDIR/tensorboard, beside train.jsonl.
  c.train.tensorboard = False

  c.augment = ml_collections.ConfigDict()
  # Random changes of the windows of a training step and of fine-tuning
  # (data/augment.py); 0 and False leave one out. Sensor turned by half a turn
  # about any axis: worn upside down or the other way round.
  c.augment.half_turns = False
  # Share of windows that are mirrored: left turns become right turns.
  c.augment.mirror = 0.0
  # Turned about the vertical by any angle.
  c.augment.yaw = False
  # Turned by a normal rotation vector of this spread.
  c.augment.tilt_rad = 0.0
  # Turned into any orientation.
  c.augment.rotate = False
  # Played faster or slower by up to exp(rate).
  c.augment.rate = 0.0
  # Its tempo drifts within a window: normal spread of the speed's logarithm.
  c.augment.time_warp = 0.0
  # Motion (not gravity) scaled by exp(normal * scale), each sensor apart.
  c.augment.scale = 0.0
  # White noise up to this, m/s²; a tenth of it in rad/s.
  c.augment.jitter = 0.0
  # Share of windows in which a channel reads zero, for each of the six.
  c.augment.drop_channel = 0.0
  # Share of windows that lose one of their two sensors.
  c.augment.drop_sensor = 0.0

  c.recognition = ml_collections.ConfigDict()
  # Zero-shot prompts: the label takes the place of {}; embeddings of several
  # prompts are averaged.
  c.recognition.prompts = ("{}",)
  # L2 penalties of the linear probe; the best on validation is kept.
  c.recognition.probe_l2 = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
  c.recognition.fine_tune_steps = 300
  c.recognition.fine_tune_batch_size = 128
  c.recognition.fine_tune_learning_rate = 5e-4
  # Windows and labels are mixed by shares from Beta(mixup, mixup); 0: never.
  c.recognition.fine_tune_mixup = 0.0
  c.recognition.fine_tune_label_smoothing = 0.0
  # Share of the running mean of the weights that a step keeps; the mean is
  # what is tested. 0 tests the weights themselves.
  c.recognition.fine_tune_ema = 0.0
  # Looks at the validation split on the way, of which the best is kept; 1 keeps
  # the last step.
  c.recognition.fine_tune_checks = 10
  # Also probe the encoder's trunk with each wearer's features standardised by
  # themselves, test wearers' too: no labels needed, but all of a wearer's
  # windows. Frozen; and fine-tuned twice, as it is and through that
  # standardising, both side by side. Each as it is and with windows that look
  # alike brought to agree.
  c.recognition.adapt_to_wearer = False
  return c


def paper(variant: str, hours: float) -> ml_collections.ConfigDict:
  """Return the paper's settings for a set of so many hours of windows.

  Adam at 2e-4, 15 epochs, 128 windows a step with video and 256 with text
  alone (the released code's configs); its windows of 5 s do not overlap.
  """
  c = default()
  c.variant = variant
  c.optim.learning_rate = 2e-4
  c.train.batch_size = 256 if variant == "imu_text" else 128
  c.train.steps = int(15 * hours * 720) // c.train.batch_size
  c.train.validate_every_steps = 500
  return c


def demo(variant: str) -> ml_collections.ConfigDict:
  """Return the demo's options: small enough for three minutes on two cores.

  With our own encoder at 50 Hz a window costs 29 MFLOP a step; with the paper's
  at 200 Hz, about 1 GFLOP. `imu2clip demo` fills in the two folders.
  """
  c = default()
  c.variant = variant
  c.data.held_out_labels = ("raking leaves", "kneading dough")
  c.data.text_choice = "any"
  c.encoder.preset = "i2c"
  c.encoder.rate_hz = 50.0
  c.encoder.width = 24
  c.optim.learning_rate = 1e-2
  c.optim.schedule = "cosine"
  c.optim.warmup_steps = 20
  c.optim.clip_norm = 1.0
  c.train.batch_size = 128
  c.train.steps = 240
  c.train.log_every_steps = 10
  c.train.save_every_steps = 50
  return c


def check(c: ml_collections.ConfigDict) -> None:
  """Raise ValueError for the first value that no run could use."""
  choices = {
    "variant": (c.variant, VARIANTS),
    "data.text_choice": (c.data.text_choice, ("nearest", "any")),
    "teacher.normalize": (c.teacher.normalize, ("clip", "none")),
    "train.compute_dtype": (c.train.compute_dtype, ("float32", "bfloat16")),
    "optim.schedule": (c.optim.schedule, ("constant", "cosine")),
  }
  for name, (value, allowed) in choices.items():
    if value not in allowed:
      raise ValueError(
        f"config.{name} is {value!r}, expected one of {', '.join(allowed)}"
      )
  if c.data.mixture_weights and (
    len(c.data.mixture_weights) != 1 + len(c.data.mixture_dirs)
  ):
    raise ValueError(
      f"config.data.mixture_weights has {len(c.data.mixture_weights)} entries, "
      f"expected one for dir and {len(c.data.mixture_dirs)} for mixture_dirs"
    )
  positive = {
    "encoder.rate_hz": c.encoder.rate_hz,
    "encoder.window_s": c.encoder.window_s,
    "encoder.hidden": c.encoder.hidden,
    "encoder.width": c.encoder.width,
    "loss.simclr_scale": c.loss.simclr_scale,
    "loss.simclr_dim": c.loss.simclr_dim,
    "optim.learning_rate": c.optim.learning_rate,
    "train.batch_size": c.train.batch_size,
    "train.steps": c.train.steps,
    "train.log_every_steps": c.train.log_every_steps,
    "train.save_every_steps": c.train.save_every_steps,
    "train.keep_checkpoints": c.train.keep_checkpoints,
    "recognition.fine_tune_checks": c.recognition.fine_tune_checks,
  }
  for name, value in positive.items():
    if not value > 0:
      raise ValueError(f"config.{name} is {value}, expected more than 0")
  _check_objective(c)
  for name in ("validate_every_steps", "keep_best", "grad_cache_chunk"):
    if c.train[name] < 0:
      raise ValueError(f"config.train.{name} is {c.train[name]}, expected >= 0")
  if c.train.grad_cache_chunk and c.train.batch_size % c.train.grad_cache_chunk:
    raise ValueError(
      f"config.train.grad_cache_chunk is {c.train.grad_cache_chunk}, expected "
      f"a divisor of batch_size {c.train.batch_size}"
    )
  shares = {
    "augment.mirror": c.augment.mirror,
    "augment.drop_channel": c.augment.drop_channel,
    "augment.drop_sensor": c.augment.drop_sensor,
    "recognition.fine_tune_label_smoothing": (
      c.recognition.fine_tune_label_smoothing
    ),
    "recognition.fine_tune_ema": c.recognition.fine_tune_ema,
  }
  for name, value in shares.items():
    if not 0 <= value <= 1:
      raise ValueError(f"config.{name} is {value}, expected 0 to 1")
  low, start, high = c.loss.min_scale, c.loss.initial_scale, c.loss.max_scale
  if not 0 < low <= start <= high:
    raise ValueError(
      "config.loss needs 0 < min_scale <= initial_scale <= max_scale, "
      f"got {low}, {start}, {high}"
    )


def _check_objective(c):
  if "simclr" in objectives(c.loss.objective) and not any(c.augment.values()):
    raise ValueError(
      f"config.loss.objective is {c.loss.objective!r}, whose two views would "
      "be equal: switch on some of config.augment, for example yaw=True, "
      "scale=0.2 and jitter=0.1"
    )
  if c.train.validate_every_steps and not has_teacher(c.loss.objective):
    raise ValueError(
      f"config.train.validate_every_steps is {c.train.validate_every_steps}, "
      f"but config.loss.objective {c.loss.objective!r} trains no retrieval: "
      "set it to 0"
    )


def has_teacher(objective: str) -> bool:
  """Return whether a sum of objectives trains towards the frozen teacher.

  >>> has_teacher("simclr"), has_teacher("contrastive + 0.5*simclr")
  (False, True)
  """
  return set(objectives(objective)) != {"simclr"}


def has_scale(objective: str) -> bool:
  """Return whether a sum of objectives trains the logit scale.

  >>> has_scale("contrastive + 0.5*simclr"), has_scale("distill")
  (True, False)
  """
  return not {"contrastive", "sigmoid"}.isdisjoint(objectives(objective))


def view_dim(c: ml_collections.ConfigDict) -> int:
  """Return the width of SimCLR's head, 0 for a run that has none."""
  return c.loss.simclr_dim if "simclr" in objectives(c.loss.objective) else 0


def objectives(text: str) -> dict[str, float]:
  """Return name -> weight of a sum of objectives.

  Raises:
    ValueError: an unknown or repeated objective, or a weight not above 0.

  Example:
    >>> objectives("contrastive + 0.5*distill")
    {'contrastive': 1.0, 'distill': 0.5}
  """
  weights = {}
  for term in text.split("+"):
    weight, _, name = term.rpartition("*")
    name = name.strip()
    try:
      weights_ok = name in OBJECTIVES and name not in weights
      value = float(weight) if weight.strip() else 1.0
    except ValueError:
      weights_ok = False
    if not (weights_ok and 0 < value < float("inf")):
      raise ValueError(
        f"config.loss.objective is {text!r}: {term.strip()!r} is not one of "
        f"{', '.join(OBJECTIVES)}, each once, with a positive weight before * "
      )
    weights[name] = value
  return weights


def to_json(c: ml_collections.ConfigDict) -> str:
  """Return the resolved options as indented JSON (tuples become lists)."""
  return json.dumps(c.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ml_collections.ConfigDict:
  """Rebuild the options that `to_json` wrote.

  Raises:
    ValueError: an option is unknown or has another type than the default's.
  """
  c = default()
  _update(c, json.loads(text), "config")
  return c


def _update(c, values, where):
  for key, value in values.items():
    if key not in c:
      raise ValueError(f"{where}.{key}: no such option")
    if isinstance(c[key], ml_collections.ConfigDict):
      _update(c[key], value, f"{where}.{key}")
      continue
    value = tuple(value) if isinstance(c[key], tuple) else value
    try:
      c[key] = value
    except TypeError as error:
      raise ValueError(f"{where}.{key} is {value!r}: {error}") from error
