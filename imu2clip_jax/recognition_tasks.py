"""Which recognition tasks a data set allows, and their scores.

Zero-shot names windows by the teacher's embeddings of the label texts, over the
labels of IMU training; `zero_shot_unseen` asks for the held-out ones among all
names; the `_video` twins name the windows' frames, the teacher alone. Linear
probe and fine-tune learn from the training split's labels. Their `_adapted`
twins probe the trunk's features instead, each wearer's standardised by
themselves: frozen; or of two fine-tuned encoders, the other's and one that was
trained through this standardising, side by side. The `_agreed` rows are the
same after what is said of a wearer's windows that look alike was brought to
agree.
"""

import functools
import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np

from imu2clip_jax import (
  adaptation,
  confidence,
  few_shot,
  fine_tuning,
  logs,
  recognition,
  retrieval,
)
from imu2clip_jax.data import augment, cache, mixture
from imu2clip_jax.models import teacher as teacher_lib

_UNLABELLED, _OTHER = -1, -2
# One training wearer in this many chooses settings where no split is set aside.
_VALIDATION_WEARERS = 5


def run(
  config: ml_collections.ConfigDict,
  encoder,
  caches: Sequence[pathlib.Path],
  windows: cache.Split,
  sides: dict,
  names: Sequence[str],
  fine_tune: bool = True,
  scale: float | None = None,
  shots: bool = False,
) -> tuple[dict, dict | None, list[str]]:
  """Run every task that the labels allow.

  Args:
    config: the run's options.
    encoder: what `load_imu_encoder` returned.
    caches: the cache that `windows` come from, and those of the sets that were
      trained with it: their training labels are learned from, too.
    windows: the split to name.
    sides: see `retrieval.sides`.
    names: the activities to tell apart, see `vocabulary`.
    fine_tune: also fine-tune.
    scale: the trained logit scale, to judge the confidence of zero-shot; None
      if the run has none.
    shots: also draw the few-shot curve.

  Returns:
    {"recognition": task -> scores, "calibration" and "abstention": task -> see
    `confidence.assess`, "few_shot": see `few_shot.curve`};
    {"rows", "labels", "predictions", "names"} of `zero_shot`, or None; notes on
    what was left out.
  """
  found = {"recognition": {}, "calibration": {}, "abstention": {}}
  codes = _codes(windows, names)
  if not (codes >= 0).any():
    return found, None, ["recognition left out: no window has a label"]
  absent = [name for k, name in enumerate(names) if not (codes == k).any()]
  notes = [f"no window of {', '.join(absent)}"] if absent else []
  if (codes == _OTHER).any():
    count = (codes == _OTHER).sum()
    notes.append(f"{count} windows with labels outside --labels are not named")
  seen = [n for n in names if n not in config.data.held_out_labels]
  found["recognition"], named, texts = _zero_shot(
    config, windows, sides, names, seen
  )
  scores, learned, more = _supervised(
    config, encoder, caches, windows, sides["imu"][0], seen, fine_tune
  )
  found["recognition"] |= scores
  asked = _asked(windows, sides, names, seen)
  if asked is not None:
    for task, said in _sayings(learned, texts, scale):
      found["calibration"][task], found["abstention"][task] = confidence.assess(
        *said(*asked, learned.get("validation"))
      )
  if shots and learned:
    test = sides["imu"][0], np.maximum(_codes(windows, seen), _UNLABELLED)
    found["few_shot"] = few_shot.curve(
      learned["train"],
      learned.get("validation", learned["train"]),
      test,
      seen,
      config.recognition.probe_l2,
      seed=config.seed,
    )
  return found, named, notes + more


def _asked(windows, sides, names, seen):
  """(embeddings, labels, embeddings of unseen activities), or None."""
  x, has = sides["imu"]
  codes = _codes(windows, seen)
  rows = np.flatnonzero(has & (codes >= 0))
  if not len(rows):
    return None
  strange = has & (codes == _OTHER) & (_codes(windows, names) >= 0)
  return x[rows], codes[rows], x[strange]


def _sayings(learned, texts, scale):
  """Yield (task, function of `_asked` that makes logits for `assess`)."""

  def with_logits(say):
    def said(x, labels, strange, validation):
      if validation is not None:
        validation = say(validation[0]), validation[1]
      return say(x), labels, say(strange), validation

    return said

  if scale is not None:
    yield "zero_shot", with_logits(lambda x: scale * (x @ texts.T))
  if learned:
    head = learned["head"]
    yield "linear_probe", with_logits(lambda x: recognition.logits(head, x))


