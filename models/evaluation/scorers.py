"""From predicted bodies to the rows that an evaluation keeps of each sample (docs/method.md 11).

A scorer is a function (predicted parameters, batch, extras of the samples) -> rows: named arrays with one entry a
sample. Metres and pixels; what is printed in millimetres is converted where it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from models.smpl import SMPL
from utils.geometry import BOX_UNIT, CROP_SIZE, batch_rodrigues, project_to_crop, rotmat_to_rotvec
from utils.metrics import confusion_counts, similarity_align
from utils.renderer.lsp_parts import PartRenderer, TrueParts, uncrop
from utils.skeleton import (
    GT24_TO_COCO17,
    GT24_TO_J14,
    GT24_TO_J17,
    H36M17_NAMES,
    H36M_TO_J14,
    H36M_TO_J17,
    NUM_OPENPOSE,
)
from utils.structures import Batch, Regressor, SMPLParams, require_same_body

if TYPE_CHECKING:
    from jaxtyping import Float

Rows = dict[str, np.ndarray]
Scorer = Callable[[SMPLParams, Batch, Sequence[Any]], Rows]
NUM_LSP_PARTS, UNKNOWN = 7, 255


@dataclass(frozen=True)
class JointSet:
    """Which joints count: their places among the 17 regressed ones and among the 24 stored ones."""

    name: str
    regressed: tuple[int, ...]
    stored: tuple[int, ...]

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(H36M17_NAMES[joint] for joint in self.regressed)


JOINT_SETS = {
    "J14": JointSet("J14", H36M_TO_J14, GT24_TO_J14),
    "J17": JointSet("J17", H36M_TO_J17, GT24_TO_J17),
}


class JointRegressor(nn.Module):
    """The 17 Human3.6M joints of posed vertices; refuses a regressor of another body."""

    def __init__(self, smpl: SMPL, h36m: Regressor):
        super().__init__()
        require_same_body(smpl.model_id, h36m)
        used = np.flatnonzero(np.any(h36m.matrix != 0, axis=0))
        self.register_buffer("vertices", torch.from_numpy(used), persistent=False)
        self.register_buffer("weights", torch.from_numpy(h36m.matrix[:, used].copy()), persistent=False)

    def forward(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B 17 3"]:
        return self.weights @ vertices[:, self.vertices]


class StoredTruth:
    """True joints as the data set stores them, relative to the pelvis."""

    def __init__(self, joint_set: JointSet):
        self.joint_set = joint_set

    def __call__(self, batch: Batch) -> tuple[Float[Tensor, "B J 3"], None]:
        return batch.joints_3d[:, self.joint_set.stored, :3], None


class PosedTruth:
    """True joints and surface from the stored pose and shape, on the body of the person's gender.

    bodies: gender (0 male, 1 female, -1 unknown) -> body and its joint regressor.
    """

    def __init__(self, joint_set: JointSet, bodies: Mapping[int, tuple[SMPL, JointRegressor]]):
        self.joint_set, self.bodies = joint_set, bodies

    def __call__(self, batch: Batch) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B V 3"]]:
        rotmat = batch_rodrigues(batch.rotvec.reshape(-1, 3)).view(-1, 24, 3, 3)
        joints = vertices = None
        for gender, (smpl, regress) in self.bodies.items():
            mine = batch.gender == gender
            if not mine.any():
                continue
            posed = smpl(rotmat[mine], batch.betas[mine]).vertices
            regressed = regress(posed)
            if joints is None:
                joints = regressed.new_zeros(len(mine), *regressed.shape[1:])
                vertices = posed.new_zeros(len(mine), *posed.shape[1:])
            joints[mine], vertices[mine] = regressed, posed
        pelvis = joints[:, :1]
        return (joints - pelvis)[:, self.joint_set.regressed], vertices - pelvis


class JointScorer:
    """MPJPE, PA-MPJPE and, where the true surface is known, PVE; all about the regressed pelvis."""

    def __init__(
        self, smpl: SMPL, regress: JointRegressor, joint_set: JointSet, truth: StoredTruth | PosedTruth
    ):
        self.smpl, self.regress, self.joint_set, self.truth = smpl, regress, joint_set, truth

    def __call__(self, params: SMPLParams, batch: Batch, extras: Sequence[Any] = ()) -> Rows:
        posed = self.smpl(params.rotmat, params.betas).vertices
        regressed = self.regress(posed)
        pelvis = regressed[:, :1]
        pred = (regressed - pelvis)[:, self.joint_set.regressed].double()
        true, true_vertices = self.truth(batch)
        true = true.double()
        aligned = similarity_align(pred, true)
        rows = {
            "pred_joints": regressed,
            "true_joints": true.float(),
            "joint_error": (pred - true).norm(dim=-1).float(),
            "pa_joint_error": (aligned - true).norm(dim=-1).float(),
        }
        rows["mpjpe"], rows["pa_mpjpe"] = rows["joint_error"].mean(dim=1), rows["pa_joint_error"].mean(dim=1)
        if true_vertices is not None:
            rows["pve"] = (posed - pelvis - true_vertices).norm(dim=-1).mean(dim=1)
        return {name: value.cpu().numpy() for name, value in rows.items()} | _body_rows(params)


class PartScorer:
    """Person mask and six body parts in the picture against the annotated ones (the LSP protocol).

    Extras are `TrueParts`; rows are counts of pixels, so that totals add up. `to_picture` brings a 224 x 224 label map
    back to the picture: default `utils.renderer.lsp_parts.uncrop`.
    """

    def __init__(self, smpl: SMPL, renderer: PartRenderer, to_picture: Callable[..., np.ndarray] = uncrop):
        self.smpl, self.renderer, self.to_picture = smpl, renderer, to_picture

    def __call__(self, params: SMPLParams, batch: Batch, extras: Sequence[TrueParts]) -> Rows:
        rendered = self.renderer(self.smpl(params.rotmat, params.betas).vertices, params.cam).cpu().numpy()
        masks, parts = [], []
        for labels, true in zip(rendered, extras, strict=True):
            found = self.to_picture(labels > 0, true.center, true.scale, true.mask.shape) > 0
            masks.append(confusion_counts(found.astype(np.uint8), (true.mask > 0).astype(np.uint8), 2))
            found = self.to_picture(labels, true.center, true.scale, true.parts.shape)
            parts.append(confusion_counts(found, true.parts, NUM_LSP_PARTS))
        return {"mask_counts": np.stack(masks), "part_counts": np.stack(parts), **_body_rows(params)}


class KeypointScorer:
    """The 17 COCO keypoints of predicted bodies in pixels of the picture."""

    def __init__(self, smpl: SMPL):
        self.smpl = smpl

    def __call__(self, params: SMPLParams, batch: Batch, extras: Sequence[Any] = ()) -> Rows:
        joints = self.smpl(params.rotmat, params.betas).joints[:, NUM_OPENPOSE:][:, GT24_TO_COCO17]
        crop = project_to_crop(joints, params.cam).double() * (CROP_SIZE / 2)  # pixels from the crop's middle
        picture = (
            batch.center.double()[:, None] + crop * (BOX_UNIT * batch.scale.double() / CROP_SIZE)[:, None, None]
        )
        return {
            "keypoints": picture.cpu().numpy(),
            **_body_rows(params),
        }


def _body_rows(params: SMPLParams) -> Rows:
    """Pose as axis-angle, shape and camera: what a 2020 result file holds beside the joints."""
    rows = {"pose": rotmat_to_rotvec(params.rotmat).flatten(1), "betas": params.betas, "camera": params.cam}
    return {name: value.cpu().numpy() for name, value in rows.items()}
