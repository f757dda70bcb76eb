"""Weights and configurations of every source, and what is refused."""

import importlib.machinery
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import textwrap
from unittest import mock

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from imu2clip_jax import trees
from imu2clip_jax.models import (
  clip,
  clip_config,
  convert,
  published,
  teacher,
)
from imu2clip_jax.models.preprocess import Preprocessing

# Every width differs, so that a wrong transpose changes a shape; the MLP of the
# image tower is no multiple of its width, as in OpenCLIP's giants.
CONFIG = clip.ClipConfig(
  embed_dim=20,
  image=clip.Tower(24, 2, 3, 58, "gelu"),
  text=clip.Tower(16, 3, 2, 40, "gelu"),
  image_size=30,
  patch_size=10,
  vocab_size=514,
  context=24,
)


def random_params(config, seed=0):
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda k: clip.init(k, config), jax.random.key(0))
  return jax.tree.map(
    lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), shapes
  )


PARAMS = random_params(CONFIG)


def openai_names(params, config):
  """Write parameters as OpenAI does, without looking at the rules."""

  def side(tower, prefix, blocks, layers):
    b = {k: np.asarray(v) for k, v in trees.flatten(tower["blocks"]).items()}
    out = {}
    for i in range(layers):
      at = f"{prefix}transformer.resblocks.{i}."
      for ours, theirs in (
        ("attention/qkv", "attn.in_proj_"),
        ("attention/out", "attn.out_proj."),
        ("mlp/up", "mlp.c_fc."),
        ("mlp/down", "mlp.c_proj."),
      ):
        out[f"{at}{theirs}weight"] = b[f"layers/{ours}/kernel"][i].T
        out[f"{at}{theirs}bias"] = b[f"layers/{ours}/bias"][i]
      for n in "12":
        out[f"{at}ln_{n}.weight"] = b[f"layers/norm_{n}/scale"][i]
        out[f"{at}ln_{n}.bias"] = b[f"layers/norm_{n}/bias"][i]
    return out

  image, text = params["image"], params["text"]
  patch = np.asarray(image["patch"]["kernel"])
  side_px = config.patch_size
  out = {
    "visual.conv1.weight": patch.reshape(side_px, side_px, 3, -1).transpose(
      3, 2, 0, 1
    ),
    "visual.class_embedding": image["class_token"],
    "visual.positional_embedding": image["positions"],
    "visual.ln_pre.weight": image["norm_pre"]["scale"],
    "visual.ln_pre.bias": image["norm_pre"]["bias"],
    "visual.ln_post.weight": image["norm_post"]["scale"],
    "visual.ln_post.bias": image["norm_post"]["bias"],
    "visual.proj": image["head"]["kernel"],
    "token_embedding.weight": text["tokens"],
    "positional_embedding": text["positions"],
    "ln_final.weight": text["norm_final"]["scale"],
    "ln_final.bias": text["norm_final"]["bias"],
    "text_projection": text["head"]["kernel"],
    "logit_scale": params["log_scale"],
  }
  out |= side(image, "visual.", None, config.image.layers)
  out |= side(text, "", None, config.text.layers)
  return {k: np.array(v, order="C") for k, v in out.items()}


def same(params, others):
  ours, theirs = trees.flatten(params), trees.flatten(others)
  assert set(ours) == set(theirs)
  for name, leaf in ours.items():
    np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)


OPENAI = openai_names(PARAMS, CONFIG)
HUGGING_FACE = convert.to_hugging_face(PARAMS, CONFIG)


def test_both_layouts_give_the_same_parameters():
  assert len(OPENAI) == 14 + 12 * 5
  same(convert.to_params(OPENAI, CONFIG, "openai"), PARAMS)
  same(convert.to_params(HUGGING_FACE, CONFIG, "hf"), PARAMS)


def test_square_heads_are_not_turned_the_wrong_way():
  """Where widths agree no shape tells; used as x @ W here, as x @ W.T there."""
  np.testing.assert_array_equal(
    HUGGING_FACE["text_projection.weight"].T, OPENAI["text_projection"]
  )
  np.testing.assert_array_equal(
    OPENAI["text_projection"], PARAMS["text"]["head"]["kernel"]
  )


