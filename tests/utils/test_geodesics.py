"""Geodesic distances, the vertex closest to a chart's point, GPS of known offsets, and DensePose's own files."""

from __future__ import annotations

import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial import ConvexHull

from utils.body import (
    COARSE_PARTS,
    SMPL_ID,
    Surface,
    coarse_means,
    load_open_atlas,
    load_open_body,
    open_surface,
    point_similarity,
)
from utils.body.geodesics import MeshGeodesics
from utils.body.point_similarity import COARSE_OF_PART, REACH
from utils.body.surface import licensed_surface, resolve_surface
from utils.io import DataFileError, UnsafeFileError

SIDE = 24


def plane():
    """A square metre in 23 x 23 pairs of right-angled triangles."""
    y, x = np.mgrid[:SIDE, :SIDE]
    corner = (y[:-1, :-1] * SIDE + x[:-1, :-1]).reshape(-1)
    faces = [[corner, corner + 1, corner + SIDE], [corner + 1, corner + SIDE + 1, corner + SIDE]]
    vertices = np.column_stack([x.reshape(-1), y.reshape(-1), np.zeros(SIDE * SIDE)]) / (SIDE - 1)
    return vertices, np.concatenate([np.stack(f, axis=1) for f in faces])


def all_pairs(geodesics, sources, count):
    start, end = (axis.reshape(-1) for axis in np.meshgrid(sources, np.arange(count), indexing="ij"))
    return geodesics.between(start, end).reshape(len(sources), count)


def test_on_a_plane_paths_are_never_too_short_and_4_percent_too_long_on_average():
    vertices, faces = plane()
    sources = [0, 130, 300, 575]
    found = all_pairs(MeshGeodesics(vertices, faces), sources, len(vertices))
    true = np.linalg.norm(vertices[sources][:, None] - vertices, axis=2)
    error = found[true > 0.2] / true[true > 0.2] - 1
    assert error.min() > -1e-6 and error.mean() < 0.045
    assert error.max() < 1 / np.cos(np.pi / 8) - 1 + 1e-6  # halfway between two of the eight directions: 8.2 %
    straight = [1, SIDE, SIDE + 1]  # along both kinds of edges, and across a pair of triangles
    assert np.allclose(found[0, straight], true[0, straight], atol=1e-7)
    assert np.allclose(found[0, : SIDE * SIDE : SIDE + 1], true[0, : SIDE * SIDE : SIDE + 1], atol=1e-6)


def test_on_a_sphere_paths_are_1_5_percent_too_long_on_average():
    count = 1500
    height, angle = 1 - (2 * np.arange(count) + 1) / count, np.arange(count) * np.pi * (3 - 5**0.5)
    ring = np.sqrt(1 - height**2)
    points = np.column_stack([ring * np.cos(angle), ring * np.sin(angle), height])
    sources = list(range(0, count, 150))
    found = all_pairs(MeshGeodesics(points, ConvexHull(points).simplices), sources, count)
    true = np.arccos(np.clip(points[sources] @ points.T, -1, 1))
    error = found[true > 0.3] / true[true > 0.3] - 1
    assert abs(error.mean() - 0.015) < 0.005 and error.max() < 0.09 and error.min() > -0.002


def test_beyond_the_limit_and_without_a_path_distances_are_infinite():
    vertices, faces = plane()
    two = MeshGeodesics(np.concatenate([vertices, vertices + 2]), np.concatenate([faces, faces + len(vertices)]))
    start, end = np.array([0, 0, 0]), np.array([1, SIDE - 1, len(vertices)])
    assert np.isfinite(two.between(start, end)).tolist() == [True, True, False]
    assert np.isfinite(two.between(start, end, 0.5)).tolist() == [True, False, False]


# ------------------------------------------------------------------------------------------------ the open body


def test_a_corner_of_a_chart_is_its_vertex_and_the_background_none():
    atlas, surface = load_open_atlas(), open_surface()
    faces = np.arange(0, len(atlas.faces), 97)
    part, uv, vertex = atlas.face_part[faces].astype(int), atlas.face_uv[faces, 1], atlas.faces[faces, 1]
    found = surface.nearest(part, *uv.T)
    same = found == vertex
    assert same.mean() > 0.98  # a few corners of a chart lie in one place
    assert surface.nearest(np.zeros(2, int), np.ones(2), np.ones(2)).tolist() == [-1, -1]


def test_distances_on_the_open_body():
    surface = open_surface()
    at = {name: surface.nearest(np.array([part]), np.array([0.5]), np.array([0.5]))
          for name, part in (("right hand", 3), ("left hand", 4), ("left foot", 5), ("right foot", 6))}  # fmt: skip
    hands, again, feet, cross = (
        surface.distance(at[a], at[b], np.inf)[0]
        for a, b in (("right hand", "left hand"), ("left hand", "right hand"), ("left foot", "right foot"),
                     ("left hand", "right foot"))
    )  # fmt: skip
    assert hands == pytest.approx(again, abs=1e-6) and 1.2 < hands < 2.2  # metres, from hand to hand over the chest
    assert 1.3 < feet < 2.2 and 1.3 < cross < 2.3


# --------------------------------------------------------------------------------------------------------- GPS


def line_surface():
    """Each part a line of 101 vertices, a centimetre from one to the next by U."""

    def nearest(part, u, v):
        return np.where(part > 0, np.rint(u * 100).astype(int), -1)

    def distance(start, end, limit):
        metres = abs(start - end) / 100
        return np.where(metres <= limit, metres, np.inf)

    return Surface("line", nearest, distance, "")


