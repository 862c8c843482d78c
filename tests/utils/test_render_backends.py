"""Other packages that draw bodies: the same images as ours where they are installed, and as fakes everywhere.

A fake draws by the conventions that its package documents, with our rasteriser.
"""

from __future__ import annotations

import importlib.machinery
import inspect
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from utils.body import body_tensors, load_open_body, skin
from utils.renderer import MeshRenderer
from utils.renderer import backends as render_backends
from utils.renderer.backends import RENDERERS, mesh_renderer_class, renderer_problem
from utils.renderer.rasterizer import rasterize
from utils.skeleton import SMPL_PARENTS

PACKAGES = RENDERERS[1:]
FOCAL, WIDTH, HEIGHT, CENTER = 1400.0, 660, 820, (300.0, 380.0)


@pytest.fixture(scope="module")
def body():
    """(vertices, faces, cam_t) of the open body: upright, seen from the front, whole in the image."""
    body = load_open_body()
    rotmat = torch.eye(3).repeat(1, 24, 1, 1)
    rotmat[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    rotmat[:, 16] = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # an arm down: left is not right
    vertices = skin(body_tensors(body), SMPL_PARENTS, rotmat, torch.zeros(1, 10))[0].transpose(1, 2)
    return vertices[0].numpy(), body.faces, np.array([0.2, 0.35, 3.7])


def compare(name: str, body: tuple) -> None:
    """Asserts that a renderer draws the body as ours does, in one colour and in one per face."""
    vertices, faces, cam_t = body
    view = (vertices, cam_t, FOCAL, WIDTH, HEIGHT, CENTER)
    striped = np.where(np.arange(len(faces))[:, None] % 97 < 60, (0.9, 0.2, 0), (0, 0.6, 0.6))
    for color in ((0.2, 0.5, 0.9), striped):
        ours = MeshRenderer(faces, color).render(*view)
        theirs = mesh_renderer_class(name)(faces, color).render(*view)
        assert theirs.shape == ours.shape and theirs.dtype == np.float32
        assert theirs.min() >= 0 and theirs.max() <= 1 and not theirs[theirs[..., 3] == 0].any()
        both = [image[..., 3] >= 0.5 for image in (ours, theirs)]
        assert (both[0] & both[1]).sum() / (both[0] | both[1]).sum() > 0.99
        for axis in (0, 1):
            first, second = (np.flatnonzero(seen.any(axis=axis)) for seen in both)
            assert abs(first[0] - second[0]) <= 1 and abs(first[-1] - second[-1]) <= 1
        inside = (ours[..., 3] == 1) & (theirs[..., 3] == 1)
        difference = np.abs(ours - theirs)[inside]
        assert np.median(difference) < 0.01 and difference.mean() < 0.02


@pytest.mark.parametrize("name", RENDERERS)
def test_installed_renderers_draw_what_ours_draws(name, body):
    problem = renderer_problem(name)
    if problem is not None:
        pytest.skip(problem)
    compare(name, body)


def draw(pixels: np.ndarray, depth: np.ndarray, colors: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """RGB and hits of triangles [F, 3, 2] in a square image whose pixel i has its centre at i + 0.5."""
    ndc = np.dstack([2 * pixels[..., 0] / size - 1, 1 - 2 * pixels[..., 1] / size, depth])
    points = torch.from_numpy(ndc.astype(np.float32).reshape(1, -1, 3))
    found = rasterize(points, torch.arange(points.shape[1]).view(-1, 3), size)
    face, bary = found.face[0].numpy(), found.bary[0].numpy()
    return np.einsum("hwk,hwkc->hwc", bary, colors[face]), face >= 0


def project(points: np.ndarray, fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return points[..., :2] / points[..., 2:] * (fx, fy) + (cx, cy)


@pytest.fixture
def fake_opendr(monkeypatch, tmp_path):
    class ColoredRenderer:
        def __init__(self, camera, frustum):
            self.camera, self.frustum = camera, frustum

        def set(self, v, f, vc, bgcolor, overdraw):
            camera, width, height = self.camera, self.frustum["width"], self.frustum["height"]
            assert not any(map(np.any, (camera.rt, camera.t, camera.k, bgcolor, overdraw)))
            assert self.frustum["near"] < v[:, 2].min() and v[:, 2].max() < self.frustum["far"]
            pixels = project(v, *camera.f, *camera.c) + 0.5
            rgb, hit = draw(pixels[f], v[f][..., 2], vc[f], max(width, height))
            self.r = rgb[:height, :width] + 0.001
            self.visibility_image = np.where(hit, 7, 0xFFFFFFFF).astype(np.uint32)[:height, :width]

    package = ModuleType("opendr")
    package.__spec__ = importlib.machinery.ModuleSpec("opendr", None, is_package=True)
    package.__spec__.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setitem(sys.modules, "opendr", package)
    monkeypatch.setitem(sys.modules, "opendr.camera", SimpleNamespace(ProjectPoints=SimpleNamespace))
    monkeypatch.setitem(sys.modules, "opendr.renderer", SimpleNamespace(ColoredRenderer=ColoredRenderer))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(inspect, "getargspec", inspect.getfullargspec, raising=False)
    for name in {"bool", "int", "float", "complex", "object", "unicode", "str"} - set(vars(np)):
        monkeypatch.setattr(np, name, object, raising=False)


@pytest.fixture
def fake_neural_renderer(monkeypatch):
    class Renderer:
        def __init__(self, image_size, orig_size, K, R, t, near, far, **options):  # noqa: N803
            assert options == {
                "anti_aliasing": False, "fill_back": True, "camera_mode": "projection",
                "light_intensity_ambient": 1, "light_intensity_directional": 0,
            }  # fmt: skip
            assert image_size == orig_size and [x.shape for x in (K, R, t)] == [(1, 3, 3), (1, 3, 3), (1, 1, 3)]
            self.size, self.camera, self.planes = image_size, (K, R, t), (near, far)

        def __call__(self, vertices, faces, textures):
            camera, rotation, translation = self.camera
            points = (vertices @ rotation.transpose(2, 1) + translation) @ camera.transpose(2, 1)
            points = points[0, faces[0].long()].numpy()
            assert self.planes[0] < points[..., 2].min() and points[..., 2].max() < self.planes[1]
            assert textures.shape == (1, faces.shape[1], 2, 2, 2, 3)
            colors = textures[0, :, 0, 0, 0].numpy()[:, None].repeat(3, axis=1)
            rgb, hit = draw(points[..., :2] / points[..., 2:], points[..., 2], colors, self.size)
            rgb = torch.from_numpy(rgb * hit[..., None]).permute(2, 0, 1)[None]
            return rgb.float(), None, torch.from_numpy(hit)[None].float()

    monkeypatch.setitem(sys.modules, "neural_renderer", SimpleNamespace(Renderer=Renderer))
    monkeypatch.setattr(render_backends, "CUDA", "cpu")


def test_opendr_gets_the_same_image(fake_opendr, body):
    compare("opendr", body)


def test_neural_renderer_gets_the_same_image(fake_neural_renderer, body):
    compare("neural_renderer", body)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_what_to_do(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    problem = renderer_problem(name)
    assert problem.startswith(f"{name} does not work here") and not problem.endswith(".")
    with pytest.raises(ValueError, match=rf"{name} does not work here .*\. It needs .*builtin always works"):
        mesh_renderer_class(name)
