"""Project Aria: the published Gen 1 clips, against their documented numbers."""

import importlib.util
import pathlib
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imu2clip_jax import build
from imu2clip_jax import imu as imu_lib
from imu2clip_jax.data import builder, windows
from imu2clip_jax.recordings import aria, opening


@pytest.fixture
def clips(samples):
  if importlib.util.find_spec("projectaria_tools") is None:
    pytest.skip("projectaria-tools is not installed")
  return samples / "aria_gen1_samples"


AEA = "aria_everyday_activities"
ADT = "aria_digital_twin/video.vrs"


@pytest.mark.parametrize(
  ("name", "label", "count", "rate_hz", "lasts_s", "mean"),
  [
    (AEA, "imu-left", 319, 798.2, 0.398, (1.99, 9.41, -1.34)),
    (AEA, "imu-right", 400, 1001.1, 0.399, (2.12, 9.35, -1.30)),
    (ADT, "imu-left", 79, 794.7, 0.098, (-0.01, 8.93, -3.12)),
    (ADT, "imu-right", 99, 1002.2, 0.098, (0.01, 9.03, -2.95)),
  ],
)
def test_imu_of_both_clips(clips, name, label, count, rate_hz, lasts_s, mean):
  imu = aria.open_aria(clips / name, imu=label).imu
  assert imu.accel.shape == imu.gyro.shape == (count, 3)
  assert imu.frame == "aria_cpf"
  spans_s = np.ptp(imu.accel_t_s)
  assert spans_s == pytest.approx(lasts_s, abs=6e-4)
  assert (count - 1) / spans_s == pytest.approx(rate_hz, abs=0.06)
  np.testing.assert_allclose(imu.accel.mean(axis=0), mean, atol=5.1e-3)
  assert np.linalg.norm(imu.gyro, axis=1).max() < 5


@pytest.mark.parametrize(
  ("name", "label", "mean", "norm"),
  [
    (AEA, "imu-left", (2.583, -9.299, 1.162), 9.853),
    (AEA, "imu-right", (-8.703, -0.862, 4.094), 9.780),
    (ADT, "imu-left", (2.171, -8.314, 3.614), 9.326),
    (ADT, "imu-right", (-8.562, 1.422, 4.001), 9.562),
  ],
)
def test_raw_samples_before_rectification(
  clips, monkeypatch, name, label, mean, norm
):
  raw = []
  monkeypatch.setattr(
    aria, "_affine", lambda function, values: raw.append(values) or values
  )
  aria.open_aria(clips / name, imu=label)
  np.testing.assert_allclose(raw[0].mean(axis=0), mean, atol=5.1e-4)
  norms = np.linalg.norm(raw[0], axis=1)
  assert norms.mean() == pytest.approx(norm, abs=5.1e-4)


def test_rectification_is_affine(clips):
  vrs = aria.Vrs(clips / ADT)
  sensor = vrs._file.get_device_calibration().get_imu_calib("imu-left")
  values = np.random.default_rng(0).normal(0, 8, (50, 3))
  for function in (sensor.raw_to_rectified_accel, sensor.raw_to_rectified_gyro):
    one_by_one = np.stack([function(v) for v in values])
    np.testing.assert_allclose(
      aria._affine(function, values), one_by_one, atol=1e-9
    )


@pytest.mark.parametrize("name", [AEA, ADT])
def test_both_imus_agree_in_the_head(clips, name):
  means = []
  for label in ("imu-left", "imu-right"):
    imu = aria.open_aria(clips / name, imu=label).imu
    both = np.hstack([imu.accel, imu.gyro])
    means.append(imu_lib.to_head_frame(both, imu.frame).mean(axis=0))
  np.testing.assert_allclose(means[0][:3], means[1][:3], atol=0.2)
  np.testing.assert_allclose(means[0][3:], means[1][3:], atol=0.1)
  assert means[0][2] > 8.5  # z is up


def test_clocks(clips):
  vrs = aria.Vrs(clips / AEA / "recording.vrs")
  assert vrs.imu("imu-right")[0][0] == 86347942362
  assert vrs.imu("imu-left")[0][0] == 86348264162
  times_ns = vrs.rgb_times_ns()
  assert (len(times_ns), times_ns[0]) == (8, 86385246037)
  assert 7e9 / np.ptp(times_ns) == pytest.approx(20, abs=0.05)
  times_ns = aria.Vrs(clips / ADT).rgb_times_ns()
  assert (len(times_ns), times_ns[0]) == (3, 87551170813262)
  assert 2e9 / np.ptp(times_ns) == pytest.approx(30, abs=0.05)
  recording = aria.open_aria(clips / AEA)
  assert recording.imu.accel_t_s[0] == pytest.approx(-0.0370, abs=1e-4)
  assert recording.video.start_s == 0


