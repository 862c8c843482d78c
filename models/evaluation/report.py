"""The results of an evaluation: scores, protocol file, errors of each sample, and the page about them with images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from models.evaluation.resumable import Results
from utils import report
from utils.geometry import CROP_SIZE
from utils.io import require_free, require_writable, save_json_atomic, save_npz_atomic
from utils.io.marks import EVAL, PAGE
from utils.packages import require_packages

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

FILES = {"protocol.json": EVAL, "errors.npz": EVAL, "report.html": PAGE}
TEMPLATE = Path(report.__file__).with_name("evaluation.html.j2")
SHOWN_SAMPLES, SHOWN_UNREADABLE = 6, 20
RESULT_KEYS = ("pred_joints", "pose", "betas", "camera")  # of a 2020 result file

PREDICTED, TRUE = (40, 90, 220), (240, 130, 20)  # RGB: blue, orange
PAPER = 250
PIXELS_PER_METRE = 95.0
# Among the first 14 joints of J14 and J17: legs, arms, neck and head, hips, shoulders to hips.
BONES_J14 = ((0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (12, 13), (8, 12), (9, 12), (2, 3),
             (8, 2), (9, 3))  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One number of a result table."""

    name: str
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.value:.{2 if self.unit == 'mm' else 4}f}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True)
class Table:
    """Text in rows and columns."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Gallery:
    """RGB images with captions."""

    title: str
    samples: tuple[tuple[str, UInt8[np.ndarray, "H W 3"]], ...]


@dataclass(frozen=True)
class Summary:
    """Scores of a set, with the tables and charts that belong to them."""

    scores: tuple[Score, ...]
    errors: Float[np.ndarray, "N"]  # what the best and the worst samples are found by; NaN where not scored
    charts: tuple[report.Chart, ...] = ()
    tables: tuple[Table, ...] = ()


def extremes(
    errors: Float[np.ndarray, "N"], legend: str, show: Callable[[int], tuple[str, UInt8[np.ndarray, "H W 3"]]]
) -> list[Gallery]:
    """Samples with the least and the greatest errors, NaN left out; `show` gives caption and image of one."""
    order = [int(index) for index in np.argsort(errors, kind="stable") if np.isfinite(errors[index])]
    chosen = {"Best samples": order[:SHOWN_SAMPLES], "Worst samples": order[::-1][:SHOWN_SAMPLES]}
    return [Gallery(f"{title}: {legend}", tuple(map(show, indices))) for title, indices in chosen.items()]


# ---------------------------------------------------------------------------------------------------------- files


def require_free_results(folder: Path, result_file: str | None, overwrite: bool) -> None:
    """Check before an evaluation that its results can be written.

    Raises:
        ImportError: the package that draws the charts is missing.
        FileExistsError: a file must not be replaced.
        OSError: a folder cannot be written to.
    """
    require_packages("The report of an evaluation", "report", "matplotlib")
    for name, mark in FILES.items():
        require_free(folder / name, overwrite, mark)
    require_writable(folder)
    if result_file:
        require_free(result_file, overwrite, EVAL)
        require_writable(Path(result_file).parent)


def write_results(
    folder: Path,
    result_file: str | None,
    overwrite: bool,
    facts: dict[str, Any],
    names: Sequence[str],
    results: Results,
    summary: Summary,
    galleries: Sequence[Gallery],
) -> None:
    """Write protocol.json, errors.npz and report.html into `folder`, and the arrays of 2020 to `result_file`.

    Args:
        facts: how the numbers came about; also of the set ("dataset") and the network ("regressor").
        names: of all samples.
    """
    unreadable = tuple((item.name, item.reason) for item in results.unreadable)
    scored = int(results.scored.sum())
    named = [{"name": name, "reason": reason} for name, reason in unreadable]
    samples = {"in the set": len(names), "scored": scored, "unreadable": named}
    scores = {  # JSON has no NaN
        s.name: {"value": s.value if np.isfinite(s.value) else None, "unit": s.unit} for s in summary.scores
    }
    tables = {table.title: [table.header, *table.rows] for table in summary.tables}
    tree = {"schema": EVAL, **facts, "samples": samples, "scores": scores, "tables": tables}
    save_json_atomic(folder / "protocol.json", tree, overwrite)
    errors = {name: values for name, values in results.rows.items() if name not in RESULT_KEYS}
    errors |= {"imgname": np.array(names), "scored": results.scored}
    save_npz_atomic(folder / "errors.npz", EVAL, overwrite, **errors)
    title = f"Unreadable samples ({len(unreadable)})"
    unread = [Table(title, ("name", "reason"), unreadable[:SHOWN_UNREADABLE])] if unreadable else []
    numbers = Table("", ("score", "value"), tuple((s.name, str(s)) for s in summary.scores))
    report.write_page(
        folder / "report.html",
        TEMPLATE,
        overwrite,
        title=f"{facts['dataset']}: {facts['regressor']}",
        subtitle=f"{scored} of {len(names)} samples scored.",
        tables=[numbers, *summary.tables, *unread],
        charts=summary.charts,
        galleries=galleries,
        about=[(name, _as_text(fact)) for name, fact in facts.items()],
    )
    if result_file:
        arrays = {name: results.rows[name] for name in RESULT_KEYS if name in results.rows}
        save_npz_atomic(result_file, EVAL, overwrite, **arrays)


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {entry}" for name, entry in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def print_summary(summary: Summary) -> None:
    """Print tables and scores."""
    for table in summary.tables:
        for row in (table.header, *table.rows):
            print(f"{row[0]:<20}" + "".join(f"{cell:>12}" for cell in row[1:]))
    width = max(len(score.name) for score in summary.scores)
    for score in summary.scores:
        print(f"{score.name:<{width}}  {score}")


# --------------------------------------------------------------------------------------------------------- images


def stick_figures(
    pred: Float[np.ndarray, "J 3"], true: Float[np.ndarray, "J 3"]
) -> UInt8[np.ndarray, "224 448 3"]:
    """Both skeletons (metres, about their roots) from the front and from the side; predicted blue, true orange."""
    middle = (true.max(axis=0) + true.min(axis=0)) / 2
    views = []
    for across in (0, 2):
        view = np.full((CROP_SIZE, CROP_SIZE, 3), PAPER, np.uint8)
        for joints, color in ((true, TRUE), (pred, PREDICTED)):
            points = (joints - middle)[:, [across, 1]] * PIXELS_PER_METRE + CROP_SIZE / 2
            draw_bones(view, points, BONES_J14, color)
        views.append(view)
    return np.concatenate(views, axis=1)


def draw_bones(
    image: UInt8[np.ndarray, "H W 3"],
    points: Float[np.ndarray, "J 2"],
    bones: Sequence[tuple[int, int]],
    color: tuple[int, int, int],
) -> None:
    """Draw joints (pixels; NaN where unknown) and the bones between them into `image`."""
    known = np.isfinite(points).all(axis=1)
    fixed = (np.clip(np.nan_to_num(points) - 0.5, -1e4, 1e4) * 16).round().astype(int).tolist()
    for start, end in bones:
        if max(start, end) < len(points) and known[start] and known[end]:
            cv2.line(image, fixed[start], fixed[end], color, 2, cv2.LINE_AA, 4)
    for joint in np.flatnonzero(known):
        cv2.circle(image, fixed[joint], 2 << 4, color, -1, cv2.LINE_AA, 4)
