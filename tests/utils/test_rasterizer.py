"""The rasteriser: closed-form triangles, tie and edge rules, both back-ends equal on hard inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from utils.renderer.rasterizer import rasterize
from utils.structures import Fragments

BACKENDS = ("numba", "torch")


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    return request.param


def points_of(*corners: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(corners)[None]


def random_scene(seed: int, batch: int = 2, num_vertices: int = 60, num_faces: int = 150) -> tuple:
    """Triangles of all sizes, beyond the image and behind the camera too."""
    rng = np.random.default_rng(seed)
    points = np.concatenate(
        [rng.normal(0, 0.8, (batch, num_vertices, 2)), rng.uniform(-0.3, 4, (batch, num_vertices, 1))], axis=2
    )
    faces = rng.integers(0, num_vertices, (num_faces, 3))
    return torch.from_numpy(points).float(), torch.from_numpy(faces)


def assert_equal(first: Fragments, second: Fragments) -> None:
    for name in ("face", "bary", "depth"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_every_pixel_of_a_triangle_follows_from_its_edges(backend):
    # Pixel centres of 4: -0.75, -0.25, 0.25, 0.75. Covered: x + y <= 0, with the diagonal itself.
    corners = points_of((-1, -1, 2), (1, -1, 2), (-1, 1, 2))
    found = rasterize(corners, torch.tensor([[0, 1, 2]]), 4, backend=backend)
    expected = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])  # top row first
    assert torch.equal(found.face[0], expected.int() - 1)
    assert found.face.dtype == torch.int32
    torch.testing.assert_close(found.depth[0], expected * 2.0)
    x, y = -0.75, 0.25  # second row, first column
    torch.testing.assert_close(found.bary[0, 1, 0], torch.tensor([-(x + y) / 2, (x + 1) / 2, (y + 1) / 2]))
    assert not found.bary[0, 0, 3].any()


def test_depth_and_weights_are_perspective_correct(backend):
    # A slanted plane z = a + b X: its points X = x z (focal 1) are known for each pixel.
    plane = [(-1.5, -2.0), (2.5, -1.0), (-0.5, 3.0)]
    corners = [(x, y, 2 + 0.5 * x) for x, y in plane]
    found = rasterize(points_of(*[(x / z, y / z, z) for x, y, z in corners]), torch.tensor([[0, 1, 2]]), 32,
                      backend=backend)  # fmt: skip
    covered = found.face[0] == 0
    assert covered.sum() > 100
    seen = found.bary[0][covered] @ torch.tensor(corners)
    centers = (2 * torch.arange(32) + 1 - 32) / 32
    y, x = torch.meshgrid(-centers, centers, indexing="ij")
    torch.testing.assert_close(seen[:, 0] / seen[:, 2], x[covered], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[:, 1] / seen[:, 2], y[covered], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[:, 2], found.depth[0][covered])
    torch.testing.assert_close(found.bary[0][covered].sum(-1), torch.ones(int(covered.sum())))


def test_nearer_face_wins_and_the_first_one_wins_a_tie(backend):
    near, far = [(-1, -1, 1), (1, -1, 1), (0, 1, 1)], [(-1, -1, 3), (1, -1, 3), (0, 1, 3)]
    faces = torch.tensor([[3, 4, 5], [0, 1, 2], [0, 1, 2]])
    found = rasterize(points_of(*near, *far), faces, 8, backend=backend).face
    assert set(found.unique().tolist()) == {-1, 1}


def test_near_and_far_planes_are_exclusive(backend):
    corners, faces = points_of((-1, -1, 2), (1, -1, 2), (-1, 1, 2)), torch.tensor([[0, 1, 2]])

    def seen(**planes):
        return bool((rasterize(corners, faces, 4, backend=backend, **planes).face == 0).any())

    assert seen() and seen(near=1.9, far=2.1)
    assert not seen(near=2.0) and not seen(far=2.0)
    behind = corners * torch.tensor([1, 1, -1])
    assert (rasterize(behind, faces, 4, near=-10, backend=backend).face == -1).all()


def test_a_mesh_without_gaps_has_no_holes_and_edges_belong_to_both_faces(backend):
    side = 9
    grid = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    jitter = torch.randn(side, side, 2) * 0.04
    jitter[[0, -1]] = 0
    jitter[:, [0, -1]] = 0
    corners = torch.cat([torch.stack([x, y], -1) + jitter, torch.full((side, side, 1), 5.0)], -1)
    a = (torch.arange(side - 1)[:, None] * side + torch.arange(side - 1)).reshape(-1)
    faces = torch.cat([torch.stack([a, a + 1, a + side], 1), torch.stack([a + 1, a + side + 1, a + side], 1)])
    assert (rasterize(corners.reshape(1, -1, 3), faces, 128, backend=backend).face >= 0).all()
    # The pixel centre (-0.25, -0.25) of 4 lies on the shared diagonal: the first in file order keeps it.
    square = points_of((-1, -1, 2), (1, -1, 2), (1, 1, 2), (-1, 1, 2))
    for order in ([[0, 1, 2], [0, 2, 3]], [[0, 2, 3], [0, 1, 2]]):
        assert rasterize(square, torch.tensor(order), 4, backend=backend).face[0, 2, 1] == 0


@pytest.mark.parametrize("size", [1, 7, 56])
@pytest.mark.parametrize("seed", range(4))
def test_backends_are_equal_in_every_pixel(seed, size):
    points, faces = random_scene(seed)
    first, second = (rasterize(points, faces, size, far=3.0, backend=b) for b in BACKENDS)
    assert_equal(first, second)
    assert size == 1 or (first.face >= 0).any()


def test_numbers_that_are_not_finite_or_huge_are_harmless():
    points, faces = random_scene(3, num_vertices=40)
    flat = points.view(-1)
    for value, start in ((float("nan"), 0), (float("inf"), 7), (-float("inf"), 16), (1e30, 24), (-3e38, 33)):
        flat[start::41] = value
    first, second = (rasterize(points, faces, 24, backend=b) for b in BACKENDS)
    assert_equal(first, second)
    assert torch.isfinite(first.bary).all() and torch.isfinite(first.depth).all()


def test_empty_inputs(backend):
    no_faces = rasterize(torch.zeros(1, 3, 3), torch.zeros(0, 3, dtype=torch.long), 5, backend=backend)
    assert (no_faces.face == -1).all() and no_faces.bary.shape == (1, 5, 5, 3)
    no_bodies = rasterize(torch.zeros(0, 3, 3), torch.tensor([[0, 1, 2]]), 5, backend=backend)
    assert no_bodies.face.shape == (0, 5, 5)


@pytest.mark.parametrize(
    ("points", "faces", "size", "word"),
    [
        (torch.zeros(1, 3, 2), torch.tensor([[0, 1, 2]]), 4, "points"),
        (torch.zeros(1, 3, 3), torch.tensor([[0, 1]]), 4, "triangles"),
        (torch.zeros(1, 3, 3), torch.tensor([[0, 1, 3]]), 4, "only 0..2"),
        (torch.zeros(1, 3, 3), torch.tensor([[-1, 1, 2]]), 4, "-1"),
        (torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]]), 0, "pixel"),
    ],
)
def test_wrong_inputs_are_refused(points, faces, size, word, backend):
    with pytest.raises(ValueError, match=word):
        rasterize(points, faces, size, backend=backend)
