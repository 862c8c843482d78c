"""Vertices of a body by their surface coordinates, and how far apart they are on it (docs/method.md 11.6).

The licensed files of DensePose's own evaluation are used where a user has them: SMPL_subdiv.mat (surface coordinates of
SMPL's mesh, subdivided), SMPL_SUBDIV_TRANSFORM.mat (the vertex behind each of its rows) and Pdist_matrix.pkl (their
distances). Otherwise distances are computed on the body's own mesh.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from utils.body.assets import LICENSED_FILES, BodyAssets
from utils.body.atlas import load_open_atlas
from utils.body.geodesics import MeshGeodesics
from utils.body.model import SMPL_ID, load_open_body
from utils.io import DataFileError, load_mat, read_pickle
from utils.skeleton import NUM_PARTS
from utils.structures import Atlas, BodyModel, require_same_body

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    # Start and end vertices, limit -> metres.
    Distance = Callable[[Int[np.ndarray, "N"], Int[np.ndarray, "N"], float], Float[np.ndarray, "N"]]

SUBDIVISION = ("U_subdiv", "V_subdiv", "Part_ID_subdiv")
GEODESIC_FILES = ("subdivision", "subdivision_vertices", "geodesics")  # of LICENSED_FILES
MAX_VERTICES = 2**17  # of a subdivided mesh: DensePose's has 27,554


class ChartVertices:
    """The vertex closest to a point (part, U, V), found in the part's own chart.

    Args:
        part: of each row, 1..24.
        uv: U and V of each row, 0..1.
        vertex: number of the vertex that the row belongs to.
    """

    def __init__(
        self, part: Int[np.ndarray, "N"], uv: Float[np.ndarray, "N 2"], vertex: Int[np.ndarray, "N"]
    ) -> None:
        rows = [np.flatnonzero(part == number) for number in range(1, NUM_PARTS + 1)]
        self._charts = [(cKDTree(uv[chosen]), vertex[chosen]) if len(chosen) else None for chosen in rows]

    def __call__(
        self, part: Int[np.ndarray, "N"], u: Float[np.ndarray, "N"], v: Float[np.ndarray, "N"]
    ) -> Int[np.ndarray, "N"]:
        """Vertex numbers; -1 on background (part 0) and for a part that the body does not have."""
        found = np.full(len(part), -1, np.int64)
        for number, chart in enumerate(self._charts, start=1):
            rows = np.flatnonzero(part == number)
            if chart is not None and len(rows):
                tree, vertex = chart
                found[rows] = vertex[tree.query(np.column_stack([u[rows], v[rows]]))[1]]
        return found


@dataclass(frozen=True)
class Surface:
    """A body's surface, as dense maps are measured on it."""

    model_id: str
    nearest: ChartVertices
    distance: Distance
    source: str  # where the distances come from, for the record of a run


def own_surface(body: BodyModel, atlas: Atlas) -> Surface:
    """Distances on the body's template, between its own vertices. Raises ValueError for another body's atlas."""
    require_same_body(body, atlas)
    vertex = atlas.vertex_map[atlas.faces].reshape(-1).astype(np.int64)
    part = np.repeat(atlas.face_part.astype(np.int64), 3)
    rows = np.unique(np.column_stack([part, vertex, atlas.face_uv.reshape(-1, 2).astype(np.float64)]), axis=0)
    nearest = ChartVertices(rows[:, 0].astype(np.int64), rows[:, 2:], rows[:, 1].astype(np.int64))
    source = f"our own, on the {len(body.v_template):,} vertices of the body '{body.model_id}' at rest"
    return Surface(body.model_id, nearest, MeshGeodesics(body.v_template, body.faces).between, source)


@functools.cache
def open_surface() -> Surface:
    """The shipped body's surface; one for the whole process, which so computes each distance once."""
    return own_surface(load_open_body(), load_open_atlas())


