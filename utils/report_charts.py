"""Charts of the HTML report as inline SVG: histograms and horizontal bars, without scripts.

Widths are percentages and heights and letters are pixels, so that a chart fills any window and stays readable in a
narrow one; labels beside the plot stand in its padding. Colours come from the page's style sheet.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MIN_BINS, MAX_BINS = 10, 40
TAIL_QUANTILE, TAIL_FACTOR = 0.98, 2.0
PLOT_HEIGHT, TOP, BOTTOM = (
    180,
    44,
    26,
)  # pixels of a histogram: plot, room for two captions above, ticks below
ROW_HEIGHT, BAR_HEIGHT = 24, 14
LETTER, MAX_LABEL = 6.6, 24  # pixels a letter takes about; letters of a label before it is cut
NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def escape(text: object) -> str:
    """Text for HTML, in elements and attributes; what is no character becomes the replacement sign."""
    return html.escape(NO_TEXT.sub("\ufffd", str(text)), quote=True)


def number(value: float) -> str:
    """About three digits: 1234, 123, 12.3, 1.23, 0.123; a dash for NaN."""
    size = abs(value)
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    if size >= 9.995:
        return f"{value:,.0f}" if size >= 99.95 else f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.9995 else f"{value:.3g}"


def with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".rstrip()


# ------------------------------------------------------------------------------------------------------ histogram


@dataclass(frozen=True)
class Bins:
    """Counts of values between edges; the last bin also holds what lies beyond it when `has_tail`."""

    edges: Float[np.ndarray, "N+1"]
    counts: Int[np.ndarray, "N"]
    has_tail: bool


def round_step(span: float, parts: int) -> float:
    """The step of 1, 2 or 5 times a power of ten that cuts `span` into about `parts` pieces, not more."""
    rough = span / parts
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= rough * (1 - 1e-9)), 10 * power)


def bin_values(values: Float[np.ndarray, "N"]) -> Bins:
    """Bins with round edges for finite values; far outliers are gathered in the last bin.

    Raises ValueError without values.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        raise ValueError("There are no values to count.")
    low, high = float(values.min()), float(values.max())
    # One far outlier must not squeeze all others into a corner.
    body = float(np.quantile(values, TAIL_QUANTILE))
    has_tail = values.size >= 20 and body > low and high - low > TAIL_FACTOR * (body - low)
    top = body if has_tail else high
    if 0 <= low <= 0.5 * top:
        low = 0.0  # distances are read from zero
    if top - low <= 1e-9 * max(abs(low), abs(top)):
        low, top = low - 0.5 * max(abs(low), 1.0), top + 0.5 * max(abs(top), 1.0)
    wanted = int(np.clip(3 * values.size ** (1 / 3), MIN_BINS, MAX_BINS))
    step = round_step(top - low, wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(top / step - 1e-9)
    edges = np.arange(first, max(last, first + 1) + 1) * step
    place = np.clip(np.floor((values - edges[0]) / step + 1e-9).astype(np.int64), 0, len(edges) - 2)
    return Bins(edges, np.bincount(place, minlength=len(edges) - 1), has_tail)


def histogram_chart(title: str, values: Sequence[float] | np.ndarray, unit: str) -> str:
    """A chart with its caption; mean and median are marked, values that are not finite left out and counted."""
    values = np.asarray(values, np.float64).reshape(-1)
    finite = values[np.isfinite(values)]
    left_out = len(values) - len(finite)
    note = f"; {left_out} without a value left out" if left_out else ""
    if not len(finite):
        return f'<p class="note">No values{escape(note)}.</p>'
    bins = bin_values(finite)
    if bins.has_tail:
        note += f"; the pale bar holds all {bins.counts[-1]:,} from {with_unit(bins.edges[-2], unit)}"
    mean, median, late = float(finite.mean()), float(np.median(finite)), float(np.quantile(finite, 0.9))
    parts = [*_grid(bins), *_columns(bins, unit), *_ticks(bins)]
    parts += _marker(bins, "median", median, unit, row=0, leftward=median < mean)
    parts += _marker(bins, "mean", mean, unit, row=1, leftward=mean <= median)
    height = TOP + PLOT_HEIGHT + BOTTOM
    label = f"{title}: median {with_unit(median, unit)}, mean {with_unit(mean, unit)}"
    about = (
        f"{len(finite):,} samples from {number(finite.min())} to {with_unit(finite.max(), unit)}; nine in ten "
        f"reach at most {with_unit(late, unit)}{note}."
    )
    return (
        f'<div class="plot histogram"><svg role="img" aria-label="{escape(label)}" width="100%" '
        f'height="{height}">{"".join(parts)}</svg></div><p class="note">{escape(about)}</p>'
    )


def _share(bins: Bins, value: float) -> float:
    """Place on the horizontal axis in percent."""
    return float(np.clip((value - bins.edges[0]) / (bins.edges[-1] - bins.edges[0]), 0, 1)) * 100


def _grid(bins: Bins) -> list[str]:
    highest = int(bins.counts.max())
    step = max(1, round(round_step(highest, 5)))
    lines = []
    for count in range(0, highest + 1, step):
        y = TOP + PLOT_HEIGHT * (1 - count / highest)
        kind = "axis" if count == 0 else "grid"
        lines.append(f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick end" x="-8" y="{y + 4:.1f}">{count:,}</text>')
    return lines


def _columns(bins: Bins, unit: str) -> list[str]:
    width, highest, last = 100 / len(bins.counts), int(bins.counts.max()), len(bins.counts) - 1
    columns = []
    for i, count in enumerate(bins.counts.tolist()):
        height = PLOT_HEIGHT * count / highest
        tail = bins.has_tail and i == last
        reach = (
            f"{number(bins.edges[i])} or more"
            if tail
            else f"{number(bins.edges[i])}–{number(bins.edges[i + 1])}"
        )
        title = f"{reach} {unit}".rstrip() + f": {count:,}"
        columns.append(
            f'<rect class="bar{" tail" if tail else ""}" data-count="{count}" x="{i * width + 0.06 * width:.3f}%" '
            f'width="{0.88 * width:.3f}%" y="{TOP + PLOT_HEIGHT - height:.1f}" height="{height:.1f}">'
            f"<title>{escape(title)}</title></rect>"
        )
    return columns


def _ticks(bins: Bins) -> list[str]:
    low, high = float(bins.edges[0]), float(bins.edges[-1])
    step = round_step(high - low, 6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    y = TOP + PLOT_HEIGHT + 18
    ticks = []
    for i in range(first, last + 1):
        share = _share(bins, i * step)
        side = " end" if share > 97 else ("" if share < 3 else " middle")
        ticks.append(f'<text class="tick{side}" x="{share:.2f}%" y="{y}">{i * step:,.10g}</text>')
    return ticks


def _marker(bins: Bins, name: str, value: float, unit: str, row: int, leftward: bool) -> list[str]:
    """A line with its caption on the side away from the other marker, where there is room."""
    share, y = _share(bins, value), 14 + 18 * row
    leftward = share > 65 or (leftward and share > 35)
    side, shift = ("end", -6) if leftward else ("", 6)
    caption = f"{name} {escape(with_unit(value, unit))}"
    return [
        f'<line class="{name}" x1="{share:.2f}%" x2="{share:.2f}%" y1="{y - 10}" y2="{TOP + PLOT_HEIGHT}"/>',
        f'<text class="mark {side}" x="{share:.2f}%" dx="{shift}" y="{y}">{caption}</text>',
    ]


# ----------------------------------------------------------------------------------------------------------- bars


def bars_chart(title: str, labels: Sequence[str], values: Sequence[float] | np.ndarray, unit: str) -> str:
    """Horizontal bars from zero in the given order, each with its value; a dash where there is none."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    if not len(values):
        return '<p class="note">No values.</p>'
    highest = max(float(finite.max(initial=0.0)), 1e-12)
    room = round(LETTER * min(max(len(str(label)) for label in labels), MAX_LABEL)) + 14
    rows = []
    for i, (label, value) in enumerate(zip(labels, values.tolist(), strict=True)):
        middle = ROW_HEIGHT * (i + 0.5)
        text = str(label) if len(str(label)) <= MAX_LABEL else str(label)[: MAX_LABEL - 1] + "…"
        length = 100 * max(value, 0.0) / highest if math.isfinite(value) else 0.0
        full = escape(f"{label}: {with_unit(value, unit)}")
        rows.append(
            f'<g class="row"><title>{full}</title>'
            f'<text class="label end" x="-8" y="{middle + 4:.1f}">{escape(text)}</text>'
            f'<rect class="bar" x="0" width="{length:.3f}%" y="{middle - BAR_HEIGHT / 2:.1f}" height="{BAR_HEIGHT}" '
            f'rx="2"/><text class="value" x="{length:.3f}%" dx="6" y="{middle + 4:.1f}">'
            f"{escape(number(value))}</text></g>"
        )
    height = ROW_HEIGHT * len(values)
    axis = f'<line class="axis" x1="0" x2="0" y1="0" y2="{height}"/>'
    about = f"{title}: {len(values)} values" + (f" in {unit}" if unit else "")
    return (
        f'<div class="plot bars" style="padding-left:{room}px"><svg role="img" aria-label="{escape(about)}" '
        f'width="100%" height="{height}">{"".join(rows)}{axis}</svg></div>'
    )
