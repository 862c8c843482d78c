"""The crop: its grid in closed form, identity, no aliasing, borders, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.transforms import (
    box_to_center_scale,
    crop_image,
    crop_points_to_image,
    image_points_to_crop,
    preprocess,
)
from utils.images import denormalize, normalize, normalize_bytes, to_tensor


def noise(height, width):
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramp(height, width):
    """Red = x, green = y at pixel centres (x + 0.5), for images below 256 px."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_a_224_crop_passes_bit_identical():
    pixels = noise(224, 224)
    center, scale = box_to_center_scale((0, 0, 224, 224), margin=1.0)
    assert np.array_equal(crop_image(pixels, center, scale), pixels)


@pytest.mark.parametrize("scale", [0.35, 0.8, 1.3])
def test_grid_in_closed_form(scale):
    crop = crop_image(ramp(250, 250), (120.25, 130.5), scale).astype(float)
    along = (np.arange(224) + 0.5 - 112) * 200 * scale / 224
    x, y = 120.25 + along - 0.5, 130.5 + along - 0.5
    inside = (x > 1) & (x < 248)
    assert np.abs(crop[112, inside, 0] - x[inside]).max() < 0.6
    inside = (y > 1) & (y < 248)
    assert np.abs(crop[inside, 112, 1] - y[inside]).max() < 0.6


@pytest.mark.parametrize("size", [1000, 1777, 4000])
def test_fine_stripes_become_grey_not_moire(size):
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    pixels[:, ::2] = 255
    crop = crop_image(pixels, (size / 2, size / 2), size / 200).astype(float)[8:-8, 8:-8]
    assert abs(crop.mean() - 127.5) < 2
    assert crop.std() < 12


def test_outside_is_black_and_wide_images_are_padded():
    crop = crop_image(np.full((100, 200, 3), 255, dtype=np.uint8), (100, 50), 1.0)
    assert not crop[:55].any() and not crop[-55:].any()
    assert (crop[60:-60, 1:-1] == 255).all()


def test_images_beyond_the_warp_limit():
    """OpenCV warps at most 32767 px a side; only what lies under the square is warped."""
    pixels = np.zeros((40, 40000, 3), dtype=np.uint8)
    pixels[:, 39000:39040] = 200
    assert (crop_image(pixels, (39020, 20), 0.1)[60:160, 60:160] == 200).all()
    assert crop_image(pixels, (20000, 20), 200.0).shape == (224, 224, 3)


def test_box_rule():
    assert box_to_center_scale((10, 20, 100, 200)) == ((60.0, 120.0), pytest.approx(1.2))
    assert box_to_center_scale((0, 0, 224, 100), margin=1.0) == ((112.0, 50.0), pytest.approx(1.12))


def test_normalisation():
    pixels = noise(224, 224)
    image = preprocess(pixels, (112, 112), 1.12)
    assert image.shape == (3, 224, 224) and image.dtype == torch.float32
    assert np.allclose(normalize_bytes(pixels), image, atol=1e-6)
    assert torch.allclose(denormalize(image), to_tensor(pixels), atol=1e-6)
    grey = normalize(torch.full((3, 2, 2), 0.5))
    assert torch.allclose(grey[:, 0, 0], torch.tensor([0.015 / 0.229, 0.044 / 0.224, 0.094 / 0.225]))


@pytest.mark.parametrize(
    ("center", "scale", "said"),
    [
        ((500, 50), 1.0, "lies outside the image of 100 x 100 px"),
        ((50, 50), 0.0, "positive scale"),
        ((float("nan"), 50), 1.0, "finite center"),
    ],
)
def test_impossible_crops(center, scale, said):
    with pytest.raises(ValueError, match=said):
        crop_image(noise(100, 100), center, scale)


@pytest.mark.parametrize("rotation", [-57.0, -12.5, 30.0, 90.0, 180.0])
@pytest.mark.parametrize("scale", [0.4, 1.4, 3.3])
def test_rotated_crops_carry_points_along(rotation, scale):
    """A bright square around a point shows up where the point maps to; the way back is exact."""
    center, spot = np.array([420.3, 380.6]), np.array([420.3 + 45 * scale, 380.6 - 60 * scale])
    y, x = np.mgrid[:800, :900] + 0.5
    blob = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * (3 * scale) ** 2))
    crop = crop_image(np.repeat((255 * blob)[..., None], 3, -1).astype(np.uint8), center, scale, rotation)
    weight = crop[..., 0].astype(float)
    rows, columns = np.mgrid[:224, :224] + 0.5
    seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    mapped = image_points_to_crop(spot, center, scale, rotation)
    assert np.abs(seen - mapped).max() < 0.15
    assert np.allclose(crop_points_to_image(mapped, center, scale, rotation), spot)


def test_a_quarter_turn_is_counter_clockwise_and_exact():
    pixels = noise(224, 224)
    turned = crop_image(pixels, (112, 112), 1.12, 90)
    assert np.abs(turned.astype(int) - np.rot90(pixels)).max() <= 1
    assert np.array_equal(crop_image(pixels, (112, 112), 1.12, 0.0), pixels)
