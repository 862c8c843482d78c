"""What the exporters read: a person over time, and the turns from the camera frame to the frames of other programs.

A person of a single image is a motion of one frame (`still_motion`).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from utils.body import SMPL_ID, body_tensors, skin
from utils.export.steps import Steps, steps_of
from utils.export.world import World
from utils.geometry import nearest_rotations
from utils.structures import BodyModel, Regressor

if TYPE_CHECKING:
    from jaxtyping import Float

# From the camera frame (x right, y down, z forward); both are turns about x, so left stays left.
Y_UP = np.diag([1.0, -1.0, -1.0])
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
Y_UP_TEXT = "x right, y up, z towards the camera; a person who faces the camera faces +z"
Z_UP_TEXT = "x right, y away from the camera, z up; a person who faces the camera faces -y"
CAMERA_TEXT = "camera frame: x right, y down, z forward"
CHUNK = 128  # frames that are posed at once
STILL_FPS = 30.0  # of an image, for readers of motions that ask for a rate
SAME_RATE = 1e-6  # a mean rate that is off by less is the video's: readers may cut 24.9999 down to 24


@dataclass(frozen=True)
class ExportMotion:
    """A person in T frames of a video, or in one image (T = 1), with the body they belong to.

    Args:
        body: the body that shape and pose belong to.
        surface: its regressor of the points on the surface.
        arrays: rotmat [T,24,3,3], betas [T,10], cam [T,3], joints [T,49,3], smpl_joints [T,24,3] and, if at hand,
            vertices [T,V,3], as `people_arrays` gives them (metres, camera frame); cam_t_full [T,3] (metres), box
            [T,4], center [T,2] (pixels), scale [T], score [T], as `save_person` takes them; frame_ids [T], integers
            that increase (the track was lost where they leave some out); seconds [T], where the frames have times of
            their own; body_scale [T], where lengths are scaled to a known height. A still has its iuv [1,3,56,56], too.
        facts: picture, weights, image_size (width, height), focal_length_full (pixels), track_id.
        fps: frames a second as the video says.
        world: of a camera that stands still; None: the frame of the camera, from the body's place in the first frame.

    Raises:
        ValueError: for arrays of other lengths, frames out of order and an fps that is not positive.
    """

    body: BodyModel
    surface: Regressor
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]
    fps: float
    world: World | None = None

    def __post_init__(self):
        frames = len(self)
        lengths = {name: len(array) for name, array in self.arrays.items() if len(array) != frames}
        if frames == 0 or lengths:
            raise ValueError(
                f"A motion of {frames} frames needs arrays of as many, at least one; got {lengths}."
            )
        if (np.diff(self.frame_ids) <= 0).any():
            raise ValueError(f"frame_ids must increase from frame to frame, got {self.frame_ids.tolist()}.")
        if not 0 < self.fps < math.inf:
            raise ValueError(f"fps must be a positive number of frames a second, got {self.fps}.")
        if (np.diff(self.seconds) <= 0).any():
            raise ValueError(f"seconds must increase from frame to frame, got {self.seconds.tolist()}.")

    def __len__(self) -> int:
        return len(self.frame_ids)

    @property
    def is_still(self) -> bool:
        """Whether this is the person of an image, not a track of one frame."""
        return len(self) == 1 and "iuv" in self.arrays

    @property
    def frame_ids(self) -> np.ndarray:
        """Numbers [T] of the frames in the video."""
        return np.asarray(self.arrays["frame_ids"])

    @property
    def seconds(self) -> Float[np.ndarray, "T"]:
        """Times of the frames, seconds since the video's first one."""
        return np.asarray(self.arrays.get("seconds", self.frame_ids / self.fps), np.float64)

    @property
    def rate(self) -> float:
        """Frames a second from the first to the last, for formats that have one: a camera keeps to no rate."""
        ids, seconds = self.frame_ids, self.seconds
        mean = float((ids[-1] - ids[0]) / (seconds[-1] - seconds[0])) if len(self) > 1 else self.fps
        return self.fps if math.isclose(mean, self.fps, rel_tol=SAME_RATE) else mean

    @functools.cached_property
    def rotmat(self) -> Float[np.ndarray, "T 24 3 3"]:
        """Rotation matrices, each the nearest rotation to the network's matrix."""
        return nearest_rotations(self.arrays["rotmat"])

    @functools.cached_property
    def vertices(self) -> Float[np.ndarray, "T V 3"]:
        """Vertices of the body in every frame, about its own origin; metres, camera frame."""
        if "vertices" in self.arrays:
            return self.arrays["vertices"]
        tensors, parents = body_tensors(self.body), tuple(int(parent) for parent in self.body.parents)
        rotmat, betas = (torch.from_numpy(np.array(self.arrays[name], np.float32)) for name in ("rotmat", "betas"))
        vertices = np.empty((len(self), len(self.body.v_template), 3), np.float32)
        for start in range(0, len(self), CHUNK):
            rows = slice(start, start + CHUNK)
            vertices[rows] = skin(tensors, parents, rotmat[rows], betas[rows])[0].transpose(1, 2).numpy()
        return vertices * self.arrays["body_scale"][:, None, None] if "body_scale" in self.arrays else vertices

    @property
    def scale(self) -> float:
        """Metres of the person for a metre of the mean shape's body: the harmonic mean over the frames, 1 without."""
        scales = np.asarray(self.arrays.get("body_scale", 1.0), np.float64)
        return float(1 / np.mean(1 / scales))

    def betas(self) -> Float[np.ndarray, "10"]:
        """Mean shape over the frames, for formats with one shape a motion."""
        return np.asarray(self.arrays["betas"], np.float64).mean(axis=0)

    def rest(self) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "24 3"]]:
        """Vertices and joints of the mean shape at rest; y up, metres.

        The vertices of a still hold the correctives of its pose; those of a motion cannot.
        """
        vertices = self.body.v_template + self.body.shapedirs @ self.betas()
        joints = self.body.J_regressor.astype(np.float64) @ vertices
        if self.body.posedirs is not None and len(self) == 1:
            bend = (self.rotmat[0, 1:] - np.eye(3)).reshape(-1)
            vertices = vertices + (bend @ self.body.posedirs).reshape(-1, 3)
        return self.scale * vertices, self.scale * joints

    def path(self) -> Float[np.ndarray, "T 3"]:
        """Displacement of the body's origin since the first frame, camera frame, or from the world's origin; metres."""
        if self.world is not None:
            return self.world.places - self.rest()[1][0]
        places = np.asarray(self.arrays["cam_t_full"], np.float64)
        return places - places[0]

    @functools.cached_property
    def world_rotmat(self) -> Float[np.ndarray, "T 24 3 3"]:
        """`rotmat` with the root's rotation in the world, if there is one."""
        return self.rotmat if self.world is None else turned_root(self.rotmat, self.world.turn)

    def placed(self, points: Float[np.ndarray, "T N 3"]) -> Float[np.ndarray, "T N 3"]:
        """Points of the body, given from its origin in the camera frame, along its path or in the world; metres."""
        if self.world is None:
            return points + self.path()[:, None]
        pelvis = self.arrays["smpl_joints"][:, :1]
        return (points - pelvis) @ self.world.turn.T + self.world.places[:, None]

    def steps(self) -> Steps:
        """Places and feet of the body before the camera."""
        joints, pelvis = self.arrays["joints"], self.arrays["smpl_joints"][:, 0]
        return steps_of(joints, pelvis, self.arrays["cam_t_full"], self.frame_ids, self.rate)

    def filled(self) -> tuple[Float[np.ndarray, "N 24 3 3"], Float[np.ndarray, "N 3"]]:
        """Rotations and path of every frame from the first to the last, for formats without frame numbers.

        Between the frames that the track has, joints turn evenly the short way and the body moves along a line.
        """
        ids, path = self.frame_ids, self.path()
        every = np.arange(ids[0], ids[-1] + 1)
        before = np.searchsorted(ids, every, side="right") - 1
        after = np.minimum(before + 1, len(ids) - 1)
        share = (every - ids[before]) / np.maximum(ids[after] - ids[before], 1)
        start, end = self.world_rotmat[before], self.world_rotmat[after]
        turn = Rotation.from_matrix((start.swapaxes(-1, -2) @ end).reshape(-1, 3, 3)).as_rotvec()
        turn = turn.reshape(-1, 24, 3) * share[:, None, None]
        rotmat = start @ Rotation.from_rotvec(turn.reshape(-1, 3)).as_matrix().reshape(start.shape)
        return rotmat, path[before] + share[:, None] * (path[after] - path[before])

    def source(self) -> str:
        """Image or video, body and weights in one line."""
        facts = self.facts
        return f"picture {facts['picture']}; body {self.body.model_id}; weights {facts['weights']}"

    def body_note(self) -> str:
        """Text on which body pose and shape belong to."""
        scaled = f"; lengths are {self.scale:.4f} times those of the betas' body" if "body_scale" in self.arrays else ""
        if self.body.model_id == SMPL_ID:
            return f"betas and pose belong to the neutral SMPL body{scaled}"
        return (
            f"betas and pose belong to the body '{self.body.model_id}', whose shape space is not SMPL's: with an "
            f"official body the pose is close, the shape is meaningless{scaled}"
        )

    def place_note(self, moves: bool = True) -> str:
        """Text on the body's place before the camera. moves: the file has a path; else each frame is at the origin."""
        x, y, z = (float(value) for value in self.arrays["cam_t_full"][0])
        where = (
            f"the camera saw it at ({x:.4f}, {y:.4f}, {z:.4f}) m in the {CAMERA_TEXT}, focal length "
            f"{float(self.facts['focal_length_full']):.1f} px"
        )
        if self.world is not None and moves:
            return (
                "the body moves in a level world, whose origin is on the ground below the camera, which stands "
                f"{self.world.camera_height:.4f} m above; in its first frame, {self.frame_ids[0]} of the video, {where}"
            )
        if len(self) == 1:
            return f"body at its own origin; {where}"
        start = f"in its first frame, {self.frame_ids[0]} of the video, {where}"
        if moves:
            return (
                f"the body starts at its own origin and moves as before a camera that stands still; {start}"
            )
        return f"body at its own origin in every frame; {start}"


