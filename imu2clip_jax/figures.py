"""The pictures of an evaluation: curves and confusion as PNG, signals as SVG.

PNGs are drawn with matplotlib's Agg canvas and no pyplot, so nothing global
changes and no display is needed. Signals are many and small: SVG text is a
hundred times faster to make and follows the page's colours.
"""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from imu2clip_jax import schema, tables

# The hue names the pair and the dash the direction, so that prints without
# colour still tell lines apart. Hues: Okabe and Ito's colour-blind set.
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"
_HUES = (_BLUE, _ORANGE, _GREEN)
_DASHED = (0, (4, 1.5))
_LINES = {
  "text->imu": (_BLUE, "-"),
  "imu->text": (_BLUE, _DASHED),
  "imu->video": (_ORANGE, "-"),
  "video->imu": (_ORANGE, _DASHED),
  "text->video": (_GREEN, "-"),
}
# Shares below half a percent are left blank in a confusion matrix.
_SMALLEST_SHARE = 0.005
# Width, height and left margin of a signal picture; points a line at most.
_WIDTH, _PANEL, _LEFT, _POINTS = 180, 52, 32, 160


def recall_curves(
  ranks: dict[str, np.ndarray], galleries: dict[str, int]
) -> bytes:
  """Draw recall@k over k as PNG, one line a direction, chance dotted.

  Args:
    ranks: direction ("text->imu", ...) -> [Nq] rank of the match, from 1.
    galleries: direction -> number of rows it was ranked against.

  Raises:
    ValueError: there is no direction to draw.
  """
  if not ranks:
    raise ValueError("no direction was measured, so there is no recall curve")
  figure, axes = _figure(5.4, 3.6)
  sizes = sorted({galleries[direction] for direction in ranks})
  for direction, (hue, dash) in _LINES.items():
    if direction in ranks:
      k = _log_spaced(galleries[direction])
      found = np.searchsorted(np.sort(ranks[direction]), k, "right")
      recall = 100 * found / len(ranks[direction])
      name = tables.arrow(direction)
      axes.plot(k, recall, color=hue, linestyle=dash, linewidth=1.6, label=name)
  for size in sizes:
    k = _log_spaced(size)
    name = "chance" if size == sizes[0] else None
    axes.plot(k, 100 * k / size, ":", color="grey", linewidth=1.4, label=name)
  axes.set_xscale("log")
  axes.set_xlim(1, max(sizes[-1], 2))
  axes.set_ylim(0, 100)
  axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
  axes.set_xlabel(f"k, of {' or '.join(map(str, sizes))} windows")
  axes.set_ylabel("recall@k (%)")
  axes.grid(True, which="major", color="grey", alpha=0.25, linewidth=0.6)
  axes.legend(frameon=False, loc="best", handlelength=2.6)
  return _png(figure)


def confusion(counts: np.ndarray, names: list[str]) -> bytes:
  """Draw a confusion matrix as PNG, each row in percent of its windows.

  Args:
    counts: [C, C] windows, true class by named class.
    names: C class names.

  Raises:
    ValueError: the counts do not fit the names.
  """
  counts = np.asarray(counts, np.float64)
  if counts.shape != (len(names), len(names)) or not names:
    raise ValueError(
      f"confusion counts are {list(counts.shape)} for {len(names)} names"
    )
  support = counts.sum(1)
  share = counts / np.maximum(support, 1)[:, None]
  side = 2.2 + 0.26 * len(names)
  figure, axes = _figure(side + 0.4, side)
  axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
  for true, named in zip(*np.nonzero(share >= _SMALLEST_SHARE), strict=True):
    axes.text(
      named,
      true,
      f"{100 * share[true, named]:.0f}",
      ha="center",
      va="center",
      fontsize=7,
      color="white" if share[true, named] > 0.5 else "black",
    )
  labels = [f"{n} ({s:.0f})" for n, s in zip(names, support, strict=True)]
  axes.set_xticks(range(len(names)), names, rotation=90)
  axes.set_yticks(range(len(names)), labels)
  axes.tick_params(length=0, labelsize=8)
  axes.set_xlabel("named")
  axes.set_ylabel("true (windows)")
  axes.spines[:].set_visible(True)
  return _png(figure)


def reliability(calibration: dict) -> bytes:
  """Draw accuracy over confidence as PNG, one line a way of naming.

  Args:
    calibration: task -> what `calibration.reliability` returns.
  """
  figure, axes = _figure(3.8, 3.6)
  axes.plot([0, 1], [0, 1], ":", color="grey", linewidth=1.4, label="honest")
  for (task, found), hue in zip(calibration.items(), _HUES, strict=False):
    bins = found["bins"]
    axes.plot(
      [b["confidence"] for b in bins],
      [b["accuracy"] for b in bins],
      "o-",
      color=hue,
      linewidth=1.6,
      markersize=3.5,
      label=f"{tables.RECOGNITION[task]}, ECE {found['ece']:.3f}",
    )
  axes.set_xlim(0, 1)
  axes.set_ylim(0, 1)
  axes.set_xlabel("confidence")
  axes.set_ylabel("share of right names")
  axes.grid(True, color="grey", alpha=0.25, linewidth=0.6)
  axes.legend(frameon=False, loc="upper left", fontsize=8)
  return _png(figure)


