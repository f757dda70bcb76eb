"""The page, the terminal tables and the pictures."""

import copy
import html.parser
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from imu2clip_jax import figures, report, tables

HOSTILE = "<script>alert('x')</script> \"&"
VOID = {"meta", "img", "wbr"}


def block(trained=True, gallery=700, **values):
  found = {"R@1": 0.0123, "R@10": 0.2345, "R@50": 0.5678, "MRR": 0.0912}
  chance = {"chance_R@1": 1, "chance_R@10": 10, "chance_R@50": 50}
  return (
    found
    | {name: k / gallery for name, k in chance.items()}
    | {"chance_MRR": 0.0101, "gallery": gallery, "trained": trained}
    | {"tied": 0.0, "interval": {c: (0.011, 0.612) for c in tables.COLUMNS}}
    | values
  )


def scores(names=("sits", "walks"), **values):
  entry = {"precision": 0.5, "recall": 0.25, "f1": 0.3333, "support": 17}
  return {
    "accuracy": 0.8181,
    "macro_f1": 0.7272,
    "per_class": {name: dict(entry) for name in names},
    "constant_accuracy": 0.5151,
    "constant_macro_f1": 0.3434,
    "n": 333,
    "named_among": 29,
    "n_unlabelled": 4,
    "interval": {"accuracy": [0.79, 0.84], "macro_f1": [0.7, 0.7591]},
  } | values


def document(variant="imu_text", dataset="a set"):
  return {
    "dataset": dataset,
    "variant": variant,
    "teacher": "tiny clip",
    "seed": 0,
    "split": "test",
    "protocol": "full",
    "encoder": {"preset": "paper", "rate_hz": 50.0, "window_s": 5.0},
    "counts": {"windows": 712, "wearers": 4, "recordings": 8},
    "retrieval": {
      "text->imu": block(variant != "imu_video"),
      "imu->video": block(variant != "imu_text", gallery=690),
      "text->video": block(**{"R@10": 0.6543}),
    },
    "recognition": {
      "zero_shot": scores(),
      "zero_shot_unseen": scores(names=("rows",), macro_f1=0.1919),
      "linear_probe": scores(macro_f1=0.6161),
      "zero_shot_video": scores(macro_f1=0.9191),
    },
    "per_wearer": {
      "wearer 1": {"windows": 300, "R@10 text->imu": 0.4444},
      "wearer 2": {"windows": 412},
    },
    "notes": ["12 windows have no frame"],
  }


def card(text="walks", match=None, frame=b"\xff\xd8\xff jpeg"):
  made = {"frame": frame, "text": text, "label": "walking", "source": "r, 0:05"}
  made["signal"] = figures.signals(np.ones((20, 6)), 10.0)
  return made if match is None else made | {"match": match}


def query(direction="text->imu", text="walks", rank=2.0, match=True):
  hits = [
    card(match=False),
    card(text, match=match),
    card(frame=None, match=False),
  ]
  return {
    "direction": direction,
    "query": card(text),
    "rank": rank,
    "gallery": 700,
    "hits": hits,
  }


class Page(html.parser.HTMLParser):
  """Collects text and sources; fails on tags that do not close in order."""

  def __init__(self, page):
    super().__init__()
    self.open, self.text, self.sources, self.tags = [], "", [], []
    self.feed(page)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.sources += [v for k, v in attributes if k in ("src", "href", "srcset")]
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_startendtag(self, tag, attributes):
    self.tags.append(tag)

  def handle_data(self, data):
    self.text += data


PNG = figures.confusion(np.eye(2), ["a", "b"])
PICTURES = {"recall_curves": PNG, "confusion": PNG}


def test_page_parses_and_needs_nothing_from_outside():
  page = report.page(document(), PICTURES, [query(), query("imu->video")])
  parsed = Page(page)
  assert parsed.tags.count("svg") >= 6
  assert parsed.sources
  assert all(s.startswith("data:image/") for s in parsed.sources)
  assert "script" not in parsed.tags
  assert "link" not in parsed.tags
  # The only address is the name of the SVG format.
  assert set(re.findall(r"https?://[^\s\"']+", page)) == {
    "http://www.w3.org/2000/svg"
  }