@pytest.mark.parametrize(
  ("name", "first_ns", "last_ns"),
  [
    (AEA + "/recording.vrs", 86347942362, 86750047264),
    (ADT, 87551142645975, 87551240797212),
  ],
)
def test_nothing_lies_outside_the_files_span(clips, name, first_ns, last_ns):
  vrs = aria.Vrs(clips / name)
  times_ns = np.concatenate(
    [
      vrs.imu("imu-left")[0],
      vrs.imu("imu-right")[0],
      vrs.rgb_times_ns(),
    ]
  )
  assert times_ns.min() == first_ns
  assert times_ns.max() <= last_ns


@pytest.mark.parametrize(
  ("name", "first_ns", "last_ns"),
  [
    (AEA + "/recording.vrs", 86347942362, 86750047264),
    (ADT, 87551142645975, 87551240797212),
  ],
)
def test_streams_and_span_of_the_readme(clips, name, first_ns, last_ns):
  from projectaria_tools.core.sensor_data import TimeDomain

  file = aria.Vrs(clips / name)._file
  clock = TimeDomain.DEVICE_TIME
  assert file.get_first_time_ns_all_streams(clock) == first_ns
  assert file.get_last_time_ns_all_streams(clock) == last_ns
  for label, stream in (
    ("camera-rgb", "214-1"),
    ("imu-right", "1202-1"),
    ("imu-left", "1202-2"),
  ):
    assert str(file.get_stream_id_from_label(label)) == stream
  assert aria.open_aria(clips / name).frames([0.0]).shape == (1, 1408, 1408, 3)


@pytest.mark.parametrize("name", [AEA, ADT])
def test_clips_shorter_than_a_window_say_so_or_are_padded(clips, name):
  recording = aria.open_aria(clips / name)
  cut = windows.cut_recording(recording, windows.Options(num_frames=0))
  assert (cut.records, dict(cut.dropped)) == ([], {"no window fits": 1})
  options = windows.Options(num_frames=0, pad_short=True)
  (record,) = windows.cut_recording(recording, options).records
  assert record["imu"].shape == (1000, 6)
  assert record["coverage"] < 0.1


def test_frames_are_nearest_and_upright(clips):
  vrs = aria.Vrs(clips / AEA / "recording.vrs")
  stored, _ = vrs._file.get_image_data_by_index(
    vrs._file.get_stream_id_from_label("camera-rgb"), 3
  )
  recording = aria.open_aria(clips / AEA)
  images = recording.frames([0.16, 0.0, 0.14])
  assert images.shape == (3, 1408, 1408, 3)
  assert images.dtype == np.uint8
  # Generation 1 stores its pictures on their side.
  upright = np.rot90(stored.to_numpy_array(), -1)
  np.testing.assert_array_equal(images[0], upright)
  np.testing.assert_array_equal(images[2], upright)
  assert (images[1] != images[0]).any()
  with pytest.raises(ValueError, match="outside the video"):
    recording.frames([0.5])


def test_a_clip_shorter_than_a_window_has_no_text_and_low_coverage(clips):
  recording = aria.open_aria(clips / AEA)
  assert recording.texts == []  # all words were spoken after the clip
  window = recording.window(0.1, 5.0)
  assert window["texts"] == []
  assert window["coverage"] < 0.1


def test_speech_of_the_sample(clips):
  words = aria.read_words(clips / AEA / "speech.csv")
  assert len(words) == 13
  assert words[0][0] == 101_217_000_000
  assert words[-1][1] == 198_937_000_000
  spoken = [text for _, _, text in aria.sentences(words)]
  assert spoken == [
    "and",
    "what is there like looking at?",
    "I'm in the masters, right now.",
  ]
  sure = [text for _, _, text in aria.sentences(words, 0.5)]
  assert sure == ["what is there looking", "in the masters, right now."]


def test_open_recording_knows_files_and_folders(clips):
  assert len(opening.open_recording(clips / AEA).imu.accel) == 319
  assert len(opening.open_recording(clips / ADT).imu.accel) == 79


