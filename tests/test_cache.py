import json

import numpy as np
import pytest

from imu2clip_jax.data import cache


def test_a_split_comes_back(tmp_path, write_cache):
  split = cache.open_split(write_cache(tmp_path), "train")
  assert len(split) == 32
  assert split.imu.shape == (32, 40, 6)
  assert split.has_text.all()
  np.testing.assert_array_equal(
    split.nearest_text_embeddings,
    split.text_embeddings[split.text_ids[:, 0]],
  )


def test_rows_without_text_have_no_text_embedding(tmp_path, write_cache):
  folder = write_cache(tmp_path)
  ids = np.load(folder / "train" / "text_ids.npy")
  ids[3] = -1
  np.save(folder / "train" / "text_ids.npy", ids)
  split = cache.open_split(folder, "train")
  assert not split.has_text[3]
  assert not split.nearest_text_embeddings[3].any()
  assert split.nearest_text_embeddings[4].any()


def test_an_unfinished_cache_says_how_to_finish_it(tmp_path):
  with pytest.raises(FileNotFoundError, match="imu2clip embed"):
    cache.open_split(tmp_path, "train")


def test_unknown_and_empty_splits_are_named(tmp_path, write_cache):
  folder = write_cache(tmp_path, {"train": 4, "test": 4})
  with pytest.raises(ValueError, match="no split 'dev', only train, test"):
    cache.open_split(folder, "dev")
  meta = json.loads((folder / "meta.json").read_text())
  meta["splits"]["validation"] = 0
  (folder / "meta.json").write_text(json.dumps(meta))
  with pytest.raises(ValueError, match=r"'validation' of .* is empty"):
    cache.open_split(folder, "validation")


def test_a_truncated_column_is_named(tmp_path, write_cache):
  folder = write_cache(tmp_path)
  path = folder / "train" / "imu.npy"
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match=r"imu\.npy is damaged"):
    cache.open_split(folder, "train")


def test_a_column_of_other_length_is_named(tmp_path, write_cache):
  folder = write_cache(tmp_path)
  np.save(folder / "train" / "labels.npy", np.zeros(5, np.int32))
  with pytest.raises(ValueError, match=r"labels\.npy has 5 rows, expected 32"):
    cache.open_split(folder, "train")