def test_page_holds_every_number():
  metrics = document()
  text = Page(report.page(metrics, PICTURES, [query(rank=558.0)])).text
  for found in metrics["retrieval"].values():
    for column in tables.COLUMNS:
      assert tables.number(column, found[column]) in text
      assert tables.number(column, found[f"chance_{column}"]) in text
      assert tables.interval(column, found) in text
    assert str(found["gallery"]) in text
  for found in metrics["recognition"].values():
    for name in ("macro_f1", "accuracy"):
      assert tables.number(name, found[name]) in text
      assert tables.interval(name, found) in text
    assert tables.constant(found) in text
    assert str(found["n"]) in text
  for word in ("tiny clip", "wearer 2", "44.4", "0.333", "558", "712"):
    assert word in text
  assert "12 windows have no frame" in text


def test_page_escapes_every_text_of_the_data():
  metrics = document(dataset=HOSTILE)
  metrics["teacher"] = metrics["split"] = HOSTILE
  metrics["notes"] = [HOSTILE]
  metrics["per_wearer"] = {HOSTILE: {"windows": 3}}
  metrics["recognition"] = {"zero_shot": scores(names=(HOSTILE,))}
  hostile = query(text=HOSTILE)
  for shown in (hostile["query"], *hostile["hits"]):
    shown["label"] = shown["source"] = HOSTILE
  page = report.page(metrics, PICTURES, [hostile])
  assert "<script" not in page
  assert "script" not in Page(page).tags
  assert HOSTILE in Page(page).text


def test_right_window_is_marked_and_shown_when_it_is_not_among_the_best():
  found = Page(report.page(document(), {}, [query(rank=2.0)])).text
  assert found.count("✓ right") == 1
  lost = Page(
    report.page(document(), {}, [query(rank=431.0, match=False)])
  ).text
  assert lost.count("✓ right") == 1
  assert "431 ✓ right" in lost


def test_page_does_without_the_parts_that_were_not_measured():
  bare = document() | {"retrieval": {}, "recognition": {}, "notes": []}
  bare["per_wearer"] = {}
  parsed = Page(report.page(bare, {}, []))
  assert "Retrieval" not in parsed.text
  assert "Recognition" not in parsed.text
  assert "imu_text on a set" in parsed.text
  assert tables.terminal(bare).startswith("imu_text on a set\n")


def test_page_changes_nothing_in_the_document():
  metrics = document()
  before = copy.deepcopy(metrics)
  report.page(metrics, PICTURES, [query()])
  tables.terminal(metrics)
  tables.closing([metrics])
  assert metrics == before


# Terminal


def test_terminal_tables_are_aligned():
  lines = tables.terminal(document()).splitlines()
  for head in ("retrieval (R@k in %)", "recognition"):
    start = next(i for i, line in enumerate(lines) if line.startswith(head))
    body = lines[start : start + 2 + 3]
    assert set(body[1]) == {"─"}
    # The last column ends where its head ends.
    assert len({len(body[i]) for i in (0, 2, 3)}) == 1


def test_terminal_marks_pairs_that_were_never_trained():
  text = tables.terminal(document("imu_text"))
  assert "IMU → video *" in text
  assert "text → IMU  " in text
  assert "* transitive: a pair that the run was never trained on" in text
  text = tables.terminal(document("imu_video_text"))
  assert "*" not in text


