"""Cleaning maps and turning them into images and back, against the 2020 goldens and as properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from utils.iuvmap import agree_with_mask, iuv_img2map, iuv_map2img, iuvmap_clean, part_maps2img
from utils.skeleton import PART_CHANNELS
from utils.structures import IUVMaps


@pytest.fixture(scope="module")
def maps(request):
    with np.load(request.config.rootpath / "tests" / "golden" / "maps.npz") as file:
        return {key.replace("__", "/"): torch.from_numpy(file[key]) for key in file.files}


def test_clean_golden(maps):
    raw = [maps[f"iuvmap_clean/in_{k}"] for k in "uvia"]
    for ours, key in zip(iuvmap_clean(*raw), "uvia", strict=True):
        torch.testing.assert_close(ours, maps[f"iuvmap_clean/out_{key}"], atol=0, rtol=0)


def test_map2img_goldens(maps):
    u, v, index, ann = iuvmap_clean(*(maps[f"iuvmap_clean/in_{k}"] for k in "uvia"))
    assert torch.equal(iuv_map2img(u, v, index), maps["iuv_map2img/out_noann"])
    assert torch.equal(iuv_map2img(u, v, index, ann), maps["iuv_map2img/out_ann"])
    part = [maps[f"iuv_map2img_part/in_{k}"] for k in "uvi"]
    mapping = tuple(maps["iuv_map2img_part/ind_mapping"][1:].tolist())
    assert torch.equal(iuv_map2img(*part, ind_mapping=mapping), maps["iuv_map2img_part/out"])


@pytest.mark.parametrize("is_channels_last", [False, True])
def test_part_maps_are_those_of_single_parts_in_either_order_of_memory(is_channels_last):
    maps = torch.rand(3, 2, 24, 7, 6, 5, generator=torch.Generator().manual_seed(1)).unbind(0)
    if is_channels_last:
        maps = [each.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2) for each in maps]
    image = part_maps2img(IUVMaps(*maps))
    assert image.shape == (2, 24, 3, 6, 5)
    for part, channels in enumerate(PART_CHANNELS):
        expected = iuv_map2img(*(each[:, part] for each in maps), ind_mapping=channels)
        assert torch.equal(image[:, part], expected), part
    assert torch.equal(part_maps2img(IUVMaps(*(each[0] for each in maps))), image[0])


def test_img2map_golden(maps):
    for ours, key in zip(iuv_img2map(maps["iuv_img2map/in_img"]), "uvia", strict=True):
        torch.testing.assert_close(ours, maps[f"iuv_img2map/out_{key}"], atol=0, rtol=0)


def test_round_trip():
    part = torch.randint(0, 25, (2, 1, 9, 9))
    image = torch.cat([part / 24, torch.rand(2, 2, 9, 9) * (part > 0)], dim=1)
    maps = iuv_img2map(image)
    assert torch.equal(maps.index.argmax(1), part[:, 0])
    torch.testing.assert_close(iuv_map2img(*maps), image)


def test_part_maps_are_cleaned_on_their_own_channels():
    raw = torch.randn(2, 24, 7, 5, 5)
    clean = iuvmap_clean(raw, raw, raw)
    assert torch.equal(clean.index.sum(dim=2), torch.ones(2, 24, 5, 5))
    one = iuvmap_clean(raw[:, 3], raw[:, 3], raw[:, 3])
    assert torch.equal(clean.u[:, 3], one.u)


def test_gradient_reaches_the_winner_only():
    u, index = torch.randn(1, 25, 3, 3, requires_grad=True), torch.randn(1, 25, 3, 3, requires_grad=True)
    clean = iuvmap_clean(u, u, index)
    (clean.u.sum() + clean.index.sum()).backward()
    assert index.grad is None or not index.grad.any()
    assert torch.equal(u.grad, clean.index.detach())


def test_rendered_bodies_agree_with_the_masks():
    """Cut to the mask, grown to it by the nearest part within reach; without a mask nothing changes."""
    image = torch.zeros(3, 3, 20, 20)
    image[:, 0, 5:10, 5:10], image[:, 0, 5:10, 10:13] = 3 / 24, 7 / 24
    image[:, 1:, 5:10, 5:13] = 0.5
    mask = torch.zeros(3, 20, 20, dtype=torch.long)
    mask[0, 5:10, 5:20] = 1  # seven pixels further to the right, nothing else
    mask[1] = -1
    cut, same, gone = agree_with_mask(image, mask)
    expected = image[0].clone()
    expected[0, 5:10, 13:19], expected[1:, 5:10, 13:19] = 7 / 24, 0.5  # six of the seven
    torch.testing.assert_close(cut, expected)
    assert torch.equal(same, image[1]) and not gone.any()
