import pytest

from imu2clip_jax.data import checksums


def flip(path, at):
  data = bytearray(path.read_bytes())
  data[at] ^= 1
  path.write_bytes(data)


@pytest.fixture
def folder(tmp_path, write_cache, monkeypatch):
  monkeypatch.setattr(checksums, "BLOCK_BYTES", 1000)
  return write_cache(tmp_path) / "train"


def test_whole_files_pass(folder):
  checksums.verify([folder])


@pytest.mark.parametrize("at", [0, 999, 1000, -1])
def test_a_flipped_byte_is_found_and_named(folder, at):
  flip(folder / "imu.npy", at)
  with pytest.raises(ValueError, match=r"imu\.npy is damaged between bytes"):
    checksums.verify([folder])


def test_longer_shorter_and_missing_files_are_found(folder):
  path = folder / "labels.npy"
  data = path.read_bytes()
  for other in (data + b"x", data[:-1]):
    path.write_bytes(other)
    with pytest.raises(ValueError, match="labels"):
      checksums.verify([folder])
  path.unlink()
  with pytest.raises(ValueError, match="labels"):
    checksums.verify([folder])


def test_hosts_find_every_block_between_them(folder):
  flip(folder / "imu.npy", 4321)
  found = 0
  for host in range(3):
    try:
      checksums.verify([folder], (host, 3))
    except ValueError:
      found += 1
  assert found == 1


def test_a_cache_without_checksums_says_what_to_do(folder):
  (folder / "checksums.json").unlink()
  with pytest.raises(ValueError, match="imu2clip embed"):
    checksums.verify([folder])


def test_the_watch_raises_in_the_thread_that_asks(folder):
  flip(folder / "start_s.npy", 200)
  watch = checksums.Watch([folder])
  watch._thread.join(10)
  with pytest.raises(ValueError, match=r"start_s\.npy"):
    watch.check()
  watch.close()
