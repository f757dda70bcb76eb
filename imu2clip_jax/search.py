"""`imu2clip search`: find moments by text, by motion or by a picture.

The gallery is the run's evaluation split or, with --in, any recordings, which
are cut and embedded as they are met and kept in WORKDIR/index. Hits are single
windows; moments are what neighbouring hits make together (`moments`).
"""

import hashlib
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from imu2clip_jax import (
  command,
  moments,
  pretrained,
  retrieval,
  runs,
  search_page,
  sources,
  tables,
  taught,
)
from imu2clip_jax.data import cache
from imu2clip_jax.recordings import opening

# Windows that may become moments: neighbours join into one.
_CANDIDATES, _CANDIDATES_A_MOMENT = 400, 20


def recordings_gallery(
  run: runs.Run, paths: Sequence[str], hop_s: float, gravity: str = ""
) -> dict:
  """Embed recordings, where they are not yet, as the set to search.

  Args:
    run: see `open_run`.
    paths: recordings or folders of them.
    hop_s: step from window to window.
    gravity: see `Run.cutting`.

  Returns:
    {"what", "segments", "keep": None, "windows": None} for `search`.

  Raises:
    FileNotFoundError, ValueError: as `sources.index_all`.
  """
  options = run.cutting(hop_s, gravity)
  found = sources.index_all(run.index, run.encoder, paths, options)
  return {
    "what": ", ".join(map(str, paths)),
    "segments": found,
    "keep": None,
    "windows": None,
  }


def split_gallery(run: runs.Run, narrated: bool = False) -> dict:
  """Take the run's evaluation split as the set to search.

  Args:
    run: see `open_run`.
    narrated: only the windows that `evaluate` ranks for a narration, those that
      have one, if there are any.

  Returns:
    {"what", "segments", "keep", "windows"} for `search`.

  Raises:
    FileNotFoundError, ValueError: the data or the teacher is missing or another
      one.
  """
  windows = cache.open_split(run.cache_dir, run.config.data.test_split)
  pretrained.check_teacher(
    run.encoder.teacher, windows.meta["teacher"], str(run.cache_dir)
  )
  identity = f"{run.cache_dir} {windows.name} {len(windows)}"
  key = hashlib.sha256(identity.encode()).hexdigest()[:32]
  segment = run.index.find(key) or _index_split(run, windows, key)
  keep = np.ones(len(run.index), bool)
  if narrated and windows.has_text.any():
    keep[segment.first : segment.first + len(segment)] = windows.has_text
  return {
    "what": f"split {windows.name} of {windows.meta['dataset']}",
    "segments": [segment],
    "keep": keep,
    "windows": windows,
  }


def _index_split(run, windows, key):
  rows = np.arange(len(windows))
  ids = list(dict.fromkeys(windows.recording_ids))
  place = {name: i for i, name in enumerate(ids)}
  start_s = np.asarray(windows.start_s)
  return run.index.append(
    key,
    retrieval.embed_windows(run.encoder, windows, rows),
    start_s,
    start_s + windows.meta["window_s"],
    [place[name] for name in windows.recording_ids],
    [{"recording_id": name, "path": None} for name in ids],
  )


def search(
  run: runs.Run, queries: Sequence[dict], gallery: dict, top: int = 10
) -> dict:
  """Rank a gallery for some queries.

  Args:
    run: see `open_run`.
    queries: {"query": what was asked, "kind", "embedding": [D]}.
    gallery: what `recordings_gallery` or `split_gallery` returned.
    top: hits, and moments, of each query.

  Returns:
    {"gallery": {"what", "windows", "recordings"}, "queries": [{"query", "kind",
     "mean_score", "moments": [{"rank", "score", "recording_id", "path",
     "start_s", "end_s", "best_start_s", "window_ids"}], "hits": [{"rank",
     "score", "window_id", "recording_id", "path", "start_s", "end_s", "text",
     "label"}]}]}. Text and label come with the evaluation split. A hit's
     rank is 1 + the windows with a strictly better score, as in `evaluate`.

  Raises:
    ValueError: `top` is below 1.
  """
  if top < 1:
    raise ValueError(f"--top is {top}, expected 1 or more")
  index, segments = run.index, gallery["segments"]
  found = index.search(
    np.stack([query["embedding"] for query in queries]),
    max(_CANDIDATES, top * _CANDIDATES_A_MOMENT),
    keys={segment.key for segment in segments},
    keep=gallery["keep"],
  )
  answers = []
  for i, query in enumerate(queries):
    cards = [_hit(index, gallery, row) for row in found.rows[i].tolist()]
    scores = found.scores[i].astype(float)
    ranks = moments.ranks(scores).tolist()
    for card, score, rank in zip(cards, scores, ranks, strict=True):
      card |= {"rank": rank, "score": float(score)}
    mean = float(found.mean[i])
    answers.append(
      {
        "query": query["query"],
        "kind": query["kind"],
        "mean_score": mean,
        "moments": _moments(cards, mean, top),
        "hits": cards[:top],
      }
    )
  ids = {
    recording["recording_id"]
    for segment in segments
    for recording in segment.about["recordings"]
  }
  about = {"what": gallery["what"], "windows": found.searched}
  return {"gallery": about | {"recordings": len(ids)}, "queries": answers}


