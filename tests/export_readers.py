"""Small readers of what the exporters write, by the rules of the formats and with none of the exporters' code."""

from __future__ import annotations

import json
import struct

import numpy as np
from scipy.spatial.transform import Rotation


def read_glb(data: bytes) -> tuple[dict, bytes]:
    magic, version, length, size, kind = struct.unpack_from("<4sII I4s", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def read_accessor(document: dict, binary: bytes, number: int) -> np.ndarray:
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    kind = {5126: "<f4", 5121: "u1", 5125: "<u4"}[accessor["componentType"]]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
    flat = np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"])
    assert flat.nbytes == view["byteLength"]
    return flat.reshape(accessor["count"], width)


def animated_nodes(document: dict, binary: bytes, key: int) -> list[dict]:
    """The nodes as the file's animation has them at its key of that number."""
    nodes = [dict(node) for node in document["nodes"]]
    (animation,) = document["animations"]
    for channel in animation["channels"]:
        values = read_accessor(document, binary, animation["samplers"][channel["sampler"]]["output"])
        nodes[channel["target"]["node"]][channel["target"]["path"]] = values[key]
    return nodes


def world_matrices(nodes: list[dict]) -> np.ndarray:
    """What a viewer does: transforms from the roots down."""
    local = np.tile(np.eye(4), (len(nodes), 1, 1))
    for matrix, node in zip(local, nodes, strict=True):
        matrix[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
        matrix[:3, 3] = node.get("translation", [0, 0, 0])
    for parent, node in enumerate(nodes):  # parents come first
        for child in node.get("children", ()):
            local[child] = local[parent] @ local[child]
    return local


def skinned(data: bytes, key: int | None = None) -> np.ndarray:
    """Vertices as a viewer shows them: as the file opens, or at a key of its animation."""
    document, binary = read_glb(data)
    nodes = document["nodes"] if key is None else animated_nodes(document, binary, key)
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    read = {name: read_accessor(document, binary, number) for name, number in attributes.items()}
    skin = document["skins"][0]
    inverse = read_accessor(document, binary, skin["inverseBindMatrices"])
    joints = world_matrices(nodes)[skin["joints"]] @ inverse.reshape(-1, 4, 4).transpose(0, 2, 1)
    points = np.concatenate([read["POSITION"], np.ones((len(read["POSITION"]), 1))], axis=1)
    posed = np.zeros_like(points)
    for i in range(2):
        if f"JOINTS_{i}" in read:
            blended = np.einsum("vi,vixy->vxy", read[f"WEIGHTS_{i}"], joints[read[f"JOINTS_{i}"]])
            posed += np.einsum("vxy,vy->vx", blended, points)
    return posed[:, :3]


def bvh_frames(text: str) -> tuple[float, np.ndarray]:
    """Frame time in seconds, and the channels' values [frames, channels]."""
    skeleton, motion = text.split("MOTION\n")
    count, time, *rows = motion.splitlines()
    values = np.array([row.split() for row in rows], float)
    assert count == f"Frames: {len(values)}"
    channels = skeleton.count("position") + skeleton.count("rotation")
    assert values.shape[1] == channels
    return float(time.removeprefix("Frame Time:")), values


def bvh_positions(text: str, frame: int = 0) -> dict[str, np.ndarray]:
    """Joint positions in a frame."""
    words = text.split()
    values = iter(bvh_frames(text)[1][frame])
    positions, stack, name, position = {}, [(np.eye(3), np.zeros(3))], "", np.zeros(3)
    offset, i = np.zeros(3), 0
    while words[i] != "MOTION":
        if words[i] in ("ROOT", "JOINT", "End"):
            name = words[i + 1] if words[i] != "End" else f"{name} end"
        elif words[i] == "OFFSET":
            offset = np.array(words[i + 1 : i + 4], float)
            rotation, position = stack[-1]
            stack.append((rotation, position + rotation @ offset))
            positions[name] = stack[-1][1]
        elif words[i] == "CHANNELS":
            channels = words[i + 2 : i + 2 + int(words[i + 1])]
            rotation, position = stack.pop()
            for channel in channels:
                value, axis = next(values), "XYZ".index(channel[0])
                if channel.endswith("position"):
                    position = position + value * np.eye(3)[axis]
                else:
                    rotation = rotation @ Rotation.from_euler("xyz"[axis], value, degrees=True).as_matrix()
            stack.append((rotation, position))
            positions[name] = position
        elif words[i] == "}":
            stack.pop()
        i += 1
    assert next(values, None) is None and len(stack) == 1
    return positions
