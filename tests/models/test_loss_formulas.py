"""Every loss against its formula written out plainly, channel by channel and joint by joint (docs/method.md 6)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import IUVCriterion, LossWeights, SMPLCriterion
from utils.skeleton import ANN_CLASSES, PART_CHANNELS
from utils.structures import (
    DaNetOutput,
    DensePosePoints,
    IUVEstimate,
    IUVMaps,
    PartCrops,
    SMPLEstimate,
    SMPLOutput,
    SMPLParams,
    Targets,
)

BATCH, SIZE = 4, 56
MASKS = {
    "some": ([1, 0, 1, 1], [0, 1, 0, 1]),
    "all": ([1, 1, 1, 1], [1, 1, 1, 1]),
    "one": ([0, 0, 0, 1], [1, 0, 0, 0]),
}


class Bodies:
    """In place of a body: fixed points, so that the formulas are all there is to test."""

    def __init__(self):
        self.output = SMPLOutput(
            torch.randn(BATCH, 30, 3), torch.randn(BATCH, 49, 3), torch.randn(BATCH, 24, 3)
        )

    def __call__(self, rotmat: Tensor, betas: Tensor) -> SMPLOutput:
        return self.output


def rotations(*shape: int) -> Tensor:
    return torch.linalg.qr(torch.randn(*shape, 3, 3)).Q


def blobs(channels: int) -> Tensor:
    """Labels in squares, so that crops see borders between them."""
    return torch.randint(0, channels, (BATCH, 8, 8)).repeat_interleave(7, 1).repeat_interleave(7, 2)


def make_output() -> DaNetOutput:
    iuv = IUVMaps(*(torch.randn(BATCH, n, SIZE, SIZE) for n in (25, 25, 25, 15)))
    parts = IUVMaps(*(torch.randn(BATCH, 24, 7, SIZE, SIZE) for _ in range(3)))
    crops = PartCrops(torch.rand(BATCH, 24, 2) - 0.5, 0.2 + torch.rand(BATCH, 24))
    centers = 2 * torch.randn(BATCH, 24, 2)
    params = SMPLParams(0.1 * torch.randn(BATCH, 3) + 0.1, torch.randn(BATCH, 10), rotations(BATCH, 24))
    return DaNetOutput(
        IUVEstimate(iuv, parts, torch.randn(BATCH, 24, SIZE, SIZE), centers, crops),
        SMPLEstimate(params, (rotations(BATCH, 24),), (torch.randn(BATCH, 24, 3), torch.randn(BATCH, 24, 3))),
    )


def make_targets(masks: tuple[list[int], list[int]]) -> Targets:
    part = blobs(25)
    index = F.one_hot(part, 25).movedim(-1, 1).float()
    ann = torch.stack([index[:, list(parts)].sum(1) for parts in ANN_CLASSES], dim=1)
    foreground = (part > 0).float()[:, None]
    u, v = (index * torch.rand(BATCH, 1, SIZE, SIZE) * foreground for _ in range(2))
    points = torch.randint(1, 25, (BATCH, 196))
    points[:, 150:] = 0  # padding, at the corner of the map
    padded = (points > 0).float()
    dense = DensePosePoints(
        blobs(15), 55 * torch.rand(BATCH, 196, 2) * padded[..., None], points,
        torch.rand(BATCH, 196) * padded, torch.rand(BATCH, 196) * padded,
    )  # fmt: skip
    weights = torch.tensor([1.0, 0.5, 0.0, 1.0])[torch.randint(0, 4, (BATCH, 24, 1))]
    has, other = (torch.tensor(mask, dtype=torch.bool) for mask in masks)
    return Targets(
        iuv=IUVMaps(u, v, index, ann), rotmat=rotations(BATCH, 24), betas=torch.randn(BATCH, 10),
        vertices=torch.randn(BATCH, 30, 3), smpl_joints=torch.randn(BATCH, 24, 3), cam=torch.randn(BATCH, 3),
        centers=torch.cat([torch.randn(BATCH, 24, 2), weights], dim=-1),
        keypoints=torch.cat([torch.randn(BATCH, 49, 2), torch.rand(BATCH, 49, 1)], dim=-1),
        joints_3d=torch.cat([torch.randn(BATCH, 24, 3), torch.rand(BATCH, 24, 1)], dim=-1),
        dense=dense, has_iuv=has, has_dense=other, has_body=has, has_joints_3d=other,
    )  # fmt: skip


def smooth(a: Tensor, b: Tensor) -> Tensor:
    difference = (a - b).abs()
    return torch.where(difference < 1, 0.5 * difference**2, difference - 0.5).double()


def map_formulas(iuv: IUVMaps, t: Targets) -> dict[str, Tensor]:
    keep = t.has_iuv
    labelled = t.iuv.index[keep] > 0
    return {
        "loss_U": 0.5 / BATCH * smooth(iuv.u[keep], t.iuv.u[keep])[labelled].sum(),
        "loss_V": 0.5 / BATCH * smooth(iuv.v[keep], t.iuv.v[keep])[labelled].sum(),
        "loss_IndexUV": F.cross_entropy(iuv.index[keep], t.iuv.index[keep].argmax(1)),
        "loss_segAnn": F.cross_entropy(iuv.ann[keep], t.iuv.ann[keep].argmax(1)),
    }


def part_formulas(estimate: IUVEstimate, t: Targets) -> dict[str, Tensor]:
    keep, losses = t.has_iuv, {"loss_pU": 0, "loss_pV": 0, "loss_pIndexUV": 0}
    for joint, channels in enumerate(PART_CHANNELS):
        u, v, index = (m[keep][:, list(channels)] for m in (t.iuv.u, t.iuv.v, t.iuv.index))
        none, background = torch.zeros_like(u[:, :1]), (index.sum(1, keepdim=True) < 0.5).float()
        stacked = torch.cat([none, u, none, v, background, index], dim=1)
        theta = estimate.crops.theta[keep][:, joint]
        grid = F.affine_grid(theta, list(stacked.shape), align_corners=True)
        u, v, index = F.grid_sample(stacked, grid, align_corners=True).split(7, dim=1)
        for name, target, pred in (("loss_pU", u, estimate.part_iuv.u), ("loss_pV", v, estimate.part_iuv.v)):
            losses[name] += 0.5 / BATCH * smooth(pred[keep][:, joint], target)[index > 0].sum() / 24
        entropy = F.cross_entropy(estimate.part_iuv.index[keep][:, joint], index.argmax(1))
        losses["loss_pIndexUV"] += entropy / 24
    return losses


def point_formulas(iuv: IUVMaps, t: Targets) -> dict[str, Tensor]:
    keep, losses = t.has_dense, {"loss_Udp": 0, "loss_Vdp": 0}
    dense = t.dense[keep]
    grid = ((dense.xy - 28) * 2 / 56)[:, None]
    at_u, at_v, at_index = (
        F.grid_sample(m[keep], grid, align_corners=True)[:, :, 0] for m in (iuv.u, iuv.v, iuv.index)
    )
    for channel in range(1, 25):
        weight = (dense.part == channel).float()
        for name, pred, target in (("loss_Udp", at_u, dense.u), ("loss_Vdp", at_v, dense.v)):
            error = weight * smooth(weight * pred[:, channel], weight * target)
            losses[name] += 0.5 * error.sum()
    losses["loss_IndexUVdp"] = 0.3 * F.cross_entropy(at_index, dense.part)
    losses["loss_segAnndp"] = 2.0 * F.cross_entropy(iuv.ann[keep], dense.ann_labels)
    return losses


def center_formula(centers: Tensor, t: Tensor) -> Tensor:
    total = 0
    for weight in t[..., 2].unique():
        if weight != 0:
            at = t[..., 2] == weight
            total = total + weight * smooth(centers[at], t[..., :2][at]).sum()
    return total / BATCH


def body_formulas(estimate: SMPLEstimate, joints: Tensor, t: Targets) -> dict[str, Tensor]:
    keep, params, moved = t.has_body, estimate.params, joints.double()
    count = keep.sum()
    s, tx, ty = params.cam.double().unbind(1)
    depth = moved[..., 2] + (2 * 5000 / (224 * s + 1e-9))[:, None]
    xy = torch.stack([moved[..., 0] + tx[:, None], moved[..., 1] + ty[:, None]], -1)
    projected = 5000 * xy / depth[..., None] / 112
    confidence = t.keypoints[..., 2:] * (torch.arange(49) >= 25).float()[:, None]
    of_3d = t.has_joints_3d
    pred, gt, sure = joints[of_3d, 25:], t.joints_3d[of_3d, :, :3], t.joints_3d[of_3d, :, 3:]
    pred, gt = (points - points[:, 2:4].mean(dim=1, keepdim=True) for points in (pred, gt))
    return {
        "joint_rotation0": 60 * (estimate.aux_rotmat[0] - t.rotmat)[keep].square().sum() / (count * 216),
        "joint_position0": (estimate.aux_joints[0] - t.smpl_joints)[keep].abs().sum() / count,
        "joint_position1": (estimate.aux_joints[1] - t.smpl_joints)[keep].abs().sum() / count,
        "keypoints_2d": 300 * (confidence * (projected - t.keypoints[..., :2]) ** 2).sum() / (BATCH * 49 * 2),
        "keypoints_3d": 300 * (sure * (pred - gt) ** 2).sum() / (of_3d.sum() * 24 * 3),
        "smpl_pose": 60 * (params.rotmat - t.rotmat)[keep].square().mean(),
        "smpl_betas": 0.06 * (params.betas - t.betas)[keep].square().mean(),
        "smpl_verts": torch.zeros(()),
        "cam": (-20 * s).exp().mean(),
    }


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_every_loss_is_its_formula(masks):
    output, targets, bodies = make_output(), make_targets(masks), Bodies()
    estimate = output.iuv
    wanted = map_formulas(estimate.iuv, targets) | part_formulas(estimate, targets)
    wanted |= point_formulas(estimate.iuv, targets)
    wanted["loss_roi"] = center_formula(estimate.centers, targets.centers)
    wanted |= body_formulas(output.smpl, bodies.output.joints, targets)
    losses = IUVCriterion()(output, targets) | SMPLCriterion(bodies)(output, targets)
    assert set(losses) == set(wanted)
    for name, value in losses.items():
        assert value.item() == pytest.approx(float(wanted[name]), rel=1e-5), name


def test_weights_multiply_their_losses():
    output, targets, bodies = make_output(), make_targets(MASKS["some"]), Bodies()

    def losses(**changes: float) -> dict[str, float]:
        weights = LossWeights(**changes)
        found = IUVCriterion(weights)(output, targets) | SMPLCriterion(bodies, weights)(output, targets)
        return {name: value.item() for name, value in found.items()}

    plain = losses()
    for option, names in {
        "uv_weight": ("loss_U", "loss_V", "loss_pU", "loss_pV", "loss_Udp", "loss_Vdp"),
        "index_weight": ("loss_IndexUV", "loss_pIndexUV"), "ann_weight": ("loss_segAnn",),
        "point_index_weight": ("loss_IndexUVdp",), "point_ann_weight": ("loss_segAnndp",),
        "roi_weight": ("loss_roi",), "betas_weight": ("smpl_betas",),
        "rotation_weight": ("smpl_pose", "joint_rotation0"), "keypoints_2d_weight": ("keypoints_2d",),
        "position_weight": ("joint_position0", "joint_position1"), "keypoints_3d_weight": ("keypoints_3d",),
        "gt_train_weight": ("keypoints_2d",),
    }.items():  # fmt: skip
        doubled = losses(**{option: 2 * getattr(LossWeights(), option)})
        changed = {name for name in plain if doubled[name] != pytest.approx(plain[name])}
        assert changed == set(names), option
        assert all(doubled[name] == pytest.approx(2 * plain[name], rel=1e-5) for name in names)
    assert losses(verts_weight=1.0)["smpl_verts"] > 0
    assert losses(openpose_train_weight=1.0)["keypoints_2d"] > plain["keypoints_2d"]
