"""Scripts in processes of their own: killed at any moment, what follows is bit for bit what an unbroken run would have
made; shared by two, gradients and results are those of one (docs/method.md 6.3).

All tests that need such processes are in this file: it takes seconds until the first of them is ready.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from forked_runs import Runner, flags
from labelled import waves, write_image
from shared_step import gradients
from tiny_demo import FLAGS

import demo
import eval as evaluation
from datasets.sampler import Share, StepSampler, order_of
from models.training.checkpoints import find_latest
from models.training.step import distribute
from utils.checkpoint import CHECKSUM, load_checkpoint
from utils.io import load_npz, load_torch
from utils.runtime import Processes


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """Runs the scripts in processes that a test may kill."""
    runner = Runner()
    yield runner
    runner.close()


# ------------------------------------------------------------------------------------------------------ killed

# An epoch and a half in stage one; a checkpoint at every step, and the moving average.
SCHEDULE = {"num_epochs": 2, "pretr_step": 3, "checkpoint_steps": 1, "keep": 2, "ema_decay": 0.9}
STEPS = 4


@pytest.fixture(scope="module")
def unbroken(runner, tmp_path_factory) -> dict:
    """The last checkpoint of an unbroken run without data workers."""
    folder = tmp_path_factory.mktemp("whole")
    assert runner.run(folder / "log", arguments(folder)) == 0
    return last(folder)


def arguments(folder: Path, workers: int = 0) -> list[str]:
    switches = ["--resume"] if checkpoint(folder) else []
    return flags(*switches, **SCHEDULE, log_dir=folder, num_workers=workers)


def checkpoint(folder: Path) -> Path | None:
    found = [path for run in (folder / "t").glob("log_*") if (path := find_latest(run / "checkpoints"))]
    return max(found, key=lambda path: path.stem, default=None)


def last(folder: Path) -> dict:
    path = checkpoint(folder)
    assert path.name == f"{STEPS:08d}.pt"
    return load_checkpoint(path)


def assert_equal(a, b, where: str = "checkpoint") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}[{key}]")
    elif isinstance(a, list | tuple):
        assert_equal(dict(enumerate(a)), dict(enumerate(b)), where)
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, where


def finish_and_compare(runner, folder: Path, unbroken: dict) -> None:
    assert runner.run(folder / "log", arguments(folder)) == 0
    found = last(folder)
    for part in ("model", "optimizer", "average", "total_step_count"):
        assert_equal(found[part], unbroken[part], part)


def test_killed_at_random_moments(runner, unbroken, tmp_path):
    moments = random.Random(2)
    for _ in range(2):
        kill_after = moments.uniform(0.3, 1.5)
        code = runner.run(tmp_path / "log", arguments(tmp_path, workers=2), kill_after=kill_after)
        assert code in (0, -signal.SIGKILL)
    finish_and_compare(runner, tmp_path, unbroken)


@pytest.mark.parametrize("how", ["half", "torn"])
def test_killed_while_a_checkpoint_is_written(runner, unbroken, tmp_path, how):
    """Half of the temporary file, or half of the file under its final name is there."""
    assert runner.run(tmp_path / "log", arguments(tmp_path), die=how, die_at=3) == -signal.SIGKILL
    assert checkpoint(tmp_path).name == "00000002.pt"
    (folder,) = (tmp_path / "t").glob("log_*/checkpoints")
    names = {path.name for path in folder.iterdir()} - {"00000001.pt", "00000002.pt"}
    assert len(names) == 1 and ("00000003.pt" in names) == (how == "torn")
    finish_and_compare(runner, tmp_path, unbroken)
    assert ("cannot be continued" in (tmp_path / "log").read_text()) == (how == "torn")
    aside = {"00000003.pt.damaged"} if how == "torn" else set()
    assert {path.name for path in folder.iterdir()} == {"00000003.pt", "00000004.pt"} | aside


def test_a_signal_saves_and_ends(runner, unbroken, tmp_path):
    """The data worker gets it, too."""
    first = (str(tmp_path), "t/log_*/checkpoints/00000001.pt")
    args = arguments(tmp_path, workers=1)
    assert runner.run(tmp_path / "log", args, signal=int(signal.SIGTERM), when_exists=first) == 0
    log = (tmp_path / "log").read_text()
    assert "SIGTERM; --resume continues the run." in log and "Traceback" not in log
    assert "00000001" <= checkpoint(tmp_path).stem < f"{STEPS:08d}"
    finish_and_compare(runner, tmp_path, unbroken)


# ------------------------------------------------------------------------------------------------------ shared


@pytest.fixture(scope="module")
def whole():
    return gradients(Processes())


def assert_gradients_equal(found, expected):
    assert found.keys() == expected.keys()
    for stage, of_whole in expected.items():
        assert found[stage].keys() == of_whole.keys(), stage
        norm = torch.cat([g.flatten() for g in of_whole.values()]).abs().max()
        for name, gradient in of_whole.items():
            assert (found[stage][name] - gradient).abs().max() <= 1e-5 * norm, f"{stage} {name}"


def test_two_processes_average_to_the_gradients_of_one(runner, whole, tmp_path):
    path = tmp_path / "gradients.pt"
    log = tmp_path / "log"
    assert runner.run(log, ["gradients", str(path)], processes=2) == 0, log.read_text()
    found = load_torch(path)
    found.pop(CHECKSUM)
    assert_gradients_equal(found, whole)


def test_parts_add_up_to_the_gradients_of_the_whole(whole):
    assert_gradients_equal(gradients(Processes(), 2), whole)


def test_each_stage_has_gradients_where_it_should(whole):
    assert all(name.startswith("img2iuv.") for name in whole["IUV"])
    assert all(name.startswith("iuv2smpl.") for name in whole["RENDERED"])
    assert whole["IUV"].keys() | whole["RENDERED"].keys() == whole["JOINT"].keys()


def test_two_processes_train_and_one_writes(runner, tmp_path):
    """Both stages, accumulation, scores, scalars; then one process continues what two began."""
    settings = {"batch_size": 4, "synthetic_size": 8, "pretr_step": 1, "accumulate": 2, "log_dir": tmp_path}
    log = tmp_path / "log"
    assert runner.run(log, flags(**settings, num_epochs=1), processes=2) == 0
    (folder,) = (tmp_path / "t").iterdir()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["00000002.pt"]
    assert len(list((folder / "tb_summary").iterdir())) == 1
    assert len(json.loads((folder / "git.json").read_text())) == 1
    assert log.read_text().count("Saved") == 1
    assert runner.run(log, flags("--resume", **settings, num_epochs=2)) == 0, log.read_text()
    assert load_checkpoint(folder / "checkpoints" / "00000004.pt")["total_step_count"] == 4


def test_shares_cover_every_batch_once():
    def steps(**how):
        return [list(map(tuple, part)) for part in StepSampler(10, 4, 3, seed=5, **how)]

    single = steps()
    assert len(single) == 6 and all(len(set(part)) == 4 for part in single)
    shared = [steps(share=Share(rank, 2, 2)) for rank in range(2)]
    for number, batch in enumerate(single):
        parts = [shared[rank][2 * number + part] for part in range(2) for rank in range(2)]
        assert sum(parts, []) == batch
    assert steps(first_step=3) == single[3:]
    assert len(StepSampler(10, 4, 3, first_step=3, share=Share(0, 2, 2))) == 6


def test_orders_are_permutations_that_differ_by_epoch():
    orders = [order_of(epoch, 50, 1, shuffle=True) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] and order_of(7, 50, 1, shuffle=False) == list(range(50))
    assert order_of(1, 50, 1, shuffle=True) == orders[1]


def test_refusals():
    with pytest.raises(ValueError, match="cannot be split evenly: 3 processes"):
        StepSampler(16, 8, 1, share=Share(0, 3))
    with pytest.raises(ValueError, match="less than one batch of 8"):
        StepSampler(7, 8, 1)
    with pytest.raises(ValueError, match="sync_bn"):
        distribute(torch.nn.Linear(1, 1), Processes(), torch.device("cpu"), sync_bn=True)


def test_two_processes_give_the_scores_of_one(runner, weights, tmp_path):
    given = [*FLAGS, "--checkpoint", str(weights), "--dataset", "synthetic", "--synthetic_size", "3"]
    given += ["--batch_size", "2", "--num_workers", "0", "--output_dir"]
    assert evaluation.main([*given, str(tmp_path / "one")]) == 0
    log = tmp_path / "log"
    assert runner.run(log, [*given, str(tmp_path / "two")], script="eval", processes=2) == 0, log.read_text()
    one, two = (tmp_path / name / "synthetic_danet" for name in ("one", "two"))
    errors, found = (load_npz(folder / "errors.npz") for folder in (one, two))
    for name in ("joint_error", "pa_joint_error", "mpjpe"):
        np.testing.assert_allclose(found[name], errors[name], atol=1e-6)
    scores, of_two = (json.loads((folder / "protocol.json").read_text())["scores"] for folder in (one, two))
    for name, score in scores.items():
        assert of_two[name]["value"] == pytest.approx(score["value"], abs=1e-3)


def test_processes_share_a_folder_and_leave_the_results_of_one(runner, weights, tmp_path):
    for number, name in enumerate(("a.png", "b.png")):
        write_image(tmp_path / "images" / name, waves(200 - 40 * number, 120, number))
    (tmp_path / "images/bad.png").write_bytes(b"")
    given = [*FLAGS, "--checkpoint", str(weights), "--img_dir", str(tmp_path / "images"), "--detector", "none"]
    given += ["--html"]
    assert demo.main([*given, "--out_dir", str(tmp_path / "one")]) == 2
    log = tmp_path / "log"
    assert runner.run(log, [*given, "--out_dir", str(tmp_path / "two")], script="demo", processes=2) != 0
    assert "bad.png: the file is empty" in log.read_text()
    one, two = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two"))
    assert one["people"] == two["people"] and one["skipped"] == two["skipped"]
    names = {p.name for p in (tmp_path / "one").iterdir()}
    assert names == {p.name for p in (tmp_path / "two").iterdir()} and "index.html" in names
    with np.load(tmp_path / "one/b.npz") as of_one, np.load(tmp_path / "two/b.npz") as of_two:
        assert np.allclose(of_one["vertices"], of_two["vertices"], atol=1e-5)