def test_closing_table_has_variants_ceiling_and_chance():
  variants = ("imu_video", "imu_text", "imu_video_text")
  metrics = [document(variant) for variant in variants]
  text = tables.closing(metrics)
  lines = text.splitlines()
  assert max(map(len, lines)) <= 120
  assert "tiny clip" in text
  assert "690 or 700 windows" in text
  rows = {line.split("  ")[0]: line for line in lines}
  assert rows["imu_video"].split()[1:5] == ["1.2*", "23.4*", "56.8*", "0.091*"]
  assert rows["imu_video_text"].split()[1:5] == ["1.2", "23.4", "56.8", "0.091"]
  assert "0.727" in rows["imu_text"]
  assert "0.192" in rows["imu_text"]
  ceiling = rows["teacher alone"].split()
  assert "65.4" in ceiling
  assert "0.919" in ceiling
  assert "1.4" in rows["chance"]
  assert "0.343" in rows["chance"]
  # Nothing was fine-tuned, and the table says so.
  assert rows["imu_video"].split()[-1] == "-"


# Pictures


def test_recall_curves_are_a_png():
  ranks = {"text->imu": np.arange(1, 51), "imu->video": np.ones(40)}
  png = figures.recall_curves(ranks, {"text->imu": 50, "imu->video": 40})
  assert png[:8] == b"\x89PNG\r\n\x1a\n"
  other = figures.recall_curves(ranks, {"text->imu": 50, "imu->video": 400})
  assert other != png


def test_recall_curves_of_a_gallery_of_one():
  png = figures.recall_curves({"text->imu": np.ones(1)}, {"text->imu": 1})
  assert png[:4] == b"\x89PNG"


def test_recall_curves_need_a_direction():
  with pytest.raises(ValueError, match="no recall curve"):
    figures.recall_curves({}, {})


def test_confusion_is_a_png_and_survives_a_class_without_windows():
  counts = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 5]])
  png = figures.confusion(counts, ["a", "b", "c"])
  assert png[:4] == b"\x89PNG"
  with pytest.raises(ValueError, match=r"\[3, 3\] for 2 names"):
    figures.confusion(counts, ["a", "b"])


def test_signals_are_svg_that_keeps_the_extremes():
  imu = np.zeros((1000, 6))
  imu[500, 2], imu[:, 4] = 9.81, -1.5
  root = ElementTree.fromstring(figures.signals(imu, 200.0))
  lines = root.findall("{*}polyline")
  assert [line.get("class") for line in lines] == ["x", "y", "z"] * 2
  texts = [text.text for text in root.findall("{*}text")]
  assert "9.81" in texts
  assert "-1.5" in texts
  assert "m/s²" in texts
  assert "rad/s" in texts
  assert "5 s" in texts
  points = [p.split(",") for p in lines[2].get("points").split()]
  assert len(points) <= 160
  heights = [float(y) for _, y in points]
  assert min(heights) < 10
  assert max(heights) > 40


def test_signals_say_which_sensor_is_missing():
  text = figures.signals(np.zeros((20, 6)), 10.0, np.array([True, False]))
  assert text.count("not measured") == 1
  assert text.count("<polyline") == 3


def test_signals_refuse_another_shape():
  with pytest.raises(ValueError, match=r"\[T, 6\], got \[6, 20\]"):
    figures.signals(np.zeros((6, 20)), 10.0)


def test_equal_narrations_have_a_row_of_their_own_with_its_chance():
  made = document()
  same = block(gallery=444, **{"R@10": 0.4321, "chance_R@10": 0.077})
  made["retrieval"]["text->imu"]["equal_texts_match"] = same
  page = report.page(made, {}, [])
  assert "equal texts; chance" in page
  for part in ("43.2", "<small>7.7</small>", "444"):
    assert part in page
  assert "equal texts; chance" not in report.page(document(), {}, [])


def test_a_run_without_a_teacher_is_not_said_to_share_its_space():
  made = document()
  assert "into the space of the frozen CLIP" in report.page(made, {}, [])
  for name, found in made["retrieval"].items():
    found["trained"] = name == "text->video"
  page = report.page(made, {}, [])
  assert "never trained towards texts or frames" in page
  assert "into the space of the frozen CLIP" not in page
