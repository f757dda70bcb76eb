import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imu2clip_jax import optim, trees


def test_constant_schedule_after_warmup():
  rate = optim.schedule("constant", 0.1, steps=10, warmup_steps=5)
  np.testing.assert_allclose(
    [rate(s) for s in (0, 1, 5, 9)], [0, 0.02, 0.1, 0.1], rtol=1e-6
  )


def test_cosine_schedule_ends_at_zero():
  rate = optim.schedule("cosine", 0.1, steps=10)
  np.testing.assert_allclose(
    [rate(s) for s in (0, 5, 10)], [0.1, 0.05, 0], atol=1e-8
  )


@pytest.mark.parametrize(
  ("kind", "warmup", "match"),
  [("linear", 0, "linear"), ("cosine", 10, "warmup_steps is 10")],
)
def test_impossible_schedules_are_refused(kind, warmup, match):
  with pytest.raises(ValueError, match=match):
    optim.schedule(kind, 0.1, steps=10, warmup_steps=warmup)


def test_decay_shrinks_matrices_only():
  params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
  gradients = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
  optimizer = optim.make(0.1, weight_decay=0.5)
  updates, _ = optimizer.update(gradients, optimizer.init(params), params)
  np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-6)
  np.testing.assert_array_equal(updates["bias"], 0)


def test_long_gradients_are_clipped():
  params = {"w": jnp.zeros(2)}
  clipped, plain = optim.make(0.1, clip_norm=1.0), optim.make(0.1)
  big, small = {"w": jnp.array([30.0, 40.0])}, {"w": jnp.array([0.6, 0.8])}
  a, _ = clipped.update(big, clipped.init(params), params)
  b, _ = plain.update(small, plain.init(params), params)
  np.testing.assert_allclose(a["w"], b["w"], rtol=1e-5)


def test_biases_and_norms_of_stacked_blocks_are_spared():
  stacked = {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2))}
  params = {"blocks": {"up": stacked, "norm": {"scale": jnp.ones((3, 2))}}}
  optimizer = optim.make(0.1, weight_decay=0.5)
  updates, _ = optimizer.update(
    jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
  )
  shrunk = trees.flatten(jax.tree.map(lambda x: bool((x != 0).all()), updates))
  assert [name for name, hit in shrunk.items() if hit] == ["blocks/up/kernel"]
