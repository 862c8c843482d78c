"""Public weights that a training starts from: what is taken, what stays, how missing files are named."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
import torchvision
from tiny import TINY

from models import build_danet
from models.backbones.hrnet import HRNet
from models.backbones.resnet import ResNet18, ResNetBackbone
from models.danet import preset
from models.training.pretrained_backbones import load_pretrained_backbones
from utils.checkpoint import StateMismatchError, load_matching
from utils.io import DataFileError

NAMES = {
    "coco": "pose_hrnet_w48_256x192.pth",
    "imagenet": "hrnetv2_w48_imagenet_pretrained.pth",
    "resnet18": "resnet18-5c106cde.pth",
    "resnet50": "resnet50-19c8e357.pth",
}


def resnet18_file(width: int = 4) -> dict[str, torch.Tensor]:
    """Keys as torchvision has them, for images: three channels go in."""
    net = ResNet18(width, out_features=10)
    net.conv1 = torch.nn.Conv2d(3, width, 7, bias=False)
    state = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    return OrderedDict((k.replace("final_layer", "fc"), v) for k, v in state.items())


def trunk_file(net: torch.nn.Module, **extra: tuple[int, ...]) -> dict[str, torch.Tensor]:
    state = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    return state | {key.replace("__", "."): torch.randn(shape) for key, shape in extra.items()}


@pytest.fixture
def data_dir(tmp_path):
    """A user's folder with narrow files of all four kinds, in torch's form before 1.6."""
    folder = tmp_path / "pretrained_model"
    folder.mkdir()
    hrnet = HRNet(8, 8, 1, (1, 1, 1))
    resnet50 = ResNetBackbone(4, (1, 1, 1, 1), 8)
    del resnet50.deconv_layers
    files = {
        "coco": trunk_file(hrnet, final_layer__weight=(17, 8, 1, 1)),
        "imagenet": trunk_file(hrnet, incre_modules__0__weight=(2, 2), classifier__bias=(5,)),
        "resnet18": resnet18_file(),
        "resnet50": trunk_file(resnet50, fc__weight=(10, 128)),
    }
    for kind, state in files.items():
        torch.save(state, folder / NAMES[kind], _use_new_zipfile_serialization=False)
    return tmp_path


def file_of(data_dir, kind: str) -> dict[str, torch.Tensor]:
    return torch.load(data_dir / "pretrained_model" / NAMES[kind], weights_only=True)


@pytest.mark.parametrize("which", ["coco", "imagenet"])
def test_hrnet_starts_as_published(data_dir, which):
    """The trunk is the file's; heads are N(0, 0.001) without bias; ResNets but for their first layer."""
    model, saved = build_danet(TINY), file_of(data_dir, which)
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    reports = load_pretrained_backbones(model, data_dir, which)
    assert [report.path.name for report in reports] == [NAMES[which], NAMES["resnet18"], NAMES["resnet18"]]
    state = model.state_dict()
    trunk = [key for key in state if key.startswith("img2iuv.iuv_est.") and ".final_pred." not in key]
    assert len(trunk) == reports[0].loaded == len(reports[0].taken)
    assert all(torch.equal(state[key], saved[key.removeprefix("img2iuv.iuv_est.")]) for key in trunk)
    assert set(reports[0].taken) | set(reports[0].ignored) == saved.keys()
    assert all(key.startswith("final_pred.") for key in reports[0].fresh)

    heads = model.img2iuv.iuv_est.final_pred
    assert 0.0005 < heads.predict_partial_iuv.weight.std() < 0.002
    assert not heads.predict_u.bias.any() and not heads.predict_partial_iuv.bias.any()

    body, limbs = (
        state[f"iuv2smpl.smpl_para_Outs.{net}_net.3.layer2.0.conv1.weight"] for net in ("body", "limb")
    )
    assert torch.equal(body, limbs) and torch.equal(
        body, file_of(data_dir, "resnet18")["layer2.0.conv1.weight"]
    )
    for key in ("body_net.3.conv1.weight", "limb_net.0.weight", "body_net.3.final_layer.weight"):
        key = f"iuv2smpl.smpl_para_Outs.{key}"
        assert torch.equal(state[key], fresh[key])
    assert "conv1.weight" in reports[1].ignored and {"fc.weight", "fc.bias"} <= set(reports[1].ignored)
    assert set(reports[1].fresh) == {"conv1.weight", "final_layer.weight", "final_layer.bias"}
    assert any(key.startswith("layer4.") for key in reports[2].ignored)  # limb_net ends before


