"""Scores: goldens and properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from utils.iuvmap import iuv_img2map
from utils.metrics import (
    accuracy,
    action_of,
    by_action,
    confusion_counts,
    iuv_scores,
    limb_errors,
    mask_iou,
    mean_f1,
    mpjpe,
    pa_mpjpe,
    pck,
    pck_of_errors,
    similarity_align,
)


def svd_align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Procrustes of one sample by the reflection-corrected singular value decomposition."""
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    u, singular, vt = np.linalg.svd(x.T @ y)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (singular * sign).sum() / (x**2).sum() * x @ ((u * sign) @ vt) + target.mean(axis=0)


def test_procrustes_golden(golden):
    with np.load(golden / "functions.npz") as file:
        source, target, error = (torch.from_numpy(file[f"procrustes__{k}"]) for k in ("S1", "S2", "err"))
        aligned, mean = torch.from_numpy(file["procrustes__aligned"]), file["procrustes__mean"].item()
    torch.testing.assert_close(similarity_align(source, target), aligned, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(mpjpe(similarity_align(source, target), target), error, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(pa_mpjpe(source, target), error.float(), atol=1e-6, rtol=0)
    assert abs(pa_mpjpe(source, target).mean().item() - mean) < 1e-6


@pytest.mark.parametrize("kind", ["noisy", "unrelated", "mirrored", "flat", "scarce"])
def test_alignment_is_that_of_singular_values(kind):
    rng = np.random.default_rng(3)
    target = rng.normal(size=(20, 14, 3))
    source = {
        "noisy": target + 0.1 * rng.normal(size=target.shape),
        "unrelated": rng.normal(size=target.shape),
        "mirrored": target * [1, 1, -1] + 0.01 * rng.normal(size=target.shape),
        "flat": target * [1, 1, 0] + [3, 2, 1],
        "scarce": target + 0.1 * rng.normal(size=target.shape),
    }[kind]
    if kind == "scarce":  # three points span a plane only
        source, target = source[:, :3], target[:, :3]
    ours = similarity_align(torch.from_numpy(source), torch.from_numpy(target)).numpy()
    theirs = np.stack([svd_align(s, t) for s, t in zip(source, target, strict=True)])
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_pa_mpjpe_ignores_similarities_but_not_mirrors():
    joints = torch.randn(200, 14, 3, dtype=torch.float64)
    turn = torch.from_numpy(Rotation.random(200, random_state=1).as_matrix())
    scale = torch.logspace(-3, 3, 200, dtype=torch.float64)[:, None, None]
    moved = scale * joints @ turn + 10 * torch.randn(200, 1, 3)
    assert pa_mpjpe(moved, joints).max() < 1e-9
    assert pa_mpjpe(moved.float(), joints.float())[100:].max() < 1e-5
    assert pa_mpjpe(joints * torch.tensor([1.0, 1.0, -1.0]), joints).min() > 0.1


def test_a_broken_sample_scores_nan_and_leaves_the_others_alone():
    pred, joints = torch.randn(3, 14, 3), torch.randn(3, 14, 3)
    expected = pa_mpjpe(pred, joints)
    pred[1, 2, 0] = float("nan")
    assert pa_mpjpe(pred, joints).isnan().tolist() == [False, True, False]
    pred[1, 2, 0] = float("inf")
    error = pa_mpjpe(pred, joints)
    assert error.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(error[[0, 2]], expected[[0, 2]])


def test_pck_by_hand():
    true = torch.zeros(3, 4, 2)
    pred = torch.tensor([[3.0, 4.0], [0.0, 5.1], [0.0, 0.0], [90.0, 0.0]]).expand(3, 4, 2)
    visible = torch.tensor([[1.0, 0.5, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    score = pck(pred, true, visible, torch.tensor([50.0, 51.0, 50.0]), 0.1)
    torch.testing.assert_close(score[:2], torch.tensor([2 / 3, 3 / 4]))  # exactly at the threshold counts
    assert score[2].isnan()
    score = pck(pred, true, visible > 0, torch.full((3,), 50.0), 0.1)
    torch.testing.assert_close(score[:2], torch.tensor([2 / 3, 2 / 4]))


def test_actions_of_image_names():
    names = {
        "images/S9_Walking_1.54138969_000001.jpg": "Walking",
        "S11_WalkDog.60457274_000001.jpg": "WalkDog",
        "a.b/c_d/S9_SittingDown_1.54138969_000101.jpg": "SittingDown",
        "images\\S9_Photo_1.60457274_000001.jpg": "Photo",
    }
    assert {name: action_of(name) for name in names} == names
    for name in ("images/im1001.jpg", "S9_/x.jpg", "", "S9_.jpg", "some_folder/picture.jpg"):
        with pytest.raises(ValueError, match="names no action"):
            action_of(name)


def test_means_by_action():
    words = "S9_Walking.1 S9_Eating_1.1 S11_Walking_1.2 S9_Posing.1 S9_Eating.3"
    names = [f"{word}.jpg" for word in words.split()]
    table = by_action(names, [3.0, 1.0, 5.0, float("nan"), float("nan")])
    assert list(table) == ["Eating", "Posing", "Walking"]
    assert table["Eating"] == 1.0 and table["Walking"] == 4.0 and np.isnan(table["Posing"])
    assert by_action([], []) == {}
    with pytest.raises(ValueError, match="im1001"):
        by_action(["S9_Walking.1.jpg", "im1001.jpg"], [1.0, 2.0])
    with pytest.raises(ValueError, match="1 for 2"):
        by_action(names[:2], [1.0])


def test_mask_scores_by_hand():
    """10 pixels: 4 true positives, 1 false positive, 2 false negatives, 3 true negatives."""
    true = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.uint8)
    pred = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.uint8)
    counts = confusion_counts(pred, true, 2)
    assert counts.dtype == np.int64 and counts.tolist() == [[3, 1], [2, 4], [0, 0]]
    assert accuracy(counts) == pytest.approx(0.7)
    assert mean_f1(counts) == pytest.approx((2 * 4 / (8 + 1 + 2) + 2 * 3 / (6 + 1 + 2)) / 2)


def test_unknown_pixels_of_parts_by_hand():
    """Unknown pixels are true background to the accuracy and no pixels at all to F1."""
    true = np.array([[255, 255, 255, 1, 1, 0, 2]], np.uint8)
    pred = np.array([[0, 1, 3, 1, 0, 0, 2]], np.uint8)
    counts = confusion_counts(pred, true, 7)
    assert counts.shape == (8, 7) and counts.sum() == 7 and counts[7].tolist() == [1, 1, 0, 1, 0, 0, 0]
    assert accuracy(counts) == pytest.approx(4 / 7)
    f1 = {0: 2 / 3, 1: 2 / 3, 2: 1.0}  # class 3 stands on an unknown pixel only: it has no F1
    assert mean_f1(counts) == pytest.approx(sum(f1.values()) / 3)


@pytest.mark.parametrize(
    ("pred", "true", "words"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), "map the prediction back"),
        (np.full((2, 2), 7), np.zeros((2, 2)), "predicted labels span 7..7, expected 0..6."),
        (np.full((2, 2), 255), np.zeros((2, 2)), "predicted labels span"),
        (np.zeros((2, 2)), np.full((2, 2), 7), "true labels span 7..7, expected 0..6 or 255"),
    ],
)
def test_label_images_that_do_not_fit_are_refused(pred, true, words):
    with pytest.raises(ValueError, match=words):
        confusion_counts(pred.astype(np.uint8), true.astype(np.uint8), 7)


def test_iuv_scores_by_hand():
    """Four pixels: right part, wrong part, missed, false alarm."""
    target, pred = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    target[0, 0] = torch.tensor([[2.0, 3.0], [4.0, 0.0]]) / 24
    pred[0, 0] = torch.tensor([[2.0, 5.0], [0.0, 1.0]]) / 24
    target[0, 1:, 0, 0] = 0.5
    pred[0, 1:, 0, 0] = torch.tensor([0.7, 0.5])
    scores = iuv_scores(iuv_img2map(pred), iuv_img2map(target))
    assert scores["foreground_iou"].item() == 0.5
    assert abs(scores["part_accuracy"].item() - 1 / 3) < 1e-6
    assert abs(scores["uv_error"].item() - 0.1) < 1e-6


def test_limbs_are_measured_by_the_torso():
    """A torso of 100 px: a joint 19 px away is right, one 21 px away is not; who has no torso has no score."""
    true = np.zeros((3, 17, 3))
    true[:, 5:, 2] = 1
    true[:, [5, 6], :2], true[:, [11, 12], :2] = [[0, 0], [40, 0]], [[10, 100], [30, 100]]
    points = true[:, 5:, :2].copy()
    points[0, 0] += [19, 0]
    points[0, 1] += [0, 21]
    true[1, 6, 2], true[1, 9, 2] = 0, 0  # one shoulder is enough, and the wrist does not count
    true[2, [11, 12], 2] = 0
    errors = limb_errors(points, true, np.zeros(3))
    np.testing.assert_allclose(errors[0, :3], [0.19, 0.21, 0])
    assert np.isnan(errors[1, [1, 4]]).all() and np.isfinite(errors[1]).sum() == 10 and np.isnan(errors[2]).all()
    assert pck_of_errors(errors, 0.2) == pytest.approx(21 / 22)
    np.testing.assert_allclose(limb_errors(points, true, np.full(3, 200.0))[0, 0], 19 / 200)  # foreshortened
    assert np.isnan(pck_of_errors(errors[2], 0.2))


def test_iou_of_masks():
    a, b = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    a[0, :2], b[0, 1:3] = True, True
    assert mask_iou(a, b).tolist() == [pytest.approx(1 / 3), 0]
