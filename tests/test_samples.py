"""The real recordings are the published files that their READMEs describe."""

import hashlib
import re

import pytest

FOLDERS = (
  "aria_gen1_samples",
  "classyglass",
  "epic_kitchens_100",
  "gopro_karma",
  "imu2clip_splits",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_sizes_and_checksums(samples, folder):
  readme = (samples / folder / "README.md").read_text()
  rows = re.findall(r"\| `([^`]+)` \| (\d+) \| `([0-9a-f]{64})` \|", readme)
  assert rows
  for name, size, sha256 in rows:
    data = (samples / folder / name).read_bytes()
    assert len(data) == int(size), name
    assert hashlib.sha256(data).hexdigest() == sha256, name
