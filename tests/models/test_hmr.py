"""The HMR baseline: key names, closed forms of its iterations, loading of checkpoints in SPIN's form."""

from __future__ import annotations

import gzip
import json
from copy import deepcopy

import fill
import pytest
import torch
from tiny import without_init

from models.hmr import HMR, build_hmr
from utils.body import load_mean_params
from utils.checkpoint import load_danet
from utils.geometry import rot6d_to_rotmat
from utils.io import save_npz_atomic


@pytest.fixture(scope="module")
def filled():
    """The baseline with weights that follow from its key names."""
    with without_init():
        model = build_hmr().eval()
    excluded = fill.fill_state_dict(model)
    assert {"init_pose", "init_shape", "init_cam"} <= set(excluded)
    return model


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 224, 224)


def test_keys_are_those_of_2020_in_order(golden):
    with gzip.open(golden / "hmr_keys.json.gz", "rt") as file:
        manifest = [tuple(entry) for entry in json.load(file)]
    with torch.device("meta"):
        model = HMR(load_mean_params())
    ours = [(k, list(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in model.state_dict().items()]
    assert [entry[:1] for entry in ours] == [entry[:1] for entry in manifest] and ours == manifest
    assert sum(p.numel() for p in model.parameters()) == 26_977_501


@torch.inference_mode()
def test_silent_decoders_give_the_mean_body(filled):
    model = deepcopy(filled)
    for decoder in (model.decpose, model.decshape, model.deccam):
        torch.nn.init.zeros_(decoder.weight)
        torch.nn.init.zeros_(decoder.bias)
    mean, params = load_mean_params(), model(images(2))
    torch.testing.assert_close(params.cam, mean.cam.expand(2, 3))
    torch.testing.assert_close(params.betas, mean.betas.expand(2, 10))
    torch.testing.assert_close(
        params.rotmat, rot6d_to_rotmat(mean.pose_6d).view(1, 24, 3, 3).expand(2, -1, -1, -1)
    )


@torch.inference_mode()
def test_the_regressor_is_linear_in_its_input(filled):
    """Nothing but matrices between the features and the numbers: three rounds by hand."""
    model = deepcopy(filled).double()
    features, mean = torch.randn(3, 2048, dtype=torch.float64), load_mean_params()
    state = torch.cat([mean.pose_6d, mean.betas, mean.cam]).double().expand(3, -1)
    decoders = (model.decpose, model.decshape, model.deccam)
    weight, bias = torch.cat([d.weight for d in decoders]), torch.cat([d.bias for d in decoders])
    for _ in range(3):
        hidden = torch.cat([features, state], dim=1) @ model.fc1.weight.T + model.fc1.bias
        state = state + (hidden @ model.fc2.weight.T + model.fc2.bias) @ weight.T + bias
    params = model.regress(features)
    torch.testing.assert_close(params.betas, state[:, 144:154])
    torch.testing.assert_close(params.cam, state[:, 154:])
    torch.testing.assert_close(params.rotmat, rot6d_to_rotmat(state[:, :144]).view(3, 24, 3, 3))


@torch.inference_mode()
def test_evaluation_is_deterministic_and_samples_do_not_mix(filled):
    image = images(2)
    params = filled(image)
    first, rotmat = params.to_vector(), params.rotmat
    assert torch.equal(first, filled(image).to_vector()) and first.shape == (2, 229)
    torch.testing.assert_close(filled(image[1:]).to_vector(), first[1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rotmat @ rotmat.mT, torch.eye(3).expand_as(rotmat), atol=1e-5, rtol=0)
    torch.testing.assert_close(rot6d_to_rotmat(rotmat[..., :2].flatten(-2)).view_as(rotmat), rotmat)
    assert (first[0] - first[1]).abs().max() > 1e-3  # the image matters


def test_mean_parameters_come_from_the_users_folder(tmp_path):
    save_npz_atomic(
        tmp_path / "smpl_mean_params.npz", cam=[0.5, 0.1, 0.2], shape=[0.3] * 10, pose=[1, 0, 0, 1, 0, 0] * 24
    )
    model = build_hmr(tmp_path)
    assert model.init_cam.tolist() == [pytest.approx([0.5, 0.1, 0.2])]
    assert model.init_pose.shape == (1, 144) and model.init_shape.unique().tolist() == [pytest.approx(0.3)]


def test_checkpoints_in_spins_form_load(tmp_path, filled):
    """Weights under "model" with the body model's arrays among them, which never come from weights."""
    weights = {f"module.{key}": value for key, value in filled.state_dict().items()}
    weights["module.smpl.v_template"] = torch.zeros(6890, 3)
    torch.save({"model": weights, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "hmr.pt")
    target = build_hmr().eval()
    report = load_danet(target, tmp_path / "hmr.pt")
    assert report.ignored == ("smpl.v_template",) and report.loaded == len(filled.state_dict())
    features = torch.randn(1, 2048)
    assert torch.equal(target.regress(features).to_vector(), filled.regress(features).to_vector())
