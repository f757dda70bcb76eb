"""Segments, their files, and what a user can ask for."""

import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imu2clip_jax import cli, runs, teach, timeline, timeline_text

OPTIONS = {"scale": 20.0, "hop_s": 1.0, "mean_stay_s": 20.0}
OPTIONS |= {"min_confidence": 0.4}


def similarities(states, names=3, sure=0.8):
  found = np.full((len(states), names), 0.1)
  found[np.arange(len(states)), states] = sure
  return found


def test_a_blip_is_smoothed_away_and_a_change_is_kept():
  states = [0] * 20 + [1] * 15
  scores = similarities(states)
  scores[7] = [0.1, 0.15, 0.1]
  found = timeline.segments(scores, ["walk", "sit", "run"], **OPTIONS)
  assert [(s["start_s"], s["end_s"], s["label"]) for s in found] == [
    (0.0, 20.0, "walk"),
    (20.0, 35.0, "sit"),
  ]
  assert found[0]["runner_up"] == "sit"
  assert found[1]["confidence"] > 0.99


def test_what_is_not_sure_or_not_measured_is_unknown():
  scores = similarities([0] * 10 + [1] * 10 + [2] * 10)
  scores[10:20] = 0.1
  scores[20:] = np.nan
  found = timeline.segments(scores, ["walk", "sit", "run"], **OPTIONS)
  assert found[0]["label"] == "walk"
  flat = found[0]["end_s"] - 10
  assert flat in (0, 10)  # nothing says where it ends
  assert found[-1]["label"] == "unknown"
  assert found[-1]["guess"] is None
  assert found[-1]["confidence"] == 0
  low = timeline.segments(
    np.full((5, 3), 0.1), ["walk", "sit", "run"], **OPTIONS
  )
  assert [s["label"] for s in low] == ["unknown"]
  assert low[0]["confidence"] == pytest.approx(1 / 3)
  assert low[0]["guess"] == "walk"


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.floats(0, 1))
def test_segments_cover_all_steps_once(states, sure):
  found = timeline.segments(
    similarities(states, sure=sure), ["a", "b", "c"], **OPTIONS
  )
  ends = [0.0, *(s["end_s"] for s in found)]
  assert [s["start_s"] for s in found] == ends[:-1]
  assert ends[-1] == len(states)
  assert all(0 <= s["confidence"] <= 1 for s in found)
  assert all(s["runner_up"] != s["guess"] for s in found)


def document(**changes):
  parts = [
    (-2.0, 3.5, "walking", 0.9, "walking"),
    (3.5, 3725.25, "a <b> & c|d\nline", 0.5, "a <b> & c|d\nline"),
    (3725.25, 3730.0, "unknown", 0.2, "running"),
    (3730.0, 3731.0, "unknown", 0.0, None),
  ]
  return {
    "recording_id": "day_1",
    "path": "day_1.csv",
    "start_s": -2.0,
    "end_s": 3731.0,
    "hop_s": 1.0,
    "labels": ["walking", "running"],
    "segments": [
      {
        "start_s": start_s,
        "end_s": end_s,
        "label": label,
        "confidence": confidence,
        "guess": guess,
        "runner_up": "running" if guess else None,
        "runner_up_confidence": 0.05 if guess else 0.0,
      }
      for start_s, end_s, label, confidence, guess in parts
    ],
  } | changes


def test_subtitles_have_their_formats_and_begin_with_the_video():
  cues = timeline_text.srt(document()).split("\n\n")
  assert cues[0] == "1\n00:00:00,000 --> 00:00:03,500\nwalking (90%)"
  assert cues[1].startswith("2\n00:00:03,500 --> 01:02:05,250\n")
  assert len(cues[1].splitlines()) == 3
  text = timeline_text.vtt(document())
  assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:03.500\n")
  assert "a &lt;b&gt; &amp; c|d line (50%)" in text
  assert text.count("-->") == 4
  early = document()
  early["segments"][0]["end_s"] = -1.0
  assert timeline_text.srt(early).count("-->") == 3


def test_markdown_has_segments_and_totals():
  text = timeline_text.markdown(document())
  assert "| -0:02.0 | 0:03.5 | walking | 0.90 |" in text
  assert "a <b> & c\\|d line" in text
  assert "| unknown (running?) | 0.20 |" in text
  assert "| unknown | 0:05.8 | 0% |" in text
  rows = [line for line in text.splitlines() if line.startswith("|")]
  assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4, 5}


def test_the_log_for_a_language_model_is_grounded():
  told = [{"start_s": 1.0, "end_s": 1.0, "text": "C picks\nup a cup"}]
  text = timeline_text.for_llm(document(narrations=told))
  lines = text.splitlines()
  body = lines[lines.index("") + 1 :]
  assert body[0] == "[-0:02.0 - 0:03.5] walking (0.90; running 0.05)"
  assert body[1] == '[0:01.0 - 0:01.0] narration: "C picks up a cup"'
  assert body[3].endswith("unknown (running 0.20; running 0.05)")
  assert body[4].endswith("unknown (no sensor measured)")
  assert "walking; running" in text
  assert "Narrations were recorded with it; nothing else here was seen" in text
  assert "Nothing here was seen" in timeline_text.for_llm(document())


