"""Losses, targets, gradients and one Adam step of both stages against the 2020 system (docs/method.md 6 and 7)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import standin
import torch
from fill import fill_state_dict
from scipy.io import savemat
from tiny import without_init

from datasets.fits import Fits, FitTable
from models import SMPL, build_danet
from models.danet import preset
from models.losses import IUVCriterion, SMPLCriterion
from models.targets import TargetBuilder
from utils.body import load_uv_processed, read_smpl_file
from utils.geometry import batch_rodrigues
from utils.renderer import IUV_Renderer
from utils.skeleton import EXTRA_JOINT_NAMES
from utils.structures import DensePosePoints, Regressor, Sample

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "train_mixed.npz"
NAMES = {"pretrain": "stage one", "full": "stage two"}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {key.removeprefix("mixed/"): file[key] for key in file.files}


@pytest.fixture(scope="module")
def fits(golden):
    """The fits of both data sets; the mix of this batch trusts labels alone."""
    tables = {}
    for name in ("h36m", "dp_coco"):
        values = golden[f"fits_{name}"].astype(np.float32)
        none_valid = np.zeros(len(values), dtype=bool)
        tables[name] = FitTable(values[:, :72], values[:, 72:], none_valid, Path())
    return Fits(tables)


@pytest.fixture(scope="module")
def build_targets(tmp_path_factory, fits):
    folder = tmp_path_factory.mktemp("data")
    standin.write_body(folder)
    savemat(folder / "UV_Processed.mat", standin.uv_processed())
    extra = Regressor("smpl", standin.regressors()[0].astype(np.float32), EXTRA_JOINT_NAMES)
    smpl = SMPL(read_smpl_file(folder / "smpl" / "SMPL_NEUTRAL.pkl"), extra)
    atlas = load_uv_processed(folder / "UV_Processed.mat")
    return TargetBuilder(smpl, IUV_Renderer(atlas=atlas), fits)


def golden_batch(golden) -> Sample:
    def tensor(key):
        return torch.from_numpy(golden[key].copy())

    dense = {k.rsplit("/", 1)[1].removeprefix("body_uv_"): tensor(k) for k in golden if "dp_dict" in k}
    # U and V are tiled over the 25 channels in the 2020 blobs.
    points = DensePosePoints(
        ann_labels=dense["ann_labels"].view(2, 56, 56),
        xy=torch.stack([dense["X_points"], dense["Y_points"]], dim=-1),
        part=dense["I_points"].long(),
        u=dense["U_points"].view(2, 25, 196)[:, 0],
        v=dense["V_points"].view(2, 25, 196)[:, 0],
    )
    return Sample(
        image=torch.from_numpy(standin.image_batch(2)),
        rotvec=tensor("in/pose"),  # zeros for the first person, whose body is fitted
        betas=tensor("in/betas"),
        keypoints=tensor("in/keypoints"),
        joints_3d=tensor("in/pose_3d"),
        smpl_keypoints=tensor("in/smpl_2dkps"),
        dense=points,
        has_smpl=tensor("in/has_smpl").bool(),
        has_dense=tensor("in/has_dp").bool(),
        has_joints_3d=tensor("in/has_pose_3d").bool(),
        is_flipped=tensor("in/is_flipped").bool(),
        rotation_deg=tensor("in/rot_angle"),
        center=torch.zeros(2, 2),
        scale=torch.ones(2),
        gender=torch.full((2,), -1),
        index=tensor("in/sample_index"),
        dense_only=torch.tensor([True, False]),
        dataset=("dp_coco", "h36m"),
        name=("0", "1"),
    )


@pytest.fixture(scope="module")
def filled_model():
    with without_init():
        model = build_danet(replace(preset("danet"), center_jitter=0.0, scale_jitter=0.0, partdrop_rate=0.0))
    fill_state_dict(model)
    mean, net = standin.mean_params(), model.iuv2smpl.smpl_para_Outs
    net.mean_pose.copy_(torch.from_numpy(mean["pose"])[None])
    net.mean_cam_shape.copy_(torch.from_numpy(np.concatenate([mean["cam"], mean["shape"]]))[None])
    return model


def test_targets(golden, build_targets):
    targets = build_targets(golden_batch(golden))
    wanted = batch_rodrigues(torch.from_numpy(golden["full/opt_pose"]).view(-1, 3)).view(2, 24, 3, 3)
    np.testing.assert_allclose(targets.rotmat, wanted, atol=1e-6)
    np.testing.assert_array_equal(targets.betas, golden["full/opt_betas"])
    np.testing.assert_allclose(targets.centers, golden["full/target_smpl_kps"], atol=1e-5)
    np.testing.assert_allclose(targets.cam, golden["full/target_cam"], rtol=1e-4, atol=1e-6)
    assert targets.has_iuv.tolist() == golden["full/has_iuv"].astype(bool).tolist()
    assert targets.has_body.tolist() == golden["full/valid_fit"].astype(bool).tolist()


@pytest.mark.parametrize("stage", NAMES, ids=NAMES.get)
def test_step(stage, golden, build_targets, filled_model):
    """Every loss within 1e-4, gradient norms within 2e-2, weights after one Adam step."""
    weights = {key: value.clone() for key, value in filled_model.state_dict().items()}
    try:
        check_step(stage, golden, build_targets, filled_model)
    finally:
        filled_model.load_state_dict(weights)


def check_step(stage, golden, build_targets, model):
    batch = golden_batch(golden)
    targets = build_targets(batch)
    model.train().zero_grad(set_to_none=True)
    output = model(batch.image, iuv_only=stage == "pretrain")
    losses = IUVCriterion()(output, targets)
    if stage == "full":
        losses |= SMPLCriterion(build_targets.smpl)(output, targets)
    total = sum(losses.values())

    wanted = {
        k.rsplit("/", 1)[1].removeprefix("loss_"): float(golden[k])
        for k in golden
        if k.startswith(f"{stage}/loss/")
    }
    assert set(losses) == set(wanted) - {"tatal"}
    for name, value in losses.items():
        assert value.item() == pytest.approx(wanted[name], rel=1e-4, abs=1e-7), name
    assert total.item() == pytest.approx(wanted["tatal"], rel=1e-4)

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    total.backward()
    for key in (k for k in golden if k.startswith(f"{stage}/gradnorm/")):
        module = key.rsplit("/", 1)[1]
        gradients = [
            p.grad for n, p in model.named_parameters() if n.startswith(module) and p.grad is not None
        ]
        assert torch.nn.utils.get_total_norm(gradients).item() == pytest.approx(
            float(golden[key]), rel=2e-2
        ), module
    estimator = model.img2iuv.iuv_est
    gradient = golden[f"{stage}/conv1_grad"]
    noise = 2e-2 * np.abs(gradient).max()
    np.testing.assert_allclose(estimator.conv1.weight.grad[:4], gradient, atol=noise)
    optimizer.step()
    certain = np.abs(gradient) > noise  # Adam's first step is the sign of the gradient
    after = estimator.conv1.weight.detach().numpy()[:4]
    np.testing.assert_allclose(after[certain], golden[f"{stage}/conv1_after_step"][certain], atol=5e-6)
    np.testing.assert_allclose(estimator.bn1.running_mean, golden[f"{stage}/bn1_running_mean"], atol=1e-5)
    np.testing.assert_allclose(estimator.bn1.running_var, golden[f"{stage}/bn1_running_var"], rtol=1e-4)
