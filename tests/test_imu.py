"""Units, clocks, resampling, frames and window cutting, against known truth."""

import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from imu2clip_jax import imu, resampling, stamps

FAST = hypothesis.settings(max_examples=40, deadline=None)


def tone(t, hz):
  return np.sin(2 * np.pi * hz * t)[:, None] * np.ones(3)


def amplitude_and_delay_ms(values, times, hz):
  """Of a sine in [N] samples at `times`, by projection on the complex tone."""
  c = 2 * np.mean(values * np.exp(-2j * np.pi * hz * times))
  return abs(c), 1000 * (np.angle(c) + np.pi / 2) / (2 * np.pi * hz)


def grid_times(grid):
  return (grid.first + np.arange(len(grid.imu))) / grid.rate_hz


# Resampling


@pytest.mark.parametrize("new_rate_hz", [200.0, 100.0, 50.0, 199.8])
def test_tone_survives_half_an_hour_of_jittered_stamps(new_rate_hz):
  rng = np.random.default_rng(0)
  count = int(1800 * 199.8)
  t = np.arange(count) / 199.8 + rng.uniform(-1e-3, 1e-3, count) + 0.0123
  grid = imu.to_grid(t, tone(t, 20), t, tone(t, 20), new_rate_hz)
  times = grid_times(grid)
  minute = int(60 * new_rate_hz)
  for part in (slice(minute), slice(-minute, None)):
    size, delay_ms = amplitude_and_delay_ms(grid.imu[part, 0], times[part], 20)
    assert size == pytest.approx(1, abs=0.01)
    assert abs(delay_ms) < 0.1  # asked for: 1 ms
  assert grid.real.all()


def test_integer_rate_of_the_official_method_drifts_where_stamps_do_not():
  # The published code resamples by int(1000 / mean step in ms), here 199.
  t = np.arange(int(600 * 199.8)) / 199.8
  truncated_end_s = len(t) / int(1 / np.diff(t).mean())
  grid = imu.to_grid(t, tone(t, 1), t, tone(t, 1), 50.0)
  assert truncated_end_s - 600 > 2
  assert abs(grid_times(grid)[-1] - 600) < 0.05


def test_what_the_new_rate_cannot_hold_is_filtered_out():
  t = np.arange(20_000) / 200
  kept = imu.to_grid(t, tone(t, 19), t, tone(t, 19), 50.0).imu[100:-100]
  folded = imu.to_grid(t, tone(t, 31), t, tone(t, 31), 50.0).imu[100:-100]
  assert kept.std() == pytest.approx(np.sqrt(0.5), rel=0.01)
  assert folded.std() < 0.002


@pytest.mark.parametrize("rate_hz", [25.0, 49.9, 100.0, 198.4, 799.0, 1001.7])
def test_any_rate_arrives_at_the_wanted_one(rate_hz):
  t = np.arange(int(20 * rate_hz)) / rate_hz
  grid = imu.to_grid(t, tone(t, 3), t, tone(t, 3), 50.0)
  truth = np.sin(2 * np.pi * 3 * grid_times(grid))
  inner = slice(50, -50)
  assert np.abs(grid.imu[inner, 0] - truth[inner]).max() < 0.02


def test_constant_stays_constant_up_to_the_edges():
  t = np.arange(500) / 200
  grid = imu.to_grid(t, np.full((500, 3), 9.81), t, np.zeros((500, 3)), 50.0)
  np.testing.assert_allclose(grid.imu[:, :3], 9.81, rtol=1e-4)


def test_sensors_are_joined_by_time_not_by_row():
  # Twice the rate, another start: a turn seen by both lies at one time.
  accel_t = 0.03 + np.arange(1980) / 198.0
  gyro_t = 0.11 + np.arange(3970) / 397.0

  def bump(t):
    return np.exp(-((t - 5) ** 2) / 0.02)[:, None] * np.ones(3)

  grid = imu.to_grid(accel_t, bump(accel_t), gyro_t, bump(gyro_t), 100.0)
  peaks = grid_times(grid)[grid.imu[:, [0, 3]].argmax(axis=0)]
  np.testing.assert_allclose(peaks, 5, atol=0.011)
  assert grid.span_s == pytest.approx((0.11, 0.03 + 1980 / 198.0))


