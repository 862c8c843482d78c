"""One person as the exporters read it, and the turns from the camera frame to the frames of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from utils.body import SMPL_ID
from utils.structures import BodyModel, Regressor

if TYPE_CHECKING:
    from jaxtyping import Float

# From the camera frame (x right, y down, z forward); both are turns about x, so left stays left.
Y_UP = np.diag([1.0, -1.0, -1.0])
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
Y_UP_TEXT = "x right, y up, z towards the camera; a person who faces the camera faces +z"
Z_UP_TEXT = "x right, y away from the camera, z up; a person who faces the camera faces -y"
CAMERA_TEXT = "camera frame: x right, y down, z forward"


@dataclass(frozen=True)
class ExportPerson:
    """A person of a picture: the arrays and facts of its npz file, with the body they belong to.

    arrays: of `export.person_arrays`. facts: where they come from, as `export.save_person` takes them. The body stands
    at its own origin, as in `arrays["vertices"]`; `facts["cam_t_full"]` puts it in front of the camera.
    """

    body: BodyModel
    surface: Regressor
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]

    @property
    def rotmat(self) -> Float[np.ndarray, "24 3 3"]:
        """Rotations, each made exact (networks whose matrices come as they are, too)."""
        return nearest_rotations(self.arrays["rotmat"])

    def rest(self) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "24 3"]]:
        """The body of this shape before it is posed: vertices with the pose's correctives, and joints; y up, metres."""
        betas = np.asarray(self.arrays["betas"], np.float64)
        vertices = self.body.v_template + self.body.shapedirs @ betas
        joints = self.body.J_regressor.astype(np.float64) @ vertices
        if self.body.posedirs is not None:
            bend = (self.rotmat[1:] - np.eye(3)).reshape(-1)
            vertices = vertices + (bend @ self.body.posedirs).reshape(-1, 3)
        return vertices, joints

    def source(self) -> str:
        """Picture, body and weights in one line."""
        facts = self.facts
        return f"picture {facts['picture']}; body {self.body.model_id}; weights {facts['weights']}"

    def body_note(self) -> str:
        """Whose shape numbers these are."""
        if self.body.model_id == SMPL_ID:
            return "betas and pose belong to the neutral SMPL body"
        return (
            f"betas and pose belong to the body '{self.body.model_id}', whose shape space is not SMPL's: with an "
            "official body the pose is close, the shape is meaningless"
        )

    def place_note(self) -> str:
        """How to put the body where the camera saw it."""
        x, y, z = (float(value) for value in self.facts["cam_t_full"])
        return (
            f"body at its own origin; the camera saw it at ({x:.4f}, {y:.4f}, {z:.4f}) m in the {CAMERA_TEXT}, focal "
            f"length {float(self.facts['focal_length_full']):.1f} px"
        )


def nearest_rotations(matrices: Float[np.ndarray, "*N 3 3"]) -> Float[np.ndarray, "*N 3 3"]:
    """The rotation closest to each matrix."""
    left, _, right = np.linalg.svd(np.asarray(matrices, np.float64))
    left[..., 2] *= np.sign(np.linalg.det(left @ right))[..., None]
    return left @ right


def turned_root(
    rotmat: Float[np.ndarray, "24 3 3"], turn: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "24 3 3"]:
    """The pose in another frame: only the root changes."""
    return np.concatenate([turn @ rotmat[:1], rotmat[1:]])


def rotation_vectors(rotmat: Float[np.ndarray, "24 3 3"]) -> Float[np.ndarray, "24 3"]:
    return Rotation.from_matrix(rotmat).as_rotvec()