def risk_coverage(abstention: dict) -> bytes:
  """Draw the share of wrong names over the share answered as PNG.

  Dashed: windows of unseen activities among them, for which any name is wrong.

  Args:
    abstention: task -> what `confidence.assess` returns.
  """
  figure, axes = _figure(3.8, 3.6)
  for (task, found), hue in zip(abstention.items(), _HUES, strict=False):
    name = f"{tables.RECOGNITION[task]}, AURC {found['aurc']:.3f}"
    curve = found["curve"]
    axes.plot(curve["coverage"], curve["risk"], color=hue, label=name)
    if "unseen" in found:
      curve = found["unseen"]["curve"]
      axes.plot(curve["coverage"], curve["risk"], color=hue, linestyle=_DASHED)
  axes.set_xlim(0, 1)
  axes.set_ylim(bottom=0)
  axes.set_xlabel("share of windows answered, surest first")
  axes.set_ylabel("share of wrong names")
  axes.grid(True, color="grey", alpha=0.25, linewidth=0.6)
  axes.legend(frameon=False, loc="upper left", fontsize=8)
  return _png(figure)


def few_shot(curve: dict) -> bytes:
  """Draw macro-F1 over labels a class as PNG, ± one standard deviation.

  Args:
    curve: what `few_shot.curve` returns.
  """
  figure, axes = _figure(3.8, 3.6)
  place = range(len(curve))
  axes.errorbar(
    place,
    [found["macro_f1"] for found in curve.values()],
    [found["macro_f1_sd"] for found in curve.values()],
    fmt="o-",
    color=_BLUE,
    capsize=3,
  )
  axes.set_xticks(place, list(curve))
  axes.set_ylim(0, 1)
  axes.set_xlabel("labels of each class")
  axes.set_ylabel("macro-F1 of a linear probe")
  axes.grid(True, color="grey", alpha=0.25, linewidth=0.6)
  return _png(figure)


def signals(
  imu: np.ndarray, rate_hz: float, sensor_mask: np.ndarray | None = None
) -> str:
  """Draw one window small as SVG: acceleration above, angular rate below.

  Lines carry the classes "x", "y", "z"; text and axes take the page's colour.

  Args:
    imu: [T, 6] m/s² and rad/s.
    rate_hz: samples a second.
    sensor_mask: [2] bool, accel and gyro measured? None means both.

  Raises:
    ValueError: `imu` is not [T, 6].
  """
  imu = np.asarray(imu)
  if imu.ndim != 2 or imu.shape[1] != len(schema.CHANNELS):
    raise ValueError(f"imu must be [T, 6], got {list(imu.shape)}")
  measured = (True, True) if sensor_mask is None else sensor_mask
  window_s, height = len(imu) / rate_hz, 2 * _PANEL + 12
  panels = "".join(
    _panel(
      _thinned(imu[:, 3 * row : 3 * row + 3]) if measured[row] else None,
      unit,
      row * _PANEL,
    )
    for row, unit in enumerate(("m/s²", "rad/s"))
  )
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
    'font-size="9" font-family="sans-serif" fill="currentColor" role="img" '
    f'aria-label="signal">{panels}<text x="{_LEFT}" y="{height - 2}">0</text>'
    f'<text x="{_WIDTH}" y="{height - 2}" text-anchor="end">{window_s:g} s'
    "</text></svg>"
  )


def _panel(values, unit, top):
  """One sensor's three lines between the least and the largest value."""
  bottom = top + _PANEL - 6
  text = f'<text x="2" y="{top + _PANEL / 2 + 2:g}">{unit}</text>'
  axis = (
    f'<path d="M{_LEFT} {top + 3}V{bottom}H{_WIDTH}" fill="none" '
    'stroke="currentColor" stroke-width="0.6" opacity="0.6"/>'
  )
  if values is None:
    return (
      f'{axis}{text}<text x="{_LEFT + 8}" y="{top + _PANEL / 2 + 2:g}">not '
      "measured</text>"
    )
  low, high = float(values.min()), float(values.max())
  x = np.linspace(_LEFT, _WIDTH, len(values))
  y = bottom - (values - low) / max(high - low, 1e-6) * (bottom - top - 3)
  lines = "".join(
    f'<polyline class="{axis_name}" fill="none" stroke="{hue}" '
    f'stroke-width="1.1" points="{_points(x, y[:, k])}"/>'
    for k, (axis_name, hue) in enumerate(
      zip("xyz", (_BLUE, _ORANGE, _GREEN), strict=True)
    )
  )
  ends = "".join(
    f'<text x="{_LEFT - 3}" y="{place:g}" text-anchor="end">{value:.3g}</text>'
    for place, value in ((top + 10, high), (bottom, low))
  )
  return axis + text + ends + lines


def _thinned(values):
  """At most _POINTS rows: the least and the largest of each stretch, in the
  order in which they came, so that peaks stay.
  """
  step = -(-2 * len(values) // _POINTS)
  if step < 3:
    return values
  padded = np.pad(values, ((0, -len(values) % step), (0, 0)), mode="edge")
  stretches = padded.reshape(-1, step, values.shape[1])
  ends = np.stack([stretches.argmin(1), stretches.argmax(1)], axis=1)
  kept = np.take_along_axis(stretches, np.sort(ends, axis=1), axis=1)
  return kept.reshape(-1, values.shape[1])


def _points(x, y):
  return " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _figure(width_in, height_in):
  figure = Figure(figsize=(width_in, height_in), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  axes.spines[["top", "right"]].set_visible(False)
  return figure, axes


def _log_spaced(gallery):
  """Whole numbers 1 .. gallery, evenly spread on a log axis."""
  return np.unique(np.geomspace(1, gallery, 200).round().astype(np.int64))


def _png(figure):
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=200)
  return buffer.getvalue()
