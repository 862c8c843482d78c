"""An evaluation as work that can be split, interrupted and continued: batches, their rows on disk, the merged result.

A batch is the unit of work: which samples are computed together depends on the settings alone, never on the number of
processes or on where an earlier run stopped. So one process, several, and a continued run give the same numbers.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utils.io import load_npz, save_npz_atomic, writable_folder
from utils.io.marks import is_marked
from utils.runtime import Processes
from utils.structures import PlannedBatch, Unreadable
from utils.wording import shorten

if TYPE_CHECKING:
    from jaxtyping import Int, Shaped

    Rows = dict[str, Shaped[np.ndarray, "n *row"]]

log = logging.getLogger(__name__)

SAVE_SECONDS = 20.0
SCHEMA = "danet-unfinished-1"
# Arrays of a file beside the rows: samples of the rows, finished batches, unreadable samples, what the run computes.
INDEX, BATCH, RUN = "_index", "_batch", "_run"
BAD_INDEX, BAD_NAME, BAD_REASON = "_bad_index", "_bad_name", "_bad_reason"


def plan_batches(count: int, batch_size: int, shuffle: bool = False, seed: int = 0) -> list[list[int]]:
    """All samples in batches, the last one short; shuffled by the seed alone."""
    order = np.random.default_rng(seed).permutation(count) if shuffle else np.arange(count)
    return [order[start : start + batch_size].tolist() for start in range(0, count, batch_size)]


@dataclass(frozen=True)
class Results:
    """Rows of all scored samples in the order of the data set; NaN (0 for counts) where a sample is missing."""

    rows: dict[str, Shaped[np.ndarray, "N *row"]]
    scored: Int[np.ndarray, "N"]  # 1 where the sample was scored
    unreadable: tuple[Unreadable, ...]

    def of_scored(self, name: str) -> Shaped[np.ndarray, "n *row"]:
        """Rows of the samples that were scored."""
        return self.rows[name][self.scored.astype(bool)]


@dataclass
class RowStore:
    """Rows of finished batches in small files, until the evaluation is whole.

    Every process writes files of its own, each once, so that a run killed at any moment loses `SAVE_SECONDS` of work
    at most.

    Args:
        folder: where this run's files lie.
        fingerprint: what the run computes, as text by name; kept in every file.
        rank: number of this process.
    """

    folder: Path
    fingerprint: Mapping[str, str]
    rank: int = 0
    done: set[int] = field(default_factory=set)  # finished batches
    _pending: list[Rows] = field(default_factory=list)  # arrays of batches that are not on disk yet
    _saved_at: float = field(default_factory=time.monotonic)

    def start(self, resume: bool) -> None:
        """Take up what an interrupted run left, or begin anew. Only one process calls this.

        Raises:
            ValueError: the files belong to a run with another fingerprint.
            FileExistsError: the folder holds files that no evaluation made.
        """
        present = list(writable_folder(self.folder).iterdir())
        if present and not any(is_marked(path, SCHEMA) for path in present):
            raise FileExistsError(
                f"The folder '{self.folder}' was not made by an evaluation and is kept; move it away or give another "
                "--output_dir."
            )
        if resume and not self._files():
            log.info("Nothing to continue in %s: starting from the beginning.", self.folder)
        for path in self._files():
            if resume:
                self._check(path)
            else:
                path.unlink()

    def _check(self, path: Path) -> None:
        try:
            before = dict(load_npz(path)[RUN].tolist())
        except Exception as error:  # whatever damage does to the reader, its batches can be computed again
            log.warning("%s is damaged (%s); its batches are computed again.", path, shorten(error))
            if path.is_dir():
                path.rename(path.with_name(f"{path.name}.{time.time_ns()}.damaged"))
            else:
                path.unlink()
            return
        if changed := {key for key, _ in before.items() ^ self.fingerprint.items()}:
            raise ValueError(
                f"--resume: the interrupted evaluation in {self.folder} had another {', '.join(sorted(changed))}. "
                "Give the same settings and files, or start anew without --resume."
            )

    def load_done(self) -> None:
        """Find the batches that are finished already. Every process calls this, before any adds rows."""
        self.done = {int(batch) for path in self._files() for batch in load_npz(path, only=(BATCH,))[BATCH]}
        if self.done:
            log.info("Continuing: %d batches are done already.", len(self.done))

    def add(self, batch: int, index: Sequence[int], rows: Rows, unreadable: Sequence[Unreadable]) -> None:
        """Keep the rows of batch number `batch`; `index` are the samples that were scored, in the rows' order."""
        self._pending.append(_numbered(index, rows, unreadable) | {BATCH: np.array([batch], np.int64)})
        self.done.add(batch)
        if time.monotonic() - self._saved_at > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what was added since the last call."""
        self._saved_at = time.monotonic()
        if self._pending:
            arrays = _joined(self._pending) | {RUN: np.array(sorted(self.fingerprint.items()), np.str_)}
            file = self.folder / f"rows_{arrays[BATCH][0]:07d}_{self.rank}.npz"
            save_npz_atomic(file, SCHEMA, **arrays)
            self._pending = []

    def merge(self, count: int) -> Results:
        """Rows of all processes in the order of the data set of `count` samples.

        Raises ValueError when no sample was scored.
        """
        return _merged([load_npz(path) for path in self._files()], count)

    def clear(self) -> None:
        """Delete the files, and the folder if nothing else is in it: the merged result has been written."""
        for path in self._files():
            path.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("rows_*.npz"))


def score_batches(
    batches: Iterable[PlannedBatch], count: int, score: Callable[[PlannedBatch], Rows]
) -> Results:
    """The results of a data set of `count` samples, in memory. Raises ValueError when no sample could be read."""
    parts = []
    for planned in batches:
        rows, index = ({}, []) if planned.batch is None else (score(planned), planned.batch.index.tolist())
        parts.append(_numbered(index, rows, planned.unreadable))
    return _merged(parts, count)


def _numbered(index: Sequence[int], rows: Rows, unreadable: Sequence[Unreadable]) -> Rows:
    """The rows of a batch with the numbers of their samples, and the samples that could not be read."""
    scored = {INDEX: np.asarray(index, np.int64), **rows} if len(index) else {}
    return scored | {
        BAD_INDEX: np.array([item.index for item in unreadable], np.int64),
        BAD_NAME: np.array([item.name for item in unreadable], np.str_),
        BAD_REASON: np.array([item.reason for item in unreadable], np.str_),
    }


def _merged(parts: Sequence[Rows], count: int) -> Results:
    """Rows of batches in the order of the data set. Raises ValueError when no sample was scored."""
    found = _joined(parts)
    unreadable = zip(*(found[name].tolist() for name in (BAD_INDEX, BAD_NAME, BAD_REASON)), strict=True)
    unreadable = tuple(Unreadable(*item) for item in sorted(unreadable))
    if INDEX not in found:
        first = f" ({unreadable[0].name}: {unreadable[0].reason})" if unreadable else ""
        raise ValueError(f"None of the {count} samples could be read{first}.")
    index, scored = found[INDEX], np.zeros(count, np.int64)
    scored[index] = 1
    rows = {}
    for name in found.keys() - {INDEX, BATCH, RUN, BAD_INDEX, BAD_NAME, BAD_REASON}:
        values = found[name]
        missing = np.nan if values.dtype.kind == "f" else 0
        rows[name] = np.full((count, *values.shape[1:]), missing, values.dtype)
        rows[name][index] = values
    return Results(rows, scored, unreadable)


def _joined(parts: Sequence[Rows]) -> Rows:
    """The arrays of several batches or files, one behind the other."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: np.concatenate([part[name] for part in parts if name in part]) for name in names}


