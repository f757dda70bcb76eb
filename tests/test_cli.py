import json
import re
import subprocess
import sys
import warnings

import pytest

import imu2clip_jax
from imu2clip_jax import cli, command


def run_cli(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "imu2clip_jax.cli", *arguments],
    capture_output=True,
    text=True,
  )


def test_version_and_usage(capsys):
  assert cli.main(["--version"]) == 0
  assert imu2clip_jax.__version__ in capsys.readouterr().out
  assert cli.main(["--help"]) == 0
  out = capsys.readouterr().out
  for verb in cli.VERBS:
    assert verb in out


def test_an_unknown_verb_is_named(capsys):
  assert cli.main(["trian"]) == 2
  assert "no verb 'trian'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_helps_with_an_example(verb, capsys):
  with pytest.raises(SystemExit) as stop:
    cli.main([verb, "--help"])
  assert stop.value.code == 0
  out = capsys.readouterr().out
  assert "example:" in out
  assert f"imu2clip {verb}" in out.split("example:")[1]


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_json_as_a_bare_switch(verb, capsys):
  with pytest.raises(SystemExit):
    cli.main([verb, "--help"])
  assert re.search(r"^ +--json( {2}|$)", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    (["train"], "--config is missing"),
    (["train", "--config=absent.py", "--workdir=x"], "no file absent.py"),
    (["evaluate", "--workdir=absent"], "absent"),
    (["embed", "--data_dir=absent", "--clip=absent"], "absent"),
    (["build", "absent", "--data_dir=x"], "absent"),
  ],
)
def test_bad_input_is_one_line_and_exit_code_1(
  arguments, says, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  assert cli.main(arguments) == 1
  err = capsys.readouterr().err
  assert says in err
  assert err.count("\n") == 1
  assert "Traceback" not in err
  assert not list(tmp_path.iterdir())


def test_a_defect_keeps_its_traceback():
  def broken(argv):
    raise KeyError("a defect")

  with pytest.raises(KeyError):
    command.run(broken)


def test_an_interrupt_says_how_to_go_on(capsys):
  def interrupted(argv):
    raise KeyboardInterrupt

  assert command.run(interrupted) == 130
  assert "goes on from here" in capsys.readouterr().err


def test_the_module_runs_as_a_program():
  done = run_cli("--version")
  assert done.returncode == 0
  assert done.stdout.strip().endswith(imu2clip_jax.__version__)


def test_a_warning_is_one_line_without_a_place_in_the_code(capsys):
  def warn(argv):
    del argv
    warnings.warn("a.csv: an axis\n  was lost", stacklevel=1)

  with warnings.catch_warnings():
    warnings.simplefilter("always")
    before = warnings.showwarning
    assert command.run(warn) == 0
    assert warnings.showwarning is before
  expected = "imu2clip: warning: a.csv: an axis was lost\n"
  assert capsys.readouterr().err == expected


def test_text_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / "x.json"
  command.write_text(path, json.dumps([1]))
  with pytest.raises(UnicodeEncodeError):
    command.write_text(path, "half a \ud800")
  assert json.loads(path.read_text()) == [1]
  assert list(tmp_path.iterdir()) == [path]
  (tmp_path / "folder").mkdir()
  for place in (tmp_path / "folder", tmp_path / "none" / "x.json"):
    with pytest.raises(OSError, match=f"'{place}'"):
      command.write_text(place, "text")
  assert sorted(tmp_path.iterdir()) == [tmp_path / "folder", path]
