"""Scores: goldens and properties."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from utils.iuvmap import iuv_img2map
from utils.metrics import iuv_scores, mpjpe, pa_mpjpe, similarity_align


def test_procrustes_golden(golden):
    with np.load(golden / "functions.npz") as file:
        source, target, error = (torch.from_numpy(file[f"procrustes__{k}"]) for k in ("S1", "S2", "err"))
        aligned = torch.from_numpy(file["procrustes__aligned"])
    torch.testing.assert_close(pa_mpjpe(source, target), error.float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(similarity_align(source, target), aligned, atol=1e-7, rtol=0)


def test_pa_mpjpe_ignores_similarities_but_not_mirrors():
    joints = torch.randn(10, 14, 3)
    turn = torch.from_numpy(Rotation.random(10, random_state=1).as_matrix()).float()
    moved = 2.5 * joints @ turn + torch.randn(10, 1, 3)
    assert pa_mpjpe(moved, joints).max() < 1e-5
    assert pa_mpjpe(joints * torch.tensor([1.0, 1.0, -1.0]), joints).min() > 0.1


def test_known_offset_is_the_mpjpe():
    joints = torch.randn(3, 24, 3)
    torch.testing.assert_close(
        mpjpe(joints + torch.tensor([0.03, 0.0, 0.04]), joints), torch.full((3,), 0.05)
    )


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


def test_empty_picture_is_left_out():
    empty = iuv_img2map(torch.zeros(1, 3, 4, 4))
    assert all(value.isnan().all() for value in iuv_scores(empty, empty).values())
