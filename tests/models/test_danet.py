"""The network's fast form, gradients, budget and refusals; the numbers of 2020 are in test_network_goldens.py."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY
from torch.utils.flop_counter import FlopCounterMode

from models import DaNetConfig, build_danet
from models.danet import PRESETS, preset
from utils.structures import SMPLParams


@pytest.mark.parametrize("cfg", [TINY, preset("danet_s")], ids=["tiny", "danet_s"])
def test_fast_form_of_small_networks(cfg):
    """Every batch norm is folded, other sizes than the packed one work, no sample sees its neighbours."""
    model, image = build_danet(cfg).train(), torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, 64, 64))  # statistics that are not 0 and 1
    fast = deepcopy(model.eval()).prepare_for_inference()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fast.modules())
    with torch.inference_mode():
        slow, quick, alone, quick_alone = model(image), fast(image), model(image[:1]), fast(image[:1])
    for output, other in ((quick, slow), (quick_alone, alone)):
        for ours, theirs in zip(output.iuv.iuv, other.iuv.iuv, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone.iuv.centers, slow.iuv.centers[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_training_output(name):
    """Auxiliary predictions in training; a gradient for every parameter that can have one; valid rotations."""
    cfg = replace(
        preset(name), hrnet_blocks=1, hrnet_modules=(1, 1, 1), backbone_width=8, body_width=4, limb_width=4
    )
    model = build_danet(cfg).train()
    output = model(torch.randn(2, 3, 64, 64))
    assert len(output.smpl.aux_rotmat) == 1 and len(output.smpl.aux_joints) == 2
    rotmat = output.smpl.params.rotmat
    torch.testing.assert_close(rotmat @ rotmat.mT, torch.eye(3).expand_as(rotmat), atol=1e-4, rtol=0)
    total = []
    output.map(lambda t: (total.append(t.float().square().sum()), t)[1] if t.requires_grad else t)
    sum(total).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert model(torch.randn(2, 3, 64, 64), iuv_only=True).smpl is None


def test_body_losses_reach_the_maps_unless_detached():
    """By default through U and V of the winning parts, as published."""
    for detach in (False, True):
        model = build_danet(replace(TINY, detach_maps=detach)).train()
        model(torch.randn(2, 3, 64, 64)).smpl.params.rotmat.square().sum().backward()
        heads = model.img2iuv.iuv_est.final_pred
        assert (heads.predict_partial_iuv.weight.grad is None) == detach
        assert heads.predict_hm[1].weight.grad is None


def test_the_regressor_learns_from_an_estimator_that_stays_as_it_is():
    model, image = build_danet(TINY).train(), torch.randn(2, 3, 224, 224)
    before = deepcopy(model.img2iuv.state_dict())
    output = model.forward_estimated(image)
    output.smpl.params.rotmat.square().sum().backward()
    assert model.img2iuv.training and all(p.grad is None for p in model.img2iuv.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.iuv2smpl.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.img2iuv.state_dict().items())
    seen = model.eval()(image).iuv
    assert torch.equal(output.iuv.iuv.index, seen.iuv.index) and torch.equal(output.iuv.crops.scales, seen.crops.scales)


def test_compact_preset_fits_its_budget():
    model = build_danet(preset("danet_s")).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() / 2 <= 1.9e9


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 1, 224, 224), (1, 3, 224, 192), (1, 3, 100, 100)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(ValueError, match="square images"):
        build_danet(TINY)(torch.zeros(shape))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="danet_s"):
        preset("danet_xl")
    with pytest.raises(ValueError, match="vis_threshold"):
        DaNetConfig(vis_threshold=2)


def test_vector_round_trip():
    para = torch.randn(2, 229)
    assert torch.equal(SMPLParams.from_vector(para).to_vector(), para)
    with pytest.raises(ValueError, match="229"):
        SMPLParams.from_vector(para[:, 1:])


def test_learned_ratio_is_the_released_one(root):
    shipped = json.loads((root / "data" / "open" / "learned_ratio.json").read_text())
    assert np.array_equal(build_danet(TINY).img2iuv.learned_ratio, np.float32(shipped["ratio"]))