def test_resnet_trunk_and_global_baseline(data_dir):
    model = build_danet(replace(TINY, backbone="resnet", decomposed=False))
    before = model.img2iuv.iuv_est.final_pred.predict_u.weight.clone()
    reports = load_pretrained_backbones(model, data_dir)
    assert [report.path.name for report in reports] == [NAMES["resnet50"], NAMES["resnet18"]]
    saved, trunk = file_of(data_dir, "resnet50"), model.img2iuv.iuv_est
    assert torch.equal(trunk.layer4[0].conv2.weight, saved["layer4.0.conv2.weight"])
    assert reports[0].ignored == ("fc.weight",)
    assert {key.split(".")[0] for key in reports[0].fresh} == {"deconv_layers", "final_pred"}
    assert torch.equal(trunk.final_pred.predict_u.weight, before)
    body = model.iuv2smpl.smpl_para_Outs.Conv_Body[3]
    assert torch.equal(body.bn1.weight, file_of(data_dir, "resnet18")["bn1.weight"])


def test_none_needs_no_file(tmp_path):
    model = build_danet(TINY)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert load_pretrained_backbones(model, tmp_path, "none") == ()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "changes", "origin"),
    [
        ("coco", {}, "github.com/HRNet: human pose"),
        ("resnet18", {}, "torchvision"),
        ("resnet50", {"backbone": "resnet"}, "torchvision"),
    ],
)
def test_a_missing_file_is_named_and_nothing_changes(data_dir, kind, changes, origin):
    (data_dir / "pretrained_model" / NAMES[kind]).unlink()
    model = build_danet(replace(TINY, **changes))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(FileNotFoundError, match=f"{NAMES[kind]} is missing.*{origin}"):
        load_pretrained_backbones(model, data_dir)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_newer_names_of_torchvision_serve_too(data_dir):
    folder = data_dir / "pretrained_model"
    (folder / NAMES["resnet18"]).rename(folder / "resnet18-f37072fd.pth")
    assert load_pretrained_backbones(build_danet(TINY), data_dir)[1].path.name == "resnet18-f37072fd.pth"


def test_wrong_choices_and_sizes_are_refused(data_dir):
    with pytest.raises(ValueError, match="choose one of coco, imagenet, none"):
        load_pretrained_backbones(build_danet(TINY), data_dir, "lip")
    with pytest.raises(ValueError, match="ThunderBackbone; choose 'none'"):
        load_pretrained_backbones(build_danet(preset("danet_s")), data_dir)
    with pytest.raises(DataFileError, match="other sizes than this model's trunk"):
        load_pretrained_backbones(build_danet(replace(TINY, backbone_width=16)), data_dir)
    model = build_danet(replace(TINY, body_width=8, limb_width=8))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(StateMismatchError, match="resnet18"):  # its counters alone are no fit
        load_pretrained_backbones(model, data_dir)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "ours"), [("resnet18", ResNet18(64, 13)), ("resnet50", ResNetBackbone())], ids=["18", "50"]
)
def test_our_resnets_have_torchvisions_layers(kind, ours):
    """All keys and shapes but the first layer's of ResNet-18 (64 channels go in) and the classifier."""
    with torch.device("meta"):
        theirs = {k: v.shape for k, v in getattr(torchvision.models, kind)().state_dict().items()}
    shapes = {k: v.shape for k, v in ours.state_dict().items()}
    differing = {key for key in theirs if shapes.get(key) != theirs[key]}
    assert differing == {"fc.weight", "fc.bias"} | ({"conv1.weight"} if kind == "resnet18" else set())


@torch.inference_mode()
def test_our_resnet50_computes_torchvisions(tmp_path):
    """Stride sits in the 3x3 convolution."""
    theirs = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 2, 1, 1]).eval()
    ours = ResNetBackbone(64, (1, 2, 1, 1), 8).eval()
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    load_matching(ours, tmp_path / "a.pth")
    image = torch.randn(1, 3, 64, 64)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
    x = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
    torch.testing.assert_close(ours(image), ours.deconv_layers(x), atol=1e-4, rtol=1e-4)