def test_names_that_wrappers_add():
  """DistributedDataParallel's `module.`, OpenCLIP's `text.`, odd buffers."""
  text = ("transformer", "token_emb", "positional", "ln_final", "text_proj")
  custom = {
    f"module.{'text.' * name.startswith(text)}{name}": array
    for name, array in OPENAI.items()
  }
  same(convert.to_params(custom, CONFIG, "custom"), PARAMS)
  ignored = {
    "input_resolution": np.array(30),
    "context_length": np.array(24),
    "vocab_size": np.array(514),
  }
  same(convert.to_params(OPENAI | ignored, CONFIG, "openai"), PARAMS)
  ids = {"text_model.embeddings.position_ids": np.arange(24)[None]}
  same(convert.to_params(HUGGING_FACE | ids, CONFIG, "hf"), PARAMS)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_are_widened_exactly(tmp_path, dtype):
  short = {name: array.astype(dtype) for name, array in OPENAI.items()}
  short["logit_scale"] = short["logit_scale"].reshape(1)
  save_file(short, tmp_path / "model.safetensors")
  with published.open_tensors(tmp_path / "model.safetensors") as tensors:
    got = convert.to_params(tensors, CONFIG, "short")
  want = jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), PARAMS)
  same(got, want)


def test_bfloat16_kernels_keep_float32_norms():
  got = convert.to_params(OPENAI, CONFIG, "x", "bfloat16")
  for name, leaf in trees.flatten(got).items():
    large = name.endswith(("kernel", "tokens"))
    assert leaf.dtype == ("bfloat16" if large else "float32"), name


def without(names, tensors):
  return {k: v for k, v in tensors.items() if not k.startswith(names)}


@pytest.mark.parametrize(
  ("tensors", "message"),
  [
    (without("visual.ln_post.bias", OPENAI), "missing visual.ln_post.bias"),
    (without("text_model.encoder.layers.2", HUGGING_FACE), "and 12 more"),
    (OPENAI | {"visual.extra": np.ones(3)}, "unknown visual.extra"),
    (OPENAI | {"logit_bias": np.ones(())}, "unknown logit_bias"),
    (
      OPENAI | {"text_projection": OPENAI["text_projection"].T},
      r"text_projection is float32 \[\[20, 16\]\].*\[16, 20\]",
    ),
    (
      OPENAI | {"ln_final.bias": np.arange(16)},
      "ln_final.bias is int64",
    ),
    (
      OPENAI | {"visual.conv1.weight": np.ones((24, 300), np.float32)},
      "visual.conv1.weight",
    ),
    (without("visual", OPENAI), "image tower is absent"),
    (without(("vision", "visual"), HUGGING_FACE), "image tower is absent"),
    (without(("text", "logit"), HUGGING_FACE), "text tower is absent"),
    ({"encoder.weight": np.ones(3)}, "not a CLIP checkpoint.*encoder.weight"),
    ({}, "it holds nothing"),
  ],
)
def test_weights_that_do_not_fit(tensors, message):
  with pytest.raises(ValueError, match=f"^here: .*{message}"):
    convert.to_params(tensors, CONFIG, "here")


# Configurations.


def test_config_comes_back_from_its_json(tmp_path):
  spec = Preprocessing(30, "squash", "bilinear", (0.1, 0.2, 0.3), (1, 2, 3))
  documents = {
    "config.json": clip_config.to_hugging_face(CONFIG),
    "preprocessor_config.json": clip_config.to_processor(spec),
  }
  for name, content in documents.items():
    (tmp_path / name).write_text(json.dumps(content))
  assert clip_config.read_config(tmp_path / "config.json") == CONFIG
  assert clip_config.read_preprocessing(tmp_path, 30) == spec


def write_json(folder, name, content):
  (folder / name).write_text(json.dumps(content))
  return folder / name


