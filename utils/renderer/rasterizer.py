"""Triangles to fragments: which face, where on it and how deep, for every pixel (docs/method.md section 5.2).

`rasterize` has two back-ends that agree in every pixel: numba (CPU, one thread a call, releases the GIL)
and torch (any device). Every image of this project (IUV maps, overlays, masks) is a shading of their
fragments.

Coordinates. A point is (x, y, z): x and y in normalised device coordinates, [-1, 1] over the image with x
right and y UP; z the depth along the camera axis, metres, positive in front. Projection is the caller's.
All arithmetic is float32, in one order of operations, so that the back-ends round alike. Row 0 of the
result is the top of the image.

Rules, as in the renderer of the 2020 system: pixel i of N has its centre at (2i+1-N)/N; only faces whose
corners run counter-clockwise (seen y up) count; a pixel belongs to a face when it is on the inner side of,
or exactly on, all three edges; a fragment is kept when near < depth < far and strictly nearer than what is
stored, so that the first face in file order wins ties. The three edge functions, divided by their sum, are
the barycentrics; inside a face they are never negative, so that clamping and renormalising is built in.
Faces without area and faces with a corner at or behind the camera plane have no meaningful depth and give
no fragment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from utils.compiling import compiled
from utils.structures import Fragments

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Backend = Literal["auto", "numba", "torch"]

# Widens a face's pixel span by a sliver, against rounding in the conversion to pixels; the edge test decides.
SPAN_SLACK = 2.0**-6
# Candidate (face, pixel) pairs that the torch back-end holds at once.
TORCH_CHUNK = 1 << 20
# Typed constants for the compiled kernel: a plain number would make its sums float64.
_SLACK32, _HALF32 = np.float32(SPAN_SLACK), np.float32(0.5)
_MINUS32, _ZERO32, _ONE32 = np.float32(-1), np.float32(0), np.float32(1)


def rasterize(
    points: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    size: int,
    *,
    near: float = 0.1,
    far: float = float("inf"),
    backend: Backend = "auto",
) -> Fragments:
    """Fragments of `B` bodies that share `faces`, on a square of `size` pixels. No gradient.

    Args:
        points: x, y in [-1, 1] (y up) and depth z in metres, see the module's docstring.
        faces: corners of the triangles.
        size: side of the image, pixels.
        near, far: only depths between them count, metres.
        backend: "numba" (CPU), "torch" (any device), "auto" = numba for tensors on the CPU.

    Returns:
        On the device of `points`.

    Raises:
        ValueError: for wrong shapes, face numbers or back-end.
    """
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f"Unknown rasteriser back-end '{backend}'; choose 'auto', 'numba' or 'torch'.")
    if points.ndim != 3:
        raise ValueError(f"Expected points of shape [B, V, 3], got {tuple(points.shape)}.")
    if backend == "auto":
        backend = "numba" if points.device.type == "cpu" else "torch"
    points = points.detach().float()
    if backend == "numba":
        arrays = rasterize_numpy(points.cpu().numpy(), faces.cpu().numpy(), size, near, far)
        return Fragments(*(torch.from_numpy(a).to(points.device) for a in arrays))
    _check(points, faces, size)
    return _rasterize_torch(points, faces.to(points.device).long(), size, near, far)


def rasterize_numpy(
    points: Float[np.ndarray, "*B V 3"],
    faces: Int[np.ndarray, "F 3"],
    size: int,
    near: float = 0.1,
    far: float = float("inf"),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numba back-end on arrays of one body or a batch: (face [*B,H,W] int32, bary [*B,H,W,3], depth [*B,H,W]).

    Raises ValueError for wrong shapes or face numbers.
    """
    batch = points.shape[:-2]
    points = np.ascontiguousarray(points, dtype=np.float32)
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    _check(points, faces, size)
    points = points.reshape(-1, *points.shape[-2:])
    face = np.full((len(points), size, size), -1, dtype=np.int32)
    bary = np.zeros((len(points), size, size, 3), dtype=np.float32)
    depth = np.zeros((len(points), size, size), dtype=np.float32)
    centers = (2 * np.arange(size) + 1 - size).astype(np.float32) / np.float32(size)
    _raster_kernel(points, faces, centers, np.float32(near), np.float32(far), face, bary, depth)
    return tuple(a.reshape(*batch, *a.shape[1:]) for a in (face, bary, depth))


