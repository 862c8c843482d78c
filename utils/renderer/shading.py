"""Light on fragments: normals of vertices, Lambert colours, and the mean of each pixel's samples.

As in `rasterizer`, compiled functions (numba, one thread a call, releases the GIL) stand beside plain NumPy,
which draws the same where numba is missing.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Towards the lights, camera frame: a key light above and left of the camera, a fill light at the camera.
KEY_LIGHT, FILL_LIGHT = (-0.6, -0.7, -0.6), (0.0, 0.0, -1.0)
AMBIENT, KEY, FILL = 0.2, 0.6, 0.4


def vertex_normals(
    points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    """Unit normals per vertex: its faces' normals weighted by area; zero for a vertex without a face."""
    if _compiled() is not None:
        return _compiled()[0](np.ascontiguousarray(points), faces)
    corners = points[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = faces.reshape(-1)
    total = np.stack([np.bincount(flat, np.repeat(cross[:, c], 3), len(points)) for c in range(3)], axis=1)
    return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)).astype(np.float32)


def lambert(normal: Float[np.ndarray, "N 3"], color: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "N 3"]:
    """Colours of lit points: ambient light, a key light and a fill light at the camera.

    normal: of any length; color: of all points or of each, RGB in 0..1.
    """
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    key, fill = (np.clip(normal @ direction, 0, None) for direction in _lights())
    return np.clip((AMBIENT + KEY * key + FILL * fill)[:, None] * color, 0, 1).astype(np.float32)


def shade(
    face: Int[np.ndarray, "S S"],
    bary: Float[np.ndarray, "S S 3"],
    faces: Int[np.ndarray, "F 3"],
    normals: Float[np.ndarray, "V 3"],
    color: Float[np.ndarray, "F 3"],
    samples: int,
) -> Float[np.ndarray, "S/samples S/samples 4"]:
    """RGBA in 0..1 of `samples` x `samples` fragments a pixel: the mean colour of those hit, and their share.

    normals: per vertex, interpolated over the faces; color: per face.
    """
    if _compiled() is not None:
        size = len(face) // samples
        picture = np.zeros((size, size, 4), np.float32)
        _compiled()[1](face, bary, faces, normals, color, *_lights(), samples, picture)
        return picture
    hit = face >= 0
    normal = np.einsum("nk,nkc->nc", bary[hit], normals[faces[face[hit]]])
    fine = np.zeros((*face.shape, 4), np.float32)
    fine[hit] = np.column_stack([lambert(normal, color[face[hit]]), np.ones(len(normal), np.float32)])
    picture = sum(fine[i::samples, j::samples] for i in range(samples) for j in range(samples))
    picture[..., :3] /= np.maximum(picture[..., 3:], 1)
    picture[..., 3] /= samples**2
    return picture


def _lights() -> list[np.ndarray]:
    return [np.array(d, np.float32) / np.float32(np.linalg.norm(d)) for d in (KEY_LIGHT, FILL_LIGHT)]


@functools.cache
def _compiled():
    """The functions below, compiled; None without numba."""
    try:
        from utils.compiling import compiled
    except Exception:  # of whatever a damaged installation leads to; the rasteriser tells
        return None
    compile_kernel = compiled(nogil=True, error_model="numpy")
    return compile_kernel(_normals_kernel), compile_kernel(_shade_kernel)


def _normals_kernel(points, faces):
    total = np.zeros((len(points), 3), np.float64)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
        bx, by, bz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
        x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            total[v, 0] += x
            total[v, 1] += y
            total[v, 2] += z
    normals = np.empty((len(points), 3), np.float32)
    for v in range(len(points)):
        x, y, z = total[v, 0], total[v, 1], total[v, 2]
        length = max(np.sqrt(x * x + y * y + z * z), 1e-20)
        normals[v, 0], normals[v, 1], normals[v, 2] = x / length, y / length, z / length
    return normals


def _shade_kernel(face, bary, faces, normals, color, key, fill, samples, picture):
    for row in range(len(picture)):
        for col in range(len(picture)):
            red, green, blue, count = 0.0, 0.0, 0.0, 0
            for i in range(row * samples, (row + 1) * samples):
                for j in range(col * samples, (col + 1) * samples):
                    f = face[i, j]
                    if f < 0:
                        continue
                    x, y, z = 0.0, 0.0, 0.0
                    for k in range(3):
                        weight, v = bary[i, j, k], faces[f, k]
                        x += weight * normals[v, 0]
                        y += weight * normals[v, 1]
                        z += weight * normals[v, 2]
                    length = max(np.sqrt(x * x + y * y + z * z), 1e-12)
                    from_key = max(x * key[0] + y * key[1] + z * key[2], 0.0) / length
                    from_fill = max(x * fill[0] + y * fill[1] + z * fill[2], 0.0) / length
                    light = AMBIENT + KEY * from_key + FILL * from_fill
                    red += min(light * color[f, 0], 1.0)
                    green += min(light * color[f, 1], 1.0)
                    blue += min(light * color[f, 2], 1.0)
                    count += 1
            if count:
                picture[row, col, 0], picture[row, col, 1] = red / count, green / count
                picture[row, col, 2], picture[row, col, 3] = blue / count, count / samples**2
