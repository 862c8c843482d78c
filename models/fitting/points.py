"""Points of a posed body in a crop, and how they move with pose, shape and camera (docs/method.md 14.2).

Derivatives are written out, so that a step costs a few matrix products and no automatic differentiation. Pose
correctives of a body that has them are left out: they move vertices by millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.smpl import SMPL
from utils.geometry import CROP_SIZE, FOCAL_LENGTH, batch_rodrigues
from utils.skeleton import GT24_TO_COCO17, JOINT49_FROM_54, NUM_JOINTS, NUM_OPENPOSE
from utils.structures import Record

if TYPE_CHECKING:
    from jaxtyping import Float, Int

NUM_BETAS = 10
# Unknowns of a person: 72 of the pose, 10 of the shape, log s, tx, ty.
POSE, BETAS = slice(0, 72), slice(72, 82)
# Standard deviations; no person of a thousand has a shape beyond, nor has one that networks learn from.
MAX_BETA = 3.0


@dataclass(frozen=True)
class FitState(Record):
    """Unknowns of a fit. Rotations are axis-angle; the root's turns `root`, which stays."""

    root: Float[Tensor, "B 3 3"]
    rotvec: Float[Tensor, "B 24 3"]
    betas: Float[Tensor, "B 10"]
    cam: Float[Tensor, "B 3"]  # s, tx, ty

    def moved(self, step: Float[Tensor, "B 85"]) -> FitState:
        """The state after a step of the unknowns, shapes within MAX_BETA."""
        cam = torch.cat(
            [self.cam[:, :1] * step[:, 82:83].clamp(-1, 1).exp(), self.cam[:, 1:] + step[:, 83:]], dim=1
        )
        return FitState(
            self.root,
            self.rotvec + step[:, POSE].view(-1, NUM_JOINTS, 3),
            (self.betas + step[:, BETAS]).clamp(-MAX_BETA, MAX_BETA),
            cam,
        )

    def rotmat(self) -> Float[Tensor, "B 24 3 3"]:
        """Rotations relative to the parents."""
        local = batch_rodrigues(self.rotvec.reshape(-1, 3)).view(-1, NUM_JOINTS, 3, 3)
        return torch.cat([(self.root @ local[:, 0])[:, None], local[:, 1:]], dim=1)


@dataclass(frozen=True)
class RestPoints(Record):
    """N points of each resting body: where they are (metres), how they move with the shape, and their skinning."""

    template: Float[Tensor, "B 3 N"]
    shapedirs: Float[Tensor, "B 3 10 N"]
    weights: Float[Tensor, "B 24 N"]


