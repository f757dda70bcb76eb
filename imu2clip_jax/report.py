"""report.html: one page with every number, curve and some retrieved windows.

Nothing in the page comes from outside the file and no script runs in it; every
text of the data is escaped. Colours follow the reader's light or dark setting.
"""

import base64
import html
from collections.abc import Sequence

from imu2clip_jax import tables


def page(document: dict, pictures: dict, queries: Sequence[dict]) -> str:
  """Return report.html: nothing in it comes from outside the file.

  Args:
    document: what metrics.json holds.
    pictures: "recall_curves" and "confusion" -> PNG bytes; either may be
      missing.
    queries: {"direction", "query": card, "rank", "gallery", "hits": [card]},
      where a card is {"frame": JPEG bytes or None, "signal": SVG text, "text",
      "label", "source": str} and a hit's card also has "match": bool.
  """
  parts = [_header(document), _tiles(document)]
  if document["retrieval"]:
    parts.append(_retrieval_section(document, pictures))
  if document["recognition"]:
    parts.append(_recognition_section(document, pictures))
  if queries:
    parts.append(_gallery_section(queries))
  if document["notes"]:
    items = "".join(f"<li>{_text(note)}</li>" for note in document["notes"])
    parts.append(f"<h2>Left out, and why</h2><ul>{items}</ul>")
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{_text(tables.title(document))}</title>\n<style>{_STYLE}</style></head>\n"
    f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
  )


def _text(value):
  return html.escape(str(value), quote=True)


def _image(data, kind, alt):
  source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
  return f'<img alt="{_text(alt)}" src="{source}">'


def _figure(png, caption):
  # Bytes 16..19 of a PNG are its width; half of it is sharp on any screen.
  width = int.from_bytes(png[16:20]) // 2
  return (
    f'<figure style="max-width: {width}px">{_image(png, "png", caption)}'
    f"<figcaption>{_text(caption)}</figcaption></figure>"
  )


def _table(rows, caption):
  head = "".join(f"<th>{cell}</th>" for cell in rows[0])
  body = "".join(
    f"<tr><th>{row[0]}</th>{''.join(f'<td>{c}</td>' for c in row[1:])}</tr>"
    for row in rows[1:]
  )
  return (
    '<div class="wide"><table><thead><tr>'
    f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    f'<p class="small">{caption}</p>'
  )


def _cell(name, scores):
  spread = tables.interval(name, scores)
  return f"{tables.number(name, scores[name])}<small>{spread}</small>"


def _header(document):
  encoder = document["encoder"]
  trained = document["variant"].replace("imu_", "").replace("_", " and ")
  return (
    f"<h1>{_text(tables.title(document))}</h1>\n"
    f"<p>An IMU encoder ({_text(encoder['preset'])}, "
    f"{encoder['rate_hz']:g} Hz, windows of {encoder['window_s']:g} s), "
    f"trained with {_text(trained)} into the space of the frozen CLIP "
    f"{_text(document['teacher'])}.</p>\n"
    f'<p class="small">{_text(tables.subtitle(document))}</p>'
  )


def _tiles(document):
  tiles = []
  for direction in ("text->imu", "imu->video"):
    block = document["retrieval"].get(direction)
    if block is not None:
      times = block["R@10"] / block["chance_R@10"]
      text = f"{times:.0f} times chance, gallery {block['gallery']}"
      if not block["trained"]:
        text += "; never trained on this pair"
      name = f"{tables.arrow(direction)}, R@10"
      tiles.append((name, f"{tables.number('R@10', block['R@10'])} %", text))
  for key in ("zero_shot", "zero_shot_unseen"):
    scores = document["recognition"].get(key)
    if scores is not None:
      text = (
        f"{scores['named_among']} names; constant class "
        f"{scores['constant_macro_f1']:.3f}"
      )
      name = f"{tables.RECOGNITION[key]}, macro-F1"
      tiles.append((name, tables.number("macro_f1", scores["macro_f1"]), text))
  return "".join(
    f"<div><span>{_text(name)}</span><b>{value}</b><small>{_text(text)}"
    "</small></div>"
    for name, value, text in tiles
  ).join(('<div class="tiles">', "</div>"))


def _retrieval_section(document, pictures):
  rows = [["", *(_text(c) for c in tables.COLUMNS), "gallery"]]
  for name, block in tables.directions(document):
    cells = [_cell(column, block) for column in tables.COLUMNS]
    rows.append([_text(name), *cells, str(block["gallery"])])
  rows += tables.chance_rows(document)
  caption = (
    "R@k in percent: how often the one right window is among the first k. "
    "Small: 95 % bootstrap intervals over queries. text → video is the frozen "
    "teacher alone, with no motion involved."
  )
  if tables.has_untrained(document):
    caption += f" *: {tables.UNTRAINED}."
  section = f"<div>{_table(rows, _text(caption))}</div>"
  if "recall_curves" in pictures:
    section += _figure(
      pictures["recall_curves"],
      "How often the right window is among the first k; dotted: chance.",
    )
  return f'<h2>Retrieval</h2><div class="pair">{section}</div>'


def _recognition_section(document, pictures):
  rows = [["", "macro-F1", "accuracy", "constant", "windows", "names"]]
  for name, scores in tables.recognitions(document):
    cells = [_cell(c, scores) for c in ("macro_f1", "accuracy")]
    sizes = [str(scores["n"]), str(scores["named_among"])]
    rows.append([_text(name), *cells, tables.constant(scores), *sizes])
  caption = (
    f"constant: macro-F1 / accuracy of {tables.CONSTANT}. names: how many "
    "activities a window could be called. Small: 95 % bootstrap intervals over "
    f"windows. teacher alone: the frames, named by {document['teacher']}."
  )
  section = "<h2>Recognition</h2>" + _table(rows, _text(caption))
  if "confusion" in pictures:
    section += _figure(
      pictures["confusion"],
      "Confusion of zero-shot recognition: percent of each true class's "
      "windows.",
    )
  return section + _per_class(document) + _per_wearer(document)


