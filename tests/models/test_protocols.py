"""Protocols on single people: no error for the truth itself, known errors for known offsets, checks of the truth."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.loading import load_batches
from datasets.synthetic.dataset import Draw, SyntheticPeople
from models import SMPL
from models.evaluation.coco import Keypoints
from models.evaluation.joints import J14, J17, JointRegressor, PosedBodies, StoredJoints, require_bodies
from models.evaluation.parts import PartLabels, check_label_images
from models.evaluation.photographs import PeopleInPhotographs
from models.evaluation.resumable import Results
from utils.body import resolve_body
from utils.geometry import batch_rodrigues, estimate_translation, translation_to_cam
from utils.iuvmap import iuv_img2map
from utils.renderer import IUV_Renderer
from utils.renderer.lsp_parts import TrueParts
from utils.skeleton import GT24_TO_COCO17, GT24_TO_J17, H36M_TO_J17
from utils.structures import DaNetOutput, IUVEstimate, SMPLEstimate, SMPLParams

PEOPLE = 4


@pytest.fixture(scope="module")
def predictor():
    """Stands for a `Predictor`: the open body without a network."""
    assets = resolve_body("open")
    smpl = SMPL(assets.body, assets.extra, assets.surface)
    return SimpleNamespace(smpl=smpl, assets=assets, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def batch():
    people = SyntheticPeople(PEOPLE, split="eval", draw=Draw(labels_only=True))
    return next(iter(load_batches(people, PEOPLE, 0)))


@pytest.fixture(scope="module")
def truth(batch, predictor):
    rotmat = batch_rodrigues(batch.rotvec.view(-1, 3)).view(-1, 24, 3, 3)
    joints = predictor.smpl(rotmat, batch.betas).joints
    keypoints = torch.cat([(batch.keypoints[..., :2] + 1) * 112, torch.ones(PEOPLE, 49, 1)], dim=-1)
    return SMPLParams(translation_to_cam(estimate_translation(joints, keypoints)), batch.betas, rotmat)


@pytest.fixture(scope="module")
def predicted(truth):
    """The output of a network without maps that is always right."""
    return DaNetOutput(None, SMPLEstimate(truth))


@pytest.fixture(scope="module")
def joints(truth, predictor):
    """Root-centred H36M joints where those of H36M and MPI-INF-3DHP are stored."""
    vertices = predictor.smpl(truth.rotmat, truth.betas).vertices
    regressed = JointRegressor(predictor.smpl, predictor.assets.h36m)(vertices)
    labels = np.zeros((PEOPLE, 24, 4))
    labels[:, GT24_TO_J17, :3] = (regressed - regressed[:, :1])[:, H36M_TO_J17]
    labels[:, GT24_TO_J17, 3] = 1
    return labels


def labelled(batch, joints):
    return replace(batch, joints_3d=torch.from_numpy(joints).float())


# --------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("joint_set", [J14, J17], ids=["J14", "J17"])
def test_the_truth_has_no_error(joint_set, batch, predicted, joints, predictor, tmp_path):
    rows = PosedBodies(predictor, joint_set, {-1: predictor.smpl}, "", lambda: None).score(predicted, batch)
    for error in ("mpjpe", "pa_mpjpe", "pve"):
        assert np.abs(rows[error]).max() < 1e-6
    rows = StoredJoints(predictor, joint_set, joints, tmp_path).score(predicted, labelled(batch, joints))
    assert np.abs(rows["joint_error"]).max() < 1e-6 and "pve" not in rows
    assert rows["pred_joints"].shape == (PEOPLE, 17, 3) and rows["pose"].shape == (PEOPLE, 72)


def test_known_errors(batch, predicted, joints, predictor, tmp_path):
    """A stretched truth is a known MPJPE and, since a similarity explains it, no PA-MPJPE."""
    protocol = StoredJoints(predictor, J14, joints, tmp_path)
    rows = protocol.score(predicted, labelled(batch, joints * [1.1, 1.1, 1.1, 1]))
    length = np.linalg.norm(joints[:, J14.stored, :3], axis=-1).mean(axis=1)
    np.testing.assert_allclose(rows["mpjpe"], 0.1 * length, rtol=1e-3)
    assert np.abs(rows["pa_mpjpe"]).max() < 1e-5
    assert [str(s) for s in protocol.scores(rows)][0] == f"{rows['mpjpe'].mean() * 1000:.2f} mm"
    rows = protocol.score(predicted, labelled(batch, joints + [0.03, 0, 0.04, 0]))
    np.testing.assert_allclose(rows["joint_error"], 0.05, atol=1e-6)  # stored truth is never centred


def test_the_true_body_follows_the_gender(batch, predicted, predictor):
    assets = predictor.assets
    taller = SMPL(replace(assets.body, v_template=assets.body.v_template * 1.1), assets.extra, assets.surface)
    mixed = replace(batch, gender=torch.tensor([0, 1, 0, 1]))
    rows = PosedBodies(predictor, J14, {0: predictor.smpl, 1: taller}, "", lambda: None).score(predicted, mixed)
    assert rows["mpjpe"][[0, 2]].max() < 1e-6 < 0.01 < rows["mpjpe"][[1, 3]].min()


class Labels(SimpleNamespace):
    def __len__(self):
        return PEOPLE


def test_keypoints_land_on_the_labels_in_the_image(batch, predicted, predictor):
    placed = replace(batch, center=torch.tensor([[300.0, 200.0]] * PEOPLE), scale=torch.full((PEOPLE,), 2.24))
    rows = Keypoints(predictor, Labels(keypoints=None), {}, []).score(predicted, placed)
    labels = batch.keypoints[:, 25:, :2][:, list(GT24_TO_COCO17)].numpy() * 112 * 2 + [300, 200]
    assert np.abs(rows["keypoints"] - labels).max() < 0.1


def test_a_person_agrees_with_its_own_mask_and_limbs(batch, predicted, truth, predictor):
    """A network that draws the true body scores 1; one whose people are moved by a fifth of the crop does not."""
    image = IUV_Renderer(atlas=predictor.assets.atlas).verts2uvimg(
        predictor.smpl(truth.rotmat, truth.betas).vertices, truth.cam
    )
    estimate = IUVEstimate(iuv_img2map(image), None, torch.zeros(0), batch.smpl_keypoints[..., :2], None)
    true = (image[:, 0] > 0).numpy()
    keypoints = batch.keypoints.double().numpy()
    keypoints[..., :2] = keypoints[..., :2] * 112 + 112
    labels = Labels(keypoints=keypoints, scale=np.full(PEOPLE, 1.12), center=np.full((PEOPLE, 2), 112.0))
    placed = replace(batch, center=torch.full((PEOPLE, 2), 112.0), scale=torch.full((PEOPLE,), 1.12))
    protocol = PeopleInPhotographs(predictor, labels, lambda index: true[index])

    def scores(output):
        rows = protocol.score(output, placed, list(true))
        results = Results(rows, np.ones(PEOPLE, np.int64), ())
        assert protocol.compare(results, 0, np.zeros((224, 224, 3), np.uint8)).shape == (224, 448, 3)
        return {one.name: one.value for one in protocol.summary(results, [""] * PEOPLE).scores}

    right = scores(replace(predicted, iuv=estimate))
    assert right.pop("PCK@0.2 centres") > 0.9  # SMPL's hips are not where hips are labelled
    assert right == dict.fromkeys(("IoU map", "IoU body", "PCK@0.2 body"), 1.0)
    moved = replace(truth, cam=truth.cam + torch.tensor([0, 0.4, 0]))
    wrong = scores(replace(predicted, iuv=estimate, smpl=SMPLEstimate(moved)))
    assert wrong["IoU body"] < 0.5 and wrong["PCK@0.2 body"] < 0.5 and wrong["IoU map"] == 1


def test_own_parts_are_all_right_and_those_of_another_person_are_not(batch, predicted, truth, predictor):
    protocol = PartLabels(predictor, None, "data", None)
    parts = np.asarray(protocol.renderer(predictor.smpl(truth.rotmat, truth.betas).vertices, truth.cam))
    extras = [TrueParts((p > 0).astype(np.uint8), p, np.array([112.0, 112.0]), 224 / 200) for p in parts]
    rows = protocol.score(predicted, batch, extras)
    for name, classes in (("mask_counts", 2), ("part_counts", 7)):
        counts = rows[name][:, :classes]
        assert (counts.sum(axis=(1, 2)) == 224 * 224).all()
        assert (counts * ~np.eye(classes, dtype=bool)).sum() == 0
    assert [score.value for score in protocol.scores(rows)] == [1, 1, 1, 1]
    wrong = protocol.score(predicted, batch, extras[::-1])["part_counts"][:, :7]
    assert (wrong * ~np.eye(7, dtype=bool)).sum() > 1000


# ----------------------------------------------------------------------------------------- checks of the truth


def posed(predictor, bodies=None, **changes):
    return lambda labels: PosedBodies(
        predictor, J14, bodies or {-1: predictor.smpl}, "", lambda: SimpleNamespace(**vars(labels) | changes)
    ).check()


@pytest.fixture
def labels(batch, truth, predictor):
    smpl_joints = predictor.smpl(truth.rotmat, truth.betas).smpl_joints.numpy()
    return SimpleNamespace(
        rotvec=batch.rotvec.numpy(), betas=batch.betas.numpy(), gender=np.full(PEOPLE, -1), smpl_joints=smpl_joints
    )


def test_own_parameters_pass_whatever_their_origin(labels, predictor):
    certificate = posed(predictor, smpl_joints=labels.smpl_joints + [1, 2, 3])(labels)
    assert certificate.passed and f"{PEOPLE} samples" in certificate.findings[0]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("smpl_joints", lambda joints: joints * 1000),
        ("rotvec", lambda rotvec: rotvec[::-1]),
        ("betas", lambda betas: betas + 1),
        ("gender", np.ones_like),
    ],
)
def test_other_parameters_are_refused(field, change, labels, predictor):
    assert not posed(predictor, **{field: change(getattr(labels, field))})(labels).passed


@pytest.mark.parametrize("joint_set", [J14, J17], ids=["J14", "J17"])
def test_root_centred_metres_pass(joint_set, joints, predictor, tmp_path):
    protocol = StoredJoints(predictor, joint_set, joints, tmp_path)
    assert protocol.check().passed and not protocol.suspicions, protocol.check().findings


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda s: s * [1000, 1000, 1000, 1], "outside"),
        (lambda s: s + [0.02, 0, 0, 0], "20.000 mm"),
        (lambda s: s * [[[1, 1, 1, 1]], *[[[1, 1, 1, 0]]] * (PEOPLE - 1)], f"in {PEOPLE - 1} of them"),
    ],
    ids=["millimetres", "not centred", "no annotation"],
)
def test_wrong_stored_joints_are_refused(joints, change, finding, predictor, tmp_path):
    certificate = StoredJoints(predictor, J17, change(joints), tmp_path).check()
    assert not certificate.passed and finding in " ".join(certificate.findings)


def test_joints_that_are_unusual_and_joints_that_cannot_be_scored(joints, predictor, tmp_path):
    unusual = joints.copy()
    unusual[0, 14, :3], unusual[1, 2, 3] = 0.002, 0
    far, lacking = StoredJoints(predictor, J14, unusual, tmp_path).suspicions
    assert "the pelvis of 1 people is up to 3 mm" in far and "1 people lack joints of J14" in lacking
    with pytest.raises(ValueError, match="the pelvis .* is 4.33 m from the origin .* Subtract it"):
        StoredJoints(predictor, J14, joints + [2.5, 2.5, 2.5, 0], tmp_path)
    with pytest.raises(ValueError, match="no person has all joints of J14"):
        StoredJoints(predictor, J14, joints * [1, 1, 1, 0], tmp_path)


def test_people_without_a_body_are_not_scored_against_one_at_rest(tmp_path):
    require_bodies(np.ones(3, bool), tmp_path)
    with pytest.raises(ValueError, match="has_smpl is 0 for 1 of 3 people"):
        require_bodies(np.array([True, False, True]), tmp_path)


def test_label_images():
    mask, parts = np.ones((4, 5), np.uint8), np.full((4, 5), 255, np.uint8)
    parts[0] = 6
    assert check_label_images([("a", mask, parts, (4, 5))]).passed
    for wrong in ((mask, parts + 1, (4, 5)), (mask, parts, (5, 4)), (mask * 0, parts, (4, 5))):
        certificate = check_label_images([("a", mask, parts, (4, 5)), ("b", *wrong)])
        assert not certificate.passed and "b: " in certificate.findings[0]
