"""LSP parts: classes of faces, images of bodies seen from any side, the way back to the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datasets.transforms import image_points_to_crop
from utils.body import load_open_atlas, load_open_body
from utils.geometry import CROP_SIZE
from utils.io import DataFileError
from utils.renderer import IUV_Renderer
from utils.renderer.lsp_parts import PartRenderer, face_classes, skinning_classes, uncrop

HEAD, TORSO, RIGHT_ARM, LEFT_ARM, RIGHT_LEG, LEFT_LEG = range(1, 7)
CAM = torch.tensor([[0.9, 0.0, 0.25]])


@pytest.fixture(scope="module")
def body():
    return load_open_body()


def test_faces_of_the_open_body_belong_where_they_lie(body, tmp_path):
    classes, source = face_classes(body, tmp_path)
    assert classes.shape == (len(body.faces),) and set(classes) == {1, 2, 3, 4, 5, 6}
    assert "skinning weights" in source and body.model_id in source
    middle = body.v_template[body.faces].mean(axis=1)  # y up, left is +x
    for right, left in ((RIGHT_ARM, LEFT_ARM), (RIGHT_LEG, LEFT_LEG)):
        assert (middle[classes == right, 0] < 0.02).all() and (middle[classes == left, 0] > -0.02).all()
        assert (classes == right).sum() == pytest.approx((classes == left).sum(), rel=0.1)
    heights = [np.median(middle[classes == c, 1]) for c in (HEAD, TORSO, RIGHT_LEG)]
    assert heights == sorted(heights, reverse=True)


def test_skinning_weight_is_summed_over_joints_and_corners(body):
    """0.4 of the torso's two joints each against 0.2 of the head; then a face that two corners decide."""
    weights = np.zeros((4, 24), np.float32)
    weights[:3, [0, 3]], weights[:3, 15] = 0.3, 0.4
    weights[3, 15] = 1
    tiny = replace(body, weights=weights, faces=np.array([[0, 1, 2], [0, 1, 3], [0, 3, 3]], np.int32))
    assert skinning_classes(tiny).tolist() == [TORSO, HEAD, HEAD]


@pytest.fixture
def official(body):
    """A body that claims to be the official one, with five faces."""
    return replace(body, model_id="smpl", faces=body.faces[:5])


def write_tables(folder, colors, cells, shape=(100, 92, 17)):
    """vertex_texture.npy with one colour a face, cube_parts.npy with the classes of some cells."""
    texture = np.ones((1, len(colors), 2, 2, 2, 3), np.float32) * np.float32(colors)[None, :, None, None, None]
    table = np.zeros(shape, np.float32)
    for cell, value in cells.items():
        table[cell] = value
    np.save(folder / "vertex_texture.npy", texture)
    np.save(folder / "cube_parts.npy", table)


COLORS = [[0.999, 0, 0], [0.505, 0.915, 0.165], [0, 0, 0], [0.125, 0.25, 0.0625], [0.129, 0.259, 0.069]]
CELLS = {(99, 0, 0): 1, (50, 91, 16): 6, (12, 25, 6): 3}


def test_colours_name_the_faces_of_the_official_body(official, tmp_path):
    write_tables(tmp_path, COLORS, CELLS)
    classes, source = face_classes(official, tmp_path)
    assert classes.tolist() == [1, 6, 0, 3, 3] and np.issubdtype(classes.dtype, np.integer)
    assert "vertex_texture.npy" in source and "skinning" not in source


@pytest.mark.parametrize("name", ["vertex_texture.npy", "cube_parts.npy"])
def test_half_the_tables_is_an_error(official, tmp_path, name):
    write_tables(tmp_path, COLORS, CELLS)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        face_classes(official, tmp_path)


