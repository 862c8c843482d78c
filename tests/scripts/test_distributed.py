"""A batch that is shared by processes, or computed in parts, gives the gradients of the whole (docs/method.md 6.3)."""

from __future__ import annotations

import json

import pytest
import torch
from forked_runs import flags
from shared_step import gradients

from datasets.sampler import Share, StepSampler, order_of
from models.training.step import distribute
from utils.checkpoint import CHECKSUM, load_checkpoint
from utils.io import load_torch
from utils.runtime import Processes


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
