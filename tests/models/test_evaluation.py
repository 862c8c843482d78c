"""Work that can be split, interrupted and continued: the same rows come out whatever happened on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from models.evaluation.resumable import RowStore, plan_batches, run_batches, run_plan
from utils.io import load_npz
from utils.runtime import Processes
from utils.structures import Unreadable

COUNT, BATCH = 23, 4
PRINT = {"dataset": "d", "weights": "abc"}
BAD = {5: "cut off", 22: "empty"}


@dataclass
class Numbers:
    """Stands for a batch: only the samples' numbers."""

    index: torch.Tensor


@dataclass
class Planned:
    batch: Numbers | None
    extras: tuple
    unreadable: tuple[Unreadable, ...]


def load(batches):
    for batch in batches:
        good = [i for i in batch if i not in BAD]
        bad = tuple(Unreadable(i, f"{i}.jpg", BAD[i]) for i in batch if i in BAD)
        yield Planned(Numbers(torch.tensor(good)) if good else None, (), bad)


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
    again = []

    def counting(planned):
        again.append(planned)
        return score(planned)

    results = run_plan(plan, RowStore(tmp_path / "run", PRINT), True, Processes(), load, counting)
    assert_same(results, whole(tmp_path, plan))
    with_people = sum(any(i not in BAD for i in batch) for batch in plan)
    assert len(again) == with_people - stop_after


def test_several_processes_share_the_batches_and_give_the_same_rows(tmp_path, plan):
    store = RowStore(tmp_path / "run", PRINT)
    store.start(resume=False)
    for rank in range(3):
        run_batches(plan, RowStore(tmp_path / "run", PRINT, rank), Processes(rank, 3), load, score)
    assert_same(store.merge(COUNT), whole(tmp_path, plan))


def test_a_run_of_three_continues_as_a_run_of_two(tmp_path, plan):
    RowStore(tmp_path / "run", PRINT).start(resume=False)
    run_batches(plan, RowStore(tmp_path / "run", PRINT, 1), Processes(1, 3), load, score)
    stores = [RowStore(tmp_path / "run", PRINT, rank) for rank in range(2)]
    stores[0].start(resume=True)
    for store in stores:
        store.load_done()
    for rank, store in enumerate(stores):
        run_batches(plan, store, Processes(rank, 2), load, score)
    assert_same(stores[0].merge(COUNT), whole(tmp_path, plan))


def test_a_damaged_file_is_computed_again(tmp_path, plan, monkeypatch):
    monkeypatch.setattr("models.evaluation.resumable.SAVE_SECONDS", 0.0)
    run_plan(plan, RowStore(tmp_path / "run", PRINT), False, Processes(), load, score)
    first = sorted((tmp_path / "run").glob("rows_*.npz"))[0]
    first.write_bytes(first.read_bytes()[:40])
    results = run_plan(plan, RowStore(tmp_path / "run", PRINT), True, Processes(), load, score)
    assert_same(results, whole(tmp_path, plan))


def _other_values(path):
    arrays = load_npz(path)
    arrays["value"] = arrays.get("value", np.zeros(1)) + 1
    np.savez(path, **arrays)


SPOILED = {
    "empty": lambda path: path.write_bytes(b""),
    "other values": _other_values,
    "no batch": lambda path: np.savez(path, value=np.zeros(3)),
    "objects": lambda path: np.savez(path, _batch=np.array([{}], dtype=object)),
    "folder": lambda path: (path.unlink(), (path / "x").mkdir(parents=True)),
    "loop": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "note": lambda path: path.with_name("fingerprint.json").write_text("[1, "),
    "no note": lambda path: path.with_name("fingerprint.json").unlink(),
    "note a folder": lambda path: (
        path.with_name("fingerprint.json").unlink(), path.with_name("fingerprint.json").mkdir()
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_spoiled_files_cost_their_batches_only(tmp_path, plan, monkeypatch, how):
    monkeypatch.setattr("models.evaluation.resumable.SAVE_SECONDS", 0.0)
    run_plan(plan, RowStore(tmp_path / "run", PRINT), False, Processes(), load, score)
    SPOILED[how](sorted((tmp_path / "run").glob("rows_*.npz"))[0])
    again = []

    def counting(planned):
        again.append(planned)
        return score(planned)

    results = run_plan(plan, RowStore(tmp_path / "run", PRINT), True, Processes(), load, counting)
    assert_same(results, whole(tmp_path, plan))
    assert len(again) == (0 if "note" in how else 1)


def test_files_of_another_run_are_not_taken_for_ones_own(tmp_path, plan):
    run_plan(plan, RowStore(tmp_path / "run", PRINT), False, Processes(), load, score)
    (tmp_path / "run" / "fingerprint.json").write_text("damaged")
    other = RowStore(tmp_path / "run", PRINT | {"weights": "def"})
    other.start(resume=True)
    other.load_done()
    assert not other.done


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
