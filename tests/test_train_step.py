"""Gradients of chunks, precision, objectives, and what a bad step leaves."""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imu2clip_jax import config, losses, optim, train_step
from imu2clip_jax.data import cache, pipeline
from imu2clip_jax.models import encoders, imu_encoder

ROWS = 12


def make_batch(masked: bool, seed=0):
  rng = np.random.default_rng(seed)
  targets = rng.normal(size=(2, ROWS, 8)).astype(np.float32)
  targets /= np.linalg.norm(targets, axis=2, keepdims=True)
  exists = np.ones((2, ROWS), bool)
  sensors = np.ones((ROWS, 2), bool)
  if masked:
    exists[0, [1, 5]], exists[1, [0, 5, 7]] = False, False
    targets[0, 1] = np.nan
    sensors[3, 1] = False
  return {
    "step": np.zeros(ROWS, np.int32),
    "imu": rng.normal(size=(ROWS, 150, 6)).astype(np.float32),
    "sensor_mask": sensors,
    "frame_embedding": targets[0],
    "has_frames": exists[0],
    "text_embedding": targets[1],
    "has_text": exists[1],
    "text_id": rng.integers(0, 6, ROWS).astype(np.int32),
  }


def make_encoder(dtype="float32", preset="official"):
  return imu_encoder.build(
    preset, 8, rate_hz=30.0, hidden=8, width=8, dtype=jnp.dtype(dtype)
  )


class Tanh:
  """One layer with the face of an encoder: compiles in no time."""

  embed_dim = 8

  def init(self, key, num_samples):
    return {"kernel": jax.random.normal(key, (6, 8))}

  def apply(self, params, imu, *, sensor_mask):
    measured = jnp.repeat(sensor_mask, 3, 1)[:, None]
    x = jnp.tanh(jnp.where(measured, imu, 0) @ params["kernel"]).mean(1)
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def views(step, imu, sensor_mask, view=0):
  """Two views that differ: the second is turned round."""
  return (1 - 2 * view) * imu, sensor_mask


def make_params(encoder, pairs):
  state = train_step.init(
    encoder,
    optim.make(1e-3),
    jax.random.key(0),
    num_samples=150,
    pairs=pairs,
    initial_scale=10.0,
    initial_bias=-10.0,
    view_dim=4,
  )
  return state["params"]


def gradients(batch, pairs, encoder=None, **options):
  encoder = encoder or make_encoder()
  loss = train_step.make_loss(encoder, pairs=pairs, **options)
  run = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (value, _), gradient = run(make_params(encoder, pairs), batch)
  return value, gradient


def assert_near(a, b, limit):
  """Largest difference over the largest number, leaf by leaf."""
  for (path, x), y in zip(
    jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True
  ):
    size = np.abs(y).max() or 1.0
    assert np.abs(x - y).max() <= limit * size, jax.tree_util.keystr(path)


