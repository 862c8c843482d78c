"""The certificate of ground truth: passes for what the body gives, refuses wrong units, roots, orders and bodies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.synthetic.dataset import Draw, SyntheticPeople
from models import SMPL
from models.evaluation.ground_truth_check import check_labels, check_posed, check_stored
from models.evaluation.scorers import JOINT_SETS, JointRegressor
from utils.body import resolve_body
from utils.geometry import batch_rodrigues
from utils.skeleton import GT24_TO_J17, H36M_TO_J17

PEOPLE = 6


@pytest.fixture(scope="module")
def bodies():
    assets = resolve_body("open")
    smpl = SMPL(assets.body, assets.extra, assets.surface)
    return {-1: (smpl, JointRegressor(smpl, assets.h36m))}


@pytest.fixture(scope="module")
def renders():
    people = SyntheticPeople(PEOPLE, split="eval")
    return [people.render(i, Draw(labels_only=True)).body for i in range(PEOPLE)]


@pytest.fixture
def posed(renders):
    fields = ("rotvec", "betas", "smpl_joints")
    rotvec, betas, joints = (np.stack([getattr(r, n) for r in renders]) for n in fields)
    return {"rotvec": rotvec, "betas": betas, "gender": np.full(PEOPLE, -1), "joints": joints}


@pytest.fixture
def stored(renders, bodies):
    smpl, regress = bodies[-1]
    rotmat = torch.stack([batch_rodrigues(torch.from_numpy(r.rotvec).float()) for r in renders])
    joints = regress(smpl(rotmat, torch.from_numpy(np.stack([r.betas for r in renders]))).vertices)
    labels = np.zeros((PEOPLE, 24, 4))
    labels[:, GT24_TO_J17, :3] = (joints - joints[:, :1])[:, H36M_TO_J17]
    labels[:, GT24_TO_J17, 3] = 1
    return labels


def test_own_parameters_pass_whatever_their_origin(posed, bodies):
    certificate = check_posed(**posed | {"joints": posed["joints"] + [1, 2, 3]}, bodies=bodies)
    assert certificate.passed and f"{PEOPLE} samples" in certificate.findings[0]


@pytest.mark.parametrize("change", ["millimetres", "another pose", "another shape", "another gender"])
def test_other_parameters_are_refused(posed, bodies, change):
    if change == "millimetres":
        posed["joints"] = posed["joints"] * 1000
    elif change == "another pose":
        posed["rotvec"] = posed["rotvec"][::-1]
    elif change == "another shape":
        posed["betas"] = posed["betas"] + 1
    else:
        posed["gender"] = np.ones(PEOPLE)
    assert not check_posed(**posed, bodies=bodies).passed


def test_without_stored_joints_it_says_that_nothing_was_compared(posed, bodies):
    certificate = check_posed(**posed | {"joints": None}, bodies=bodies)
    assert certificate.passed and "cannot be compared" in certificate.findings[0]


@pytest.mark.parametrize("name", JOINT_SETS)
def test_root_centred_metres_pass(stored, name):
    certificate = check_stored(stored, JOINT_SETS[name])
    assert certificate.passed, certificate.findings


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda s: s * [1000, 1000, 1000, 1], "outside"),
        (lambda s: s + [0.1, 0, 0, 0], "100.000 mm"),
        (lambda s: s[:, np.roll(np.arange(24), 3)], "outside"),
        (lambda s: s * [1, 1, 1, 0], f"in {PEOPLE} of them"),
    ],
    ids=["millimetres", "not centred", "another order", "no annotation"],
)
def test_wrong_stored_joints_are_refused(stored, change, finding):
    certificate = check_stored(change(stored), JOINT_SETS["J17"])
    assert not certificate.passed and finding in " ".join(certificate.findings)


def test_labels():
    mask, parts = np.ones((4, 5), np.uint8), np.full((4, 5), 255, np.uint8)
    parts[0] = 6
    assert check_labels([("a", mask, parts, (4, 5))]).passed
    for wrong in ((mask, parts + 1, (4, 5)), (mask, parts, (5, 4)), (mask * 0, parts, (4, 5))):
        certificate = check_labels([("a", mask, parts, (4, 5)), ("b", *wrong)])
        assert not certificate.passed and "b: " in certificate.findings[0]


def test_the_body_matters(posed, bodies):
    smpl, regress = bodies[-1]
    assets = resolve_body("open")
    other = SMPL(replace(assets.body, v_template=assets.body.v_template * 1.05), assets.extra, assets.surface)
    assert not check_posed(**posed, bodies={-1: (other, regress)}).passed
