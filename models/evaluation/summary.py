"""The results of an evaluation: scores, protocol file, errors of each sample, and the page about them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.evaluation.resumable import Results
from utils import report
from utils.io import require_free, require_writable, save_json_atomic, save_npz_atomic
from utils.io.marks import EVAL, PAGE
from utils.metrics import accuracy, by_action, mean_f1
from utils.packages import require_packages

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped, UInt8

log = logging.getLogger(__name__)

FILES = {"protocol.json": EVAL, "errors.npz": EVAL, "report.html": PAGE}
TEMPLATE = Path(report.__file__).with_name("evaluation.html.j2")
MILLIMETRES = 1000.0
SHOWN_SAMPLES, SHOWN_UNREADABLE = 6, 20
RESULT_KEYS = ("pred_joints", "pose", "betas", "camera")  # of a 2020 result file
JOINT_SCORES = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "pve": "PVE"}
Rows = dict[str, "Shaped[np.ndarray, 'n *row']"]


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
    """Scores of a set, with the tables, charts and images that belong to them."""

    scores: tuple[Score, ...]
    tables: tuple[Table, ...] = ()
    charts: tuple[report.Chart, ...] = ()
    galleries: tuple[Gallery, ...] = ()


def joint_scores(rows: Rows) -> tuple[Score, ...]:
    """MPJPE, PA-MPJPE and PVE over samples, in millimetres, as far as `rows` hold them in metres."""
    return tuple(
        Score(title, float(rows[name].mean(dtype=np.float64)) * MILLIMETRES, "mm")
        for name, title in JOINT_SCORES.items()
        if name in rows
    )


def part_scores(rows: Rows) -> tuple[Score, ...]:
    """Accuracy and F1 of the person mask and of the parts, from pixels counted over all samples."""
    counts = {name: rows[f"{name}_counts"].sum(axis=0) for name in ("mask", "part")}
    measures = {"accuracy": accuracy, "F1": mean_f1}
    return tuple(
        Score(f"{name} {measure}", function(values))
        for name, values in counts.items()
        for measure, function in measures.items()
    )


def summarise_joints(
    results: Results, joint_names: Sequence[str], names: Sequence[str], per_action: bool
) -> Summary:
    """Scores of joints with a histogram of samples, bars for each joint and, where asked for, for each action."""
    rows = {name: results.of_scored(name) for name in results.rows}
    tables = []
    charts = [
        report.histogram(f"{JOINT_SCORES[name]} of samples", rows[name] * MILLIMETRES, "mm")
        for name in ("mpjpe", "pa_mpjpe")
    ]
    charts += [
        report.bar_chart(f"{title} of each joint", joint_names, rows[name].mean(axis=0) * MILLIMETRES, "mm")
        for title, name in (("MPJPE", "joint_error"), ("PA-MPJPE", "pa_joint_error"))
    ]
    if per_action:
        scored = [name for name, is_scored in zip(names, results.scored, strict=True) if is_scored]
        plain, aligned = (by_action(scored, rows[key] * MILLIMETRES) for key in ("mpjpe", "pa_mpjpe"))
        charts.append(
            report.bar_chart("PA-MPJPE of each action", tuple(aligned), tuple(aligned.values()), "mm")
        )
        cells = [(action, f"{plain[action]:.2f}", f"{aligned[action]:.2f}") for action in plain]
        mean = [f"{float(np.mean([*group.values()])):.2f}" for group in (plain, aligned)]
        header = ("action", "MPJPE", "PA-MPJPE")
        tables.append(Table("Actions, mm", header, (*cells, ("mean over actions", *mean))))
    return Summary(joint_scores(rows), tuple(tables), tuple(charts))


def summarise_parts(results: Results) -> Summary:
    """Scores of the LSP protocol with histograms of samples."""
    rows = {name: results.of_scored(name) for name in ("mask_counts", "part_counts")}
    charts = (
        report.histogram("Part accuracy of samples", np.array([accuracy(c) for c in rows["part_counts"]])),
        report.histogram("Mask F1 of samples", np.array([mean_f1(c) for c in rows["mask_counts"]])),
    )
    return Summary(part_scores(rows), charts=charts)


def with_extremes(
    summary: Summary,
    errors: Float[np.ndarray, "N"],
    legend: str,
    caption: Callable[[int], str],
    strip: Callable[[int], UInt8[np.ndarray, "H W 3"]],
) -> Summary:
    """The summary with images of the samples with the least and the greatest errors; NaNs are left out."""
    order = [int(index) for index in np.argsort(errors, kind="stable") if np.isfinite(errors[index])]
    chosen = {"Best samples": order[:SHOWN_SAMPLES], "Worst samples": order[::-1][:SHOWN_SAMPLES]}
    galleries = tuple(
        Gallery(f"{title}: {legend}", tuple((caption(index), strip(index)) for index in indices))
        for title, indices in chosen.items()
    )
    return replace(summary, galleries=galleries)


def protocol_tree(
    dataset: str, results: Results, summary: Summary, facts: dict[str, Any], fingerprint: dict[str, str]
) -> dict[str, Any]:
    """Everything that says how the numbers came about, as plain values for JSON (no NaN: null)."""
    return {
        "schema": EVAL,
        "dataset": dataset,
        "samples": {
            "in the set": len(results.scored),
            "scored": int(results.scored.sum()),
            "unreadable": [{"name": item.name, "reason": item.reason} for item in results.unreadable],
        },
        **facts,
        "scores": {
            s.name: {"value": s.value if np.isfinite(s.value) else None, "unit": s.unit}
            for s in summary.scores
        },
        "tables": {t.title: [list(t.header), *map(list, t.rows)] for t in summary.tables},
        "fingerprint of the inputs": fingerprint,
    }


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


def write_evaluation(
    folder: Path,
    title: str,
    tree: dict[str, Any],
    results: Results,
    summary: Summary,
    names: Sequence[str],
    overwrite: bool = False,
) -> None:
    """Write protocol.json, errors.npz and report.html of an evaluation into `folder`."""
    save_json_atomic(folder / "protocol.json", tree, overwrite)
    rows = {name: values for name, values in results.rows.items() if name not in RESULT_KEYS}
    rows |= {"imgname": np.array(names), "scored": results.scored}
    save_npz_atomic(folder / "errors.npz", EVAL, overwrite, **rows)
    tables = [Table("", ("score", "value"), tuple((s.name, str(s)) for s in summary.scores)), *summary.tables]
    if unreadable := results.unreadable:
        shown = tuple((item.name, item.reason) for item in unreadable[:SHOWN_UNREADABLE])
        tables.append(Table(f"Unreadable samples ({len(unreadable)})", ("name", "reason"), shown))
    about = [(k, _as_text(v)) for k, v in tree.items() if k not in ("scores", "tables", "samples")]
    report.write_page(
        folder / "report.html",
        TEMPLATE,
        overwrite,
        title=title,
        subtitle=f"{int(results.scored.sum())} of {len(results.scored)} samples scored.",
        tables=tables,
        charts=summary.charts,
        galleries=summary.galleries,
        about=about,
    )


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {entry}" for name, entry in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def save_results(path: str | Path, results: Results, overwrite: bool = False) -> None:
    """The result file of 2020: joints, poses, shapes and cameras in the order of the set; NaN where unreadable."""
    rows = {name: results.rows[name] for name in RESULT_KEYS if name in results.rows}
    save_npz_atomic(path, EVAL, overwrite, **rows)


def print_summary(summary: Summary, results: Results, folder: Path) -> None:
    """The result on the screen; every sample that was not scored is named in the log."""
    for item in results.unreadable:
        log.error("Not scored: %s: %s", item.name, item.reason)
    for table in summary.tables:
        for row in (table.header, *table.rows):
            print(f"{row[0]:<20}" + "".join(f"{cell:>12}" for cell in row[1:]))
    width = max(len(score.name) for score in summary.scores)
    for score in summary.scores:
        print(f"{score.name:<{width}}  {score}")
    scored = int(results.scored.sum())
    print(f"{scored} of {len(results.scored)} samples scored; report: {folder / 'report.html'}")
