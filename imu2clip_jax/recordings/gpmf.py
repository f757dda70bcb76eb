"""GPMF, the telemetry that GoPro cameras write next to the video.

A payload is a row of big-endian items: four letters of key, one of type, one
byte of element size, two of count, then the elements, padded to four bytes.
Type 0 nests. A payload holds one `DEVC` a device (the camera, a drone, heart
rate belts), a device one `STRM` a sensor, a stream its modifiers (`SCAL`,
`ORIN`, ...) and then its data. Format: README of gopro/gpmf-parser.

Every size is checked against what is there; damage raises ValueError with the
file and the offset. Two levels of nesting are read and no more.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

_DTYPES = {
  "b": ">i1",
  "B": ">u1",
  "s": ">i2",
  "S": ">u2",
  "l": ">i4",
  "L": ">u4",
  "f": ">f4",
  "d": ">f8",
  "j": ">i8",
  "J": ">u8",
}


@dataclasses.dataclass(frozen=True)
class Stream:
  """One sensor's part of a payload.

  Attributes:
    values: [N, K] float64, divided by SCAL; K in stored order.
    unit: SIUN, "" if not stated.
    orientation: ORIN, "" if not stated: letter i is the axis of column i, a
      small letter its negative.
    stamp_us: STMP, time of the first sample in microseconds, or None.
    tick_ms: TICK, the camera's clock in milliseconds, or None.
  """

  values: np.ndarray
  unit: str
  orientation: str
  stamp_us: int | None
  tick_ms: int | None


@dataclasses.dataclass(frozen=True)
class Device:
  """One device's part of a payload.

  Attributes:
    device_id: DVID as stored; the same in every payload of a file.
    name: DVNM, e.g. "HERO11 Black".
    streams: data key, e.g. "ACCL" -> Stream; only the keys asked for.
  """

  device_id: bytes
  name: str
  streams: dict[str, Stream]


@dataclasses.dataclass(frozen=True)
class _Item:
  key: str
  kind: str  # "\0" nests
  size: int
  count: int
  at: int
  body: memoryview


def devices(
  data: bytes | memoryview, keys: Sequence[str], where: str, offset: int = 0
) -> Iterator[Device]:
  """Yield every device of one payload, or of several one after another.

  Args:
    data: payloads, each beginning with DEVC.
    keys: streams to read; the others are skipped unread.
    where: file name for errors.
    offset: position of `data` in that file, for errors.

  Raises:
    ValueError: a size, count or type contradicts the format; names the file
      and the offset.
  """
  for item in _items(memoryview(data), offset, where):
    if item.key != "DEVC" or item.kind != "\0":
      raise ValueError(
        f"{where}: offset {item.at}: expected DEVC, found {item.key!r}"
      )
    device_id, name, streams = b"", "", {}
    for part in _items(item.body, item.at + 8, where):
      if part.key == "DVID":
        device_id = bytes(part.body)
      elif part.key == "DVNM":
        name = _text(part)
      elif part.key == "STRM" and part.kind == "\0":
        streams |= _stream(part, keys, where)
    yield Device(device_id, name, streams)


def _items(data, offset, where):
  """Yield the items that lie in `data` one after another."""
  at = 0
  while at < len(data):
    if len(data) - at < 8 or not any(data[at : at + 4]):
      if any(data[at:]):
        raise ValueError(
          f"{where}: offset {offset + at}: {len(data) - at} stray bytes"
        )
      return  # padding
    key = bytes(data[at : at + 4]).decode("latin-1")
    kind, size = chr(data[at + 4]), data[at + 5]
    count = int.from_bytes(data[at + 6 : at + 8], "big")
    length = size * count
    if at + 8 + length > len(data):
      raise ValueError(
        f"{where}: offset {offset + at}: {key!r} claims {length} bytes, "
        f"{len(data) - at - 8} are left"
      )
    body = data[at + 8 : at + 8 + length]
    yield _Item(key, kind, size, count, offset + at, body)
    at += 8 + (length + 3) // 4 * 4


def _stream(strm, keys, where):
  """Return {key: Stream} of a STRM that holds one of `keys`, else {}."""
  about, data = {}, []
  for item in _items(strm.body, strm.at + 8, where):
    if item.key in keys:
      data.append(item)
    else:
      about[item.key] = item
  if not data:
    return {}
  values = [_numbers(item, where) for item in data]
  width = max(v.shape[1] for v in values)
  values = [v for v in values if len(v)] or [np.zeros((0, width))]
  if any(v.shape[1] != width for v in values):
    raise ValueError(
      f"{where}: offset {strm.at}: {data[0].key!r} changes its width"
    )
  values = np.concatenate(values) if len(values) > 1 else values[0]
  scale = _scale(about.get("SCAL"), width, where)
  if scale is not None:
    with np.errstate(all="ignore"):  # damaged numbers may overflow
      values = values / scale
  stream = Stream(
    values=values,
    unit=_text(about["SIUN"]) if "SIUN" in about else "",
    orientation=_text(about["ORIN"]) if "ORIN" in about else "",
    stamp_us=_whole(about.get("STMP"), where),
    tick_ms=_whole(about.get("TICK"), where),
  )
  return {data[0].key: stream}


def _numbers(item, where) -> np.ndarray:
  """Return an item's elements as float64 [count, fields of an element]."""
  dtype = _DTYPES.get(item.kind)
  width = item.size // np.dtype(dtype).itemsize if dtype else 0
  if not width or item.size != width * np.dtype(dtype).itemsize:
    raise ValueError(
      f"{where}: offset {item.at}: {item.key!r} has elements of {item.size} "
      f"bytes of type {item.kind!r}, expected whole numbers of "
      f"{', '.join(_DTYPES)}"
    )
  values = np.frombuffer(item.body, dtype).reshape(-1, width)
  with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN
    return values.astype(np.float64)


def _scale(item, width, where):
  if item is None:
    return None
  scale = _numbers(item, where).ravel()
  if scale.size not in (1, width) or not np.all(
    np.isfinite(scale) & (scale != 0)
  ):
    raise ValueError(
      f"{where}: offset {item.at}: SCAL is {scale.tolist()[:9]}, expected 1 or "
      f"{width} numbers other than 0"
    )
  return scale


def _whole(item, where) -> int | None:
  if item is None or not item.count:
    return None
  number = _numbers(item, where)[0, 0]
  if not np.isfinite(number):
    raise ValueError(f"{where}: offset {item.at}: {item.key!r} is {number}")
  return int(number)


def _text(item) -> str:
  return bytes(item.body).decode("latin-1").rstrip("\0 ")
