"""BlazePose: 33 points, 3D directions and a mask of the main person of a photograph (docs/method.md 8.10).

The networks come from the Node package `@mediapipe/pose`, which a user downloads (Apache-2.0), and run in LiteRT. A
detector finds people in the letterboxed photograph; a second network sees a square turned about the person, twice:
about the detector's points, then about its own.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.io import DataFileError
from utils.packages import require_packages

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

# A network: its input [1, S, S, 3] -> its outputs.
Network = Callable[[np.ndarray], Sequence[np.ndarray]]

FEATURE = "Labelling photographs"
DETECTOR_FILES = ("pose_solution_packed_assets.data", "pose_detection.tflite")  # the first holds nothing but the second
LANDMARK_FILE = "pose_landmark_heavy.tflite"
MAX_BYTES = 2**28
DETECTOR_SIDE, LANDMARK_SIDE, HEAT_SIDE = 224, 256, 64  # px
GRIDS = ((28, 2), (14, 2), (7, 6))  # cells a side and anchors in each: 2,254 anchors
LIKELY = 0.5  # score of a detection that is looked at
SAME_PERSON = 0.3  # IoU of detections of one person
REGION = 2.5  # side of the square, in distances from the hips to the point that sets its size
NUM_POINTS = 39  # of the second network: the landmarks, then hips and size of its next region, then four unused
HIPS, TOP = 33, 34
WINDOW, SURE = 3, 0.5  # heat maps: pixels about the point, least value at the best of them
MASK_LEVEL = 0.5


@dataclass(frozen=True)
class Region:
    """A square in a photograph."""

    center: Float[np.ndarray, "2"]  # pixels
    side: float  # pixels
    angle: float  # radians, clockwise: which way its up points

    @classmethod
    def about(cls, hips: Float[np.ndarray, "2"], top: Float[np.ndarray, "2"]) -> Region:
        """The square of a person whose body reaches from the hips up to the point `top` and as far down."""
        across, up = float(top[0] - hips[0]), float(hips[1] - top[1])
        return cls(np.asarray(hips, np.float64), REGION * math.hypot(across, up), math.atan2(across, up))

    def to_image(self, points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Points in 0..1 of the square, in pixels of the photograph."""
        return self.center + (points - 0.5) * self.side @ self.turn.T

    @property
    def turn(self) -> Float[np.ndarray, "2 2"]:
        """The rotation from the square to the photograph."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cosine, -sine], [sine, cosine]])

    def step(self, size: int) -> Float[np.ndarray, "2 3"]:
        """The affine map from pixel numbers of the square, `size` pixels wide, to pixel numbers of the photograph."""
        matrix = self.turn * (self.side / size)
        return np.column_stack([matrix, self.center - matrix.sum(axis=1) * (size - 1) / 2 - 0.5])


@dataclass(frozen=True)
class Landmarks:
    """What the second network says of a region."""

    points: Float[np.ndarray, "39 2"]  # pixels of the photograph
    visibility: Float[np.ndarray, "39"]  # 0..1
    world: Float[np.ndarray, "39 3"]  # metres about the middle of the hips, in the photograph's axes
    flag: float  # 0..1: is it a person?
    mask: Float[np.ndarray, "256 256"]  # of the region, 0..1
    region: Region


@dataclass(frozen=True)
class LabelledPerson:
    """The main person of a photograph."""

    score: float  # of the detector
    landmarks: Landmarks
    mask: Bool[np.ndarray, "H W"]

    @property
    def mask_box(self) -> tuple[int, int, int, int]:
        """x, y, width, height; zeros for an empty mask."""
        return cv2.boundingRect(self.mask.astype(np.uint8))


class BlazePose:
    """The two networks: detector [1,224,224,3] -> boxes, scores; landmarks [1,256,256,3] -> five outputs."""

    def __init__(self, detector: Network, landmarks: Network):
        self.detector, self.landmarks = detector, landmarks

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> LabelledPerson | None:
        """The main person of an RGB photograph; None where the detector finds none."""
        found = main_person(detections(self.detector, image))
        if found is None:
            return None
        score, hips, top = found
        for _ in range(2):
            seen = look(self.landmarks, image, Region.about(hips, top))
            hips, top = seen.points[HIPS], seen.points[TOP]
        return LabelledPerson(score, seen, mask_in_image(seen, image.shape[:2]))


# -------------------------------------------------------------------------------------------------- the detector


def detections(detector: Network, image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "N 9"]:
    """Detections above `LIKELY`: score, box (x0, y0, x1, y1), hips and top (x, y each), in pixels of the photograph."""
    height, width = image.shape[:2]
    scale = DETECTOR_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = ((DETECTOR_SIDE - side) // 2 for side in size)
    canvas = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), np.float32)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas[top : top + size[1], left : left + size[0]] = small
    raw, logits = (np.asarray(out[0], np.float64) for out in detector(canvas[None] / np.float32(127.5) - 1))
    points = raw.reshape(len(raw), -1, 2)  # middle of the box, its size, four points
    places = np.delete(points, 1, axis=1) / DETECTOR_SIDE + anchors()[:, None]
    half = points[:, 1] / (2 * DETECTOR_SIDE)
    square = np.concatenate([places[:, 0] - half, places[:, 0] + half, places[:, 1], places[:, 2]], axis=1)
    pixels = (square.reshape(-1, 4, 2) * DETECTOR_SIDE - [left, top]) * [width / size[0], height / size[1]]
    scores = sigmoid(logits[:, 0])
    return np.column_stack([scores, pixels.reshape(-1, 8)])[scores > LIKELY]


def anchors() -> Float[np.ndarray, "2254 2"]:
    """Middles of the anchors, in 0..1 of the detector's input."""
    rows = []
    for cells, count in GRIDS:
        y, x = np.divmod(np.arange(cells * cells), cells)
        rows.append(np.repeat((np.column_stack([x, y]) + 0.5) / cells, count, axis=0))
    return np.concatenate(rows)