def test_gap_is_bridged_and_said_to_be_unreal():
  t = np.r_[np.arange(200), np.arange(300, 500)] / 100
  values = np.where(t[:, None] < 2.5, 1.0, 3.0) * np.ones(3)
  grid = imu.to_grid(t, values, t, values, 100.0)
  inside = slice(205, 295)
  assert not grid.real[inside].any()
  assert grid.real[:199].all()
  assert grid.real[301:].all()
  assert (np.diff(grid.imu[inside, 0]) > 0).all()
  assert grid.imu.min() > 0.99
  assert grid.imu.max() < 3.01


def test_a_gap_in_one_sensor_leaves_the_other_alone():
  t = np.arange(1000) / 100
  accel = np.ones((1000, 3))
  accel[300:600] = np.nan
  grid = imu.to_grid(t, accel, t, np.ones((1000, 3)), 50.0)
  assert grid.real[:, 1].all()
  assert not grid.real[155:295, 0].any()
  assert np.isfinite(grid.imu).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1e300])
@pytest.mark.parametrize("sensors", [[0], [1], [0, 1]])
def test_what_float32_cannot_hold_is_bridged(value, sensors):
  t = np.arange(500) / 100
  both = np.ones((2, 500, 3))
  both[sensors, 200:300, 1] = value
  grid = imu.to_grid(t, both[0], t, both[1], 100.0)
  np.testing.assert_allclose(grid.imu, 1, atol=1e-5)
  lost = ~grid.real.all(axis=0)
  assert np.flatnonzero(lost).tolist() == sensors


@pytest.mark.parametrize("value", [1e19, -3e38])
def test_large_values_that_float32_holds_are_kept(value):
  t = np.arange(500) / 100
  grid = imu.to_grid(t, np.full((500, 3), value), t, np.ones((500, 3)), 100.0)
  np.testing.assert_allclose(grid.imu[:, :3], value, rtol=1e-5)


@pytest.mark.parametrize("missing", ["accel", "gyro"])
@pytest.mark.parametrize("how", ["empty", "nan"])
def test_missing_sensor_is_zero_and_unreal(missing, how):
  t = np.arange(300) / 100
  values = {"accel": np.ones((300, 3)), "gyro": np.ones((300, 3))}
  times = {"accel": t, "gyro": t}
  if how == "empty":
    times[missing], values[missing] = np.zeros(0), np.zeros((0, 3))
  else:
    values[missing] = np.full((300, 3), np.nan)
  grid = imu.to_grid(
    times["accel"], values["accel"], times["gyro"], values["gyro"], 50.0
  )
  lost = ["accel", "gyro"].index(missing)
  assert not grid.real[:, lost].any()
  assert grid.real[:, 1 - lost].all()
  assert (grid.imu[:, 3 * lost : 3 * lost + 3] == 0).all()
  assert grid.span_s == pytest.approx((0, 3))


@pytest.mark.parametrize(
  ("gyro_s", "span_s"),
  [((0.3, 60.0), (0.3, 60)), ((0, 20), (0, 60)), ((40, 59.5), (0, 59.5))],
)
def test_one_sensor_alone_goes_on_for_more_than_a_second(gyro_s, span_s):
  t = np.arange(6000) / 100
  own = (gyro_s[0] <= t) & (t < gyro_s[1])
  grid = imu.to_grid(t, np.ones((6000, 3)), t[own], np.ones((own.sum(), 3)), 50)
  assert grid.span_s == pytest.approx(span_s, abs=0.011)
  assert grid.real[:, 0].all()
  assert grid.real[:, 1].sum() == pytest.approx(own.sum() / 2, abs=2)


