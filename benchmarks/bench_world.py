"""What `--static_camera` makes of rendered people whose world is known: up, ground, foot slide and jitter.

    python benchmarks/bench_world.py            # two clips of three seconds, the shipped weights

Clips of the shipped motions walk before a tilted camera, their feet on its ground; true boxes stand for a detector.
Before: the bodies as the camera saw them, in the true level frame. After: the world of the track's npz. Slide is the
horizontal way, from frame to frame, of the points of feet that truly stand; jitter the mean acceleration of the pelvis
less the true one. The spread of the heights of standing points is that of the ground.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.spatial.transform import Rotation

from datasets.people.video import VideoFrames
from datasets.people.video_people import VideoPeople
from datasets.synthetic.body import pose_body
from datasets.synthetic.generator import Camera, load_resources, paint
from models import InferenceConfig, Predictor, load_predictor
from models.inference.video_files import VideoFiles
from models.inference.video_run import VideoRun
from utils.body import load_open_body, surface_points
from utils.export.steps import FOOT_JOINTS, soles_of
from utils.io import load_npz
from utils.io.video import VideoFile
from utils.people import Detection
from utils.script import StopSignals

SIZE, FPS, FOCAL = (640, 480), 30.0, 800.0
HEIGHT, DISTANCE, PITCH = 1.6, 4.5, 12.0  # of the camera, metres; of the person; degrees downwards
STANDS, SLOW = 0.02, 0.1  # metres above the ground, metres a second: a point that truly stands
Y_UP = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Pinhole(Camera):
    """A perspective camera of the whole image; `cam` is where the body stands before it, metres."""

    @property
    def metre(self) -> float:
        return FOCAL / float(self.cam[2])

    def project(self, points: np.ndarray) -> np.ndarray:
        moved = points + self.cam
        pixels = FOCAL * moved[:, :2] / moved[:, 2:] + np.array(SIZE) / 2
        return np.column_stack([pixels, moved[:, 2]]).astype(np.float32)

    def window(self, pixels: np.ndarray) -> tuple[int, int, int]:
        return 0, 0, SIZE[0]


@dataclass(frozen=True)
class Walk:
    """A person in a world whose y is down, level, with its origin at the camera; metres."""

    rotvec: np.ndarray  # [T,24,3], the root in the camera's frame
    betas: np.ndarray
    cam_t: np.ndarray  # [T,3], camera's frame
    pelvis: np.ndarray  # [T,3], world
    feet: np.ndarray  # [T,6,3], world
    level: np.ndarray  # [3,3], from the camera's frame

    @property
    def stands(self) -> np.ndarray:
        """Which points of the feet truly stand, [T,6]."""
        speed = np.linalg.norm(np.gradient(self.feet, axis=0), axis=-1) * FPS
        return (self.feet[..., 1] > HEIGHT - STANDS) & (speed < SLOW)


def make_walk(resources, clip: str, heading: float, frames: int) -> Walk:
    """The motion, to and fro, moved such that the lowest point of its feet stays where it is."""
    motions, assets = resources.motions, resources.assets
    number = motions.names.index(clip)
    poses = motions.rotvec[motions.start[number] : motions.start[number + 1]]
    rotvec = poses[np.arange(frames) % len(poses)].astype(np.float64)
    turn = Rotation.from_euler("y", heading, degrees=True)
    level = Rotation.from_euler("x", -PITCH, degrees=True).as_matrix()  # the camera looks down
    upright = Rotation.from_matrix(Y_UP) * turn * Rotation.from_rotvec(rotvec[:, 0])
    rotvec[:, 0] = upright.as_rotvec()
    betas = np.zeros(10, np.float32)
    bodies = [pose_body(assets, each, betas) for each in rotvec]
    body = load_open_body()
    soles = soles_of(body, surface_points(body))
    feet = np.stack([each.joints[FOOT_JOINTS] for each in bodies]) + soles[:, None] * [0.0, 1.0, 0.0]
    place = np.zeros((frames, 3))
    for i in range(1, frames):
        lowest = feet[i - 1, :, 1].argmax()
        place[i] = place[i - 1] + feet[i - 1, lowest] - feet[i, lowest]
    place[:, 1] = HEIGHT - feet[..., 1].max(axis=1)
    place[:, [0, 2]] += [0, DISTANCE] - place[:, [0, 2]].mean(axis=0)
    rotvec[:, 0] = (Rotation.from_matrix(level.T) * upright).as_rotvec()
    pelvis = np.stack([each.smpl_joints[0] for each in bodies])
    cam_t = (place + pelvis) @ level - pelvis  # the body turns about its pelvis
    return Walk(rotvec, betas, cam_t, place + pelvis, feet + place[:, None], level)


def write_clip(path: Path, resources, walk: Walk, seed: int) -> list[Detection]:
    """The rendered walk as a video; its true boxes."""
    rng = np.random.default_rng(seed)
    outfit, found = resources.draw_outfit(rng), []
    wall, floor = rng.uniform(0.3, 0.8, (2, 3))
    ground = np.where(np.arange(SIZE[1])[:, None, None] < 0.55 * SIZE[1], wall, floor) * np.ones((1, SIZE[0], 1))
    ground = ground.astype(np.float32)
    with VideoFile(path, SIZE, FPS) as video:
        for rotvec, cam_t in zip(walk.rotvec, walk.cam_t, strict=True):
            body, camera, image = pose_body(resources.assets, rotvec, walk.betas), Pinhole(cam_t), ground.copy()
            square = np.zeros((SIZE[0], SIZE[0], 3), np.float32)
            square[: SIZE[1]] = image
            paint(square, resources, body, camera, outfit)
            video.write((square[: SIZE[1]] * 255).clip(0, 255).astype(np.uint8))
            pixels = camera.project(body.vertices)[:, :2]
            low, high = np.clip(pixels.min(0), 0, SIZE), np.clip(pixels.max(0), 0, SIZE)
            found.append(Detection(tuple(map(float, (*low, *(high - low)))), 0.9))
    return found


def predict(predictor: Predictor, clip: Path, out: Path, boxes: list[Detection], smooth: bool) -> dict[str, np.ndarray]:
    """The track of the clip as the demo writes it."""
    frames, rest = VideoFrames(str(clip)), iter(boxes)
    files = VideoFiles(out, frames.stem, predictor.assets, overwrite=True, static_camera=True)
    people = VideoPeople(frames, lambda _: [next(rest)], smooth)
    with VideoRun(frames, people, predictor, files, 8, smooth, FOCAL, StopSignals()) as run:
        for frame in run.read_ahead():
            run.add(frame)
        run.finish()
    return load_npz(out / f"{frames.stem}_track0.npz")


def compare(name: str, walk: Walk, track: dict[str, np.ndarray], soles: np.ndarray) -> None:
    """Print the measures before and after."""
    points = track["joints"][:, FOOT_JOINTS], track["smpl_joints"][:, 0]
    turn = Y_UP @ track["world_from_camera"]
    before = (points[1] + track["cam_t_full"]) @ walk.level.T
    after = track["world_pelvis"] @ Y_UP
    lean = np.degrees(np.arccos(np.clip(turn[1] @ walk.level[1], -1, 1)))
    known = np.degrees(np.arccos(np.clip(walk.level[1] @ [0, 1, 0], -1, 1)))
    height = float(track["camera_height"])
    print(f"{name}: up is off by {lean:.1f} degrees (the camera's own up: {known:.1f}), camera {height:.2f} m above "
          f"the ground (true: {HEIGHT:g})")  # fmt: skip
    for what, pelvis, level in (("before", before, walk.level), ("after", after, turn)):
        feet = pelvis[:, None] + (points[0] - points[1][:, None]) @ level.T + soles[:, None] * [0, 1, 0]
        both = walk.stands[1:] & walk.stands[:-1]
        slide = np.linalg.norm(np.diff(feet, axis=0)[..., [0, 2]], axis=-1)[both].mean()
        jitter = np.linalg.norm(np.diff(pelvis - walk.pelvis, n=2, axis=0), axis=-1).mean()
        print(f"  {what}: foot slide {1e3 * slide:.1f} mm a frame, jitter {1e3 * jitter:.1f} mm/frame^2, height of "
              f"standing feet +- {1e3 * feet[..., 1][walk.stands].std():.0f} mm")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--clips", nargs="+", default=["walk:-70", "dance_a:0"], help="motion:heading in degrees")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    resources = load_resources("eval")
    predictor = load_predictor(InferenceConfig(body="open", device="cpu"))
    soles = soles_of(predictor.assets.body, predictor.assets.surface)
    with tempfile.TemporaryDirectory() as temporary:
        for number, given in enumerate(args.clips):
            clip, heading = given.split(":")
            walk = make_walk(resources, clip, float(heading), args.frames)
            path = Path(temporary) / f"{clip}.mp4"
            boxes = write_clip(path, resources, walk, number)
            for smooth in (False, True):
                track = predict(predictor, path, Path(temporary) / "out", boxes, smooth)
                compare(f"{clip}{', --smooth' if smooth else ''}", walk, track, soles)


if __name__ == "__main__":
    main()
