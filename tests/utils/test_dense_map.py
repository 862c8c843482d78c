"""Whole-image maps: where people lie in them, what is enlarged, who is in front."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from utils.export import pack_iuv
from utils.iuvmap import dense_scores, iuv_map2img
from utils.renderer.dense_map import DenseMap, SeenPerson, body_map, seen_map
from utils.renderer.people import FullCamera
from utils.structures import Atlas, IUVMaps

CELLS = 56


def person(scores, box=(0, 0, 560, 560), center=(280, 280), scale=2.8, depth=3.0) -> SeenPerson:
    """Someone whose crop's cells are 10 px, by default."""
    return SeenPerson(scores, center, scale, box, depth)


def layers(**channels: np.ndarray | float) -> np.ndarray:
    """Scores [56,56,76] that are 0 but for s<part>, u<part>, v<part>, of a crop that shows a person everywhere."""
    scores = np.zeros((CELLS, CELLS, 76), np.float32)
    scores[..., 75] = 1
    for name, value in channels.items():
        scores[..., "suv".index(name[0]) * 25 + int(name[1:])] = value
    return scores


def random_maps(seed: int = 0) -> IUVMaps:
    rng = torch.Generator().manual_seed(seed)
    u, v, index = (torch.rand(1, 25, CELLS, CELLS, generator=rng) for _ in range(3))
    return IUVMaps(u, v, index, torch.rand(1, 15, CELLS, CELLS, generator=rng))


def test_scores_are_enlarged_before_the_highest_is_looked_for():
    cell = np.arange(CELLS, dtype=np.float32)
    dense = seen_map([person(layers(s1=cell, u1=cell / 55, s2=20.3, v2=0.6))], (560, 560))
    # Column x lies at the cell (x + 0.5) / 10 - 0.5: the scores meet between columns 207 and 208, in mid-cell.
    assert (dense.part[:, :208] == 2).all() and (dense.part[:, 208:] == 1).all()
    assert (dense.v[:, :208] == 153).all() and not dense.v[:, 208:].any() and not dense.u[:, :208].any()
    columns = np.arange(208, 560)
    expected = np.clip((columns + 0.5) / 10 - 0.5, 0, 55) / 55 * 255
    assert np.abs(dense.u[7, 208:] - expected).max() <= 0.5 + 1e-3


def test_maps_agree_with_pytorchs_bilinear_enlarging():
    maps = random_maps()
    large = dense_scores(maps).permute(0, 3, 1, 2)
    large = F.interpolate(large, scale_factor=4, mode="bilinear", align_corners=False)[0]
    part = large[:25].argmax(0)
    part[large[75] <= 0] = 0
    u, v = ((large[first : first + 25].gather(0, part[None])[0] * 255) * (part > 0) for first in (25, 50))
    scores = dense_scores(maps)[0].numpy()
    dense = seen_map([person(scores, (0, 0, 224, 224), (112, 112), 1.12)], (224, 224))
    assert (dense.part != part.numpy()).mean() < 1e-4  # rounding may decide a tie
    same = dense.part == part.numpy()
    for ours, theirs in ((dense.u, u), (dense.v, v)):
        assert np.abs(ours - theirs.numpy())[same].max() < 0.51


def test_at_the_size_of_the_crop_the_map_is_the_cleaned_one():
    maps = random_maps(1)
    part, u, v = pack_iuv(iuv_map2img(*maps))[0]
    found = seen_map([person(dense_scores(maps)[0].numpy(), (0, 0, 56, 56), (28, 28), 0.28)], (56, 56))
    assert np.array_equal(found.part, part) and np.array_equal(found.u, u) and np.array_equal(found.v, v)
    assert 0 < (part > 0).mean() < 1


