"""Result panel and small drawing helpers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from utils.assets import resolve_body
from utils.body import body_tensors, skin
from utils.geometry import FOCAL_LENGTH, cam_to_translation
from utils.iuvmap import iuv_img2map
from utils.renderer import IUV_Renderer, MeshRenderer
from utils.skeleton import PART_CHANNELS, SMPL_PARENTS
from utils.structures import IUVMaps
from utils.visualize import (
    colorize_parts,
    draw_points,
    global_iuv_picture,
    image_grid,
    part_iuv_picture,
    part_palette,
    paste_positive,
    resize_linear,
    result_panel,
    to_rgb_float,
)


@pytest.fixture(scope="module")
def scene():
    """A body in the open set, its own rendering as the network's maps, and the renderers."""
    assets = resolve_body("open")
    rotmat = torch.eye(3).repeat(1, 24, 1, 1)
    rotmat[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    vertices = skin(body_tensors(assets.body), SMPL_PARENTS, rotmat, torch.zeros(1, 10))[0].transpose(1, 2)
    cam = torch.tensor([[0.9, 0.05, 0.25]])
    renderer = IUV_Renderer(atlas=assets.atlas)
    iuv = iuv_img2map(renderer.verts2uvimg(vertices, cam))
    return vertices[0], cam[0], renderer, MeshRenderer(assets.body.faces), iuv


def part_maps(iuv: IUVMaps) -> IUVMaps:
    """Each joint's seven channels of global maps [1, 25, H, W], uncropped."""
    index = torch.stack([iuv.index[0, [0, *parts]] for parts in PART_CHANNELS])
    index[:, 0] = 1 - index[:, 1:].amax(dim=1)
    u, v = (torch.stack([m[0, [0, *parts]] for parts in PART_CHANNELS]) for m in (iuv.u, iuv.v))
    return IUVMaps(u, v, index)


def test_panel_shows_six_pictures_in_order(scene):
    vertices, cam, iuv_renderer, mesh_renderer, iuv = scene
    image = torch.rand(3, 224, 224)
    panel = result_panel(image, iuv[0], part_maps(iuv), vertices, cam, iuv_renderer, mesh_renderer)
    assert panel.shape == (224, 1456, 4) and panel.dtype == np.uint8
    picture, whole, parts, pasted, front, side = np.split(panel, [224, 448, 784, 1008, 1232], axis=1)
    bytes_of_image = (image.permute(1, 2, 0).numpy() * 255).round()
    np.testing.assert_array_equal(picture[..., :3], bytes_of_image)
    assert (panel[:, :1232, 3] == 255).all()
    cam_t = cam_to_translation(cam)
    alpha = mesh_renderer.side_view(vertices, cam_t, FOCAL_LENGTH, 224)[..., 3]
    np.testing.assert_array_equal(side[..., 3], (alpha * 255).round())
    body = mesh_renderer.render(vertices, cam_t, FOCAL_LENGTH, 224, 224)[..., 3]
    np.testing.assert_array_equal(front[body == 0], picture[body == 0])
    assert (front[body == 1] != picture[body == 1]).any(axis=1).mean() > 0.99
    rendered = (
        resize_linear(iuv_renderer.verts2uvimg(vertices[None], cam[None]), 224)[0].permute(1, 2, 0).numpy()
    )
    expected = np.where(rendered > 0, rendered * 255, bytes_of_image).round()
    assert np.abs(pasted[..., :3] - expected).max() <= 1
    # The maps are the rendering, so the second picture is what was pasted into the fourth.
    np.testing.assert_array_equal(whole[..., :3][rendered > 0], pasted[..., :3][rendered > 0])
    assert parts.shape == (224, 336, 4)


def test_panel_takes_arrays_and_refuses_other_sizes(scene):
    vertices, cam, iuv_renderer, mesh_renderer, iuv = scene
    rest = (iuv[0], part_maps(iuv), vertices, cam, iuv_renderer, mesh_renderer)
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    first = result_panel(image, *rest)
    np.testing.assert_array_equal(first[:, :224, :3], image)
    np.testing.assert_array_equal(result_panel(torch.from_numpy(image).permute(2, 0, 1), *rest), first)
    with pytest.raises(ValueError, match="224"):
        result_panel(image[:200], *rest)


def test_global_picture_is_masked_by_the_annotation_head(scene):
    iuv = scene[4][0]
    seen = global_iuv_picture(iuv, size=56)
    left_only = iuv.ann.clone()
    left_only[:, :, 28:] = 0
    left_only[0, :, 28:] = 1
    masked = global_iuv_picture(IUVMaps(iuv.u, iuv.v, iuv.index, left_only), size=56)
    assert not masked[:, 28:].any()
    np.testing.assert_array_equal(masked[:, :28], seen[:, :28])
    np.testing.assert_array_equal(global_iuv_picture(IUVMaps(iuv.u, iuv.v, iuv.index), size=56), seen)


def test_part_pictures_stand_in_rows_of_six_with_global_part_numbers(scene):
    maps = part_maps(scene[4])
    picture = part_iuv_picture(maps)
    for joint in (0, 7, 13, 23):
        top, left = 56 * (joint // 6), 56 * (joint % 6)
        shown = (picture[top : top + 56, left : left + 56, 0] * 24).round().astype(int)
        expected = np.array([0, *PART_CHANNELS[joint]])[maps.index[joint].argmax(0).numpy()]
        np.testing.assert_array_equal(shown, expected)
        assert shown.any()


def test_resize_keeps_a_ramp_and_mirrors_borders():
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    row = resize_linear(ramp, 16)[0, 0, 5]
    at = (torch.arange(16) + 0.5) / 4 - 0.5
    torch.testing.assert_close(row, 3 - (3 - at.abs()).abs())  # a ramp is its own mirror beyond 0 and 3
    assert resize_linear(ramp, 4) is ramp


def test_paste_works_channel_by_channel():
    picture, layer = np.full((1, 2, 3), 0.5), np.array([[[0.2, 0, 0.9], [0, 0, 0]]])
    np.testing.assert_array_equal(paste_positive(picture, layer), [[[0.2, 0.5, 0.9], [0.5, 0.5, 0.5]]])


def test_part_colours_are_distinct_and_numbers_are_checked():
    palette = part_palette().astype(int)
    assert palette.shape == (25, 3) and not palette[0].any()
    gap = np.abs(palette[:, None] - palette[None]).sum(-1) + 1000 * np.eye(25, dtype=int)
    assert gap.min() >= 60
    part = torch.tensor([[0, 24], [1, 2]])
    np.testing.assert_array_equal(colorize_parts(part), palette[part.numpy()])
    np.testing.assert_array_equal(colorize_parts(part.float()), palette[part.numpy()])
    with pytest.raises(ValueError, match="25"):
        colorize_parts(np.array([[25]]))


def test_points_are_drawn_where_they_are_and_only_when_known():
    image = np.zeros((20, 30, 3), np.uint8)
    points = np.array([[10.5, 5.5, 1.0], [25.5, 15.5, 0.0], [np.nan, 3.0, 1.0], [-400.0, 1e9, 1.0]])
    drawn = draw_points(image, points, radius=1)
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert drawn[5, 10].max() == 255 and not image.any()
    assert abs(rows - 5).max() <= 2 and abs(columns - 10).max() <= 2
    linked = draw_points(image, np.array([[2.5, 2.5], [27.5, 2.5]]), radius=1, links=[(0, 1)])
    assert linked[2].any(axis=1).sum() >= 25


def test_grid_places_pictures_in_rows_and_fills_the_rest():
    images = [np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)]
    grid = image_grid(images, columns=2, pad=1, pad_value=255)
    assert grid.shape == (1 + 2 * 3, 1 + 2 * 4, 3)
    assert (grid[1:3, 1:4] == 10).all() and (grid[1:3, 5:8] == 20).all() and (grid[4:6, 1:4] == 30).all()
    assert (grid[4:6, 5:8] == 255).all() and (grid[[0, 3, 6]] == 255).all()
    assert (image_grid([np.full((2, 2, 3), 0.5)], 1, pad=0) == 128).all()
    with pytest.raises(ValueError, match="one size"):
        image_grid([images[0], images[0][:1]], 2)
    with pytest.raises(ValueError, match="one size"):
        image_grid([], 2)


def test_rgb_float_reads_both_layouts():
    image = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(to_rgb_float(image), image)
    np.testing.assert_array_equal(to_rgb_float(torch.from_numpy(image).permute(2, 0, 1)), image)
    np.testing.assert_allclose(to_rgb_float(np.full((4, 5, 3), 51, np.uint8)), 0.2, rtol=1e-6)
