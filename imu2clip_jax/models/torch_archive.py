"""Tensors out of PyTorch's zip archives, without PyTorch and executing nothing.

`torch.save` and TorchScript both write a zip of `ROOT/data.pkl`, a pickle that
describes the tensors, and `ROOT/data/N`, their bytes, uncompressed. The pickle
is read by an unpickler that knows a closed list of names, all of them inert
here; a file that names anything else is refused. Every offset and stride is
checked against the bytes that are there before a view is made.
"""

import math
import pickle
import pickletools
import zipfile
from io import BytesIO
from pathlib import Path

import jax.numpy as jnp
import numpy as np

_DTYPES = {
  "FloatStorage": np.float32,
  "HalfStorage": np.float16,
  "BFloat16Storage": jnp.bfloat16,
  "DoubleStorage": np.float64,
  "LongStorage": np.int64,
  "IntStorage": np.int32,
  "ShortStorage": np.int16,
  "CharStorage": np.int8,
  "ByteStorage": np.uint8,
  "BoolStorage": np.bool_,
}
_MAX_PICKLE_BYTES = 2**24
_MAX_NODES = 10**6
_MAX_DEPTH = 100
_MAX_KEY_PARTS = 1000
# Of a tensor, as NumPy's; and characters of all names with those above them.
_MAX_DIMS, _MAX_NAMES = 64, 10**8


