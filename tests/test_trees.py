"""Leaf names, rules over them, and the parameter table."""

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


def test_first_rule_that_fits_wins():
  tree = {"gru": {"wh": 0, "bh": 0}, "norm": {"bias": 0}}
  rules = [("gru/b", 1), ("^norm/", 2), (".*", 3)]
  got = trees.match_rules(tree, rules)
  assert got == {"gru": {"wh": 3, "bh": 1}, "norm": {"bias": 2}}


def test_a_leaf_without_a_rule_is_named():
  with pytest.raises(ValueError, match="no rule fits the leaf 'b'"):
    trees.match_rules({"a": 0, "b": 0}, [("^a$", 1)])


def test_a_rule_without_a_leaf_is_named():
  with pytest.raises(ValueError, match="rule 'gruu/' fits no leaf"):
    trees.match_rules({"gru": {"wh": 0}}, [("gruu/", 1), (".*", 2)])


def test_table_takes_abstract_values():
  def make(key):
    return {"w": jax.random.normal(key, (1000, 3)), "b": np.zeros(3)}

  shapes = jax.eval_shape(make, jax.random.key(0))
  text = trees.table(shapes)
  assert "w      [1000, 3]  float32    3,000" in text.splitlines()
  assert text.splitlines()[-1].split() == ["total", "3,003"]
  assert trees.count(shapes) == 3003
