"""Pages that need nothing else: their frame, their style on light and dark screens, thumbnails."""

import base64
import io
from html import escape

import PIL.Image

from clip_jax.data.images import load_image
from clip_jax.data.samples import Image

THUMBNAIL = 160
"""Pixels of a picture's longer side."""

STYLE = """
:root {
  --ink: #1c2430; --soft: #667085; --line: #e3e7ed; --ground: #ffffff; --card: #f7f8fa;
  --s0: #3b6fb6; --s1: #d9822b; --s2: #3d8b63; --s3: #8a5bb0; --s4: #b64a5a; --s5: #6b7785;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ee; --soft: #98a2b3; --line: #333b47; --ground: #14181e; --card: #1c222a;
    --s0: #6ea0e3; --s1: #e8a35c; --s2: #6cbb92; --s3: #b48cd8; --s4: #e07f8d; --s5: #9aa5b3;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1080px; padding: 40px 24px 80px;
  color: var(--ink); background: var(--ground); font: 15px/1.5 system-ui, sans-serif;
}
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 44px 0 12px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
h4 { font-size: 13px; margin: 0 0 6px; color: var(--soft); }
p { margin: 4px 0 12px; }
a { color: inherit; text-decoration-color: var(--line); }
.soft { color: var(--soft); }
.wide { overflow-x: auto; }

table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 16px 5px 0; text-align: left; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th.number, td.number { text-align: right; }
td.best { font-weight: 700; }
tr.average td, tr.average th { color: var(--soft); }

svg { max-width: 100%; height: auto; display: block; }
svg text {
  font-size: 12px; fill: var(--soft);
  stroke: var(--ground); stroke-width: 3px; paint-order: stroke;
}
section.model svg text { stroke: var(--card); }
.grid, .frame { stroke: var(--line); fill: none; }
.diagonal { stroke: var(--soft); stroke-dasharray: 3 4; }
.curve { stroke: var(--s0); fill: none; stroke-width: 1.5; }
.point { fill: var(--s0); fill-opacity: .75; }
.chance { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 2 2; }
.legend span { margin-right: 18px; }
.legend i {
  display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px;
}
.series0 { fill: var(--s0); background: var(--s0); }
.series1 { fill: var(--s1); background: var(--s1); }
.series2 { fill: var(--s2); background: var(--s2); }
.series3 { fill: var(--s3); background: var(--s3); }
.series4 { fill: var(--s4); background: var(--s4); }
.series5 { fill: var(--s5); background: var(--s5); }

section.model {
  background: var(--card); border-radius: 10px; padding: 16px 20px 20px; margin: 12px 0;
}
section.model h3:first-child { margin-top: 0; }
.columns { display: flex; flex-wrap: wrap; gap: 24px 40px; align-items: flex-start; }

table.confusion { font-size: 11px; }
table.confusion td, table.confusion th { border: 0; padding: 2px 4px; }
table.confusion td { min-width: 27px; height: 24px; text-align: center; border-radius: 3px; }
table.confusion td.right { background: color-mix(in srgb, var(--s2) var(--share), transparent); }
table.confusion td.wrong { background: color-mix(in srgb, var(--s4) var(--share), transparent); }
table.confusion th {
  font-weight: 400; text-align: right; white-space: nowrap; color: var(--soft);
}
table.confusion th[scope=col] { vertical-align: bottom; text-align: left; }
table.confusion th[scope=col] span { writing-mode: vertical-rl; transform: rotate(180deg); }

.pictures {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); gap: 14px;
}
figure { margin: 0; font-size: 12px; line-height: 1.35; overflow-wrap: anywhere; }
figure img {
  width: 100%; aspect-ratio: 1; object-fit: contain; background: #ffffff;
  border: 1px solid var(--line); border-radius: 6px; display: block; margin-bottom: 4px;
}
"""


def html_page(title: str, body: str) -> str:
    """A whole page; the body is HTML, the title plain text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def thumbnail(image: Image) -> str:
    """A small JPEG of a picture, in base64; what is transparent becomes white."""
    picture = load_image(image).convert("RGBA")
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    ground = PIL.Image.new("RGBA", picture.size, "white")
    file = io.BytesIO()
    PIL.Image.alpha_composite(ground, picture).convert("RGB").save(file, "jpeg", quality=80)
    return base64.b64encode(file.getvalue()).decode()
