"""A report as one HTML page that holds everything: numbers, charts and pictures; no network, no scripts.

It can be mailed or kept beside the numbers it shows. Colours follow the reader's light or dark setting, the layout
the width of the window. `utils.people_report_page` takes its head, style and cards from here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.file_marks import PAGE
from utils.report_charts import bars_chart, escape, histogram_chart
from utils.safe_write import atomic_write

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

JPEG_QUALITY = 90
NARROWEST, WIDEST, PIXELS_A_ASPECT = 180, 540, 220  # of a gallery's columns, pixels
A_NUMBER = re.compile(r"(?:(?:[-+−]?[\d,]*\.?\d+(?:e[-+]?\d+)?|nan|–)\s?(?:mm|m|px|%|s|ms)?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """Text in rows and columns. Raises ValueError for a row that is not as long as the header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"The table '{self.title}' has {len(self.header)} columns but a row of {len(row)}: {row}."
                )


@dataclass(frozen=True)
class Histogram:
    """How values are spread; NaN are left out of the chart and counted below it."""

    title: str
    values: Float[np.ndarray, "N"]
    unit: str = ""


@dataclass(frozen=True)
class Bars:
    """A value for each label, in the given order. Raises ValueError for unlike numbers of both."""

    title: str
    labels: Sequence[str]
    values: Sequence[float]
    unit: str = ""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.values):
            raise ValueError(
                f"The chart '{self.title}' has {len(self.labels)} labels for {len(self.values)} values."
            )


@dataclass(frozen=True)
class Gallery:
    """Pictures with captions. Raises ValueError for what is no RGB picture."""

    title: str
    samples: Sequence[tuple[str, UInt8[np.ndarray, "H W 3"]]]

    def __post_init__(self) -> None:
        for caption, picture in self.samples:
            shape, kind = np.shape(picture), getattr(picture, "dtype", None)
            if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
                raise ValueError(
                    f"'{caption}' in the gallery '{self.title}' is {kind} {list(shape)}; expected an RGB picture, "
                    "uint8 [H, W, 3]."
                )


@dataclass(frozen=True)
class Report:
    """What a page shows, in the order of reading; `facts` (how the numbers came about) stand last."""

    title: str
    summary: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    histograms: Sequence[Histogram] = ()
    bars: Sequence[Bars] = ()
    galleries: Sequence[Gallery] = ()


def write_report(path: str | os.PathLike, report: Report, replace: bool = True) -> None:
    """Write the page whole or not at all; missing folders are made. replace: a page that is there."""
    page = render_report(report)
    with atomic_write(path, "w", replace) as file:
        file.write(page)


def render_report(report: Report) -> str:
    """The page as text."""
    charts = [
        *(
            _card(h.title, histogram_chart(h.title, h.values, h.unit), "chart", h.unit)
            for h in report.histograms
        ),
        *(
            _card(b.title, bars_chart(b.title, b.labels, b.values, b.unit), "chart", b.unit)
            for b in report.bars
        ),
    ]
    sections = (
        ("results", "Results", _cards("tables", map(table_card, report.tables))),
        ("charts", "Errors in detail", _cards("charts", charts)),
        ("samples", "Samples", "".join(map(_gallery, report.galleries))),
        ("protocol", "How these numbers came about", facts_card(report.facts)),
    )
    shown = [(name, title, body) for name, title, body in sections if body]
    links = " ".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in shown)
    body = "".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>{content}</section>' for name, title, content in shown
    )
    lines = "".join(f"<p>{escape(line)}</p>" for line in report.summary.splitlines() if line.strip())
    return (
        f"{page_head(report.title)}<header><h1>{escape(report.title)}</h1>{lines}<nav>{links}</nav></header>\n"
        f"<main>{body}</main>\n</body>\n</html>\n"
    )