@pytest.mark.parametrize(
    ("colors", "cells", "shape", "words"),
    [
        (COLORS[:4], CELLS, (100, 92, 17), r"expected a colour texture .* \(1, 5, 2, 2, 2, 3\)"),
        (COLORS, {(0, 0, 0): 7}, (100, 92, 17), "classes 0..6"),
        (COLORS, {(0, 0, 0): 0.5}, (100, 92, 17), "classes 0..6"),
        (COLORS, {}, (100, 92), "expected a table"),
        (COLORS, {}, (99, 92, 17), "beyond the table"),
        ([[-0.01, 0, 0]] * 5, CELLS, (100, 92, 17), "beyond the table"),
        ([[float("nan"), 0, 0]] * 5, CELLS, (100, 92, 17), "not finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(official, tmp_path, colors, cells, shape, words):
    write_tables(tmp_path, colors, cells, shape)
    with pytest.raises(DataFileError, match=words):
        face_classes(official, tmp_path)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_person_facing_the_camera_has_its_right_at_the_images_left(body, standing, backend):
    parts = PartRenderer(body.faces, skinning_classes(body), backend=backend)(standing, CAM)
    assert parts.dtype == torch.uint8 and parts.shape == (1, 224, 224)
    place = {label: (parts[0] == label).nonzero().float().mean(dim=0) for label in range(1, 7)}  # row, column
    assert place[RIGHT_ARM][1] < place[RIGHT_LEG][1] < 112 < place[LEFT_LEG][1] < place[LEFT_ARM][1]
    assert place[HEAD][0] < place[RIGHT_ARM][0] < place[RIGHT_LEG][0]
    assert abs(place[TORSO][1] - 112) < 5


def turned(vertices, rotations):
    turns = torch.from_numpy(rotations.as_matrix()).float()
    center = vertices.mean(dim=1, keepdim=True)
    return (vertices - center) @ turns.mT + center


def test_outline_from_any_side_is_that_of_the_iuv_image(body, standing):
    views = turned(standing, Rotation.random(6, random_state=1))
    cam = CAM.expand(6, 3)
    parts = PartRenderer(body.faces, skinning_classes(body))(views, cam)
    face = IUV_Renderer(224, 224, atlas=load_open_atlas(), far=float("inf")).fragments(views, cam).face
    assert torch.equal(parts > 0, face >= 0)


def test_a_triangle_is_seen_from_both_sides_and_the_near_one_wins():
    """Two triangles, one behind the other, seen from the front and from behind."""
    corners = torch.tensor([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.5, 0.0]])
    vertices = torch.cat([corners, corners + torch.tensor([0.0, 0.0, 0.2])])
    render = PartRenderer(np.array([[0, 1, 2], [3, 4, 5]]), np.array([3, 5]))
    cam = torch.tensor([[0.9, 0.0, 0.0]])
    for faces_swapped in (vertices, vertices.flip(0)):
        parts = render(faces_swapped[None], cam)
        near = 3 if faces_swapped is vertices else 5
        assert parts[0, 112, 112] == near and (parts == near).sum() > 2000
    behind = render((vertices * torch.tensor([-1.0, 1.0, -1.0]))[None], cam)
    assert behind[0, 112, 112] == 5 and set(behind.unique().tolist()) <= {0, 3, 5}


@pytest.mark.parametrize(("center", "scale"), [((130.3, 99.8), 0.9), ((40.0, 180.5), 1.37), ((200.1, 20.2), 0.31)])
def test_each_pixel_takes_the_crop_pixel_that_its_centre_falls_into(center, scale):
    parts = np.random.default_rng(1).integers(0, 7, (224, 224)).astype(np.uint8)
    back = uncrop(parts, center, scale, (210, 250))
    rng = np.random.default_rng(2)
    for row, column in rng.integers(0, (210, 250), (300, 2)):
        x, y = np.floor(image_points_to_crop(np.array([column + 0.5, row + 0.5]), center, scale)).astype(int)
        inside = 0 <= x < 224 and 0 <= y < 224
        assert back[row, column] == (parts[y, x] if inside else 0)


def test_other_shapes_and_squares_are_refused():
    with pytest.raises(ValueError, match=r"\[224, 224\], got \[56, 56\]"):
        uncrop(np.zeros((56, 56), np.uint8), (0, 0), 1.0, (10, 10))
    for center, scale in (((0, 0), 0.0), ((float("nan"), 0), 1.0)):
        with pytest.raises(ValueError, match="positive scale"):
            uncrop(np.zeros((CROP_SIZE, CROP_SIZE), np.uint8), center, scale, (10, 10))
