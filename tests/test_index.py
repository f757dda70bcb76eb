"""Exact search, appending, and what is refused."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax import index as index_lib

DIM = 6


def unit(rng, rows, dim=DIM):
  x = rng.normal(size=(rows, dim)).astype(np.float32)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def opened(folder, encoder="e" * 64, teacher="t" * 64, dim=DIM):
  return index_lib.Index(folder, encoder, teacher, dim)


def append(index, key, embeddings, recordings=1):
  rows = np.arange(len(embeddings))
  return index.append(
    key,
    embeddings,
    5.0 * rows,
    5.0 * rows + 5.0,
    rows % recordings,
    [{"recording_id": f"{key}{i}"} for i in range(recordings)],
    {"hop_s": 5.0},
  )


def brute_force(queries, gallery, top):
  scores = queries @ gallery.T
  rows = np.argsort(-scores, axis=1, kind="stable")[:, :top]
  return rows, np.take_along_axis(scores, rows, axis=1)


@settings(max_examples=40, deadline=None)
@given(
  sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4),
  queries=st.integers(1, 5),
  top=st.integers(1, 60),
  block=st.integers(1, 9),
  levels=st.integers(1, 3),
  seed=st.integers(0, 99),
)
def test_search_is_exact_whatever_the_blocks(
  tmp_path_factory, sizes, queries, top, block, levels, seed
):
  # Whole numbers, so that many scores are equal and none is rounded.
  rng = np.random.default_rng(seed)
  parts = [rng.integers(-levels, levels + 1, (n, DIM)) for n in sizes]
  asked = rng.integers(-levels, levels + 1, (queries, DIM)).astype(np.float32)
  index = opened(tmp_path_factory.mktemp("index"))
  for i, part in enumerate(parts):
    append(index, f"k{i}", part)
  gallery = np.concatenate(parts).astype(np.float32)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(index_lib, "_BLOCK_ROWS", block)
    patch.setattr(index_lib, "_BLOCK_QUERIES", 2)
    if not len(gallery):
      with pytest.raises(ValueError, match="no window"):
        index.search(asked, top)
      return
    found = index.search(asked, top)
  rows, scores = brute_force(asked, gallery, top)
  np.testing.assert_array_equal(found.rows, rows)
  np.testing.assert_array_equal(found.scores, scores)
  np.testing.assert_allclose(found.mean, (asked @ gallery.T).mean(1), atol=1e-6)
  assert found.searched == len(gallery)


def test_some_segments_or_rows_can_be_searched_alone(tmp_path):
  rng = np.random.default_rng(0)
  index, gallery = opened(tmp_path), unit(rng, 30)
  for i in range(3):
    append(index, f"k{i}", gallery[10 * i : 10 * i + 10])
  query = unit(rng, 1)
  found = index.search(query, 50, keys={"k1"})
  assert sorted(found.rows[0]) == list(range(10, 20))
  keep = np.zeros(30, bool)
  keep[[3, 14, 29]] = True
  found = index.search(query, 50, keep=keep)
  assert sorted(found.rows[0]) == [3, 14, 29]
  expected = (query @ gallery[keep].T).mean()
  assert found.mean[0] == pytest.approx(expected, abs=1e-6)
  assert found.searched == 3


def test_appending_leaves_what_is_there_and_reopens_alike(tmp_path):
  rng = np.random.default_rng(1)
  index = opened(tmp_path / "i")
  assert not (tmp_path / "i").exists()
  append(index, "a", unit(rng, 4), recordings=2)
  before = {p: p.read_bytes() for p in tmp_path.rglob("*.npy")}
  append(index, "b", unit(rng, 3))
  assert all(p.read_bytes() == data for p, data in before.items())
  again = opened(tmp_path / "i")
  assert [s.key for s in again.segments] == ["a", "b"]
  assert len(again) == 7
  segment, row = again.locate(5)
  assert (segment.key, row) == ("b", 1)
  assert segment.about["recordings"] == [{"recording_id": "b0"}]
  assert segment.about["hop_s"] == 5.0
  assert again.find("a").recording.tolist() == [0, 1, 0, 1]
  assert isinstance(again.find("a").embeddings, np.memmap)
  with pytest.raises(IndexError):
    again.locate(7)
  query = unit(rng, 2)
  np.testing.assert_array_equal(
    index.search(query, 3).rows, again.search(query, 3).rows
  )


def test_removing_moves_the_rest_up(tmp_path):
  rng = np.random.default_rng(2)
  index = opened(tmp_path)
  for key in "abc":
    append(index, key, unit(rng, 3))
  index.remove("a")
  assert [(s.key, s.first) for s in index.segments] == [("b", 0), ("c", 3)]
  assert [s.key for s in opened(tmp_path).segments] == ["b", "c"]
  append(index, "d", unit(rng, 1))
  assert [s.key for s in opened(tmp_path).segments] == ["b", "c", "d"]
  with pytest.raises(KeyError):
    index.remove("a")
  assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name]


@pytest.mark.parametrize(
  ("other", "says"),
  [
    ({"encoder": "f" * 64}, "encoder"),
    ({"teacher": "f" * 64}, "teacher"),
    ({"dim": 7}, "dim"),
  ],
)
def test_another_encoders_index_is_refused(tmp_path, other, says):
  append(opened(tmp_path), "a", unit(np.random.default_rng(0), 2))
  with pytest.raises(ValueError, match=f"embeddings of {says}"):
    opened(tmp_path, **other)


@pytest.mark.parametrize(
  ("change", "says"),
  [
    ({"embeddings": np.ones((2, 5))}, r"embeddings must be \[2, 6\]"),
    ({"embeddings": np.full((2, 6), np.nan)}, "embeddings holds NaN"),
    ({"end_s": [1.0]}, r"end_s must be \[2\]"),
    ({"recording": [0, 1]}, "recording must be 0 .. 0"),
    ({"key": "a/b"}, "key 'a/b'"),
    ({"key": "a"}, "key 'a' is taken"),
  ],
)
def test_windows_that_do_not_fit_are_refused_and_leave_nothing(
  tmp_path, change, says
):
  index = opened(tmp_path)
  append(index, "a", unit(np.random.default_rng(0), 2))
  before = sorted(tmp_path.rglob("*"))
  arguments = {
    "key": "b",
    "embeddings": np.ones((2, 6)),
    "start_s": [0.0, 1.0],
    "end_s": [1.0, 2.0],
    "recording": [0, 0],
    "recordings": [{"recording_id": "r"}],
  }
  with pytest.raises(ValueError, match=says):
    index.append(**arguments | change)
  assert sorted(tmp_path.rglob("*")) == before


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
  index = opened(tmp_path)
  monkeypatch.setattr(index_lib.np, "save", lambda *_: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    append(index, "a", np.ones((2, DIM)))
  assert not list((tmp_path / "segments").iterdir())
  assert len(opened(tmp_path)) == 0


def test_what_a_killed_process_of_our_number_left_goes(tmp_path):
  """In a container the number may be the same every time."""
  left = tmp_path / "segments" / f".000000-a.tmp{os.getpid()}"
  index = opened(tmp_path)
  for change in (
    lambda: append(index, "a", np.ones((2, DIM))),
    lambda: index.remove("a"),
  ):
    left.mkdir(parents=True)
    (left / "embeddings.npy").write_bytes(b"half")
    change()
    assert not left.exists()
    assert len(opened(tmp_path)) == len(index)


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("embeddings.npy", b"\x93NUMPY"),
    ("start_s.npy", b""),
    ("about.json", b"{"),
  ],
)
def test_a_damaged_segment_is_named(tmp_path, name, content):
  segment = append(opened(tmp_path), "a", np.ones((2, DIM)))
  (segment.path / name).write_bytes(content)
  with pytest.raises(ValueError, match=f"{name} is damaged"):
    opened(tmp_path)


def test_a_short_column_is_named(tmp_path):
  segment = append(opened(tmp_path), "a", np.ones((2, DIM)))
  np.save(segment.path / "end_s.npy", np.zeros(1))
  with pytest.raises(ValueError, match="is damaged: its columns"):
    opened(tmp_path)


@pytest.mark.parametrize(
  ("queries", "top", "says"),
  [
    (np.ones((1, 5)), 3, r"\[Q, 6\]"),
    (np.full((1, 6), np.nan), 3, "NaN"),
    (np.ones((1, 6)), 0, "top is 0"),
  ],
)
def test_bad_queries_are_refused(tmp_path, queries, top, says):
  index = opened(tmp_path)
  append(index, "a", np.ones((2, DIM)))
  with pytest.raises(ValueError, match=says):
    index.search(queries, top)


def test_pickles_are_never_read(tmp_path):
  segment = append(opened(tmp_path), "a", np.ones((2, DIM)))
  np.save(segment.path / "end_s.npy", np.array([{}, 1]), allow_pickle=True)
  with pytest.raises(ValueError, match=r"end_s\.npy is damaged"):
    opened(tmp_path)


def test_what_two_processes_add_at_once_is_there_once(tmp_path):
  rows = unit(np.random.default_rng(0), 3)
  first, second, third = (opened(tmp_path) for _ in range(3))
  append(first, "k1", rows)
  assert append(second, "k1", rows).path == first.find("k1").path
  append(third, "k2", rows)
  append(third, "k1", rows)
  assert len(opened(tmp_path)) == len(third) == 6
  assert not list((tmp_path / "segments").glob(".*"))
