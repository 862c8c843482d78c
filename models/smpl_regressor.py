"""Global and partial IUV maps -> camera, shape and 24 rotations by aggregated refinement (paper section 3.3).

method.md section 4. Camera and shape come from the global maps, one rotation a part map; position features pass
over a graph of the joints and correct the rotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.gcn import (
    GraphNet,
    normalize_undirected,
    position_to_rotation_graph,
    refinement_mask,
    rotation_to_position_graph,
)
from models.iuv_estimator import NUM_CHANNELS, NUM_LOCAL, NUM_PARTS
from models.resnet import GroupedLayer4, stem_and_trunk
from utils.geometry import rot6d_to_rotmat
from utils.structures import IUVMaps, SMPLEstimate, SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float

LIMB_PORTION = 2 * NUM_PARTS  # part maps


def grouped_linear(features: int, outputs: int) -> nn.Sequential:
    """One linear layer a joint, as a grouped 1x1 convolution; index 1 is its key name."""
    convolution = nn.Conv2d(NUM_PARTS * features, NUM_PARTS * outputs, 1, groups=NUM_PARTS)
    return nn.Sequential(nn.Identity(), convolution)


def apply_grouped(layer: nn.Module, x: Float[Tensor, "B 24 D"]) -> Float[Tensor, "B 24 O"]:
    return layer(x.flatten(1)[:, :, None, None]).view(len(x), NUM_PARTS, -1)


class AggregatedRefinement(nn.Module):
    """body_net (camera, shape), limb_net and grouped layers (a feature a joint), graph refinement.

    mean_cam_shape [1,13], mean_pose [1,144] (6D): what zero features mean; buffers, so a checkpoint carries them.
    """

    def __init__(
        self,
        mean_cam_shape: Float[Tensor, "1 13"],
        mean_pose: Float[Tensor, "1 144"],
        body_width: int = 64,
        limb_width: int = 64,
        features: int = 128,
        hidden: int = 256,
    ):
        super().__init__()
        self.edge_importance = nn.Parameter(torch.ones(1, NUM_PARTS, NUM_PARTS))
        self.register_buffer("mean_cam_shape", mean_cam_shape.clone())
        self.register_buffer("mean_pose", mean_pose.clone())
        self.register_buffer("I_n", torch.eye(NUM_PARTS)[None])
        self.register_buffer("A_mask", refinement_mask())
        self.register_buffer("r2p_A", rotation_to_position_graph())
        self.register_buffer("p2r_A", position_to_rotation_graph())
        self.body_net = stem_and_trunk(3 * NUM_CHANNELS, body_width, out_features=13)
        self.limb_net = stem_and_trunk(3 * NUM_LOCAL, limb_width)
        self.limb_reslayer = GroupedLayer4(4 * limb_width, features)
        self.coord_regressors = nn.ModuleList(grouped_linear(features, 3) for _ in range(2))
        self.pose_regressors = nn.ModuleList(grouped_linear(features, 6) for _ in range(2))
        self.refine_gcn = GraphNet((features, hidden, hidden, features))
        self.r2p_gcn = GraphNet((features, features))
        self.p2r_gcn = GraphNet((features, features))
        for layer in self.pose_regressors:  # start at the mean pose
            nn.init.xavier_uniform_(layer[1].weight, gain=0.01)
        nn.init.xavier_uniform_(self.body_net[3].final_layer.weight, gain=0.01)

    def refinement_graph(self) -> Float[Tensor, "1 24 24"]:
        return normalize_undirected(self.I_n + self.A_mask * F.relu(self.edge_importance))

    def to_rotmat(self, pose_6d: Float[Tensor, "B 24 6"]) -> Float[Tensor, "B 24 3 3"]:
        pose = pose_6d.flatten(1) + self.mean_pose
        return rot6d_to_rotmat(pose).view(-1, NUM_PARTS, 3, 3)

    def limb_features(self, maps: Float[Tensor, "N 21 H W"]) -> Float[Tensor, "N D 4 4"]:
        """Part maps of all samples; outside training in portions that fit the processor's cache."""
        if self.training:
            return self.limb_net(maps)
        return torch.cat([self.limb_net(portion) for portion in maps.split(LIMB_PORTION)])

    def forward(self, iuv: IUVMaps, part_iuv: IUVMaps) -> SMPLEstimate:
        cam_shape = self.body_net(iuv.stack()) + self.mean_cam_shape
        limbs = self.limb_features(part_iuv.stack().flatten(0, 1))  # [B*P, 4 width, 4, 4]
        rotation = self.limb_reslayer(limbs)  # [B, 24, D]
        position = self.r2p_gcn(rotation, self.r2p_A)
        refined_position = position + self.refine_gcn(position, self.refinement_graph())
        refined_rotation = self.p2r_gcn(refined_position, self.p2r_A)
        rotmat = self.to_rotmat(apply_grouped(self.pose_regressors[1], refined_rotation))
        params = SMPLParams(cam_shape[:, :3], cam_shape[:, 3:], rotmat)
        if not self.training:
            return SMPLEstimate(params)
        return SMPLEstimate(
            params,
            aux_rotmat=(self.to_rotmat(apply_grouped(self.pose_regressors[0], rotation)),),
            aux_joints=(
                apply_grouped(self.coord_regressors[0], position),
                apply_grouped(self.coord_regressors[1], refined_position),
            ),
        )


class SMPLRegressor(nn.Module):
    """Holds the regression network under the name the file format gives it."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.smpl_para_Outs = network

    def forward(self, iuv: IUVMaps, part_iuv: IUVMaps) -> SMPLEstimate:
        """Cleaned global maps [B,25,H,W] and part maps [B,24,7,H,W] to a body."""
        return self.smpl_para_Outs(iuv, part_iuv)
