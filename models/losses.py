"""Losses of both training stages (paper section 3.5; docs/method.md 6). Networks predict, these compare.

A criterion returns named scalars with their weights already applied; the total is the plain sum. An empty selection
gives a zero that is still connected to the prediction. B in a divisor is always the full batch size.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.part_crop import TEMPERATURE, part_targets
from utils.config import option, require_range
from utils.geometry import MAP_SIZE, project_to_crop
from utils.skeleton import NUM_OPENPOSE
from utils.structures import DaNetOutput, IUVMaps, Targets

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from models.smpl import SMPL

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class LossWeights:
    """Factors of the losses; the defaults are the published ones."""

    uv_weight: float = option(0.5, "U and V, global, part and annotated points")
    index_weight: float = option(1.0, "part index, global and part maps")
    ann_weight: float = option(1.0, "coarse part classes")
    point_index_weight: float = option(0.3, "part index at annotated points")
    point_ann_weight: float = option(2.0, "coarse part classes of annotated images")
    roi_weight: float = option(1.0, "joint centres")
    heatmap_weight: float = option(0.0, "cross entropy of the heat-maps; starts centres from fresh weights")
    keypoint_features_weight: float = option(10.0, "features that the keypoint heads read, of a trunk that learns")
    rotation_weight: float = option(60.0, "rotation matrices, refined and unrefined")
    betas_weight: float = option(0.06, "shape")
    position_weight: float = option(1.0, "intermediate joint positions")
    keypoints_2d_weight: float = option(300.0, "projected joints")
    keypoints_3d_weight: float = option(300.0, "joints about the pelvis")
    verts_weight: float = option(0.0, "vertices")
    orthogonal_weight: float = option(0.0, "orthogonality of rotations of nine raw numbers; <= 0: none")
    openpose_train_weight: float = option(0.0, "confidence factor of the 25 OpenPose keypoints")
    gt_train_weight: float = option(1.0, "confidence factor of the 24 annotated keypoints")

    def __post_init__(self) -> None:
        require_range(self, 0, 1e9, *(f.name for f in fields(self) if f.name != "orthogonal_weight"))
        require_range(self, -1e9, 1e9, "orthogonal_weight")


def connected_zero(*predictions: Tensor) -> Tensor:
    """Zero that depends on the predictions, for an empty selection."""
    return sum(p.sum() * 0 for p in predictions)


def selected(record: Any, keep: Bool[Tensor, "B"]) -> Any:
    """Samples of a record where `keep`; the record itself, without a copy, where that is all of them."""
    return record if keep.all() else record[keep]


def argmax(maps: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """Index of the first maximum along `dim`, as `torch.argmax`, but many times faster on a CPU."""
    return maps.max(dim=dim, keepdim=keepdim).indices


def masked_mean_square(pred: Tensor, target: Tensor, valid: Bool[Tensor, "B"]) -> Tensor:
    """Mean squared difference over the valid samples; a connected zero where there is none."""
    if not valid.any():
        return connected_zero(pred)
    return F.mse_loss(pred[valid], target[valid])


def centers_loss(centers: Float[Tensor, "B P 2"], target: Float[Tensor, "B P 3"]) -> Tensor:
    """Weighted smooth L1 of the joint centres, summed over joints, averaged over the batch."""
    error = F.smooth_l1_loss(centers, target[..., :2], reduction="none").sum(dim=-1)
    return (error * target[..., 2]).sum() / len(centers)


def heatmap_loss(
    heatmaps: Float[Tensor, "B P H W"], target: Float[Tensor, "B P 3"], sigma: float = 1.5
) -> Tensor:
    """Cross entropy between the heat-maps' softmax and a Gaussian at each labelled centre inside the image.

    Not in the 2020 system: the soft-argmax alone does not find joints from fresh weights.
    """
    height, width = heatmaps.shape[-2:]
    inside = ((target[..., :2].abs() < 1).all(dim=-1) * target[..., 2]).flatten()
    if not inside.any():
        return connected_zero(heatmaps)
    column = torch.arange(width, device=heatmaps.device) - (target[..., :1] + 1) * width / 2
    row = torch.arange(height, device=heatmaps.device) - (target[..., 1:2] + 1) * height / 2
    gaussian = -(row[..., :, None] ** 2 + column[..., None, :] ** 2) / (2 * sigma**2)
    wanted = gaussian.flatten(2).softmax(dim=-1)
    scores = (TEMPERATURE * heatmaps).flatten(2).log_softmax(dim=-1)
    entropy = -(wanted * scores).sum(dim=-1).flatten()
    return (entropy * inside).sum() / inside.sum()


class IUVCriterion:
    """Losses of the IUV estimator: rendered maps, annotated points, joint centres, part maps."""

    def __init__(self, weights: LossWeights | None = None):
        self.weights = weights or LossWeights()

    def __call__(self, output: DaNetOutput, targets: Targets) -> Losses:
        estimate, w = output.iuv, self.weights
        losses = self._rendered(estimate.iuv, targets) | self._points(estimate.iuv, targets)
        losses["loss_roi"] = w.roi_weight * centers_loss(estimate.centers, targets.centers)
        if w.heatmap_weight:
            losses["loss_hm"] = w.heatmap_weight * heatmap_loss(estimate.heatmaps, targets.centers)
        return losses | self._parts(output, targets)

    def _rendered(self, pred: IUVMaps, targets: Targets) -> Losses:
        w, keep = self.weights, targets.has_iuv
        if not keep.any():
            zero = connected_zero(pred.u, pred.v, pred.index, pred.ann)
            return dict.fromkeys(("loss_U", "loss_V", "loss_IndexUV", "loss_segAnn"), zero)
        batch, target, pred = len(keep), selected(targets.iuv, keep), selected(pred, keep)
        part = argmax(target.index, dim=1, keepdim=True)

        def coordinate(pred_map: Tensor, target_map: Tensor) -> Tensor:
            # Targets are one-hot in the part, so the labelled channel is all there is to compare.
            at_part = F.smooth_l1_loss(pred_map.gather(1, part), target_map.gather(1, part), reduction="sum")
            return w.uv_weight / batch * at_part

        return {
            "loss_U": coordinate(pred.u, target.u),
            "loss_V": coordinate(pred.v, target.v),
            "loss_IndexUV": w.index_weight * F.cross_entropy(pred.index, part[:, 0]),
            "loss_segAnn": w.ann_weight * F.cross_entropy(pred.ann, argmax(target.ann, dim=1)),
        }

    def _points(self, pred: IUVMaps, targets: Targets) -> Losses:
        names = ("loss_Udp", "loss_Vdp", "loss_IndexUVdp", "loss_segAnndp")
        w, keep = self.weights, targets.has_dense
        if not keep.any():
            return dict.fromkeys(names, connected_zero(pred.u, pred.v, pred.index, pred.ann))
        dense, pred = selected(targets.dense, keep), selected(pred, keep)
        grid = (dense.xy - MAP_SIZE / 2) * 2 / MAP_SIZE
        part = dense.part.long()

        def at_points(pred_map: Tensor) -> Float[Tensor, "n 25 196"]:
            return F.grid_sample(pred_map, grid[:, :, None], mode="bilinear", align_corners=True).squeeze(-1)

        def coordinate(pred_map: Tensor, target: Tensor) -> Tensor:
            own = at_points(pred_map).gather(1, part[:, None]).squeeze(1)
            return w.uv_weight * F.smooth_l1_loss(own[part > 0], target[part > 0], reduction="sum")

        # The padding points count as background at (0, 0), as in the published training.
        return {
            "loss_Udp": coordinate(pred.u, dense.u),
            "loss_Vdp": coordinate(pred.v, dense.v),
            "loss_IndexUVdp": w.point_index_weight * F.cross_entropy(at_points(pred.index), part),
            "loss_segAnndp": w.point_ann_weight * F.cross_entropy(pred.ann, dense.ann_labels.long()),
        }

    def _parts(self, output: DaNetOutput, targets: Targets) -> Losses:
        w, keep, pred = self.weights, targets.has_iuv, output.iuv.part_iuv
        if pred is None:  # a network without parts
            return {}
        if not keep.any():
            zero = connected_zero(pred.u, pred.v, pred.index)
            return dict.fromkeys(("loss_pU", "loss_pV", "loss_pIndexUV"), zero)
        batch, parts = pred.index.shape[:2]
        stride = targets.iuv.index.shape[-1] // pred.index.shape[-1]
        with torch.no_grad():
            target = part_targets(selected(targets.iuv, keep), selected(output.iuv.crops, keep), stride)
            labelled = (target.index > 0).to(target.u.dtype)
        pred = selected(pred, keep)

        def coordinate(pred_map: Tensor, target_map: Tensor) -> Tensor:
            # Where no part is labelled the warped target is zero too, so masking the prediction is enough.
            error = F.smooth_l1_loss(pred_map * labelled, target_map, reduction="sum")
            return w.uv_weight * stride**2 / (batch * parts) * error

        index = F.cross_entropy(pred.index.flatten(0, 1), argmax(target.index, dim=2).flatten(0, 1))
        return {
            "loss_pU": coordinate(pred.u, target.u),
            "loss_pV": coordinate(pred.v, target.v),
            "loss_pIndexUV": w.index_weight * index,
        }


class SMPLCriterion:
    """Losses of the SMPL regressor; `smpl` poses the predicted body."""

    def __init__(self, smpl: SMPL, weights: LossWeights | None = None):
        self.smpl = smpl
        self.weights = weights or LossWeights()

    def __call__(self, output: DaNetOutput, targets: Targets) -> Losses:
        w, estimate, valid = self.weights, output.smpl, targets.has_body
        params = estimate.params
        vertices, joints, _ = self.smpl(params.rotmat, params.betas)
        losses: Losses = {}
        for i, rotmat in enumerate(estimate.aux_rotmat):
            losses[f"joint_rotation{i}"] = w.rotation_weight * masked_mean_square(
                rotmat, targets.rotmat, valid
            )
        for i, position in enumerate(estimate.aux_joints):
            distance = (position[valid] - targets.smpl_joints[valid]).abs().sum() if valid.any() else None
            losses[f"joint_position{i}"] = (
                connected_zero(position) if distance is None else w.position_weight * distance / valid.sum()
            )
        losses["keypoints_2d"] = w.keypoints_2d_weight * self._keypoints_2d(joints, params.cam, targets)
        losses["keypoints_3d"] = w.keypoints_3d_weight * self._keypoints_3d(joints, targets)
        losses["smpl_pose"] = w.rotation_weight * masked_mean_square(params.rotmat, targets.rotmat, valid)
        losses["smpl_betas"] = w.betas_weight * masked_mean_square(params.betas, targets.betas, valid)
        verts = (
            F.l1_loss(vertices[valid], targets.vertices[valid]) if valid.any() else connected_zero(vertices)
        )
        losses["smpl_verts"] = w.verts_weight * verts
        if w.orthogonal_weight > 0:
            squares = params.rotmat @ params.rotmat.mT
            losses["Rs_orth"] = w.orthogonal_weight * (squares - torch.eye(3).to(squares)).square().mean()
        losses["cam"] = (torch.exp(-10 * params.cam[:, 0]) ** 2).mean()  # keeps the scale positive
        return losses

    def _keypoints_2d(self, joints: Tensor, cam: Tensor, targets: Targets) -> Tensor:
        confidence = targets.keypoints[..., 2:].clone()
        confidence[:, :NUM_OPENPOSE] *= self.weights.openpose_train_weight
        confidence[:, NUM_OPENPOSE:] *= self.weights.gt_train_weight
        return (confidence * (project_to_crop(joints, cam) - targets.keypoints[..., :2]) ** 2).mean()

    @staticmethod
    def _keypoints_3d(joints: Tensor, targets: Targets) -> Tensor:
        keep = targets.has_joints_3d
        if not keep.any():
            return connected_zero(joints)
        pred, target = joints[keep, NUM_OPENPOSE:], targets.joints_3d[keep]
        pred = pred - (pred[:, 2:3] + pred[:, 3:4]) / 2  # about the middle of the hips
        xyz = target[..., :3] - (target[:, 2:3, :3] + target[:, 3:4, :3]) / 2
        return (target[..., 3:] * (pred - xyz) ** 2).mean()
