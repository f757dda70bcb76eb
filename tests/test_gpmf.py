"""GPMF: what was written is read back; damage is named with its offset."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imu2clip_jax.recordings import gpmf

KINDS = {"s": "h", "S": "H", "l": "i", "L": "I", "f": "f", "d": "d", "b": "b"}


def item(key, kind, body, size=1):
  """One KLV item: `body` is bytes in elements of `size` bytes."""
  head = key + (kind.encode() if kind else b"\0")
  count = len(body) // size
  head += struct.pack(">BH", size, count)
  return head + body + bytes(-len(body) % 4)


def nest(key, *parts):
  return item(key, "", b"".join(parts), size=1)


def numbers(key, kind, rows):
  rows = np.atleast_2d(rows)
  body = b"".join(struct.pack(f">{KINDS[kind]}", v) for v in rows.ravel())
  return item(key, kind, body, size=len(body) // len(rows))


def payload(rows, kind="s", scale=(418,), extra=()):
  return nest(
    b"DEVC",
    numbers(b"DVID", "L", [[1]]),
    item(b"DVNM", "c", b"Camera"),
    nest(
      b"STRM",
      numbers(b"STMP", "L", [[2_000_005]]),
      item(b"SIUN", "c", "m/s²".encode("latin-1"), size=4),
      numbers(b"SCAL", kind, np.reshape(scale, (-1, 1))),
      item(b"ORIN", "c", b"YxZ", size=3),
      *extra,
      numbers(b"ACCL", kind, rows),
    ),
    nest(b"STRM", item(b"STNM", "c", b"no data here")),
  )


def read(data, keys=("ACCL",), offset=0):
  return list(gpmf.devices(data, keys, "clip.raw", offset))


@given(
  rows=st.lists(
    st.tuples(*[st.integers(-(2**15), 2**15 - 1)] * 3), min_size=1, max_size=40
  ),
  scale=st.integers(1, 4000),
)
def test_what_was_written_is_read_back(rows, scale):
  (device,) = read(payload(rows, scale=(scale,)))
  stream = device.streams["ACCL"]
  np.testing.assert_array_equal(stream.values, np.array(rows) / scale)
  assert (device.name, device.device_id) == ("Camera", b"\0\0\0\1")
  assert (stream.unit, stream.orientation) == ("m/s²", "YxZ")
  assert (stream.stamp_us, stream.tick_ms) == (2_000_005, None)


@pytest.mark.parametrize("kind", ["b", "s", "l", "f", "d"])
def test_number_types_and_one_scale_a_column(kind):
  rows = [[1, -2, 3], [4, 5, -6]]
  (device,) = read(payload(rows, kind, scale=(1, 2, 4)))
  want = np.array(rows) / [1, 2, 4]
  np.testing.assert_array_equal(device.streams["ACCL"].values, want)


def test_an_odd_length_is_padded_and_zeros_end_a_payload():
  data = payload([[1, 2, 3]], extra=[item(b"STNM", "c", b"seven c")])
  assert len(read(data + data + bytes(12))) == 2


def test_a_key_without_elements_gives_no_rows():
  (device,) = read(payload(np.zeros((1, 3), int), extra=[]))
  assert device.streams["ACCL"].values.shape == (1, 3)
  empty = nest(b"DEVC", nest(b"STRM", item(b"ACCL", "s", b"", size=6)))
  (device,) = read(empty)
  assert device.streams["ACCL"].values.shape == (0, 3)


def test_streams_not_asked_for_are_not_read():
  (device,) = read(payload([[1, 2, 3]]), keys=("GYRO",))
  assert device.streams == {}


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda d: d[:-9], r"clip\.raw: offset 100: 'DEVC' claims \d+ bytes"),
    (lambda d: b"JUNK" + d[4:], "offset 100: expected DEVC, found 'JUNK'"),
    (lambda d: d + b"abc", "stray bytes"),
    (lambda d: d.replace(b"ACCLs", b"ACCL?"), "'ACCL' has elements of 6 bytes"),
    (lambda d: d.replace(b"ACCLs\x06", b"ACCLs\x05"), "offset"),
    (lambda d: d.replace(b"\x01\xa2", b"\0\0"), "SCAL is"),
    (lambda d: d.replace(b"STMPL", b"STMPc"), "'STMP' has elements"),
  ],
)
def test_damage_is_named_with_its_offset(damage, message):
  data = payload([[1, 2, 3], [4, 5, 6]])
  with pytest.raises(ValueError, match=message):
    read(damage(data), offset=100)


def test_deep_nesting_is_not_followed():
  data = b""
  for _ in range(2000):
    data = nest(b"STRM", data)[:60_000]
  (device,) = read(nest(b"DEVC", nest(b"STRM", data[:50_000])))
  assert device.streams == {}
