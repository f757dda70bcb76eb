"""What every HTML page shares: one self-contained document, one look.

Nothing in a page comes from outside the file and no script runs in it; every
text of the data is escaped. Colours follow the reader's light or dark setting.
"""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image


def page(title: str, parts: Sequence[str]) -> str:
  """Return a whole HTML document.

  Args:
    title: plain text.
    parts: HTML, one below the other.
  """
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{text(title)}</title>\n<style>{_STYLE}</style></head>\n"
    f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
  )


def text(value) -> str:
  """Return a value as HTML text.

  >>> text("<b>")
  '&lt;b&gt;'
  """
  return html.escape(str(value), quote=True)


def image(data: bytes, kind: str, alt: str) -> str:
  """Return an image that the page carries itself; kind is "png" or "jpeg"."""
  source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
  return f'<img alt="{text(alt)}" src="{source}">'


def jpeg(pixels: np.ndarray, size: int) -> bytes:
  """Return a picture uint8 [H, W, 3] as a JPEG of at most `size` pixels."""
  picture = Image.fromarray(pixels)
  picture.thumbnail((size, size))
  buffer = io.BytesIO()
  picture.save(buffer, "JPEG", quality=88)
  return buffer.getvalue()


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
main:has(.sheet) { max-width: 100rem; } .sheet table { font-size: .85rem; }
.sheet thead th { white-space: normal; vertical-align: bottom;
  min-width: 3.2rem; }
.sheet th:first-child { position: sticky; left: 0; background: var(--page); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; font-weight: 500;
  white-space: nowrap; } td { white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td small, th small { display: block; font-size: .72rem; }
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
.moments { display: grid; gap: .8rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.strip { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr;
  gap: 2px; margin-bottom: .4rem; }
.strip img { border-radius: .15rem; }
.moments header { display: flex; justify-content: space-between; }
.moments header b { color: var(--ink); font-variant-numeric: tabular-nums; }
summary { cursor: pointer; margin: .6rem 0; }
"""
