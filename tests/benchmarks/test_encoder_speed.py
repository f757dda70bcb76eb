"""Step times of the IMU encoders beside torch's, in one process, by turns.

  pytest tests/benchmarks/test_encoder_speed.py -m "slow and parity" -s

Two threads each. Every cell alternates ours and torch's, so that a slow moment
of the machine hits both; the table gives the median of the ratios. "of peak" is
the share of what a bare matrix product of the GRU's shape reaches here.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imu2clip_jax.models import encoders, imu_encoder

pytestmark = [pytest.mark.slow, pytest.mark.parity]

SAMPLES, HIDDEN, WIDTH = 1000, 512, 32
CELLS = [
  (preset, batch, train)
  for preset in ("official", "paper")
  for batch in (32, 256, 1024)
  for train in (False, True)
]
CELL_S = 25.0  # time for one cell, within the bounds of its rounds
MIN_ROUNDS, MAX_ROUNDS = 3, 40
ROWS = []


def ours(preset, imu, train):
  """A function that runs one forward pass or one training step to its end."""
  encoder = encoders.build(preset, HIDDEN)
  params = encoder.init(jax.random.key(0), SAMPLES)
  optimizer = optax.adam(2e-4)

  @jax.jit
  def forward(params, imu):
    return encoder.apply(params, imu, normalize=False)

  @jax.jit
  def step(params, opt_state, imu):
    gradients = jax.grad(lambda p: jnp.mean(forward(p, imu) ** 2))(params)
    updates, opt_state = optimizer.update(gradients, opt_state)
    return optax.apply_updates(params, updates), opt_state

  imu = jnp.asarray(imu)
  if not train:
    return lambda: forward(params, imu).block_until_ready()
  state = [params, optimizer.init(params)]

  def run():
    state[:] = step(*state, imu)
    jax.block_until_ready(state)

  return run


def theirs(torch, preset, imu, train):
  """The same layers out of torch.nn."""
  nn = torch.nn
  form = imu_encoder.PRESETS[preset]

  class Encoder(nn.Module):
    def __init__(self):
      super().__init__()
      layers = [nn.GroupNorm(2, 6)]
      channels = 6
      for kernel, pool in zip((10, 5, 5), form.pools, strict=True):
        layers.append(
          nn.Conv1d(channels, WIDTH, kernel, dilation=2, bias=False)
        )
        if form.activation == "gelu":
          layers.append(nn.GELU())
        if pool > 1:
          layers.append(nn.MaxPool1d(pool))
        channels = WIDTH
      layers.append(nn.GroupNorm(4, WIDTH))
      self.front = nn.Sequential(*layers)
      self.gru = nn.GRU(WIDTH, HIDDEN, batch_first=True)

    def forward(self, x):
      return self.gru(self.front(x).transpose(1, 2))[1][0]

  model = Encoder()
  x = torch.tensor(np.ascontiguousarray(imu.transpose(0, 2, 1)))
  if not train:

    def run():
      with torch.no_grad():
        model(x)

    return run
  optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)

  def run():
    optimizer.zero_grad()
    (model(x) ** 2).mean().backward()
    optimizer.step()

  return run


def seconds(run):
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def peak_flops(batch):
  """What one [B, H] x [H, 3H] product reaches, the GRU's own."""
  state, weights = jnp.ones((batch, HIDDEN)), jnp.ones((HIDDEN, 3 * HIDDEN))
  product = jax.jit(lambda a, b: a @ b)
  product(state, weights).block_until_ready()
  repeats = max(1, 2**14 // batch)
  best = min(
    seconds(
      lambda: [product(state, weights) for _ in range(repeats)][
        -1
      ].block_until_ready()
    )
    for _ in range(5)
  )
  return 2 * repeats * batch * HIDDEN * 3 * HIDDEN / best


@pytest.mark.parametrize(("preset", "batch", "train"), CELLS)
def test_against_torch(preset, batch, train):
  torch = pytest.importorskip("torch")
  torch.set_num_threads(2)
  torch.manual_seed(0)
  rng = np.random.default_rng(0)
  imu = rng.standard_normal((batch, SAMPLES, 6), np.float32)
  runs = ours(preset, imu, train), theirs(torch, preset, imu, train)
  warm_up = [seconds(run) + seconds(run) for run in runs]
  rounds = int(np.clip(CELL_S / sum(warm_up), MIN_ROUNDS, MAX_ROUNDS))
  times = []
  for i in range(rounds):
    order = (0, 1) if i % 2 else (1, 0)
    pair = {which: seconds(runs[which]) for which in order}
    times.append((pair[0], pair[1]))
  mine, reference = np.median(times, axis=0)
  ratio = np.median([a / b for a, b in times])
  passes = 3 if train else 1
  flops = passes * batch * encoders.build(preset, HIDDEN).flops(SAMPLES)
  ROWS.append(
    f"{preset:9} {batch:5} {'step' if train else 'forward':8}"
    f"{mine * 1e3:9.1f} {reference * 1e3:9.1f} {ratio:7.2f} "
    f"{flops / mine / peak_flops(batch):8.0%} {rounds:7}"
  )


def test_print_the_table():
  print(
    "\npreset    batch pass      ours ms  torch ms   ratio  of peak  rounds"
  )
  print("\n".join(ROWS))
  assert len(ROWS) <= len(CELLS)
