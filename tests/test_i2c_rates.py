"""One motion at several rates has one embedding (slow: trains an encoder)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imu2clip_jax import imu as imu_lib
from imu2clip_jax import losses, optim
from imu2clip_jax.models import encoders
from imu2clip_jax.recordings import synthetic

RATES_HZ = (50, 100, 200, 400)
WINDOW_S = 5.0
# Of the sensor, per sqrt(Hz): m/s² and rad/s.
NOISE = np.repeat([2e-3, 2e-4], 3)


def motions(wearers, noise=0.0):
  """Windows of the built-in world below 20 Hz: rate -> [N, T, 6].

  All rates are every n-th sample of one record at 400 Hz, so nothing but the
  rate differs. Noise is added after that, white up to half of each rate.
  """
  found = {rate_hz: [] for rate_hz in RATES_HZ}
  rng = np.random.default_rng(0)
  for wearer in wearers:
    world = synthetic.Simulation(
      seed=0, wearer=wearer, duration_s=262.0, rate_hz=400.0
    )
    raw = world.imu()
    grid_s = raw.accel_t_s[0] + np.arange(260 * 400) / 400.0
    both = np.concatenate([raw.accel, raw.gyro], 1)
    both = both[np.isfinite(both).all(1)]
    stamps = raw.accel_t_s[np.isfinite(raw.accel).all(1)]
    signal = np.stack([np.interp(grid_s, stamps, c) for c in both.T], 1)
    spectrum = np.fft.rfft(signal, axis=0)
    hz = np.fft.rfftfreq(len(signal), 1 / 400)
    # A raised cosine from 16 to 20 Hz: nothing above, no ringing.
    share = np.clip((20 - hz) / 4, 0, 1)
    spectrum *= (0.5 - 0.5 * np.cos(np.pi * share))[:, None]
    smooth = np.fft.irfft(spectrum, len(signal), axis=0)
    for rate_hz in RATES_HZ:
      rows = smooth[:: 400 // rate_hz].copy()
      rows += noise * NOISE * np.sqrt(rate_hz / 2) * rng.normal(size=rows.shape)
      found[rate_hz].append(rows.reshape(-1, int(WINDOW_S * rate_hz), 6))
  return {k: np.concatenate(v).astype(np.float32) for k, v in found.items()}


def at_50_hz(windows):
  return np.stack(
    [imu_lib.resample_windows(windows[r], r, 50.0) for r in RATES_HZ]
  )


def trained(views):
  """Tell windows apart by contrasting each with itself at another rate."""
  encoder = encoders.build("i2c", 32, width=16)
  params = encoder.init(jax.random.key(0), 250)
  optimizer = optim.make(2e-3, clip_norm=1.0)
  opt_state = optimizer.init(params)

  @jax.jit
  def step(params, opt_state, a, b):
    def loss(p):
      x, y = encoder.apply(p, a), encoder.apply(p, b)
      return losses.softmax_contrastive(x, y, 10.0)

    updates, opt_state = optimizer.update(
      jax.grad(loss)(params), opt_state, params
    )
    return optax.apply_updates(params, updates), opt_state

  rng = np.random.default_rng(0)
  for _ in range(40):
    rows = rng.permutation(views.shape[1])[:64]
    rates = rng.integers(0, len(RATES_HZ), (2, 64))
    params, opt_state = step(
      params, opt_state, views[rates[0], rows], views[rates[1], rows]
    )
  return jax.jit(lambda imu: encoder.apply(params, imu))


def cosines(embed, views):
  """Cosine of every two rates of a window, [pairs * N]."""
  x = np.stack([np.asarray(embed(jnp.asarray(view))) for view in views])
  first, second = np.triu_indices(len(views), 1)
  return (x[first] * x[second]).sum(-1).ravel()


@pytest.mark.slow
def test_one_motion_at_four_rates_has_one_embedding(record_property):
  embed = trained(at_50_hz(motions(range(10))))
  unseen = at_50_hz(motions(range(20000, 20010)))
  assert unseen.shape[1] >= 500
  same = cosines(embed, unseen)
  assert np.median(same) >= 0.99
  assert np.quantile(same, 0.05) >= 0.95
  # The embedding says something: other windows are less alike.
  x = np.asarray(embed(jnp.asarray(unseen[0])))
  assert np.median(x @ x.T) < 0.7
  noisy = cosines(embed, at_50_hz(motions(range(20000, 20010), noise=1.0)))
  for name, values in (("quiet", same), ("noisy", noisy)):
    found = np.quantile(values, (0.5, 0.05)).round(4).tolist()
    record_property(f"{name} median, 5th percentile", found)
    print(name, found)
