"""Person detection: the interface of detectors, and MoveNet MultiPose in `data/open/movenet_multipose.onnx`.

MoveNet finds up to six people a pass, each with a box and 17 COCO keypoints. It sees the image shrunk so that its
longer side is 256 px; large images are searched again in overlapping tiles of half the longer side, and very large
ones in tiles of a quarter too, which finds people who are small in the whole. The detections of all passes are merged
by non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch

from utils.body import OPEN_DIR
from utils.packages import onnx_session
from utils.people import Box, Detection
from utils.unused import Unused

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

MODEL_FILE = OPEN_DIR / "movenet_multipose.onnx"
INPUT_SIDE = 256  # px; longer side of what the network sees, as it was trained
STRIDE = 32  # both sides of the network's input are multiples of it
MIN_SCORE = 0.25  # people below are passed over; as MoveNet's own examples choose it
POSSIBLE = 0.1  # people from this score up to MIN_SCORE are counted as passed over; below, they are not people
MOST_PEOPLE = 6  # that MoveNet finds in a pass
MAX_OVERLAP = 0.5  # IoU; of two people that overlap more, the one with the higher score stays
# Tiles of a half or a quarter of the longer side are searched when they have at least this side: the network then sees
# more detail than before.
MIN_TILE = INPUT_SIDE
TILE_PARTS = (2, 4)
TILE_OVERLAP = 0.25  # of a tile's side
EDGE = 0.02  # of a tile's side: a box this near to a cut is taken for half a person
SURE, MIN_SHARED, MAX_DISTANCE = 0.3, 3, 0.1  # when two detections' keypoints are those of one person
# A square image is one person's crop already when its largest person takes up this much of its side, near its middle.
SQUARE = 0.02  # of the longer side: how far the sides of a square may differ
CROP_SIDE = 256  # px; up to here a square image may well be a crop that is made for the network
FILLS, FILLS_LARGE = 0.5, 0.7  # of the image's side, up to CROP_SIDE and beyond
OFF_MIDDLE = 0.25  # of the image's side


class Detector(Protocol):
    """Anything that finds people. People that it leaves out are counted in its `unused`, if it has that."""

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        """People of an RGB image, best first."""


def unused_of(detector: Detector) -> Unused:
    """Counts of the people that a detector leaves out, by reason."""
    return getattr(detector, "unused", Unused())


class WholeImage:
    """No detector: the image is the crop of one person, padded to a square."""

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        return [Detection(_frame(image), is_whole=True)]


class CropOrPeople:
    """Detector that takes a square image of one person as a whole crop, and finds people in any other image.

    Up to CROP_SIDE pixels it is such a crop when `finder` finds no person (in a close portrait, say), or one who fills
    it beside others of less than half the size, as bystanders of a crop are; beyond, when it finds one person only, who
    fills it.
    """

    def __init__(self, finder: Detector):
        self.finder = finder
        self.unused = unused_of(finder)

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        found = self.finder.detect(image)
        frame = _frame(image)
        if not is_one_crop(frame[2:], [person.box for person in found]):
            return found
        if not found:
            return [Detection(frame, is_whole=True)]
        main = max(found, key=lambda person: _area(person.box))
        self.unused.add("others in images that are taken whole, as one person's crop", len(found) - 1)
        return [replace(main, box=frame, is_whole=True, bystanders=len(found) - 1)]


class MoveNet:
    """MoveNet MultiPose with onnxruntime, on the CPU."""

    def __init__(self, session: Any = None, min_score: float = MIN_SCORE, tiled: bool = True):
        """
        Args:
            session: an onnxruntime session or what looks like one; None loads the shipped network.
            min_score: people below are passed over.
            tiled: search large images in tiles, too.

        Raises:
            ValueError: the network cannot be loaded.
        """
        self.session = load_session() if session is None else session
        self.min_score, self.tiled, self.unused = min_score, tiled, Unused()

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        height, width = image.shape[:2]
        found = self.detect_once(image)
        for parts in TILE_PARTS if self.tiled else ():
            if max(height, width) >= parts * MIN_TILE:
                for corner, side in tiles(width, height, parts):
                    found += self._in_tile(image, corner, side)
        people = suppress(found)
        sure = [person for person in people if person.score >= self.min_score]
        unsure = f"people whom the detector gives a score from {POSSIBLE:g} to {self.min_score:g} only"
        self.unused.add(unsure, len(people) - len(sure))
        return sure

    def detect_once(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        """Detections of one pass over the whole image: at most six, unsure ones included."""
        height, width = image.shape[:2]
        canvas, factor = letterbox(image)
        rows = self.session.run(None, {"picture": canvas})[0][0]
        people = [to_detection(row, canvas.shape[1:3], factor, (width, height)) for row in rows]
        found = [p for p in people if p is not None and p.score >= min(POSSIBLE, self.min_score)]
        if sum(p.score >= self.min_score for p in found) == MOST_PEOPLE:
            self.unused.add(f"looks of the detector that found {MOST_PEOPLE} people, its most: others may be missing")
        return found

    def _in_tile(self, image: np.ndarray, corner: tuple[int, int], side: int) -> list[Detection]:
        """Detections in a tile that no cut through the image may have halved."""
        (x, y), size, rim = corner, image.shape[1::-1], EDGE * side
        low = [-np.inf if start == 0 else start + rim for start in corner]
        high = [np.inf if start + side >= end else start + side - rim for start, end in zip(corner, size, strict=True)]
        found = []
        for person in self.detect_once(image[y : y + side, x : x + side]):
            left, top = person.box[0] + x, person.box[1] + y
            right, bottom = left + person.box[2], top + person.box[3]
            if left > low[0] and top > low[1] and right < high[0] and bottom < high[1]:
                keypoints = person.keypoints + np.array([x, y, 0], np.float32)
                found.append(replace(person, box=(left, top, *person.box[2:]), keypoints=keypoints))
        return found


def load_session(path: Path = MODEL_FILE) -> Any:
    """onnxruntime session of the shipped network. Raises ValueError when package or file does not work."""
    if not path.is_file():
        raise ValueError(f"The detector '{path}' is missing; it is part of this project: git checkout -- data/open")
    try:
        return onnx_session(path, torch.get_num_threads())
    except ImportError as error:
        raise ValueError(f"{error}, or give --boxes, --keypoints or --detector none.") from error
    except ValueError as error:
        raise ValueError(f"The detector '{path}' cannot be loaded, it may be damaged: {error}") from error


def is_one_crop(size: tuple[float, float], boxes: Sequence[Box]) -> bool:
    """Whether an image (width, height) with people in these boxes is one person's crop, see `CropOrPeople`."""
    side = max(size)
    if side - min(size) > SQUARE * side:
        return False
    is_small = side <= CROP_SIDE
    if not boxes:
        return is_small
    main, *others = sorted(boxes, key=_area, reverse=True)
    middle = [main[axis] + main[2 + axis] / 2 for axis in range(2)]
    is_central = all(abs(middle[axis] - size[axis] / 2) <= OFF_MIDDLE * side for axis in range(2))
    is_alone = all(is_small and _area(box) < _area(main) / 2 for box in others)
    return is_central and is_alone and max(main[2:]) >= (FILLS if is_small else FILLS_LARGE) * side