def vocabulary(known: Sequence[str], labels: Sequence[str]) -> list[str]:
  """Return the activities to tell apart, once each: `labels`, or all known.

  Raises:
    ValueError: a label that the data set does not have.
  """
  unknown = [name for name in labels if name not in known]
  if unknown:
    raise ValueError(
      f"--labels: no label {'; '.join(unknown)} in the data, which has "
      f"{'; '.join(known) or 'none'}"
    )
  return list(dict.fromkeys(labels or known))


def _codes(windows, names):
  """[N] index into names, _UNLABELLED, or _OTHER for a label not in names."""
  place = {name: k for k, name in enumerate(names)}
  table = [place.get(name, _OTHER) for name in windows.label_names]
  # Row -1 of the table, the last one, is for windows without a label.
  return np.asarray([*table, _UNLABELLED])[np.asarray(windows.labels)]


def _zero_shot(config, windows, sides, names, seen):
  clip = teacher_lib.load_clip(
    config.teacher.path, normalize=config.teacher.normalize
  )
  texts = recognition.prompt_embeddings(
    clip.embed_texts, names, config.recognition.prompts
  )
  seen_texts = texts[[names.index(name) for name in seen]]
  codes, seen_codes = _codes(windows, names), _codes(windows, seen)
  unseen = [k for k, name in enumerate(names) if name not in seen]
  scores, named = {}, None
  for suffix, side in (("", "imu"), ("_video", "video")):
    x, has = sides[side]
    rows = np.flatnonzero(has & (seen_codes >= _UNLABELLED))
    if (seen_codes[rows] >= 0).any():
      scores["zero_shot" + suffix], predictions = recognition.zero_shot(
        x[rows], seen_texts, seen_codes[rows], seen
      )
      if side == "imu":
        named = {"rows": rows, "labels": seen_codes[rows], "names": seen}
        named["predictions"] = predictions
    rows = np.flatnonzero(has & np.isin(codes, unseen))
    if len(rows):
      scores["zero_shot_unseen" + suffix], _ = recognition.zero_shot(
        x[rows], texts, codes[rows], names, averaged=np.unique(codes[rows])
      )
  return scores, named, seen_texts


def _supervised(config, encoder, caches, windows, imu, names, fine_tune):
  codes = _codes(windows, names)
  rows = np.flatnonzero(codes >= _UNLABELLED)
  if not (codes[rows] >= 0).any():
    return {}, {}, []
  parts, why = _training_parts(config, caches, windows, names)
  if parts is None:
    return {}, {}, [f"linear probe and fine-tune left out: {why}"]
  notes = [why] if why else []
  train_y = parts[0][1]
  missing = sorted(
    {names[k] for k in codes[codes >= 0]}
    - {names[k] for k in train_y if k >= 0}
  )
  if missing:
    notes.append(
      f"no training window of {', '.join(missing)}: linear probe and fine-tune "
      "cannot name them"
    )
  learned = {"train": _embedded(encoder, *parts[0])}
  if parts[1] is not parts[0]:
    learned["validation"] = _embedded(encoder, *parts[1])
  scores, _, learned["head"] = recognition.linear_probe(
    *learned["train"],
    *learned.get("validation", learned["train"]),
    imu[rows],
    codes[rows],
    names,
    config.recognition.probe_l2,
  )
  found = {"linear_probe": scores}
  parts = [_part(*part) for part in (*parts, (windows, codes))]
  tuned = None
  if fine_tune:
    found["fine_tune"], tuned = _fine_tune(
      config, encoder, parts, names, learned["head"]
    )
  if config.recognition.adapt_to_wearer:
    # Wearers of a set that was only trained along do other things, so their
    # means are others.
    parts = [
      part | {"labels": np.where(part["own"], part["labels"], _OTHER)}
      for part in parts
    ]
    if all((part["labels"] >= 0).any() for part in parts):
      found |= _adapted(config, encoder, tuned, parts, names)
    else:
      notes.append(
        "adapted and agreed rows left out: they learn from the asked set's own "
        "labels, and no wearer of it is there to train or to choose"
      )
  return found, learned, notes


def _embedded(encoder, split, labels):
  """(embeddings, labels) of a split's labelled windows."""
  rows = np.flatnonzero(labels >= 0)
  return retrieval.embed_windows(encoder, split, rows), labels[rows]