def test_old_hugging_face_configs(tmp_path):
  """Defaults left out, a section given twice, the end's id stated as 2."""
  content = {
    "model_type": "clip",
    "projection_dim": 768,
    "text_config": {"hidden_size": 512, "eos_token_id": 2},
    "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
    "vision_config": {"patch_size": 14, "hidden_act": "gelu"},
    "vision_config_dict": None,
  }
  config = clip_config.read_config(write_json(tmp_path, "config.json", content))
  assert config.embed_dim == 768
  assert config.text == clip.Tower(768, 12, 12, 2048, "quick_gelu")
  assert config.image == clip.Tower(768, 12, 12, 3072, "gelu")
  assert (config.patch_size, config.image_size, config.context) == (14, 224, 77)
  assert config.eot_id is None
  del content["text_config"]["eos_token_id"]
  config = clip_config.read_config(write_json(tmp_path, "config.json", content))
  assert config.eot_id == 49407


def open_clip_json(**changes):
  image = {"image_size": 224, "layers": 32, "width": 1280, "patch_size": 14}
  text = {"width": 1024, "heads": 16, "layers": 24}
  return {
    "model_cfg": {
      "embed_dim": 1024,
      "vision_cfg": image | {"head_width": 80} | changes.get("image", {}),
      "text_cfg": text | changes.get("text", {}),
    }
    | changes.get("model", {}),
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}
    | changes.get("preprocess", {}),
  }


def test_open_clip_configs(tmp_path):
  """H/14's heads of 80, bigG's MLP, either activation, squashed images."""
  path = write_json(
    tmp_path,
    "open_clip_config.json",
    open_clip_json(
      image={"mlp_ratio": 4.9231, "width": 1664, "head_width": 104},
      preprocess={"resize_mode": "squash", "interpolation": "bilinear"},
    ),
  )
  config = clip_config.read_config(path)
  assert config.image == clip.Tower(1664, 32, 16, 8192, "gelu")
  assert config.text == clip.Tower(1024, 24, 16, 4096, "gelu")
  assert config.vocab_size == 49408
  assert config.eot_id is None
  spec = clip_config.read_preprocessing(tmp_path, 224)
  assert (spec.resize, spec.resample) == ("squash", "bilinear")
  assert spec.mean == (0.5, 0.5, 0.5)
  changed = open_clip_json(
    model={"quick_gelu": True},
    text={"norm_kwargs": {"eps": 1e-6}, "pool_type": "argmax"},
    image={"ls_init_value": None, "patch_dropout": 0.5},
  )
  write_json(tmp_path, "open_clip_config.json", changed)
  config = clip_config.read_config(path)
  assert config.image.activation == "quick_gelu"
  assert config.image.heads == 16
  assert (config.image.eps, config.text.eps) == (1e-5, 1e-6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"image": {"layers": [3, 4, 6, 3]}}, "ResNet"),
    ({"image": {"timm_model_name": "vit_x"}}, "timm_model_name = 'vit_x'"),
    ({"image": {"attentional_pool": True}}, "attentional_pool"),
    ({"image": {"pool_type": "avg"}}, "pool_type = 'avg'"),
    ({"image": {"no_ln_pre": True}}, "no_ln_pre"),
    ({"image": {"qk_norm": True}}, "qk_norm"),
    ({"text": {"hf_model_name": "roberta-base"}}, "hf_model_name"),
    ({"text": {"embed_cls": True}}, "embed_cls"),
    ({"text": {"act_kwargs": {"approximate": "tanh"}}}, "act_kwargs"),
    ({"text": {"heads": 15}}, "15 heads"),
    ({"model": {"text_cfg": {}}}, "'heads' is missing"),
    ({"model": {"vision_cfg": None}}, "open_clip_config.json"),
  ],
)
def test_open_clip_models_that_are_not_supported(tmp_path, changes, message):
  content = open_clip_json(**changes)
  path = write_json(tmp_path, "open_clip_config.json", content)
  with pytest.raises(ValueError, match=message) as caught:
    clip_config.read_config(path)
  assert str(path) in str(caught.value)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"model_type": "siglip"}, "'siglip'"),
    ({"architectures": ["Other"]}, "None"),
    ({"model_type": "clip", "text_config": {"hidden_act": "relu"}}, "relu"),
    ({"model_type": "clip", "text_config": {"hidden_size": None}}, "config"),
    ({"model_type": "clip", "vision_config": {"num_channels": 4}}, "4 image"),
    ([], "JSON object"),
  ],
)
def test_models_that_are_no_clip(tmp_path, content, message):
  path = write_json(tmp_path, "config.json", content)
  with pytest.raises(ValueError, match=message) as caught:
    clip_config.read_config(path)
  assert str(path) in str(caught.value)
  path.write_text("{")
  with pytest.raises(ValueError, match="not JSON"):
    clip_config.read_config(path)


