"""Charts of the evaluation report, drawn by matplotlib as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utils.report.page import data_uri, printable

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes

WIDTH, HISTOGRAM_HEIGHT, BAR_HEIGHT, MARGIN = 5.6, 2.6, 0.23, 0.3  # inches
MIN_BINS, MAX_BINS = 10, 40
TAIL_QUANTILE, TAIL_FACTOR = 0.98, 2.0
MAX_LABEL = 24  # letters
BLUE, GREY = "#4a86c5", "#7a8490"  # legible on light and on dark pages
STYLE = {
    "axes.edgecolor": GREY, "axes.labelcolor": GREY, "axes.spines.right": False, "axes.spines.top": False,
    "svg.fonttype": "none", "svg.hashsalt": "danet", "text.color": GREY, "text.parse_math": False,
    "xtick.color": GREY, "ytick.color": GREY,
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A drawn chart: its SVG as a data URI, and a sentence that says the same in words."""

    title: str
    uri: str
    caption: str


def histogram(title: str, values: Float[np.ndarray, "N"], unit: str = "") -> Chart:
    """Distribution of the finite values with mean and median; far outliers are gathered in the last bar."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    caption = [f"{len(finite):,} samples"]
    if len(finite) < len(values):
        caption.append(f"{len(values) - len(finite):,} without a value left out")
    if not len(finite):
        return Chart(title, "", ", ".join(caption))
    low, high, body = finite.min(), finite.max(), np.quantile(finite, TAIL_QUANTILE)
    # One far outlier must not squeeze all others into a corner.
    top = body if low < body and high - low > TAIL_FACTOR * (body - low) else high
    count = int(np.clip(3 * len(finite) ** (1 / 3), MIN_BINS, MAX_BINS))
    edges = np.linspace(low, max(top, low + 1e-3 * abs(low) + 1e-9), count + 1)
    marks = {"median": float(np.median(finite)), "mean": float(finite.mean())}

    def draw(axes: Axes) -> None:
        axes.hist(np.minimum(finite, edges[-1]), edges, color=BLUE, rwidth=0.9)
        for (name, value), line in zip(marks.items(), ("-", "--"), strict=True):
            axes.axvline(value, color=GREY, linestyle=line, label=name)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(unit)
        axes.legend(frameon=False)

    caption += [f"{name} {_with_unit(value, unit)}" for name, value in (*marks.items(), ("greatest", high))]
    if top < high:
        caption.append(f"the last bar holds all from {_with_unit(edges[-2], unit)}")
    return Chart(title, _svg_uri(HISTOGRAM_HEIGHT, draw), ", ".join(caption))


def bar_chart(title: str, labels: Sequence[str], values: Sequence[float], unit: str = "") -> Chart:
    """Horizontal bars from zero in the given order, each with its value; a dash where there is none."""
    known = np.isfinite(values)
    names = [printable(text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…") for text in labels]

    def draw(axes: Axes) -> None:
        bars = axes.barh(range(len(names)), np.where(known, values, 0), color=BLUE, height=0.65)
        shown = [f"{value:.4g}" if there else "–" for value, there in zip(values, known, strict=True)]
        axes.bar_label(bars, shown, padding=4)
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.12, y=0.01)
        axes.invert_yaxis()

    caption = f"{len(names)} values" + (f" in {unit}" if unit else "")
    return Chart(title, _svg_uri(BAR_HEIGHT * len(names) + MARGIN, draw), caption)


def _with_unit(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".rstrip()


def _svg_uri(height: float, draw: Callable[[Axes], None]) -> str:
    from matplotlib import rc_context  # of the extra "report"
    from matplotlib.figure import Figure

    file = io.StringIO()
    with rc_context(STYLE):
        figure = Figure((WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return data_uri("image/svg+xml", file.getvalue().encode("utf-8"))