def test_gps_of_known_offsets():
    parts = np.arange(1, 25)
    true = parts, np.full(24, 0.3), np.zeros(24)
    spread = np.array([*COARSE_PARTS.values()])[COARSE_OF_PART[1:]]
    assert (point_similarity(line_surface(), true, true) == 1).all()
    offset = point_similarity(line_surface(), true, (parts, np.full(24, 0.45), np.ones(24)))
    assert np.allclose(offset, np.exp(-(0.15**2) / (2 * spread**2)))
    assert not point_similarity(line_surface(), true, (0 * parts, true[1], true[2])).any()
    assert np.exp(-(REACH**2) / 2) < 5e-5  # what is cut off
    half = spread * np.sqrt(2 * np.log(2))
    assert np.allclose(half / spread, 1.1774, atol=1e-4)  # as COARSE_PARTS says


def test_every_part_has_the_spread_of_its_coarse_part():
    names = ["torso"] * 2 + ["hands"] * 2 + ["feet"] * 2
    for limb in ("upper legs", "lower legs", "upper arms", "lower arms"):
        names += [limb] * 4
    assert [[*COARSE_PARTS][number] for number in COARSE_OF_PART[1:]] == [*names, "head", "head"]
    means = coarse_means(np.array([1.0, 0.0, 0.5]), np.array([1, 2, 24]))
    assert means[0] == 0.5 and means[7] == 0.5 and np.isnan(means[1:7]).all()


# ----------------------------------------------------------------------------------------------- licensed files

COUNT = 60  # vertices of the small subdivided mesh
ROWS = 72  # of its charts: some vertices stand in two


def write_licensed(folder, **changes):
    """The three files in their published layout, of random points; returns their paths, coordinates and vertices."""
    rng = np.random.default_rng(0)
    vertex = np.concatenate([np.arange(1, COUNT + 1), rng.integers(1, COUNT + 1, ROWS - COUNT)])
    points = rng.random((COUNT, 3))
    pairs = [np.linalg.norm(points[i] - points[j]) for i in range(COUNT) for j in range(i)]
    content = {
        "U_subdiv": rng.random((ROWS, 1)), "V_subdiv": rng.random((ROWS, 1)),
        "Part_ID_subdiv": (np.arange(ROWS) % 24 + 1)[None], "index": vertex[:, None],
        "Pdist_matrix": np.array(pairs, np.float32)[:, None],
    } | changes  # fmt: skip
    paths = [folder / name for name in ("SMPL_subdiv.mat", "SMPL_SUBDIV_TRANSFORM.mat", "Pdist_matrix.pkl")]
    folder.mkdir(exist_ok=True)
    savemat(paths[0], {name: content[name] for name in ("U_subdiv", "V_subdiv", "Part_ID_subdiv")})
    savemat(paths[1], {"index": content["index"]})
    paths[2].write_bytes(pickle.dumps({"Pdist_matrix": content["Pdist_matrix"]}, protocol=2))
    return paths, content, points, vertex


def test_densepose_s_own_files_give_vertices_and_distances(tmp_path):
    paths, content, points, vertex = write_licensed(tmp_path)
    surface = licensed_surface(*paths)
    part, u, v = (content[name].reshape(-1) for name in ("Part_ID_subdiv", "U_subdiv", "V_subdiv"))
    found = surface.nearest(part, u, v)
    assert np.array_equal(found, vertex - 1) and "Pdist_matrix.pkl" in surface.source
    start, end = (axis.reshape(-1) for axis in np.mgrid[:COUNT, :COUNT])
    true = np.linalg.norm(points[start] - points[end], axis=1)
    assert np.allclose(surface.distance(start, end, np.inf), true, atol=1e-6)
    assert np.isinf(surface.distance(start, end, 0.3)[true > 0.31]).all()


class Hostile:
    def __reduce__(self):
        return (print, ("run",))


def test_licensed_files_run_no_code_and_damage_is_a_sentence(tmp_path, capsys):
    paths, content, _, _ = write_licensed(tmp_path / "hostile")
    paths[2].write_bytes(pickle.dumps({"Pdist_matrix": Hostile()}, protocol=2))
    with pytest.raises(UnsafeFileError, match="print"):
        licensed_surface(*paths)
    assert "run" not in capsys.readouterr().out
    for number, (name, value, said) in enumerate((
        ("U_subdiv", content["U_subdiv"] + 1, "U_subdiv must lie in 0..1"),
        ("Part_ID_subdiv", content["Part_ID_subdiv"] * 2, "parts 1 to 24"),
        ("index", content["index"][:-1], "do not belong together"),
        ("index", content["index"] + 0.5, "numbers of vertices"),
        ("Pdist_matrix", content["Pdist_matrix"][:-1], "all pairs of 60"),
        ("Pdist_matrix", content["Pdist_matrix"] * np.float32(np.nan), "negative or missing"),
        ("Pdist_matrix", "text", "lacks Pdist_matrix"),
    )):  # fmt: skip
        damaged, *_ = write_licensed(tmp_path / str(number), **{name: value})
        with pytest.raises(DataFileError, match=said):
            licensed_surface(*damaged)


def test_which_distances_a_run_uses(tmp_path):
    body, atlas = (replace(part, model_id=SMPL_ID) for part in (load_open_body(), load_open_atlas()))
    assets = SimpleNamespace(body=body, atlas=atlas)
    assert "our own" in resolve_surface(assets, tmp_path).source
    paths, *_ = write_licensed(tmp_path / "UV_data")
    assert "DensePose's" in resolve_surface(assets, tmp_path).source
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match="SMPL_SUBDIV_TRANSFORM.mat"):
        resolve_surface(assets, tmp_path)
    with pytest.raises(FileNotFoundError, match="UV_Processed"):
        resolve_surface(SimpleNamespace(body=body, atlas=None), tmp_path / "none")
    assert resolve_surface(SimpleNamespace(body=SimpleNamespace(model_id="open")), tmp_path) is open_surface()