def test_a_person_ends_at_the_box_and_at_the_image():
    scores = layers(s5=1.0)
    dense = seen_map([person(scores, (-20, 100.6, 320.4, 50))], (300, 400))
    shown = np.zeros((400, 300), bool)
    shown[101:151] = True  # pixels whose centre lies in the box
    assert np.array_equal(dense.part == 5, shown)
    assert not seen_map([person(scores, (900, 0, 50, 50))], (300, 400)).part.any()
    tall = seen_map([person(scores, (100, 0, 50, 400))], (300, 400), size=(600, 100))
    assert tall.part.shape == (100, 600) and (tall.part[:, 200:300] == 5).all() and not tall.part[:, :200].any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_who_is_nearer_is_in_front(order):
    far, near = person(layers(s1=1.0), depth=4.0), person(layers(s2=1.0), (200, 0, 100, 560), depth=3.0)
    near.scores[:28, :, 75] = -1  # nothing of them in the upper half
    dense = seen_map([(far, near)[i] for i in order], (560, 560))
    assert (dense.part[300:, 200:300] == 2).all() and (dense.part[:270] == 1).all()
    assert (dense.part[:, :200] == 1).all()


def test_scores_that_are_not_finite_show_nothing_odd():
    scores = layers(s3=1.0, u3=np.nan, v3=np.inf)
    scores[:20, :, 75] = np.nan
    dense = seen_map([person(scores)], (560, 560))
    assert not dense.part[:190].any() and (dense.part[220:] == 3).all()
    assert (dense.u == 0).all() and set(np.unique(dense.v)) <= {0, 255}


# ------------------------------------------------------------------------------------------------- bodies

# A square of one metre, U to the right and V down, towards the camera.
SQUARE = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], np.float32)
FACES = np.array([[0, 3, 2], [0, 2, 1]], np.int32)
CORNERS = (SQUARE[:, :2] + 0.5)[FACES]
ATLAS = Atlas("square", np.arange(4, dtype=np.int32), FACES, np.array([7, 9], np.uint8), CORNERS)


def camera(x=0.0, z=2.0, focal=100.0, middle=(50.0, 40.0)) -> FullCamera:
    return FullCamera(np.array([x, 0, z], np.float32), focal, middle)


def test_a_square_body_fills_its_pixels_with_its_coordinates():
    dense = body_map([(SQUARE, camera())], ATLAS, (100, 80))
    shown = np.zeros((80, 100), bool)
    shown[15:65, 25:75] = True
    assert np.array_equal(dense.part > 0, shown) and set(np.unique(dense.part)) == {0, 7, 9}
    assert np.abs(dense.u[20, 25:75] - (np.arange(50) + 0.5) / 50 * 255).max() <= 0.51
    assert np.abs(dense.v[15:65, 30] - (np.arange(50) + 0.5) / 50 * 255).max() <= 0.51
    wide = body_map([(SQUARE, camera())], ATLAS, (100, 80), size=(200, 80))
    assert np.array_equal(wide.part > 0, shown.repeat(2, axis=1))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_body_is_in_front(order):
    far, near = (SQUARE, camera()), (SQUARE * 0.5, camera(x=0.1, z=1.0))
    dense = body_map([(far, near)[i] for i in order], ATLAS, (100, 80))
    alone = body_map([near], ATLAS, (100, 80))
    front = alone.part > 0
    assert front.any() and np.array_equal(dense.u[front], alone.u[front])
    assert dense.part[17, 27] > 0 and alone.part[17, 27] == 0


def test_large_images_are_rendered_in_squares_without_seams(monkeypatch):
    people = [(SQUARE, camera()), (SQUARE, camera(x=0.4, z=3.0))]
    whole = body_map(people, ATLAS, (100, 80))
    monkeypatch.setattr("utils.renderer.tiles.TILE", 13)
    tiled = body_map(people, ATLAS, (100, 80))
    assert all(np.array_equal(getattr(whole, n), getattr(tiled, n)) for n in ("part", "u", "v"))


def test_odd_sizes_and_no_people():
    for size in ((1, 1), (20000, 20)):
        for dense in (DenseMap.empty(size), seen_map([], size), body_map([], ATLAS, size)):
            assert dense.part.shape == size[::-1] and not dense.part.any()
        assert body_map([(SQUARE, camera(middle=(size[0] / 2, size[1] / 2)))], ATLAS, size).part.any()
    assert seen_map([person(layers(s4=1.0), (0, 0, 1, 1), (0.5, 0.5), 0.005)], (1, 1)).part.tolist() == [[4]]
