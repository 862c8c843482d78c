"""Errors on rendered maps: what each kind does, and that only the training of the regressor sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import STEADY

from models import build_danet, map_errors
from utils.iuvmap import iuv_img2map, iuv_map2img
from utils.structures import IUVMaps

BATCH, SIZE = 64, 56


def people() -> IUVMaps:
    """Maps of 64 people: the 24 parts as blocks of 6 x 6 cells in the middle."""
    part = torch.zeros(SIZE, SIZE)
    part[16:40, 10:46] = torch.arange(1, 25).view(4, 6).repeat_interleave(6, 0).repeat_interleave(6, 1)
    u = torch.linspace(0, 1, SIZE).expand(SIZE, SIZE) * (part > 0)
    return iuv_img2map(torch.stack([part / 24, u, u.T.contiguous() * (part > 0)]).repeat(BATCH, 1, 1, 1))


def image_of(maps: IUVMaps) -> torch.Tensor:
    return iuv_map2img(maps.u, maps.v, maps.index)


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def test_maps_stay_maps():
    maps, centers = map_errors.with_errors(people(), torch.zeros(BATCH, 24, 2))
    assert torch.equal(maps.index.sum(dim=1), torch.ones(BATCH, SIZE, SIZE))
    assert maps.index.unique().tolist() == [0, 1]
    for values in (maps.u, maps.v):
        assert values.min() >= 0 and values.max() <= 1
        assert not values[maps.index == 0].any() and not values[:, 0].any()
    assert 0.02 < centers.std() < 0.1


def test_only_a_share_of_the_people_gets_errors():
    perfect, centers = people(), torch.rand(BATCH, 24, 2)
    maps, moved = map_errors.with_errors(perfect, centers, rate=0.25)
    changed = (image_of(maps) != image_of(perfect)).flatten(1).any(dim=1)
    assert torch.equal(changed, (moved != centers).flatten(1).any(dim=1)) and 4 <= changed.sum() <= 28
    same, still = map_errors.with_errors(perfect, centers, rate=0.0)
    assert torch.equal(still, centers) and all(torch.equal(a, b) for a, b in zip(same, perfect, strict=True))


def test_sides_change_places_limb_by_limb():
    before = (24 * image_of(people())[:, 0]).round()
    after = (24 * map_errors._with_swapped_sides(image_of(people()))[:, 0]).round()
    still = (before == 0) | (before <= 2) | (before >= 23)
    assert torch.equal(after[still], before[still])
    odd = before % 2 == 1
    mirrored = torch.where(odd, before + 1, before - 1)
    arms, legs = ((before == 3) | (before == 4) | (before > 14)) & ~still, (before > 4) & (before < 15)
    for limbs in (arms, legs):
        swapped = (after == mirrored) & limbs
        whole = swapped.flatten(1).sum(dim=1)
        assert set(whole.tolist()) == {0, limbs[0].sum().item()}
        assert torch.equal(after[limbs & ~swapped], before[limbs & ~swapped])


def test_holes_only_take_away():
    before = image_of(people())
    after = map_errors._with_holes(before)
    gone = (after != before).any(dim=1)
    assert not after.movedim(1, -1)[gone].any()
    assert 0.1 < gone.flatten(1).any(dim=1).float().mean() < 0.45


def test_other_people_stand_behind():
    image = image_of(people())
    after = map_errors._with_other_people(image)
    seen = image[:, :1] > 0
    assert torch.equal(after * seen, image)
    assert 3 <= ((after[:, 0] > 0) & ~seen[:, 0]).flatten(1).any(dim=1).sum() <= 25


def test_borders_move_by_few_cells():
    image = image_of(people())
    after = map_errors._warped(image)
    assert (after[:, 0] != image[:, 0]).any()
    grown = torch.nn.functional.max_pool2d(image[:, 0] * 24, 2 * 12 + 1, 1, 12) > 0
    assert not (after[:, 0] > 0)[~grown].any()


def test_only_training_sees_errors():
    model = build_danet(replace(STEADY, map_errors=1.0))
    seen: list[IUVMaps] = []
    model.iuv2smpl.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    maps, centers = people()[:2], torch.zeros(2, 24, 2)
    with torch.no_grad():
        for training in (False, True):
            model.train(training).forward_rendered(maps, centers)
    assert torch.equal(seen[0].index, maps.index) and not torch.equal(seen[1].index, maps.index)
