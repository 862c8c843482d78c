"""Rows of single samples: no error for the truth itself, known errors for known offsets, bodies never mixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.loading import load_batches
from datasets.synthetic.dataset import Draw, SyntheticPeople
from models import SMPL
from models.evaluation.scorers import (
    JOINT_SETS,
    JointRegressor,
    JointScorer,
    KeypointScorer,
    PartScorer,
    PosedTruth,
    StoredTruth,
)
from utils.body import resolve_body
from utils.geometry import batch_rodrigues, estimate_translation, translation_to_cam
from utils.renderer.lsp_parts import PartRenderer, TrueParts, face_classes
from utils.skeleton import GT24_TO_COCO17, GT24_TO_J17, H36M_TO_J17
from utils.structures import SMPLParams

PEOPLE = 4


@pytest.fixture(scope="module")
def assets():
    return resolve_body("open")


@pytest.fixture(scope="module")
def smpl(assets):
    return SMPL(assets.body, assets.extra, assets.surface)


@pytest.fixture(scope="module")
def regress(smpl, assets):
    return JointRegressor(smpl, assets.h36m)


@pytest.fixture(scope="module")
def batch():
    people = SyntheticPeople(PEOPLE, split="eval", draw=Draw(labels_only=True))
    return next(iter(load_batches(people, PEOPLE, 0)))


@pytest.fixture(scope="module")
def truth(batch, smpl):
    rotmat = batch_rodrigues(batch.rotvec.view(-1, 3)).view(-1, 24, 3, 3)
    joints = smpl(rotmat, batch.betas).joints
    keypoints = torch.cat([(batch.keypoints[..., :2] + 1) * 112, torch.ones(PEOPLE, 49, 1)], dim=-1)
    return SMPLParams(translation_to_cam(estimate_translation(joints, keypoints)), batch.betas, rotmat)


def stored(batch, truth, smpl, regress):
    """The batch with root-centred H36M joints where those of H36M and MPI-INF-3DHP are stored."""
    joints = regress(smpl(truth.rotmat, truth.betas).vertices)
    labels = torch.zeros(PEOPLE, 24, 4)
    labels[:, GT24_TO_J17, :3] = (joints - joints[:, :1])[:, H36M_TO_J17]
    labels[:, GT24_TO_J17, 3] = 1
    return replace(batch, joints_3d=labels)


@pytest.mark.parametrize("name", JOINT_SETS)
def test_the_truth_has_no_error(name, batch, truth, smpl, regress):
    joint_set = JOINT_SETS[name]
    posed = PosedTruth(joint_set, {-1: (smpl, regress)})
    rows = JointScorer(smpl, regress, joint_set, posed)(truth, batch)
    for error in ("mpjpe", "pa_mpjpe", "pve"):
        assert np.abs(rows[error]).max() < 1e-6
    rows = JointScorer(smpl, regress, joint_set, StoredTruth(joint_set))(truth, stored(batch, truth, smpl, regress))
    assert np.abs(rows["joint_error"]).max() < 1e-6 and "pve" not in rows
    assert rows["pred_joints"].shape == (PEOPLE, 17, 3) and rows["pose"].shape == (PEOPLE, 72)


def test_known_errors(batch, truth, smpl, regress):
    """A stretched truth is a known MPJPE and, since a similarity explains it, no PA-MPJPE."""
    joint_set, labelled = JOINT_SETS["J14"], stored(batch, truth, smpl, regress)
    stretched = replace(labelled, joints_3d=labelled.joints_3d * torch.tensor([1.1, 1.1, 1.1, 1]))
    rows = JointScorer(smpl, regress, joint_set, StoredTruth(joint_set))(truth, stretched)
    length = labelled.joints_3d[:, list(joint_set.stored), :3].norm(dim=-1).mean(dim=1)
    np.testing.assert_allclose(rows["mpjpe"], 0.1 * length, rtol=1e-3)
    assert np.abs(rows["pa_mpjpe"]).max() < 1e-5
    moved = replace(labelled, joints_3d=labelled.joints_3d + torch.tensor([0.03, 0, 0.04, 0]))
    rows = JointScorer(smpl, regress, joint_set, StoredTruth(joint_set))(truth, moved)
    np.testing.assert_allclose(rows["joint_error"], 0.05, atol=1e-6)  # stored truth is never centred


def test_the_true_body_follows_the_gender(batch, truth, smpl, regress, assets):
    taller = SMPL(replace(assets.body, v_template=assets.body.v_template * 1.1), assets.extra, assets.surface)
    bodies = {0: (smpl, regress), 1: (taller, JointRegressor(taller, assets.h36m))}
    mixed = replace(batch, gender=torch.tensor([0, 1, 0, 1]))
    joint_set = JOINT_SETS["J14"]
    rows = JointScorer(smpl, regress, joint_set, PosedTruth(joint_set, bodies))(truth, mixed)
    assert rows["mpjpe"][[0, 2]].max() < 1e-6 < 0.01 < rows["mpjpe"][[1, 3]].min()


def test_a_regressor_of_another_body_is_refused(smpl, assets):
    with pytest.raises(ValueError, match="belongs to the body 'other'"):
        JointRegressor(smpl, replace(assets.h36m, model_id="other"))


def test_keypoints_land_on_the_labels_in_the_picture(batch, truth, smpl):
    placed = replace(batch, center=torch.tensor([[300.0, 200.0]] * PEOPLE), scale=torch.full((PEOPLE,), 2.24))
    rows = KeypointScorer(smpl)(truth, placed)
    labels = batch.keypoints[:, 25:, :2][:, list(GT24_TO_COCO17)].numpy() * 112 * 2 + [300, 200]
    assert np.abs(rows["keypoints"] - labels).max() < 0.1


def test_own_parts_are_all_right_and_those_of_another_person_are_not(batch, truth, smpl, assets):
    classes, _ = face_classes(assets.body, "data")
    renderer = PartRenderer(assets.body.faces, classes)
    scorer = PartScorer(smpl, renderer)
    parts = np.asarray(renderer(smpl(truth.rotmat, truth.betas).vertices, truth.cam))
    extras = [TrueParts((p > 0).astype(np.uint8), p, np.array([112.0, 112.0]), 224 / 200) for p in parts]
    rows = scorer(truth, batch, extras)
    for name, classes in (("mask_counts", 2), ("part_counts", 7)):
        counts = rows[name][:, :classes]
        assert (counts.sum(axis=(1, 2)) == 224 * 224).all()
        assert (counts * ~np.eye(classes, dtype=bool)).sum() == 0
    wrong = scorer(truth, batch, extras[::-1])["part_counts"][:, :7]
    assert (wrong * ~np.eye(7, dtype=bool)).sum() > 1000