def test_days_are_kept_and_strays_are_told():
  t = np.arange(0, 48 * 3600, 2.0)
  values = np.ones((len(t), 3))
  assert len(stamps.clean(t, values)[0]) == len(t)
  stray = np.append(t, [t[-1] + 7200, t[-1] + 7202, 1e9])
  with pytest.warns(UserWarning, match="3 of 86403 samples are left out"):
    kept, _ = stamps.clean(stray, np.ones((len(stray), 3)))
  np.testing.assert_array_equal(kept, t)
  # Few, but not fewer than a thousandth of all: a pause.
  pause = np.append(t[:1000], t[:1000] + 7200)
  assert len(stamps.clean(pause, np.ones((2000, 3)))[0]) == 2000


@pytest.mark.parametrize("times", [2, 3, 4, 5, 8, 20])
def test_a_stretch_of_a_multiple_of_the_rate_is_kept(times):
  fast = 90 + np.arange(0, 10, 0.02 / times)
  t = np.append(np.arange(0, 90, 0.02), fast)[: 4500 + 4000]
  kept, _ = stamps.clean(t, tone(t, 1))
  np.testing.assert_array_equal(kept, t)


def test_a_stretch_that_was_sampled_faster_is_kept():
  slow, fast = np.arange(0, 600, 0.02), 600 + np.arange(0, 60, 0.004)
  t = np.concatenate([slow, fast])
  kept, _ = stamps.clean(t, tone(t, 1))
  np.testing.assert_array_equal(kept, t)
  twice = np.sort(np.append(t, fast))
  kept, _ = stamps.clean(twice, tone(twice, 1))
  assert len(kept) == len(t)
  np.testing.assert_allclose(kept, t, atol=1e-7)
  grid = imu.to_grid(t, tone(t, 1), t, tone(t, 1), 50.0)
  times = grid_times(grid)
  assert grid.real.all()
  np.testing.assert_allclose(
    grid.imu[:-2], np.tile(tone(times, 1), 2)[:-2], atol=1e-3
  )


def test_no_usable_sample_is_refused():
  nan = np.full(3, np.nan)
  with pytest.raises(ValueError, match="no usable IMU sample"):
    imu.to_grid(nan, np.ones((3, 3)), nan, np.ones((3, 3)), 50.0)


@pytest.mark.parametrize("apart_s", [-1.7e9, 2e4, 3600 + 20 * 10 + 10.1])
def test_sensors_whose_clocks_lie_hours_apart_are_refused(apart_s):
  t, values = np.arange(1000) / 100, np.ones((1000, 3))
  says = rf"from 0\.000 to 10\.000 and from {apart_s:.3f} to "
  with pytest.raises(ValueError, match=says):
    imu.to_grid(t, values, t + apart_s, values, 50.0)


@pytest.mark.parametrize("apart_s", [-600.0, 3600 + 20 * 10 + 9.9])
def test_sensors_that_ran_one_after_the_other_are_one_recording(apart_s):
  t, values = np.arange(1000) / 100, np.ones((1000, 3))
  grid = imu.to_grid(t, values, t + apart_s, values, 50.0)
  assert grid.real.sum(axis=0) == pytest.approx(500, abs=1)
  assert grid.span_s == pytest.approx(
    (min(apart_s, 0), max(apart_s, 0) + 10), abs=1e-6
  )


def test_one_sample_is_a_recording_too():
  grid = imu.to_grid([2.0], [[1, 2, 3]], [2.0], [[0, 0, 1]], 50.0)
  assert grid.imu.tolist() == [[1, 2, 3, 0, 0, 1]]


# Stamps


def test_unsorted_stamps_give_what_sorted_ones_give():
  t = np.arange(400) / 100
  values = tone(t, 2)
  order = np.random.default_rng(1).permutation(400)
  sorted_grid = imu.to_grid(t, values, t, values, 50.0)
  grid = imu.to_grid(t[order], values[order], t, values, 50.0)
  np.testing.assert_array_equal(grid.imu, sorted_grid.imu)


