"""Rotations and cameras: 2020 goldens, round trips, hopeless inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from utils import geometry as geo


@pytest.fixture(scope="module")
def numbers(request):
    with np.load(request.config.rootpath / "tests" / "golden" / "functions.npz") as file:
        return {key.replace("__", "/"): torch.from_numpy(file[key]) for key in file.files}


def test_goldens(numbers):
    projected = geo.perspective_projection(
        *(numbers[f"perspective_projection/{k}"] for k in "pRt"),
        camera_center=torch.tensor([[112.0, 112.0], [0.0, 0.0]]),
    )
    fitted = geo.estimate_translation(numbers["estimate_translation/S"], numbers["estimate_translation/kp"])
    for name, ours, tolerance in (
        ("batch_rodrigues", geo.batch_rodrigues(numbers["batch_rodrigues/aa"]), 1e-6),
        ("rot6d", geo.rot6d_to_rotmat(numbers["rot6d/x"]), 1e-6),
        ("rotmat_to_aa", geo.rotmat_to_rotvec(numbers["rotmat_to_aa/R"]), 1e-5),
        ("perspective_projection", projected, 2e-4),
        ("estimate_translation", fitted, 1e-4),
    ):
        torch.testing.assert_close(ours, numbers[f"{name}/out"], atol=tolerance, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 1.0, 3.0, np.pi - 1e-4, np.pi])
def test_rotvec_round_trip(angle):
    """Matrices agree with SciPy and lead back to themselves, at zero and at pi too."""
    axis = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    rotmat = torch.from_numpy(Rotation.from_rotvec((axis * angle).numpy()).as_matrix())
    torch.testing.assert_close(geo.batch_rodrigues(axis * angle), rotmat, atol=1e-7, rtol=0)
    back = geo.rotmat_to_rotvec(rotmat)
    torch.testing.assert_close(geo.batch_rodrigues(back), rotmat, atol=1e-7, rtol=0)
    assert (back.norm(dim=-1) <= np.pi + 1e-6).all()


def test_rodrigues_gradient_is_finite_at_zero():
    rotvec = torch.zeros(4, 3, requires_grad=True)
    geo.batch_rodrigues(rotvec).sum().backward()
    assert rotvec.grad.isfinite().all()


def test_rot6d_is_the_inverse_on_rotations():
    rotmat = torch.from_numpy(Rotation.random(30, random_state=0).as_matrix())
    torch.testing.assert_close(geo.rot6d_to_rotmat(rotmat[..., :2].flatten(-2)), rotmat)


@pytest.mark.parametrize("rows", [1, 3, 24])
def test_rot6d_gives_rotations_for_any_number_of_rows(rows):
    """Three rows were the trap of a cross product without an axis."""
    rotmat = geo.rot6d_to_rotmat(torch.randn(rows, 6, dtype=torch.float64))
    torch.testing.assert_close(rotmat @ rotmat.mT, torch.eye(3, dtype=torch.float64).expand(rows, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotmat), torch.ones(rows, dtype=torch.float64))


def test_camera_round_trip():
    cam = torch.tensor([[0.9, 0.1, -0.2], [2.0, 0.0, 0.3]])
    torch.testing.assert_close(geo.translation_to_cam(geo.cam_to_translation(cam)), cam)


def _keypoints(joints, cam):
    xy = geo.project_to_crop(joints, cam)
    return torch.cat([(xy + 1) * 112, torch.ones(*xy.shape[:2], 1)], dim=-1)


def test_fitted_camera_is_the_true_one():
    joints, cam = torch.randn(6, 49, 3) * 0.4, torch.rand(6, 3) * torch.tensor([1.0, 0.4, 0.4]) + 0.5
    fitted = geo.estimate_translation(joints, _keypoints(joints, cam))
    torch.testing.assert_close(geo.translation_to_cam(fitted), cam, atol=1e-3, rtol=1e-3)


def test_camera_of_too_few_keypoints_is_the_default():
    """No keypoint, one keypoint, or all in one place: no crash, and the others in the batch are not disturbed."""
    joints, cam = torch.randn(4, 49, 3) * 0.4, torch.tensor([[0.8, 0.1, 0.0]]).expand(4, 3)
    keypoints = _keypoints(joints, cam)
    keypoints[0, :, 2] = 0
    keypoints[1, 26:, 2] = 0
    joints[2], keypoints[2] = joints[2, :1], keypoints[2, :1]
    fitted = geo.estimate_translation(joints, keypoints)
    assert fitted.isfinite().all()
    default = torch.tensor([0.0, 0.0, 2 * 5000 / (224 * 0.9)])
    torch.testing.assert_close(fitted[:2], default.expand(2, 3))
    torch.testing.assert_close(geo.translation_to_cam(fitted[3:]), cam[3:], atol=1e-3, rtol=1e-3)
    assert geo.has_determined_camera(keypoints[:, -24:, 2]).tolist() == [False, False, True, True]
