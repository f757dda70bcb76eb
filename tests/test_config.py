import json
import pathlib

import pytest

from imu2clip_jax import config, train


def test_json_brings_every_option_back():
  c = config.default()
  c.data.held_out_labels = ("rowing", "hammering")
  c.optim.learning_rate = 1e-3
  assert config.from_json(config.to_json(c)) == c


def test_an_unknown_option_in_json_is_named():
  document = json.loads(config.to_json(config.default()))
  document["optim"]["lerning_rate"] = 1.0
  with pytest.raises(ValueError, match=r"config\.optim\.lerning_rate: no such"):
    config.from_json(json.dumps(document))


@pytest.mark.parametrize(
  ("group", "option", "value"),
  [
    (None, "variant", "imu_audio"),
    ("loss", "objective", "hinge"),
    ("optim", "learning_rate", 0.0),
    ("loss", "initial_scale", 1000.0),
    ("train", "steps", -1),
  ],
)
def test_values_out_of_range_are_named(group, option, value):
  c = config.default()
  (c[group] if group else c)[option] = value
  with pytest.raises(ValueError, match=group or option):
    config.check(c)


def test_a_share_above_one_is_refused():
  c = config.default()
  c.augment.mirror = 1.5
  with pytest.raises(ValueError, match=r"config\.augment\.mirror is 1\.5"):
    config.check(c)


def test_simclr_asks_for_views_that_differ_and_no_validated_retrieval():
  c = config.default()
  c.loss.objective = "simclr"
  with pytest.raises(ValueError, match="views would be equal"):
    config.check(c)
  c.augment.yaw = True
  config.check(c)
  c.train.validate_every_steps = 5
  with pytest.raises(ValueError, match="trains no retrieval"):
    config.check(c)
  c.loss.objective = "contrastive + 0.5*simclr"
  config.check(c)


CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_loads_and_is_of_the_variant_in_its_name(path):
  c = train.load_config(str(path))
  if path.stem != "mixture":
    variant = path.stem.removesuffix("_i2c").partition("_")[2]
    assert c.variant == variant
