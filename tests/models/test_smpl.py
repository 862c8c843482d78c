"""The body layer against the 2020 numbers, a plain loop over vertices, and what holds for any body."""

from __future__ import annotations

import numpy as np
import pytest
import standin
import torch
from scipy.spatial.transform import Rotation

from models.smpl import SMPL
from utils.body import BODY_KEYS, OPEN_DIR, read_regressor, read_smpl_file
from utils.io import save_npz_atomic
from utils.skeleton import JOINT49_FROM_54, SMPL_PARENTS
from utils.structures import BodyModel, Regressor


def rotations(rotvec):
    matrices = Rotation.from_rotvec(np.asarray(rotvec, np.float64).reshape(-1, 3)).as_matrix()
    return torch.from_numpy(matrices.reshape(-1, 24, 3, 3)).float()


@pytest.fixture(scope="module")
def tiny():
    """A body of 40 random vertices with everything SMPL has, and its regressors."""
    rng = np.random.default_rng(5)

    def rows(count, columns):
        values = rng.random((count, columns)) ** 8
        return (values / values.sum(1, keepdims=True)).astype(np.float32)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    body = BodyModel(
        model_id="tiny", v_template=normal(40, 3), shapedirs=0.1 * normal(40, 3, 10),
        posedirs=0.05 * normal(207, 120), J_regressor=rows(24, 40), weights=rows(40, 24),
        parents=np.array(SMPL_PARENTS), faces=rng.integers(0, 40, (30, 3)).astype(np.int32),
    )  # fmt: skip
    names = tuple("x" * 21)
    return body, Regressor("tiny", rows(9, 40), names[:9]), Regressor("tiny", rows(21, 40), names)


@pytest.fixture(scope="module")
def layer(tiny):
    return SMPL(tiny[0], tiny[1], tiny[2])


def random_input(batch, scale=0.5):
    return rotations(np.random.randn(batch * 24, 3) * scale), torch.randn(batch, 10)