# ------------------------------------------------------------------------------------- before and after the network


def letterbox(
    image: UInt8[np.ndarray, "H W 3"], side: int = INPUT_SIDE
) -> tuple[Int[np.ndarray, "1 h w 3"], tuple[float, float]]:
    """The image as the network's input, and input pixels per image pixel (x, y).

    It keeps its proportions (to the pixel) in the upper left corner; the rest, up to the next multiple of
    32, is black.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=method)
    canvas = np.zeros((1, *(-(-n // STRIDE) * STRIDE for n in (size[1], size[0])), 3), np.int32)
    canvas[0, : size[1], : size[0]] = small
    return canvas, (size[0] / width, size[1] / height)


def to_detection(
    row: Float[np.ndarray, "56"],
    canvas_size: tuple[int, int],
    factor: tuple[float, float],
    image_size: tuple[int, int],
) -> Detection | None:
    """One of the network's people: 17 x (y, x, score), then the box (ymin, xmin, ymax, xmax) and its score.

    row: in 0..1 of the letterboxed input; canvas_size: (height, width) of that; factor: as `letterbox` gives it;
    image_size: (width, height). None for a box without area in the image, or numbers that are not finite.
    """
    if not np.isfinite(row).all():
        return None
    to_image = np.array([canvas_size[1] / factor[0], canvas_size[0] / factor[1]])
    keypoints = row[:51].reshape(17, 3).astype(np.float64)
    xy = keypoints[:, 1::-1] * to_image
    corners = row[51:55].astype(np.float64).reshape(2, 2)[:, ::-1] * to_image
    low, high = np.clip(corners, 0, image_size)
    if (high <= low).any():
        return None
    box = tuple(map(float, (*low, *(high - low))))
    return Detection(box, float(row[55]), np.column_stack([xy, keypoints[:, 2]]).astype(np.float32))


def tiles(width: int, height: int, parts: int = 2) -> list[tuple[tuple[int, int], int]]:
    """Overlapping squares ((x, y), side) that cover the image; `parts` of them are as long as its longer side."""
    side = -(-max(width, height) // parts)
    step = side * (1 - TILE_OVERLAP)

    def starts(length: int) -> list[int]:
        if length <= side:
            return [0]
        count = int(np.ceil((length - side) / step)) + 1
        return [round(i * (length - side) / (count - 1)) for i in range(count)]

    return [((x, y), side) for y in starts(height) for x in starts(width)]


def suppress(people: Sequence[Detection], max_overlap: float = MAX_OVERLAP) -> list[Detection]:
    """Non-maximum suppression: the detections by falling score, without duplicates of a better one.

    A duplicate overlaps by more than `max_overlap` IoU, or its keypoints coincide with the better one's: in a tile, a
    large person's face may look like a person.
    """
    selected: list[Detection] = []
    for person in sorted(people, key=lambda p: -p.score):
        if not any(box_iou(person.box, o.box) > max_overlap or keypoints_coincide(person, o) for o in selected):
            selected.append(person)
    return selected


def keypoints_coincide(one: Detection, two: Detection) -> bool:
    """Whether the keypoints that both are sure of lie within a tenth of the smaller person's size (median)."""
    if one.keypoints is None or two.keypoints is None:
        return False
    sure = (one.keypoints[:, 2] > SURE) & (two.keypoints[:, 2] > SURE)
    if sure.sum() < MIN_SHARED:
        return False
    distance = np.linalg.norm(one.keypoints[sure, :2] - two.keypoints[sure, :2], axis=1)
    return bool(np.median(distance) < MAX_DISTANCE * min(max(one.box[2:]), max(two.box[2:])))


def box_iou(one: Box, two: Box) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
    height = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / max(one[2] * one[3] + two[2] * two[3] - shared, 1e-12)


def _frame(image: UInt8[np.ndarray, "H W 3"]) -> Box:
    return (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))


def _area(box: Box) -> float:
    return box[2] * box[3]
