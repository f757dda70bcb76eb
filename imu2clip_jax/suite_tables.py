"""The tables of a suite: many evaluations, summed up over seeds.

A table is {"title", "columns", "rows", "note"}: texts, so that one table can be
printed, written as Markdown and shown in a page. A suite's document is
{"dataset", "teacher", "rows": [row], "failed": cell -> why, "left_out": notes},
a row {"name", "group", "compares_encoders": is it one of the encoders under one
recipe, "documents": what metrics.json holds and "cost": {"parameters", "mflop"
a window, "step_ms" if it was trained}, one a seed}.
"""

from collections.abc import Sequence

import numpy as np

from imu2clip_jax import pages, paper_results, tables

_FORWARD = ("text->imu", "imu->video")
_BACK = ("imu->text", "video->imu")
_WAYS = (("Table 2", _FORWARD), ("Table 2, the other way", _BACK))
_GALLERIES = (("retrieval", "full"), ("retrieval_official", "official"))
_TASKS = ("zero_shot", "zero_shot_unseen", "linear_probe", "fine_tune")
_TOGETHER = tuple(
  f"{t}_{how}" for t in _TASKS[2:] for how in ("adapted", "agreed")
)
_NONE = "-"


def summary(values: Sequence[float]) -> dict:
  """Return mean, standard deviation over seeds (None of one) and count.

  >>> summary([0.5, 0.7])["mean"], summary([0.5])["sd"]
  (0.6, None)
  """
  sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
  return {"mean": float(np.mean(values)), "sd": sd, "n": len(values)}


def cell(name: str, values: Sequence[float]) -> str:
  """Return "mean ± sd" as the tables print it, "-" where nothing is.

  >>> cell("R@10", [0.2, 0.24]), cell("MRR", [0.125]), cell("MRR", [])
  ('22.0 ± 2.8', '0.125', '-')
  """
  if not values:
    return _NONE
  found = summary(values)
  text = tables.number(name, found["mean"])
  if found["sd"] is None:
    return text
  return f"{text} ± {tables.number(name, found['sd'])}"


def _measured(name, found):
  """`cell` of metrics' own blocks; of one seed with its 95 % interval."""
  text = cell(name, [block[name] for block in found])
  if len(found) != 1 or name not in found[0].get("interval", {}):
    return text
  low, high = (tables.number(name, v) for v in found[0]["interval"][name])
  return f"{text} ({low}-{high})"


def all_tables(suite: dict) -> list[dict]:
  """Return every table that the suite's documents can fill."""
  made = [
    _retrieval(suite, key, protocol, directions, title)
    for key, protocol in _GALLERIES
    for title, directions in _WAYS
  ]
  made += [
    _recognition(suite, "Table 3: recognition", _TASKS),
    _recognition(suite, "A wearer's windows named together", _TOGETHER),
    _encoders(suite),
    _few_shot(suite),
    _confidence(suite),
    _per_class(suite),
  ]
  return [table for table in made if table["rows"]]


def _retrieval(suite, key, protocol, directions, title):
  rows = []
  for row in suite["rows"]:
    cells = []
    for direction in directions:
      blocks = _blocks(row, key, direction)
      star = "" if all(block["trained"] for block in blocks) else " *"
      for column in tables.COLUMNS:
        text = _measured(column, blocks)
        cells.append(text + star if blocks else text)
    rows.append([_label(row), *cells])
  if all(text == _NONE for row in rows for text in row[1:]):
    rows = []
  else:
    rows += _floors(suite, key, directions)
    if protocol == "official" and directions == _FORWARD:
      rows += _published(suite, directions, tables.COLUMNS)
  columns = [
    f"{tables.arrow(direction)} {column}"
    for direction in directions
    for column in tables.COLUMNS
  ]
  sizes = {
    block["gallery"]
    for row in suite["rows"]
    for direction in directions
    for block in _blocks(row, key, direction)
  }
  note = (
    f"Gallery: {_or(sizes)} windows. R@k in percent; mean ± standard deviation "
    f"over seeds (of one seed: 95 % bootstrap). *: {tables.UNTRAINED}."
  )
  return _table(f"{title}: {protocol} gallery", columns, rows, note)


def _floors(suite, key, directions):
  """The frozen teacher's own ranking, and chance."""
  rows = []
  first = next((r for r in suite["rows"] if r["documents"]), None)
  ceiling = _blocks(first, key, "text->video")[:1]
  if ceiling and directions == _FORWARD:
    texts = [_measured(c, ceiling) for c in tables.COLUMNS]
    rows.append(["teacher alone, text → video", *texts, *[_NONE] * len(texts)])
  chance = []
  for direction in directions:
    blocks = next(
      (b for r in suite["rows"] if (b := _blocks(r, key, direction))), []
    )
    for column in tables.COLUMNS:
      chance.append(cell(column, [b[f"chance_{column}"] for b in blocks[:1]]))
  return [*rows, ["chance", *chance]]


