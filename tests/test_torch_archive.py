"""Reading PyTorch's archives: right on honest files, closed to hostile ones.

Archives are put together here byte by byte, so that torch is needed only where
its own files are compared (`parity`).
"""

import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imu2clip_jax.models import torch_archive

# The few words of the pickle language that archives are made of.


def name(module, attribute):
  return f"c{module}\n{attribute}\n".encode()


def text(string):
  data = string.encode()
  return b"X" + struct.pack("<I", len(data)) + data


def value(number):
  return pickle.dumps(number, 2)[2:-1]


def row(*items):
  return b"(" + b"".join(items) + b"t"


def table(**items):
  pairs = (text(key) + item for key, item in items.items())
  return b"}(" + b"".join(pairs) + b"u"


def call(function, *arguments):
  return function + row(*arguments) + b"R"


ORDERED = call(name("collections", "OrderedDict"))


def storage(kind, key, count):
  words = (text("storage"), name("torch", kind), text(key), text("cpu"))
  return row(*words, value(count)) + b"Q"


def tensor(where, size, stride, offset=0):
  return call(
    name("torch._utils", "_rebuild_tensor_v2"),
    where,
    value(offset),
    value(tuple(size)),
    value(tuple(stride)),
    value(False),
    ORDERED,
  )


def archive(path, body, storages=None, *, extra=None, **options):
  """Write a zip as torch does: `body` is what the pickle builds."""
  storages = {"0": np.arange(6, dtype=np.float32)} | (storages or {})
  with zipfile.ZipFile(path, "w", **options) as file:
    file.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
    file.writestr("archive/byteorder", b"little")
    for key, array in storages.items():
      file.writestr(f"archive/data/{key}", array.tobytes())
    for member, content in (extra or {}).items():
      file.writestr(member, content)
  return path


FLOATS = storage("FloatStorage", "0", 6)
ONE = tensor(FLOATS, (2, 3), (3, 1))


def test_views_of_one_storage(tmp_path):
  body = table(
    whole=ONE,
    turned=tensor(FLOATS, (3, 2), (1, 3)),
    part=tensor(FLOATS, (2,), (1,), offset=4),
    scalar=tensor(FLOATS, (), (), offset=5),
    empty=tensor(FLOATS, (0, 3), (3, 1)),
  )
  state = torch_archive.read_state_dict(archive(tmp_path / "a.pt", body))
  numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
  np.testing.assert_array_equal(state["whole"], numbers)
  np.testing.assert_array_equal(state["turned"], numbers.T)
  np.testing.assert_array_equal(state["part"], [4, 5])
  assert state["scalar"] == 5
  assert state["empty"].shape == (0, 3)
  assert list(state) == ["whole", "turned", "part", "scalar", "empty"]
  with pytest.raises(ValueError, match="read-only"):
    state["whole"][0, 0] = 1


@pytest.mark.parametrize(
  ("kind", "dtype"),
  [
    ("HalfStorage", np.float16),
    ("BFloat16Storage", jnp.bfloat16),
    ("DoubleStorage", np.float64),
    ("LongStorage", np.int64),
    ("BoolStorage", np.bool_),
  ],
)
def test_dtypes(tmp_path, kind, dtype):
  array = np.array([0, 1, 1], dtype)
  body = table(x=tensor(storage(kind, "k", 3), (3,), (1,)))
  state = torch_archive.read_state_dict(
    archive(tmp_path / "a.pt", body, {"k": array})
  )
  assert state["x"].dtype == dtype
  np.testing.assert_array_equal(state["x"], array)


def test_parameters_metadata_and_wrappers(tmp_path):
  """What torch.save adds around a state dict: versions, an epoch, a wrapper."""
  parameter = call(
    name("torch._utils", "_rebuild_parameter"), ONE, value(True), ORDERED
  )
  inner = ORDERED + b"(" + text("gru.weight") + parameter + b"u"
  inner += table(_metadata=ORDERED) + b"b"
  body = table(state_dict=inner, epoch=value(3), note=text("best"))
  state = torch_archive.read_state_dict(archive(tmp_path / "a.pt", body))
  assert list(state) == ["gru.weight"]