def test_hugging_face_preprocessing(tmp_path):
  """Sizes as numbers in old files, nested under the processor in new ones."""
  old = {"size": 224, "crop_size": 224, "resample": 3, "image_mean": [0.5] * 3}
  write_json(tmp_path, "preprocessor_config.json", old)
  spec = clip_config.read_preprocessing(tmp_path, 224)
  assert spec == Preprocessing(224, mean=(0.5, 0.5, 0.5))
  (tmp_path / "preprocessor_config.json").unlink()
  assert clip_config.read_preprocessing(tmp_path, 224) is None
  nested = {"image_processor": clip_config.to_processor(spec)}
  write_json(tmp_path, "processor_config.json", nested)
  assert clip_config.read_preprocessing(tmp_path, 224) == spec


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"do_normalize": False}, "do_normalize is false"),
    ({"crop_size": {"height": 200, "width": 200}}, "crops to 200"),
    ({"size": {"shortest_edge": 256}}, "resizes to 256"),
    ({"size": {"height": 256, "width": 256}}, "resizes to 256"),
    ({"resample": 1}, "resampling 1"),
    ({"image_std": [0, 0, 0]}, "std positive"),
    ({"image_mean": 3}, "preprocessor_config.json"),
  ],
)
def test_preprocessing_that_is_not_clips(tmp_path, changes, message):
  content = clip_config.to_processor(Preprocessing(224)) | changes
  write_json(tmp_path, "preprocessor_config.json", content)
  with pytest.raises(ValueError, match=message):
    clip_config.read_preprocessing(tmp_path, 224)


# Files.


def save(folder, tensors, config=CONFIG):
  folder.mkdir(exist_ok=True)
  save_file(tensors, folder / "model.safetensors")
  write_json(folder, "config.json", clip_config.to_hugging_face(config))
  spec = Preprocessing(config.image_size)
  write_json(folder, "preprocessor_config.json", clip_config.to_processor(spec))
  (folder / "merges.txt").write_text("#version: 0.2\n")
  return folder


def test_a_saved_folder_is_read_back_exactly(tmp_path):
  folder = tmp_path / "deep" / "clip"
  spec = Preprocessing(30, mean=(0.1, 0.2, 0.3))
  published.save_folder(folder, PARAMS, CONFIG, spec, [], "# A card")
  made = teacher.load_clip(folder)
  same(made.params, PARAMS)
  assert (made.config, made.spec, made.name) == (CONFIG, spec, "clip")
  assert (folder / "README.md").read_text() == "# A card"
  assert {p.name for p in folder.parent.iterdir()} == {"clip"}
  with pytest.raises(ValueError, match="exists already"):
    published.save_folder(folder, PARAMS, CONFIG, spec, [], "")


def test_a_failed_save_leaves_nothing(tmp_path):
  broken = {"image": PARAMS["image"], "text": PARAMS["text"]}
  with pytest.raises(KeyError):
    published.save_folder(
      tmp_path / "clip", broken, CONFIG, Preprocessing(30), [], ""
    )
  assert not list(tmp_path.iterdir())