def test_nothing_is_printed(clips, capfd):
  aria.open_aria(clips / AEA).frames([0.0])
  captured = capfd.readouterr()
  assert captured.out == ""
  assert captured.err == ""


def test_find_splits_by_location(clips, tmp_path):
  for k in range(1, 4):
    for take in (1, 2):
      folder = tmp_path / f"loc{k}_script1_seq1_rec{take}"
      shutil.copytree(clips / AEA, folder)
      (folder / "metadata.json").write_text(f'{{"location": {k}}}')
  shutil.copy(clips / ADT, tmp_path / "twin.vrs")
  entries = aria.find(tmp_path, imu="imu-right")
  assert len({e.recording_id for e in entries}) == 7
  assert {e.wearer_id for e in entries} == {
    "location_1",
    "location_2",
    "location_3",
    "twin",
  }
  assert len({(e.wearer_id, e.split) for e in entries}) == 4
  opened = entries[0].open()
  assert opened.recording_id == "loc1_script1_seq1_rec1"
  assert len(opened.imu.accel) == 400


class _FakeFile:
  """The calls of a VRS provider that `Vrs.rgb` makes."""

  def __init__(self, version):
    self.version = version

  def get_stream_id_from_label(self, label):
    return label

  def check_stream_is_active(self, stream):
    return True

  def get_image_data_by_index(self, stream, index):
    return self, None

  def is_valid(self):
    return True

  def to_numpy_array(self):
    return np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

  def get_device_version(self):
    return type("Version", (), {"name": self.version})


@pytest.mark.parametrize(
  ("version", "shape"), [("Gen1", (4, 2, 3)), ("Gen2", (2, 4, 3))]
)
def test_only_generation_1_lies_on_its_side(version, shape):
  vrs = object.__new__(aria.Vrs)
  vrs._file = _FakeFile(version)
  assert vrs.rgb(0).shape == shape


def test_missing_package_and_files_are_named(tmp_path, monkeypatch):
  with pytest.raises(FileNotFoundError, match="nowhere"):
    aria.open_aria(tmp_path / "nowhere.vrs")
  with pytest.raises(FileNotFoundError, match="expected one of recording"):
    aria.open_aria(tmp_path)
  with pytest.raises(FileNotFoundError, match="no \\.vrs file"):
    aria.find(tmp_path)
  path = tmp_path / "a.vrs"
  path.write_bytes(b"no VRS")
  monkeypatch.setitem(sys.modules, "projectaria_tools.core", None)
  with pytest.raises(ValueError, match="pip install --no-deps projectaria"):
    aria.open_aria(path)


def test_damage_is_named(clips, tmp_path):
  path = tmp_path / "a.vrs"
  path.write_bytes(b"no VRS at all" * 100)
  with pytest.raises(ValueError, match=r"a\.vrs: projectaria-tools cannot"):
    aria.open_aria(path)
  with pytest.raises(ValueError, match="no samples of 'imu-middle'"):
    aria.open_aria(clips / ADT, imu="imu-middle")


words = st.lists(
  st.tuples(
    st.integers(0, 10**10),
    st.sampled_from(["yes", "no.", "what?", "well"]),
    st.floats(0, 1),
  ),
  max_size=12,
)


@given(words, st.floats(0, 1))
def test_sentences_keep_every_sure_word_in_order(spoken, min_confidence):
  spoken = sorted((t, t + 10**8, word, sure) for t, word, sure in spoken)
  found = aria.sentences(spoken, min_confidence)
  kept = [word for _, _, word, sure in spoken if sure >= min_confidence]
  assert " ".join(text for _, _, text in found).split() == kept
  for begin, end, text in found:
    assert end >= begin
    assert not any(w[-1] in ".?" for w in text.split()[:-1])


def test_clips_are_built_where_the_window_is_short_enough(clips, tmp_path):
  dataset = pathlib.Path(__file__).parents[1] / "datasets" / "aria_imu"
  short = {"window_s": 0.05, "stride_s": 0.05}
  summary = build.build(
    dataset, clips, tmp_path, workers=0, window_options=short
  )
  assert summary["failed"] == {}
  found = builder.open_windows(tmp_path, "train")
  assert found[0]["imu"][:, 2].mean() > 8.5  # the head frame's z is up
  with pytest.raises(ValueError, match="no window fits"):
    build.build(dataset, clips, tmp_path / "long", workers=0)
