"""Targets of a batch: whose body counts, fits and extreme shapes, cameras, and what each label switches on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import unlabelled, with_joints

from models import SMPL
from models.targets import TargetBuilder
from utils.body import resolve_body
from utils.geometry import batch_rodrigues, project_to_crop
from utils.renderer import IUV_Renderer
from utils.structures import BodyFits, Sample

BATCH = 4
CAM = torch.tensor([[0.8, 0.05, 0.2]]).expand(BATCH, 3)


@pytest.fixture(scope="module")
def parts():
    assets = resolve_body("open")
    return SMPL(assets.body, assets.extra), IUV_Renderer(atlas=assets.atlas)


def upright(seed: int) -> torch.Tensor:
    rotvec = 0.2 * torch.randn(BATCH, 72, generator=torch.Generator().manual_seed(seed))
    rotvec[:, :3] = torch.tensor([3.1, 0.0, 0.0])
    return rotvec


@pytest.fixture
def fit() -> BodyFits:
    """Of four people: trusted, not trusted, trusted with a beta of 3.1, trusted with a beta of exactly -3."""
    betas = torch.linspace(-1, 1, BATCH * 10).view(BATCH, 10).clone()
    betas[2, 4], betas[3, 9] = 3.1, -3.0
    return BodyFits(upright(1), betas, torch.tensor([True, False, True, True]))


@pytest.fixture
def batch(parts) -> Sample:
    """Labels for the last person only; keypoints of its body under CAM for all."""
    smpl, _ = parts
    rotvec, betas = upright(2), torch.full((BATCH, 10), 4.0)
    labelled = torch.tensor([False, False, False, True])
    body = smpl(batch_rodrigues(rotvec.view(-1, 3)).view(-1, 24, 3, 3), betas)
    batch = with_joints(unlabelled(BATCH), body, CAM[0])
    return replace(
        batch, rotvec=rotvec * labelled[:, None], betas=betas * labelled[:, None], joints_3d=torch.zeros(BATCH, 24, 4),
        smpl_keypoints=torch.rand(BATCH, 24, 3), has_smpl=labelled, has_joints_3d=torch.zeros_like(labelled),
        dataset=("coco",) * BATCH,
    )  # fmt: skip


def rotmats(rotvec: torch.Tensor) -> torch.Tensor:
    return batch_rodrigues(rotvec.reshape(-1, 3)).view(-1, 24, 3, 3)


def test_labels_win_over_fits(parts, batch, fit):
    targets = TargetBuilder(*parts, lambda _: fit)(batch)
    torch.testing.assert_close(targets.rotmat[:3], rotmats(fit.rotvec[:3]))
    torch.testing.assert_close(targets.rotmat[3], rotmats(batch.rotvec[3])[0])
    assert targets.has_body.tolist() == [True, False, True, True]
    assert targets.has_iuv.tolist() == targets.has_body.tolist()


def test_extreme_shapes_of_fits_become_the_mean_shape(parts, batch, fit):
    """Above 3, not at 3; and never those of labels."""
    targets = TargetBuilder(*parts, lambda _: fit)(batch)
    torch.testing.assert_close(targets.betas[:2], fit.betas[:2])
    assert not targets.betas[2].any() and targets.has_body[2]
    assert torch.equal(targets.betas[3], torch.full((10,), 4.0))
    unlabelled = replace(batch, has_smpl=torch.zeros(BATCH, dtype=torch.bool))
    torch.testing.assert_close(TargetBuilder(*parts, lambda _: fit)(unlabelled).betas[3], fit.betas[3])
    assert fit.betas[2, 4] == 3.1  # the fits themselves are left alone


def test_without_fits_only_labels_count(parts, batch):
    targets = TargetBuilder(*parts)(batch)
    assert targets.has_body.tolist() == targets.has_iuv.tolist() == [False, False, False, True]
    assert targets.centers[..., 2].sum(dim=1).tolist() == [0, 0, 0, 24]


def test_dense_samples_have_points_instead_of_maps(parts, batch, fit):
    """The dense set's bodies are never rendered; annotated people bring their own centres."""
    mixed = replace(
        batch,
        dense_only=torch.tensor([True, False, True, False]),
        has_dense=torch.tensor([True, False, False, False]),
    )
    targets = TargetBuilder(*parts, lambda _: fit)(mixed)
    assert targets.has_body.tolist() == [True, False, True, True]
    assert targets.has_iuv.tolist() == [False, False, False, True]
    assert torch.equal(targets.centers[0], batch.smpl_keypoints[0])
    assert targets.centers[..., 2].sum(dim=1).tolist()[1:] == [0, 0, 24]


def test_the_camera_of_the_keypoints_is_found(parts, batch):
    """For the person whose keypoints belong to the body; maps and centres follow that camera."""
    targets = TargetBuilder(*parts)(batch)
    torch.testing.assert_close(targets.cam[3], CAM[3], atol=1e-4, rtol=1e-3)
    projected = project_to_crop(targets.smpl_joints, CAM)[3]
    torch.testing.assert_close(targets.centers[3, :, :2], projected, atol=1e-3, rtol=0)
    drawn = targets.iuv.index[3].argmax(dim=0) > 0
    assert 100 < drawn.sum() < 2000 and (targets.iuv.index.sum(dim=1) == 1).all()


@pytest.mark.parametrize("known", [0, 1, 2])
def test_too_few_keypoints_give_no_camera(parts, batch, known):
    keypoints = batch.keypoints.clone()
    keypoints[3, 25 + known :, 2] = 0
    keypoints[3, :25, 2] = 1  # those of OpenPose do not count
    targets = TargetBuilder(*parts)(replace(batch, keypoints=keypoints))
    assert bool(targets.has_iuv[3]) == (known >= 2) and targets.has_body[3]
    assert targets.centers[3, :, 2].sum() == (24 if known >= 2 else 0)
    assert targets.cam.isfinite().all() and targets.centers.isfinite().all()


def test_targets_carry_no_gradient(parts, batch, fit):
    grad = replace(batch, betas=batch.betas.clone().requires_grad_())
    targets = TargetBuilder(*parts, lambda _: fit)(grad)
    targets.map(lambda t: pytest.fail("a target wants a gradient") if t.requires_grad else t)


def test_masks_change_the_maps_of_people_who_have_them(parts, batch, fit):
    build, mask = TargetBuilder(*parts, lambda _: fit), torch.full((BATCH, 56, 56), -1)
    plain = build(batch).iuv.index
    mask[2, :, :28], mask[2, :, 28:] = 1, 0
    masked = build(replace(batch, mask=mask)).iuv.index
    assert torch.equal(masked[[0, 1, 3]], plain[[0, 1, 3]])
    assert not masked[2, 1:, :, 28:].any() and masked[2, 1:].sum() > plain[2, 1:, :, :28].sum()
