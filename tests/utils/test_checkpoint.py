"""Weights and training states: strict and safe loading, every key accounted for, nothing half-written."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from utils.checkpoint import (
    StateMismatchError,
    export_safetensors,
    load_checkpoint,
    load_danet,
    load_matching,
    save_checkpoint,
    weights_id,
)
from utils.io import DataFileError


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.img2iuv = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
        self.iuv2smpl = nn.Linear(width, 2)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def state_2020(model, prefix="module."):
    """What the trainer of 2020 wrote around a model's weights, dead weights included."""
    weights = OrderedDict((prefix + k, v.clone()) for k, v in model.state_dict().items())
    for unused in ("smpl.v_template", "smpl_para_Outs.rot2pos.3.0.weight", "smpl_para_Outs.A"):
        weights[f"{prefix}iuv2smpl.{unused}"] = torch.zeros(2)
    groups = [{"lr": np.float64(1e-4), "params": [0, 1]}]
    return {
        "model": weights,
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": groups},
        "epoch": np.int64(2), "batch_idx": 0, "batch_size": 16,
        "dataset_perm": [np.int64(i) for i in (2, 0, 1)], "total_step_count": 40000,
    }  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize("zip_form", [True, False])
def test_2020_files_load(tmp_path, prefix, zip_form):
    source, target = Net(), Net()
    torch.save(state_2020(source, prefix), tmp_path / "a.pt", _use_new_zipfile_serialization=zip_form)
    report = load_danet(target, tmp_path / "a.pt")
    assert same(source.state_dict(), target.state_dict())
    assert report.loaded == len(target.state_dict()) and len(report.ignored) == 3
    assert report.weights_id == weights_id(tmp_path / "a.pt") and report.weights_id in str(report)


def test_keys_that_do_not_fit_are_named_and_the_model_stays(tmp_path):
    source, target = Net(), Net()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    weights = source.state_dict()
    missing = [k for k in weights if k.startswith("img2iuv.1.")]
    for key in missing:
        del weights[key]
    weights["img2iuv.2.extra"] = weights["bonus"] = torch.zeros(1)
    weights["iuv2smpl.bias"] = torch.zeros(7)
    save_checkpoint(tmp_path / "a.pt", {"model": weights})
    with pytest.raises(StateMismatchError) as caught:
        load_danet(target, tmp_path / "a.pt")
    error = caught.value
    assert error.missing == missing and error.unexpected == ["img2iuv.2.extra", "bonus"]
    for words in (*missing, "img2iuv.2.extra", "bonus", "iuv2smpl.bias [7], [2]", "a.pt"):
        assert words in str(error)
    many = str(StateMismatchError(Path("a.pt"), [f"layer{i}" for i in range(60)], [], []))
    assert "60 missing in the file" in many and "layer3" in many and many.endswith("... and 55 more")
    assert same(before, target.state_dict())


@pytest.mark.parametrize(
    "content", [{"model": 3}, {"model": {"a": "text"}}, {"epoch": 1}, [1, 2], {"model": {"a": None}}]
)
def test_files_without_weights_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DataFileError):
        load_danet(Net(), tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (1, torch.zeros(2), "key of the weights is 1"),
        ("iuv2smpl.bias", torch.zeros(2).to_sparse(), "no dense values"),
        ("iuv2smpl.bias", torch.zeros(2, device="meta"), "no dense values"),
        ("iuv2smpl.bias", torch.zeros(2, dtype=torch.complex64), "torch.complex64"),
        ("iuv2smpl.bias", torch.zeros(2, dtype=torch.bool), "torch.bool"),
        ("iuv2smpl.bias", torch.zeros(2, dtype=torch.int64), "torch.int64"),
        ("iuv2smpl.bias", torch.tensor([0, float("nan")]), "not finite"),
        ("iuv2smpl.bias", torch.tensor([0, float("inf")]).half(), "not finite"),
        ("iuv2smpl.bias", torch.tensor([0, 1e300], dtype=torch.float64), "not finite"),
        ("img2iuv.1.num_batches_tracked", torch.tensor(float("nan")), "torch.float32"),
    ],
    ids="key sparse meta complex bool integer nan inf overflow counter".split(),
)
def test_values_that_are_no_weights_are_refused_and_the_model_stays(tmp_path, key, value, words):
    target, weights = Net(), dict(Net().state_dict())
    before = {k: v.clone() for k, v in target.state_dict().items()}
    weights[key] = value
    torch.save({"model": weights}, tmp_path / "a.pt")
    for load in (load_danet, load_matching):
        with pytest.raises(DataFileError, match=words):
            load(target, tmp_path / "a.pt")
        assert same(before, target.state_dict())


def test_two_spellings_of_a_key_are_refused(tmp_path):
    save_checkpoint(tmp_path / "a.pt", {"model": {"bias": torch.zeros(1), "module.bias": torch.ones(1)}})
    with pytest.raises(DataFileError, match="'bias' twice"):
        load_danet(nn.Linear(1, 1), tmp_path / "a.pt")


def test_training_state_round_trip(tmp_path):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    model.iuv2smpl(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(),
        "step": 3, "config": {"name": "run", "steps": [0, 3], "resume": None, "ratio": 0.5},
    }  # fmt: skip
    save_checkpoint(tmp_path / "deep" / "00000003.pt", state)
    back = load_checkpoint(tmp_path / "deep" / "00000003.pt")
    assert same(back["model"], state["model"]) and back["config"] == state["config"]
    assert torch.equal(back["rng"], state["rng"])
    torch.optim.Adam(Net().parameters()).load_state_dict(back["optimizer"])


@pytest.mark.parametrize("value", [np.float64(1), np.zeros(2), {1}, Net(), b"raw"])
def test_only_plain_values_are_saved(tmp_path, value):
    with pytest.raises(TypeError, match=r"state\['log'\]\[0\]"):
        save_checkpoint(tmp_path / "a.pt", {"model": {}, "log": [value]})
    assert not list(tmp_path.iterdir())


def test_shipped_form_is_half_as_large_and_keeps_what_half_cannot_hold(tmp_path):
    model = Net()
    with torch.no_grad():
        model.img2iuv[1].running_var.fill_(1e-7)
        model.iuv2smpl.weight[0, 0] = 1e6
    export_safetensors(tmp_path / "a.safetensors", model.state_dict(), {"model": "net", "commit": "abc"})
    stored = load_checkpoint(tmp_path / "a.safetensors")
    assert stored["meta"] == {"model": "net", "commit": "abc"}
    assert stored["model"]["img2iuv.0.weight"].dtype == torch.float16
    target = Net()
    report = load_danet(target, tmp_path / "a.safetensors")
    assert report.meta["model"] == "net" and target.img2iuv[0].weight.dtype == torch.float32
    assert torch.equal(target.img2iuv[1].running_var, model.img2iuv[1].running_var)
    assert torch.equal(target.iuv2smpl.weight, model.iuv2smpl.weight)  # overflows: stays float32
    torch.testing.assert_close(target.img2iuv[0].weight, model.img2iuv[0].weight, atol=1e-3, rtol=1e-3)
