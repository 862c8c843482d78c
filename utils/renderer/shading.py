"""Light on fragments: normals of vertices, Lambert colours, and the mean of each pixel's samples.

The compiled functions (numba) run on one thread a call and release the GIL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utils.compiling import compiled

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Towards the lights, camera frame: a key light above and left of the camera, a fill light at the camera.
LIGHTS = [np.float32(d) / np.float32(np.linalg.norm(d)) for d in ((-0.6, -0.7, -0.6), (0.0, 0.0, -1.0))]
AMBIENT, KEY, FILL = 0.2, 0.6, 0.4


def vertex_normals(
    points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    """Unit normals per vertex: its faces' normals weighted by area; zero for a vertex without a face."""
    return _normals_kernel(np.ascontiguousarray(points), faces)


def lambert(normal: Float[np.ndarray, "N 3"], color: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "N 3"]:
    """RGB in 0..1 of lit points: ambient light, a key light and a fill light at the camera.

    Args:
        normal: of any length.
        color: of all points or of each, RGB in 0..1.
    """
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    key, fill = (np.clip(normal @ direction, 0, None) for direction in LIGHTS)
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

    Args:
        face, bary, faces: the fragments and the mesh's triangles.
        normals: per vertex, interpolated over the faces.
        color: per face, RGB in 0..1.
        samples: side of a pixel in fragments.
    """
    size = len(face) // samples
    image = np.zeros((size, size, 4), np.float32)
    _shade_kernel(face, bary, faces, normals, color, *LIGHTS, samples, image)
    return image


@compiled(nogil=True, error_model="numpy")
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


@compiled(nogil=True, error_model="numpy")
def _shade_kernel(face, bary, faces, normals, color, key, fill, samples, image):
    for row in range(len(image)):
        for col in range(len(image)):
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
                image[row, col, 0], image[row, col, 1] = red / count, green / count
                image[row, col, 2], image[row, col, 3] = blue / count, count / samples**2
