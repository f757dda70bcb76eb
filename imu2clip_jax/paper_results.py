"""Numbers that the paper reports (Moon et al., Findings of EMNLP 2023).

The article itself was not at hand: most values are as later articles and notes
quote it. Every entry says who; check it against the article before citing it.
"""

import dataclasses

_NOTES = "quoted by several independent notes that agree; article not seen"
_ONE = "quoted by one note; article not seen"
_HALO = "quoted by HKUST-MINSys-Lab/halo; article not seen"
_SPLIT = "counted on the released test split 0 (605 of 1,261 windows)"
_PULL = "facebookresearch/imu2clip, pull request 8: its author's own run"


@dataclasses.dataclass(frozen=True)
class Result:
  """One published row.

  Attributes:
    dataset: "ego4d" or "aria".
    name: the row, as the paper calls it.
    key: a task ("zero_shot", "linear_probe", "fine_tune") or a direction
      ("text->imu", ...).
    values: metric -> share in [0, 1].
    source: where the values come from, and how sure that is.
  """

  dataset: str
  name: str
  key: str
  values: dict[str, float]
  source: str


def _row(dataset, name, key, f1, accuracy, source):
  values = {"macro_f1": f1}
  if accuracy is not None:
    values["accuracy"] = accuracy
  return Result(dataset, name, key, values, source)


# The sources say "F1"; the released code computes macro-F1 over four classes.
RECOGNITION = (
  _row("ego4d", "no pre-training", "fine_tune", 0.2323, 0.4992, _NOTES),
  _row("ego4d", "i↔t", "zero_shot", 0.3189, 0.3638, _NOTES),
  _row("ego4d", "i↔t", "linear_probe", 0.4512, 0.5801, _NOTES),
  _row("ego4d", "i↔t", "fine_tune", 0.4515, 0.6314, _NOTES),
  _row("ego4d", "i↔v", "fine_tune", 0.4307, 0.6587, _ONE),
  _row("ego4d", "i↔v↔t", "fine_tune", 0.4417, 0.6266, _ONE),
  _row("ego4d", "constant class", "zero_shot", 0.1621, 0.4798, _SPLIT),
  _row("aria", "no pre-training", "fine_tune", 0.5635, 0.7611, _HALO),
  _row("aria", "variant unknown", "zero_shot", 0.1846, None, _HALO),
  _row("aria", "variant unknown", "linear_probe", 0.6252, None, _HALO),
  _row("aria", "variant unknown", "fine_tune", 0.6177, 0.8231, _HALO),
)

# The gallery is not stated by the sources; the released code ranks at most 320
# windows, where chance is R@1 0.3 %, R@10 3.1 %.
RETRIEVAL = (
  Result(
    "ego4d",
    "variant and data set unknown",
    "text->imu",
    {"R@1": 0.0833, "R@10": 0.3368},
    _ONE,
  ),
  Result(
    "ego4d",
    "variant and data set unknown",
    "imu->video",
    {"R@1": 0.1219},
    _ONE,
  ),
  Result("ego4d", "i↔t, fixed scale", "imu->text", {"MRR": 0.104}, _PULL),
  Result("ego4d", "i↔t, learned scale", "imu->text", {"MRR": 0.123}, _PULL),
)


def of(dataset: str) -> tuple[Result, ...]:
  """Return what the paper reports on a data set, by its name.

  Example:
    >>> of("ego4d_imu")[0].values
    {'macro_f1': 0.2323, 'accuracy': 0.4992}
    >>> of("synthetic_imu")
    ()
  """
  source = dataset.split("_")[0]
  return tuple(r for r in RECOGNITION + RETRIEVAL if r.dataset == source)