def test_missing_and_absurd_stamps_are_dropped():
  t = np.arange(400) / 100
  values = tone(t, 2)
  bad = np.array([np.nan, np.inf, -np.inf, 1e18, -4e9, 9e4, 4e3])
  with pytest.warns(UserWarning, match="4 of 404 samples are left out"):
    clean_t, clean_values = stamps.clean(
      np.r_[t, bad], np.r_[values, np.full((7, 3), 1e6)]
    )
  np.testing.assert_array_equal(clean_t, t)
  np.testing.assert_array_equal(clean_values, values)


def test_duplicates_are_averaged_wherever_they_are():
  t = np.repeat(np.arange(100) / 100, 2)
  values = np.tile([[0.0], [2.0]], (100, 3))
  clean_t, clean_values = stamps.clean(t, values)
  np.testing.assert_allclose(clean_t, np.arange(100) / 100)
  np.testing.assert_allclose(clean_values, 1.0)


def test_nearly_equal_stamps_do_not_make_the_signal_swing():
  t = np.arange(200) / 100
  t[1::10] = t[0::10] + 1e-6
  rng = np.random.default_rng(0)
  noise = rng.normal(size=(200, 3))
  grid = imu.to_grid(t, noise, t, noise, 100.0)
  assert np.abs(grid.imu).max() < 2 * np.abs(noise).max()


@pytest.mark.parametrize("times", [2, 4, 10, 20])
@pytest.mark.parametrize("burst", [2, 3, 500])
def test_noise_beside_a_faster_stretch_stays_noise(times, burst):
  steps = np.full(2000 + burst, 0.02)
  steps[1000 : 1000 + burst] /= times
  t = np.cumsum(steps)
  noise = np.random.default_rng(0).normal(0, 0.1, (len(t), 3))
  for first in np.arange(0, 1, 0.05):  # of a grid step
    values, _ = resampling.resample(t - 0.02 * first, noise, 50.0, 0, 2000)
    assert np.abs(values).max() < 1.5 * np.abs(noise).max()


def test_the_rest_beside_a_faster_stretch_is_read_as_without_it():
  steps = np.full(300, 0.02)
  steps[150:250] /= 10
  t = np.cumsum(steps)
  values = np.random.default_rng(0).normal(size=(300, 3))
  slow, _ = resampling.resample(t[:150], values[:150], 50.0, 0, 140)
  both, _ = resampling.resample(t, values, 50.0, 0, 140)
  np.testing.assert_allclose(both, slow, atol=1e-5)


@pytest.mark.parametrize(
  ("t", "owned"),
  [
    ([-0.5, 0.05, 0.95, 2.05, 3.05], [1, 1, 1, 1]),
    ([-0.5, 0.45, 0.95, 2.05, 3.05], [1, 0, 2, 1]),
    ([-0.05, 0.95, 2.05, 2.95, 3.5], [1, 1, 1, 1]),
    ([-0.05, 0.95, 2.05, 2.55, 3.5], [1, 2, 0, 1]),
  ],
)
def test_outputs_are_evened_between_steps_of_like_length(t, owned):
  first = resampling._first_outputs(np.array(t), np.ones(4, bool), 0, 4, 1.0, 0)
  assert np.diff(first).tolist() == owned


@FAST
@hypothesis.given(st.integers(0, 2**31), st.floats(0, 0.7))
def test_noise_on_jittered_stamps_stays_noise(seed, jitter):
  rng = np.random.default_rng(seed)
  t = (np.arange(300) + rng.uniform(-jitter / 2, jitter / 2, 300)) / 100
  noise = rng.uniform(-1, 1, (300, 3))
  grid = imu.to_grid(t, noise, t, noise, 100.0)
  assert np.abs(grid.imu).max() < 3


@pytest.mark.parametrize("jitter", [0.0, 0.2, 0.4])
def test_a_tone_at_a_third_of_the_rate_survives_jitter_about_it(jitter):
  rng = np.random.default_rng(0)
  t = (np.arange(4000) + jitter * rng.uniform(-0.5, 0.5, 4000)) / 200
  tone = np.sin(2 * np.pi * 66 * t)[:, None]
  values, real = resampling.resample(t, tone, 200.0, 10, 3980)
  wanted = np.sin(2 * np.pi * 66 * np.arange(10, 3990) / 200)
  assert real.all()
  assert np.std(values[:, 0] - wanted) < 0.07 * np.std(wanted)


