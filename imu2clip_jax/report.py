"""report.html: one page with every number, curve and some retrieved windows.

Nothing in the page comes from outside the file and no script runs in it; every
text of the data is escaped. Colours follow the reader's light or dark setting.
"""

from collections.abc import Sequence

from imu2clip_jax import pages, tables


def page(document: dict, pictures: dict, queries: Sequence[dict]) -> str:
  """Return report.html: nothing in it comes from outside the file.

  Args:
    document: what metrics.json holds.
    pictures: "recall_curves", "confusion", "reliability", "risk_coverage" and
      "few_shot" -> PNG bytes; any may be missing.
    queries: {"direction", "query": card, "rank", "gallery", "hits": [card]},
      where a card is {"frame": JPEG bytes or None, "signal": SVG text, "text",
      "label", "source": str} and a hit's card also has "match": bool.
  """
  parts = [_header(document), _tiles(document)]
  if document["retrieval"]:
    parts.append(_retrieval_section(document, pictures))
  if document["recognition"]:
    parts.append(_recognition_section(document, pictures))
  parts.append(_confidence_section(document, pictures))
  if queries:
    parts.append(_gallery_section(queries))
  if document["notes"]:
    items = "".join(
      f"<li>{pages.text(note)}</li>" for note in document["notes"]
    )
    parts.append(f"<h2>Left out, and why</h2><ul>{items}</ul>")
  return pages.page(tables.title(document), parts)