def test_keys_may_be_tuples_and_shared(tmp_path):
  key = row(value(3), row(text("a"), value(0.5))) + b"q\x07"
  body = b"}(" + key + ONE + text("betas") + b"h\x07" + text("b") + ONE + b"u"
  state = torch_archive.read_state_dict(archive(tmp_path / "a.pt", body))
  assert list(state) == ["(3, ('a', 0.5))", "b"]


def test_modules_of_torchscript(tmp_path):
  """A module is an object of a class the file names; only its state counts."""

  def module(kind, **state):
    return name(f"__torch__.{kind}", "M") + b")\x81" + table(**state) + b"b"

  body = module(
    "clip.model.CLIP",
    training=value(False),
    visual=module("clip.model.ViT", proj=ONE, heads=value(12)),
    logit_scale=tensor(FLOATS, (), ()),
  )
  state = torch_archive.read_state_dict(archive(tmp_path / "a.pt", body))
  assert set(state) == {"visual.proj", "logit_scale"}


def _refused(path, match="refused"):
  with pytest.raises(ValueError, match=match) as caught:
    torch_archive.read_state_dict(path)
  assert str(path) in str(caught.value)


@pytest.mark.parametrize("protocol", ["global", "stack_global", "inst"])
@pytest.mark.parametrize(
  ("module", "function"),
  [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("subprocess", "Popen"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("numpy", "load"),
    ("pickle", "loads"),
    ("collections", "OrderedDict.fromkeys"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__.get"),
    ("imu2clip_jax.models.torch_archive", "_Module"),
  ],
)
def test_code_is_not_run(tmp_path, module, function, protocol):
  marker = tmp_path / "ran"
  argument = text(f"touch {marker}")
  if protocol == "global":
    attack = call(name(module, function), argument)
  elif protocol == "stack_global":
    attack = call(text(module) + text(function) + b"\x93", argument)
  else:
    attack = b"(" + argument + f"i{module}\n{function}\n".encode()
  _refused(archive(tmp_path / "a.pt", table(x=ONE, y=attack)))
  assert not marker.exists()


def test_registered_extensions_are_not_resolved(tmp_path):
  import copyreg

  copyreg.add_extension("os", "system", 211)
  marker = tmp_path / "ran"
  try:
    attack = call(b"\x82\xd3", text(f"touch {marker}"))
    _refused(archive(tmp_path / "a.pt", table(x=ONE, y=attack)))
  finally:
    copyreg.remove_extension("os", "system", 211)
  assert not marker.exists()


@pytest.mark.parametrize(
  "body",
  [
    # BUILD, which sets attributes, on what must not change.
    ONE + table(array=text("x")) + b"b",
    name("torch", "FloatStorage") + table(dtype=text("x")) + b"b",
    FLOATS + table(array=text("x")) + b"b",
    name("torch._utils", "_rebuild_tensor_v2") + table(__code__=ONE) + b"b",
    name("collections", "OrderedDict") + table(__setstate__=ONE) + b"b",
    # Calls with arguments of other kinds than torch writes.
    call(name("torch._utils", "_rebuild_tensor_v2"), text("storage")),
    call(name("torch._utils", "_rebuild_tensor_v2"), *[value(0)] * 4),
    tensor(ONE, (2,), (1,)),
    call(name("torch", "FloatStorage"), value(10**12)),
    row(text("storage"), text("FloatStorage"), text("0"), value(6)) + b"Q",
    storage("FloatStorage", "../data.pkl", 2),
    storage("FloatStorage", "1", 6),
    storage("FloatStorage", "0", 7),
    storage("FloatStorage", "0", -1),
    storage("DoubleStorage", "0", 6),
    storage("QInt8Storage", "0", 6),
    row(*[value(0)] * 5) + b"Q",
    # No end, no beginning, nothing inside.
    b"",
    b"}",
    ONE[:-1],
    text("a text"),
    b"(",
    b"\xff",
    b"R",
  ],
)
def test_malformed_pickles(tmp_path, body):
  _refused(archive(tmp_path / "a.pt", body))


@pytest.mark.parametrize(
  ("size", "stride", "offset"),
  [
    ((2, 3), (4, 1), 0),  # runs one past the end
    ((2,), (1,), 5),
    ((1,), (1,), 6),
    ((2,), (2**62,), 0),
    ((2, 2), (2**63, 2**63), 0),
    ((2**100_000,), (0,), 0),
    ((3,), (-1,), 2),
    ((-1,), (1,), 0),
    ((2,), (1,), -1),
    ((10**9,), (0,), 0),  # one number as an enormous tensor
    ((2**40, 2**40), (0, 0), 0),
    ((7,), (0,), 0),
    ((2, 3), (1,), 0),
    ((2.0,), (1,), 0),
    ((True,), (1,), 0),
    ((0,), (1,), 0.5),
  ],
)
def test_tensors_outside_their_storage(tmp_path, size, stride, offset):
  body = table(x=tensor(FLOATS, size, stride, offset))
  _refused(archive(tmp_path / "a.pt", body))


numbers = st.integers(-2, 8) | st.sampled_from([2**31, 2**62, -(2**40)])


@settings(max_examples=300, deadline=None)
@given(
  st.lists(st.tuples(numbers, numbers), max_size=3), numbers, st.integers(0, 6)
)
def test_a_view_holds_only_what_is_there(dims, offset, count):
  """Whatever the numbers, a view is refused or reads its own storage."""
  size, stride = [d[0] for d in dims], [d[1] for d in dims]
  held = torch_archive._Storage(np.arange(count, dtype=np.float32))
  try:
    made = torch_archive._rebuild_tensor(held, offset, size, stride).array
  except (pickle.UnpicklingError, ValueError, OverflowError):
    return
  assert made.shape == tuple(size)
  for place in np.ndindex(*size) if made.size else ():
    at = offset + sum(i * s for i, s in zip(place, stride, strict=True))
    assert made[place] == at < count


def test_bombs(tmp_path):
  """Small files that stand for much are refused before they unfold."""
  # Ten containers, each holding the one before twice: 2^40 paths.
  doubled = ONE
  for _ in range(40):
    doubled = b"}(" + text("a") + doubled + b"q\x00"
    doubled += text("b") + b"h\x00" + b"u"
  _refused(archive(tmp_path / "laughs.pt", doubled), "nested without end")
  # A container that holds itself.
  itself = b"}q\x00(" + text("x") + b"h\x00" + b"u"
  _refused(archive(tmp_path / "itself.pt", itself), "nested without end")
  itself = b"}q\x00("
  itself += b"".join(text(f"{i}") + b"h\x00" for i in range(50_000)) + b"u"
  _refused(archive(tmp_path / "wide.pt", itself), "nested without end")
  # Keys of 2^40 parts, hashed one by one.
  shared = b")"
  for _ in range(40):
    shared += b"q\x00h\x00\x86"
  passed = call(name("torch._utils", "_rebuild_parameter"), shared)
  for attack in (
    b"}" + shared + ONE + b"s",
    b"}" + passed + ONE + b"s",
    b"}(" + text("a") + ONE + shared + ONE + b"u",
    b"\x8f(" + shared + b"\x90",
    b"(" + shared + b"\x91",
  ):
    _refused(archive(tmp_path / "key.pt", attack), "a key of more than")
  pairs = b"](" + shared + ONE + b"\x86e"
  attack = call(name("collections", "OrderedDict"), pairs)
  _refused(archive(tmp_path / "pairs.pt", attack), "positional argument")
  # A long name above many others, and sizes whose product is a long number.
  inner = b"}(" + b"".join(text(f"{i}") + ONE for i in range(2000)) + b"u"
  named = b"}" + text("n" * 100_000) + inner + b"s"
  _refused(archive(tmp_path / "names.pt", named), "nested without end")
  long = table(x=tensor(FLOATS, (2**40,) * 65, (0,) * 65))
  _refused(archive(tmp_path / "dims.pt", long), "malformed tensor")
  # A memo index that would make the unpickler allocate 32 GB.
  memo = table(x=ONE) + b"r\xff\xff\xff\xff"
  _refused(archive(tmp_path / "memo.pt", memo), "memo index")
  # A pickle that is nothing but length.
  long = table(x=ONE, y=text(" " * (2**24 + 1)))
  _refused(archive(tmp_path / "long.pt", long), "data.pkl has")
  # Members that unpack to more than the file holds.
  body = table(x=ONE)
  packed = {"compression": zipfile.ZIP_DEFLATED}
  _refused(archive(tmp_path / "packed.pt", body, **packed), "compressed")


def test_odd_archives(tmp_path):
  body = table(x=ONE)
  path = tmp_path / "a.pt"
  two = {"other/data.pkl": b"\x80\x02N."}
  _refused(archive(path, body, extra=two), "one data.pkl")
  with pytest.warns(UserWarning, match="Duplicate"):
    archive(path, body, extra={"archive/data/0": b"\0" * 24})
  _refused(path, "twice")
  with zipfile.ZipFile(path, "w") as file:
    file.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
    file.writestr("archive/byteorder", b"big")
  _refused(path, "little-endian")
  with zipfile.ZipFile(path, "w") as file:
    file.writestr("readme.txt", "no model")
  _refused(path, "one data.pkl")
  path.write_bytes(pickle.dumps({"x": 1}))
  _refused(path, "not a PyTorch zip archive")
  path.write_bytes(b"")
  _refused(path, "not a PyTorch zip archive")
  with pytest.raises(FileNotFoundError, match="nowhere"):
    torch_archive.read_state_dict(tmp_path / "nowhere.pt")


def test_damaged_archives_never_give_wrong_numbers(tmp_path):
  """Cut anywhere, or with any byte of the structure flipped."""
  path = archive(tmp_path / "a.pt", table(x=ONE))
  whole = path.read_bytes()
  start = whole.index(np.arange(6, dtype=np.float32).tobytes())
  for cut in range(0, len(whole), 23):
    path.write_bytes(whole[:cut])
    _refused(path, str(path))
  for place in range(0, len(whole), 3):
    damaged = bytearray(whole)
    damaged[place] ^= 0x55
    path.write_bytes(damaged)
    try:
      state = torch_archive.read_state_dict(path)
    except ValueError:
      continue
    for array in state.values():  # reading must stay inside the file
      assert array.size <= 6
      if not start <= place < start + 24 and array.dtype == np.float32:
        assert np.isfinite(array).all()


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_files_that_torch_writes(tmp_path):
  torch = pytest.importorskip("torch")
  torch.manual_seed(0)
  model = torch.nn.Sequential(
    torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.GRU(4, 5)
  )
  path = tmp_path / "a.pt"
  base = torch.randn(4, 6)
  written = dict(model.state_dict()) | {
    "turned": base.T,
    "part": base[1:3, ::2],
    "half": base.half(),
    "bfloat": base.bfloat16(),
    "none": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(base),
  }
  for content in (written, {"state_dict": written, "epoch": 3}):
    torch.save(content, path)
    state = torch_archive.read_state_dict(path)
    assert set(state) == set(written)
    for key, array in state.items():
      want = written[key].detach()
      assert str(array.dtype) == str(want.dtype).removeprefix("torch.")
      np.testing.assert_array_equal(
        np.float32(array), want.to(torch.float32).numpy()
      )
  torch.save(model.state_dict(), path)
  assert list(torch_archive.read_state_dict(path)) == list(model.state_dict())

  torch.jit.script(model[:2].eval()).save(path)
  state = torch_archive.read_state_dict(path)
  assert set(state) == set(model[:2].state_dict())
  np.testing.assert_array_equal(state["0.weight"], model[0].weight.detach())

  torch.save(base, path, _use_new_zipfile_serialization=False)
  _refused(path, "another format")
  torch.save(model, path)  # a whole module: its class would have to run
  _refused(path, "torch.nn")