class PointBody:
    """Reads points off a body layer and poses them.

    Args:
        smpl: the body; its tensors are shared, on their device.
    """

    def __init__(self, smpl: SMPL):
        self.joints = smpl.joint_template.view(NUM_JOINTS, 3)
        self.joint_dirs = smpl.joint_shapedirs.view(NUM_BETAS, NUM_JOINTS, 3).permute(1, 2, 0).contiguous()
        rows = [
            smpl.template.view(3, -1),
            smpl.shapedirs.view(NUM_BETAS, 3, -1).transpose(0, 1).flatten(0, 1),
        ]
        of_joints = [
            self.joints.T,
            self.joint_dirs.permute(1, 2, 0).flatten(0, 1),
            torch.eye(NUM_JOINTS).to(rows[0]),
        ]
        # One row a point, the 24 joints and COCO's 17 keypoints after the vertices: template, 3 x 10 of the shape,
        # 24 weights.
        table = torch.cat([torch.cat([*rows, smpl.weights]), torch.cat(of_joints)], dim=1).T
        self.first_joint = len(table) - NUM_JOINTS
        self.first_keypoint = len(table)
        self._table = torch.cat([table, _coco_rows(smpl, table)])
        descends = torch.eye(NUM_JOINTS)  # [joint, other]: whether the other one is the joint or below it
        for joint in range(NUM_JOINTS - 1, 0, -1):
            descends[smpl.parents[joint]] += descends[joint]
        self._descends = descends.to(self._table)
        self._parents = torch.tensor([0, *smpl.parents[1:]], device=self._table.device)
        self._identity = torch.eye(3).to(self._table)
        # Ancestors 1, 2, 4, 8 steps up; beyond the root stands the number 24, of an identity.
        above = [NUM_JOINTS, *smpl.parents[1:], NUM_JOINTS]
        self._ancestors = []
        while any(joint < NUM_JOINTS for joint in above):
            self._ancestors.append(torch.tensor(above[:-1], device=self._table.device))
            above = [above[joint] for joint in above]

    def rest(self, index: Int[Tensor, "B N"]) -> RestPoints:
        """The points of these numbers: vertices, then joints from `first_joint`, COCO's from `first_keypoint` on."""
        rows = self._table[index].transpose(1, 2)
        return RestPoints(rows[:, :3], rows[:, 3:33].unflatten(1, (3, NUM_BETAS)), rows[:, 33:])

    def project(
        self, state: FitState, points: RestPoints
    ) -> tuple[Float[Tensor, "B 2 N"], Float[Tensor, "B 85 2 N"]]:
        """Where the points lie in the crop (-1..1), and the derivative by the 85 unknowns.

        The derivative leaves out that a point's depth changes its size: a crop's camera stands some 50 m away.
        """
        rotations = self._chain(state)
        rest = self._rest_joints(state.betas)  # [B,24,3,11]: the joints, and these by the shape
        offsets = torch.cat([rest[:, :1], rest[:, 1:] - rest[:, self._parents[1:]]], dim=1)
        turned = torch.cat([offsets[:, :1], rotations[:, self._parents[1:]] @ offsets[:, 1:]], dim=1)
        posed_joints = (self._descends.T @ turned.flatten(2)).view_as(rest)
        shift = posed_joints - rotations @ rest  # what a bone adds to the turned vertices
        joints = posed_joints[..., 0]
        vertices = points.template + (points.shapedirs * state.betas[:, None, :, None]).sum(2)
        size = len(vertices), NUM_JOINTS, 3, -1
        on_bones = (rotations.flatten(1, 2) @ vertices).view(size) + shift[..., :1]
        on_bones = (on_bones * points.weights[:, :, None]).flatten(2)
        below = (self._descends @ on_bones).view(size)  # of each joint: its descendants' share of the points
        arms = below - joints[..., None] * (self._descends @ points.weights)[:, :, None]
        posed = below[:, 0]

        depth = posed[:, 2] + 2 * FOCAL_LENGTH / (CROP_SIZE * state.cam[:, :1])
        scale = 2 * FOCAL_LENGTH / CROP_SIZE / depth
        projected = (posed[:, :2] + state.cam[:, 1:, None]) * scale[:, None]

        turns = _world_turns(state, rotations)  # [B,24,3,3]
        x, y, z = arms[:, :, None].unbind(3)  # [B,24,1,N]
        by_x, by_y, by_z = turns[..., None].unbind(2)  # [B,24,3,1]
        by_pose = torch.stack([z * by_y - y * by_z, x * by_z - z * by_x], dim=3).flatten(1, 2)  # [B,72,2,N]
        blend = (rotations[:, :, :2].flatten(2).transpose(1, 2) @ points.weights).unflatten(1, (2, 3))
        by_shape = (blend[:, :, :, None] * points.shapedirs[:, None]).sum(2)
        moves = shift[:, :, :2, 1:].flatten(2).transpose(1, 2) @ points.weights
        by_shape = (by_shape + moves.unflatten(1, (2, NUM_BETAS))).transpose(1, 2)
        scale = scale[:, None, None]
        zero = torch.zeros_like(scale)
        by_shift = torch.cat([torch.cat([scale, zero], 2), torch.cat([zero, scale], 2)], dim=1)
        derivative = torch.cat([by_pose * scale, by_shape * scale, projected[:, None], by_shift], dim=1)
        return projected, derivative

    def _chain(self, state: FitState) -> Float[Tensor, "B 24 3 3"]:
        """World rotations of the joints."""
        rotations = state.rotmat()
        identity = self._identity.expand(len(rotations), 1, 3, 3)
        for above in self._ancestors:  # products along the chain, twice as long each time
            rotations = torch.cat([rotations, identity], dim=1)[:, above] @ rotations
        return rotations

    def _rest_joints(self, betas: Float[Tensor, "B 10"]) -> Float[Tensor, "B 24 3 11"]:
        """The resting joints, and their derivative by the shape."""
        rest = self.joints + (self.joint_dirs @ betas[:, None, :, None])[..., 0]
        return torch.cat([rest[..., None], self.joint_dirs.expand(len(betas), -1, -1, -1)], dim=-1)


def _coco_rows(smpl: SMPL, table: Float[Tensor, "N R"]) -> Float[Tensor, "17 R"]:
    """The rows of COCO's keypoints: means of vertices, or joints, which stand at the end of the table."""
    joints = table[-NUM_JOINTS:]
    points = smpl.point_weights.T @ table[smpl.point_vertices]
    candidates = torch.cat([joints, points])
    return candidates[[JOINT49_FROM_54[NUM_OPENPOSE + joint] for joint in GT24_TO_COCO17]]


def _world_turns(state: FitState, rotations: Float[Tensor, "B 24 3 3"]) -> Float[Tensor, "B 24 3 3"]:
    """How small changes of the axis-angle vectors turn everything below a joint, in the camera's axes.

    R(v + d) = R(v) exp(J d) with the right Jacobian J = 1 - (1 - cos a) / a^2 [v] + (a - sin a) / a^3 [v]^2.
    """
    vector = state.rotvec
    angle = vector.norm(dim=-1, keepdim=True)[..., None].clamp(min=1e-4)
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    first = 2 * (torch.sin(angle / 2) / angle) ** 2  # (1 - cos a) / a^2 without cancellation
    second = torch.where(angle > 0.05, (angle - angle.sin()) / angle**3, 1 / 6 - angle**2 / 120)
    return rotations @ (identity - first * cross + second * (cross @ cross))