def read_state_dict(path) -> dict[str, np.ndarray]:
  """Read the tensors of a `.pt`, `.pth` or `.bin` file.

  Args:
    path: written by `torch.save` (a state dict, or a dict that holds one under
      "state_dict") or by `torch.jit.save` (a module).

  Returns:
    Dotted name → read-only array, a view of the memory-mapped file.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not such an archive, damaged, or one that asks for anything
      else than tensors in containers.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file")
  try:
    storages, description = _open(path)
    root = _Unpickler(description, storages).load()
    if isinstance(root, dict) and isinstance(root.get("state_dict"), dict):
      root = root["state_dict"]
    return _tensors(root)
  except zipfile.BadZipFile as error:
    raise ValueError(
      f"{path}: not a PyTorch zip archive (PyTorch before 1.6 wrote another "
      "format: load and save it there once)"
    ) from error
  # Whatever a damaged or hostile file does to zipfile and pickle is its fault.
  except Exception as error:
    raise ValueError(f"{path}: refused: {error}") from error


def _open(path: Path) -> tuple["_Storages", bytes]:
  with zipfile.ZipFile(path) as archive:
    members = {info.filename: info for info in archive.infolist()}
    pickles = [
      info for info in archive.infolist() if info.filename.endswith("/data.pkl")
    ]
    if len(pickles) != 1 or len(members) != len(archive.infolist()):
      raise ValueError("expected one data.pkl and no name twice")
    (described,) = pickles
    _check_stored(described)
    if described.file_size > _MAX_PICKLE_BYTES:
      raise ValueError(f"its data.pkl has {described.file_size} bytes")
    root = described.filename.removesuffix("data.pkl")
    if f"{root}byteorder" in members:
      order = members[f"{root}byteorder"]
      _check_stored(order)
      if order.file_size > 16 or archive.read(order) != b"little":
        raise ValueError("not little-endian")
    content = archive.read(described)
  _check_costs(content)
  data = np.memmap(path, np.uint8, "r")
  return _Storages(data, members, f"{root}data/"), content


def _check_costs(content: bytes) -> None:
  """Refuse a pickle of which few bytes would keep the C unpickler long.

  It allocates as many slots as a memo index says. And it hashes keys, tuples
  with all that they hold: 40 of them, each holding the one before twice, are
  2^40 parts. So its stack is followed here, as the parts of each value; a mark
  has none.
  """
  stack, memo = [], {}
  for op, argument, _ in pickletools.genops(content):
    if op.name.endswith("PUT"):
      if argument > len(content):
        raise ValueError(f"memo index {argument}")
      memo[argument] = stack[-1]
    elif op.name == "MEMOIZE":
      memo[len(memo)] = stack[-1]
    single, marked = list(op.stack_before), []
    if pickletools.markobject in single:
      single = single[: single.index(pickletools.markobject)]
      while parts := stack.pop():
        marked.append(parts)
    single = [stack.pop() for _ in single]
    hashed = {
      "SETITEM": single[1:2],
      "SETITEMS": marked[1::2],  # both are the last pushed first
      "ADDITEMS": marked,
      "FROZENSET": marked,
    }
    if any(parts > _MAX_KEY_PARTS for parts in hashed.get(op.name, ())):
      raise ValueError(f"a key of more than {_MAX_KEY_PARTS} parts")
    parts = min(1 + sum(single) + sum(marked), _MAX_KEY_PARTS + 1)
    if op.name.endswith("GET"):
      parts = memo.get(argument, parts)
    stack += [
      0 if kind is pickletools.markobject else parts for kind in op.stack_after
    ]


def _check_stored(member: zipfile.ZipInfo) -> None:
  """Refuse packed members: torch packs only code; few bytes can hold much."""
  if member.compress_type != zipfile.ZIP_STORED:
    raise ValueError(f"{member.filename} is compressed")


class _Inert:
  """Base of what the pickle may hold: BUILD cannot rewrite it."""

  __slots__ = ()

  def __setstate__(self, state):
    raise pickle.UnpicklingError(f"sets the state of a {type(self).__name__}")


class _Tensor(_Inert):
  __slots__ = ("array",)


class _StorageType(_Inert):
  __slots__ = ("dtype",)

  def __init__(self, dtype):
    self.dtype = np.dtype(dtype)


class _Storage(_Inert):
  __slots__ = ("array",)

  def __init__(self, array):
    self.array = array


class _Module:
  """Any TorchScript object: its attributes, none of its code."""

  __slots__ = ("state",)

  def __setstate__(self, state):
    self.state = state


class _Dict(dict):
  """An OrderedDict; state dicts carry version numbers, which we drop."""

  __slots__ = ()

  def __init__(self):
    """Takes no items, whose keys `_check_costs` would not see."""

  def __setstate__(self, state):
    del state


class _Storages:
  """The bytes behind the tensors, by key, checked against their members."""

  def __init__(self, data: np.ndarray, members: dict, prefix: str):
    self._data, self._members, self._prefix = data, members, prefix

  def view(self, key: str, dtype: np.dtype, count: int) -> np.ndarray:
    member = self._members[self._prefix + key]
    _check_stored(member)
    # The local header repeats the name and has an extra field of its own.
    start = member.header_offset
    header = self._data[start : start + 30].tobytes()
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
      raise ValueError(f"the header of {member.filename} is damaged")
    start += 30 + sum(
      int.from_bytes(header[i : i + 2], "little") for i in (26, 28)
    )
    size = count * dtype.itemsize
    if count < 0 or size > member.file_size:
      raise ValueError(f"{member.filename} is shorter than {size} bytes")
    if start + size > len(self._data):
      raise ValueError(f"{member.filename} runs past the end of the file")
    return self._data[start : start + size].view(dtype)


class _Unpickler(pickle.Unpickler):
  """Knows storages, tensors and containers by name, and nothing else."""

  def __init__(self, content: bytes, storages: _Storages):
    super().__init__(BytesIO(content))
    self._storages = storages

  def find_class(self, module, name):
    if module == "torch" and name in _DTYPES:
      return _StorageType(_DTYPES[name])
    if module == "__torch__" or module.startswith("__torch__."):
      return _Module
    if (module, name) in _KNOWN:
      return _KNOWN[module, name]
    raise pickle.UnpicklingError(f"it asks for {module}.{name}")

  def persistent_load(self, pid):
    kind, storage_type, key, _, count = pid
    if kind != "storage" or type(storage_type) is not _StorageType:
      raise pickle.UnpicklingError("an unknown kind of storage")
    if type(key) is not str or type(count) is not int:
      raise pickle.UnpicklingError("a malformed storage")
    return _Storage(self._storages.view(key, storage_type.dtype, count))


def _rebuild_tensor(storage, offset, size, stride, *_):
  """Make a strided view, sure that it stays inside its storage."""
  numbers = (offset, *size, *stride)
  if type(storage) is not _Storage or not len(size) == len(stride) <= _MAX_DIMS:
    raise pickle.UnpicklingError("a malformed tensor")
  if any(type(n) is not int or not 0 <= n < 2**63 for n in numbers):
    raise pickle.UnpicklingError("a tensor with odd sizes or strides")
  array, count = storage.array, math.prod(size)
  last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
  # A stride of 0 would let few bytes stand for an enormous tensor.
  if count > array.size or (count and last >= array.size):
    raise pickle.UnpicklingError("a tensor larger than its storage")
  tensor = _Tensor()
  if count:
    tensor.array = np.lib.stride_tricks.as_strided(
      array[offset:],
      size,
      [s * array.itemsize for s in stride],
      writeable=False,
    )
  else:
    tensor.array = np.empty(size, array.dtype)
  return tensor


def _first(value, *_):
  return value


_KNOWN = {
  ("collections", "OrderedDict"): _Dict,
  ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
  ("torch._utils", "_rebuild_parameter"): _first,
  ("torch.jit._pickle", "build_intlist"): _first,
  ("torch.jit._pickle", "build_doublelist"): _first,
  ("torch.jit._pickle", "build_boollist"): _first,
  ("torch.jit._pickle", "build_tensorlist"): _first,
  ("torch.jit._pickle", "restore_type_tag"): _first,
}


def _tensors(root) -> dict[str, np.ndarray]:
  """Walk dicts and modules, which may share parts or hold each other."""
  found, left, seen, written = {}, [("", root, 0)], 1, 0
  while left:
    prefix, node, depth = left.pop()
    if type(node) is _Module:
      node = getattr(node, "state", None)
    if type(node) is _Tensor:
      found[prefix.removesuffix(".")] = node.array
    elif isinstance(node, dict):
      seen += len(node)
      written += sum(len(prefix) + len(str(name)) for name in node)
      if seen > _MAX_NODES or depth > _MAX_DEPTH or written > _MAX_NAMES:
        raise ValueError("its containers are nested without end")
      left.extend(  # reversed, so that the file's order comes out
        (f"{prefix}{name}.", child, depth + 1)
        for name, child in reversed(node.items())
      )
  if not found:
    raise ValueError("it holds no tensors")
  return found