def _figure(png, caption):
  # Bytes 16..19 of a PNG are its width; half of it is sharp on any screen.
  width = int.from_bytes(png[16:20]) // 2
  return (
    f'<figure style="max-width: {width}px">{pages.image(png, "png", caption)}'
    f"<figcaption>{pages.text(caption)}</figcaption></figure>"
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
  towards = f"trained with {trained} into the space of the frozen CLIP"
  blocks = document["retrieval"].items()
  if blocks and not any(b["trained"] for d, b in blocks if "imu" in d):
    towards = "never trained towards texts or frames, asked by the frozen CLIP"
  return (
    f"<h1>{pages.text(tables.title(document))}</h1>\n"
    f"<p>An IMU encoder ({pages.text(encoder['preset'])}, "
    f"{encoder['rate_hz']:g} Hz, windows of {encoder['window_s']:g} s), "
    f"{pages.text(towards)} {pages.text(document['teacher'])}.</p>\n"
    f'<p class="small">{pages.text(tables.subtitle(document))}</p>'
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
    f"<div><span>{pages.text(name)}</span><b>{value}</b><small>{pages.text(text)}"
    "</small></div>"
    for name, value, text in tiles
  ).join(('<div class="tiles">', "</div>"))


def _retrieval_section(document, pictures):
  rows = [["", *(pages.text(c) for c in tables.COLUMNS), "gallery"]]
  for name, block in tables.directions(document):
    cells = [_cell(column, block) for column in tables.COLUMNS]
    rows.append([pages.text(name), *cells, str(block["gallery"])])
  rows += tables.chance_rows(document)
  for name, block in tables.directions(document):
    same = block.get("equal_texts_match")
    if same is not None:
      cells = [
        f"{tables.number(c, same[c])}"
        f"<small>{tables.number(c, same[f'chance_{c}'])}</small>"
        for c in tables.COLUMNS
      ]
      name = f"{pages.text(name)}<small>equal texts; chance</small>"
      rows.append([name, *cells, str(same["gallery"])])
  caption = (
    "R@k in percent: how often the one right window is among the first k. "
    "Small: 95 % bootstrap intervals over queries. text → video is the frozen "
    "teacher alone, with no motion involved. Equal texts: every window with "
    "the query's narration is right; small there: chance."
  )
  if tables.has_untrained(document):
    caption += f" *: {tables.UNTRAINED}."
  section = f"<div>{_table(rows, pages.text(caption))}</div>"
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
    rows.append([pages.text(name), *cells, tables.constant(scores), *sizes])
  caption = (
    f"constant: macro-F1 / accuracy of {tables.CONSTANT}. names: how many "
    "activities a window could be called. Small: 95 % bootstrap intervals over "
    f"windows. teacher alone: the frames, named by {document['teacher']}."
  )
  section = "<h2>Recognition</h2>" + _table(rows, pages.text(caption))
  if "confusion" in pictures:
    section += _figure(
      pictures["confusion"],
      "Confusion of zero-shot recognition: percent of each true class's "
      "windows.",
    )
  return section + _per_class(document) + _per_wearer(document)


_CONFIDENCE = {
  "reliability": "How often a name is right, by how sure it was given; on the "
  "dotted line confidence is honest. ECE: mean distance from it.",
  "risk_coverage": "How many of the names are wrong when only the surest are "
  "given. Dashed: with windows of activities that are none of the names.",
  "few_shot": "Linear probes that saw few labels of each class; bars: standard "
  "deviation over draws.",
}


def _confidence_section(document, pictures):
  shown = [name for name in _CONFIDENCE if name in pictures]
  if not shown:
    return ""
  found = "".join(_figure(pictures[name], _CONFIDENCE[name]) for name in shown)
  rows = [["", "names refused", "wrong among the rest", "unseen refused"]]
  for task, entry in document.get("abstention", {}).items():
    chosen = entry.get("threshold")
    if chosen is not None:
      refused = chosen.get("refused")
      rows.append(
        [
          pages.text(tables.RECOGNITION[task]),
          tables.number("R@", 1 - chosen["coverage"]),
          tables.number("R@", chosen["risk"]),
          "-" if refused is None else tables.number("R@", refused),
        ]
      )
  table = ""
  if len(rows) > 1:
    caption = (
      "Percent, at the confidence below which a tenth of the validation "
      "windows lies. Unseen: windows of activities that are none of the names."
    )
    table = _table(rows, pages.text(caption))
  return f'<h2>Confidence</h2><div class="pair">{found}</div>{table}'


def _per_class(document):
  shown = list(tables.recognitions(document))
  names = sorted({name for _, s in shown for name in s["per_class"]})
  rows = [["F1", *(pages.text(name) for name, _ in shown), "windows"]]
  for name in names:
    found = [scores["per_class"].get(name) for _, scores in shown]
    support = max(entry["support"] for entry in found if entry)
    cells = [
      tables.number("f1", e["f1"]) if e and e["support"] else "-" for e in found
    ]
    rows.append([pages.text(name), *cells, str(support)])
  table = _table(rows, "-: no window of this class is scored in that column.")
  return f"<details><summary>F1 class by class</summary>{table}</details>"


def _per_wearer(document):
  wearers = document["per_wearer"]
  columns = sorted({name for entry in wearers.values() for name in entry})
  rows = [["wearer", *(pages.text(tables.arrow(name)) for name in columns)]]
  for wearer, entry in wearers.items():
    cells = [
      tables.number(name, entry[name])
      if isinstance(entry.get(name), float)
      else str(entry.get(name, "-"))
      for name in columns
    ]
    rows.append([pages.text(wearer), *cells])
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
      pages.text(asked["text"])
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
      f"<section><h3>{pages.text(tables.arrow(query['direction']))} <small>the "
      f"right window came {query['rank']:g} of {query['gallery']}</small></h3>"
      f"<blockquote>{question}</blockquote>"
      f'<div class="hits">{"".join(cards)}</div></section>'
    )
  return "\n".join(parts)


def _card(card, place, match):
  frame = pages.image(card["frame"], "jpeg", "frame") if card["frame"] else ""
  label = f"<b>{pages.text(card['label'])}</b> " if card["label"] else ""
  source = pages.text(card["source"]).replace("_", "_<wbr>")
  return (
    f"<article{' class=match' if match else ''}><header>{pages.text(place)}"
    f"{' ✓ right' if match else ''}</header>{frame}{card['signal']}"
    f"<p>{pages.text(card['text'])}</p>"
    f"<small>{label}{source}</small></article>"
  )
