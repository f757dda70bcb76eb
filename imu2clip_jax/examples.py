"""Queries of an evaluation with the windows that they found, as cards."""

import ml_collections
import numpy as np

from imu2clip_jax import embed, figures, pages, retrieval
from imu2clip_jax.data import builder, cache

# Queries shown in the report, by direction, and the size of their frames.
_SHOWN = {"text->imu": 6, "imu->video": 4}
_FRAME_PIXELS = 224


def collect(
  config: ml_collections.ConfigDict,
  windows: cache.Split,
  sides: dict,
  ranked: dict,
) -> list[dict]:
  """Return some queries with what they found, as `report.page` shows them.

  Args:
    config: the run's options, with the data set that was asked.
    windows: the split.
    sides: see `retrieval.sides`.
    ranked: direction -> (rows, ranks), see `retrieval.measure`.
  """
  records = builder.open_windows(config.data.dir, windows.name)
  queries = []
  for direction, count in _SHOWN.items():
    if direction not in ranked:
      continue
    rows, ranks = ranked[direction]
    drawn = retrieval.examples(
      sides,
      direction,
      rows,
      ranks,
      np.asarray(windows.labels),
      count=count,
      seed=config.seed,
    )
    for example in drawn:
      hits = [
        _card(windows, records, row) | {"match": row == example["row"]}
        for row in example["hits"]
      ]
      queries.append(
        {
          "direction": direction,
          "query": _card(windows, records, example["row"]),
          "rank": example["rank"],
          "gallery": len(rows),
          "hits": hits,
        }
      )
  return queries


def _card(windows, records, row):
  record = records[row]
  start_s = float(windows.start_s[row])
  span = "-".join(
    f"{int(t) // 60}:{int(t) % 60:02d}"
    for t in (start_s, start_s + windows.meta["window_s"])
  )
  label = windows.labels[row]
  return {
    "frame": _thumbnail(record),
    "signal": figures.signals(
      windows.imu[row], windows.meta["rate_hz"], windows.sensor_mask[row]
    ),
    "text": record["texts"][0] if record["texts"] else "",
    "label": windows.label_names[label] if label >= 0 else "",
    "source": f"{windows.recording_ids[row]}, {span}",
  }


def _thumbnail(record):
  """The middle frame as a small JPEG, or None."""
  if not record["frames"]:
    return None
  middle = embed.decode_frame(record, len(record["frames"]) // 2)
  return pages.jpeg(middle, _FRAME_PIXELS)
