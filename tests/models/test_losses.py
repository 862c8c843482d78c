"""Every mask case of the losses: nothing crashes, nothing leaks from samples without a label."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import TINY, unlabelled, with_joints

from models import SMPL, build_danet
from models.losses import IUVCriterion, SMPLCriterion, heatmap_loss
from models.targets import TargetBuilder
from utils.body import resolve_body
from utils.renderer import IUV_Renderer
from utils.structures import BodyFits, DaNetOutput, DensePosePoints, Sample

BATCH = 3


@pytest.fixture(scope="module")
def build_targets():
    assets = resolve_body("open")
    return TargetBuilder(SMPL(assets.body, assets.extra), IUV_Renderer(atlas=assets.atlas))


@pytest.fixture(scope="module")
def model():
    return build_danet(TINY)


@pytest.fixture
def batch(build_targets) -> Sample:
    torch.manual_seed(1)
    rotvec = 0.2 * torch.randn(BATCH, 72)
    rotvec[:, :3] = torch.tensor([3.1, 0.0, 0.0])
    body = build_targets.smpl(torch.eye(3).expand(BATCH, 24, 3, 3), torch.zeros(BATCH, 10))
    part = torch.randint(0, 25, (BATCH, 196))
    dense = DensePosePoints(
        torch.randint(0, 15, (BATCH, 56, 56)), 55 * torch.rand(BATCH, 196, 2), part, torch.rand(BATCH, 196),
        torch.rand(BATCH, 196),
    )  # fmt: skip
    return replace(
        with_joints(unlabelled(BATCH), body, torch.tensor([0.8, 0.0, 0.2])), image=torch.randn(BATCH, 3, 224, 224),
        rotvec=rotvec, betas=torch.randn(BATCH, 10), smpl_keypoints=torch.rand(BATCH, 24, 3), dense=dense,
        has_smpl=torch.tensor([True, True, False]), has_dense=torch.tensor([False, False, True]),
        has_joints_3d=torch.tensor([True, False, False]), dataset=("h36m", "h36m", "dp_coco"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained_output(model) -> DaNetOutput:
    """What the network gives in training, as leaves: all cases differ in labels alone."""
    torch.manual_seed(1)
    with torch.no_grad():
        output = model.train()(torch.randn(BATCH, 3, 224, 224))
    return output.map(lambda t: t.detach())


NONE = torch.zeros(BATCH, dtype=torch.bool)
CASES = {
    "all labels": {},
    "no body": {"has_smpl": NONE},
    "no dense": {"has_dense": NONE, "dataset": ("h36m",) * BATCH},
    "no 3D": {"has_joints_3d": NONE},
    "nothing": {"has_smpl": NONE, "has_dense": NONE, "has_joints_3d": NONE},
    "no keypoint": {"keypoints": torch.zeros(BATCH, 49, 3)},
    "no centre weight": {"smpl_keypoints": torch.zeros(BATCH, 24, 3), "has_smpl": NONE},
    "extreme betas": {"betas": torch.full((BATCH, 10), 50.0)},
    "dense alone": {
        "dataset": ("dp_coco",) * BATCH, "has_smpl": NONE, "has_dense": ~NONE, "has_joints_3d": NONE,
    },
    "fits alone": {"dataset": ("coco",) * BATCH, "has_smpl": NONE, "has_dense": NONE, "fitted": ~NONE},
    "some fits": {"has_smpl": NONE, "fitted": torch.tensor([True, False, True])},
    "no valid fit": {"dataset": ("coco",) * BATCH, "has_smpl": NONE, "has_dense": NONE, "fitted": NONE},
    "one dense point": {"dense_points": 1},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_mask_case(case, trained_output, batch, build_targets):
    """Finite losses and gradients of all outputs, and a zero where nothing is labelled."""
    changes = dict(CASES[case])
    if changes.pop("dense_points", None):
        part = torch.zeros_like(batch.dense.part)
        part[:, 0] = 5
        changes["dense"] = replace(batch.dense, part=part)
    valid = changes.pop("fitted", None)
    if valid is not None:
        fit = BodyFits(batch.rotvec, torch.full((BATCH, 10), 50.0), valid)  # of extreme shape
        build_targets = TargetBuilder(build_targets.smpl, build_targets.iuv_renderer, lambda _: fit)
    targets, leaves = build_targets(replace(batch, **changes)), []
    output = trained_output.map(lambda t: t.clone().requires_grad_(t.is_floating_point()))
    output.map(lambda t: leaves.append(t) or t)
    losses = IUVCriterion()(output, targets) | SMPLCriterion(build_targets.smpl)(output, targets)
    sum(losses.values()).backward()
    assert all(value.requires_grad and value.ndim == 0 for value in losses.values())
    assert all(torch.isfinite(value) for value in losses.values()), losses
    assert all(leaf.grad.isfinite().all() for leaf in leaves if leaf.grad is not None)
    if case in ("nothing", "no body", "dense alone", "no valid fit"):
        zero = {"smpl_pose", "smpl_betas", "joint_rotation0", "joint_position1", "loss_U", "loss_pIndexUV"}
        assert all(losses[name] == 0 for name in zero)
    if case in ("nothing", "no dense", "fits alone"):
        assert all(losses[name] == 0 for name in ("loss_Udp", "loss_Vdp", "loss_IndexUVdp", "loss_segAnndp"))
    if case == "dense alone":
        assert losses["loss_Udp"] > 0 and losses["loss_roi"] > 0
    if case in ("fits alone", "some fits"):
        assert losses["smpl_pose"] > 0 and losses["loss_U"] > 0 and losses["smpl_betas"] < 1
    if case == "no keypoint":
        assert losses["keypoints_2d"] == 0 and losses["loss_IndexUV"] == 0


def test_perfect_maps_have_no_coordinate_loss(model, batch, build_targets):
    targets = build_targets(batch)
    output = model.eval()(batch.image)
    perfect = replace(output, iuv=replace(output.iuv, iuv=targets.iuv))
    losses = IUVCriterion()(perfect, targets)
    assert losses["loss_U"] == 0 and losses["loss_V"] == 0


def test_unlabelled_samples_do_not_count(model, batch, build_targets):
    """Changing the maps of a sample without rendered target leaves the map losses alone."""
    targets = build_targets(batch)
    output = model.eval()(batch.image)
    before = IUVCriterion()(output, targets)
    maps = output.iuv.iuv.map(
        lambda t: t + torch.tensor([0.0, 0, 1])[:, None, None, None] * torch.randn_like(t)
    )
    after = IUVCriterion()(replace(output, iuv=replace(output.iuv, iuv=maps)), targets)
    for name in ("loss_U", "loss_V", "loss_IndexUV", "loss_segAnn"):
        torch.testing.assert_close(before[name], after[name])
    assert before["loss_Udp"] != after["loss_Udp"]


def test_heatmap_loss_is_lowest_at_the_joint():
    target = torch.tensor([[[0.25, -0.5, 1.0]] * 24])
    row, column = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")

    def peak(x, y):
        return (-((row - y) ** 2 + (column - x) ** 2) / 45).expand(1, 24, 56, 56)

    at_joint = heatmap_loss(peak(35, 14), target)
    assert at_joint < heatmap_loss(peak(30, 14), target) < heatmap_loss(peak(5, 50), target)
    assert heatmap_loss(peak(5, 5), target * torch.tensor([1.0, 1.0, 0.0])) == 0