def run_plan(
    plan: Sequence[Sequence[int]],
    store: RowStore,
    resume: bool,
    processes: Processes,
    load: Callable[[list[list[int]]], Iterable[PlannedBatch]],
    score: Callable[[PlannedBatch], Rows],
    progress: Callable[[int, Rows], None] = lambda count, rows: None,
) -> Results | None:
    """Compute all batches, shared among the processes; also after an error `store` keeps what is done.

    Args:
        plan: sample numbers of each batch.
        resume: start where an interrupted run stopped.
        load: sample numbers of batches -> what could be read of each.
        score: a batch -> named arrays with one row for each of its samples.
        progress: called with the number of batches that this process has done and the rows of the last one.

    Returns the merged results in the first process, None in the others. Raises what `RowStore.start` and
    `RowStore.merge` raise.
    """
    if processes.is_first:
        store.start(resume)
    processes.wait_for_all()
    store.load_done()
    processes.wait_for_all()  # none writes before all have read
    todo = [number for number in range(len(plan)) if number not in store.done][processes.rank :: processes.count]
    loaded = load([list(plan[number]) for number in todo])
    bar = tqdm(loaded, total=len(todo), unit="batch", disable=None if processes.is_first else True)
    try:
        for count, (number, planned) in enumerate(zip(todo, bar, strict=True), start=1):
            rows = {} if planned.batch is None else score(planned)
            index = [] if planned.batch is None else planned.batch.index.tolist()
            store.add(number, index, rows, planned.unreadable)
            progress(count, rows)
    finally:
        store.save()
    processes.wait_for_all()
    return store.merge(sum(map(len, plan))) if processes.is_first else None