def main_person(
    found: Float[np.ndarray, "N 9"],
) -> tuple[float, Float[np.ndarray, "2"], Float[np.ndarray, "2"]] | None:
    """Best score, hips and top of the largest person: detections of one are averaged by their scores."""
    people, rest = [], found[np.argsort(-found[:, 0])]
    while len(rest):
        same = _iou(rest[0, 1:5], rest[:, 1:5]) >= SAME_PERSON
        same[0] = True
        mean = np.average(rest[same, 5:], axis=0, weights=rest[same, 0])
        people.append((float(rest[0, 0]), mean[:2], mean[2:]))
        rest = rest[~same]
    return max(people, key=lambda person: np.linalg.norm(person[2] - person[1]), default=None)


def _iou(box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N"]:
    shared = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum((box[2:] - box[:2]).prod() + areas - shared, 1e-12)


# ------------------------------------------------------------------------------------------------- the landmarks


def look(network: Network, image: UInt8[np.ndarray, "H W 3"], region: Region) -> Landmarks:
    """The landmarks of the person in a region, those in the plane refined by the heat maps."""
    crop = cut_out(image, region).astype(np.float32)[None] / np.float32(255)
    points, flag, mask, heat, world = (np.asarray(out[0], np.float64) for out in network(crop))
    points, world = points.reshape(NUM_POINTS, 5), world.reshape(NUM_POINTS, 3).copy()
    world[:, :2] = world[:, :2] @ region.turn.T
    refined = refine(points[:, :2] / LANDMARK_SIDE, sigmoid(heat))
    return Landmarks(
        points=region.to_image(refined),
        visibility=sigmoid(points[:, 3]),
        world=world,
        flag=float(flag.reshape(())),
        mask=sigmoid(mask[..., 0]),
        region=region,
    )


def cut_out(image: UInt8[np.ndarray, "H W 3"], region: Region) -> UInt8[np.ndarray, "256 256 3"]:
    """The region upright, 256 px wide; black outside the photograph. Large ones are first shrunk by area averaging."""
    height, width = image.shape[:2]
    shrink = min(1.0, 2 * LANDMARK_SIDE / region.side)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    step = region.step(LANDMARK_SIDE)
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        factor = np.array([size[0] / width, size[1] / height])
        step = np.column_stack([step[:, :2] * factor[:, None], (step[:, 2] + 0.5) * factor - 0.5])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, step, (LANDMARK_SIDE, LANDMARK_SIDE), flags=flags, borderMode=cv2.BORDER_CONSTANT)


