"""Names taught by example: kept, found again, refused and forgotten."""

import json

import numpy as np
import pytest
import safetensors.numpy

from imu2clip_jax import cli, runs, taught, teach


def unit(seed=0, rows=3, dim=5):
  x = np.random.default_rng(seed).normal(size=(rows, dim))
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_prototype_is_the_unit_mean():
  x = unit()
  mean = x.mean(0)
  np.testing.assert_allclose(
    taught.prototype(x), mean / np.linalg.norm(mean), rtol=1e-6
  )
  with pytest.raises(ValueError, match="one example or more"):
    taught.prototype(x[:0])
  with pytest.raises(ValueError, match="cancel out"):
    taught.prototype(np.stack([x[0], -x[0]]))


def test_names_come_back_and_are_replaced(tmp_path):
  names = ["tying shoes", "Tying Shoes", "tying/shoes", "靴紐"]
  for i, name in enumerate(names):
    taught.save(tmp_path, name, unit(i)[0], [{"path": str(i)}], "e", "t")
  found = taught.load(tmp_path, "e", "t")
  assert sorted(found) == sorted(names)
  for i, name in enumerate(names):
    np.testing.assert_allclose(found[name]["prototype"], unit(i)[0], rtol=1e-6)
    assert found[name]["examples"] == [{"path": str(i)}]
  taught.save(tmp_path, names[0], unit(9)[0], [], "e", "t")
  assert len(taught.load(tmp_path, "e", "t")) == 4
  taught.forget(tmp_path, names[0])
  assert sorted(taught.load(tmp_path, "e", "t")) == sorted(names[1:])
  with pytest.raises(ValueError, match="nothing named 'tying shoes'"):
    taught.forget(tmp_path, names[0])
  with pytest.raises(ValueError, match="empty"):
    taught.save(tmp_path, " ", unit()[0], [], "e", "t")


@pytest.mark.parametrize("other", [("f", "t"), ("e", "f")])
def test_another_encoders_prototype_is_refused(tmp_path, other):
  taught.save(tmp_path, "hop", unit()[0], [], "e", "t")
  with pytest.raises(ValueError, match="'hop' was taught to another"):
    taught.load(tmp_path, *other)
  taught.forget(tmp_path, "hop")
  assert taught.load(tmp_path, *other) == {}


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"\x80\x04]",
    safetensors.numpy.save({"prototype": np.ones(3, np.float32)}),
    safetensors.numpy.save({"other": np.ones(3, np.float32)}, {"name": "x"}),
  ],
)
def test_a_damaged_file_is_named(tmp_path, content):
  path = taught.save(tmp_path, "hop", unit()[0], [], "e", "t")
  path.write_bytes(content)
  with pytest.raises(ValueError, match="is damaged"):
    taught.load(tmp_path, "e", "t")


def test_an_example_counts_once_however_long(workdir, recording):
  run = runs.open_run(workdir)
  places = [f"{recording}:0-5", f"{recording}:40-80"]
  found = teach.teach(run, "both", places)
  alone = []
  for place in places:
    teach.teach(run, "one", [place])
    again = runs.open_run(workdir)
    alone.append(again.taught["one"]["prototype"])
  mean = taught.prototype(np.stack(alone))
  both = runs.open_run(workdir).taught["both"]["prototype"]
  np.testing.assert_allclose(both, mean, atol=1e-5)
  assert [e["windows"] for e in found["examples"]] == [1, 15]
  assert found["windows"] == 16
  assert 0 < found["agreement"] <= 1.0001


def test_the_verb_teaches_lists_and_forgets(workdir, recording, capsys):
  base = ["teach", f"--workdir={workdir}"]
  assert cli.main([*base, "--list"]) == 0
  assert "nothing was taught" in capsys.readouterr().out
  example = f"--example={recording}:12.0-17.0"
  assert cli.main([*base, "tying shoes", example]) == 0
  assert "1 examples, 1 windows" in capsys.readouterr().out
  assert cli.main([*base, "--list"]) == 0
  out = capsys.readouterr().out
  assert "tying shoes" in out
  assert "test 0:12.0" in out
  assert cli.main([*base, "--list", "--json"]) == 0
  (entry,) = json.loads(capsys.readouterr().out)["tying shoes"]
  assert (entry["start_s"], entry["end_s"]) == (12.0, 17.0)
  assert cli.main([*base, "--forget", "tying shoes"]) == 0
  assert "forgot" in capsys.readouterr().out
  assert not list((workdir / "taught").iterdir())


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    ([], "give one of NAME"),
    (["a", "--list"], "give one of NAME"),
    (["a"], "--example is missing"),
    (["a", "--example=absent.csv:1-2"], "absent.csv"),
    (["a", "--example=REC:90-300"], "is not inside its IMU"),
    (["a", "--example=REC:1-9", "--example=REC:9-1"], "ends before"),
    (["--forget=b"], "nothing named 'b'"),
  ],
)
def test_bad_input_is_one_line_and_teaches_nothing(
  workdir, recording, arguments, says, capsys
):
  arguments = [a.replace("REC", str(recording)) for a in arguments]
  assert cli.main(["teach", f"--workdir={workdir}", *arguments]) == 1
  assert says in capsys.readouterr().err
  assert not (workdir / "taught").exists()