@pytest.mark.parametrize("rate_hz", [110.0, 197.0, 200.0, 203.0, 430.0])
def test_blocks_do_not_show(monkeypatch, rate_hz):
  rng = np.random.default_rng(0)
  t = (np.arange(3000) + rng.uniform(-0.4, 0.4, 3000)) / 200
  t = np.delete(t, [700, *range(1500, 1540)])
  values = rng.normal(size=(len(t), 6))
  count = int(15 * rate_hz)
  whole = resampling.resample(t, values, rate_hz, 0, count)
  monkeypatch.setattr(resampling, "_BLOCK", 6 * 67)
  parts = resampling.resample(t, values, rate_hz, 0, count)
  np.testing.assert_array_equal(parts[0], whole[0])
  np.testing.assert_array_equal(parts[1], whole[1])


def test_dropped_samples_are_bridged_without_swinging():
  keep = np.random.default_rng(0).random(2000) > 0.3
  t = np.arange(2000)[keep] / 200
  grid = imu.to_grid(t, tone(t, 2), t, tone(t, 2), 50.0)
  truth = np.sin(4 * np.pi * grid_times(grid))
  assert np.abs(grid.imu[25:-25, 0] - truth[25:-25]).max() < 0.04
  assert grid.real.all()


stamp_lists = st.lists(
  st.floats(-1e3, 1e3) | st.just(float("nan")) | st.just(1e19),
  min_size=1,
  max_size=60,
)


@pytest.mark.filterwarnings("ignore:.*are left out:UserWarning")
@FAST
@hypothesis.given(stamp_lists, st.floats(1, 400), st.integers(0, 2**31))
def test_clean_gives_increasing_finite_stamps(t, rate_hz, seed):
  values = np.random.default_rng(seed).normal(size=(len(t), 3))
  clean_t, clean_values = stamps.clean(t, values)
  assert (np.diff(clean_t) > 0).all()
  assert np.isfinite(clean_values).all()
  assert len(clean_t) == len(clean_values) <= len(t)
  if len(clean_values):
    assert clean_values.min() >= values.min()
    assert clean_values.max() <= values.max()


@FAST
@hypothesis.given(
  st.integers(2, 400), st.floats(5, 900), st.floats(5, 300), st.floats(-99, 99)
)
def test_grid_covers_the_samples_and_knows_the_real_ones(
  count, rate_hz, new_rate_hz, start_s
):
  t = start_s + np.arange(count) / rate_hz
  grid = imu.to_grid(
    t, np.ones((count, 3)), t, np.ones((count, 3)), new_rate_hz
  )
  times = grid_times(grid)
  if len(times) > 1:  # one sample may lie next to a very short recording
    assert grid.real[1:].all()
    assert grid.real[0].all() or times[0] < start_s - 1 / rate_hz
  assert abs(times[0] - start_s) <= 0.5 / new_rate_hz + 1e-6
  assert times[-1] <= t[-1] + 1 / rate_hz + 1 / new_rate_hz
  np.testing.assert_allclose(grid.imu, 1, atol=2e-3)


def test_ten_hours_are_cut_within_seconds():
  t = np.arange(10 * 3600 * 100) / 100.0
  values = np.random.default_rng(0).normal(size=(len(t), 3))
  before = time.perf_counter()
  grid = imu.to_grid(t, values, t, values, 50.0)
  starts = imu.stride_starts(grid.span_s, 5, 5)
  assert imu.cut(grid, starts, 5)[1].shape == (7200, 250, 6)
  assert time.perf_counter() - before < 20  # 2 s on a quiet machine


# Windows


def numbered_grid(count=1000, rate_hz=100.0):
  t = np.arange(count) / rate_hz
  values = np.arange(count)[:, None] * np.ones(3)
  return imu.to_grid(t, values, t, values, rate_hz)


