import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imu2clip_jax import checkpoint


def make_state(seed):
  rng = np.random.default_rng(seed)
  params = {
    "imu_encoder": {"kernel": jnp.asarray(rng.normal(size=(4, 3)), "float32")},
    "log_scale": {"imu_text": jnp.float32(seed)},
  }
  opt_state = optax.adam(1e-3).init(params)
  return {"params": params, "opt_state": opt_state, "step": jnp.int32(seed)}


def save(workdir, *steps, keep=2):
  checkpoints = checkpoint.Checkpoints(workdir, keep)
  for step in steps:
    checkpoints.save(step, make_state(step), {"next_index": step})
  checkpoints.close()


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def flip_a_byte(workdir, step):
  """Change one byte of the largest file of a checkpoint."""
  files = (workdir / "checkpoints" / str(step)).rglob("*")
  path = max((p for p in files if p.is_file()), key=lambda p: p.stat().st_size)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def test_state_and_data_position_come_back(tmp_path):
  save(tmp_path, 3, 6)
  checkpoints = checkpoint.Checkpoints(tmp_path, 2)
  assert checkpoints.latest_step() == 6
  state, data = checkpoints.restore(make_state(0))
  assert_same(state, make_state(6))
  assert data == {"next_index": 6}
  checkpoints.close()


def test_only_the_newest_are_kept(tmp_path):
  save(tmp_path, 1, 2, 3, 4, keep=2)
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
    "3",
    "4",
  ]
  seals = sorted(p.stem for p in (tmp_path / "checksums").iterdir())
  assert seals == ["3", "4"]


def test_a_flipped_byte_is_found_and_the_older_one_serves(tmp_path):
  save(tmp_path, 3, 6)
  flip_a_byte(tmp_path, 6)
  assert "is not what was saved" in checkpoint.damage(tmp_path, 6)
  checkpoints = checkpoint.Checkpoints(tmp_path, 2)
  state, _ = checkpoints.restore(make_state(0))
  assert_same(state, make_state(3))
  # The damaged one is kept aside, and its step can be saved again.
  assert (tmp_path / "damaged" / "6").is_dir()
  checkpoints.save(6, make_state(6), {"next_index": 6})
  checkpoints.close()
  assert checkpoint.damage(tmp_path, 6) is None


def test_a_save_without_checksums_does_not_count(tmp_path):
  save(tmp_path, 3, 6)
  (tmp_path / "checksums" / "6.json").unlink()
  checkpoints = checkpoint.Checkpoints(tmp_path, 2)
  assert checkpoints.latest_step() == 3
  checkpoints.close()


def test_load_params_reads_only_the_parameters(tmp_path):
  save(tmp_path, 3, 6)
  flip_a_byte(tmp_path, 6)
  want = {"imu_encoder": make_state(3)["params"]["imu_encoder"]}
  got = checkpoint.load_params(tmp_path, jax.eval_shape(lambda: want))
  assert_same(got, want)


def test_another_structure_is_refused(tmp_path):
  save(tmp_path, 3)
  other = make_state(0)
  other["params"]["imu_encoder"] = {"weights": jnp.ones((4, 3))}
  checkpoints = checkpoint.Checkpoints(tmp_path, 2)
  with pytest.raises(ValueError, match=r"kernel is \(4, 3\) there and absent"):
    checkpoints.restore(other)
  checkpoints.close()
  other["params"]["imu_encoder"] = {"kernel": jnp.ones((5, 3))}
  abstract = jax.eval_shape(lambda: other["params"])
  with pytest.raises(ValueError, match=r"\(4, 3\) there and \(5, 3\) here"):
    checkpoint.load_params(tmp_path, abstract)


def test_no_checkpoint_says_what_to_run(tmp_path):
  with pytest.raises(FileNotFoundError, match="imu2clip train"):
    checkpoint.load_params(tmp_path, {})
