"""IUV and shaded images: the 2020 renderer's numbers, atlas files, geometry of overlay and side view."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.io
import standin
import torch
from scipy.spatial import ConvexHull

from examples import render_iuv
from utils.body import (
    body_tensors,
    default_atlas,
    face_colors,
    load_open_atlas,
    load_open_body,
    load_uv_processed,
    skin,
)
from utils.geometry import FOCAL_LENGTH, batch_rodrigues, cam_to_translation, rotmat_to_rotvec
from utils.renderer import LIGHT_BLUE, TILE, IUV_Renderer, MeshRenderer, turn_sideways
from utils.renderer.shading import vertex_normals
from utils.skeleton import SMPL_PARENTS
from utils.structures import BodyModel


@pytest.fixture(scope="module")
def numbers(request):
    return dict(np.load(request.config.rootpath / "tests" / "golden" / "renderer.npz"))


@pytest.fixture(scope="module")
def uv_processed():
    return standin.uv_processed()


@pytest.fixture(scope="module")
def atlas_file(tmp_path_factory, uv_processed):
    path = tmp_path_factory.mktemp("data") / "UV_data" / "UV_Processed.mat"
    path.parent.mkdir()
    scipy.io.savemat(path, uv_processed)
    return path


@pytest.fixture(scope="module")
def atlas(atlas_file):
    return load_uv_processed(atlas_file)


@pytest.fixture(scope="module")
def vertices(numbers):
    """The two posed stand-in bodies of the golden file."""
    found = standin.smpl_dict(0)
    body = BodyModel(
        "smpl", found["v_template"], found["shapedirs"], found["posedirs"].reshape(-1, 207).T,
        found["J_regressor"], found["weights"], np.array(SMPL_PARENTS), found["f"].astype(np.int32),
    )  # fmt: skip
    rotmat = batch_rodrigues(torch.from_numpy(numbers["pose"]).reshape(-1, 3)).view(-1, 24, 3, 3)
    posed = skin(body_tensors(body), SMPL_PARENTS, rotmat, torch.from_numpy(numbers["betas"]))[0]
    return posed.transpose(1, 2)


@pytest.fixture(scope="module")
def open_body(standing):
    return load_open_body(), standing[0]


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("view", [0, 1])
def test_face_ids_and_colours_are_those_of_2020(view, backend, numbers, atlas, vertices):
    cam = torch.from_numpy(numbers["cams"][view]).expand(2, 3)
    for size in (56, 224):
        renderer = IUV_Renderer(out_size=size, atlas=atlas, backend=backend)
        face = renderer.fragments(vertices, cam).face.numpy()
        expected = numbers[f"face_{size}_cam{view}"]
        assert (face != expected).sum() <= 2, size
        if size == 56:
            same = (face == expected)[:, None]
            pixels = renderer.verts2uvimg(vertices, cam).numpy()
            assert (np.abs(pixels - numbers[f"clean_56_cam{view}"]) * same).max() < 1e-5


def test_face_colours_are_part_and_mean_uv(numbers, atlas):
    np.testing.assert_allclose(face_colors(atlas)[::50], numbers["face_colors_s50"], atol=1e-6)


def test_far_plane_hides_distant_bodies(numbers, atlas, vertices):
    def covered(s: float, **kwargs) -> float:
        pixels = IUV_Renderer(atlas=atlas, **kwargs).verts2uvimg(vertices[1:], torch.tensor([[s, 0.0, 0.0]]))
        return float((pixels[:, 0] > 0).float().mean())

    np.testing.assert_allclose([covered(0.44), covered(0.46)], numbers["far_fraction"], atol=1e-6)
    assert covered(0.44, far=1000.0) > 0.02


def test_wrong_shapes_are_refused(atlas, vertices):
    with pytest.raises(ValueError, match=r"\[B, V, 3\]"):
        IUV_Renderer(atlas=atlas).verts2uvimg(vertices, torch.zeros(1, 3))
    with pytest.raises(ValueError, match="faces use vertices"):
        IUV_Renderer(atlas=atlas).verts2uvimg(vertices[:, :100], torch.zeros(2, 3))


def test_open_body_shows_its_left_on_the_right(open_body):
    """Facing the camera, left parts lie right of right parts, the head above the feet."""
    _, vertices = open_body
    pixels = IUV_Renderer(atlas=load_open_atlas()).verts2uvimg(vertices[None], torch.tensor([[0.9, 0, 0.2]]))
    part = (pixels[0, 0] * 24).round().long()

    def middle(*parts: int) -> torch.Tensor:
        return torch.isin(part, torch.tensor(parts)).nonzero().float().mean(0)  # row, column

    assert middle(4)[1] > middle(3)[1]  # hands
    assert middle(10)[1] > middle(9)[1]  # front of the thighs
    assert middle(23, 24)[0] < middle(2)[0] < middle(5, 6)[0]
    assert (part == 2).sum() > 10 * (part == 1).sum()  # the chest, not the back


@pytest.mark.parametrize(
    ("field", "change", "word"),
    [
        ("All_vertices", None, "lacks All_vertices"),
        ("All_Faces", lambda a: a[:-1], "All_Faces has the shape"),
        ("All_Faces", lambda a: a - 1, "All_Faces must hold"),
        ("All_FaceIndices", lambda a: a + 24, "All_FaceIndices must hold"),
        ("All_vertices", lambda a: a.astype(int) + 100, "All_vertices must hold"),
        ("All_U_norm", lambda a: a[:-3], "All_U_norm has 7826"),
        ("All_V_norm", lambda a: a * 255, "All_V_norm must lie"),
    ],
)
def test_damaged_atlas_is_refused_by_field(field, change, word, uv_processed, tmp_path):
    fields = {name: value for name, value in uv_processed.items() if name != field}
    if change is not None:
        fields[field] = change(uv_processed[field])
    scipy.io.savemat(tmp_path / "UV_Processed.mat", fields)
    with pytest.raises(ValueError, match=word):
        load_uv_processed(tmp_path / "UV_Processed.mat")


def test_default_atlas_prefers_the_published_one_and_warns_without_it(atlas_file, tmp_path, root):
    assert default_atlas(atlas_file.parents[1]).model_id == "smpl"
    (tmp_path / "open").symlink_to(root / "data" / "open")
    with pytest.warns(UserWarning, match="open body") as caught:
        assert default_atlas(tmp_path).model_id == "danet-open-1"
    assert len(caught) == 1


def test_overlay_lies_where_the_camera_projects_the_body(open_body):
    body, vertices = open_body
    cam_t = cam_to_translation(torch.tensor([0.7, 0.1, 0.3]))
    image = np.zeros((180, 224, 3), np.float32)  # not square: the principal point is its middle
    drawn = MeshRenderer(body.faces).overlay(image, vertices, cam_t, FOCAL_LENGTH)
    rows, columns = np.nonzero(drawn.any(axis=2))
    moved = (vertices + cam_t).numpy()
    projected = FOCAL_LENGTH * moved[:, :2] / moved[:, 2:] + [112, 90]
    for seen, true in ((columns, projected[:, 0]), (rows, np.clip(projected[:, 1], 0, 180))):
        assert abs(seen.min() - true.min()) <= 1 and abs(seen.max() + 1 - true.max()) <= 1


def test_overlay_leaves_the_rest_of_the_image_alone(open_body):
    body, vertices = open_body
    renderer, cam_t = MeshRenderer(body.faces), cam_to_translation(torch.tensor([0.7, 0.0, 0.2]))
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    before = image.copy()
    layer = renderer.render(vertices, cam_t, FOCAL_LENGTH, 224, 224)
    alpha = layer[..., 3]
    drawn = renderer.overlay(image, vertices, cam_t, FOCAL_LENGTH)
    assert drawn.dtype == np.uint8 and drawn.shape == image.shape
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(drawn[alpha == 0], image[alpha == 0])
    assert np.unique(alpha).tolist() == [0, 0.25, 0.5, 0.75, 1]  # anti-aliased
    blend = image * (1 - alpha[..., None]) + alpha[..., None] * 255 * layer[..., :3]
    np.testing.assert_allclose(drawn, blend, atol=0.51)
    as_float = renderer.overlay(image / np.float32(255), vertices, cam_t, FOCAL_LENGTH)
    np.testing.assert_allclose(as_float * 255, drawn, atol=0.51)


def test_tiles_leave_no_seams(open_body, monkeypatch):
    body, vertices = open_body
    view = (vertices, cam_to_translation(torch.tensor([0.7, 0.0, 0.2])), FOCAL_LENGTH, 200, 210)
    whole = MeshRenderer(body.faces).render(*view)
    assert TILE > 210
    monkeypatch.setattr("utils.renderer.tiles.TILE", 37)
    tiled = MeshRenderer(body.faces).render(*view)
    # A tile moves the rounding of the projection by a last bit, hence single sub-samples.
    assert (np.abs(whole - tiled).max(axis=2) > 0.02).mean() < 1e-3


def test_no_far_plane_and_nothing_behind_the_camera(open_body):
    body, vertices = open_body
    renderer = MeshRenderer(body.faces)
    assert renderer.render(vertices, np.array([0, 0, 500.0]), 50000.0, 100, 100)[..., 3].any()
    assert not renderer.render(vertices, np.array([0, 0, -5.0]), 500.0, 100, 100).any()
    assert not renderer.render(vertices, np.array([50.0, 0, 5.0]), 500.0, 100, 100).any()
    inside = renderer.render(vertices, np.array([0, 0, 0.05]), 500.0, 100, 100)
    assert np.isfinite(inside).all()


def test_side_view_is_the_body_turned_by_a_right_angle(open_body):
    body, vertices = open_body
    cam_t = cam_to_translation(torch.tensor([0.8, 0.0, 0.25]))
    side = MeshRenderer(body.faces).side_view(vertices, cam_t, FOCAL_LENGTH, 224)
    assert side.shape == (224, 224, 4) and (side[side[..., 3] == 0] == 0).all()
    turned = turn_sideways(vertices.numpy())
    np.testing.assert_allclose(turned.mean(0), vertices.numpy().mean(0), atol=1e-5)
    np.testing.assert_allclose(np.ptp(turned, axis=0), np.ptp(vertices.numpy(), axis=0)[[2, 1, 0]], atol=1e-5)
    toes = int(vertices[:, 2].argmin())  # nearest to the camera: what points forward
    assert turned[toes, 0] > turned[:, 0].mean() + 0.05  # looks to the right
    back = turn_sideways(turn_sideways(turn_sideways(turned)))
    np.testing.assert_allclose(back, vertices.numpy(), atol=1e-5)


def test_a_sphere_is_shaded_by_its_normals():
    number = np.arange(2000) + 0.5
    polar, around = np.arccos(1 - number / 1000), np.pi * (1 + 5**0.5) * number  # a Fibonacci lattice
    sphere = np.stack([np.cos(around) * np.sin(polar), np.sin(around) * np.sin(polar), np.cos(polar)], axis=1)
    faces = ConvexHull(sphere).simplices
    corners = sphere[faces]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (outward * corners.mean(1)).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    np.testing.assert_allclose(vertex_normals(sphere, faces), sphere, atol=0.04)
    pixels = MeshRenderer(faces).render(sphere, np.array([0, 0, 50.0]), 2000.0, 100, 100)
    radius = np.sqrt(pixels[..., 3].sum() / np.pi)
    assert abs(radius - 40) < 0.5
    light = pixels[..., :3].sum(2)
    assert light[30, 30] > light[70, 70]  # lit from above and left
    color = pixels[50, 50, :3] / pixels[50, 50, 0]
    np.testing.assert_allclose(color, np.array(LIGHT_BLUE) / LIGHT_BLUE[0], atol=1e-3)


def test_example_renders_clips_and_files_alike(tmp_path, root, capsys, caplog):
    """World axes of the clips and camera axes of a fit are the same images."""
    assert render_iuv.main(["--frames", "361", "--body", "open", "--out_dir", str(tmp_path / "world")]) == 0
    clip = np.load(root / "data" / "open" / "motions.npz")["rotvec"][361]
    upright = batch_rodrigues(torch.from_numpy(clip[:1]))[0]
    turned = rotmat_to_rotvec(torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ upright)
    pose = np.concatenate([turned.numpy()[None], clip[1:]]).reshape(1, 72)
    np.savez(tmp_path / "fit.npz", pose=pose)
    args = ["--poses", str(tmp_path / "fit.npz"), "--axes", "camera", "--body", "open"]
    assert render_iuv.main([*args, "--out_dir", str(tmp_path / "camera")]) == 0
    for kind in ("iuv", "parts", "front", "side"):
        first, second = (
            cv2.imread(str(tmp_path / n)) for n in (f"world/00361_{kind}.png", f"camera/00000_{kind}.png")
        )
        assert first.shape == (224, 224, 3) and np.ptp(first) > 100
        assert (first != second).any(axis=2).mean() < 0.01, kind
    assert (tmp_path / "world" / "sheet.png").is_file() and "danet-open-1" in capsys.readouterr().out
    assert render_iuv.main(["--frames", "99999"]) == 1 and "--frames" in caplog.text
