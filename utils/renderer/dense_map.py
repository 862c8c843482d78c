"""Dense maps of whole images: DensePose's part, U and V at each pixel, all people on one canvas, nearer ones in front.

Two sources. `seen_map` enlarges what the network sees in each person's crop; `body_map` renders the predicted bodies.
Memory follows the size of the map alone (docs/method.md sections 5.3 and 12.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utils.compiling import compiled
from utils.geometry import BOX_UNIT
from utils.renderer.people import FullCamera
from utils.renderer.rasterizer import rasterize_numpy
from utils.renderer.tiles import tile_points, tiles
from utils.skeleton import NUM_PARTS
from utils.structures import Atlas

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

CHANNELS = NUM_PARTS + 1


@dataclass(frozen=True)
class DenseMap:
    """Parts and surface coordinates of a whole image; all are 0 where no person is."""

    part: UInt8[np.ndarray, "H W"]  # 1..24
    u: UInt8[np.ndarray, "H W"]  # 255 U
    v: UInt8[np.ndarray, "H W"]  # 255 V

    @classmethod
    def empty(cls, size: tuple[int, int]) -> DenseMap:
        """The map without people; size: width and height, pixels."""
        return cls(*(np.zeros(size[::-1], np.uint8) for _ in range(3)))


@dataclass(frozen=True)
class SeenPerson:
    """What the network sees of a person, and where that lies in the image."""

    scores: Float[np.ndarray, "H W 76"]  # of the crop, as `utils.iuvmap.dense_scores` gives them
    center: tuple[float, float]  # of the crop, pixels of the image
    scale: float  # side of the crop / 200 px
    box: tuple[float, float, float, float]  # x, y, width, height, pixels of the image
    depth: float  # metres before the full image's camera


def seen_map(
    people: Sequence[SeenPerson], image_size: tuple[int, int], size: tuple[int, int] | None = None
) -> DenseMap:
    """What the network sees of all people: at each pixel the part with the highest score, and its U and V.

    Scores, U and V are enlarged to the map's pixels (bilinear) before the highest score is looked for, so borders
    between parts are smooth. A person ends at the own box, and covers those who stand farther from the camera.

    Args:
        people: of the image.
        image_size: width and height, pixels.
        size: of the map, which shows the whole image whatever its proportion; None: the image's.
    """
    size = image_size if size is None else size
    dense = DenseMap.empty(size)
    factor = np.array(size) / image_size
    for person in sorted(people, key=lambda person: -person.depth):
        scores = np.ascontiguousarray(person.scores, np.float32)
        cells = scores.shape[1::-1]
        side = BOX_UNIT * person.scale
        step = np.array(cells) / (side * factor)  # map cells a pixel
        start = (0.5 / factor - person.center) * cells / side + np.array(cells) / 2 - 0.5
        low, high = (corner.astype(int) for corner in _window(person, factor, size))
        best = scores[..., :CHANNELS].argmax(axis=-1)
        _paint_kernel(scores, best, (*step, *start), (*low, *high), dense.part, dense.u, dense.v)
    return dense


def _window(person: SeenPerson, factor: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """First pixels (column, row) whose centre lies in the box and the crop, and those behind the last ones."""
    corner, extent = np.array(person.box[:2]), np.array(person.box[2:])
    half = BOX_UNIT * person.scale / 2
    low = np.maximum(corner, np.array(person.center) - half)
    high = np.minimum(corner + extent, np.array(person.center) + half)
    return tuple(np.clip(np.ceil(edge * factor - 0.5), 0, size) for edge in (low, high))


def body_map(
    people: Sequence[tuple[Float[np.ndarray, "V 3"], FullCamera]],
    atlas: Atlas,
    image_size: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> DenseMap:
    """Bodies rendered into the image, each where its crop's camera sees it (`FullCamera.as_seen`), with one z-buffer.

    Args:
        people: vertices (metres) and camera of each; all cameras share focal length and principal point.
        atlas: of the body; U and V are interpolated over its faces.
        image_size: width and height, pixels.
        size: of the map, which shows the whole image whatever its proportion; None: the image's.
    """
    size = image_size if size is None else size
    dense = DenseMap.empty(size)
    if not people:
        return dense
    camera, count = people[0][1], len(people[0][0])
    points = np.concatenate([camera.as_seen(vertices) for vertices, camera in people]).astype(np.float32)
    one = atlas.vertex_map[atlas.faces]
    faces = np.concatenate([one + i * count for i in range(len(people))]).astype(np.int32)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = camera.focal_length * points[:, :2] / points[:, 2:] + np.array(camera.principal_point)
    pixels = pixels * (np.array(size) / image_size)
    for top, left, side in tiles(pixels[points[:, 2] > 0], *size):
        square = tile_points(pixels, points[:, 2], left, top, side)
        face, bary, _ = rasterize_numpy(square, faces, side)
        target = (plane[top : top + side, left : left + side] for plane in (dense.part, dense.u, dense.v))
        _shade_kernel(face, bary, atlas.face_part, atlas.face_uv, *target)
    return dense


@compiled(nogil=True, error_model="numpy")
def _byte(value):
    if not value > 0:  # NaN, too
        return 0
    return int(min(value, 1.0) * 255 + 0.5)


@compiled(nogil=True, error_model="numpy")
def _paint_kernel(scores, best, grid, window, part, u, v):
    """Write the pixels of the window (left, top, right, bottom) that show a person."""
    rows, cols, channels = scores.shape[0], scores.shape[1], scores.shape[2] // 3
    step_x, step_y, start_x, start_y = grid
    left, top, right, bottom = window
    for row in range(top, bottom):
        y = min(max(row * step_y + start_y, 0.0), rows - 1.0)
        r0 = int(y)
        r1 = min(r0 + 1, rows - 1)
        dy = y - r0
        for col in range(left, right):
            x = min(max(col * step_x + start_x, 0.0), cols - 1.0)
            c0 = int(x)
            c1 = min(c0 + 1, cols - 1)
            dx = x - c0
            w00, w01, w10, w11 = (1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx
            s00, s01, s10, s11 = scores[r0, c0], scores[r0, c1], scores[r1, c0], scores[r1, c1]
            if not w00 * s00[-1] + w01 * s01[-1] + w10 * s10[-1] + w11 * s11[-1] > 0:
                continue
            k = best[r0, c0]
            # What is highest in all four cells is highest between them.
            if best[r0, c1] != k or best[r1, c0] != k or best[r1, c1] != k:
                highest = -np.inf
                for n in range(channels):
                    score = w00 * s00[n] + w01 * s01[n] + w10 * s10[n] + w11 * s11[n]
                    if score > highest:
                        k, highest = n, score
            if k == 0:
                continue
            n, m = channels + k, 2 * channels + k
            part[row, col] = k
            u[row, col] = _byte(w00 * s00[n] + w01 * s01[n] + w10 * s10[n] + w11 * s11[n])
            v[row, col] = _byte(w00 * s00[m] + w01 * s01[m] + w10 * s10[m] + w11 * s11[m])


@compiled(nogil=True, error_model="numpy")
def _shade_kernel(face, bary, face_part, face_uv, part, u, v):
    for row in range(part.shape[0]):
        for col in range(part.shape[1]):
            f = face[row, col]
            if f < 0:
                continue
            f %= len(face_part)  # the bodies share their faces
            weights, corners = bary[row, col], face_uv[f]
            part[row, col] = face_part[f]
            u[row, col] = _byte(
                weights[0] * corners[0, 0] + weights[1] * corners[1, 0] + weights[2] * corners[2, 0]
            )
            v[row, col] = _byte(
                weights[0] * corners[0, 1] + weights[1] * corners[1, 1] + weights[2] * corners[2, 1]
            )
