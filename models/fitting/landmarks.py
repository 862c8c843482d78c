"""Points of the body that BlazePose's points stand for, the bones between them, and the posed points.

The tables are those of docs/method.md 8.11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.smpl import SMPL
from utils.body import BodyTensors, skin
from utils.skeleton import JOINT_NAMES, NUM_JOINTS

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

SURFACE_STEP = 14  # every so many vertices one is compared with the person's mask

# BlazePose's number -> name of the body's joint (prefix "op_": OpenPose's points) and weight. Points of fingers, mouth
# and corners of the eyes have no counterpart. Hips are guesses inside the body.
LANDMARKS: dict[int, tuple[str, float]] = {
    0: ("op_nose", 0.5), 2: ("op_left_eye", 0.4), 5: ("op_right_eye", 0.4),
    7: ("op_left_ear", 0.5), 8: ("op_right_ear", 0.5),
    11: ("op_left_shoulder", 1.0), 12: ("op_right_shoulder", 1.0), 13: ("op_left_elbow", 1.0),
    14: ("op_right_elbow", 1.0), 15: ("op_left_wrist", 1.0), 16: ("op_right_wrist", 1.0),
    23: ("left_hip", 0.25), 24: ("right_hip", 0.25), 25: ("op_left_knee", 1.0), 26: ("op_right_knee", 1.0),
    27: ("op_left_ankle", 1.0), 28: ("op_right_ankle", 1.0), 29: ("op_left_heel", 0.5), 30: ("op_right_heel", 0.5),
    31: ("op_left_big_toe", 0.6), 32: ("op_right_big_toe", 0.6),
}  # fmt: skip
# Two of BlazePose's points, and what the direction from the first to the second weighs.
BONES = (
    (11, 13, 1.0), (13, 15, 1.0), (12, 14, 1.0), (14, 16, 1.0),
    (23, 25, 1.2), (25, 27, 1.2), (24, 26, 1.2), (26, 28, 1.2),
    (11, 12, 1.0), (23, 24, 1.0), (11, 23, 1.0), (12, 24, 1.0), (27, 31, 0.6), (28, 32, 0.6), (7, 0, 0.5), (8, 0, 0.5),
)  # fmt: skip


def point_numbers() -> tuple[Int[Tensor, "N"], Int[Tensor, "N"], Float[Tensor, "N"]]:
    """BlazePose's points that are fitted: their numbers, rows among the body's 49 joints, and weights."""
    names, weights = zip(*LANDMARKS.values(), strict=True)
    return (
        torch.tensor(list(LANDMARKS)),
        torch.tensor([JOINT_NAMES.index(n) for n in names]),
        torch.tensor(weights),
    )


def bone_numbers() -> tuple[Int[Tensor, "2 M"], Int[Tensor, "2 M"], Float[Tensor, "M"]]:
    """The bones' two ends as BlazePose's numbers and as rows of the 49 joints, and their weights."""
    first, second, weights = zip(*BONES, strict=True)
    rows = [[JOINT_NAMES.index(LANDMARKS[number][0]) for number in ends] for ends in (first, second)]
    return torch.tensor([first, second]), torch.tensor(rows), torch.tensor(weights)


class LandmarkBody:
    """Poses the 49 joints of a body, and a part of its vertices, without the rest; differentiable.

    Pose correctives of a body that has them are left out: they move vertices by millimetres.

    Args:
        smpl: the body; its tensors are shared, on their device.
    """

    def __init__(self, smpl: SMPL):
        self._smpl = smpl
        every = torch.arange(0, smpl.weights.shape[1], SURFACE_STEP, device=smpl.template.device)
        self._joints_only = _part_of(smpl, smpl.point_vertices)
        self._with_surface = _part_of(smpl, torch.cat([smpl.point_vertices, every]))

    def __call__(
        self, rotmat: Float[Tensor, "B 24 3 3"], betas: Float[Tensor, "B 10"], with_surface: bool = False
    ) -> tuple[Float[Tensor, "B 49 3"], Float[Tensor, "B S 3"]]:
        """Joints and vertices (none of them without `with_surface`), metres."""
        smpl = self._smpl
        body = self._with_surface if with_surface else self._joints_only
        vertices, joints = skin(body, smpl.parents, rotmat, betas)
        count = len(smpl.point_vertices)
        points = (vertices[:, :, :count] @ smpl.point_weights).transpose(1, 2)
        return torch.cat([joints, points], dim=1)[:, smpl.joint_index], vertices[:, :, count:].transpose(1, 2)

    @property
    def rest_joints(self) -> Float[Tensor, "24 3"]:
        """SMPL's joints of the mean shape at rest."""
        return self._smpl.joint_template.view(NUM_JOINTS, 3)


def _part_of(smpl: SMPL, vertices: Int[Tensor, "S"]) -> BodyTensors:
    """The tensors of some vertices of a body."""
    count = smpl.weights.shape[1]
    columns = torch.cat([vertices + axis * count for axis in range(3)])
    return BodyTensors(
        template=smpl.template[columns],
        shapedirs=smpl.shapedirs[:, columns],
        posedirs=None,
        joint_template=smpl.joint_template,
        joint_shapedirs=smpl.joint_shapedirs,
        weights=smpl.weights[:, vertices],
    )
