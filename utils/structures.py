"""Every typed record of the data flow: image -> `IUVEstimate` -> `SMPLEstimate` -> body. Read this file first.

B batch, P = 24 parts (SMPL joints), K = 25 IUV channels (background + 24 DensePose parts), L = 7 local channels
(background + 6 of `skeleton.PART_CHANNELS`), H = W = 56 map size, V = 6890 vertices, F faces, channels first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from utils.records import Record, joined

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class BodyModel:
    """Arrays of a body in SMPL's form (docs/method.md 4.3), as read from a file. Metres; y up, left is +x."""

    model_id: str  # "smpl" for the official files (they carry none), "danet-open-1" for the open body
    v_template: Float[np.ndarray, "V 3"]
    shapedirs: Float[np.ndarray, "V 3 10"]
    posedirs: Float[np.ndarray, "207 V*3"] | None  # None: the body has no pose correctives
    J_regressor: Float[np.ndarray, "24 V"]
    weights: Float[np.ndarray, "V 24"]
    parents: Int[np.ndarray, "24"]  # parents[0] = -1
    faces: Int[np.ndarray, "F 3"]


@dataclass(frozen=True)
class Regressor:
    """Linear map from vertices to points; valid for one body only."""

    model_id: str
    matrix: Float[np.ndarray, "N V"]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Atlas:
    """DensePose surface coordinates of a body; valid for one body only."""

    model_id: str
    vertex_map: Int[np.ndarray, "Vuv"]  # atlas vertex -> body vertex
    faces: Int[np.ndarray, "F 3"]  # into atlas vertices
    face_part: Int[np.ndarray, "F"]  # 1..24
    face_uv: Float[np.ndarray, "F 3 2"]  # (U, V) of each corner, 0..1


def require_same_body(body: BodyModel | str, other: Regressor | Atlas) -> None:
    """Raise ValueError when a regressor or atlas belongs to another body than `body` (a body or a model id)."""
    used, kind = body if isinstance(body, str) else body.model_id, type(other).__name__.lower()
    if other.model_id != used:
        raise ValueError(
            f"The {kind} belongs to the body '{other.model_id}' but the body in use is '{used}': vertex numbers do not "
            f"correspond. Use the files that come with '{used}'."
        )


@dataclass(frozen=True)
class Fragments(Record):
    """The visible face in each pixel of a rasterised mesh; every image is a shading of it."""

    face: Int[Tensor, "B H W"]  # int32, -1 = background
    bary: Float[Tensor, "B H W 3"]  # perspective-correct weights of the face's corners
    depth: Float[Tensor, "B H W"]  # metres; 0 on background


@dataclass(frozen=True)
class IUVMaps(Record):
    """Dense body parts: surface coordinates and part scores. Part maps have a leading [B, P] and L channels."""

    u: Float[Tensor, "*B K H W"]
    v: Float[Tensor, "*B K H W"]
    index: Float[Tensor, "*B K H W"]
    ann: Float[Tensor, "B 15 H W"] | None = None  # coarse 15-class scores, global maps only

    def __iter__(self):
        return iter((self.u, self.v, self.index, self.ann))

    def stack(self) -> Float[Tensor, "*B 3*K H W"]:
        """Channels as the SMPL regressor reads them: all U, then all V, then all index."""
        return torch.cat([self.u, self.v, self.index], dim=-3)


@dataclass(frozen=True)
class PartCrops(Record):
    """Joint-centred square regions of the feature map, in normalised [-1,1] coordinates (paper eq. 2)."""

    centers: Float[Tensor, "B P 2"]
    scales: Float[Tensor, "B P"]

    @property
    def theta(self) -> Float[Tensor, "B P 2 3"]:
        """Affine matrices [[s,0,cx],[0,s,cy]] for `affine_grid`."""
        zero = torch.zeros_like(self.scales)
        entries = [self.scales, zero, self.centers[..., 0], zero, self.scales, self.centers[..., 1]]
        return torch.stack(entries, dim=-1).unflatten(-1, (2, 3))


@dataclass(frozen=True)
class TrunkFeatures(Record):
    """Of a trunk that learns: the features before its first layer that does, and those that its keypoint heads read."""

    fine: Float[Tensor, "B 40 H W"]
    read: Float[Tensor, "B 24 H W"]


@dataclass(frozen=True)
class IUVEstimate(Record):
    """Raw maps of the IUV estimator; a network without parts has no part maps and no crops."""

    iuv: IUVMaps
    part_iuv: IUVMaps | None  # [B, P, L, H, W]
    heatmaps: Float[Tensor, "B P H W"]
    centers: Float[Tensor, "B P 2"]  # soft-argmax of the heat-maps, before jitter
    crops: PartCrops | None
    keypoints: Float[Tensor, "B 17 3"] | None = None  # COCO's: x, y in -1..1, score 0..1; of a trunk that knows them
    trunk: TrunkFeatures | None = None  # of a trunk that learns, in training


@dataclass(frozen=True)
class SMPLParams(Record):
    """Camera, shape and pose of a body."""

    cam: Float[Tensor, "B 3"]  # weak perspective s, tx, ty
    betas: Float[Tensor, "B 10"]
    rotmat: Float[Tensor, "B 24 3 3"]

    def to_vector(self) -> Float[Tensor, "B 229"]:
        """The 2020 layout: s, tx, ty, betas, 24 row-major matrices."""
        return torch.cat([self.cam, self.betas, self.rotmat.flatten(1)], dim=1)

    @classmethod
    def from_vector(cls, para: Float[Tensor, "B 229"]) -> SMPLParams:
        if para.ndim != 2 or para.shape[1] != 229:
            raise ValueError(f"Expected body parameters of shape [B, 229], got {tuple(para.shape)}.")
        return cls(para[:, :3], para[:, 3:13], para[:, 13:].reshape(-1, 24, 3, 3))


