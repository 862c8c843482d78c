"""One-Euro filters against their closed forms: constants, first samples, steps, noise, lag, no smoothing at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from utils.smoothing import OneEuro, RotationFilter, VectorFilter, smoothing_factor

CALM = OneEuro(min_cutoff=1.0, beta=0.0)


def turns(rotvec: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(rotvec).as_matrix()


def angles(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (Rotation.from_matrix(one).inv() * Rotation.from_matrix(two)).magnitude()


def test_share_is_that_of_an_rc_filter():
    assert smoothing_factor(1.0, 1 / (2 * math.pi)) == pytest.approx(0.5)
    assert smoothing_factor(np.array([0.5, math.inf]), 1 / math.pi) == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("settings", [CALM, OneEuro(0.3, 2.0), OneEuro(math.inf, 0.0)])
def test_the_first_value_passes_and_a_constant_stays(settings):
    vector, rotation = VectorFilter(settings), RotationFilter(settings)
    value, pose = np.array([3.0, -1.0]), turns(np.random.default_rng(0).normal(0, 2, (24, 3)))
    for seconds in (0.0, 0.1, 0.15, 2.0):
        assert vector(value, seconds) == pytest.approx(value)
        assert rotation(pose, seconds) == pytest.approx(pose)


def test_a_step_follows_the_exponential_of_its_cutoff():
    """Without beta, what is left of a step falls by 1 - alpha a frame, for numbers and for angles."""
    vector, rotation = VectorFilter(CALM), RotationFilter(CALM)
    axis = np.array([1.0, 2.0, -2.0]) / 3
    vector(np.zeros(1), 0.0)
    rotation(turns(np.zeros((1, 3))), 0.0)
    left, seconds, target = 1.0, 0.0, turns(3.0 * axis[None])
    for step in np.random.default_rng(2).uniform(0.01, 0.1, 60):
        seconds, left = seconds + step, left * (1 - smoothing_factor(1.0, step))
        assert vector(np.ones(1), seconds) == pytest.approx([1 - left])
        assert angles(rotation(target, seconds), target) == pytest.approx([3.0 * left], abs=1e-9)
    assert left < 1e-6


def test_noise_falls_to_what_a_low_pass_filter_leaves():
    """Of white noise, alpha / (2 - alpha) of the variance is left."""
    vector = VectorFilter(CALM)
    noise = np.random.default_rng(4).normal(size=(4000, 1))
    out = np.array([vector(value, i / 30) for i, value in enumerate(noise)])
    alpha = smoothing_factor(1.0, 1 / 30)
    assert out[100:].var() == pytest.approx(alpha / (2 - alpha), rel=0.15)


@pytest.mark.parametrize("rate", [30, 120])
def test_the_lag_of_an_even_motion_is_that_of_its_cutoff(rate):
    """Something at v units a second is followed v / (2 pi cutoff) behind.

    The speed in cutoff = min_cutoff + beta speed is counted from the filtered value, v + rate lag, as in the paper.
    """
    speed, settings = 2.0, OneEuro(0.5, 1.0)
    roots = np.roots([2 * math.pi * settings.beta * rate, 2 * math.pi * (0.5 + settings.beta * speed), -speed])
    vector, rotation = VectorFilter(settings), RotationFilter(settings)
    for i in range(20 * rate):
        seconds = i / rate
        pose = turns(np.array([[0.0, speed * seconds, 0.0]]))
        value, turned = vector(np.array([speed * seconds]), seconds), rotation(pose, seconds)
    assert speed * seconds - value[0] == pytest.approx(max(roots), rel=1e-6)
    assert angles(turned, pose) == pytest.approx([max(roots)], rel=1e-6)


def test_reflections_and_singular_matrices_become_the_nearest_rotations():
    """As networks give them whose matrices come as they are."""
    pose = turns(np.random.default_rng(6).normal(size=(3, 3)))
    for i in range(3):
        rotation = RotationFilter(CALM)
        for step, depth in enumerate((0.02, 0.0, -0.02)):  # nearly flat, flat, mirrored
            matrices = pose.copy()
            matrices[i] = pose[i] @ np.diag([1.0, 0.9, depth])
            assert np.linalg.det(matrices[i]) == pytest.approx(0.9 * depth)
            assert rotation(matrices, step / 30) == pytest.approx(pose)


@pytest.mark.parametrize("kind", [VectorFilter, RotationFilter])
def test_time_must_go_on(kind):
    smooth, value = kind(CALM), np.eye(3)[None] if kind is RotationFilter else np.zeros(3)
    smooth(value, 1.0)
    with pytest.raises(ValueError, match="order of time"):
        smooth(value, 1.0)


@pytest.mark.parametrize("numbers", [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1), (1.0, math.inf), (math.nan, 0.0)])
def test_settings_are_checked(numbers):
    with pytest.raises(ValueError, match="min_cutoff"):
        OneEuro(*numbers)
