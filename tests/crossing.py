"""Two rendered people who walk past each other, with everything known about them; a detector that sees them badly."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datasets.people.detector import suppress
from datasets.synthetic.pose import TURN, load_motions
from models import SMPL
from utils.body import BodyAssets, resolve_body
from utils.io.video import VideoFile
from utils.people import Detection
from utils.renderer.people import FullCamera, draw_people
from utils.skeleton import GT24_TO_COCO17

FPS, FRAMES = 30.0, 60
COLORS = np.array([[0.8, 0.25, 0.2], [0.2, 0.35, 0.8]])


@dataclass(frozen=True)
class Walker:
    """A person over time, in front of a camera that stands still."""

    rotmat: np.ndarray  # [T,24,3,3] float32
    betas: np.ndarray  # [10] float32
    cam_t: np.ndarray  # [T,3] metres
    vertices: np.ndarray  # [T,V,3] metres, without cam_t
    joints: np.ndarray  # [T,24,3] SMPL's
    keypoints: np.ndarray  # [T,17,3] pixels
    boxes: np.ndarray  # [T,4] x, y, width, height


@functools.cache
def assets() -> BodyAssets:
    """The open body."""
    return resolve_body("open")


@functools.cache
def smpl() -> SMPL:
    return SMPL(assets().body, assets().extra, assets().surface)


@functools.cache
def crossing(size: tuple[int, int] = (320, 240)) -> tuple[Walker, Walker]:
    """One person walks to the right, another, half a metre farther away, to the left; they meet in mid-clip."""
    return (
        walker("walk_forward", 90, (-1.5, 1.5), 4.4, 0.5, size),
        walker("walk", -90, (1.5, -1.5), 5.0, -1.0, size),
    )


def walker(
    clip: str, heading: float, across: tuple[float, float], depth: float, shape: float, size: tuple[int, int]
) -> Walker:
    """heading: degrees, 0 faces the camera; across, depth: metres; shape: the first coefficient."""
    motions = load_motions()
    number = motions.names.index(clip)
    poses = motions.rotvec[motions.start[number] : motions.start[number + 1]]
    there_and_back = np.concatenate([poses, poses[-2:0:-1]])
    rotvec = there_and_back[np.arange(FRAMES) % len(there_and_back)].copy()
    root = Rotation.from_rotvec(rotvec[:, 0])
    facing = root.as_matrix()[0][:, 2]  # of the first frame
    view = Rotation.from_euler("y", heading - np.degrees(np.arctan2(facing[0], facing[2])), degrees=True)
    rotvec[:, 0] = (TURN * view * root).as_rotvec()
    rotmat = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3).astype(np.float32)
    betas = np.zeros(10, np.float32)
    betas[0] = shape
    with torch.inference_mode():
        body = smpl()(torch.from_numpy(rotmat), torch.from_numpy(betas).expand(FRAMES, 10))
    cam_t = np.stack([np.linspace(*across, FRAMES), np.full(FRAMES, 0.1), np.full(FRAMES, depth)], axis=1)
    pixels = project(body.vertices.numpy(), cam_t, size)
    low, high = (np.clip(end, 0, size) for end in (pixels.min(axis=1), pixels.max(axis=1)))
    coco = project(body.joints.numpy()[:, 25:], cam_t, size)[:, list(GT24_TO_COCO17)]
    sure = np.full((FRAMES, 17, 1), 0.9)
    return Walker(
        rotmat, betas, cam_t, body.vertices.numpy(), body.smpl_joints.numpy(),
        np.concatenate([coco, sure], axis=2), np.concatenate([low, high - low], axis=1),
    )  # fmt: skip


def focal_length(size: tuple[int, int]) -> float:
    return float(np.hypot(*size))


def project(points: np.ndarray, cam_t: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels of points [T,N,3]."""
    moved = points + cam_t[:, None]
    return focal_length(size) * moved[..., :2] / moved[..., 2:] + np.array(size) / 2


def image(people: tuple[Walker, ...], frame: int, size: tuple[int, int] = (320, 240)) -> np.ndarray:
    """The frame [H,W,3] uint8: people over grey noise."""
    grain = np.random.default_rng(frame).integers(90, 150, (size[1], size[0], 1))
    ground = np.repeat(grain, 3, axis=2).astype(np.uint8)
    bodies = [
        (p.vertices[frame], FullCamera(p.cam_t[frame], focal_length(size), (size[0] / 2, size[1] / 2)))
        for p in people
    ]
    return draw_people(ground, bodies, assets().body.faces, colors=COLORS)


def write_clip(path: Path) -> None:
    """The crossing as an MP4 file."""
    path.write_bytes(_clip())


@functools.cache
def _clip() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoFile(path, (320, 240), FPS) as video:
            for frame in range(FRAMES):
                video.write(image(crossing(), frame))
        return path.read_bytes()


def detections(
    people: tuple[Walker, ...], frame: int, rng: np.random.Generator, hidden: bool = True
) -> list[Detection]:
    """Noisy boxes and keypoints in random order. hidden: while the people overlap, those farther away are missed."""
    found = []
    for person in people:
        noise = 0.03 * max(person.boxes[frame][2:])
        box = person.boxes[frame] + rng.normal(0, noise, 4)
        keypoints = person.keypoints[frame].copy()
        keypoints[:, :2] += rng.normal(0, noise, (17, 2))
        found.append(Detection(tuple(map(float, box)), float(rng.uniform(0.6, 0.9)), keypoints))
    if hidden:
        found = suppress([Detection(p.box, 1.0 - i / 10, p.keypoints) for i, p in enumerate(found)], 0.1)
    return [found[i] for i in rng.permutation(len(found))]


def frames_in(path: Path) -> int:
    """How many frames a video file says it has."""
    return int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))


@contextmanager
def files_of_at_most(size: int):
    """As a disk that is full in mid-file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