def _published(suite, keys, columns):
  """The paper's rows, in the order of directions or tasks and columns."""
  found = {}
  for result in paper_results.of(suite["dataset"]):
    if result.key in keys:
      found.setdefault(result.name, {})[result.key] = result.values
  return [
    [
      f"published: {name}",
      *(
        cell(c, [values[key][c]] if c in values.get(key, {}) else [])
        for key in keys
        for c in columns
      ),
    ]
    for name, values in found.items()
  ]


def _recognition(suite, title, tasks):
  asked = [(task, m) for task in tasks for m in ("macro_f1", "accuracy")]
  rows = [
    [_label(row), *(_measured(m, _scores(row, task)) for task, m in asked)]
    for row in suite["rows"]
  ]
  first = [r for r in suite["rows"] if _scores(r, "zero_shot")][:1]
  for name, suffix, field in (
    ("teacher alone, frames", "_video", ""),
    ("constant class", "", "constant_"),
  ):
    cells = []
    for task, metric in asked:
      found = [s for r in first for s in _scores(r, task + suffix)[:1]]
      cells.append(cell(metric, [scores[field + metric] for scores in found]))
    rows.append([name, *cells])
  rows = [row for row in rows if any(text != _NONE for text in row[1:])]
  if rows:
    rows += _published(suite, tasks, ("macro_f1", "accuracy"))
  columns = [
    f"{tables.RECOGNITION[task]} {name}"
    for task in tasks
    for name in ("F1", "acc.")
  ]
  note = (
    f"Macro-F1 and accuracy. Constant class: {tables.CONSTANT}. Mean ± "
    "standard deviation over seeds (of one seed: 95 % bootstrap)."
  )
  return _table(title, columns, rows, note)


def _encoders(suite):
  """Every encoder under one recipe: what it takes and what it gives."""
  scored = {"zero-shot F1": "zero_shot", "probe F1": "linear_probe"}
  scored["fine-tuned F1"] = "fine_tune"
  rows = []
  for row in suite["rows"]:
    if not row["compares_encoders"]:
      continue
    costs = [document["cost"] for document in row["documents"]]
    times = [cost["step_ms"] for cost in costs if "step_ms" in cost]
    cells = [f"{costs[0]['parameters']:,}", f"{costs[0]['mflop']:.1f}"]
    cells.append(f"{np.median(times):.0f}" if times else _NONE)
    for task in scored.values():
      found = [scores["macro_f1"] for scores in _scores(row, task)]
      cells.append(cell("macro_f1", found))
    blocks = _blocks(row, "retrieval", "text->imu")
    for column in ("MRR", "R@10"):
      cells.append(cell(column, [block[column] for block in blocks]))
    preset = row["documents"][0]["encoder"]["preset"]
    rows.append([_label(row | {"name": preset}), *cells])
  columns = ["parameters", "MFLOP", "step, ms", *scored]
  columns += ["text → IMU MRR", "text → IMU R@10"]
  note = (
    "One recipe for all. MFLOP: products of a forward pass over one window. "
    "Step: training, median of the run's log on the machine that ran it. Mean "
    "± standard deviation over seeds."
  )
  return _table("Encoders", columns, rows if len(rows) > 1 else [], note)


def _few_shot(suite):
  shots = []
  for row in suite["rows"]:
    for document in row["documents"]:
      shots += [k for k in document.get("few_shot", {}) if k not in shots]
  rows = [
    [
      _label(row),
      *(
        cell(
          "macro_f1",
          [
            document["few_shot"][k]["macro_f1"]
            for document in row["documents"]
            if k in document.get("few_shot", {})
          ],
        )
        for k in shots
      ),
    ]
    for row in suite["rows"]
  ]
  note = "Macro-F1 of linear probes that saw so many labels of each class."
  return _table("Few labels", shots, rows if shots else [], note)


