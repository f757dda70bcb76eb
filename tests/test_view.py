"""The .rrd file holds every sample, frame and word at its time."""

import dataclasses
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from imu2clip_jax import command, view
from imu2clip_jax.recordings import synthetic


@pytest.fixture(scope="module")
def recording():
  found = synthetic.open_synthetic(seed=1, wearer=3, duration_s=20.0)
  return dataclasses.replace(
    found, texts=[(2.0, 2.0, "stands up"), (5.0, 7.5, "walks")], labels=[]
  )


def chunks(path):
  """Entity -> {column: list}, time in seconds, read back by the SDK."""
  chunk = pytest.importorskip("rerun.chunk")  # 0.33 has it elsewhere
  found = {}
  for part in chunk.RrdReader(str(path)).stream():
    batch = part.to_record_batch()
    entity = found.setdefault(str(part.entity_path), {})
    for name in batch.schema.names:
      column = batch.column(name)
      if name == "time":
        column = column.cast("int64").to_numpy() / 1e9
      entity.setdefault(name, []).extend(
        column.tolist() if name == "time" else column.to_pylist()
      )
  return found


@pytest.fixture(scope="module")
def written(recording, tmp_path_factory):
  pytest.importorskip("rerun")
  out = tmp_path_factory.mktemp("view") / "a.rrd"
  segments = [
    {"start_s": 0.0, "end_s": 9.0, "label": "walking", "confidence": 0.75},
    {"start_s": 9.0, "end_s": 20.0, "label": "unknown", "confidence": 0.3},
  ]
  counts = view.write(recording, out, segments=segments, frame_pixels=16)
  return counts, chunks(out)


@pytest.mark.parametrize("sensor", ["accel", "gyro"])
def test_every_sample_is_there_as_stored(recording, written, sensor):
  counts, found = written
  entity = found[f"/imu/{sensor}"]
  times_s = getattr(recording.imu, f"{sensor}_t_s")
  values = getattr(recording.imu, sensor)
  assert counts[sensor] == len(values) > 1000
  order = np.argsort(times_s, kind="stable")
  got = np.argsort(entity["time"], kind="stable")
  np.testing.assert_allclose(
    np.array(entity["time"])[got], times_s[order], atol=1e-8
  )
  scalars = next(v for k, v in entity.items() if "scalars" in k)
  scalars = [row for row in scalars if row is not None]
  np.testing.assert_allclose(np.array(scalars)[got], values[order])


def test_frames_are_small_and_at_their_times(recording, written):
  counts, found = written
  times_s = found["/video"]["time"]
  assert counts["frames"] == len(times_s)
  assert 38 <= len(times_s) <= 41  # two a second
  (name,) = [name for name in found["/video"] if name.endswith("blob")]
  image = Image.open(io.BytesIO(bytes(found["/video"][name][5][0])))
  assert image.size == (16, 16)
  want = Image.fromarray(recording.frames([times_s[5]])[0]).resize((16, 16))
  difference = np.abs(np.asarray(image, int) - np.asarray(want, int)).mean()
  assert difference < 12


def test_words_and_segments_stand_where_they_begin(written):
  counts, found = written
  assert counts["texts"] == 2
  texts = found["/texts"]
  assert texts["time"] == [2.0, 5.0]
  (name,) = [name for name in texts if name.endswith("text")]
  assert texts[name] == [["stands up"], ["walks (5.0-7.5 s)"]]
  assert found["/timeline"]["time"] == [0.0, 9.0]
  (name,) = [name for name in found["/timeline"] if name.endswith("state")]
  assert found["/timeline"][name] == [["walking (0.75)"], ["unknown (0.30)"]]


def test_a_recording_of_motion_alone(recording, tmp_path):
  pytest.importorskip("rerun")
  imu = recording.imu
  times_s = imu.accel_t_s.copy()
  times_s[:3] = np.nan
  only = dataclasses.replace(
    recording,
    video=None,
    texts=[],
    imu=dataclasses.replace(imu, accel_t_s=times_s),
  )
  counts = view.write(only, tmp_path / "a.rrd")
  assert counts["accel"] == len(times_s) - 3
  assert (counts["frames"], counts["texts"], counts["segments"]) == (0, 0, 0)
  assert set(chunks(tmp_path / "a.rrd")) >= {"/imu/accel", "/imu/gyro"}


def test_nothing_is_left_when_a_frame_fails(recording, tmp_path):
  pytest.importorskip("rerun")

  class Broken:
    start_s, end_s = 0.0, 10.0

    def times_s(self, start_s, end_s):
      return np.arange(0.0, 10.0, 0.1)

    def frames(self, times_s):
      raise ValueError("clip.mp4: cannot be read as video")

  broken = dataclasses.replace(recording, video=Broken())
  with pytest.raises(ValueError, match=r"clip\.mp4"):
    view.write(broken, tmp_path / "a.rrd")
  assert not list(tmp_path.iterdir())


def test_frames_are_thinned_to_stamps_that_there_are(recording):
  times_s = view.frame_times(recording, 2.0)
  there = recording.video.times_s(
    recording.video.start_s, recording.video.end_s
  )
  assert np.isin(times_s, there).all()
  assert (np.diff(times_s) > 0.3).all()
  every = view.frame_times(recording, 1e6)
  np.testing.assert_array_equal(every, there)


def test_without_the_extra_one_line_says_what_to_install(
  recording, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, "rerun", None)
  with pytest.raises(ValueError, match=r"pip install 'imu2clip-jax\[view\]'"):
    view.write(recording, tmp_path / "a.rrd")


@pytest.mark.parametrize(
  "text", ["", "[]", '{"segments": [{"label": "walking"}]}']
)
def test_another_document_is_no_timeline(tmp_path, text):
  (tmp_path / "t.json").write_text(text)
  with pytest.raises(ValueError, match=r"t\.json is not what"):
    view.read_segments(tmp_path / "t.json")


def test_options_out_of_bounds(recording, tmp_path):
  with pytest.raises(ValueError, match="frames_hz is -1"):
    view.write(recording, tmp_path / "a.rrd", frames_hz=-1.0)


def test_the_verb_on_a_raw_gopro_file(samples, tmp_path, capsys):
  pytest.importorskip("rerun")
  path = samples / "gopro_karma" / "karma.mp4"
  if not path.is_file():
    pytest.skip(f"no {path}")
  out = tmp_path / "karma.rrd"
  argv = [str(path), f"--out={out}", "--frames_hz=0.5", "--json"]
  assert command.run(view.main, argv) == 0
  counts = json.loads(capsys.readouterr().out)
  assert counts["accel"] == 2397
  assert counts["gyro"] == 4795
  assert counts["frames"] >= 6
  assert out.stat().st_size == counts["bytes"]
  assert command.run(view.main, ["missing.mp4"]) == 1
  assert "missing.mp4" in capsys.readouterr().err
