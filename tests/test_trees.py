"""Leaf names and the parameter table."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imu2clip_jax import trees

KEYS = st.text("abc_0", min_size=1, max_size=3)
TREES = st.dictionaries(
  KEYS,
  st.recursive(
    st.integers(), lambda t: st.dictionaries(KEYS, t, min_size=1, max_size=3)
  ),
  max_size=4,
)


@given(TREES)
def test_names_lead_back_to_the_tree(tree):
  named = trees.flatten(tree)
  assert trees.unflatten(named) == tree
  assert list(named.values()) == jax.tree.leaves(tree)


def test_unflatten_refuses_a_leaf_with_leaves_below():
  for names in (("a", "a/b"), ("a/b", "a")):
    with pytest.raises(ValueError, match="'a'"):
      trees.unflatten(dict.fromkeys(names, 0))


def test_table_takes_abstract_values():
  def make(key):
    return {"w": jax.random.normal(key, (1000, 3)), "b": np.zeros(3)}

  shapes = jax.eval_shape(make, jax.random.key(0))
  text = trees.table(shapes)
  assert "w      [1000, 3]  float32    3,000" in text.splitlines()
  assert text.splitlines()[-1].split() == ["total", "3,003"]
  assert trees.count(shapes) == 3003
