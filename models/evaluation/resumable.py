"""An evaluation as work that can be split, interrupted and continued: batches, their rows on disk, the merged result.

A batch is the unit of work: which samples are computed together depends on the settings alone, never on the number of
processes or on where an earlier run stopped. So one process, several, and a continued run give the same numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from utils.io import DataFileError, load_json, load_npz, save_json_atomic, save_npz_atomic, writable_folder
from utils.io.marks import is_marked
from utils.runtime import Processes
from utils.structures import Unreadable
from utils.wording import shorten

if TYPE_CHECKING:
    from jaxtyping import Int, Shaped

log = logging.getLogger(__name__)

SAVE_SECONDS = 20.0
SCHEMA, NOTE = "danet-unfinished-1", "fingerprint.json"
INDEX, BATCH, BAD_INDEX, BAD_NAME, BAD_REASON = "_index", "_batch", "_bad_index", "_bad_name", "_bad_reason"
SUM = "_sum"  # checksum of a file's other arrays and the run's fingerprint


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
        """A kind of row without the samples that could not be read."""
        return self.rows[name][self.scored.astype(bool)]


@dataclass
class RowStore:
    """Rows of finished batches, kept in small files until the evaluation is whole.

    folder: where this run's files lie; fingerprint: what the run computes, as plain values. Every process writes
    files of its own, each once, so that a run killed at any moment loses `SAVE_SECONDS` of work at most.
    """

    folder: Path
    fingerprint: Mapping[str, str]
    rank: int = 0
    done: set[int] = field(default_factory=set)
    _rows: list[dict[str, np.ndarray]] = field(default_factory=list)
    _bad: list[Unreadable] = field(default_factory=list)
    _batches: list[int] = field(default_factory=list)
    _saved_at: float = field(default_factory=time.monotonic)

    def start(self, resume: bool) -> None:
        """Take up what an interrupted run of the same fingerprint left, or begin anew. One process calls this.

        Raises ValueError when the files belong to another run, FileExistsError when they are no evaluation's.
        """
        note = self.folder / NOTE
        writable_folder(self.folder)
        is_ours = any(is_marked(path, SCHEMA) for path in (note, *self._files()))
        if any(self.folder.iterdir()) and not is_ours:
            raise FileExistsError(
                f"The folder '{self.folder}' was not made by an evaluation and is kept; move it away or give another "
                "--output_dir."
            )
        if resume and (note.is_file() or self._files()):
            self._require_same(note)
            self._drop_damaged()
            return
        if resume:
            log.info("Nothing to continue in %s: starting from the beginning.", self.folder)
        for path in self._files():
            path.unlink()
        save_json_atomic(note, {"schema": SCHEMA, **self.fingerprint})

    def load_done(self) -> None:
        """Find the batches that are finished already. Every process calls this, before any adds rows."""
        self.done = {int(batch) for path in self._files() for batch in load_npz(path, only=(BATCH,))[BATCH]}
        if self.done:
            log.info("Continuing: %d batches are done already.", len(self.done))

    def _drop_damaged(self) -> None:
        for path in self._files():
            try:
                if _sum(arrays := load_npz(path), self.fingerprint) != str(arrays.get(SUM)):
                    raise DataFileError(f"{path} is damaged, or of another evaluation (checksum).")
            except (
                Exception
            ) as error:  # whatever a damaged file makes of its reader, its batches can be made again
                log.warning("%s Its batches are computed again.", shorten(error))
                _set_aside(path)

    def _require_same(self, note: Path) -> None:
        try:
            before = load_json(note)
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict):  # the files of rows know by themselves what they belong to
            log.warning("%s is damaged; it is written again.", note)
            if note.exists() or note.is_symlink():
                _set_aside(note)
            save_json_atomic(note, {"schema": SCHEMA, **self.fingerprint})
            return
        before.pop("schema", None)
        changed = sorted(
            key for key in {*before, *self.fingerprint} if before.get(key) != self.fingerprint.get(key)
        )
        if changed:
            raise ValueError(
                f"--resume: the interrupted evaluation in {self.folder} had another {', '.join(changed)}. "
                "Give the same settings and files, or start anew without --resume."
            )

    def add(
        self, batch: int, index: Sequence[int], rows: Mapping[str, np.ndarray], bad: Sequence[Unreadable]
    ) -> None:
        """Keep the rows of one batch: `index` are the samples that were scored, in the rows' order."""
        if len(index):
            self._rows.append({INDEX: np.asarray(index, np.int64), **rows})
        self._bad += bad
        self._batches.append(batch)
        self.done.add(batch)
        if time.monotonic() - self._saved_at > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what was added since the last call."""
        self._saved_at = time.monotonic()
        if not self._batches:
            return
        names = self._rows[0] if self._rows else ()
        arrays = {name: np.concatenate([rows[name] for rows in self._rows]) for name in names} | {
            BATCH: np.array(self._batches, np.int64),
            BAD_INDEX: np.array([item.index for item in self._bad], np.int64),
            BAD_NAME: np.array([item.name for item in self._bad], dtype=np.str_),
            BAD_REASON: np.array([item.reason for item in self._bad], dtype=np.str_),
        }
        arrays[SUM] = np.array(_sum(arrays, self.fingerprint))
        save_npz_atomic(self.folder / f"rows_{self._batches[0]:07d}_{self.rank}.npz", SCHEMA, **arrays)
        self._rows, self._bad, self._batches = [], [], []

    def merge(self, count: int) -> Results:
        """All rows of all processes in the order of the data set. Raises ValueError when no sample was scored."""
        parts = [load_npz(path) for path in self._files()]
        bad = sorted(
            {
                int(i): Unreadable(int(i), str(name), str(reason))
                for part in parts
                for i, name, reason in zip(part[BAD_INDEX], part[BAD_NAME], part[BAD_REASON], strict=True)
            }.items()
        )
        full = [part for part in parts if INDEX in part]
        if not full:
            reason = f" ({bad[0][1].name}: {bad[0][1].reason})" if bad else ""
            raise ValueError(f"None of the {count} samples could be read{reason}.")
        index = np.concatenate([part[INDEX] for part in full])
        scored = np.zeros(count, np.int64)
        scored[index] = 1
        rows = {}
        for name in full[0].keys() - {INDEX, BATCH, BAD_INDEX, BAD_NAME, BAD_REASON, SUM}:
            values = np.concatenate([part[name] for part in full])
            rows[name] = np.full(
                (count, *values.shape[1:]), np.nan if values.dtype.kind == "f" else 0, values.dtype
            )
            rows[name][index] = values
        return Results(rows, scored, tuple(item for _, item in bad))

    def clear(self) -> None:
        """Delete the files, and the folder if nothing else is in it: the merged result has been written."""
        for path in (*self._files(), self.folder / NOTE):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("rows_*.npz"))


def _sum(arrays: Mapping[str, np.ndarray], fingerprint: Mapping[str, str]) -> str:
    """SHA-256 of what a file of rows holds and of what its run computes."""
    digest = hashlib.sha256(json.dumps(dict(fingerprint), sort_keys=True).encode())
    for name, values in sorted(arrays.items()):
        if name != SUM:
            digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _set_aside(path: Path) -> None:
    """Delete a damaged file of ours; what is no plain file gets another name."""
    if path.is_file() and not path.is_symlink():
        path.unlink()
    else:
        path.rename(path.with_name(f"{path.name}.{time.time_ns()}.damaged"))


Load = Callable[[list[list[int]]], Iterable[Any]]
Score = Callable[[Any], dict[str, np.ndarray]]
Tell = Callable[[int, dict[str, np.ndarray]], None]


def run_batches(
    plan: Sequence[Sequence[int]],
    store: RowStore,
    processes: Processes,
    load: Load,
    score: Score,
    tell: Tell = lambda count, rows: None,
) -> None:
    """Compute what this process has to: every so many-th of the batches that are not done yet.

    load: batches of sample numbers -> for each a record with `batch` (None when nothing could be read),
    `extras` and `unreadable`. score: such a record -> rows. tell: hears how many batches are done, and their rows.
    What is done is kept even when an error or Ctrl-C ends the run.
    """
    todo = [number for number in range(len(plan)) if number not in store.done][
        processes.rank :: processes.count
    ]
    loaded = load([list(plan[number]) for number in todo])
    bar = tqdm(loaded, total=len(todo), unit="batch", disable=None if processes.is_first else True)
    try:
        for count, (number, planned) in enumerate(zip(todo, bar, strict=True), start=1):
            rows = {} if planned.batch is None else score(planned)
            index = [] if planned.batch is None else planned.batch.index.tolist()
            store.add(number, index, rows, planned.unreadable)
            tell(count, rows)
    finally:
        store.save()


def run_plan(
    plan: Sequence[Sequence[int]],
    store: RowStore,
    resume: bool,
    processes: Processes,
    load: Load,
    score: Score,
    tell: Tell = lambda count, rows: None,
) -> Results | None:
    """`run_batches` over all processes, from where an interrupted run stopped if `resume`.

    The first process gets the merged results, the others None. Raises ValueError when an interrupted run is another
    one, and when no sample could be read.
    """
    if processes.is_first:
        store.start(resume)
    processes.wait_for_all()
    store.load_done()
    processes.wait_for_all()  # nobody writes before all have read
    run_batches(plan, store, processes, load, score, tell)
    processes.wait_for_all()
    return store.merge(sum(map(len, plan))) if processes.is_first else None