def test_weights_in_parts(tmp_path):
  folder = save(tmp_path / "clip", HUGGING_FACE)
  (folder / "model.safetensors").unlink()
  names = sorted(HUGGING_FACE)
  parts = {
    "model-1.safetensors": names[::2],
    "model-2.safetensors": names[1::2],
  }
  for part, held in parts.items():
    save_file({name: HUGGING_FACE[name] for name in held}, folder / part)
  index = {name: part for part, held in parts.items() for name in held}
  path = write_json(
    folder, "model.safetensors.index.json", {"weight_map": index}
  )
  same(teacher.load_clip(folder).params, PARAMS)
  (folder / "model-2.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match=r"model-2.safetensors"):
    teacher.load_clip(folder)
  for wrong in ({"x": "../model-1.safetensors"}, {}, None):
    write_json(folder, path.name, {"weight_map": wrong})
    with pytest.raises(ValueError, match="weight_map"):
      teacher.load_clip(folder)


def test_open_clip_folder(tmp_path):
  """OpenCLIP's names beside another library's config.json."""
  folder = save(tmp_path / "clip", OPENAI)
  (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
  write_json(folder, "config.json", {"architecture": "vit", "num_classes": 0})
  content = {
    "model_cfg": {
      "embed_dim": 20,
      "vision_cfg": {
        "image_size": 30,
        "layers": 2,
        "width": 24,
        "head_width": 8,
        "patch_size": 10,
        "mlp_ratio": 58.5 / 24,
      },
      "text_cfg": {
        "context_length": 24,
        "vocab_size": 514,
        "width": 16,
        "heads": 2,
        "layers": 3,
        "mlp_ratio": 2.5,
      },
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
  }
  write_json(folder, "open_clip_config.json", content)
  made = teacher.load_clip(folder)
  assert made.config == CONFIG
  assert made.spec.mean == (0.5, 0.5, 0.5)
  same(made.params, PARAMS)


@pytest.mark.parametrize("size", [0, 4, 8, 100, 5000, -1])
def test_truncated_safetensors(tmp_path, size):
  folder = save(tmp_path / "clip", HUGGING_FACE)
  path = folder / "model.safetensors"
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(ValueError, match="not a whole safetensors file"):
    teacher.load_clip(folder)


def test_folders_without_a_part(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere: no such CLIP"):
    teacher.load_clip(tmp_path / "nowhere")
  with pytest.raises(FileNotFoundError, match=r"no CLIP weights.*safetensors"):
    teacher.load_clip(tmp_path)
  folder = save(tmp_path / "clip", HUGGING_FACE)
  (folder / "config.json").unlink()
  with pytest.raises(FileNotFoundError, match=r"no config.json"):
    teacher.load_clip(folder)
  (tmp_path / "clip.h5").write_text("")
  with pytest.raises(ValueError, match="unknown kind of weights"):
    teacher.load_clip(tmp_path / "clip.h5", merges=folder, config=folder)


def test_the_tokenizer_must_be_the_models(tmp_path):
  folder = save(tmp_path / "clip", HUGGING_FACE)
  (folder / "merges.txt").write_text("#version: 0.2\na b\n")
  with pytest.raises(ValueError, match=r"515 tokens.*the model has 514"):
    teacher.load_clip(folder)


def test_a_bare_file(tmp_path):
  """Weights alone: their description and their merges must come with them."""
  folder = save(tmp_path / "clip", HUGGING_FACE)
  same(teacher.load_clip(folder / "model.safetensors").params, PARAMS)
  bare = tmp_path / "bare.safetensors"
  save_file(HUGGING_FACE, bare)
  with pytest.raises(ValueError, match=r"merges=.*bpe_simple_vocab"):
    teacher.load_clip(bare)
  with pytest.raises(ValueError, match=r"unknown architecture.*config="):
    teacher.load_clip(bare, merges=folder)
  made = teacher.load_clip(bare, merges=folder, config=folder / "config.json")
  same(made.params, PARAMS)
  assert made.name == "bare.safetensors"
  wrong = {"model_type": "clip"}
  path = write_json(tmp_path, "other.json", wrong)
  with pytest.raises(ValueError, match=r"bare.safetensors"):
    teacher.load_clip(bare, merges=folder, config=path)


def test_what_openais_shapes_are_taken_for():
  """Four ViTs are known by their shapes, with a warning about activations."""
  shapes = {
    "visual.conv1.weight": (768, 3, 32, 32),
    "visual.positional_embedding": (50, 768),
    "token_embedding.weight": (49408, 512),
  }
  tensors = {
    name: np.broadcast_to(np.float32(0), shape)
    for name, shape in shapes.items()
  } | {"transformer.resblocks.0.ln_1.bias": np.zeros(512)}
  with pytest.warns(UserWarning, match="taking OpenAI's activation"):
    config = convert.openai_config(tensors, "here")
  assert config.image == clip.Tower(768, 12, 12, 3072, "quick_gelu")
  assert config.text == clip.Tower(512, 12, 8, 2048, "quick_gelu")
  assert (config.embed_dim, config.image_size, config.context) == (512, 224, 77)
  # OpenAI's own archives hold this number, and need no warning.
  tensors["input_resolution"] = np.array(224)
  assert convert.openai_config(tensors, "here") == config
  del tensors["token_embedding.weight"]
  with pytest.raises(ValueError, match="no patches, positions or tokens"):
    convert.openai_config(tensors, "here")


def run_alone(code, *arguments):
  """Run code in a fresh interpreter and return what it prints."""
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_neither_torch_nor_tensorflow_is_needed(tmp_path):
  folder = save(tmp_path / "clip", HUGGING_FACE)
  out = run_alone(
    """
    import sys
    for name in ("torch", "tensorflow", "transformers", "open_clip"):
      sys.modules[name] = None
    import numpy as np
    import imu2clip_jax
    clip = imu2clip_jax.load_clip(sys.argv[1])
    images = clip.embed_images(np.zeros((2, 50, 40, 3), np.uint8))
    print(images.shape, clip.embed_texts(["a cup"]).shape)
    """,
    folder,
  )
  assert out.split("\n")[0] == "(2, 20) (1, 20)"


# ViT-L/14, without drawing 430 million normal numbers.
LARGE = clip.ClipConfig(
  768,
  clip.Tower(1024, 24, 16, 4096, "quick_gelu"),
  clip.Tower(768, 12, 12, 3072, "quick_gelu"),
  image_size=224,
  patch_size=14,
  vocab_size=49408,
  context=77,
)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["openai", "hugging_face"])
def test_memory_of_loading_a_large_model(tmp_path, form):
  """Peak anonymous memory stays under 1.3 times the parameters' own."""
  shapes = jax.eval_shape(lambda k: clip.init(k, LARGE), jax.random.key(0))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: rng.random(x.shape, np.float32), shapes)
  size = 4 * trees.count(params)
  assert size > 1.7e9
  write = openai_names if form == "openai" else convert.to_hugging_face
  path = tmp_path / "model.safetensors"
  save_file(write(params, LARGE), path)
  config = write_json(
    tmp_path, "config.json", clip_config.to_hugging_face(LARGE)
  )
  del params
  out = run_alone(
    """
    import re, sys, threading, time
    import jax
    from imu2clip_jax.models import clip_config, convert, published
    from pathlib import Path

    def used():
      status = open("/proc/self/status").read()
      return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", status)[1])

    def watch():
      while not done:
        peak[0] = max(peak[0], used())
        time.sleep(0.002)

    jax.numpy.zeros(3).block_until_ready()
    before, peak, done = used(), [0], []
    thread = threading.Thread(target=watch)
    thread.start()
    config = clip_config.read_config(Path(sys.argv[2]))
    with published.open_tensors(Path(sys.argv[1])) as tensors:
      params = convert.to_params(tensors, config, "large")
    jax.block_until_ready(params)
    done.append(True)
    thread.join()
    print(peak[0] - before)
    """,
    path,
    config,
  )
  assert int(out) < 1.3 * size
  print(f"peak / size = {int(out) / size:.3f}")


# Against torch.


@pytest.mark.parity
@pytest.mark.filterwarnings(
  "ignore:.*torch.jit:DeprecationWarning",
  "ignore:Converting a tensor",
)
@pytest.mark.parametrize("half", [False, True])
def test_openais_archive(tmp_path, half):
  """A TorchScript archive of OpenAI's own model, as OpenAI published it."""
  torch = pytest.importorskip("torch")
  model_file = openai_file("clip/model.py")
  torch.manual_seed(0)
  model = model_file.CLIP(20, 30, 2, 192, 10, 24, 514, 128, 2, 3).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim == 1:
        parameter.add_(0.05 * torch.randn_like(parameter))
  if half:
    model_file.convert_weights(model)
  pixels = np.random.default_rng(0).random((2, 30, 30, 3), np.float32)
  ids = np.array([[512, 7, 8, 513] + [0] * 20, [512, 513] + [0] * 22])
  traced = torch.jit.trace(
    model.float() if not half else model,
    (
      torch.zeros(1, 3, 30, 30, dtype=torch.float16 if half else torch.float32),
      torch.zeros(1, 24, dtype=torch.int64),
    ),
    check_trace=False,
  )
  traced.save(tmp_path / "clip.pt")
  config = clip.ClipConfig(
    20,
    clip.Tower(192, 2, 3, 768, "quick_gelu"),
    clip.Tower(128, 3, 2, 512, "quick_gelu"),
    30,
    10,
    514,
    24,
  )
  stated = write_json(
    tmp_path, "config.json", clip_config.to_hugging_face(config)
  )
  (tmp_path / "merges.txt").write_text("#version: 0.2\n")
  write_json(
    tmp_path,
    "preprocessor_config.json",
    clip_config.to_processor(Preprocessing(30)),
  )
  made = teacher.load_clip(tmp_path / "clip.pt")
  assert made.config == clip_config.read_config(stated)
  exact = model.float()
  with torch.inference_mode():
    image = exact.encode_image(
      torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    )
    text = exact.encode_text(torch.from_numpy(ids))
  got = clip.encode_images(made.params, pixels, config)
  np.testing.assert_allclose(got, image, rtol=0, atol=2e-5)
  got = clip.encode_texts(made.params, ids.astype(np.int32), config)
  np.testing.assert_allclose(got, text, rtol=0, atol=2e-5)


def openai_file(name):
  """Load one file of OpenAI's package without the package's imports."""
  try:
    package = importlib.metadata.distribution("clip-anytorch")
  except importlib.metadata.PackageNotFoundError:
    pytest.skip("needs clip-anytorch: pip install --no-deps clip-anytorch")
  spec = importlib.util.spec_from_file_location(
    "openai_file", package.locate_file(name)
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def open_clip(monkeypatch):
  """OpenCLIP without torchvision, of which only its image loading needs any."""
  pytest.importorskip("torch")
  for name in (
    *("torchvision", "torchvision.transforms", "torchvision.ops"),
    *("torchvision.transforms.functional", "torchvision.ops.misc"),
  ):
    if name not in sys.modules:
      spec = importlib.machinery.ModuleSpec(name, None)
      monkeypatch.setitem(sys.modules, name, mock.MagicMock(__spec__=spec))
  return pytest.importorskip("open_clip")


@pytest.mark.parity
@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("custom_text", [True, False])
def test_equals_open_clip(tmp_path, open_clip, quick_gelu, custom_text):
  """Heads of 20, an MLP of no whole ratio, both key forms, both activations."""
  import torch

  model_cfg = {
    "embed_dim": 28,
    "quick_gelu": quick_gelu,
    "vision_cfg": {
      "image_size": 30,
      "layers": 2,
      "width": 60,
      "head_width": 20,
      "patch_size": 10,
      "mlp_ratio": 4.3637,
    },
    "text_cfg": {
      "context_length": 24,
      "vocab_size": 514,
      "width": 32,
      "heads": 4,
      "layers": 3,
    },
  }
  kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
  torch.manual_seed(0)
  model = kind(**model_cfg).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim == 1:
        parameter.add_(0.05 * torch.randn_like(parameter))
  tensors = {k: v.numpy() for k, v in model.state_dict().items()}
  tensors = {k: np.array(v, order="C") for k, v in tensors.items()}
  save_file(tensors, tmp_path / "open_clip_model.safetensors")
  content = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": [0.5] * 3}}
  write_json(tmp_path, "open_clip_config.json", content)
  (tmp_path / "merges.txt").write_text("#version: 0.2\n")
  made = teacher.load_clip(tmp_path)
  pixels = np.random.default_rng(0).random((2, 30, 30, 3), np.float32)
  ids = np.array([[512, 7, 8, 513] + [0] * 20, [512, 513] + [0] * 22])
  with torch.inference_mode():
    image = model.encode_image(
      torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    )
    text = model.encode_text(torch.from_numpy(ids))
  got = clip.encode_images(made.params, pixels, made.config)
  np.testing.assert_allclose(got, image, rtol=0, atol=2e-5)
  got = clip.encode_texts(made.params, ids.astype(np.int32), made.config)
  np.testing.assert_allclose(got, text, rtol=0, atol=2e-5)
