"""Splits by wearer, the same on every machine and in every run."""

import hashlib
from collections.abc import Iterable


def by_wearer(
  wearer_ids: Iterable[str], validation: float = 0.1, test: float = 0.2
) -> dict[str, str]:
  """Deal wearers into "train", "validation" and "test".

  Wearers are ordered by the SHA-256 of their name and dealt from the front, so
  neither the order of files nor a random seed matters.

  Args:
    wearer_ids: names; repeats count once.
    validation: share of the wearers; at least one where there are three.
    test: share of the wearers; at least one where there are two.

  Returns:
    wearer -> split. One wearer alone is "train".

  >>> sorted(by_wearer(["ann", "bo", "cy"]).items())
  [('ann', 'train'), ('bo', 'test'), ('cy', 'validation')]
  """
  order = sorted(
    set(wearer_ids), key=lambda name: hashlib.sha256(name.encode()).digest()
  )
  num_test = max(round(test * len(order)), int(len(order) >= 2))
  num_held = num_test + max(
    round(validation * len(order)), int(len(order) >= 3)
  )
  names = ["test"] * num_test + ["validation"] * (num_held - num_test)
  names += ["train"] * (len(order) - num_held)
  return dict(zip(order, names, strict=True))