def test_windows_are_slices_of_the_grid():
  starts, windows, coverage = imu.cut(numbered_grid(), [0.0, 2.0, 4.999], 2.0)
  assert windows.shape == (3, 200, 6)
  np.testing.assert_allclose(windows[:, 0, 0], [0, 200, 500], atol=0.01)
  np.testing.assert_allclose(starts, [0, 2, 5])
  assert (coverage == 1).all()


@hypothesis.given(
  st.floats(-1, 9), st.floats(0.01, 3), st.integers(0, 6), st.integers(0, 5)
)
def test_evenly_spaced_windows_are_what_each_is_alone(begin, step, count, odd):
  starts = begin + step * np.arange(count)
  starts[odd : odd + 1] += 0.05  # those at one distance are not copied
  found = imu.cut(numbered_grid(), starts, 2.0)
  for i, start in enumerate(starts):
    alone = imu.cut(numbered_grid(), [start], 2.0)
    for many, one in zip(found, alone, strict=True):
      np.testing.assert_array_equal(many[i], one[0])


def test_window_over_the_end_repeats_the_edge_and_says_so():
  _, windows, coverage = imu.cut(numbered_grid(), [-1.0, 9.5, 30.0], 2.0)
  np.testing.assert_allclose(coverage[:, 0], [0.5, 0.25, 0], atol=0.006)
  np.testing.assert_allclose(windows[0, :100, 0], 0, atol=0.01)
  np.testing.assert_allclose(windows[2, :, 0], 999, atol=0.01)


@FAST
@hypothesis.given(
  st.floats(-10, 10), st.floats(0, 60), st.floats(0.5, 9), st.floats(0.1, 9)
)
def test_strided_windows_fill_the_span_and_stay_inside(
  start, length, window_s, stride_s
):
  starts = imu.stride_starts((start, start + length), window_s, stride_s)
  if length < window_s - 1e-3:
    assert len(starts) == 0
  if len(starts):
    assert starts[0] == start
    assert starts[-1] + window_s <= start + length + 1e-3
    assert starts[-1] + stride_s + window_s > start + length - 1e-3


@FAST
@hypothesis.given(
  st.lists(st.floats(-5, 40), max_size=8), st.floats(1, 30), st.floats(1, 8)
)
def test_centred_windows_stay_inside(times, end, window_s):
  starts = imu.centred_starts(times, (0.0, end), window_s)
  if end < window_s - 1e-3:
    assert len(starts) == 0
  else:
    assert len(starts) == len(times)
    assert (starts >= 0).all()
    assert (starts + window_s <= max(end, window_s) + 1e-6).all()


def test_segments_are_cut_inside_themselves():
  starts, owner = imu.segment_starts(
    [(0, 12), (13, 15), (40, 50)], (0, 20), 5, 5
  )
  np.testing.assert_allclose(starts, [0, 5, 11.5])
  assert owner.tolist() == [0, 0, 1]


def test_window_of_no_sample_is_refused():
  with pytest.raises(ValueError, match=r"0\.001 s at 50 Hz"):
    imu.samples_in(0.001, 50)


# Uniform windows from one rate to another


def test_whole_windows_change_their_rate():
  t = np.arange(1000) / 200
  windows = np.stack(
    [np.tile(np.sin(2 * np.pi * f * t), (6, 1)).T for f in (1, 5)]
  )
  out = imu.resample_windows(windows, 200.0, 50.0)
  assert out.shape == (2, 250, 6)
  assert out.dtype == np.float32
  inner = slice(20, -20)
  np.testing.assert_allclose(
    out[:, inner], windows[:, ::4][:, inner], atol=2e-3
  )
  back = imu.resample_windows(out, 50.0, 200.0)
  np.testing.assert_allclose(back[:, 100:-100], windows[:, 100:-100], atol=0.01)


def test_equal_rates_change_nothing_and_empty_batches_pass():
  windows = np.random.default_rng(0).normal(size=(3, 50, 6)).astype(np.float32)
  assert imu.resample_windows(windows, 50.0, 50.0) is windows
  assert imu.resample_windows(windows[:0], 50.0, 25.0).shape[0] == 0


