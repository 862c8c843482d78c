"""A skinned body as one binary glTF 2.0 file (GLB): mesh, 24 joints, weights, the pose in the nodes, the motion.

The mesh is the body of the person's shape at rest. A still has the correctives of its pose baked in where the body
has any: it bends right in this pose and approximately in others. The mesh of a motion has none. Metres, y up, as glTF
has it. The container is pygltflib's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from utils.export.motion import Y_UP, Y_UP_TEXT, ExportMotion, turned_root
from utils.io.marks import DEMO
from utils.renderer import LIGHT_BLUE, vertex_normals
from utils.skeleton import SMPL_JOINT_NAMES
from utils.structures import BodyModel

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from pygltflib import GLTF2, Attributes, Camera, Node

COMPONENT_TYPES = {"float32": 5126, "uint8": 5121, "uint32": 5125}
VERTEX_DATA, INDEX_DATA = 34962, 34963  # targets of buffer views
MAX_SETS = 2  # of four weights a vertex


def glb_bytes(motion: ExportMotion) -> bytes:
    """A GLB file; its `asset.extras` say units, axes and where the person comes from.

    Args:
        motion: a still, whose pose is in the nodes, or a track, which gets an animation, too.
    """
    import pygltflib as gltf

    vertices, joints = motion.rest()
    quaternions, places = joint_motion(motion, joints[0])
    nodes = joint_nodes(motion.body.parents, joints, places[0], quaternions[0])
    surface = gltf.PbrMetallicRoughness(
        baseColorFactor=[*map(float, LIGHT_BLUE), 1.0], metallicFactor=0.0, roughnessFactor=0.8
    )
    file = gltf.GLTF2(
        extras={"generator": DEMO},  # comes first in the file, where the mark is looked for
        asset=gltf.Asset(generator=DEMO, extras=extras(motion)),
        scene=0,
        scenes=[gltf.Scene(nodes=[0, len(nodes), len(nodes) + 1])],
        nodes=[*nodes, gltf.Node(name="person", mesh=0, skin=0), camera_node(motion)],
        cameras=[image_camera(motion)],
        materials=[gltf.Material(name="body", pbrMetallicRoughness=surface)],
        buffers=[gltf.Buffer()],
    )
    file.set_binary_blob(bytearray())
    attributes = add_vertices(file, vertices, motion.body)
    triangles = add_accessor(file, motion.body.faces.astype("<u4").reshape(-1), "SCALAR", INDEX_DATA)
    primitive = gltf.Primitive(attributes=attributes, indices=triangles, material=0)
    file.meshes = [gltf.Mesh(name="body", primitives=[primitive])]
    inverse = np.tile(np.eye(4, dtype="<f4"), (24, 1, 1))
    inverse[:, :3, 3] = -joints
    bind = add_accessor(file, inverse.transpose(0, 2, 1), "MAT4")  # matrices are stored by columns
    file.skins = [gltf.Skin(name="skeleton", inverseBindMatrices=bind, skeleton=0, joints=list(range(24)))]
    if not motion.is_still:
        add_animation(file, motion, quaternions, places)
    return b"".join(file.save_to_bytes())


def camera_node(motion: ExportMotion) -> Node:
    """The image's camera where it saw the body (a track: in its first frame); glTF's camera looks along -z, too."""
    from pygltflib import Node

    if motion.world is not None:
        turn = Rotation.from_matrix(Y_UP @ motion.world.turn @ Y_UP)
        up = [0.0, motion.world.camera_height, 0.0]
        return Node(name="camera", camera=0, translation=up, rotation=turn.as_quat().tolist())
    place = -np.asarray(motion.arrays["cam_t_full"][0], np.float64) @ Y_UP.T
    return Node(name="camera", camera=0, translation=place.tolist())


def image_camera(motion: ExportMotion) -> Camera:
    """The pinhole camera of the image, whose principal point is its middle."""
    from pygltflib import Camera, Perspective

    width, height = motion.facts["image_size"]
    angle = 2 * np.arctan(height / 2 / float(motion.facts["focal_length_full"]))
    view = Perspective(yfov=float(angle), aspectRatio=float(width / height), znear=0.05)
    return Camera(name="image", type="perspective", perspective=view)


def add_accessor(
    file: GLTF2, array: np.ndarray, kind: str, target: int | None = None, bounds: bool = False
) -> int:
    """Append an array (first axis: elements) to the file's binary part; returns the number of its accessor."""
    from pygltflib import Accessor, BufferView

    data, blob = array.tobytes(), file.binary_blob()
    file.bufferViews.append(BufferView(buffer=0, byteOffset=len(blob), byteLength=len(data), target=target))
    blob += data
    ends = {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()} if bounds else {}
    component, view = COMPONENT_TYPES[array.dtype.name], len(file.bufferViews) - 1
    file.accessors.append(
        Accessor(bufferView=view, componentType=component, count=len(array), type=kind, **ends)
    )
    return len(file.accessors) - 1


