"""A skinned body as one binary glTF 2.0 file (GLB): mesh, 24 joints, weights, and the pose in the nodes.

The mesh is the body of the person's shape at rest, with the correctives of its pose baked in where the body has any:
it bends right in this pose and approximately in others. Metres, y up, as glTF has it.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from utils.export_person import Y_UP, Y_UP_TEXT, ExportPerson, turned_root
from utils.renderer import LIGHT_BLUE
from utils.skeleton import SMPL_JOINT_NAMES

if TYPE_CHECKING:
    from jaxtyping import Float, Int

FLOAT, BYTE, INT = 5126, 5121, 5125  # component types
VERTEX_DATA, INDEX_DATA = 34962, 34963  # targets of buffer views
MAX_SETS = 2  # of four weights a vertex


def glb_bytes(person: ExportPerson) -> bytes:
    """The file; its `asset.extras` say units, axes and where the person comes from."""
    vertices, joints = person.rest()
    pose = turned_root(person.rotmat, Y_UP)
    buffer = Buffer()
    attributes = {
        "POSITION": buffer.add(vertices.astype(np.float32), "VEC3", FLOAT, VERTEX_DATA, bounds=True),
        "NORMAL": buffer.add(
            vertex_normals(vertices, person.body.faces).astype(np.float32), "VEC3", FLOAT, VERTEX_DATA
        ),
    }
    for i, (numbers, weights) in enumerate(influences(person.body.weights)):
        attributes[f"JOINTS_{i}"] = buffer.add(numbers, "VEC4", BYTE, VERTEX_DATA)
        attributes[f"WEIGHTS_{i}"] = buffer.add(weights, "VEC4", FLOAT, VERTEX_DATA)
    triangles = buffer.add(person.body.faces.astype(np.uint32).reshape(-1), "SCALAR", INT, INDEX_DATA)
    inverse = np.tile(np.eye(4, dtype=np.float32), (24, 1, 1))
    inverse[:, :3, 3] = -joints
    bind = buffer.add(inverse.transpose(0, 2, 1), "MAT4", FLOAT)  # matrices are stored by columns
    nodes = joint_nodes(person.body.parents, joints, pose)
    mesh_node = {"name": "person", "mesh": 0, "skin": 0}
    document = {
        "asset": {"version": "2.0", "generator": "danet", "extras": extras(person)},
        "scene": 0,
        "scenes": [{"nodes": [0, len(nodes)]}],
        "nodes": [*nodes, mesh_node],
        "meshes": [{"name": "body", "primitives": [{"attributes": attributes, "indices": triangles, "material": 0}]}],
        "skins": [{"name": "skeleton", "inverseBindMatrices": bind, "skeleton": 0, "joints": list(range(24))}],
        "materials": [
            {
                "name": "body",
                "pbrMetallicRoughness": {
                    "baseColorFactor": [*map(float, LIGHT_BLUE), 1.0],
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.8,
                },
            }
        ],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }  # fmt: skip
    return pack(document, bytes(buffer.data))


def extras(person: ExportPerson) -> dict[str, Any]:
    """What the file says in words and numbers beside the scene."""
    return {
        "units": "metres",
        "axes": Y_UP_TEXT,
        "place": person.place_note(),
        "source": person.source(),
        "mesh": "body of this shape at rest, correctives of this pose baked in; the pose is in the nodes",
        "note": person.body_note(),
        "betas": [float(value) for value in person.arrays["betas"]],
    }


def joint_nodes(
    parents: Int[np.ndarray, "24"], joints: Float[np.ndarray, "24 3"], pose: Float[np.ndarray, "24 3 3"]
) -> list[dict[str, Any]]:
    """Nodes of the joints in SMPL's order: offset from the parent and rotation (x, y, z, w).

    The layer turns a body about its pelvis and leaves the pelvis where it is at rest, in the camera frame.
    """
    quaternions = Rotation.from_matrix(pose).as_quat()
    nodes = []
    for joint, parent in enumerate(parents):
        offset = Y_UP @ joints[joint] if parent < 0 else joints[joint] - joints[parent]
        node: dict[str, Any] = {
            "name": SMPL_JOINT_NAMES[joint],
            "translation": [float(value) for value in offset],
            "rotation": [float(value) for value in quaternions[joint]],
        }
        if children := [int(child) for child in np.flatnonzero(parents == joint)]:
            node["children"] = children
        nodes.append(node)
    return nodes


def influences(weights: Float[np.ndarray, "V 24"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Joint numbers [V,4] (uint8) and weights [V,4] (float32, sum 1 over all sets), the largest first.

    A second set only where a body needs it. Readers that know one set (three.js) drop the smallest weights and scale
    the others up.
    """
    order = np.argsort(-weights, axis=1, kind="stable")[:, : 4 * MAX_SETS]
    largest = np.take_along_axis(weights.astype(np.float64), order, axis=1).clip(min=0)
    sets = max(1, -(-int((largest > 0).sum(axis=1).max()) // 4))
    order, largest = order[:, : 4 * sets], largest[:, : 4 * sets]
    shares = (largest / largest.sum(axis=1, keepdims=True)).astype(np.float32)
    shares[:, 0] = 1 - shares[:, 1:].sum(axis=1, dtype=np.float64)
    numbers = np.where(shares > 0, order, 0).astype(np.uint8)
    return [(numbers[:, i : i + 4], shares[:, i : i + 4]) for i in range(0, 4 * sets, 4)]


def vertex_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    """Unit normals, faces weighted by area; up where a vertex has no face of any area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], np.cross(b - a, c - a))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-12, normals / length.clip(min=1e-12), [0.0, 1.0, 0.0])


class Buffer:
    """The one binary buffer of a file, and the views and accessors into it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(
        self, array: np.ndarray, kind: str, component: int, target: int | None = None, bounds: bool = False
    ) -> int:
        """Append an array (first axis: elements) and return the number of its accessor."""
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        accessor: dict[str, Any] = {
            "bufferView": len(self.views), "componentType": component, "count": len(array), "type": kind,
        }  # fmt: skip
        if bounds:
            accessor["min"], accessor["max"] = (
                [float(x) for x in ends] for ends in (array.min(0), array.max(0))
            )
        self.views.append(view)
        self.accessors.append(accessor)
        self.data += data + bytes(-len(data) % 4)
        return len(self.accessors) - 1


def pack(document: dict[str, Any], binary: bytes) -> bytes:
    """Header, JSON chunk (padded with spaces) and binary chunk (padded with zeros)."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = (
        struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