def test_each_window_is_resampled_for_itself():
  windows = np.random.default_rng(0).normal(size=(4, 5, 100, 6))
  out = imu.resample_windows(windows, 100.0, 40.0)
  assert out.shape == (4, 5, 40, 6)
  alone = imu.resample_windows(windows[2, 3], 100.0, 40.0)
  np.testing.assert_allclose(out[2, 3], alone, atol=1e-6)


# Frames of reference


def test_aria_axes_become_the_head_frame():
  # CPF: x left, y up, z forward. A wearer at rest feels gravity's reaction up.
  left, up, forward = np.eye(3)
  turned = [
    imu.to_head_frame(np.r_[axis, axis], "aria_cpf")[:3]
    for axis in (left, up, forward)
  ]
  np.testing.assert_array_equal(turned, [[1, 0, 0], [0, 0, 1], [0, -1, 0]])


@pytest.mark.parametrize(
  "frame", ["head", "gopro_camera", "aria_cpf", "device"]
)
def test_frames_are_rotations(frame):
  rng = np.random.default_rng(0)
  windows = rng.normal(size=(2, 7, 6))
  turned = imu.to_head_frame(windows, frame)
  for sensor in (slice(3), slice(3, 6)):
    a, b = windows[..., sensor], turned[..., sensor]
    np.testing.assert_allclose((a**2).sum(-1), (b**2).sum(-1), rtol=1e-5)
  x, y, z = imu.to_head_frame(np.c_[np.eye(3), np.eye(3)], frame)[:, :3]
  np.testing.assert_array_equal(np.cross(x, y), z)


def test_unknown_frame_is_named():
  with pytest.raises(ValueError, match="'sideways'"):
    imu.to_head_frame(np.zeros((1, 6)), "sideways")


@FAST
@hypothesis.example([0.0, 0.0, 2.75687457e-161])
@hypothesis.example([5e-324, 0.0, -5e-324])
@hypothesis.given(st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_gravity_alignment_is_a_rotation_that_lifts_gravity(up):
  up = np.array(up)
  windows = np.random.default_rng(0).normal(size=(5, 6))
  windows[0, :3] = up
  turned = imu.align_gravity(windows, up)
  products = [w[:, :3] @ w[:, :3].T for w in (windows, turned)]
  np.testing.assert_allclose(*products, atol=1e-4 * max(1, up @ up))
  if np.linalg.norm(up) > 1e-3:
    wanted = [0, 0, np.linalg.norm(up)]
    np.testing.assert_allclose(turned[0, :3], wanted, atol=1e-3)


def test_upside_down_and_unknown_gravity():
  windows = np.tile([0.0, 0.0, -9.8, 0.1, 0.2, 0.3], (2, 4, 1))
  turned = imu.align_gravity(windows, [[0, 0, -9.8], [np.nan, 0, 0]])
  np.testing.assert_allclose(
    turned[0, 0], [0, 0, 9.8, 0.1, -0.2, -0.3], rtol=1e-6
  )
  np.testing.assert_allclose(turned[1], windows[1], rtol=1e-6)


# Units


@pytest.mark.parametrize(
  ("size", "unit"), [(9.8, "m/s2"), (1.0, "g"), (0.71, "g"), (2.7, "unknown")]
)
def test_gravity_tells_the_unit(size, unit):
  rng = np.random.default_rng(0)
  accel = rng.normal(size=(100, 3)) * 0.01 + [0, size, 0]
  accel[::7] = np.nan
  assert imu.guess_accel_unit(accel) == unit
  assert imu.guess_accel_unit(np.full((3, 3), np.nan)) == "unknown"


def test_units_are_converted_or_named():
  assert imu.accel_to_si([1.0], "g") == pytest.approx(9.80665)
  assert imu.gyro_to_si([90.0], "deg/s") == pytest.approx(np.pi / 2)
  with pytest.raises(ValueError, match="'dps'"):
    imu.gyro_to_si([1.0], "dps")
