"""Augmentation: goldens of single changes, the distribution of draws, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from datasets.augment import (
    AugmentConfig,
    Bystander,
    Occluder,
    change_colors,
    change_joints_3d,
    change_pose,
    draw_augmentation,
    draw_bystander,
    flip_keypoints,
    flip_rotvec,
    keypoints_to_crop,
    rotate_rotvec,
)
from utils.skeleton import GT24_FLIP, JOINT49_FLIP


def test_flips_bit_for_bit(numbers):
    assert np.array_equal(flip_keypoints(numbers["flip/k24"], GT24_FLIP), numbers["flip/k24o"])
    assert np.array_equal(flip_keypoints(numbers["flip/k49"], JOINT49_FLIP), numbers["flip/k49o"])
    assert np.array_equal(flip_rotvec(numbers["flip/pose"]), numbers["flip/poseo"])


def test_rotation_of_a_pose(numbers):
    turned = rotate_rotvec(numbers["rot_aa/aa"], float(numbers["rot_aa/rot"]))
    assert np.allclose(turned, numbers["rot_aa/out"], atol=1e-12)


def test_pose_and_joints_turn_together():
    """A bone rotated by the changed global orientation ends where the changed joint lies."""
    rng = np.random.default_rng(1)
    pose, bones = rng.normal(size=72), rng.normal(size=(24, 3))
    joints = np.column_stack([bones @ Rotation.from_rotvec(pose[:3]).as_matrix().T, np.ones(24)])
    turned = change_joints_3d(joints, 33.0, False)[:, :3]
    changed = change_pose(pose, 33.0, False)
    assert np.allclose(bones @ Rotation.from_rotvec(changed[:3]).as_matrix().T, turned)
    assert np.array_equal(changed[3:], pose[3:])


def test_image_and_space_turn_together():
    """Projected (x right, y down), joints move as the keypoints of the rotated crop do."""
    rng = np.random.default_rng(2)
    joints = np.column_stack([rng.uniform(-1, 1, (24, 3)), np.ones(24)])
    points = np.column_stack([100 + 80 * joints[:, :2], np.ones(24)])
    mapped = keypoints_to_crop(points, (100, 100), 1.12, 40.0, "warp")[:, :2]
    turned = change_joints_3d(joints, 40.0, False)[:, :2]
    assert np.allclose(mapped * 112 / 80, turned)


def test_legacy_keypoints_are_whole_pixels():
    points = np.random.default_rng(3).uniform(0, 300, (49, 3))
    whole = (keypoints_to_crop(points, (150, 140), 0.8, 0.0, "legacy")[:, :2] + 1) * 112
    exact = (keypoints_to_crop(points, (150, 140), 0.8, 0.0, "warp")[:, :2] + 1) * 112
    assert np.allclose(whole, np.round(whole), atol=1e-9)
    assert np.array_equal(np.round(whole), np.trunc(exact) + 1)


def test_colours_are_clipped_and_cut():
    crop = np.array([[[10, 100, 200]]], np.uint8)
    assert change_colors(crop, (0.99, 1.0, 1.4)).tolist() == [[[9, 100, 255]]]
    assert change_colors(crop, (1.0, 1.0, 1.0)) is crop


def test_draws_follow_the_distribution():
    draws = [draw_augmentation(np.random.default_rng((0, 0, i))) for i in range(4000)]
    rotation, scale = np.array([d.rotation_deg for d in draws]), np.array([d.scale for d in draws])
    noise = np.array([d.noise for d in draws])
    assert abs(np.mean([d.flip for d in draws]) - 0.5) < 0.03
    assert abs((rotation == 0).mean() - 0.6) < 0.03 and np.abs(rotation).max() <= 60
    assert abs(rotation[rotation != 0].std() - 29) < 2
    assert (scale.min(), scale.max()) == (0.75, 1.25) and abs((scale == 1.25).mean() - 0.16) < 0.02
    assert noise.min() >= 0.6 and noise.max() <= 1.4 and abs(noise.mean() - 1) < 0.01
    assert draws[7] == draw_augmentation(np.random.default_rng((0, 0, 7)))


def test_parts_and_occluders_leave_the_other_draws_alone():
    config = AugmentConfig(zoom_rate=0.5, occlude_rate=0.25)
    draws, plain = (
        [draw_augmentation(np.random.default_rng((0, 0, i)), c) for i in range(2000)]
        for c in (config, AugmentConfig())
    )
    for draw, other in zip(draws, plain, strict=True):
        assert (draw.flip, draw.noise, draw.rotation_deg) == (other.flip, other.noise, other.rotation_deg)
    parts = [draw for draw in draws if draw.shift != (0.0, 0.0)]
    assert abs(len(parts) / 2000 - 0.5) < 0.04
    assert abs(np.mean([draw.occluder is not None for draw in draws]) - 0.25) < 0.04
    for draw in parts:  # the part lies within the person's box
        center, scale = draw.square(np.array([100.0, 50.0]), 0.5)
        assert np.abs(center - [100, 50]).max() + 100 * scale <= 50 + 1e-9 and 0.35 <= scale / 0.5 <= 0.8


@pytest.mark.parametrize("in_front", [True, False])
def test_a_bystander_is_drawn_before_or_behind_the_person(in_front):
    crop, other = (np.full((224, 224, 3), value, np.uint8) for value in (50, 200))
    mask, other_mask = np.zeros_like(crop), np.zeros_like(crop)
    mask[:, 40:120], other_mask[:, 80:160] = 255, 255
    drawn, left = Bystander(0, (0.5, 0.0), 1.0, in_front).cover(crop, mask, other, other_mask)
    first = 80 if in_front else 120
    assert (drawn[:, first + 1 : 159] == 200).all() and (drawn[:, : first - 1] == 50).all()
    assert (left[:, 40:first] == 255).all() and (left[:, first:] == 0).all()


def test_a_bystander_stands_where_it_was_drawn():
    other = Bystander(0, (0.5, 0.25), 2.0, True)
    center, scale = other.square(np.array([100.0, 60.0]), 0.4)  # a box of 80 px
    assert scale == 0.2  # the crop is half as large
    assert np.allclose(center, [100 - 0.5 * 40, 60 - 0.25 * 40])
    drawn = [draw_bystander(np.random.default_rng(seed), 7) for seed in range(200)]
    assert {one.index for one in drawn} == set(range(7)) and {one.in_front for one in drawn} == {True, False}
    for one in drawn:  # the other person's box touches the crop
        assert abs(one.offset[0]) - one.size / 2 < 0.5 and 0.6 <= one.size <= 1.5


def test_an_occluder_covers_the_image_and_the_mask():
    crop = np.full((224, 224, 3), 7, np.uint8)
    occluder = Occluder(0.25, -0.0, 0.5, 0.25, np.full((2, 3, 3), 200, np.uint8))
    covered = occluder.cover(crop)
    assert (covered[:56, 56:168] == 200).all() and (covered == 200).sum() == 56 * 112 * 3 and (crop == 7).all()
    assert (occluder.hide(crop)[:56, 56:168] == 0).all() and (occluder.hide(crop) == 0).sum() == 56 * 112 * 3
    outside = Occluder(1.2, 0.0, 0.5, 0.5, np.zeros((1, 1, 3), np.uint8))
    assert np.array_equal(outside.cover(crop), crop)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rot_factor", -1), ("noise_factor", 1.5), ("scale_factor", 1), ("zoom_rate", 1.1), ("occlude_rate", -0.1),
        ("crowd_rate", 1.5),
    ],  # fmt: skip
)
def test_impossible_factors(name, value):
    with pytest.raises(ValueError, match=name):
        AugmentConfig(**{name: value})
