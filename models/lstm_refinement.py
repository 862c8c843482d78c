"""Refinement of the joints' features by LSTMs along the limbs: two ablations of the paper (docs/method.md 4.2).

Each branch of the skeleton is read as a sequence, in both directions. Attribute names and their nesting are the
checkpoint's key names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.smpl_regressor import PartRegressor, PartSizes, Pose, apply_grouped, grouped_linear, raw_rotmat
from utils.skeleton import NUM_JOINTS, PART_CHILD, PART_PARENT

if TYPE_CHECKING:
    from jaxtyping import Float

SPINE = (0, 3, 6, 9)
# Sequences after the spine's: the LSTM that reads them, their joints, whether the spine's last state comes first.
CHAINS: tuple[tuple[int, tuple[int, ...], bool], ...] = (
    (0, (12, 15), True),
    (1, (9, 13, 16, 18, 20, 22), True),
    (2, (9, 14, 17, 19, 21, 23), True),
    (3, (0, 1, 4, 7, 10), False),
    (4, (0, 2, 5, 8, 11), False),
)
# Parents before their children.
BRANCHES = (
    (0, 3, 6, 9, 12, 15),
    (13, 16, 18, 20, 22),
    (14, 17, 19, 21, 23),
    (1, 4, 7, 10),
    (2, 5, 8, 11),
)


def two_layers(in_features: int, hidden: int, out_features: int) -> nn.Sequential:
    """Two 1x1 convolutions with batch norm and ReLU: features as channels."""
    return nn.Sequential(
        nn.Conv2d(in_features, hidden, 1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, out_features, 1),
        nn.BatchNorm2d(out_features),
        nn.ReLU(inplace=True),
    )


class DirectLSTMRefinement(PartRegressor):
    """LSTMs read the rotation features themselves; nine raw numbers a joint, no mean pose."""

    def __init__(self, mean_cam_shape: Float[Tensor, "1 13"], mean_pose: Float[Tensor, "1 144"], sizes: PartSizes):
        super().__init__(mean_cam_shape, mean_pose, sizes)
        features = sizes.features
        self.limb_lstm = limb_lstm(features)
        self.pose_regressors = nn.ModuleList(grouped_linear(n * features, 9) for n in (1, 2))
        self.start_at_mean()

    def pose(self, rotation: Float[Tensor, "B 24 D"]) -> Pose:
        refined = refine_along_limbs(self.limb_lstm[0], rotation)
        rotmat = raw_rotmat(apply_grouped(self.pose_regressors[1], refined))
        if not self.training:
            return Pose(rotmat)
        return Pose(rotmat, aux_rotmat=(raw_rotmat(apply_grouped(self.pose_regressors[0], rotation)),))


class LSTMRefinement(PartRegressor):
    """Rotation to position features down the kinematic chain, LSTMs over these, and back to rotation features.

    In training it needs two samples: batch norm runs over the features of single joints.
    """

    def __init__(self, mean_cam_shape: Float[Tensor, "1 13"], mean_pose: Float[Tensor, "1 144"], sizes: PartSizes):
        super().__init__(mean_cam_shape, mean_pose, sizes)
        features = sizes.features
        self.limb_lstm = limb_lstm(features)
        down = nn.ModuleList(two_layers(2 * features, 4 * features, features) for _ in range(NUM_JOINTS))
        self.rot2pos = nn.ModuleList([down])
        self.pos2rot = nn.ModuleList([two_layers(6 * features, 8 * features, features)])
        self.coord_regressors = nn.ModuleList(grouped_linear(n * features, 3) for n in (1, 2))
        self.pose_regressors = nn.ModuleList(grouped_linear(features, 6) for _ in range(2))
        self.start_at_mean()

    def positions(self, rotation: Float[Tensor, "B 24 D"]) -> Float[Tensor, "B 24 D"]:
        """A joint's position features follow from its parent's position and rotation features."""
        found: dict[int, Tensor] = {0: rotation[:, 0]}  # the root is its own parent, and is replaced first
        for joint in (joint for branch in BRANCHES for joint in branch):
            parent = PART_PARENT[joint]
            pair = torch.cat([found[parent], rotation[:, parent]], dim=1)
            found[joint] = self.rot2pos[0][joint](pair[:, :, None, None]).flatten(1)
        return torch.stack([found[joint] for joint in range(NUM_JOINTS)], dim=1)

    def rotations(self, position: Float[Tensor, "B 24 2D"]) -> Float[Tensor, "B 24 D"]:
        """A joint's rotation features follow from the positions of its parent, itself and its child."""
        around = torch.cat([position[:, list(PART_PARENT)], position, position[:, list(PART_CHILD)]], dim=-1)
        return self.pos2rot[0](around.transpose(1, 2)[..., None]).squeeze(-1).transpose(1, 2)

    def pose(self, rotation: Float[Tensor, "B 24 D"]) -> Pose:
        if self.training and len(rotation) < 2:
            raise ValueError("The lstm refinement trains on two samples or more at a time; it was given one.")
        position = self.positions(rotation)
        refined = refine_along_limbs(self.limb_lstm[0], position)
        rotmat = self.to_rotmat(apply_grouped(self.pose_regressors[1], self.rotations(refined)))
        if not self.training:
            return Pose(rotmat)
        return Pose(
            rotmat,
            aux_rotmat=(self.to_rotmat(apply_grouped(self.pose_regressors[0], rotation)),),
            aux_joints=tuple(map(apply_grouped, self.coord_regressors, (position, refined))),
        )


def limb_lstm(features: int) -> nn.ModuleList:
    """Five bidirectional LSTMs (spine and head, left arm, right arm, left leg, right leg), nested as in the files."""
    lstms = (nn.LSTM(features, features, batch_first=True, bidirectional=True) for _ in range(5))
    return nn.ModuleList([nn.ModuleList(lstms)])


def refine_along_limbs(lstms: nn.ModuleList, x: Float[Tensor, "B 24 D"]) -> Float[Tensor, "B 24 2D"]:
    """Features twice, plus what the LSTMs add to each joint."""
    spine, state = lstms[0](x[:, list(SPINE)])
    hidden = dict(zip(SPINE, spine.unbind(dim=1), strict=True))
    for lstm, chain, after_spine in CHAINS:
        states, _ = lstms[lstm](x[:, list(chain)], state if after_spine else None)
        # The spine's state of joint 0 stays; that of joint 9 is replaced by the arms' states, as published.
        hidden |= {j: state for j, state in zip(chain, states.unbind(dim=1), strict=True) if j != 0}
    return torch.cat([x, x], dim=-1) + torch.stack([hidden[joint] for joint in range(NUM_JOINTS)], dim=1)
