"""Confidence: 1 where everything agrees, less for each thing that does not, 0 where the network sees no person."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.fitting.refinement import bounded
from models.inference import confidence
from models.inference.confidence import (
    CENTER_ERROR,
    FULL_AGREEMENT,
    KEYPOINT_ERROR,
    MAX_BETA,
    own_confidence,
    why_no_body,
    with_keypoints,
)
from utils.geometry import project_to_crop
from utils.structures import SMPLParams

CENTER, SCALE = (300.0, 200.0), 1.5


def image(part: int, rows: slice) -> torch.Tensor:
    """An IUV image whose rows show one part."""
    shown = torch.zeros(1, 3, 56, 56)
    shown[:, 0, rows] = part / 24
    return shown


def own(seen, rendered, error=0.0, largest=0.0):
    error = None if error is None else torch.tensor([error])
    betas = torch.zeros(1, 10)
    betas[0, 3] = -largest
    return float(own_confidence((seen * 24).round().byte().numpy(), rendered, error, betas)[0])


def test_a_body_that_covers_what_is_seen_is_certain():
    seen = image(5, slice(10, 30))
    assert own(seen, seen) == own(seen, seen, None) == 1


def test_agreement_counts_same_parts_among_all_pixels_of_both():
    seen, rendered = image(5, slice(10, 30)), image(5, slice(20, 50))
    assert own(seen, rendered, None) == pytest.approx(10 / 40 / FULL_AGREEMENT)
    assert own(seen, image(6, slice(10, 30)), None) == 0
    assert own(seen, torch.zeros(1, 3, 56, 56), None) == 0


def test_centres_and_shape_lower_it():
    seen = image(5, slice(10, 30))
    assert own(seen, seen, CENTER_ERROR) == pytest.approx((1 + math.exp(-1)) / 2)
    shapes = [own(seen, seen, 0.0, largest) for largest in (2.0, 2.5, MAX_BETA, 16.0)]
    assert shapes == pytest.approx([1, 0.75, 0.5, 0.5])


def test_an_empty_map_is_no_confidence_whatever_the_body():
    few = torch.zeros(1, 3, 56, 56)
    few[0, 0, 0, :31] = 1  # of 3136 pixels
    assert own(few, few) == 0 and own(image(1, slice(0, 1)), image(1, slice(0, 1))) == 1


def person(own=0.6):
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 0.3, (49, 3)).astype(np.float32)
    arrays = {"joints": joints, "cam": np.float32([0.9, 0.1, -0.05]), "confidence": np.float32(own)}
    points = project_to_crop(torch.from_numpy(joints)[None], torch.from_numpy(arrays["cam"])[None])[0].numpy()
    pixels = np.array(CENTER) + points[confidence.COCO17_FROM_49] * 100 * SCALE
    return arrays, np.column_stack([pixels, np.full(17, 0.5)])


def test_detected_keypoints_count_half():
    arrays, keypoints = person()
    assert with_keypoints(arrays, keypoints, CENTER, SCALE) == pytest.approx((0.6 + 1) / 2, abs=1e-4)
    off = keypoints + [KEYPOINT_ERROR * 100 * SCALE, 0, 0]
    assert with_keypoints(arrays, off, CENTER, SCALE) == pytest.approx((0.6 + math.exp(-1)) / 2, abs=1e-4)
    keypoints[:9, :2] = 1e6  # far away, and unsure
    keypoints[:9, 2] = 0.1
    assert with_keypoints(arrays, keypoints, CENTER, SCALE) == pytest.approx(0.8, abs=1e-4)


def test_without_sure_keypoints_or_without_a_map_the_networks_own_stands():
    arrays, keypoints = person()
    assert with_keypoints(arrays, None, CENTER, SCALE) == pytest.approx(0.6)
    assert with_keypoints(arrays, keypoints * [1, 1, 0.2], CENTER, SCALE) == pytest.approx(0.6)
    assert with_keypoints(person(0.0)[0], keypoints, CENTER, SCALE) == 0


def test_shapes_are_bounded_and_numbers_that_are_none_stay():
    betas = torch.tensor([[-9.0, 2.9, 3.1, math.nan, math.inf]])
    found = bounded(SMPLParams(torch.ones(1, 3), betas, torch.eye(3).repeat(1, 24, 1, 1))).betas[0]
    assert found[:3].tolist() == [-3.0, pytest.approx(2.9), 3.0] and not found[3:].isfinite().any()


def test_what_is_no_body_is_said():
    good = {"vertices": np.zeros((4, 3)), "cam": np.float32([1, 0, 0]), "iuv": np.ones((3, 56, 56), np.uint8)}
    assert why_no_body(good) == ""
    assert "not finite" in why_no_body({**good, "vertices": np.full((4, 3), np.nan)})
    assert "behind the camera" in why_no_body({**good, "cam": np.float32([-1, 0, 0])})
    assert "map is empty" in why_no_body({**good, "iuv": np.zeros((3, 56, 56), np.uint8)})