def add_vertices(file: GLTF2, vertices: Float[np.ndarray, "V 3"], body: BodyModel) -> Attributes:
    """Append positions, normals, and up to eight joints with weights of each vertex."""
    from pygltflib import Attributes

    found = {
        "POSITION": add_accessor(file, vertices.astype("<f4"), "VEC3", VERTEX_DATA, bounds=True),
        "NORMAL": add_accessor(file, normals(vertices, body.faces).astype("<f4"), "VEC3", VERTEX_DATA),
    }
    for i, (numbers, weights) in enumerate(influences(body.weights)):
        found[f"JOINTS_{i}"] = add_accessor(file, numbers, "VEC4", VERTEX_DATA)
        found[f"WEIGHTS_{i}"] = add_accessor(file, weights, "VEC4", VERTEX_DATA)
    return Attributes(**found)


def extras(motion: ExportMotion) -> dict[str, Any]:
    """Metadata of the file: units, axes, frames, source, as plain values."""
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
    pose = turned_root(motion.world_rotmat, Y_UP)
    quaternions = Rotation.from_matrix(pose.reshape(-1, 3, 3)).as_quat().reshape(-1, 24, 4)
    turns_back = (quaternions[1:] * quaternions[:-1]).sum(axis=-1) < 0
    quaternions[1:] *= np.where(np.cumsum(turns_back, axis=0) % 2, -1, 1)[..., None]
    return quaternions, (pelvis + motion.path()) @ Y_UP.T


def joint_nodes(
    parents: Int[np.ndarray, "24"],
    joints: Float[np.ndarray, "24 3"],
    place: Float[np.ndarray, "3"],
    quaternions: Float[np.ndarray, "24 4"],
) -> list[Node]:
    """Nodes of the joints in SMPL's order: offset from the parent (the root: its place) and rotation."""
    from pygltflib import Node

    return [
        Node(
            name=SMPL_JOINT_NAMES[joint],
            translation=(place if parent < 0 else joints[joint] - joints[parent]).tolist(),
            rotation=quaternions[joint].tolist(),
            children=np.flatnonzero(parents == joint).tolist(),
        )
        for joint, parent in enumerate(parents)
    ]


def add_animation(
    file: GLTF2,
    motion: ExportMotion,
    quaternions: Float[np.ndarray, "T 24 4"],
    places: Float[np.ndarray, "T 3"],
) -> None:
    """Append the motion: all joints turn, the root moves; seconds from the first frame."""
    from pygltflib import Animation, AnimationChannel, AnimationChannelTarget, AnimationSampler

    seconds = (motion.seconds - motion.seconds[0]).astype("<f4")[:, None]
    times = add_accessor(file, seconds, "SCALAR", bounds=True)
    animation = Animation(name=f"track {motion.facts['track_id']}")

    def move(joint: int, path: str, values: np.ndarray, kind: str) -> None:
        target = AnimationChannelTarget(node=joint, path=path)
        animation.channels.append(AnimationChannel(sampler=len(animation.samplers), target=target))
        output = add_accessor(file, values.astype("<f4"), kind)
        animation.samplers.append(AnimationSampler(input=times, output=output))

    move(0, "translation", places, "VEC3")
    for joint in range(24):
        move(joint, "rotation", quaternions[:, joint], "VEC4")
    file.animations.append(animation)


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
