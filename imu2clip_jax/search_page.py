"""The page of a search: frames, signal and time of every moment."""

import functools
from collections.abc import Callable

import numpy as np

from imu2clip_jax import embed, figures, pages, run_files, tables
from imu2clip_jax import imu as imu_lib
from imu2clip_jax.data import builder
from imu2clip_jax.recordings import opening
from imu2clip_jax.recordings import recording as recording_lib

_STRIP_FRAMES, _FRAME_PIXELS = 4, 240


def page(document: dict, show: Callable[[dict], dict]) -> str:
  """Return the page of what `search` found.

  Args:
    document: what `search` returned.
    show: moment -> {"frames": JPEGs in order of time, "signal": SVG text,
      "text"}, see `pictures`.
  """
  about = document["gallery"]
  parts = [
    "<h1>Found moments</h1>",
    f"<p>{pages.text(about['what'])}: {about['windows']} windows of "
    f"{about['recordings']} recordings.</p>",
    '<p class="small">Best first. Frames run from the start of a moment to its '
    "end. Signal: its best window, acceleration above, angular rate below; x "
    "blue, y orange, z green. Score: cosine of query and motion.</p>",
  ]
  for answer in document["queries"]:
    cards = "".join(_card(m, show(m)) for m in answer["moments"])
    parts.append(
      f"<section><h2>{pages.text(answer['query'])}</h2>"
      f'<p class="small">asked by {pages.text(answer["kind"])}; the mean '
      f"window scores {answer['mean_score']:.3f}</p>"
      f'<div class="moments">{cards}</div></section>'
    )
  return pages.page("Found moments", parts)


def _card(moment, shown):
  frames = "".join(pages.image(f, "jpeg", "frame") for f in shown["frames"])
  strip = f'<div class="strip">{frames}</div>' if frames else ""
  told = f"<p>{pages.text(shown['text'])}</p>" if shown["text"] else ""
  ends = (tables.clock(moment[end]) for end in ("start_s", "end_s"))
  source = pages.text(moment["path"] or moment["recording_id"])
  return (
    f"<article><header><b>{' to '.join(ends)}</b><span>{moment['rank']} · "
    f"score {moment['score']:.3f}</span></header>{strip}{shown['signal']}{told}"
    f"<small>{source.replace('_', '_<wbr>')}</small></article>"
  )


def pictures(run, gallery: dict) -> Callable[[dict], dict]:
  """Return what shows a moment of this gallery; see `page`.

  Raises:
    FileNotFoundError, ValueError: the split's frames are gone, or others are in
      their place.
  """
  if gallery["windows"] is None:
    return functools.partial(
      _of_recording,
      # A page may show many moments of few recordings.
      functools.lru_cache(maxsize=4)(opening.open_recording),
      run.encoder.window_s,
      run.encoder.rate_hz,
    )
  windows = gallery["windows"]
  run_files.check_data(run.workdir, [run.config.data.dir])
  records = builder.open_windows(run.config.data.dir, windows.name)
  rows = {name: row for row, name in enumerate(windows.window_ids)}
  return functools.partial(_of_split, windows, records, rows)


def _of_recording(open_recording, window_s, rate_hz, moment):
  recording = open_recording(moment["path"])
  best = recording.window(
    moment["best_start_s"] + window_s / 2,
    window_s,
    rate_hz=rate_hz,
    num_frames=0,
  )
  frames = []
  video = recording.video
  if video is not None:
    length_s = moment["end_s"] - moment["start_s"]
    times = recording_lib.frame_times(
      moment["start_s"], length_s, _STRIP_FRAMES
    )
    inside = times[(times >= video.start_s) & (times <= video.end_s)]
    frames = list(recording.frames(inside)) if inside.size else []
  motion = imu_lib.to_head_frame(best["imu"], recording.imu.frame)
  return {
    "frames": [pages.jpeg(pixels, _FRAME_PIXELS) for pixels in frames],
    "signal": figures.signals(motion, rate_hz, best["sensor_mask"]),
    "text": best["texts"][0] if best["texts"] else "",
  }


def _of_split(windows, records, rows, moment):
  best, *_ = found = [rows[name] for name in moment["window_ids"]]
  in_time = sorted(found, key=lambda row: windows.start_s[row])
  places = np.linspace(0, len(found) - 1, min(len(found), _STRIP_FRAMES))
  shown = [records[in_time[round(place)]] for place in places]
  frames = [
    embed.decode_frame(record, len(record["frames"]) // 2)
    for record in shown
    if record["frames"]
  ]
  text = windows.text_ids[best, 0]
  return {
    "frames": [pages.jpeg(pixels, _FRAME_PIXELS) for pixels in frames],
    "signal": figures.signals(
      windows.imu[best], windows.meta["rate_hz"], windows.sensor_mask[best]
    ),
    "text": windows.texts[text] if text >= 0 else "",
  }