def turned_root(
    rotmat: Float[np.ndarray, "T 24 3 3"], turn: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "T 24 3 3"]:
    """The poses in a turned frame: the root's rotation is multiplied by `turn`."""
    return np.concatenate([turn @ rotmat[:, :1], rotmat[:, 1:]], axis=1)


def rotation_vectors(rotmat: Float[np.ndarray, "T 24 3 3"]) -> Float[np.ndarray, "T 24 3"]:
    """The rotations as axis times angle, radians."""
    return Rotation.from_matrix(rotmat.reshape(-1, 3, 3)).as_rotvec().reshape(-1, 24, 3)


def still_motion(
    body: BodyModel, surface: Regressor, arrays: dict[str, np.ndarray], facts: dict[str, Any]
) -> ExportMotion:
    """The person of an image as frame 0 of a track that has the person's number.

    The body stands at its own origin, as in `arrays["vertices"]`; `facts["cam_t_full"]` puts it in front of the camera.

    Args:
        body: the body that the shape belongs to.
        surface: its regressor of the points on the surface.
        arrays: of a person, as `people_arrays` gives them.
        facts: as `save_person` takes them: picture, weights, person, and where the crop and the camera were.
    """
    names = ("rotmat", "betas", "cam", "joints", "smpl_joints", "vertices", "iuv")
    rows = {name: arrays[name] for name in names} | {"confidence": arrays.get("confidence", 1.0), "frame_ids": 0}
    rows |= {name: facts[name] for name in ("cam_t_full", "box", "center", "scale", "score")}
    rows |= {"body_scale": arrays["body_scale"]} if "body_scale" in arrays else {}
    framed = {name: np.asarray(row)[None] for name, row in rows.items()}
    return ExportMotion(body, surface, framed, {**facts, "track_id": facts["person"]}, STILL_FPS)
