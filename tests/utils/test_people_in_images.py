"""From a crop's camera to the full image: the same pixels both ways, and all people in one image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from utils.geometry import (
    assumed_focal_length,
    check_focal_length,
    crop_to_full_weak,
    full_weak_to_perspective,
    project_to_crop,
)
from utils.renderer.people import FullCamera, draw_people, full_camera, person_colors


@pytest.fixture
def people():
    """(points [B,N,3] metres, cam [B,3], center [B,2], scale [B], image_size [B,2]) in float64."""
    torch.manual_seed(0)
    points = (torch.rand(5, 40, 3, dtype=torch.float64) - 0.5) * torch.tensor([1.0, 1.8, 0.6])
    cam = torch.rand(5, 3).double() * torch.tensor([0.6, 0.2, 0.2]) + torch.tensor([0.7, -0.1, -0.1])
    size = torch.tensor([640.0, 480.0], dtype=torch.float64).expand(5, 2)
    return points, cam, torch.rand(5, 2, dtype=torch.float64) * size, torch.rand(5).double() + 0.5, size


def crop_pixels(people):
    """Where the crop's own camera puts the points, in pixels of the full image."""
    points, cam, center, scale, _ = people
    return center[:, None] + project_to_crop(points, cam) * (100 * scale)[:, None, None]


def pinhole(points, translation, focal, principal):
    moved = points + translation[:, None]
    return focal * moved[..., :2] / moved[..., 2:] + principal[:, None]


def test_the_body_s_origin_stays_where_it_is_for_any_focal_length(people):
    points, cam, center, scale, size = people
    flat = points * torch.tensor([1.0, 1.0, 0.0])
    weak = crop_to_full_weak(cam, center, scale, size)
    expected = crop_pixels((flat, *people[1:]))
    assert torch.allclose(size[:, None] / 2 + weak[:, None, :1] * (flat[..., :2] + weak[:, None, 1:]), expected)
    for focal in (300.0, assumed_focal_length((640, 480)), 1e5):
        pixels = pinhole(flat, full_weak_to_perspective(weak, focal), focal, size / 2)
        assert (pixels - expected).abs().max() < 1e-3


@pytest.mark.parametrize("focal", [800.0, 5000.0, 1e6])
def test_elsewhere_the_error_is_what_the_docstring_says(people, focal):
    points, cam, center, scale, size = people
    weak = crop_to_full_weak(cam, center, scale, size)
    from_middle = weak[:, None, :1] * (points[..., :2] + weak[:, None, 1:])
    got = pinhole(points, full_weak_to_perspective(weak, focal), focal, size / 2)
    depth = points[..., 2:]
    said = -from_middle * depth / (depth + focal / weak[:, None, :1])
    assert torch.allclose(got - (size[:, None] / 2 + from_middle), said, atol=1e-6)


def test_people_are_drawn_where_their_crops_show_them(people):
    points, cam, center, scale, _ = people
    for row, expected in enumerate(crop_pixels(people)):
        place = tuple(center[row].tolist()), float(scale[row]), (640, 480)
        camera = full_camera(cam[row], *place, focal_length=500.0)
        seen = camera.as_seen(points[row].numpy())
        assert np.allclose(seen[:, 2], points[row, :, 2] + camera.cam_t[2], atol=1e-5)  # in front stays in front
        pixels = 500.0 * seen[:, :2] / seen[:, 2:] + camera.principal_point
        assert np.abs(pixels - expected.numpy()).max() < 1.5  # the crop's own perspective, 5000 px on 224
        plain = points[row].numpy() + camera.cam_t
        pinhole_pixels = 500.0 * plain[:, :2] / plain[:, 2:] + camera.principal_point
        assert np.abs(pinhole_pixels - expected.numpy()).max() > 5


SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 0]])  # both sides


def at(x, z):
    return SQUARE, FullCamera(np.array([x, 0, z], np.float32), 100.0, (80.0, 50.0))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_one_is_in_front_whatever_the_order(order):
    both = [at(0.0, 4.0), at(2.0, 8.0)]
    image = draw_people(np.zeros((100, 160, 3), np.uint8), [both[i] for i in order], FACES)
    alone = draw_people(np.zeros((100, 160, 3), np.uint8), [both[0]], FACES)
    near = image[50, 80].astype(float) / image[50, 80].max()
    expected = person_colors(2)[order.index(0)]
    assert np.allclose(near, expected / expected.max(), atol=0.02)
    shared = image[50, 98].astype(float)  # under both
    assert np.allclose(shared / shared.max(), expected / expected.max(), atol=0.02)
    assert image[50, 108].any() and not alone[50, 108].any()  # what the far one shows beside


def test_each_is_drawn_where_its_camera_says_and_the_rest_is_untouched():
    photo = np.random.default_rng(0).integers(0, 255, (100, 160, 3), np.uint8)
    image = draw_people(photo, [at(-1.0, 5.0)], FACES)
    changed = (image != photo).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert (columns.min(), columns.max() + 1) == (40, 80) and (rows.min(), rows.max() + 1) == (30, 70)
    assert draw_people(photo, [], FACES) is photo


def test_a_focal_length_in_millimetres_is_refused_and_unusual_ones_are_suspected():
    assert check_focal_length(None, (640, 480)) == check_focal_length(800, (640, 480)) == ""
    assert "is 0.25 of the diagonal" in check_focal_length(200, (640, 480))
    assert "cameras have 0.3 to 30" in check_focal_length(1e6, (640, 480))
    with pytest.raises(ValueError, match="focal_length 35 is 0.044 of the diagonal .* 640 x 480 px.*in pixels: milli"):
        check_focal_length(35, (640, 480))