def refine(
    points: Float[np.ndarray, "39 2"], heat: Float[np.ndarray, "64 64 39"]
) -> Float[np.ndarray, "39 2"]:
    """Points in 0..1, moved to the mean of the heat about them where one of its values there is above `SURE`."""
    refined = points.copy()
    for number, (x, y) in enumerate(np.floor(points * HEAT_SIDE).astype(int)):
        low_x, high_x = max(x - WINDOW, 0), min(x + WINDOW + 1, HEAT_SIDE)
        low_y, high_y = max(y - WINDOW, 0), min(y + WINDOW + 1, HEAT_SIDE)
        if low_x >= high_x or low_y >= high_y:
            continue
        values = heat[low_y:high_y, low_x:high_x, number]
        if values.max() >= SURE:
            rows, columns = np.mgrid[low_y:high_y, low_x:high_x]
            mean = np.array([(values * columns).sum(), (values * rows).sum()]) / values.sum()
            refined[number] = mean / HEAT_SIDE
    return refined


def mask_in_image(seen: Landmarks, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Where a photograph of this (height, width) shows the person."""
    step, shape = seen.region.step(LANDMARK_SIDE), size[::-1]
    return cv2.warpAffine(seen.mask, step, shape, flags=cv2.INTER_LINEAR) > MASK_LEVEL


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -50, 50)))


# ------------------------------------------------------------------------------------------------------- weights


def load_blazepose(weights: Path, threads: int = 1) -> BlazePose:
    """The networks of the Node package: its .tgz, or a folder with its files.

    Raises:
        ImportError: LiteRT is missing. DataFileError: the package is not there or damaged.
    """
    require_packages(FEATURE, "photos", "ai_edge_litert")
    return BlazePose(*(_network(content, threads) for content in read_weights(weights)))


def read_weights(path: Path) -> tuple[bytes, bytes]:
    """The files of detector and landmarks. Raises DataFileError, saying where they come from."""
    wanted = (DETECTOR_FILES, (LANDMARK_FILE,))
    try:
        found = _in_folder(path, wanted) if path.is_dir() else _in_archive(path, wanted)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataFileError(f"{path} cannot be read: {error}. {_ORIGIN}") from error
    for content, names in zip(found, wanted, strict=True):
        if content is None or content[4:8] != b"TFL3":
            raise DataFileError(f"{path} holds no {names[0]} that is a TensorFlow Lite network. {_ORIGIN}")
    return found[0], found[1]


_ORIGIN = "`npm pack @mediapipe/pose@0.5.1675469404` downloads the package; give its .tgz, or the unpacked folder."


def _in_folder(path: Path, wanted: Sequence[Sequence[str]]) -> list[bytes | None]:
    files = [next((path / name for name in names if (path / name).is_file()), None) for names in wanted]
    return [None if file is None else file.read_bytes() for file in files]


def _in_archive(path: Path, wanted: Sequence[Sequence[str]]) -> list[bytes | None]:
    with tarfile.open(path) as archive:
        members = {Path(m.name).name: m for m in archive if m.isfile() and m.size <= MAX_BYTES}
        chosen = [next((members[name] for name in names if name in members), None) for names in wanted]
        return [None if member is None else archive.extractfile(member).read() for member in chosen]


def _network(content: bytes, threads: int) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise DataFileError(f"The network cannot be loaded by LiteRT: {error}") from error
    given, results = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()

    def run(values: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(given, values.astype(np.float32))
        interpreter.invoke()
        return [interpreter.get_tensor(result["index"]) for result in results]

    return run
