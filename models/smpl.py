"""The body as a layer: pose and shape to vertices and 49 joints (paper section 3.3; docs/method.md 2.4 and 4.3)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from utils.body import (
    OPEN_DIR,
    SMPL_ID,
    BodyTensors,
    body_tensors,
    read_regressor,
    read_smpl_file,
    skin,
    surface_points,
)
from utils.skeleton import JOINT49_FROM_54
from utils.structures import BodyModel, Regressor, SMPLOutput, require_same_body

if TYPE_CHECKING:
    from jaxtyping import Float


class SMPL(nn.Module):
    """Linear blend skinning of one body file, with the 49 joints that the network is trained on.

    model_file: official .pkl or .npz, the open body's .npz, or a `BodyModel`.
    extra_regressor: the 9 regressed joints as a `Regressor` or a file; None finds the file that belongs to
    the body. `surface` are the body's 21 surface points, None likewise.
    All tensors are non-persistent buffers: a body never enters a checkpoint.
    """

    faces: Tensor

    def __init__(
        self,
        model_file: str | os.PathLike | BodyModel,
        extra_regressor: str | os.PathLike | Regressor | None = None,
        surface: Regressor | None = None,
    ) -> None:
        super().__init__()
        body = model_file if isinstance(model_file, BodyModel) else read_smpl_file(model_file)
        folder = OPEN_DIR if isinstance(model_file, BodyModel) else Path(model_file).resolve().parent
        if not isinstance(extra_regressor, Regressor):
            extra_regressor = read_regressor(extra_regressor or _extra_file(body, folder), "extra")
        if surface is None:
            beside = folder / "regressors.npz"
            surface = surface_points(body, beside if beside.is_file() else None)
        for regressor in (extra_regressor, surface):
            require_same_body(body, regressor)
        self.model_id = body.model_id
        self.parents = tuple(int(p) for p in body.parents)
        for name, value in vars(body_tensors(body)).items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("faces", torch.from_numpy(body.faces).long(), persistent=False)
        rows = np.concatenate([surface.matrix, extra_regressor.matrix])
        used = np.flatnonzero(np.any(rows != 0, axis=0))  # a few hundred vertices make all points
        self.register_buffer("point_vertices", torch.from_numpy(used), persistent=False)
        self.register_buffer("point_weights", torch.from_numpy(rows[:, used].T.copy()), persistent=False)
        self.register_buffer("joint_index", torch.tensor(JOINT49_FROM_54), persistent=False)

    def forward(self, rotmat: Float[Tensor, "B 24 3 3"], betas: Float[Tensor, "B 10"]) -> SMPLOutput:
        """Posed body in the frame of the root rotation, metres.

        Raises ValueError for other shapes.
        """
        if rotmat.ndim != 4 or rotmat.shape[1:] != (24, 3, 3) or betas.shape != (len(rotmat), 10):
            raise ValueError(
                f"Expected rotations [B, 24, 3, 3] and shapes [B, 10], got {list(rotmat.shape)} and "
                f"{list(betas.shape)}."
            )
        rotmat, betas = rotmat.to(self.template.dtype), betas.to(self.template.dtype)
        constants = BodyTensors(**{name: getattr(self, name) for name in BodyTensors.__dataclass_fields__})
        vertices, smpl_joints = skin(constants, self.parents, rotmat, betas)
        points = (vertices[:, :, self.point_vertices] @ self.point_weights).transpose(1, 2)
        joints = torch.cat([smpl_joints, points], dim=1)[:, self.joint_index]
        return SMPLOutput(vertices.transpose(1, 2).contiguous(), joints, smpl_joints)


def _extra_file(body: BodyModel, folder: Path) -> Path:
    """File of the 9 extra regressor rows of a body, relative to the folder of its file.

    Raises FileNotFoundError saying where the file comes from.
    """
    if body.model_id != SMPL_ID:
        beside = folder / "regressors.npz"
        return beside if beside.is_file() else OPEN_DIR / "regressors.npz"
    candidates = [folder.parent / "J_regressor_extra.npy", folder / "J_regressor_extra.npy"]
    if folder == OPEN_DIR:
        candidates = [OPEN_DIR.parent / "J_regressor_extra.npy"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"J_regressor_extra.npy is missing (looked for {' and '.join(map(str, candidates))}). It makes 9 "
        "of the 49 joints of the official body and comes with the data of SPIN (github.com/nkolot/SPIN, "
        "fetch_data.sh); see data/README.md."
    )