def _hit(index, gallery, row):
  segment, i = index.locate(row)
  recording = segment.about["recordings"][segment.recording[i]]
  start_s, windows = float(segment.start_s[i]), gallery["windows"]
  card = {
    "rank": 0,
    "score": 0.0,
    "window_id": f"{recording['recording_id']}@{round(start_s * 1000)}",
    "recording_id": recording["recording_id"],
    "path": recording["path"],
    "start_s": start_s,
    "end_s": float(segment.end_s[i]),
  }
  if windows is not None:
    text, label = windows.text_ids[i, 0], windows.labels[i]
    card["window_id"] = windows.window_ids[i]
    card["text"] = windows.texts[text] if text >= 0 else ""
    card["label"] = windows.label_names[label] if label >= 0 else ""
  return card


def _moments(cards, mean, top):
  # Two recordings may share an id; their files differ.
  who = [(card["recording_id"], card["path"]) for card in cards]
  found = moments.merge(
    range(len(cards)),
    [card["score"] for card in cards],
    who,
    [card["start_s"] for card in cards],
    [card["end_s"] for card in cards],
    mean_score=mean,
    top=top,
  )
  return [
    {
      "rank": place,
      "score": moment.score,
      "recording_id": moment.recording[0],
      "path": moment.recording[1],
      "start_s": moment.start_s,
      "end_s": moment.end_s,
      "best_start_s": cards[moment.rows[0]]["start_s"],
      "window_ids": [cards[row]["window_id"] for row in moment.rows],
    }
    for place, moment in enumerate(found, start=1)
  ]


def text_queries(run: runs.Run, texts: Sequence[str]) -> list[dict]:
  """Embed texts; one that is a taught name gets its prototype."""
  known = [name in run.taught for name in texts]
  plain = [t for t, name in zip(texts, known, strict=True) if not name]
  embedded = iter(run.clip.embed_texts(plain) if plain else ())
  return [
    {
      "query": text,
      "kind": "taught" if name else "text",
      "embedding": (run.taught[text]["prototype"] if name else next(embedded)),
    }
    for text, name in zip(texts, known, strict=True)
  ]


def imu_query(run: runs.Run, place: str, gravity: str = "") -> dict:
  """Embed the motion of a recording, or of "REC:START-END", as one query."""
  path, span_s = sources.parse(place)
  options = run.cutting(run.encoder.window_s / 2, gravity)
  recording = opening.open_recording(path, texts=[])
  _, found = sources.embed_recording(run.encoder, recording, options, span_s)
  vector = taught.prototype(found)
  return {"query": str(place), "kind": "imu", "embedding": vector}