def _confidence(suite):
  """Calibration and abstention of zero-shot names."""
  columns = {
    "ECE": ("calibration", ("ece",)),
    "ECE, tempered": ("calibration", ("ece_tempered",)),
    "error": ("abstention", ("error",)),
    "AURC": ("abstention", ("aurc",)),
    "least AURC": ("abstention", ("aurc_best",)),
    "AUROC unseen": ("abstention", ("unseen", "auroc")),
    "unseen refused": ("abstention", ("threshold", "refused")),
    "kept": ("abstention", ("threshold", "coverage")),
  }
  rows = []
  for row in suite["rows"]:
    cells = []
    for group, path in columns.values():
      found = [_at(d[group].get("zero_shot"), path) for d in row["documents"]]
      cells.append(cell("share", [v for v in found if v is not None]))
    if any(text != _NONE for text in cells):
      rows.append([_label(row), *cells])
  note = (
    "Zero-shot names by the trained logit scale. Tempered: one temperature "
    "chosen on validation. AURC: mean error over all shares answered; least: "
    "of a confidence that puts every error last. Unseen: windows of activities "
    "that are none of the names; refused and kept at the threshold that keeps "
    "90 % of validation."
  )
  return _table("Confidence", list(columns), rows, note)


def _per_class(suite):
  shown = [
    (row, task)
    for row in suite["rows"]
    if row["group"] == "variants"
    for task in _TASKS
    if task != "zero_shot_unseen" and _scores(row, task)
  ]
  names = sorted(
    {
      n
      for row, task in shown
      for s in _scores(row, task)
      for n in s["per_class"]
    }
  )
  rows = [
    [
      name,
      *(
        cell(
          "f1",
          [
            s["per_class"][name]["f1"]
            for s in _scores(row, task)
            if name in s["per_class"]
          ],
        )
        for row, task in shown
      ),
    ]
    for name in names
  ]
  columns = [f"{row['name']} {tables.RECOGNITION[task]}" for row, task in shown]
  return _table("F1 class by class", columns, rows, "")


def text(suite: dict) -> str:
  """Return all tables for a terminal."""
  lines = [title(suite), ""]
  for table in all_tables(suite):
    rows = [["", *table["columns"]], *table["rows"]]
    lines += [table["title"], *tables.aligned(rows), table["note"], ""]
  return "\n".join([*lines, *_remarks(suite)]) + "\n"


def markdown(suite: dict) -> str:
  """Return all tables as Markdown."""
  lines = [f"# {title(suite)}", ""]
  for table in all_tables(suite):
    rows = [["", *table["columns"]], *table["rows"]]
    rows = [[text.replace("|", "\\|") for text in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += [f"## {table['title']}", ""]
    for place, row in enumerate(rows):
      cells = [row[0].ljust(widths[0])]
      cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
      lines.append(f"| {' | '.join(cells)} |")
      if not place:
        rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
        lines.append(f"| {' | '.join(rule)} |")
    lines += ["", table["note"], ""]
  lines += [f"- {remark}" for remark in _remarks(suite)]
  return "\n".join(lines) + "\n"


def page(suite: dict) -> str:
  """Return all tables as one self-contained page."""
  parts = [f"<h1>{pages.text(title(suite))}</h1>"]
  for table in all_tables(suite):
    head = "".join(f"<th>{pages.text(c)}</th>" for c in ["", *table["columns"]])
    body = "".join(
      f"<tr><th>{pages.text(row[0])}</th>"
      f"{''.join(f'<td>{pages.text(c)}</td>' for c in row[1:])}</tr>"
      for row in table["rows"]
    )
    parts.append(
      f"<h2>{pages.text(table['title'])}</h2>"
      f'<div class="wide sheet"><table><thead><tr>{head}</tr></thead>'
      f"<tbody>{body}</tbody></table></div>"
      f'<p class="small">{pages.text(table["note"])}</p>'
    )
  remarks = "".join(f"<li>{pages.text(r)}</li>" for r in _remarks(suite))
  if remarks:
    parts.append(f"<h2>Remarks</h2><ul>{remarks}</ul>")
  return pages.page(title(suite), parts)


def title(suite: dict) -> str:
  """Return what the suite ran on."""
  return f"paper suite on {suite['dataset']}, teacher {suite['teacher']}"


def _remarks(suite):
  sources = {
    f"published, {r.name}: {r.source}"
    for r in paper_results.of(suite["dataset"])
  }
  failed = [f"failed: {name}: {why}" for name, why in suite["failed"].items()]
  return [*suite["left_out"], *failed, *sorted(sources)]


def _table(title, columns, rows, note):
  return {"title": title, "columns": columns, "rows": rows, "note": note}


def _label(row):
  seeds = len(row["documents"])
  return f"{row['name']} ({seeds} seeds)" if seeds > 1 else row["name"]


def _blocks(row, key, direction):
  found = [d.get(key, {}).get(direction) for d in row["documents"]]
  return [block for block in found if block]


def _scores(row, task):
  found = [d["recognition"].get(task) for d in row["documents"]]
  return [scores for scores in found if scores]


def _at(tree, path):
  for key in path:
    tree = tree.get(key) if tree else None
  return tree


def _or(sizes):
  return " or ".join(str(size) for size in sorted(sizes))