def test_the_verb_writes_four_files(workdir, recording, capsys):
  asked = ["timeline", f"--workdir={workdir}", str(recording)]
  assert cli.main(asked) == 0
  out = capsys.readouterr().out
  folder = workdir / "timeline" / "test"
  assert {p.name for p in folder.iterdir()} == {
    f"timeline.{suffix}" for suffix in ("md", "json", "srt", "vtt")
  }
  found = json.loads((folder / "timeline.json").read_text())
  assert found["end_s"] - found["start_s"] == pytest.approx(100, abs=1.0)
  assert found["segments"][-1]["end_s"] == found["end_s"]
  assert "activity" in out
  assert str(folder / "timeline.vtt") in out
  # Activities that training left out are no names by default.
  assert "walking" in found["labels"] or len(found["labels"]) > 2
  assert "raking leaves" not in found["labels"]


def test_recordings_of_one_name_keep_their_timelines(workdir, recording):
  folder = workdir / "timeline"
  other = workdir / "other" / recording.name
  other.parent.mkdir()
  shutil.copy(recording, other)
  for path in (recording, other, recording, other):
    assert cli.main(["timeline", f"--workdir={workdir}", str(path)]) == 0
  found = {
    json.loads((place / "timeline.json").read_text())["path"]
    for place in folder.iterdir()
  }
  assert found == {str(recording), str(other)}
  assert len(list(folder.iterdir())) == 2


def test_the_users_own_names_and_folder(workdir, recording, tmp_path, capsys):
  (tmp_path / "names.txt").write_text("\ufeffdancing\n\nsleeping\n")
  asked = [
    "timeline",
    f"--workdir={workdir}",
    str(recording),
    "--labels=walking; dancing",
    f"--labels_file={tmp_path / 'names.txt'}",
    f"--out={tmp_path / 'out'}",
    "--hop=2.5",
  ]
  assert cli.main([*asked, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["labels"] == ["walking", "dancing", "sleeping"]
  assert found == json.loads((tmp_path / "out" / "timeline.json").read_text())
  assert cli.main([*asked, "--for-llm"]) == 0
  assert "walking; dancing; sleeping" in capsys.readouterr().out


def test_a_cache_that_is_gone_is_written_again(workdir, tmp_path):
  run = runs.open_run(workdir)
  names = timeline.vocabulary(run)
  about = json.loads((workdir / "run.json").read_text())
  about["cache_dir"] = str(tmp_path / "gone")
  (workdir / "run.json").write_text(json.dumps(about))
  again = runs.open_run(workdir)
  assert timeline.vocabulary(again) == names
  assert again.cache_dir == run.cache_dir


def test_taught_names_join_the_vocabulary(workdir, recording):
  teach.teach(runs.open_run(workdir), "my dance", [f"{recording}:30-45"])
  run = runs.open_run(workdir)
  assert "my dance" in timeline.timeline(run, recording)["labels"]
  found = timeline.timeline(run, recording, ["my dance", "walking"])
  at_37 = next(s for s in found["segments"] if s["start_s"] <= 37 < s["end_s"])
  assert at_37["guess"] == "my dance"


def test_a_gap_in_the_signal_is_unknown(workdir, recording, tmp_path):
  arrays = dict(np.load(recording))
  stamps = arrays["t_s"]
  lost = (stamps > 40) & (stamps < 60)
  np.savez(tmp_path / "gap.npz", **{k: v[~lost] for k, v in arrays.items()})
  found = timeline.timeline(runs.open_run(workdir), tmp_path / "gap.npz")
  at_50 = next(s for s in found["segments"] if s["start_s"] <= 50 < s["end_s"])
  assert at_50["guess"] is None
  assert at_50["start_s"] == pytest.approx(40, abs=2)
  assert at_50["end_s"] == pytest.approx(60, abs=2)


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    (["REC", "--labels=one"], "two different names"),
    (["REC", "--hop=0"], "--hop is 0"),
    (["REC", "--hop=9"], "--hop is 9"),
    (["REC", "--hop=1e-9"], "a sample of the encoder or more"),
    (["REC", "--mean_stay=1"], "--mean_stay is 1"),
    (["REC", "--mean_stay=inf"], "--mean_stay is inf"),
    (["REC", "--labels_file=REC"], "is not UTF-8"),
    (["REC", "--min_confidence=2"], "--min_confidence is 2"),
    (["REC", "--labels_file=absent"], "no file absent"),
    (["absent.csv"], "absent.csv"),
  ],
)
def test_bad_input_is_one_line(workdir, recording, arguments, says, capsys):
  arguments = [a.replace("REC", str(recording)) for a in arguments]
  assert cli.main(["timeline", f"--workdir={workdir}", *arguments]) == 1
  assert says in capsys.readouterr().err
  assert not (workdir / "timeline").exists()


def test_a_gopro_video_has_a_timeline(samples, workdir, capsys):
  path = samples / "gopro_karma" / "karma.mp4"
  assert cli.main(["timeline", f"--workdir={workdir}", str(path)]) == 0
  found = json.loads(
    (workdir / "timeline" / "karma" / "timeline.json").read_text()
  )
  assert found["end_s"] == pytest.approx(12.0, abs=0.2)