def image_query(run: runs.Run, path: str) -> dict:
  """Embed a picture as a query.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is no picture, a damaged one, or one too large to open.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"--image: no file {path}")
  try:
    with Image.open(path) as picture:
      # A phone keeps a photo as its sensor lay, with the turn beside it.
      upright = ImageOps.exif_transpose(picture)
      pixels = np.asarray(upright.convert("RGB"))
  except Exception as error:  # Pillow raises many kinds for a damaged file
    raise ValueError(f"--image {path} cannot be read: {error}") from error
  (vector,) = run.clip.embed_images([pixels])
  return {"query": str(path), "kind": "image", "embedding": vector}


def table(document: dict) -> str:
  """Return the moments of every query as aligned tables."""
  about = document["gallery"]
  lines = [
    f"{about['what']}: {about['windows']} windows of {about['recordings']} "
    "recordings"
  ]
  for answer in document["queries"]:
    rows = [["recording", "from", "to", "score", "windows"]]
    for moment in answer["moments"]:
      rows.append(
        [
          moment["path"] or moment["recording_id"],
          *(tables.clock(moment[end]) for end in ("start_s", "end_s")),
          f"{moment['score']:.3f}",
          str(len(moment["window_ids"])),
        ]
      )
    mean = f"mean score {answer['mean_score']:.3f}"
    lines += ["", f"{answer['query']} ({answer['kind']}; {mean})"]
    lines += tables.aligned(rows)
  return "\n".join(lines)


def _parser():
  p = command.parser(
    "search",
    "Find the moments that answer a text, a motion or a picture.",
    'imu2clip search --workdir=runs/demo/imu_text "brushing teeth"\n'
    '  imu2clip search --workdir=runs/demo/imu_text --in GX010042.MP4 "jumping"'
    " --html found.html",
  )
  p.add_argument("text", nargs="?", help="what to look for, or a taught name")
  p.add_argument("--workdir", help="the run's folder")
  p.add_argument(
    "--in",
    dest="paths",
    nargs="+",
    action="extend",
    default=[],
    metavar="PATH",
    help="recordings, or folders of them (default: the evaluation split)",
  )
  p.add_argument("--imu", metavar="REC[:START-END]", help="ask with a motion")
  p.add_argument("--image", metavar="FILE", help="ask with a picture")
  p.add_argument(
    "--queries",
    metavar="FILE",
    help="ask with texts, one a line; in the evaluation split they rank the "
    "windows with a narration, as `imu2clip evaluate` does",
  )
  p.add_argument(
    "--top", type=int, default=10, help="moments a query; default 10"
  )
  p.add_argument(
    "--hop",
    type=float,
    help="seconds from window to window with --in (default: half a window)",
  )
  runs.add_gravity_option(p)
  p.add_argument("--html", metavar="FILE", help="also write a page to look at")
  p.add_argument(
    "--json", action="store_true", help="one JSON document on stdout"
  )
  return p


def _read_args(argv):
  """Parse; "--in A B TEXT" leaves TEXT among the paths, from where it comes."""
  args = _parser().parse_args(argv)
  others = (args.imu, args.image, args.queries)
  asked = sum(what is not None for what in (args.text, *others))
  last = args.paths[1:] and args.paths[-1]
  if not asked and last and not pathlib.Path(last).exists():
    args.text, asked = args.paths.pop(), 1
  if asked != 1:
    raise ValueError("give one query: a text, --imu, --image or --queries")
  if args.text is not None:
    if not args.text.strip():
      raise ValueError("the text to look for is empty")
    if sources.is_recording_name(args.text):
      raise FileNotFoundError(f"no file {args.text}, and it is no text to ask")
  return args


def _queries(run, args):
  if args.imu is not None:
    return [imu_query(run, args.imu, args.gravity)]
  if args.image is not None:
    return [image_query(run, args.image)]
  if args.text is not None:
    return text_queries(run, [args.text])
  texts = command.read_lines(args.queries, "--queries")
  if not texts:
    raise ValueError(f"--queries: {args.queries} holds no text")
  return text_queries(run, texts)


def main(argv: Sequence[str] | None = None) -> int:
  """Run `imu2clip search`."""
  args = _read_args(argv)
  run = runs.open_run(args.workdir)
  queries = _queries(run, args)
  if args.paths:
    hop_s = run.encoder.window_s / 2 if args.hop is None else args.hop
    gallery = recordings_gallery(run, args.paths, hop_s, args.gravity)
  else:
    gallery = split_gallery(run, narrated=args.queries is not None)
  document = search(run, queries, gallery, args.top)
  if args.html:
    page = search_page.page(document, search_page.pictures(run, gallery))
    command.write_text(args.html, page)
    print(f"{args.html} shows the moments", file=sys.stderr)
  if args.json:
    command.print_json(document)
  else:
    print(table(document))
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
