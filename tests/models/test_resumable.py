"""Work that can be split, interrupted and continued: the same rows come out whatever happened on the way."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier

import numpy as np
import pytest
import torch

from models.evaluation.resumable import RowStore, plan_batches, run_plan
from utils.runtime import Processes
from utils.structures import PlannedBatch, Unreadable

COUNT, BATCH = 23, 4
PRINT = {"dataset": "d", "weights": "abc"}
BAD = {5: "cut off", 22: "empty"}


@dataclass
class Numbers:
    """Stands for a batch: only the samples' numbers."""

    index: torch.Tensor


@dataclass(frozen=True)
class Share(Processes):
    """A thread in place of a process."""

    barrier: Barrier = field(default_factory=lambda: Barrier(1))

    def wait_for_all(self):
        self.barrier.wait(timeout=60)


def load(batches):
    for batch in batches:
        good = [i for i in batch if i not in BAD]
        bad = tuple(Unreadable(i, f"{i}.jpg", BAD[i]) for i in batch if i in BAD)
        yield PlannedBatch(Numbers(torch.tensor(good)) if good else None, (), bad)


def score(planned):
    """Rows that depend on the whole batch, as a network's do in their last bits."""
    index = planned.batch.index.numpy()
    return {
        "value": index.astype(np.float32) + index.sum() / 1000,
        "counts": np.stack([index, index], axis=1),
    }


def whole(tmp_path, plan):
    store = RowStore(tmp_path / "whole", PRINT)
    return run_plan(plan, store, False, Processes(), load, score)


@pytest.fixture
def plan():
    return plan_batches(COUNT, BATCH, shuffle=True, seed=3)


def assert_same(a, b):
    assert a.unreadable == b.unreadable and np.array_equal(a.scored, b.scored)
    for name in a.rows:
        np.testing.assert_array_equal(a.rows[name], b.rows[name])


def test_every_sample_stands_in_exactly_one_batch(plan):
    assert sorted(i for batch in plan for i in batch) == list(range(COUNT))
    assert {len(batch) for batch in plan[:-1]} == {BATCH} and len(plan[-1]) == COUNT % BATCH
    assert plan_batches(COUNT, BATCH) == [
        list(range(i, min(i + BATCH, COUNT))) for i in range(0, COUNT, BATCH)
    ]
    assert plan != plan_batches(COUNT, BATCH, shuffle=True, seed=4)


def test_rows_come_back_in_the_order_of_the_set_and_unreadable_samples_are_named(tmp_path, plan):
    results = whole(tmp_path, plan)
    assert np.flatnonzero(results.scored == 0).tolist() == sorted(BAD)
    assert [(item.index, item.reason) for item in results.unreadable] == sorted(BAD.items())
    assert np.isnan(results.rows["value"][sorted(BAD)]).all()
    good = np.setdiff1d(np.arange(COUNT), list(BAD))
    np.testing.assert_array_equal(results.rows["counts"][good, 0], good)
    np.testing.assert_array_equal(np.floor(results.of_scored("value")), good)


def finish(tmp_path, plan) -> int:
    """Continue a run to the rows of an unbroken one; how many batches were scored for it."""
    again = []

    def counting(planned):
        again.append(planned)
        return score(planned)

    results = run_plan(plan, RowStore(tmp_path / "run", PRINT), True, Processes(), load, counting)
    assert_same(results, whole(tmp_path, plan))
    return len(again)


@pytest.mark.parametrize("stop_after", [0, 1, 3, 5])
def test_an_interrupted_run_continues_to_the_same_rows(tmp_path, plan, stop_after, monkeypatch):
    monkeypatch.setattr("models.evaluation.resumable.SAVE_SECONDS", 0.0)  # a file for every batch
    calls = []

    def failing(planned):
        calls.append(planned)
        if len(calls) > stop_after:
            raise KeyboardInterrupt
        return score(planned)

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, RowStore(tmp_path / "run", PRINT), False, Processes(), load, failing)
    again = finish(tmp_path, plan)
    with_people = sum(any(i not in BAD for i in batch) for batch in plan)
    assert again == with_people - stop_after


def run_shared(folder, plan, count):
    barrier = Barrier(count)

    def run(rank):
        return run_plan(plan, RowStore(folder, PRINT, rank), True, Share(rank, count, 0, barrier), load, score)

    with ThreadPoolExecutor(count) as threads:
        return next(threads.map(run, range(count)))


def test_several_processes_share_the_batches_and_give_the_same_rows(tmp_path, plan):
    assert_same(run_shared(tmp_path / "run", plan, 3), whole(tmp_path, plan))


def test_a_run_of_three_continues_as_a_run_of_two(tmp_path, plan):
    run_plan(plan, RowStore(tmp_path / "run", PRINT, 1), True, Share(1, 3), load, score)
    assert_same(run_shared(tmp_path / "run", plan, 2), whole(tmp_path, plan))


def _flip_a_byte(path):
    content = bytearray(path.read_bytes())
    name, extra = struct.unpack("<HH", content[26:30])  # lengths in the header of a zip's first member
    content[30 + name + extra + 5] ^= 1
    path.write_bytes(content)


SPOILED = {
    "a flipped byte": _flip_a_byte,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "empty": lambda path: path.write_bytes(b""),
    "no batch": lambda path: np.savez(path, value=np.zeros(3)),
    "objects": lambda path: np.savez(path, _run=np.array([{}], dtype=object)),
    "folder": lambda path: (path.unlink(), (path / "x").mkdir(parents=True)),
    "loop": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize("how", SPOILED)
def test_spoiled_files_cost_their_batches_only(tmp_path, plan, monkeypatch, how):
    monkeypatch.setattr("models.evaluation.resumable.SAVE_SECONDS", 0.0)
    run_plan(plan, RowStore(tmp_path / "run", PRINT), False, Processes(), load, score)
    SPOILED[how](sorted((tmp_path / "run").glob("rows_*.npz"))[0])
    assert finish(tmp_path, plan) == 1


def test_another_run_is_not_continued(tmp_path, plan):
    run_plan(plan, RowStore(tmp_path / "run", PRINT), False, Processes(), load, score)
    other = RowStore(tmp_path / "run", PRINT | {"weights": "def"})
    with pytest.raises(ValueError, match="had another weights"):
        other.start(resume=True)
    other.start(resume=False)  # anew
    other.load_done()
    assert not other.done


def test_nothing_readable_is_an_error(tmp_path):
    bad = [Unreadable(0, "a.jpg", "the file is empty (0 bytes)")]
    store = RowStore(tmp_path / "run", PRINT)
    store.start(resume=False)
    store.add(0, [], {}, bad)
    store.save()
    with pytest.raises(ValueError, match="None of the 1 samples.*a.jpg: the file is empty"):
        store.merge(1)
