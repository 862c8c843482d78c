"""The trunk of `danet_s`: MoveNet Thunder with its keypoints, and what learns beside it.

The reference keypoints in `golden/movenet.npz` were computed by onnxruntime from the released graph on the examples,
256 px.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import unlabelled

from data.open.build.mean_weights import main as mean_weights
from data.open.build.transfer_trunk import feature_error, learn, new_network
from models.backbones.movenet import MoveNetBackbone, load_movenet
from models.backbones.thunder import KeypointHeads, ReleasedFeatures, ThunderBackbone
from models.danet import build_danet, network_of_weights, preset
from models.inference.weights import network_of
from models.losses import LossWeights
from models.targets import TargetBuilder
from models.training.pretrained_backbones import pretrained_parameters, start_weights
from models.training.stages import Stage
from models.training.step import SupervisedNetwork
from utils.body import resolve_body
from utils.checkpoint import StateMismatchError, export_safetensors, load_danet
from utils.images import network_input

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "data/open/movenet_thunder.safetensors"


@pytest.fixture(scope="module")
def thunder() -> ThunderBackbone:
    torch.manual_seed(0)
    backbone = ThunderBackbone(8)
    load_movenet(backbone.released, WEIGHTS)
    return backbone.eval()


def image(name: str, size: int) -> torch.Tensor:
    pixels = cv2.imread(str(ROOT / f"examples/{name}.jpg"))[..., ::-1]
    pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    return network_input(torch.from_numpy(pixels.copy())[None])


@pytest.mark.parametrize("name", ["rendered_2", "rendered_3"])
def test_keypoints_are_those_of_the_released_graph(thunder, name):
    with np.load(ROOT / "tests/golden/movenet.npz") as golden:
        expected = golden[f"thunder_{name}"]
    with torch.inference_mode():
        keypoints = thunder(image(name, 256)).keypoints
    np.testing.assert_allclose(keypoints[0].numpy(), expected, atol=0.01)


def test_the_person_in_the_middle_is_meant():
    heads = KeypointHeads(24)
    features = torch.zeros(2, 24, 56, 56)
    with torch.no_grad():
        for branch in (heads.regress, heads.offset, heads.heatmap):
            branch.out.weight.zero_()
            branch.out.bias.zero_()
    _, near = heads.eval()(features)
    best = near.flatten(2).argmax(dim=2)
    rows, columns = best // 56, best % 56
    assert ((rows - 27.5).abs() <= 0.5).all() and ((columns - 27.5).abs() <= 0.5).all()


def test_features_and_keypoints_of_a_batch_do_not_mix(thunder):
    both = torch.cat([image("rendered_2", 224), image("rendered_3", 224)])
    with torch.inference_mode():
        features, keypoints, _ = thunder(both)
        alone = thunder(both[1:])
    assert features.shape == (2, 8, 56, 56) and keypoints.shape == (2, 17, 3)
    assert torch.allclose(features[1], alone[0][0], atol=1e-4) and torch.allclose(keypoints[1], alone[1][0], atol=1e-3)


def test_training_leaves_what_was_released_alone():
    model = build_danet(preset("danet_s"))
    start_weights(model, "auto", "")
    backbone = model.img2iuv.iuv_est
    assert not any(p.requires_grad for p in backbone.released.parameters()) and pretrained_parameters(model) == []
    backbone.train()(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
    learning = [*backbone.pyramid.parameters(), *backbone.person.parameters(), *backbone.neck.parameters()]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learning)
    assert all(p.grad is None for p in backbone.released.parameters())


def test_a_trunk_that_learns_keeps_what_the_keypoint_heads_read():
    model = build_danet(replace(preset("danet_s"), learn_trunk=True))
    start_weights(model, "auto", "")
    backbone = model.img2iuv.iuv_est.train()
    fixed = len(backbone.trunk.fine_parameters())
    learning = pretrained_parameters(model)
    assert len(learning) == len(list(backbone.trunk.parameters())) - fixed and all(p.requires_grad for p in learning)
    released, batch = ReleasedFeatures(WEIGHTS), image("rendered_2", 96)
    seen = backbone(batch)
    assert released.difference(seen.trunk) < 1e-6
    seen.features.square().mean().backward()
    assert all(p.grad is None for p in backbone.keypoints.parameters())
    grown = [p for p in backbone.trunk.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    own_pyramid = [*backbone.trunk.bridge.parameters(), *backbone.trunk.laterals.parameters()]
    assert len(grown) == len(learning) - len(own_pyramid) - len(list(backbone.trunk.smooth.parameters()))
    assert all(p.grad is None for p in backbone.trunk.fine_parameters())
    with torch.no_grad():
        backbone.trunk.blocks[5].project.weight.add_(0.01)
    moved = released.difference(backbone(batch).trunk)
    moved.backward()
    assert moved > 1e-4 and all(p.grad is not None for p in own_pyramid)
    assert backbone.eval()(batch).trunk is None


def test_the_training_step_has_the_loss_of_the_keypoint_features():
    build_targets, batch = TargetBuilder.of_body(resolve_body("open")), image("rendered_2", 224).repeat(2, 1, 1, 1)
    for learns in (False, True):
        model = build_danet(replace(preset("danet_s"), learn_trunk=learns)).train()
        network = SupervisedNetwork(model, build_targets.smpl, LossWeights(keypoint_features_weight=2.0))
        assert not any("released" in key for key in model.state_dict())
        losses, output = network(batch, build_targets(unlabelled(2)), Stage.IUV)
        assert ("loss_keypoint_features" in losses) == learns == (output.iuv.trunk is not None)
        if learns:
            wanted = 2 * network.released.difference(output.iuv.trunk)
            torch.testing.assert_close(losses["loss_keypoint_features"].detach(), wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_the_trunk_before_are_known_by_their_keys(tmp_path):
    old = build_danet(replace(preset("danet_s"), backbone="movenet"))
    assert isinstance(old.img2iuv.iuv_est, MoveNetBackbone)
    shapes = {key: value.shape for key, value in old.state_dict().items()}
    assert network_of_weights(shapes).backbone == "movenet"
    export_safetensors(tmp_path / "old.safetensors", old.state_dict(), {"model": "danet_s"})
    for model in (None, "danet_s"):
        assert network_of(model, str(tmp_path / "old.safetensors")).backbone == "movenet"


@pytest.mark.parametrize("stride", [1, 2])
def test_weights_tell_the_size_of_their_part_maps(stride, tmp_path):
    net = replace(preset("danet_s"), part_stride=stride)
    export_safetensors(tmp_path / "weights.safetensors", build_danet(net).state_dict(), {"model": "danet_s"})
    for model in (None, "danet_s"):
        assert network_of(model, str(tmp_path / "weights.safetensors")) == net


def test_weights_of_larger_part_maps_start_a_network_of_smaller_ones(tmp_path):
    usual, small = (build_danet(replace(preset("danet_s"), part_stride=stride)) for stride in (1, 2))
    export_safetensors(tmp_path / "usual.safetensors", usual.state_dict(), {"model": "danet_s"})
    export_safetensors(tmp_path / "small.safetensors", small.state_dict(), {"model": "danet_s"})
    load_danet(small, tmp_path / "usual.safetensors")
    assert small.img2iuv.stride_of_parts == 2
    with pytest.raises(StateMismatchError, match="stride_of_parts"):
        load_danet(usual, tmp_path / "small.safetensors")


def test_a_new_trunk_learns_the_features_of_an_older_one():
    torch.manual_seed(0)
    old = build_danet(replace(preset("danet_s"), backbone="movenet"))
    new = new_network(old)
    assert torch.equal(new.img2iuv.iuv_est.final_pred.predict_u.weight, old.img2iuv.iuv_est.final_pred.predict_u.weight)
    released = {key: value.clone() for key, value in new.img2iuv.iuv_est.released.state_dict().items()}
    batch = SimpleNamespace(image=torch.cat([image("rendered_2", 64), image("rendered_3", 64)]))
    backbones = old.img2iuv.iuv_est, new.img2iuv.iuv_est
    with torch.no_grad():
        before = feature_error(backbones[1].train()(batch.image)[0], backbones[0].eval()(batch.image))
    learn(*backbones, [batch] * 12, 12)
    with torch.no_grad():
        after = feature_error(backbones[1](batch.image)[0], backbones[0](batch.image))
    assert after < 0.9 * before
    for key, value in new.img2iuv.iuv_est.released.state_dict().items():
        assert torch.equal(value, released[key]), key


def test_foreign_weights_are_refused(thunder):
    with pytest.raises(ValueError, match="does not hold the weights of this ModuleDict"):
        load_movenet(thunder.released, ROOT / "data/open/movenet_trunk.safetensors")


def test_the_mean_of_two_regressors(tmp_path, caplog):
    files = [str(tmp_path / f"{name}.safetensors") for name in ("before", "after", "mean")]
    for path in files[:2]:
        export_safetensors(path, build_danet(preset("danet_s")).state_dict(), {"model": "danet_s"})
    assert mean_weights(files) == 0
    before, after, mean = (load_file(path) for path in files)
    for key, value in mean.items():
        wanted = (before[key].float() + after[key].float()) / 2 if key.startswith("iuv2smpl.") else after[key].float()
        torch.testing.assert_close(value.float(), wanted, atol=1e-3, rtol=1e-3)
    assert mean_weights(files) == 1 and "mean.safetensors" in caplog.text