def _per_class(document):
  shown = list(tables.recognitions(document))
  names = sorted({name for _, s in shown for name in s["per_class"]})
  rows = [["F1", *(_text(name) for name, _ in shown), "windows"]]
  for name in names:
    found = [scores["per_class"].get(name) for _, scores in shown]
    support = max(entry["support"] for entry in found if entry)
    cells = [
      tables.number("f1", e["f1"]) if e and e["support"] else "-" for e in found
    ]
    rows.append([_text(name), *cells, str(support)])
  table = _table(rows, "-: no window of this class is scored in that column.")
  return f"<details><summary>F1 class by class</summary>{table}</details>"


def _per_wearer(document):
  wearers = document["per_wearer"]
  columns = sorted({name for entry in wearers.values() for name in entry})
  rows = [["wearer", *(_text(tables.arrow(name)) for name in columns)]]
  for wearer, entry in wearers.items():
    cells = [
      tables.number(name, entry[name])
      if isinstance(entry.get(name), float)
      else str(entry.get(name, "-"))
      for name in columns
    ]
    rows.append([_text(wearer), *cells])
  table = _table(rows, "R@10 in percent, within the whole gallery.")
  return f"<details><summary>Wearer by wearer</summary>{table}</details>"


def _gallery_section(queries):
  parts = [
    "<h2>Retrieved windows</h2>",
    '<p class="small">Queries were drawn at random, none chosen by hand; the '
    "five best windows, and the right one where it is not among them. Signals: "
    "acceleration above, angular rate below; x blue, y orange, z green.</p>",
  ]
  for query in queries:
    asked = query["query"]
    question = (
      _text(asked["text"])
      if query["direction"].startswith("text")
      else asked["signal"]
    )
    cards = [
      _card(hit, str(place), hit["match"])
      for place, hit in enumerate(query["hits"], start=1)
    ]
    if not any(hit["match"] for hit in query["hits"]):
      cards.append(_card(asked, f"{query['rank']:g}", match=True))
    parts.append(
      f"<section><h3>{_text(tables.arrow(query['direction']))} <small>the "
      f"right window came {query['rank']:g} of {query['gallery']}</small></h3>"
      f"<blockquote>{question}</blockquote>"
      f'<div class="hits">{"".join(cards)}</div></section>'
    )
  return "\n".join(parts)


def _card(card, place, match):
  frame = _image(card["frame"], "jpeg", "frame") if card["frame"] else ""
  label = f"<b>{_text(card['label'])}</b> " if card["label"] else ""
  source = _text(card["source"]).replace("_", "_<wbr>")
  return (
    f"<article{' class=match' if match else ''}><header>{_text(place)}"
    f"{' ✓ right' if match else ''}</header>{frame}{card['signal']}"
    f"<p>{_text(card['text'])}</p>"
    f"<small>{label}{source}</small></article>"
  )


_STYLE = """
:root { color-scheme: light dark; --ink: #1a1d21; --soft: #5c6570;
  --page: #ffffff; --line: #d9dee4; --panel: #f4f6f8; --right: #14804a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #98a2ad;
  --page: #14171b; --line: #323841; --panel: #1d2127; --right: #3ecf8e; } }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
small, .small, figcaption { color: var(--soft); font-size: .85rem;
  font-weight: 400; }
.tiles { display: grid; gap: .7rem; margin: 1.3rem 0;
  grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.tiles div { background: var(--panel); border-radius: .5rem;
  padding: .7rem .9rem; display: flex; flex-direction: column; }
.tiles span { font-size: .85rem; } .tiles b { font-size: 1.8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; font-weight: 500;
  white-space: nowrap; } td { white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td small { display: block; font-size: .72rem; }
figure { margin: 0 0 1rem; } img { max-width: 100%; height: auto; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.pair > div { flex: 1 1 30rem; min-width: 0; }
.pair > figure { flex: 1 1 26rem; }
@media (prefers-color-scheme: dark) { figure img { mix-blend-mode: screen;
  filter: invert(1) hue-rotate(180deg); }
  svg .x { stroke: #56b4e9; } svg .y { stroke: #f0904a; }
  svg .z { stroke: #2cc79b; } }
blockquote { margin: 0 0 .6rem; padding: .3rem .8rem; font-size: 1.05rem;
  border-left: 4px solid var(--soft); overflow-wrap: anywhere; }
.hits { display: grid; gap: .6rem; overflow-x: auto; padding-bottom: .4rem;
  grid-auto-flow: column; grid-auto-columns: minmax(9.5rem, 1fr); }
blockquote svg { display: block; max-width: 22rem; }
article { background: var(--panel); border: 2px solid transparent;
  border-radius: .5rem; padding: .5rem; overflow-wrap: anywhere; }
article.match { border-color: var(--right); }
article.match header { color: var(--right); font-weight: 600; }
article header { font-size: .85rem; margin-bottom: .3rem; }
article img, article svg { display: block; width: 100%; border-radius: .25rem; }
article p { margin: .4rem 0 .2rem; font-size: .85rem; line-height: 1.35; }
article small { display: block; font-size: .75rem; line-height: 1.35; }
@media (max-width: 34rem) { table { font-size: .85rem; } }
article b { display: block; }
summary { cursor: pointer; margin: .6rem 0; }
"""