def resolve_surface(assets: BodyAssets, data_dir: str | Path) -> Surface:
    """The surface that maps of a run are measured on: by the licensed files for official SMPL, else by our distances.

    Raises:
        FileNotFoundError: only some of the licensed files are there, or the body has no atlas.
        UnsafeFileError, DataFileError: a licensed file asks to run code, or is damaged.
    """
    if assets.body.model_id != SMPL_ID:
        return open_surface()
    found = {key: LICENSED_FILES[key][0](Path(data_dir)) for key in GEODESIC_FILES}
    missing = [key for key in GEODESIC_FILES if found[key] is None]
    if not missing:
        return licensed_surface(*found.values())
    if len(missing) < len(GEODESIC_FILES):
        lack = "; ".join(f"{LICENSED_FILES[key][1]} ({LICENSED_FILES[key][2]})" for key in missing)
        raise FileNotFoundError(
            f"DensePose's geodesic distances in {data_dir} are incomplete: {lack} is missing. Add it, or move the "
            "others away to use distances that are computed here."
        )
    if assets.atlas is None:
        raise FileNotFoundError(
            f"Dense maps of SMPL need {LICENSED_FILES['atlas'][1]}: {LICENSED_FILES['atlas'][2]}."
        )
    return own_surface(assets.body, assets.atlas)


# ------------------------------------------------------------------------------------------------ licensed files


def licensed_surface(subdivision: Path, vertices: Path, distances: Path) -> Surface:
    """DensePose's own vertices and distances.

    Args:
        subdivision: SMPL_subdiv.mat with U_subdiv, V_subdiv (0..1) and Part_ID_subdiv (1..24) of N rows.
        vertices: SMPL_SUBDIV_TRANSFORM.mat with `index`, the vertex of each row, from 1.
        distances: Pdist_matrix.pkl with `Pdist_matrix`: metres of all pairs of vertices i > j (from 0) at the place
            i (i - 1) / 2 + j.

    Raises UnsafeFileError or DataFileError as the readers of `utils.io`, DataFileError for other content.
    """
    rows = [_numbers(subdivision, load_mat(subdivision), name) for name in SUBDIVISION]
    u, v, part = rows
    vertex = _numbers(vertices, load_mat(vertices), "index")
    if len({len(row) for row in (*rows, vertex)}) > 1:
        raise DataFileError(
            f"{subdivision} and {vertices} do not belong together: {', '.join(SUBDIVISION)} and index have "
            f"{', '.join(str(len(row)) for row in (*rows, vertex))} values."
        )
    _require(
        subdivision, np.isin(part, range(1, NUM_PARTS + 1)).all(), "Part_ID_subdiv must hold parts 1 to 24"
    )
    for name, values in (("U_subdiv", u), ("V_subdiv", v)):
        _require(subdivision, (np.abs(values - 0.5) <= 0.5 + 1e-6).all(), f"{name} must lie in 0..1")
    whole = (vertex == np.rint(vertex)) & (vertex >= 1) & (vertex <= MAX_VERTICES)
    _require(vertices, whole.all(), "index must hold numbers of vertices, from 1")
    pairs = _condensed(distances, int(vertex.max()))
    nearest = ChartVertices(part.astype(np.int64), np.column_stack([u, v]), vertex.astype(np.int64) - 1)

    def between(start: np.ndarray, end: np.ndarray, limit: float = np.inf) -> np.ndarray:
        high, low = np.maximum(start, end), np.minimum(start, end)
        place = np.where(high == low, 0, high * (high - 1) // 2 + low)
        found = np.where(high == low, 0.0, pairs[place].astype(np.float64))
        return np.where(found <= limit, found, np.inf)

    return Surface(SMPL_ID, nearest, between, f"DensePose's, {subdivision.name} and {distances.name}")


def _condensed(path: Path, count: int) -> Float[np.ndarray, "pairs"]:
    """Distances of all pairs of at least `count` vertices."""
    content = read_pickle(path)
    values = content.get("Pdist_matrix") if isinstance(content, dict) else None
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        raise DataFileError(
            f"{path} lacks Pdist_matrix with distances in metres; it is not the file expected here."
        )
    flat = values.reshape(-1)
    vertices = (1 + math.isqrt(1 + 8 * flat.size)) // 2
    is_whole = vertices * (vertices - 1) // 2 == flat.size and vertices >= count
    _require(
        path, is_whole, f"Pdist_matrix must hold the distances of all pairs of {count:,} vertices or more"
    )
    _require(path, flat.size == 0 or float(flat.min()) >= 0, "distances must not be negative or missing")
    return flat


def _numbers(path: Path, content: dict[str, Any], name: str) -> Float[np.ndarray, "N"]:
    values = content.get(name)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or not values.size:
        raise DataFileError(f"{path} lacks {name} with numbers; it is not the file expected here.")
    values = values.reshape(-1).astype(np.float64)
    _require(path, np.isfinite(values).all(), f"{name} must hold finite numbers")
    return values


def _require(path: Path, condition: bool, what: str) -> None:
    if not condition:
        raise DataFileError(f"{path}: {what}; it does not.")
