"""A posed body as a plain mesh, written by trimesh: OBJ (text, y up) and PLY (binary, z up).

Neither format says which axis is up. OBJ readers take y; of PLY readers Blender takes z, others show it as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utils.export.motion import Y_UP, Y_UP_TEXT, Z_UP, Z_UP_TEXT, ExportMotion
from utils.io.marks import DEMO

if TYPE_CHECKING:
    from jaxtyping import Float
    from trimesh import Trimesh


def obj_bytes(still: ExportMotion) -> bytes:
    """An OBJ file: vertices in metres, y up; faces counter-clockwise from outside."""
    header = "\n# ".join(_comments(still, Y_UP_TEXT))
    text = _posed_mesh(still, Y_UP).export(file_type="obj", header=header, digits=6, include_normals=False)
    return text.encode()


def ply_bytes(still: ExportMotion) -> bytes:
    """A PLY file: vertices in metres, z up, float32; faces counter-clockwise from outside; little endian."""
    made = _posed_mesh(still, Z_UP).export(file_type="ply", vertex_normal=False)
    comments = "".join(f"comment {line}\n" for line in _comments(still, Z_UP_TEXT))
    return made.replace(b"element vertex", comments.encode() + b"element vertex", 1)


def _posed_mesh(still: ExportMotion, turn: Float[np.ndarray, "3 3"]) -> Trimesh:
    """The body of the first frame, turned from the camera frame."""
    from trimesh import Trimesh

    return Trimesh(still.vertices[0] @ turn.T, still.body.faces, process=False)


def _comments(still: ExportMotion, axes: str) -> list[str]:
    lines = (f"{DEMO}; metres; {axes}", still.place_note(), still.source())
    return [line.replace("\n", " ") for line in lines]  # file names may hold any character