def _check(points: Tensor | np.ndarray, faces: Tensor | np.ndarray, size: int) -> None:
    if points.ndim not in (2, 3) or points.shape[-1] != 3:
        raise ValueError(f"Expected points of shape [V, 3] or [B, V, 3], got {tuple(points.shape)}.")
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"Expected triangles of shape [F, 3], got {tuple(faces.shape)}.")
    if size < 1:
        raise ValueError(f"Expected an image of at least one pixel, got size {size}.")
    if len(faces) and not (int(faces.min()) >= 0 and int(faces.max()) < points.shape[-2]):
        raise ValueError(
            f"The faces use vertices {faces.min()}..{faces.max()} but the body has only 0..{points.shape[-2] - 1}. "
            "Use the faces that come with this body."
        )


# --------------------------------------------------------------------------------------------- numba back-end


# No fastmath: contracted or reordered sums would part the two back-ends.
@compiled(nogil=True, error_model="numpy")
def _raster_kernel(points, faces, centers, near, far, face_out, bary_out, depth_out):
    n, last = np.float32(len(centers)), np.float32(len(centers) - 1)
    corner = np.empty((points.shape[1], 8), np.float32)  # x, y, z, first and last pixel column, row on the far sides
    todo = np.empty(len(faces) + 1, np.int32)
    for b in range(len(points)):
        for v in range(points.shape[1]):
            x, y = points[b, v, 0], points[b, v, 1]
            col, row = (x * n + last) * _HALF32, (-y * n + last) * _HALF32
            corner[v, 0], corner[v, 1], corner[v, 2] = x, y, points[b, v, 2]
            corner[v, 3], corner[v, 4] = np.ceil(col - _SLACK32), np.floor(col + _SLACK32)
            corner[v, 5], corner[v, 6] = np.ceil(row - _SLACK32), np.floor(row + _SLACK32)
        # Most faces are smaller than a pixel; they are sorted out without branches, as guesses would fail.
        count = 0
        for f in range(len(faces)):
            c0, c1, c2 = corner[faces[f, 0]], corner[faces[f, 1]], corner[faces[f, 2]]
            front = (c2[1] - c0[1]) * (c1[0] - c0[0]) >= (c1[1] - c0[1]) * (c2[0] - c0[0])
            wide = min(c0[3], c1[3], c2[3]) <= max(c0[4], c1[4], c2[4])
            high = min(c0[5], c1[5], c2[5]) <= max(c0[6], c1[6], c2[6])
            todo[count] = f
            count += front & wide & high
        for f in todo[:count]:
            c0, c1, c2 = corner[faces[f, 0]], corner[faces[f, 1]], corner[faces[f, 2]]
            z0, z1, z2 = c0[2], c1[2], c2[2]
            if not (z0 > _ZERO32 and z1 > _ZERO32 and z2 > _ZERO32):
                continue
            # Clamped on both sides: the conversion of a huge float to int is undefined.
            left, right = min(max(min(c0[3], c1[3], c2[3]), _ZERO32), n), min(max(c0[4], c1[4], c2[4]), last)
            top, bottom = min(max(min(c0[5], c1[5], c2[5]), _ZERO32), n), min(max(c0[6], c1[6], c2[6]), last)
            right, bottom = max(right, _MINUS32), max(bottom, _MINUS32)
            for row in range(int(top), int(bottom) + 1):
                py = -centers[row]
                dy0, dy1, dy2 = c0[1] - py, c1[1] - py, c2[1] - py
                for col in range(int(left), int(right) + 1):
                    px = centers[col]
                    dx0, dx1, dx2 = c0[0] - px, c1[0] - px, c2[0] - px
                    e0 = dx1 * dy2 - dx2 * dy1
                    e1 = dx2 * dy0 - dx0 * dy2
                    e2 = dx0 * dy1 - dx1 * dy0
                    total = e0 + e1 + e2
                    if not ((e0 >= _ZERO32) & (e1 >= _ZERO32) & (e2 >= _ZERO32) & (total > _ZERO32)):
                        continue
                    w0, w1, w2 = e0 / total / z0, e1 / total / z1, e2 / total / z2
                    depth = _ONE32 / (w0 + w1 + w2)
                    is_behind = face_out[b, row, col] >= 0 and not depth < depth_out[b, row, col]
                    if is_behind or not (near < depth and depth < far):
                        continue
                    face_out[b, row, col], depth_out[b, row, col] = f, depth
                    bary_out[b, row, col, 0] = w0 * depth
                    bary_out[b, row, col, 1] = w1 * depth
                    bary_out[b, row, col, 2] = w2 * depth


# --------------------------------------------------------------------------------------------- torch back-end