def _adapted(config, encoder, tuned, parts, names):
  """Return the rows that look at a wearer's windows together.

  `tuned`: the fine-tuned parameters, or None.
  """
  found, head = _relative_probe(
    config, encoder, [encoder.params], parts, names, "linear_probe"
  )
  if tuned is not None:
    _, relative = _fine_tune(
      config, encoder, parts, names, head, by_wearer=True
    )
    rows, _ = _relative_probe(
      config, encoder, [tuned, relative], parts, names, "fine_tune"
    )
    found |= rows
  return found


def _relative_probe(config, encoder, tuned, parts, names, task):
  """Probe what trunks with the parameters `tuned` say, side by side, relative
  to the wearer's other windows; return the rows of `task` and the head."""

  def relative(part):
    rows = np.flatnonzero(part["labels"] >= _UNLABELLED)
    x = [
      fine_tuning.features(encoder.encoder, params, part, rows)
      for params in tuned
    ]
    wearers = part["wearers"][rows]
    x = adaptation.standardise_by_wearer(np.concatenate(x, axis=1), wearers)
    return x, part["labels"][rows], wearers

  train, validation, (x, labels, wearers) = map(relative, parts)
  scores, _, head = recognition.linear_probe(
    *train[:2], *validation[:2], x, labels, names, config.recognition.probe_l2
  )
  said = adaptation.agree_by_wearer(recognition.logits(head, x), x, wearers)
  agreed = recognition.score(labels, said.argmax(axis=1), names)
  agreed["l2"] = scores["l2"]
  return {f"{task}_adapted": scores, f"{task}_agreed": agreed}, head


def _fine_tune(config, encoder, parts, names, head, by_wearer=False):
  options = config.recognition
  scores, _, params = fine_tuning.fine_tune(
    encoder.encoder,
    encoder.params,
    *parts,
    names,
    head=head,
    steps=options.fine_tune_steps,
    batch_size=options.fine_tune_batch_size,
    learning_rate=options.fine_tune_learning_rate,
    checks=options.fine_tune_checks,
    change=augment.from_config(config.augment, config.seed),
    mixup=options.fine_tune_mixup,
    label_smoothing=options.fine_tune_label_smoothing,
    ema=options.fine_tune_ema,
    by_wearer=by_wearer,
    seed=config.seed,
    progress=functools.partial(logs.progress, what="fine-tune", unit="steps"),
  )
  return scores, params


def _part(windows, labels):
  return {
    "imu": windows.imu,
    "sensor_mask": windows.sensor_mask,
    "labels": labels.astype(np.int32),
    "wearers": np.asarray(windows.wearer_ids),
    # A mixture begins with the set that is asked.
    "own": np.arange(len(labels)) < windows.meta["splits"][windows.name],
  }


def _training_parts(config, caches, windows, names):
  """Return (((train, labels), (validation, labels)) or None, why or note)."""
  data, sizes = config.data, windows.meta["splits"]
  if windows.name in (data.train_split, data.validation_split):
    return None, f"they would learn from split {windows.name!r} itself"
  if not sizes.get(data.train_split):
    return None, f"the data has no split {data.train_split!r}"
  splits = [cache.open_split(folder, data.train_split) for folder in caches]
  train = mixture.join(splits) if splits[1:] else splits[0]
  labels = _codes(train, names)
  if len(np.unique(labels[labels >= 0])) < 2:
    return None, f"split {train.name!r} has labels of fewer than two activities"
  if sizes.get(data.validation_split):
    validation = cache.open_split(caches[0], data.validation_split)
    validation_labels = _codes(validation, names)
    if (validation_labels >= 0).any():
      return ((train, labels), (validation, validation_labels)), ""
  options = config.recognition
  if len(options.probe_l2) == options.fine_tune_checks == 1:
    return ((train, labels),) * 2, (
      f"no split {data.validation_split!r} with labels, and nothing to choose: "
      "linear probe and fine-tune learn from all training wearers"
    )
  labelled = labels >= 0
  wearers = np.asarray(train.wearer_ids)
  aside = np.unique(wearers[labelled])[::_VALIDATION_WEARERS]
  chooses = np.isin(wearers, aside)
  if not (labelled & ~chooses).any():
    return None, "no wearer can be set aside to choose their settings"
  parts = (
    (train, np.where(chooses, _OTHER, labels)),
    (train, np.where(chooses, labels, _OTHER)),
  )
  return parts, (
    f"no split {data.validation_split!r} with labels: settings of linear probe "
    f"and fine-tune chosen on training wearers {', '.join(aside)}, left out of "
    "their training"
  )