def _cases():
  objectives = (*config.OBJECTIVES, "contrastive + 0.5*simclr")
  for case in itertools.product(
    config.VARIANTS, objectives, (True, False), (None, 5)
  ):
    # All of them are the slow run; the default one holds a mask every time.
    quick = case[2] and (case[0] == "imu_video_text" or case[3] is None)
    yield pytest.param(*case, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(
  ("variant", "objective", "masked", "block"), list(_cases())
)
def test_chunks_give_the_whole_batchs_gradients(
  variant, objective, masked, block
):
  pairs = config.VARIANTS[variant]
  options = {"objectives": config.objectives(objective), "block": block}
  options["change"] = views
  batch = make_batch(masked)
  value, whole = gradients(batch, pairs, Tanh(), **options)
  got, parts = gradients(batch, pairs, Tanh(), **options, chunk=3)
  assert np.isfinite(value)
  np.testing.assert_allclose(got, value, rtol=1e-5)
  assert_near(parts, whole, 1e-5)


@pytest.mark.parametrize(
  "preset", ["official", pytest.param("paper", marks=pytest.mark.slow)]
)
def test_chunks_give_the_same_gradients_through_the_encoder(preset):
  encoder = make_encoder(preset=preset)
  batch = make_batch(True)
  # In float64: rounding of these layers alone is 1e-5 in float32.
  pairs = ("imu_video", "imu_text")
  params = make_params(encoder, pairs)
  with jax.enable_x64(True):
    wide = make_encoder("float64", preset)
    params, batch = jax.tree.map(
      lambda x: x.astype("float64") if x.dtype == "float32" else x,
      (jax.tree.map(np.asarray, params), batch),
    )
    whole, parts = (
      jax.jit(
        jax.grad(
          train_step.make_loss(wide, pairs=pairs, chunk=chunk), has_aux=True
        )
      )(params, batch)[0]
      for chunk in (0, 4)
    )
    assert_near(parts, whole, 1e-9)


# Two devices have to be forced before JAX starts: in a process of its own.
ON_DEVICES = """
import importlib.util, re, sys
import jax, numpy as np
spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
from imu2clip_jax import sharding, train_step
mesh = sharding.make_mesh()
assert mesh.size == 2
pairs, batch, encoder = ("imu_text",), cases.make_batch(True), cases.Recurrent()
params = jax.device_get(cases.make_params(encoder, pairs))
want = jax.grad(train_step.make_loss(encoder, pairs=pairs), has_aux=True)
want = jax.device_get(jax.jit(want)(params, batch)[0])
for chunk in (0, 3, 4):
  loss = train_step.make_loss(encoder, pairs=pairs, chunk=chunk, mesh=mesh)
  run = jax.jit(jax.grad(loss, has_aux=True))
  placed = jax.device_put(params, sharding.replicated(mesh))
  program = run.lower(placed, sharding.global_batch(mesh, batch)).compile()
  cases.assert_near(
    jax.device_get(program(placed, sharding.global_batch(mesh, batch))[0]),
    want, 1e-5)
  # What is left of the program once its entry computation is cut off.
  rest = program.as_text().split("ENTRY")
  assert "all-reduce(" in rest[1], rest[1]
  assert not re.search(r"all-reduce(-start)?\\(", rest[0]), rest[0]
"""


class Recurrent(Tanh):
  """A small recurrence: its weights are used in every step of a scan."""

  def apply(self, params, imu, *, sensor_mask):
    measured = jnp.repeat(sensor_mask, 3, 1)[:, None]
    imu = jnp.swapaxes(jnp.where(measured, imu, 0), 0, 1)[:5]

    def step(h, x):
      return jnp.tanh(0.5 * h + x @ params["kernel"]), None

    x = jax.lax.scan(step, jnp.zeros((imu.shape[1], 8)), imu)[0]
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def test_gradients_meet_once_a_step_and_not_in_the_recurrence():
  flags = "--xla_force_host_platform_device_count=2"
  done = subprocess.run(
    [sys.executable, "-c", ON_DEVICES, __file__],
    env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]


def test_chunks_hold_fewer_activations():
  encoder = make_encoder(preset="paper")
  pairs = ("imu_text",)
  params = make_params(encoder, pairs)
  batch = {
    name: np.repeat(column, 16, axis=0)
    for name, column in make_batch(False).items()
  }

  def temporary_bytes(chunk):
    loss = train_step.make_loss(encoder, pairs=pairs, chunk=chunk)
    run = jax.jit(jax.grad(loss, has_aux=True))
    compiled = run.lower(params, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary_bytes(12) < 0.3 * temporary_bytes(0)


@pytest.mark.parametrize(
  "preset", ["official", pytest.param("paper", marks=pytest.mark.slow)]
)
def test_bfloat16_keeps_float32_masters_and_nearby_gradients(preset):
  c = config.default().encoder
  c.preset, c.rate_hz, c.hidden, c.width = preset, 30.0, 8, 8
  pairs = ("imu_video", "imu_text")
  batch = make_batch(False)
  value, exact = gradients(batch, pairs, encoders.from_config(c, 8))
  half = encoders.from_config(c, 8, "bfloat16")
  got, rounded = gradients(batch, pairs, half)
  assert got.dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}
  np.testing.assert_allclose(got, value, rtol=0.05)
  a, b = (
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    for tree in (exact["imu_encoder"], rounded["imu_encoder"])
  )
  assert not np.array_equal(a, b)
  assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.95


def test_a_sum_of_objectives_is_their_weighted_sum():
  batch, pairs = make_batch(True), ("imu_video", "imu_text")
  parts = [
    gradients(batch, pairs, objectives={name: 1.0})[0]
    for name in ("contrastive", "distill")
  ]
  whole = gradients(
    batch, pairs, objectives={"contrastive": 1.0, "distill": 0.25}
  )[0]
  np.testing.assert_allclose(whole, parts[0] + 0.25 * parts[1], rtol=1e-6)


def test_simclr_contrasts_the_two_views_behind_a_head():
  encoder, batch = Tanh(), make_batch(True)
  pairs = ("imu_video", "imu_text")
  options = {"objectives": {"simclr": 0.5}, "change": views}
  value, gradient = gradients(batch, pairs, encoder, **options)
  params = make_params(encoder, pairs)
  embedded = [
    encoder.apply(
      params["imu_encoder"],
      sign * batch["imu"],
      sensor_mask=batch["sensor_mask"],
    )
    for sign in (1, -1)
  ]
  head = jax.tree.map(np.asarray, params["view_head"])
  z = np.stack(embedded, 1).reshape(2 * ROWS, -1) @ head["hidden"]["kernel"]
  z = np.maximum(z, 0) @ head["out"]["kernel"]
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  logits = 10 * z @ z.T
  np.fill_diagonal(logits, -np.inf)
  own = logits[np.arange(2 * ROWS), np.arange(2 * ROWS) ^ 1]
  want = (np.logaddexp.reduce(logits, axis=1) - own).mean()
  np.testing.assert_allclose(value, 0.5 * want, rtol=1e-5)
  assert np.abs(gradient["imu_encoder"]["kernel"]).max() > 0
  assert np.abs(gradient["view_head"]["hidden"]["kernel"]).max() > 0
  assert not any(jax.tree.leaves(gradient["log_scale"]))


def test_simclr_beside_the_teacher_shows_it_the_first_view():
  batch, pairs = make_batch(True), ("imu_text",)
  options = {"change": views}
  alone = [
    gradients(batch, pairs, Tanh(), objectives={name: 1.0}, **options)
    for name in ("contrastive", "simclr")
  ]
  both = {"contrastive": 1.0, "simclr": 0.5}
  value, gradient = gradients(batch, pairs, Tanh(), objectives=both, **options)
  np.testing.assert_allclose(value, alone[0][0] + 0.5 * alone[1][0], rtol=1e-6)
  want = jax.tree.map(lambda a, b: a + 0.5 * b, alone[0][1], alone[1][1])
  assert_near(gradient, want, 1e-5)
  with pytest.raises(ValueError, match="simclr needs augmentations"):
    train_step.make_loss(Tanh(), pairs=pairs, objectives={"simclr": 1.0})


def test_distil_is_one_minus_cosine_of_existing_rows():
  batch = make_batch(True)
  student = np.random.default_rng(1).normal(size=(ROWS, 8)).astype(np.float32)
  teacher, mask = batch["frame_embedding"], batch["has_frames"]
  cosine = (student * teacher).sum(1) / np.linalg.norm(student, axis=1)
  got, gradient = jax.value_and_grad(losses.distill)(
    student, teacher, mask=mask
  )
  np.testing.assert_allclose(got, 1 - cosine[mask].mean(), rtol=1e-5)
  assert not np.asarray(gradient)[~mask].any()
  assert np.isfinite(gradient).all()
  assert losses.distill(student, teacher, mask=np.zeros(ROWS, bool)) == 0


def test_a_bad_step_changes_nothing_then_or_later():
  encoder, pairs = make_encoder(), ("imu_video",)
  optimizer = optim.make(1e-3)
  state = train_step.init(
    encoder,
    optimizer,
    jax.random.key(0),
    num_samples=150,
    pairs=pairs,
    initial_scale=10.0,
    initial_bias=-10.0,
  )
  step = jax.jit(
    train_step.make_train_step(
      train_step.make_loss(encoder, pairs=pairs),
      optimizer,
      min_scale=1.0,
      max_scale=100.0,
    )
  )
  good = make_batch(False)
  state, metrics = step(state, good)
  assert metrics["steps_done"] == 1
  bad = good | {"step": good["step"] + 1, "imu": good["imu"] * np.nan}
  after, metrics = step(state, bad)
  assert metrics["steps_done"] == 1
  later, metrics = step(after, good | {"step": good["step"] + 2})
  assert metrics["steps_done"] == 1
  jax.tree.map(np.testing.assert_array_equal, later, state)


def test_the_pipelines_batch_carries_its_step(tmp_path, write_cache):
  split = cache.open_split(write_cache(tmp_path), "train")
  steps = pipeline.StepBatches(split, np.arange(32), 8, 0)
  assert (steps.map(7)["step"] == 7).all()
