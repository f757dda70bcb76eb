"""What a wearer's windows say without labels: their moments, their likeness.

All of this looks at the windows of one wearer together; none at a label. It
asks for a varied day, with each activity in several windows.
"""

import numpy as np
from scipy import sparse, spatial, special
from scipy.sparse import csgraph, linalg

# Chosen on training wearers of ClassyGlass. Neighbours as unlike as the cosine
# of two activities, about 0, count e^-5.
_NEIGHBOURS, _WIDTH = 5, 0.2


def standardise_by_wearer(x: np.ndarray, wearers: np.ndarray) -> np.ndarray:
  """Give every wearer's features mean 0 and spread 1.

  What all windows of a wearer share says who it is and how the sensor sits, not
  what is done. Needs no label, but windows of a wearer that between them show
  different activities: whoever only walks would be told to stand still.

  Args:
    x: [N, W] features.
    wearers: [N] ids.

  Returns:
    float64 [N, W]; a feature that one wearer never changes is 0 there.
  """
  _, codes = np.unique(np.asarray(wearers), return_inverse=True)
  mean, spread = moments_by_wearer(x, codes, codes.max(initial=-1) + 1)
  return (x - mean[codes]) / np.where(spread > 1e-9, spread, 1)[codes]


def moments_by_wearer(
  x: np.ndarray, codes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Return mean and spread of each wearer's features.

  Args:
    x: [N, W] features.
    codes: int [N], the wearer of each, below `count`.
    count: K, number of wearers.

  Returns:
    two float64 [K, W]; zeros for a wearer without a row.
  """
  mean, spread = np.zeros((2, count, x.shape[1]))
  for code in np.unique(codes):
    own = x[codes == code].astype(np.float64)
    mean[code], spread[code] = own.mean(0), own.std(0)
  return mean, spread


def agree_by_wearer(
  logits: np.ndarray, x: np.ndarray, wearers: np.ndarray
) -> np.ndarray:
  """Let windows that look alike be named alike.

  Of each wearer's class probabilities p those q are returned that minimise
  sum_i |q_i - p_i|² + sum_ij w_ij |q_i - q_j|², the second sum over pairs of
  windows of which one is among the five nearest of the other by cosine, with
  w_ij = exp((cos_ij - 1) / 0.2): Tikhonov regularisation on a graph (Belkin,
  Matveeva & Niyogi 2004, "Regularization and Semi-supervised Learning on Large
  Graphs"). What nothing else looks like stays as it is, and how much of each
  class a wearer has does not change.

  Args:
    logits: [N, C] of a head.
    x: [N, W] what the head read, see `standardise_by_wearer`.
    wearers: [N] ids.

  Returns:
    float64 [N, C], rows sum to 1.
  """
  found = special.softmax(np.asarray(logits, np.float64), axis=1)
  wearers = np.asarray(wearers)
  for wearer in np.unique(wearers):
    rows = np.flatnonzero(wearers == wearer)
    if len(rows) > 1:
      found[rows] = _agreed(found[rows], _likeness(x[rows]))
  return found


def _agreed(p, likeness):
  """Solve (1 + Laplacian) q = p."""
  system = sparse.eye_array(len(p)) + csgraph.laplacian(likeness)
  q = np.empty_like(p)
  for k, column in enumerate(p.T):
    q[:, k], unsolved = linalg.cg(system, column, rtol=1e-9)
    if unsolved:
      raise ArithmeticError(f"no solution after {unsolved} steps")
  return q


def _likeness(x):
  """Return the symmetric weights w [n, n], sparse."""
  x = np.asarray(x, np.float64)
  length = np.linalg.norm(x, axis=1, keepdims=True)
  unit = x / np.where(length > 0, length, 1)
  # Each is its own nearest, which the Laplacian leaves out.
  count = min(_NEIGHBOURS + 1, len(x))
  distance, near = spatial.KDTree(unit).query(unit, count, workers=-1)
  # Of unit vectors the squared distance is 2 - 2 cos.
  weights = np.exp(-(distance.ravel() ** 2) / (2 * _WIDTH))
  places = np.repeat(np.arange(len(x)), count), near.ravel()
  one_way = sparse.csr_array((weights, places), shape=(len(x),) * 2)
  return one_way.maximum(one_way.T)
