"""Spoiled checkpoints and wrong clocks: the newest run and its newest whole checkpoint are continued, or a sentence."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
import torch
from checkpoint_mutations import byte_mutations, content_mutations, no_file_mutations
from torch import nn

from models.training.checkpoints import load_unchanged, prune_checkpoints, tidy_checkpoints, write_checkpoint
from models.training.optim import WeightAverage
from models.training.resuming import newest_checkpoint, require_continuable
from models.training.run_folder import note_start
from models.training.state import TrainingState
from utils.checkpoint import content_sum, save_checkpoint
from utils.io import DataFileError
from utils.io.temporary import temporary_name


@dataclass(frozen=True)
class Net:
    features: int = 4


@dataclass(frozen=True)
class Settings:
    name: str = "t"
    seed: int = 0
    batch_size: int = 2
    model: str = "danet"
    train_data: str = "synthetic"
    synthetic_size: int = 4
    shuffle_train: bool = True
    net: Net = field(default_factory=Net)


SETTINGS = asdict(Settings())


def fresh() -> TrainingState:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return TrainingState(model, torch.optim.Adam(model.parameters()), WeightAverage(model, 0.9))


def trained(steps: int) -> TrainingState:
    state = fresh()
    for _ in range(steps):
        state.optimizer.zero_grad()
        state.model(torch.randn(5, 3)).square().sum().backward()
        state.advance()
    return state


STATE = fresh()
COUNT = int(os.environ.get("MUTATIONS", "60"))  # of each kind


def accept(path: Path, saved: dict) -> None:
    require_continuable(path, saved, STATE, SETTINGS, 4)


def make_run(log_dir: Path, stamp: str, *steps: int) -> Path:
    folder = log_dir / "t" / f"log_{stamp}"
    (folder / "checkpoints").mkdir(parents=True)
    start = note_start(folder, "", 0, {})
    for step in steps:
        write_checkpoint(folder / "checkpoints", trained(step), SETTINGS, 4, 2, start)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("good"), "a", 1, 2)


@pytest.fixture
def run(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "t" / "log_a"))


def found(log_dir: Path) -> str:
    return newest_checkpoint(str(log_dir), "t", "", accept).name


@pytest.mark.parametrize("part", ["bytes", "contents", "no file"])
def test_no_spoiled_checkpoint_stops_a_run_that_has_an_older_one(good, tmp_path, run, part, caplog):
    caplog.set_level(logging.CRITICAL)
    newest = run / "checkpoints" / "00000002.pt"
    raw, content = newest.read_bytes(), load_unchanged(newest)
    if part == "contents":
        spoiled = content_mutations(content, seed=1, count=COUNT)
        mutations = ((name, lambda path, tree=tree: torch.save(tree, path)) for name, tree in spoiled)
    else:
        mutations = byte_mutations(1, COUNT) if part == "bytes" else no_file_mutations()
    fell_back = 0
    for name, spoil in mutations:
        if newest.is_dir() and not newest.is_symlink():
            shutil.rmtree(newest)
        else:
            newest.unlink(missing_ok=True)
        newest.write_bytes(raw)
        spoil(newest)
        chosen = found(tmp_path)
        fell_back += chosen == "00000001.pt"
        if chosen == "00000002.pt":  # then nothing that a run needs has changed
            saved, state = load_unchanged(newest), fresh()
            state.restore(saved)
            assert content_sum(state.to_dict()) == content_sum(trained(2).to_dict()) or part == "contents", (
                name
            )
    assert fell_back >= (7 if part == "no file" else COUNT // 3)


def test_a_content_that_was_changed_after_it_was_written_is_found_by_its_checksum(run, tmp_path, caplog):
    newest = run / "checkpoints" / "00000002.pt"
    whole = torch.load(newest, weights_only=True)
    whole["optimizer"]["state"][0]["exp_avg"][0, 0] += 1
    torch.save(whole, newest)
    assert found(tmp_path) == "00000001.pt"
    assert "00000002.pt cannot be continued; trying the checkpoint before it" in caplog.text
    (run / "checkpoints" / "00000001.pt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no undamaged checkpoint of a run named 't'"):
        found(tmp_path)


def test_errors_name_file_and_entry(run):
    path = run / "checkpoints" / "00000002.pt"
    saved = load_unchanged(path)
    for change, said in (
        ({"total_step_count": "two"}, "00000002.pt: 'total_step_count' is not what"),
        ({"total_step_count": float("nan")}, "'total_step_count' is not what"),
        ({"total_step_count": 1}, "not the step of the file's name"),
        ({"optimizer": [1]}, "'optimizer' is not what"),
        ({"optimizer": {"state": {7: {}}}}, "'optimizer' is not what"),
        ({"model": saved["model"] | {"0.weight": [1] * 10**6}}, "'model.0.weight' is not what"),
        ({"average": "x" * 10**6}, "'average' is not what"),
        ({"config": 3}, "holds weights, but no training"),
    ):
        with pytest.raises(DataFileError, match=said) as error:
            require_continuable(path, saved | change, fresh(), SETTINGS, 4)
        assert len(str(error.value)) < 600


def test_other_settings_are_refused_by_name_unless_an_older_checkpoint_has_those_of_now(run, tmp_path, caplog):
    newest = run / "checkpoints" / "00000002.pt"
    start = load_unchanged(newest)["start"]
    foreign = SETTINGS | {"net": {"features": 8}, "seed": 3}
    write_checkpoint(newest.parent, trained(2), foreign, 4, 2, start)
    assert found(tmp_path) == "00000001.pt"
    assert "00000002.pt cannot be continued" in caplog.text and "other values of features, seed" in caplog.text
    newest.with_name("00000001.pt").unlink()
    with pytest.raises(ValueError, match="other values of features, seed"):
        found(tmp_path)


def test_the_newest_run_is_the_one_started_last_whatever_clocks_say(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    first, second = make_run(tmp_path, "Dec31-23-59-59", 1, 2), make_run(tmp_path, "Jan01-00-00-00", 1)
    os.utime(first, (4e9, 4e9))
    monkeypatch.setattr("time.strftime", lambda *_: "1970-01-01 00:00:00")
    third = make_run(tmp_path, "Feb01-00-00-00", 1)
    newest = newest_checkpoint(str(tmp_path), "t", "", accept)
    assert newest.parent.parent == third
    assert "which was started last. Other runs: log_Jan01-00-00-00, log_Dec31-23-59-59." in caplog.text
    note_start(first, "", 2, {})  # continued by its timestamp
    assert newest_checkpoint(str(tmp_path), "t", "", accept).parent.parent == first
    assert newest_checkpoint(str(tmp_path), "t", "Jan01-00-00-00", accept).parent.parent == second
    (third / "git.json").write_text('[{"number": "9", "time": [' * 3000)
    assert newest_checkpoint(str(tmp_path), "t", "", accept).parent.parent == first
    (first / "git.json").unlink()  # the checkpoints tell of their start, too
    assert newest_checkpoint(str(tmp_path), "t", "", accept).parent.parent == third


def test_damaged_checkpoints_are_set_aside_and_never_pruned_for(run, caplog):
    folder = run / "checkpoints"
    for name in ("00000003.pt", "00000003.pt.damaged", "00000005.pt"):
        (folder / name).write_bytes(b"damaged")
    (folder / "00000004.pt").mkdir()
    of_a_killed_run = temporary_name().replace(f"-{os.getpid()}-", "-99999999-")
    (folder / f"{of_a_killed_run}.pt").touch(), (run / f"{of_a_killed_run}.json").touch()
    assert prune_checkpoints(folder, keep=1) == [folder / "00000001.pt"]
    assert (folder / "00000002.pt").exists() and "00000005.pt does not count" in caplog.text
    tidy_checkpoints(folder / "00000002.pt")
    left = {path.name for path in folder.iterdir()}
    aside = {"00000003.pt.damaged", "00000003.pt.damaged1", "00000004.pt.damaged", "00000005.pt.damaged"}
    assert left == {"00000002.pt"} | aside
    assert not list(run.glob(".*.json"))


def test_the_checksum_sees_keys_kinds_shapes_and_order(tmp_path):
    tree = {"a": torch.arange(4.0).view(2, 2), "b": [1, "x", None], "c": {"d": True}}
    sums = [
        content_sum(tree | change)
        for change in (
            {}, {"a": torch.arange(4.0)}, {"a": tree["a"].T}, {"a": tree["a"].double()}, {"b": [1.0, "x", None]},
            {"c": {"d": 1}}, {"c": {"e": True}}, {"z": 0},
        )
    ]  # fmt: skip
    assert len(set(sums)) == len(sums)
    save_checkpoint(tmp_path / "a.pt", {"model": {"w": torch.zeros(2).bfloat16()}, "empty": torch.zeros(0)})
    assert load_unchanged(tmp_path / "a.pt")["model"]["w"].dtype is torch.bfloat16
