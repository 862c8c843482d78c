"""Geodesic distances on a mesh: shortest paths over its edges and across pairs of triangles (docs/method.md 11.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

if TYPE_CHECKING:
    from jaxtyping import Float, Int

AT_ONCE = 256  # sources of one call, so that a long call can be interrupted


def surface_graph(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> csr_array:
    """Lengths [V, V] of the steps that a path may take, both ways, in the unit of the vertices.

    A step is an edge, or the straight line from a triangle's corner to the opposite corner of a neighbour, both laid
    into one plane, where that line crosses their common edge. Without these lines paths would zigzag along the edges.
    """
    vertices = np.asarray(vertices, np.float64)
    halves = np.concatenate(
        [faces[:, [0, 1, 2]], faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]]
    )  # edge, opposite corner
    ends = np.sort(halves[:, :2], axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, opposite = ends[order], halves[order, 2]
    repeats = (ends[1:] == ends[:-1]).all(axis=1)
    edges = ends[np.concatenate([[True], ~repeats])]
    lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)

    shared = np.flatnonzero(repeats)
    first, second = opposite[shared], opposite[shared + 1]
    start = vertices[ends[shared, 0]]
    along = vertices[ends[shared, 1]] - start
    length = np.linalg.norm(along, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # triangles without area give no line
        along /= length[:, None]
        (x1, y1), (x2, y2) = (_in_plane(vertices[corner] - start, along) for corner in (first, second))
        crossing = (x1 * y2 + x2 * y1) / (y1 + y2)
        crosses = (crossing > 0) & (crossing < length) & (first != second)
    lines = np.column_stack([first, second])[crosses]
    straight = np.hypot(x1 - x2, y1 + y2)[crosses]

    steps = {}  # two pairs of triangles may have the same opposite corners
    for pairs, values in ((edges, lengths), (np.sort(lines, axis=1), straight)):
        for pair, value in zip(map(tuple, pairs.tolist()), values.tolist(), strict=True):
            steps[pair] = min(value, steps.get(pair, np.inf))
    rows, columns = np.array(list(steps)).reshape(-1, 2).T
    values = np.array(list(steps.values()))
    both = np.concatenate([rows, columns]), np.concatenate([columns, rows])
    return csr_array((np.concatenate([values, values]), both), shape=(len(vertices), len(vertices)))


def _in_plane(
    offset: Float[np.ndarray, "N 3"], along: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Coordinate along a unit vector, and distance from its line."""
    x = (offset * along).sum(axis=1)
    return x, np.sqrt(np.maximum((offset**2).sum(axis=1) - x**2, 0))


class MeshGeodesics:
    """Geodesic distances between vertices of a mesh, computed from the vertices that are asked for and remembered.

    Paths over the graph are never shorter than the geodesic on a flat surface, and on average 1 to 4 % longer
    (docs/method.md 11.6 has measured figures).

    Args:
        vertices: metres.
        faces: of the closed or open mesh.
    """

    def __init__(self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
        self.graph = surface_graph(vertices, faces)
        self._rows: dict[tuple[float, int], Float[np.ndarray, "V"]] = {}

    def between(
        self, start: Int[np.ndarray, "N"], end: Int[np.ndarray, "N"], limit: float = np.inf
    ) -> Float[np.ndarray, "N"]:
        """Distances of pairs of vertices, metres; infinite beyond `limit` and where no path leads."""
        missing = [v for v in np.unique(start).tolist() if (limit, v) not in self._rows]
        for first in range(0, len(missing), AT_ONCE):
            sources = missing[first : first + AT_ONCE]
            rows = dijkstra(self.graph, directed=True, indices=sources, limit=limit).astype(np.float32)
            self._rows |= {(limit, vertex): row for vertex, row in zip(sources, rows, strict=True)}
        pairs = zip(start.tolist(), end.tolist(), strict=True)
        return np.array([self._rows[limit, a][b] for a, b in pairs], np.float64)
