"""A stream gives what the whole recording would give, however it comes."""

import types

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax import config, pretrained, resampling
from imu2clip_jax import imu as imu_lib
from imu2clip_jax.models import encoders
from imu2clip_jax.streaming import Hops, ImuStream


def fake_encoder(rate_hz=50.0, window_s=2.0):
  """An encoder in which every sample of a window counts."""
  size = imu_lib.samples_in(window_s, rate_hz) * 6
  weights = np.random.default_rng(9).normal(size=(size, 5)) / size**0.5

  def embed(imu, rate_hz_of_imu, sensor_mask):
    assert rate_hz_of_imu == rate_hz
    assert sensor_mask.shape == (len(imu), 2)
    return (imu.reshape(len(imu), -1) @ weights).astype(np.float32)

  return types.SimpleNamespace(
    embed=embed, dim=5, rate_hz=rate_hz, window_s=window_s
  )


def motion(t_s, seed=0):
  """Band-limited motion at any times, [N, 6]."""
  rng = np.random.default_rng(seed)
  cycles = rng.uniform(0.2, 8.0, (6, 6))
  phase = rng.uniform(0, 6, (6, 6))
  waves = np.sin(2 * np.pi * cycles * t_s[:, None, None] + phase).sum(2)
  return waves + np.array([0, 0, 9.8, 0, 0, 0])


def offline(encoder, t_s, imu, hop_s, min_coverage=0.9, mask=(True, True)):
  """The same windows, cut from the whole recording."""
  none = np.zeros(0), np.zeros((0, 3))
  accel = (t_s, imu[:, :3]) if mask[0] else none
  gyro = (t_s, imu[:, 3:]) if mask[1] else none
  grid = imu_lib.to_grid(*accel, *gyro, encoder.rate_hz)
  starts = imu_lib.stride_starts(grid.span_s, encoder.window_s, hop_s)
  starts, windows, share = imu_lib.cut(grid, starts, encoder.window_s)
  share = share[:, list(mask)].min(1)
  keep = share >= min_coverage - 1e-9
  masks = np.repeat([mask], keep.sum(), axis=0)
  embeddings = encoder.embed(windows[keep], encoder.rate_hz, masks)
  return Hops(starts[keep], embeddings, share[keep])


def stream_in(stream, imu, t_s=None, sizes=(1000,)):
  """Push everything in portions of these sizes, in turn, then finish."""
  parts, begin, turn = [], 0, 0
  while begin < len(imu):
    end = begin + sizes[turn % len(sizes)]
    times_s = None if t_s is None else t_s[begin:end]
    parts.append(stream.push(imu[begin:end], times_s))
    begin, turn = end, turn + 1
  parts.append(stream.finish())
  return Hops(
    *(
      np.concatenate([getattr(p, name) for p in parts])
      for name in ("start_s", "embeddings", "coverage")
    )
  )


def assert_same(got, want, atol=1e-5):
  np.testing.assert_allclose(got.start_s, want.start_s, rtol=0, atol=1e-9)
  np.testing.assert_allclose(got.embeddings, want.embeddings, atol=atol)
  np.testing.assert_allclose(got.coverage, want.coverage, atol=1e-9)


def stamps(rng, seconds, rate_hz, jitter=0.0, begin_s=0.0, every=1):
  """Stamps of which each `every`th is early or late by a share of a step."""
  t_s = begin_s + np.arange(round(seconds * rate_hz)) / rate_hz
  t_s[::every] += rng.uniform(-jitter, jitter, len(t_s[::every])) / rate_hz
  return t_s


