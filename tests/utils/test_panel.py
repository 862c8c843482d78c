"""Result panel and small drawing helpers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from utils.body import resolve_body
from utils.export import pack_iuv
from utils.export.person import at_map_size
from utils.geometry import FOCAL_LENGTH, cam_to_translation
from utils.renderer import IUV_Renderer, MeshRenderer
from utils.renderer.panel import part_iuv_image, resize_linear, result_panel
from utils.skeleton import PART_CHANNELS


@pytest.fixture(scope="module")
def scene(standing):
    """A body in the open set, its own rendering as the network's stored maps, and the renderers."""
    assets = resolve_body("open")
    cam = torch.tensor([[0.9, 0.05, 0.25]])
    renderer = IUV_Renderer(atlas=assets.atlas)
    iuv = pack_iuv(renderer.verts2uvimg(standing, cam))[0]
    return standing[0].numpy(), cam[0].numpy(), renderer, MeshRenderer(assets.body.faces), iuv


@pytest.fixture
def crop():
    return np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


def part_maps(iuv: np.ndarray) -> np.ndarray:
    """Each joint's parts of a stored map [3, H, W], uncropped."""
    return np.stack([iuv * np.isin(iuv[:1], parts) for parts in PART_CHANNELS])


def rendering(scene) -> np.ndarray:
    """The body's IUV image at 224 pixels, 0..255."""
    vertices, cam = (torch.from_numpy(array)[None] for array in scene[:2])
    image = scene[2].verts2uvimg(vertices, cam)[0]
    return resize_linear(image.permute(1, 2, 0).numpy(), 224) * 255


def test_panel_shows_six_images_in_order(scene, crop):
    vertices, cam, iuv_renderer, mesh_renderer, iuv = scene
    panel = result_panel(crop, iuv, part_maps(iuv), vertices, cam, iuv_renderer, mesh_renderer)
    assert panel.shape == (224, 1456, 4) and panel.dtype == np.uint8
    image, whole, parts, pasted, front, side = np.split(panel, [224, 448, 784, 1008, 1232], axis=1)
    np.testing.assert_array_equal(image[..., :3], crop)
    assert (panel[:, :1232, 3] == 255).all()
    cam_t = cam_to_translation(torch.from_numpy(cam)).numpy()
    shaded = mesh_renderer.side_view(vertices, cam_t, FOCAL_LENGTH, 224)
    np.testing.assert_array_equal(side, (shaded * 255).round())
    np.testing.assert_array_equal(front[..., :3], mesh_renderer.overlay(crop, vertices, cam_t, FOCAL_LENGTH))
    rendered = rendering(scene)
    expected = np.where(rendered > 0, rendered, crop)
    assert np.abs(pasted[..., :3] - expected).max() <= 0.5
    # The stored maps are the rendering in bytes.
    assert np.abs(whole[..., :3] - rendered).max() <= 1.001
    np.testing.assert_array_equal(parts[..., :3], part_iuv_image(part_maps(iuv)))


def test_another_renderer_adds_its_two_views_before_ours(scene, crop):
    vertices, cam, iuv_renderer, mesh_renderer, iuv = scene
    green = MeshRenderer(mesh_renderer.faces, (0, 1, 0))
    own = result_panel(crop, iuv, None, vertices, cam, iuv_renderer, mesh_renderer)
    both = result_panel(crop, iuv, None, vertices, cam, iuv_renderer, mesh_renderer, extra=green)
    assert both.shape == (224, 1904, 4) and not both[:, 448:784, :3].any()
    np.testing.assert_array_equal(both[:, :1008], own[:, :1008])
    np.testing.assert_array_equal(both[:, 1456:], own[:, 1008:])
    side = both[:, 1232:1456]
    np.testing.assert_array_equal(side[..., 3], own[:, 1232:, 3])
    assert side[..., 1].any() and not side[..., [0, 2]].any()


def test_resize_keeps_a_ramp_and_mirrors_borders():
    ramp = np.tile(np.arange(4, dtype=np.float32)[:, None], (4, 1, 1))
    row = resize_linear(ramp, 16)[5].reshape(-1)
    at = (np.arange(16) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(row, 3 - np.abs(3 - np.abs(at)), atol=1e-6)  # its own mirror beyond 0 and 3
    assert resize_linear(ramp, 4) is ramp



def test_smaller_part_maps_are_shown_at_the_size_of_the_global_ones():
    usual = np.arange(2 * 24 * 3 * 56 * 56, dtype=np.uint32).astype(np.uint8).reshape(2, 24, 3, 56, 56)
    np.testing.assert_array_equal(at_map_size(usual), usual)
    half = usual[..., ::2, ::2]
    shown = at_map_size(half)
    assert shown.shape == usual.shape and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[..., ::55, ::55], half[..., ::27, ::27])
    np.testing.assert_array_equal(shown[..., 28, 20], half[..., 14, 10])
