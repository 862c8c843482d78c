"""Joint-centred crops against the 2020 goldens (visible joints too) and as properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import part_crop as pc
from utils.skeleton import PART_CHANNELS, PART_VISIBILITY
from utils.structures import IUVMaps, PartCrops


@pytest.fixture(scope="module")
def maps(request):
    with np.load(request.config.rootpath / "tests" / "golden" / "maps.npz") as file:
        return {key.replace("__", "/"): torch.from_numpy(file[key]) for key in file.files}


def test_soft_argmax_golden(maps):
    centers = pc.soft_argmax(maps["softmax_integral/in_hm"].float())
    pixels = (centers + 1) * 28
    torch.testing.assert_close(pixels, maps["softmax_integral/out"], atol=5e-5, rtol=0)


@pytest.mark.parametrize("case", ["affine_para", "affine_para_nohidden"])
def test_crops_golden(maps, case):
    centers = maps["affine_para/centers"]
    hidden = maps["affine_para/hidden"].bool().T
    if case.endswith("nohidden"):
        hidden = torch.zeros_like(hidden)
    crops = pc.part_crops(centers, hidden, maps["affine_para/ratio"], maps["affine_para/offset"])
    torch.testing.assert_close(crops.scales.T, maps[f"{case}/scales"], atol=1e-5, rtol=0)
    torch.testing.assert_close(crops.theta.transpose(0, 1), maps[f"{case}/thetas"], atol=1e-5, rtol=0)


def test_part_targets_golden(maps):
    """The golden holds the channels before warping: an identity crop leaves them alone."""
    iuv = IUVMaps(*(maps[f"part_iuv_simp/{k}"] for k in "uvi"))
    whole = PartCrops(torch.zeros(2, 24, 2), torch.ones(2, 24))
    stacked = pc.part_targets(iuv, whole).stack()
    torch.testing.assert_close(stacked, maps["part_iuv_simp/out"], atol=1e-5, rtol=0)


def test_one_call_equals_part_by_part():
    features = torch.randn(2, 5, 16, 16)
    crops = PartCrops(torch.rand(2, 24, 2) * 2 - 1, torch.rand(2, 24) + 0.1)
    sampled = pc.sample_crops(features, crops).view(2, 24, 5, 16, 16)
    for part in (0, 7, 23):
        grid = torch.nn.functional.affine_grid(crops.theta[:, part], [2, 5, 16, 16], align_corners=True)
        alone = torch.nn.functional.grid_sample(features, grid, align_corners=True)
        torch.testing.assert_close(sampled[:, part], alone, atol=1e-5, rtol=0)


def test_crops_of_half_the_sides_are_the_same_places_on_a_coarser_grid():
    features = torch.randn(2, 5, 16, 16)
    crops = PartCrops(torch.rand(2, 24, 2) * 2 - 1, torch.rand(2, 24) + 0.1)
    sampled = pc.sample_crops(features, crops, stride=2).view(2, 24, 5, 8, 8)
    grid = torch.nn.functional.affine_grid(crops.theta[:, 7], [2, 5, 8, 8], align_corners=True)
    alone = torch.nn.functional.grid_sample(features, grid, align_corners=True)
    torch.testing.assert_close(sampled[:, 7], alone, atol=1e-5, rtol=0)
    corners = pc.sample_crops(features, crops).view(2, 24, 5, 16, 16)[..., ::15, ::15]
    torch.testing.assert_close(sampled[..., ::7, ::7], corners, atol=1e-5, rtol=0)
    maps = IUVMaps(*(torch.rand(2, 25, 16, 16) for _ in range(3)))
    whole, half = pc.part_targets(maps, crops), pc.part_targets(maps, crops, stride=2)
    assert half.u.shape == (2, 24, 7, 8, 8)
    torch.testing.assert_close(half.stack()[..., ::7, ::7], whole.stack()[..., ::15, ::15], atol=1e-5, rtol=0)


def test_hidden_where_no_own_part_wins():
    index = torch.zeros(1, 25, 56, 56)
    index[:, PART_VISIBILITY[15][0]] = 1  # only a head half, everywhere
    hidden = pc.hidden_joints(torch.zeros(1, 24, 2), index, 0.5)
    visible = [joint for joint in range(24) if PART_VISIBILITY[15][0] in PART_VISIBILITY[joint]]
    assert (~hidden[0]).nonzero().flatten().tolist() == visible
    assert not pc.hidden_joints(torch.zeros(1, 24, 2), index, 0.0).any()


def test_part_drop_hits_global_and_part_maps_alike():
    whole = IUVMaps(*(torch.ones(64, 25, 2, 2) for _ in range(3)))
    parts = IUVMaps(*(torch.ones(64, 24, 7, 2, 2) for _ in range(3)))
    dropped, local = pc.part_drop(whole, parts, 0.3)
    keep = dropped.index[:, :, 0, 0]
    assert keep[:, 0].all() and 0.25 < 1 - keep[:, 1:].mean() < 0.35
    for joint, channels in enumerate(PART_CHANNELS):
        assert torch.equal(local.u[:, joint, 1:, 0, 0], keep[:, list(channels)])
    assert local.v[:, :, 0].all()
    same, _ = pc.part_drop(whole, parts, 0.0)
    assert torch.equal(same.u, whole.u)
