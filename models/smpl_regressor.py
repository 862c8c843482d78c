"""Global and partial IUV maps -> camera, shape and 24 rotations by aggregated refinement (paper section 3.3).

docs/method.md sections 4 and 4.2. Camera and shape come from the global maps, one rotation a part map; position
features pass over a graph of the joints and correct the rotations. Beside the published network stand the ablations
of its refinement that keep its file layout, and the baseline without parts; those with LSTMs are in
`lstm_refinement.py`. All take cleaned maps and give an `SMPLEstimate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.resnet import GroupedLayer4, stem_and_trunk
from models.gcn import (
    GraphNet,
    normalize_undirected,
    position_to_rotation_graph,
    refinement_mask,
    rotation_to_position_graph,
)
from models.iuv_estimator import NUM_CHANNELS, NUM_LOCAL
from utils.geometry import rot6d_to_rotmat
from utils.skeleton import NUM_PARTS
from utils.structures import IUVMaps, SMPLEstimate, SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float

LIMB_PORTION = 2 * NUM_PARTS  # part maps


def grouped_linear(features: int, outputs: int) -> nn.Sequential:
    """One linear layer a joint, as a grouped 1x1 convolution; index 1 is its key name."""
    convolution = nn.Conv2d(NUM_PARTS * features, NUM_PARTS * outputs, 1, groups=NUM_PARTS)
    return nn.Sequential(nn.Identity(), convolution)


def apply_grouped(layer: nn.Module, x: Float[Tensor, "B 24 D"]) -> Float[Tensor, "B 24 O"]:
    """Outputs of a `grouped_linear` layer for the features of each joint."""
    return layer(x.flatten(1)[:, :, None, None]).view(x.shape[0], NUM_PARTS, -1)


class Pose(NamedTuple):
    """Rotations and, in training, the predictions of the stages before them."""

    rotmat: Float[Tensor, "B 24 3 3"]
    aux_rotmat: tuple[Float[Tensor, "B 24 3 3"], ...] = ()
    aux_joints: tuple[Float[Tensor, "B 24 3"], ...] = ()


class PartSizes(NamedTuple):
    """Sizes of a regressor with parts, as `DaNetConfig` explains them."""

    body_width: int
    limb_width: int
    features: int
    part_stride: int


class PartRegressor(nn.Module):
    """Base of the regressors with parts: body_net (camera, shape), limb_net and grouped layers (a feature a joint).

    A subclass turns the features of the joints into rotations (`pose`). mean_cam_shape [1,13], mean_pose [1,144] (6D):
    what zero features mean; buffers, so a checkpoint carries them.
    """

    def __init__(
        self,
        mean_cam_shape: Float[Tensor, "1 13"],
        mean_pose: Float[Tensor, "1 N"],
        sizes: PartSizes,
    ):
        super().__init__()
        self.register_buffer("mean_cam_shape", mean_cam_shape.clone())
        self.register_buffer("mean_pose", mean_pose.clone())
        self.body_net = stem_and_trunk(3 * NUM_CHANNELS, sizes.body_width, out_features=13)
        self.limb_net = stem_and_trunk(3 * NUM_LOCAL, sizes.limb_width, pool=sizes.part_stride == 1)
        self.limb_reslayer = GroupedLayer4(4 * sizes.limb_width, sizes.features)

    def start_at_mean(self, *layers: nn.Sequential) -> None:
        """Small first outputs of body_net and of grouped `layers`; the last step of a constructor."""
        for layer in layers:
            nn.init.xavier_uniform_(layer[1].weight, gain=0.01)
        nn.init.xavier_uniform_(self.body_net[3].final_layer.weight, gain=0.01)

    def to_rotmat(self, pose_6d: Float[Tensor, "B 24 6"]) -> Float[Tensor, "B 24 3 3"]:
        """Rotations from 6D residuals on the mean pose."""
        pose = pose_6d.flatten(1) + self.mean_pose
        return rot6d_to_rotmat(pose).view(-1, NUM_PARTS, 3, 3)

    def limb_features(self, maps: Float[Tensor, "N 21 H W"]) -> Float[Tensor, "N D 4 4"]:
        """Part maps of all samples; outside training in portions that fit the processor's cache.

        An exported network takes any number of people, so it cannot count portions.
        """
        if self.training or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
            return self.limb_net(maps)
        return torch.cat([self.limb_net(portion) for portion in maps.split(LIMB_PORTION)])

    def pose(self, rotation: Float[Tensor, "B 24 D"]) -> Pose:
        """Rotations from the unrefined features of the joints."""
        raise NotImplementedError

    def forward(self, iuv: IUVMaps, part_iuv: IUVMaps) -> SMPLEstimate:
        """Camera, shape and rotations from cleaned global maps [B,25,H,W] and part maps [B,24,7,H,W]."""
        cam_shape = self.body_net(iuv.stack()) + self.mean_cam_shape
        limbs = self.limb_features(part_iuv.stack().flatten(0, 1))  # [B*P, 4 width, 4, 4]
        pose = self.pose(self.limb_reslayer(limbs))
        params = SMPLParams(cam_shape[:, :3], cam_shape[:, 3:], pose.rotmat)
        return SMPLEstimate(params, pose.aux_rotmat, pose.aux_joints)


def raw_rotmat(numbers: Float[Tensor, "B 24 9"]) -> Float[Tensor, "B 24 3 3"]:
    """Nine regressed numbers as a row-major matrix; nothing makes it a rotation."""
    return numbers.unflatten(-1, (3, 3))


class AggregatedRefinement(PartRegressor):
    """Refinement over a graph of the joints: the published network."""

    numbers = 6  # a joint's rotation

    def __init__(
        self,
        mean_cam_shape: Float[Tensor, "1 13"],
        mean_pose: Float[Tensor, "1 N"],
        sizes: PartSizes,
        hidden: int,
    ):
        super().__init__(mean_cam_shape, mean_pose, sizes)
        features = sizes.features
        self.edge_importance = nn.Parameter(torch.ones(1, NUM_PARTS, NUM_PARTS))
        self.register_buffer("I_n", torch.eye(NUM_PARTS)[None])
        self.register_buffer("A_mask", refinement_mask())
        self.register_buffer("r2p_A", rotation_to_position_graph())
        self.register_buffer("p2r_A", position_to_rotation_graph())
        self.coord_regressors = nn.ModuleList(grouped_linear(features, 3) for _ in range(2))
        self.pose_regressors = nn.ModuleList(grouped_linear(features, self.numbers) for _ in range(2))
        self.refine_gcn = GraphNet((features, hidden, hidden, features))
        self.r2p_gcn = GraphNet((features, features))
        self.p2r_gcn = GraphNet((features, features))
        self.start_at_mean(*self.pose_regressors)

    def refinement_graph(self) -> Float[Tensor, "1 24 24"]:
        """The normalised graph with learned edge weights (paper section 3.3)."""
        return normalize_undirected(self.I_n + self.A_mask * F.relu(self.edge_importance))

    def position_stages(self, rotation: Float[Tensor, "B 24 D"]) -> tuple[Float[Tensor, "B 24 D"], ...]:
        """Position features, before and after refinement."""
        position = self.r2p_gcn(rotation, self.r2p_A)
        return position, position + self.refine_gcn(position, self.refinement_graph())

    def pose(self, rotation: Float[Tensor, "B 24 D"]) -> Pose:
        positions = self.position_stages(rotation)
        refined = self.p2r_gcn(positions[-1], self.p2r_A)
        rotmat = self.to_rotmat(apply_grouped(self.pose_regressors[1], refined))
        if not self.training:
            return Pose(rotmat)
        return Pose(
            rotmat,
            aux_rotmat=(self.to_rotmat(apply_grouped(self.pose_regressors[0], rotation)),),
            aux_joints=tuple(map(apply_grouped, self.coord_regressors, positions)),
        )


class WithoutRefinement(AggregatedRefinement):
    """Rotation to position features and back, nothing between; the layers left out stay in the file, frozen."""

    def __init__(self, *args):
        super().__init__(*args)
        freeze(self.edge_importance, self.refine_gcn, self.coord_regressors[1])

    def position_stages(self, rotation: Float[Tensor, "B 24 D"]) -> tuple[Float[Tensor, "B 24 D"], ...]:
        return (self.r2p_gcn(rotation, self.r2p_A),)


class DirectGraphRefinement(AggregatedRefinement):
    """The graph corrects rotation features themselves; nine raw numbers a joint, no mean pose.

    Layers to and from position features stay in the file, frozen, and so does a mean pose that is not added.
    """

    numbers = 9

    def __init__(self, mean_cam_shape: Float[Tensor, "1 13"], mean_pose: Float[Tensor, "1 144"], *args):
        super().__init__(mean_cam_shape, rot6d_to_rotmat(mean_pose).reshape(1, -1), *args)
        freeze(self.r2p_gcn, self.p2r_gcn, self.coord_regressors)

    def pose(self, rotation: Float[Tensor, "B 24 D"]) -> Pose:
        refined = rotation + self.refine_gcn(rotation, self.refinement_graph())
        rotmat = raw_rotmat(apply_grouped(self.pose_regressors[1], refined))
        if not self.training:
            return Pose(rotmat)
        return Pose(rotmat, aux_rotmat=(raw_rotmat(apply_grouped(self.pose_regressors[0], rotation)),))


def freeze(*unused: nn.Module | nn.Parameter) -> None:
    """Mark weights that the file format has and nothing runs, so that no optimiser waits for their gradient."""
    for item in unused:
        item.requires_grad_(False)


class GlobalPredictor(nn.Module):
    """The baseline without parts: all 229 numbers from the global maps, raw (no mean, matrices as they come)."""

    def __init__(self, body_width: int):
        super().__init__()
        self.Conv_Body = stem_and_trunk(3 * NUM_CHANNELS, body_width, out_features=229)

    def forward(self, iuv: IUVMaps, part_iuv: IUVMaps | None = None) -> SMPLEstimate:
        """Camera, shape and raw matrices from cleaned global maps [B,25,H,W]; `part_iuv` is not used."""
        return SMPLEstimate(SMPLParams.from_vector(self.Conv_Body(iuv.stack())))


class SMPLRegressor(nn.Module):
    """Holds the regression network under the name the file format gives it."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.smpl_para_Outs = network

    def forward(self, iuv: IUVMaps, part_iuv: IUVMaps | None) -> SMPLEstimate:
        """Cleaned global maps [B,25,H,W] and part maps [B,24,7,H,W] (None: a network without parts) to a body."""
        return self.smpl_para_Outs(iuv, part_iuv)
