"""Data that a run cannot train on are refused before CLIP runs."""

import pytest

from imu2clip_jax import embed, pretrained, train
from imu2clip_jax.data import split_sizes


def info(name, **splits):
  return {"path": name, "splits": splits}


OWN = info("own", train=12, validation=4)
OTHER = info("other", train=30)


@pytest.mark.parametrize(
  ("infos", "arguments", "says"),
  [
    ([OTHER], ("train", "validation", 8), "other has no split 'validation', "),
    ([OTHER], ("train", "validation", 8), "validate_every_steps=0 or name "),
    ([OWN], ("training", "", 8), r"only train, validation: .*\.train_split"),
    ([OWN], ("train", "", 13), "split 'train' of own has only 12 windows"),
    ([OWN, info("x", test=9)], ("train", "", 8), "x has no split 'train'"),
    ([OWN, OTHER], ("train", "", 42), r"takes 12\.00 .* of own, which has"),
    ([OWN, OTHER], ("train", "", 32, (1, 19)), r"takes 30\.40 .* of other, "),
    ([OWN, OTHER], ("train", "", 32, (1, 0)), "weights above 0"),
  ],
)
def test_what_does_not_fit_is_named(infos, arguments, says):
  with pytest.raises(ValueError, match=says):
    split_sizes.check(infos, *arguments)


@pytest.mark.parametrize(
  ("infos", "arguments"),
  [
    ([OWN], ("train", "validation", 12)),
    ([OTHER], ("train", "", 30)),
    ([OWN, OTHER], ("train", "validation", 38)),
    ([OWN, OTHER], ("train", "validation", 32, (1, 9))),
  ],
)
def test_what_fits_passes(infos, arguments):
  split_sizes.check(infos, *arguments)


@pytest.mark.parametrize("mixed", [False, True])
def test_training_is_refused_before_anything_is_embedded(
  small_run, tmp_path, monkeypatch, mixed
):
  def embedded(_):
    raise AssertionError("CLIP ran")

  monkeypatch.setattr(embed, "ensure_cache", embedded)
  c = pretrained.load_imu_encoder(
    small_run
  ).config.copy_and_resolve_references()
  c.data.mixture_dirs = (c.data.dir,) if mixed else ()
  c.train.validate_every_steps = 2
  with pytest.raises(ValueError, match="has no split 'validation', only"):
    train.train(c, tmp_path / "run")
  c.train.validate_every_steps = 0
  c.train.batch_size = 10_000
  with pytest.raises(ValueError, match=r"train' of .* has only \d+"):
    train.train(c, tmp_path / "run")
  assert not (tmp_path / "run").exists()
