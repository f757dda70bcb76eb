import jax
import numpy as np
import pytest

from imu2clip_jax import config, embed, pretrained, train
from imu2clip_jax.models import encoders


@pytest.fixture(scope="module")
def encoder():
  """Untrained, in the form of a loaded one."""
  c = config.default()
  c.encoder.preset = "paper"
  c.encoder.rate_hz = 50.0
  c.encoder.hidden = 16
  functions = encoders.from_config(c.encoder, 16)
  params = jax.tree.map(np.asarray, functions.init(jax.random.key(0), 250))
  return pretrained.ImuEmbedder(functions, params, 5.0, c)


def motion(rows, rate_hz, seconds=5.0, seed=0):
  """Slow waves, float32 [rows, T, 6]: the same motion at any rate."""
  rng = np.random.default_rng(seed)
  cycles = rng.uniform(0.2, 2.0, (rows, 1, 6))
  t = np.arange(round(rate_hz * seconds))[:, None] / rate_hz
  return (3 * np.sin(2 * np.pi * cycles * t)).astype(np.float32)


def test_rows_are_embedded_alike_in_any_number(encoder):
  imu = motion(300, 50.0)
  whole = encoder.embed(imu, 50.0)
  assert whole.shape == (300, 16)
  assert whole.dtype == np.float32
  np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(
    encoder.embed(imu[7:9], 50.0), whole[7:9], atol=1e-6
  )
  assert encoder.embed(imu[:0], 50.0).shape == (0, 16)


def test_another_rate_is_resampled_first(encoder):
  slow, fast = motion(4, 50.0), motion(4, 200.0)
  a, b = encoder.embed(slow, 50.0), encoder.embed(fast, 200.0)
  assert (np.sum(a * b, axis=1) > 0.99).all()
  # Taken at the wrong rate it is another motion.
  assert not np.allclose(a, encoder.embed(slow, 200.0), atol=1e-2)


@pytest.mark.parametrize("rate_hz", [50.0, 200.0])
def test_what_an_unmeasured_sensor_holds_does_not_matter(encoder, rate_hz):
  imu, mask = motion(3, rate_hz), np.array([[1, 0], [1, 1], [0, 1]])
  lost = imu.copy()
  lost[0, :, 3:] = lost[2, :, :3] = np.nan
  np.testing.assert_array_equal(
    encoder.embed(lost, rate_hz, sensor_mask=mask),
    encoder.embed(imu, rate_hz, sensor_mask=mask),
  )
  with pytest.raises(ValueError, match="imu of window 0 holds NaN"):
    encoder.embed(lost, rate_hz)


def test_length_is_kept_where_asked(encoder):
  raw = encoder.embed(motion(3, 50.0), 50.0, normalize=False)
  norms = np.linalg.norm(raw, axis=1, keepdims=True)
  assert not np.allclose(norms, 1, atol=1e-3)
  unit = encoder.embed(motion(3, 50.0), 50.0)
  np.testing.assert_allclose(raw / norms, unit, atol=1e-5)


@pytest.mark.parametrize(
  ("imu", "rate_hz", "says"),
  [
    (
      np.zeros((2, 250, 5), np.float32),
      50.0,
      r"\[N, T, 6\], got \[2, 250, 5\]",
    ),
    (np.zeros((2, 250, 6), np.float32), 0.0, r"rate_hz is 0"),
    (np.full((2, 250, 6), np.nan, np.float32), 50.0, "NaN or infinity"),
    (np.zeros((2, 10, 6), np.float32), 50.0, "10"),
  ],
)
def test_input_that_cannot_be_embedded_is_refused(encoder, imu, rate_hz, says):
  with pytest.raises(ValueError, match=says):
    encoder.embed(imu, rate_hz)


def test_a_trained_run_comes_back(tmp_path, write_cache, monkeypatch):
  cache_dir = write_cache(tmp_path / "cache", num_samples=150)
  monkeypatch.setattr(embed, "ensure_cache", lambda c: cache_dir)
  c = config.default()
  c.encoder.preset = "official"
  c.encoder.rate_hz = 30.0
  c.encoder.hidden = 8
  c.encoder.width = 8
  c.train.batch_size = 8
  c.train.steps = 2
  train.train(c, tmp_path / "run")
  loaded = pretrained.load_imu_encoder(tmp_path / "run")
  assert loaded.dim == 8
  assert loaded.rate_hz == 30.0
  assert loaded.config == c
  assert loaded.teacher["name"] == "random"
  assert np.isfinite(loaded.embed(motion(3, 30.0), 30.0)).all()


def test_the_best_validated_checkpoint_comes_back_if_asked(
  tmp_path, write_cache, monkeypatch
):
  cache_dir = write_cache(tmp_path / "cache", num_samples=150)
  monkeypatch.setattr(embed, "ensure_cache", lambda c: cache_dir)
  seen = []

  def validate(params):
    seen.append(jax.device_get(params))
    return {"validation/MRR": 1 / len(seen)}

  monkeypatch.setattr(train.validation, "make", lambda *_: validate)
  c = config.default()
  c.encoder.preset = "official"
  c.encoder.rate_hz = 30.0
  c.encoder.hidden = c.encoder.width = 8
  c.train.batch_size = 8
  c.train.steps = 3
  c.train.validate_every_steps = c.train.keep_checkpoints = 1
  train.train(c, tmp_path / "run")
  for best, params in ((True, seen[0]), (False, seen[-1])):
    loaded = pretrained.load_imu_encoder(tmp_path / "run", best=best)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


def test_only_a_run_has_a_best_checkpoint(tmp_path):
  with pytest.raises(ValueError, match="only a run has a best"):
    pretrained.load_imu_encoder(tmp_path / "encoder.pt", best=True)


def test_a_folder_without_a_run_says_what_to_do(tmp_path):
  with pytest.raises(FileNotFoundError, match="imu2clip train"):
    pretrained.load_imu_encoder(tmp_path)