def posed_by_loops(body, rotmat, betas):
    """Method.md 15.1 word by word, in float64, one vertex at a time: vertices and 24 joints."""
    shaped = body.v_template.astype(float) + body.shapedirs.astype(float) @ betas
    joints = body.J_regressor.astype(float) @ shaped
    feature = (rotmat[1:] - np.eye(3)).reshape(-1)
    shaped = shaped + (feature @ body.posedirs.astype(float)).reshape(-1, 3)
    chain = []
    for joint in range(24):
        local = np.eye(4)
        parent = body.parents[joint]
        local[:3, :3] = rotmat[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        chain.append(chain[parent] @ local if joint else local)
    vertices = np.zeros_like(shaped)
    for v, point in enumerate(shaped):
        for joint in range(24):
            moved = chain[joint][:3, :3] @ (point - joints[joint]) + chain[joint][:3, 3]
            vertices[v] += body.weights[v, joint] * moved
    return vertices, np.array([transform[:3, 3] for transform in chain])


def test_numbers_of_2020(tmp_path, golden):
    standin_body = standin.smpl_dict(0)
    save_npz_atomic(
        tmp_path / "smpl" / "SMPL_NEUTRAL.npz", **{k: standin_body[k] for k in (*BODY_KEYS, "posedirs")}
    )
    np.save(tmp_path / "J_regressor_extra.npy", standin.regressors()[0])
    expected = np.load(golden / "smpl.npz")
    body = SMPL(tmp_path / "smpl" / "SMPL_NEUTRAL.npz")  # finds the regressor in the folder above
    out = body(rotations(expected["pose"]), torch.from_numpy(expected["betas"]))
    np.testing.assert_allclose(out.vertices[:, ::10], expected["verts_s10"], atol=1e-5)
    np.testing.assert_allclose(out.joints, expected["joints49"], atol=1e-5)
    np.testing.assert_allclose(out.smpl_joints, expected["joints24"], atol=1e-5)


def test_agrees_with_a_plain_loop(tiny, layer):
    rotmat, betas = random_input(3, scale=1.5)
    out = layer(rotmat, betas)
    for b in range(3):
        vertices, joints = posed_by_loops(tiny[0], rotmat[b].double().numpy(), betas[b].double().numpy())
        np.testing.assert_allclose(out.vertices[b], vertices, atol=2e-5)
        np.testing.assert_allclose(out.smpl_joints[b], joints, atol=2e-5)
        points = np.concatenate([tiny[2].matrix, tiny[1].matrix]) @ vertices
        expected = np.concatenate([joints, points])[list(JOINT49_FROM_54)]
        np.testing.assert_allclose(out.joints[b], expected, atol=2e-5)


def test_rest_pose_is_the_shaped_template(tiny, layer):
    betas = torch.randn(2, 10)
    out = layer(torch.eye(3).expand(2, 24, 3, 3), betas)
    shaped = tiny[0].v_template + np.einsum("vcs,bs->bvc", tiny[0].shapedirs, betas.numpy())
    np.testing.assert_allclose(out.vertices, shaped, atol=1e-5)
    np.testing.assert_allclose(out.smpl_joints, tiny[0].J_regressor @ shaped, atol=1e-5)


def test_root_rotation_turns_the_whole_body_about_the_pelvis(layer):
    rotmat, betas = random_input(2)
    turned = rotmat.clone()
    turn = rotations(np.random.randn(24, 3))[0, 0]
    turned[:, 0] = turn @ rotmat[:, 0]
    before, after = layer(rotmat, betas), layer(turned, betas)
    pelvis = before.smpl_joints[:, :1]
    torch.testing.assert_close(after.smpl_joints[:, :1], pelvis, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        after.vertices, (before.vertices - pelvis) @ turn.T + pelvis, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(after.joints, (before.joints - pelvis) @ turn.T + pelvis, atol=1e-5, rtol=0)


def test_a_joint_moves_only_what_hangs_on_it(layer):
    rotmat, betas = random_input(1)
    moved = rotmat.clone()
    moved[:, 18] = rotations(np.random.randn(24, 3))[0, 0]  # left elbow: wrist 20 and hand 22 hang on it
    change = (layer(rotmat, betas).smpl_joints - layer(moved, betas).smpl_joints).abs().amax(-1)[0]
    assert set(torch.nonzero(change > 1e-6).flatten().tolist()) == {20, 22}


def test_samples_of_a_batch_do_not_touch(layer):
    rotmat, betas = random_input(4)
    together = layer(rotmat, betas)
    for b in range(4):
        alone = layer(rotmat[b : b + 1], betas[b : b + 1])
        torch.testing.assert_close(alone.vertices[0], together.vertices[b], atol=1e-5, rtol=0)


def test_gradients_reach_pose_and_shape(tiny):
    layer = SMPL(tiny[0], tiny[1], tiny[2]).double()
    rotmat, betas = random_input(1)
    rotmat, betas = rotmat.double().requires_grad_(), betas.double().requires_grad_()
    projection = torch.randn(49, 3, dtype=torch.double)
    assert torch.autograd.gradcheck(
        lambda r, b: (layer(r, b).joints * projection).sum(), (rotmat, betas), fast_mode=True
    )


def test_wrong_input_is_refused(layer):
    rotmat, betas = random_input(2)
    for bad in (
        (rotmat.flatten(1), betas),
        (rotmat[:, :23], betas),
        (rotmat, betas[:1]),
        (rotmat, betas[:, :9]),
    ):
        with pytest.raises(ValueError, match="Expected rotations"):
            layer(*bad)


def test_regressors_of_another_body_are_refused(tiny, tmp_path):
    np.save(tmp_path / "J_regressor_extra.npy", standin.regressors()[0])
    for extra in (tmp_path / "J_regressor_extra.npy", tiny[1]):
        with pytest.raises(ValueError, match="belongs to the body"):
            SMPL(OPEN_DIR / "body.npz", extra)
    official = read_regressor(standin.regressors()[0], "extra")
    with pytest.raises(ValueError, match="belongs to the body"):
        SMPL(tiny[0], official, tiny[2])


def test_missing_extra_regressor_says_where_it_comes_from(tmp_path):
    arrays = standin.smpl_dict(0)
    save_npz_atomic(tmp_path / "smpl" / "SMPL_MALE.npz", **{k: arrays[k] for k in BODY_KEYS})
    with pytest.raises(FileNotFoundError, match="J_regressor_extra.npy is missing.*SPIN"):
        SMPL(tmp_path / "smpl" / "SMPL_MALE.npz")
    np.save(tmp_path / "smpl" / "J_regressor_extra.npy", standin.regressors()[0])
    body = read_smpl_file(tmp_path / "smpl" / "SMPL_MALE.npz")
    assert body.posedirs is None
    SMPL(tmp_path / "smpl" / "SMPL_MALE.npz")
