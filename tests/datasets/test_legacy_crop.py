"""The 2020 crop: its images, points and un-crops bit for bit, and what it does at the edges."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from datasets.legacy_crop import crop_legacy, stretch, transform_points, uncrop_legacy


def waves():
    """The image of the goldens, from its formula."""
    y, x = np.mgrid[0:200, 0:260].astype(float)
    red, green = 60 + 60 * np.sin(x / 17) + 20 * np.cos(y / 9), 90 + 50 * np.cos((x + y) / 23)
    blue = 110 + 40 * np.sin(y / 13 + x / 31)
    return np.clip(np.stack([red, green, blue], -1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("case", ["crop_inside", "crop_border", "crop_rot", "crop_rotborder"])
def test_images_bit_for_bit(numbers, case):
    center, scale, rotation = (numbers[f"{case}/{name}"] for name in ("center", "scale", "rot"))
    crop = crop_legacy(waves(), center, scale, float(rotation))
    assert np.array_equal(crop[::16, ::16], numbers[f"{case}/out"])
    assert zlib.crc32(crop.tobytes()) == numbers[f"{case}/out_crc32"]


def test_points_bit_for_bit(numbers):
    for row in numbers["transform/rows_pt_center_scale_rot_invert_out"]:
        found = transform_points(row[None, :2], row[2:4], row[4], row[5], invert=bool(row[6]))
        assert np.array_equal(found[0], row[7:])


def test_way_back_bit_for_bit(numbers):
    place = ((130, 100), 0.9, (200, 260))
    assert np.array_equal(uncrop_legacy(numbers["uncrop/parts_in"], *place), numbers["uncrop/parts_out"])
    mask = np.zeros((224, 224), bool)
    mask[50:170, 80:150] = True
    assert np.array_equal(uncrop_legacy(mask, *place), numbers["uncrop/out"])
    assert np.array_equal(uncrop_legacy(np.ones((224, 224), bool), *place), numbers["uncrop/all_ones"])


def test_stretch():
    assert np.array_equal(stretch(np.array([1.0, 2.0, 3.0])), [0, 128, 255])
    assert not stretch(np.full((4, 4), 7.0)).any()
    same = np.array([3, 9], np.uint8)
    assert stretch(same) is same


@pytest.mark.parametrize(
    ("center", "scale", "said"),
    [
        ((5.5, 5.5), 1e-4, "1 to 10000 px"),
        ((5, 5), 1e4, "1 to 10000 px"),
        ((np.nan, 5), 1, "finite center"),
        ((5, 5), -1, "positive scale"),
    ],
)
def test_impossible_boxes(center, scale, said):
    with pytest.raises(ValueError, match=said):
        crop_legacy(waves(), center, scale)