def _rasterize_torch(points: Tensor, faces: Tensor, size: int, near: float, far: float) -> Fragments:
    batch, num_faces, device = len(points), len(faces), points.device
    corners = points[:, faces].reshape(-1, 3, 3)  # [B*F, corner, xyz]
    picked, left, top, width, height = _visible_spans(corners, size)
    centers = torch.arange(1 - size, size, 2, device=device).float() / size
    nearest = torch.full((batch * size * size,), torch.iinfo(torch.int64).max, device=device)
    count = width * height
    for part in _chunks(count):
        owner = torch.repeat_interleave(part, count[part])
        offset = torch.arange(len(owner), device=device) - torch.repeat_interleave(
            count[part].cumsum(0) - count[part], count[part]
        )
        row = top[owner] + torch.div(offset, width[owner], rounding_mode="floor")
        col = left[owner] + offset % width[owner]
        body_face = picked[owner]
        inside, _, depth = _edge_test(corners[body_face], centers[col], -centers[row])
        keep = (inside & (depth > near) & (depth < far)).nonzero()[:, 0]
        body_face, depth, row, col = body_face[keep], depth[keep], row[keep], col[keep]
        pixel = (torch.div(body_face, num_faces, rounding_mode="floor") * size + row) * size + col
        # Bits of positive floats order like the floats; the face number below them lets the first face win.
        key = (depth.view(torch.int32).long() << 32) | (body_face % num_faces)
        nearest.scatter_reduce_(0, pixel, key, "amin")
    return _gather_fragments(nearest, corners, centers, (batch, num_faces, size))


def _visible_spans(corners: Tensor, size: int) -> tuple[Tensor, ...]:
    """Faces that may cover a pixel and their pixel spans: picked, left, top, width, height, each [N]."""
    x, y, z = corners.unbind(-1)
    front = (y[:, 2] - y[:, 0]) * (x[:, 1] - x[:, 0]) >= (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    left, right = _span(x.amin(1), x.amax(1), size)
    top, bottom = _span(-y.amax(1), -y.amin(1), size)
    picked = (front & (z > 0).all(1) & (left <= right) & (top <= bottom)).nonzero()[:, 0]
    left, right, top, bottom = (t[picked].long() for t in (left, right, top, bottom))
    return picked, left, top, right - left + 1, bottom - top + 1


def _span(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    first = torch.ceil((low * size + (size - 1)) * 0.5 - SPAN_SLACK).clamp(min=0)
    last = torch.floor((high * size + (size - 1)) * 0.5 + SPAN_SLACK).clamp(max=size - 1)
    return first, last


def _chunks(count: Tensor):
    """Runs of face positions whose pixel counts add up to about TORCH_CHUNK."""
    group = torch.div(count.cumsum(0), TORCH_CHUNK, rounding_mode="floor")
    lengths = torch.unique_consecutive(group, return_counts=True)[1].tolist()
    return torch.arange(len(count), device=count.device).split(lengths) if lengths else ()


def _edge_test(corners: Tensor, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per pair of face and pixel: inside [N] bool, weights w_k/z_k [N, 3], depth [N]."""
    x, y, z = corners.unbind(-1)
    dx0, dx1, dx2 = (x - px[:, None]).unbind(1)
    dy0, dy1, dy2 = (y - py[:, None]).unbind(1)
    edges = torch.stack([dx1 * dy2 - dx2 * dy1, dx2 * dy0 - dx0 * dy2, dx0 * dy1 - dx1 * dy0], dim=1)
    total = edges[:, 0] + edges[:, 1] + edges[:, 2]
    weights = edges / total[:, None] / z
    depth = 1 / (weights[:, 0] + weights[:, 1] + weights[:, 2])
    return (edges >= 0).all(1) & (total > 0), weights, depth


def _gather_fragments(nearest: Tensor, corners: Tensor, centers: Tensor, dims: tuple[int, ...]) -> Fragments:
    batch, num_faces, size = dims
    hit = (nearest != torch.iinfo(torch.int64).max).nonzero()[:, 0]
    face_hit = nearest[hit] & 0xFFFFFFFF
    body = torch.div(hit, size * size, rounding_mode="floor")
    row, col = torch.div(hit, size, rounding_mode="floor") % size, hit % size
    _, weights, depth_hit = _edge_test(corners[body * num_faces + face_hit], centers[col], -centers[row])
    face = torch.full_like(nearest, -1, dtype=torch.int32)
    bary, depth = corners.new_zeros(len(nearest), 3), corners.new_zeros(len(nearest))
    face[hit], depth[hit] = face_hit.int(), depth_hit
    bary[hit] = weights * depth_hit[:, None]
    shape = (batch, size, size)
    return Fragments(face.view(shape), bary.view(*shape, 3), depth.view(shape))
