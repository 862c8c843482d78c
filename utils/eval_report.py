"""The summary of an evaluation: scores, protocol file, per-sample errors and the page to look at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.eval_pictures import extremes
from utils.evaluation import Results
from utils.file_marks import EVAL, PAGE
from utils.metrics import accuracy, by_action, mean_f1
from utils.report import Bars, Gallery, Histogram, Report, Table, write_report
from utils.safe_write import require_free, require_writable, save_json_atomic, save_npz_atomic

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped, UInt8

log = logging.getLogger(__name__)

SCHEMA = EVAL
FILES = {"protocol.json": EVAL, "errors.npz": EVAL, "report.html": PAGE}
MILLIMETRES = 1000.0
SHOWN_SAMPLES, SHOWN_UNREADABLE = 6, 20
# What a 2020 result file holds.
RESULT_KEYS = ("pred_joints", "pose", "betas", "camera")


@dataclass(frozen=True)
class Score:
    """One number of a result table."""

    name: str
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.value:.{2 if self.unit == 'mm' else 4}f}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True)
class Summary:
    """Scores of a set, and the charts that belong to them."""

    scores: tuple[Score, ...]
    tables: tuple[Table, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    bars: tuple[Bars, ...] = ()
    galleries: tuple[Gallery, ...] = ()

    def lines(self) -> list[str]:
        """The table on the screen."""
        width = max(len(score.name) for score in self.scores)
        return [f"{score.name:<{width}}  {score}" for score in self.scores]


def joint_scores(rows: dict[str, Shaped[np.ndarray, "n *row"]]) -> tuple[Score, ...]:
    """MPJPE, PA-MPJPE and PVE over samples, in millimetres."""
    names = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "pve": "PVE"}
    return tuple(
        Score(title, float(rows[name].mean(dtype=np.float64)) * MILLIMETRES, "mm")
        for name, title in names.items()
        if name in rows
    )


def summarise_joints(
    results: Results, joint_names: Sequence[str], names: Sequence[str], per_action: bool
) -> Summary:
    """Scores of joints with an error histogram, bars for each joint and, where asked for, for each action."""
    rows = {name: results.of_scored(name) for name in results.rows}
    scored_names = [name for name, scored in zip(names, results.scored, strict=True) if scored]
    scores, tables = joint_scores(rows), []
    bars = [
        Bars("MPJPE of each joint", tuple(joint_names), _mm(rows["joint_error"].mean(axis=0)), "mm"),
        Bars("PA-MPJPE of each joint", tuple(joint_names), _mm(rows["pa_joint_error"].mean(axis=0)), "mm"),
    ]
    if per_action:
        groups = {key: by_action(scored_names, rows[key]) for key in ("mpjpe", "pa_mpjpe")}
        actions = tuple(groups["mpjpe"])
        values = {key: _mm([group[action] for action in actions]) for key, group in groups.items()}
        bars.append(Bars("PA-MPJPE of each action", actions, values["pa_mpjpe"], "mm"))
        pairs = zip(actions, values["mpjpe"], values["pa_mpjpe"], strict=True)
        cells = [(action, f"{plain:.2f}", f"{aligned:.2f}") for action, plain, aligned in pairs]
        mean = [f"{float(np.mean(values[key])):.2f}" for key in ("mpjpe", "pa_mpjpe")]
        tables.append(
            Table("Actions, mm", ("action", "MPJPE", "PA-MPJPE"), (*cells, ("mean over actions", *mean)))
        )
    histograms = [
        Histogram(title, rows[name] * MILLIMETRES, "mm")
        for name, title in (("mpjpe", "MPJPE of samples"), ("pa_mpjpe", "PA-MPJPE of samples"))
    ]
    return Summary(scores, tuple(tables), tuple(histograms), tuple(bars))


def part_scores(rows: dict[str, Shaped[np.ndarray, "n *row"]]) -> tuple[Score, ...]:
    """Accuracy and F1 of the person mask and of the parts, from pixels counted over all samples."""
    mask, parts = rows["mask_counts"].sum(axis=0), rows["part_counts"].sum(axis=0)
    return (
        Score("mask accuracy", accuracy(mask)),
        Score("mask F1", mean_f1(mask)),
        Score("part accuracy", accuracy(parts)),
        Score("part F1", mean_f1(parts)),
    )


def summarise_parts(results: Results) -> Summary:
    """Scores of the LSP protocol with histograms of single samples."""
    rows = {name: results.of_scored(name) for name in ("mask_counts", "part_counts")}
    histograms = (
        Histogram("Part accuracy of samples", np.array([accuracy(c) for c in rows["part_counts"]]), ""),
        Histogram("Mask F1 of samples", np.array([mean_f1(c) for c in rows["mask_counts"]]), ""),
    )
    return Summary(part_scores(rows), histograms=histograms)


def _mm(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) * MILLIMETRES for value in values)


def protocol_tree(
    dataset: str, results: Results, summary: Summary, facts: dict[str, Any], fingerprint: dict[str, str]
) -> dict[str, Any]:
    """Everything that says how the numbers came about, as plain values for JSON (no NaN: null)."""

    def plain(value: float) -> float | None:
        return value if np.isfinite(value) else None

    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "samples": {
            "in the set": len(results.scored),
            "scored": int(results.scored.sum()),
            "unreadable": [{"name": item.name, "reason": item.reason} for item in results.unreadable],
        },
        **facts,
        "scores": {s.name: {"value": plain(s.value), "unit": s.unit} for s in summary.scores},
        "tables": {t.title: [list(t.header), *map(list, t.rows)] for t in summary.tables},
        "fingerprint of the inputs": fingerprint,
    }


def require_free_results(folder: Path, result_file: str | None, overwrite: bool) -> None:
    """Raise FileExistsError, with a sentence, where a file must not be written; ValueError for a folder."""
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
    kept = {name: values for name, values in results.rows.items() if name not in RESULT_KEYS}
    rows = {"imgname": np.array(names), "scored": results.scored, **kept}
    save_npz_atomic(folder / "errors.npz", EVAL, overwrite, **rows)
    scores = Table("Scores", ("score", "value"), tuple((s.name, str(s)) for s in summary.scores))
    unreadable = [(item.name, item.reason) for item in results.unreadable[:SHOWN_UNREADABLE]]
    missing = Table(f"Unreadable samples ({len(results.unreadable)})", ("name", "reason"), tuple(unreadable))
    tables = (scores, *summary.tables, *((missing,) if unreadable else ()))
    scored = int(results.scored.sum())
    report = Report(
        title=title,
        summary=f"{scored} of {len(results.scored)} samples scored.",
        facts=flat_facts({k: v for k, v in tree.items() if k not in ("scores", "tables", "samples")}),
        tables=tables,
        histograms=summary.histograms,
        bars=summary.bars,
        galleries=summary.galleries,
    )
    write_report(folder / "report.html", report, overwrite)


def flat_facts(tree: dict[str, Any]) -> dict[str, str]:
    """Nested facts as lines of text."""
    lines: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            lines[key] = "; ".join(f"{name}: {entry}" for name, entry in value.items())
        elif isinstance(value, list | tuple):
            lines[key] = " ".join(map(str, value))
        else:
            lines[key] = str(value)
    return lines


def save_results(path: str | Path, results: Results, overwrite: bool = False) -> None:
    """The result file of 2020: joints, poses, shapes and cameras in the order of the set; NaN where unreadable."""
    kept = {name: results.rows[name] for name in RESULT_KEYS if name in results.rows}
    save_npz_atomic(path, EVAL, overwrite, **kept)


def with_extremes(
    summary: Summary,
    errors: Float[np.ndarray, "N"],
    legend: str,
    caption: Callable[[int], str],
    strip: Callable[[int], UInt8[np.ndarray, "H W 3"]],
) -> Summary:
    """The summary with pictures of the samples with the least and the greatest errors; NaNs are left out."""
    best, worst = extremes(errors, SHOWN_SAMPLES)
    return replace(
        summary,
        galleries=tuple(
            Gallery(f"{title}: {legend}", tuple((caption(int(i)), strip(int(i))) for i in chosen))
            for title, chosen in (("Best samples", best), ("Worst samples", worst))
        ),
    )


def print_summary(summary: Summary, results: Results, folder: Path) -> None:
    """The result on the screen; every sample that was not scored is named in the log."""
    for item in results.unreadable:
        log.error("Not scored: %s: %s", item.name, item.reason)
    for table in summary.tables:
        for row in (table.header, *table.rows):
            print(f"{row[0]:<20}" + "".join(f"{cell:>12}" for cell in row[1:]))
    print("\n".join(summary.lines()))
    scored = int(results.scored.sum())
    print(f"{scored} of {len(results.scored)} samples scored; report: {folder / 'report.html'}")