@dataclass(frozen=True)
class SMPLEstimate(Record):
    """Regressed body and predictions of intermediate stages (supervised in training, empty in evaluation)."""

    params: SMPLParams
    aux_rotmat: tuple[Float[Tensor, "B 24 3 3"], ...] = ()  # from unrefined features
    aux_joints: tuple[Float[Tensor, "B 24 3"], ...] = ()  # from unrefined and refined position features


@dataclass(frozen=True)
class DaNetOutput(Record):
    """Predictions of the network for a batch; `smpl` is None in stage one, `iuv` when rendered maps went in."""

    iuv: IUVEstimate | None
    smpl: SMPLEstimate | None


@dataclass(frozen=True)
class SMPLOutput(Record):
    """Posed body, metres, in the frame of the given rotations."""

    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B 49 3"]  # order of `skeleton.JOINT_NAMES`
    smpl_joints: Float[Tensor, "B 24 3"]

    def __iter__(self):
        return iter((self.vertices, self.joints, self.smpl_joints))


@dataclass(frozen=True)
class DensePosePoints(Record):
    """Annotated DensePose points of a crop (docs/method.md 8.4); zeros where a sample has none."""

    ann_labels: Int[Tensor, "*B H W"]  # 15 coarse classes
    xy: Float[Tensor, "*B 196 2"]  # on the 56 grid
    part: Int[Tensor, "*B 196"]  # 1..24, 0 = padding
    u: Float[Tensor, "*B 196"]
    v: Float[Tensor, "*B 196"]


@dataclass(frozen=True)
class Sample(Record):
    """One training or test person; every dataset gives this. A `Batch` is the same with a leading B."""

    image: Float[Tensor, "*B 3 224 224"]  # normalised
    rotvec: Float[Tensor, "*B 72"]  # axis-angle pose, zeros where has_smpl is False
    betas: Float[Tensor, "*B 10"]
    keypoints: Float[Tensor, "*B 49 3"]  # x, y in [-1,1] of the crop, confidence
    joints_3d: Float[Tensor, "*B 24 4"]  # metres, confidence
    smpl_keypoints: Float[Tensor, "*B 24 3"]  # 2D SMPL joints, [-1,1], weight
    dense: DensePosePoints
    has_smpl: Bool[Tensor, "*B"]
    has_dense: Bool[Tensor, "*B"]
    has_joints_3d: Bool[Tensor, "*B"]
    is_flipped: Bool[Tensor, "*B"]
    rotation_deg: Float[Tensor, "*B"]
    center: Float[Tensor, "*B 2"]  # person box in the source image, pixels
    scale: Float[Tensor, "*B"]  # side / 200 px
    gender: Int[Tensor, "*B"]  # 0 male, 1 female, -1 unknown
    index: Int[Tensor, "*B"]
    dense_only: Bool[Tensor, "*B"] | None = None  # of a set that gives points instead of rendered maps; None: no
    mask: Int[Tensor, "*B H W"] | None = None  # 1 person, 0 background, -1 all over: none; None: in the whole batch
    dataset: Any = ""  # name, or a tuple of names in a batch
    name: Any = ""  # image name(s)


Batch = Sample


@dataclass(frozen=True)
class Unreadable:
    """A sample whose image or labels could not be read: it is counted and named, never scored."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class PlannedBatch:
    """One batch of an evaluation: what could be read of it, and what could not."""

    batch: Batch | None  # None when nothing could be read
    extras: tuple[Any, ...]  # what a scorer needs beside the samples that were read, one for each
    unreadable: tuple[Unreadable, ...]


@dataclass(frozen=True)
class BodyFits(Record):
    """Bodies fitted to a batch's images, for people without body labels."""

    rotvec: Float[Tensor, "B 72"]
    betas: Float[Tensor, "B 10"]
    valid: Bool[Tensor, "B"]  # whether the fit may serve as a label


def collate_samples(samples: list[Sample]) -> Batch:
    """The batch of samples, stacked along a new first axis; names become tuples. Raises ValueError for none."""
    if not samples:
        raise ValueError("Cannot build a batch from no samples.")
    return joined(samples)


@dataclass(frozen=True)
class Targets(Record):
    """Targets of the losses, made without gradient from a batch (docs/method.md 7)."""

    iuv: IUVMaps  # one-hot index, rendered
    rotmat: Float[Tensor, "B 24 3 3"]
    betas: Float[Tensor, "B 10"]
    vertices: Float[Tensor, "B V 3"]
    smpl_joints: Float[Tensor, "B 24 3"]
    cam: Float[Tensor, "B 3"]
    centers: Float[Tensor, "B 24 3"]  # 2D SMPL joints in [-1,1] and their weight
    keypoints: Float[Tensor, "B 49 3"]
    joints_3d: Float[Tensor, "B 24 4"]
    dense: DensePosePoints
    has_iuv: Bool[Tensor, "B"]
    has_dense: Bool[Tensor, "B"]
    has_body: Bool[Tensor, "B"]  # ground truth or a valid fit
    has_joints_3d: Bool[Tensor, "B"]