def page_head(title: str, style: str = "", script: str = "") -> str:
    """A page up to its opened body; style: added to `STYLE`; script: the text of the only one that may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="{PAGE}">\n'
        # The page asks nothing of the network, and the browser holds it to that.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        f"style-src 'unsafe-inline'{allowed}\">\n"
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}{style}</style>\n</head>\n<body>\n"
    )


def _cards(kind: str, cards: Iterable[str]) -> str:
    content = "".join(cards)
    return f'<div class="cards {kind}">{content}</div>' if content else ""


def _card(title: str, content: str, kind: str, unit: str = "") -> str:
    unit = f' <span class="unit">{escape(unit)}</span>' if unit else ""
    heading = f"<h3>{escape(title)}{unit}</h3>" if title else ""
    return f'<article class="card {kind}">{heading}{content}</article>'


def table_card(table: Table) -> str:
    """A table on a card; columns of numbers stand right."""
    numeric = [
        bool(table.rows) and all(A_NUMBER.fullmatch(str(row[column]).strip()) for row in table.rows)
        for column in range(len(table.header))
    ]

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = (' class="number"' if right else "" for right in numeric)
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    content = f"<thead><tr>{cells('th', table.header)}</tr></thead><tbody>{rows}</tbody>"
    return _card(table.title, f'<div class="scroll"><table>{content}</table></div>', "table")


def facts_card(facts: Mapping[str, str]) -> str:
    """Names and values on a card; nothing without any."""
    if not facts:
        return ""
    rows = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items()
    )
    return f'<dl class="card facts">{rows}</dl>'


def _gallery(gallery: Gallery) -> str:
    if not gallery.samples:
        return ""
    aspect = max(picture.shape[1] / picture.shape[0] for _, picture in gallery.samples)
    column = round(min(max(PIXELS_A_ASPECT * aspect, NARROWEST), WIDEST))
    figures = "".join(
        f'<figure class="card"><img src="{picture_uri(picture)}" width="{picture.shape[1]}" '
        f'height="{picture.shape[0]}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, picture in gallery.samples
    )
    return f'<h3>{escape(gallery.title)}</h3><div class="gallery" style="--column:{column}px">{figures}</div>'


def picture_uri(picture: UInt8[np.ndarray, "H W 3"], quality: int = JPEG_QUALITY) -> str:
    """An RGB picture inside an address: JPEG, or PNG where that is the smaller (drawings of few colours)."""
    bgr = np.ascontiguousarray(picture[..., ::-1])
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    png = cv2.imencode(".png", bgr)[1].tobytes()
    kind, data = ("png", png) if len(png) <= len(jpeg) else ("jpeg", jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


STYLE = """
:root { color-scheme: light dark; --page: #f5f6f8; --card: #ffffff; --ink: #1a1f26; --soft: #5b6573;
  --line: #e0e4ea; --grid: #e9ecf1; --bar: #3574b5; --tail: #9dbbd9; --shade: 0 1px 2px rgba(20, 30, 45, .06); }
@media (prefers-color-scheme: dark) { :root { --page: #12151a; --card: #1a1e25; --ink: #e7eaef; --soft: #9ba6b3;
  --line: #2b313a; --grid: #262c35; --bar: #5b9bdc; --tail: #36577a; --shade: none; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header, main { max-width: 1180px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 36px; }
h1 { font-size: 27px; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 8px; overflow-wrap: anywhere; }
header p { margin: 0 0 4px; color: var(--soft); max-width: 75ch; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 14px; padding-bottom: 12px;
  border-bottom: 1px solid var(--line); font-size: 14px; }
a { color: var(--bar); text-decoration: none; } a:hover { text-decoration: underline; }
section { margin: 32px 0 44px; scroll-margin-top: 12px; }
h2 { font-size: 19px; margin: 0 0 14px; }
h3 { font-size: 15px; margin: 22px 0 10px; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; box-shadow: var(--shade);
  margin: 0; min-width: 0; break-inside: avoid; }
article.card { padding: 16px 18px; } article h3 { margin: 0 0 10px; }
.unit { color: var(--soft); font-weight: 400; }
.cards { display: grid; gap: 18px; align-items: start; }
.tables { grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--grid); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; } tbody tr:last-child td { border-bottom: 0; }
td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
.plot svg { display: block; overflow: visible; }
.histogram { padding: 0 12px 0 40px; }
.bars { padding-right: 54px; }
.plot text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.plot .mark, .plot .value, .plot .label { fill: var(--ink); } .plot .mark { font-weight: 600; }
.plot .mark { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.plot .end { text-anchor: end; } .plot .middle { text-anchor: middle; }
.plot .bar { fill: var(--bar); } .plot .tail { fill: var(--tail); }
.plot rect:hover, .plot .row:hover rect { opacity: .8; }
.plot .grid { stroke: var(--grid); } .plot .axis { stroke: var(--soft); opacity: .7; }
.plot .median, .plot .mean { stroke: var(--ink); stroke-width: 1.5; } .plot .mean { stroke-dasharray: 4 3; }
.note { color: var(--soft); font-size: 13px; margin: 8px 0 0; }
.gallery { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--column)), 1fr)); }
figure { overflow: hidden; } img { display: block; width: 100%; height: auto; background: var(--grid); }
figcaption { padding: 8px 12px 10px; font-size: 13px; color: var(--soft); overflow-wrap: anywhere; }
.facts { padding: 6px 18px; }
.facts div { display: grid; grid-template-columns: minmax(120px, 220px) 1fr; gap: 2px 18px; padding: 9px 0;
  border-bottom: 1px solid var(--grid); } .facts div:last-child { border-bottom: 0; }
dt { color: var(--soft); } dd { margin: 0; white-space: pre-line; overflow-wrap: anywhere; }
@media (max-width: 560px) { header, main { padding-left: 14px; padding-right: 14px; } header { padding-top: 22px; }
  h1 { font-size: 22px; } article.card { padding: 14px; } .facts div { grid-template-columns: 1fr; } }
@media print { body { background: #fff; } nav { display: none; } }
"""
