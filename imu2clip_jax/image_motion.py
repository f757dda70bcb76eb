"""How the picture moves from one frame to the next, on small grey pictures."""

import numpy as np
from scipy import ndimage


def shrink(frames: np.ndarray, width: int = 96) -> np.ndarray:
  """Return small grey pictures of frames.

  Args:
    frames: [K, H, W, 3] uint8.
    width: pixels, at least; pictures smaller than this keep their size.

  Returns:
    [K, h, w] float32, means of the green channel over squares.
  """
  green = frames[..., 1]
  side = max(1, green.shape[2] // width)
  h, w = (n // side * side for n in green.shape[1:])
  squares = green[:, :h, :w].reshape(-1, h // side, side, w // side, side)
  return squares.mean(axis=(2, 4), dtype=np.float32)


def measure(grey: np.ndarray, blocks: int = 3) -> np.ndarray:
  """Measure how each picture moved to the next, in a grid of blocks.

  The whole picture's shift in whole pixels by phase correlation, then one step
  of Lucas and Kanade (1981) in each block. Blocks are kept apart because parts
  of the picture (hands, glasses) move with the wearer.

  Args:
    grey: [K, h, w] float.
    blocks: along each side.

  Returns:
    [K - 1, 2 * blocks²]: shifts along x, then along y, in pixels.
  """
  grey = ndimage.gaussian_filter(np.asarray(grey, np.float32), (0, 0.7, 0.7))
  before, after = grey[:-1], grey[1:]
  count, h, w = before.shape
  dy, dx = _whole_shift(before, after)
  rows = np.clip(np.arange(h) + dy[:, None], 0, h - 1)
  columns = np.clip(np.arange(w) + dx[:, None], 0, w - 1)
  after = np.take_along_axis(after, rows[:, :, None], axis=1)
  after = np.take_along_axis(after, columns[:, None, :], axis=2)
  middle = (before + after) / 2
  gx, gy = np.gradient(middle, axis=2), np.gradient(middle, axis=1)
  gt = after - before

  def total(x):
    bh, bw = h // blocks, w // blocks
    x = x[:, : bh * blocks, : bw * blocks]
    return x.reshape(count, blocks, bh, blocks, bw).sum(axis=(2, 4))

  xx, xy, yy = total(gx * gx), total(gx * gy), total(gy * gy)
  xt, yt = total(gx * gt), total(gy * gt)
  flat = 0.01 * (xx + yy).mean() + 1e-6  # blocks without texture stay still
  xx, yy = xx + flat, yy + flat
  area = xx * yy - xy * xy
  # The step holds near the guess only; further out it is a cut or a blur.
  u = dx[:, None, None] - np.clip((yy * xt - xy * yt) / area, -2, 2)
  v = dy[:, None, None] - np.clip((xx * yt - xy * xt) / area, -2, 2)
  return np.concatenate([u.reshape(count, -1), v.reshape(count, -1)], axis=1)


def _whole_shift(before, after):
  """Return (dy, dx) [K] int of whole pictures, by phase correlation."""
  count, h, w = before.shape
  window = np.hanning(h)[:, None] * np.hanning(w)
  spectra = [
    np.fft.rfft2((x - x.mean(axis=(1, 2), keepdims=True)) * window)
    for x in (before, after)
  ]
  cross = spectra[0].conj() * spectra[1]
  size = np.abs(cross)
  cross /= size + 1e-3 * size.mean() + 1e-12
  peak = np.fft.irfft2(cross, s=(h, w)).reshape(count, -1).argmax(axis=1)
  dy, dx = np.unravel_index(peak, (h, w))
  dy, dx = (dy + h // 2) % h - h // 2, (dx + w // 2) % w - w // 2
  jump = (np.abs(dy) > h // 4) | (np.abs(dx) > w // 4)  # a cut, or nothing
  return np.where(jump, 0, dy), np.where(jump, 0, dx)