@settings(max_examples=25, deadline=None)
@given(
  seed=st.integers(0, 99),
  source_hz=st.sampled_from([25.0, 49.5, 50.0, 98.7, 198.4, 400.0]),
  hop_s=st.sampled_from([0.1, 0.5, 0.73, 3.1]),
  begin_s=st.sampled_from([0.0, -3.25, 1000.123]),
  gap=st.sampled_from([0.0, 0.12, 0.7, 9.0]),
  sizes=st.lists(st.integers(1, 700), min_size=1, max_size=4),
)
def test_stream_is_offline_for_any_portions(
  seed, source_hz, hop_s, begin_s, gap, sizes
):
  rng = np.random.default_rng(seed)
  t_s = stamps(rng, 8.0, source_hz, 0.2, begin_s, every=4)
  t_s[len(t_s) // 2 :] += gap
  imu = motion(t_s - begin_s, seed)
  # Duplicated stamps, lost values and stamps, neighbours in the wrong order.
  t_s[40] = t_s[41]
  imu[90, 4], t_s[120] = np.nan, np.nan
  t_s[[60, 61]], imu[[60, 61]] = t_s[[61, 60]], imu[[61, 60]]
  lost = np.isnan(t_s) | np.isnan(imu).any(1)
  encoder = fake_encoder()
  want = offline(encoder, t_s[~lost], imu[~lost], hop_s)
  got = stream_in(ImuStream(encoder, hop_s, late_s=0.1), imu, t_s, sizes)
  assert len(want) > 0
  assert_same(got, want)


@pytest.mark.parametrize("source_hz", [49.5, 50.0, 198.4])
def test_a_burst_at_a_windows_end_reads_as_in_the_whole(source_hz):
  steps = np.full(round(8 * source_hz), 1 / source_hz)
  steps[len(steps) // 2 :][:20] /= 10
  t_s = np.cumsum(steps)
  imu = np.random.default_rng(0).normal(size=(len(t_s), 6))
  encoder = fake_encoder()
  want = offline(encoder, t_s, imu, 0.02)
  assert_same(stream_in(ImuStream(encoder, 0.02), imu, t_s, (7,)), want)


@pytest.mark.parametrize("seed", range(4))
def test_stamps_in_milliseconds_may_fall_on_the_grid(seed):
  rng = np.random.default_rng(seed)
  t_s = np.unique(np.round(stamps(rng, 8.0, 100.0, 0.2), 3))
  imu = rng.normal(size=(len(t_s), 6))
  encoder = fake_encoder()
  want = offline(encoder, t_s, imu, 0.31)
  assert_same(stream_in(ImuStream(encoder, 0.31), imu, t_s, (37,)), want)


@pytest.mark.parametrize("begin_s", [0.0, 1.7e9 + 0.123])
@pytest.mark.parametrize("source_hz", [25.0, 98.7, 198.4])
def test_where_every_stamp_jitters_full_windows_agree(source_hz, begin_s):
  """The typical step is then a little different in every window."""
  t_s = stamps(np.random.default_rng(3), 12.0, source_hz, 0.1, begin_s)
  imu = motion(t_s - begin_s)
  encoder = fake_encoder()
  want = offline(encoder, t_s, imu, 0.3)
  got = stream_in(ImuStream(encoder, 0.3), imu, t_s)
  both = min(len(got), len(want))
  assert max(len(got), len(want)) <= both + 1
  np.testing.assert_array_equal(got.start_s[:both], want.start_s[:both])
  # Stamps of 1.7e9 s are rounded to 2e-7 s themselves.
  atol = 1e-5 if begin_s == 0 else 1e-4
  np.testing.assert_allclose(
    got.embeddings[:both], want.embeddings[:both], atol=atol
  )


@settings(max_examples=15, deadline=None)
@given(
  sizes=st.lists(st.integers(1, 300), min_size=1, max_size=3),
  source_hz=st.sampled_from([20.0, 50.0, 200.0]),
)
def test_a_fixed_rate_needs_no_stamps(sizes, source_hz):
  encoder = fake_encoder()
  t_s = np.arange(round(9 * source_hz)) / source_hz
  imu = motion(t_s)
  got = stream_in(ImuStream(encoder, 0.4, rate_hz=source_hz), imu, sizes=sizes)
  assert_same(got, offline(encoder, t_s, imu, 0.4))


@pytest.mark.parametrize("size", [1, 37, 3000])
def test_a_real_encoder_agrees_to_1e_5(size):
  c = config.default()
  c.encoder.rate_hz, c.encoder.hidden, c.encoder.width = 50.0, 16, 8
  functions = encoders.from_config(c.encoder, 16)
  params = jax.tree.map(np.asarray, functions.init(jax.random.key(0), 250))
  encoder = pretrained.ImuEmbedder(functions, params, 5.0, c)
  t_s = stamps(np.random.default_rng(1), 11.0, 198.4, 0.1)
  imu = motion(t_s)
  got = stream_in(ImuStream(encoder, 0.5), imu, t_s, (size,))
  want = offline(encoder, t_s, imu, 0.5)
  assert len(want) > 10
  assert_same(got, want)


def test_at_the_encoder_s_rate_a_window_comes_with_its_last_sample():
  encoder = fake_encoder()
  imu = motion(np.arange(250) / 50)
  stream = ImuStream(encoder, 0.5, rate_hz=50.0)
  came = [i for i in range(250) if len(stream.push(imu[i]))]
  assert came == [99, 124, 149, 174, 199, 224, 249]
  window = imu[25:125].astype(np.float32)
  again = ImuStream(encoder, 0.5, rate_hz=50.0)
  second = again.push(imu[:125]).embeddings[1]
  mask = np.ones((1, 2), bool)
  np.testing.assert_allclose(
    second, encoder.embed(window[None], 50.0, mask)[0], atol=1e-6
  )


@pytest.mark.parametrize("late_s", [0.0, 0.3])
def test_waiting_is_short(late_s):
  """The filter's half, some samples and `late_s`, no more."""
  encoder = fake_encoder()
  t_s = np.arange(2000) / 200
  stream, imu = ImuStream(encoder, 0.5, late_s=late_s), motion(t_s)
  first = next(i for i in range(2000) if len(stream.push(imu[i], t_s[i])))
  _, reach = resampling.filter_reach(1 / 200, 50)
  assert t_s[first] - 2.0 <= (reach + 8) / 200 + late_s


@pytest.mark.parametrize("hop_s", [0.25, 30.0])
@pytest.mark.parametrize("size", [1, 5000])
def test_memory_is_bounded(hop_s, size):
  encoder = fake_encoder()
  stream, most, windows = ImuStream(encoder, hop_s), 0, 0
  for begin in range(0, 40_000, size):
    t_s = (begin + np.arange(size)) / 200
    windows += len(stream.push(np.ones((size, 6)), t_s))
    most = max(most, stream.buffered)
  assert windows == {0.25: 791, 30.0: 7}[hop_s]
  # Two seconds, two filters of 0.4 s, late_s, and what waits to be taken in.
  assert most < 200 * 3 + 1100


def test_a_long_gap_costs_no_time_and_gives_nothing():
  encoder = fake_encoder()
  t_s = np.arange(1000) / 200
  t_s[500:] += 3000.0
  imu = motion(t_s)
  stream = ImuStream(encoder, 0.01)
  calls = []
  cut, stream._cut = stream._cut, lambda *a: calls.append(0) or cut(*a)
  got = stream_in(stream, imu, t_s)
  assert len(calls) < 1500
  assert set((got.start_s > 2.6).tolist()) == {True, False}
  assert not ((got.start_s > 2.6) & (got.start_s < 3002)).any()


def test_a_missing_sensor_is_ignored():
  encoder = fake_encoder()
  t_s = np.arange(1000) / 100
  imu = motion(t_s)
  only = (True, False)
  want = offline(encoder, t_s, imu, 0.5, mask=only)
  imu[:, 3:] = np.nan
  got = stream_in(ImuStream(encoder, 0.5, sensor_mask=only), imu, t_s)
  assert len(got) > 5
  assert_same(got, want)


def test_a_refused_call_changes_nothing():
  encoder = fake_encoder()
  t_s = np.arange(1000) / 100
  imu = motion(t_s)
  stream = ImuStream(encoder, 0.5)
  first = stream.push(imu[:500], t_s[:500])
  with pytest.raises(ValueError, match=r"1.490 s behind the newest"):
    stream.push(imu[500:600], np.append(t_s[500:599], 4.49))
  with pytest.raises(ValueError, match="4000 s ahead"):
    stream.push(imu[500:], t_s[500:] + 4000)
  rest = stream.push(imu[500:], t_s[500:])
  want = offline(encoder, t_s, imu, 0.5)
  got = np.concatenate([first.start_s, rest.start_s, stream.finish().start_s])
  np.testing.assert_allclose(got, want.start_s)


def test_a_clock_that_stands_still_is_named():
  stream = ImuStream(fake_encoder(), 0.5)
  with pytest.raises(ValueError, match="clock stands still"):
    stream.push(np.ones((200_000, 6)), np.zeros(200_000))


@pytest.mark.parametrize(
  ("options", "imu", "times_s", "says"),
  [
    ({}, np.ones((4, 5)), np.arange(4), r"imu must be \[N, 6\], got \[4, 5\]"),
    ({}, np.ones((4, 6)), np.arange(3), r"times_s must be \[4\]"),
    ({}, np.ones((4, 6)), None, "without times_s"),
    ({"rate_hz": 50.0}, np.ones((4, 6)), np.arange(4), "with times_s"),
  ],
)
def test_samples_that_do_not_fit_are_refused(options, imu, times_s, says):
  with pytest.raises(ValueError, match=says):
    ImuStream(fake_encoder(), 0.5, **options).push(imu, times_s)


@pytest.mark.parametrize(
  ("options", "says"),
  [
    ({"hop_s": 0.0}, "hop_s is 0"),
    ({"rate_hz": -1.0}, "rate_hz is -1"),
    ({"min_coverage": 1.5}, "min_coverage is 1.5"),
    ({"late_s": -0.1}, "late_s is -0.1"),
    ({"sensor_mask": (False, False)}, "expected one sensor"),
  ],
)
def test_options_out_of_bounds_are_refused(options, says):
  with pytest.raises(ValueError, match=says):
    ImuStream(fake_encoder(), **{"hop_s": 0.5, **options})


def test_an_ended_stream_says_so():
  stream = ImuStream(fake_encoder(), 0.5)
  assert len(stream.finish()) == 0
  with pytest.raises(ValueError, match="finished"):
    stream.push(np.ones((1, 6)), [0.0])
  with pytest.raises(ValueError, match="finished"):
    stream.finish()
