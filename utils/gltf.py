"""A skinned body as one binary glTF 2.0 file (GLB): mesh, 24 joints, weights, the pose in the nodes, the motion.

The mesh is the body of the person's shape at rest. A still has the correctives of its pose baked in where the body
has any: it bends right in this pose and approximately in others. The mesh of a motion has none. Metres, y up, as glTF
has it.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from utils.export_motion import Y_UP, Y_UP_TEXT, ExportMotion, turned_root
from utils.file_marks import DEMO
from utils.renderer import LIGHT_BLUE, vertex_normals
from utils.skeleton import SMPL_JOINT_NAMES

if TYPE_CHECKING:
    from jaxtyping import Float, Int

FLOAT, BYTE, INT = 5126, 5121, 5125  # component types
VERTEX_DATA, INDEX_DATA = 34962, 34963  # targets of buffer views
MAX_SETS = 2  # of four weights a vertex


def glb_bytes(motion: ExportMotion) -> bytes:
    """The file; its `asset.extras` say units, axes and where the person comes from."""
    vertices, joints = motion.rest()
    quaternions, places = joint_motion(motion, joints[0])
    buffer = Buffer()
    attributes = {
        "POSITION": buffer.add(vertices.astype(np.float32), "VEC3", FLOAT, VERTEX_DATA, bounds=True),
        "NORMAL": buffer.add(normals(vertices, motion.body.faces), "VEC3", FLOAT, VERTEX_DATA),
    }
    for i, (numbers, weights) in enumerate(influences(motion.body.weights)):
        attributes[f"JOINTS_{i}"] = buffer.add(numbers, "VEC4", BYTE, VERTEX_DATA)
        attributes[f"WEIGHTS_{i}"] = buffer.add(weights, "VEC4", FLOAT, VERTEX_DATA)
    triangles = buffer.add(motion.body.faces.astype(np.uint32).reshape(-1), "SCALAR", INT, INDEX_DATA)
    inverse = np.tile(np.eye(4, dtype=np.float32), (24, 1, 1))
    inverse[:, :3, 3] = -joints
    bind = buffer.add(inverse.transpose(0, 2, 1), "MAT4", FLOAT)  # matrices are stored by columns
    nodes = joint_nodes(motion.body.parents, joints, places[0], quaternions[0])
    mesh_node = {"name": "person", "mesh": 0, "skin": 0}
    document = {
        "asset": {"version": "2.0", "generator": DEMO, "extras": extras(motion)},
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
        **animations(buffer, motion, quaternions, places),
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }  # fmt: skip
    return pack(document, bytes(buffer.data))


def extras(motion: ExportMotion) -> dict[str, Any]:
    """What the file says in words and numbers beside the scene."""
    if len(motion) == 1:
        mesh = "body of this shape at rest, correctives of this pose baked in; the pose is in the nodes"
    else:
        mesh = (
            "body of the track's mean shape at rest, without correctives of pose; the motion is in the animation, the "
            "first frame's pose in the nodes"
        )
    return {
        "units": "metres",
        "axes": Y_UP_TEXT,
        "place": motion.place_note(),
        "source": motion.source(),
        "mesh": mesh,
        "note": motion.body_note(),
        "betas": [float(value) for value in motion.betas()],
    }


def joint_motion(
    motion: ExportMotion, pelvis: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "T 24 4"], Float[np.ndarray, "T 3"]]:
    """Rotations (x, y, z, w) of the joints and places of the root.

    The layer turns a body about its pelvis and leaves the pelvis where it is at rest, in the camera frame. Signs are
    such that neighbours in time are neighbours as numbers: some viewers blend quaternions number by number.
    """
    pose = turned_root(motion.rotmat, Y_UP)
    quaternions = Rotation.from_matrix(pose.reshape(-1, 3, 3)).as_quat().reshape(-1, 24, 4)
    turns_back = (quaternions[1:] * quaternions[:-1]).sum(axis=-1) < 0
    quaternions[1:] *= np.where(np.cumsum(turns_back, axis=0) % 2, -1, 1)[..., None]
    return quaternions, (pelvis + motion.path()) @ Y_UP.T


def joint_nodes(
    parents: Int[np.ndarray, "24"],
    joints: Float[np.ndarray, "24 3"],
    place: Float[np.ndarray, "3"],
    quaternions: Float[np.ndarray, "24 4"],
) -> list[dict[str, Any]]:
    """Nodes of the joints in SMPL's order: offset from the parent (the root: its place) and rotation."""
    nodes = []
    for joint, parent in enumerate(parents):
        offset = place if parent < 0 else joints[joint] - joints[parent]
        node: dict[str, Any] = {
            "name": SMPL_JOINT_NAMES[joint],
            "translation": [float(value) for value in offset],
            "rotation": [float(value) for value in quaternions[joint]],
        }
        if children := [int(child) for child in np.flatnonzero(parents == joint)]:
            node["children"] = children
        nodes.append(node)
    return nodes


def animations(
    buffer: Buffer,
    motion: ExportMotion,
    quaternions: Float[np.ndarray, "T 24 4"],
    places: Float[np.ndarray, "T 3"],
) -> dict[str, Any]:
    """The document's `animations`: all joints turn, the root moves; seconds from the first frame. None for a still.

    A track of a single frame has one of one key.
    """
    if motion.is_still:
        return {}
    seconds = motion.seconds - motion.seconds[0]
    times = buffer.add(seconds.astype(np.float32)[:, None], "SCALAR", FLOAT, bounds=True)
    tracks = [(0, "translation", buffer.add(places.astype(np.float32), "VEC3", FLOAT))]
    for joint in range(24):
        turns = quaternions[:, joint].astype(np.float32)
        tracks.append((joint, "rotation", buffer.add(turns, "VEC4", FLOAT)))
    samplers = [{"input": times, "output": values, "interpolation": "LINEAR"} for _, _, values in tracks]
    channels = [
        {"sampler": i, "target": {"node": joint, "path": path}} for i, (joint, path, _) in enumerate(tracks)
    ]
    return {
        "animations": [
            {"name": f"track {motion.facts['track_id']}", "samplers": samplers, "channels": channels}
        ]
    }


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


def normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Unit normals, float32; up where a vertex has no face of any area, for glTF has no zero normals."""
    found = vertex_normals(vertices, faces)
    found[np.linalg.norm(found, axis=1) < 0.5] = (0.0, 1.0, 0.0)
    return found


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
