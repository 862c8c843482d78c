"""Cutting one half of a symmetric mesh along smooth curves, and symmetric decimation that keeps those curves.

Used by `open_body.py` only. The half mesh holds the faces of the left side and the vertices of the plane
x = 0. Every vertex is a convex combination of the original vertices (`blend`), therefore shapes, skinning
weights and all that lives on vertices follow by one sparse product.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

# A cut this close to an end of an edge (as a share of it) goes through the vertex: no slivers.
SNAP = 0.12
# Cost per squared metre of edge: prefers even triangles where the surface is flat.
EDGE_COST = 6e-6
# Weight of a border's own planes against the faces': keeps the shape of the curve.
BORDER_COST = 3.0


@dataclass(frozen=True)
class HalfMesh:
    """The left half of a mesh.

    points [n,3], faces [F,3], labels [F] int, centre [n] bool (x = 0), hidden [n] bool (inner cavities),
    blend: sparse [n,V], convex rows over the original vertices.
    """

    points: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    centre: np.ndarray
    hidden: np.ndarray
    blend: sparse.csr_matrix


def left_half(points: np.ndarray, faces: np.ndarray, centre: np.ndarray, hidden: np.ndarray) -> HalfMesh:
    """The half mesh of the faces at x >= 0; no face of the mesh may cross the plane."""
    side = np.where(centre, 0, np.sign(points[:, 0]))
    positive, negative = (side[faces] > 0).any(1), (side[faces] < 0).any(1)
    if (positive & negative).any() or not (positive | negative).all():
        raise ValueError("The mesh is expected to have no face across or within the plane x = 0.")
    half = faces[positive]
    eye = sparse.identity(len(points), format="csr")
    return HalfMesh(points, half, np.zeros(len(half), int), centre, hidden, eye)


def _connected_sets(faces: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Number [n] of the connected set that each `member` [n] vertex of `faces` is in; -1 for others."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges = edges[member[edges].all(1)]
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(len(member),) * 2)
    _, group = connected_components(graph, directed=False)
    used = np.zeros(len(member), bool)
    used[faces] = True
    return np.where(member & used, group, -1)


def _largest_set(faces: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The vertices [n] bool of the largest connected set among the `member` vertices of `faces`."""
    group = _connected_sets(faces, member)
    return group == np.bincount(group[group >= 0]).argmax()


def _clean_field(mesh: HalfMesh, field: np.ndarray, region: np.ndarray, seed: int | None) -> np.ndarray:
    """The field with one connected set on its positive side, and 0 at vertices that the cut nearly meets."""
    faces, field = mesh.faces[region], field.copy()
    if seed is not None:
        group = _connected_sets(faces, field > 0)
        inside = (group == group[seed]) & (group >= 0)
    else:
        inside = _largest_set(faces, field > 0)
        inside |= (_connected_sets(faces, ~inside) >= 0) & ~_largest_set(faces, ~inside)
    field = np.where(inside, np.maximum(field, 1e-9), np.minimum(field, -1e-9))
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    a, b = field[edges].T
    share = np.where(a * b < 0, np.abs(a) / (np.abs(a) + np.abs(b)), 0.5)
    field[edges[(share < SNAP), 0]] = 0
    field[edges[(share > 1 - SNAP), 1]] = 0
    return field


def _split_faces(mesh: HalfMesh, middle: dict) -> tuple[np.ndarray, np.ndarray]:
    """Faces and the index of the face each comes from, after edges (a,b) got the new vertex middle[a,b]."""
    faces, source = [], []
    for number, face in enumerate(mesh.faces):
        a, b, c = (int(v) for v in face)
        cuts = [middle.get((min(p, q), max(p, q))) for p, q in ((a, b), (b, c), (c, a))]
        count = sum(cut is not None for cut in cuts)
        while count == 1 and cuts[0] is None or count == 2 and cuts[2] is not None:
            a, b, c, cuts = b, c, a, cuts[1:] + cuts[:1]
        if count == 0:
            pieces = [(a, b, c)]
        elif count == 1:
            pieces = [(a, cuts[0], c), (cuts[0], b, c)]
        else:
            pieces = [(cuts[0], b, cuts[1]), (a, cuts[0], cuts[1]), (a, cuts[1], c)]
        faces += pieces
        source += [number] * len(pieces)
    return np.array(faces), np.array(source)


def cut(mesh: HalfMesh, field: np.ndarray, label: int, new_label: int, seed: int | None = None) -> HalfMesh:
    """Split the region `label` along the curve field = 0; its positive side becomes `new_label`.

    field [n] has one value a vertex. Only the positive set that holds the vertex `seed` is cut off; without a
    seed the largest positive and the largest other set are kept and small islands join their surroundings.
    """
    region = mesh.labels == label
    field = _clean_field(mesh, field, region, seed)
    edges = mesh.faces[region][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges = np.unique(np.sort(edges[field[edges].prod(1) < 0], axis=1), axis=0)
    share = np.abs(field[edges[:, 0]]) / np.abs(field[edges]).sum(1)
    rows = np.arange(len(edges))
    mix = sparse.csr_matrix(
        (np.r_[1 - share, share], (np.r_[rows, rows], edges.T.ravel())), shape=(len(edges), len(field))
    )
    middle = {(int(a), int(b)): len(field) + i for i, (a, b) in enumerate(edges)}
    faces, source = _split_faces(mesh, middle)
    field = np.r_[field, np.zeros(len(edges))]
    labels = mesh.labels[source]
    labels = np.where((labels == label) & (field[faces].max(1) > 0), new_label, labels)
    return replace(
        mesh,
        points=np.r_[mesh.points, mix @ mesh.points],
        faces=faces,
        labels=labels,
        centre=np.r_[mesh.centre, mesh.centre[edges].all(1)],
        hidden=np.r_[mesh.hidden, mesh.hidden[edges].all(1)],
        blend=sparse.vstack([mesh.blend, mix @ mesh.blend]).tocsr(),
    )


class _Collapser:
    """Half-edge collapses by quadric error (Garland and Heckbert 1997).

    They keep the topology, the plane x = 0 and the borders between labels.
    """

    def __init__(self, mesh: HalfMesh) -> None:
        self.points, self.centre, self.hidden = mesh.points, mesh.centre, mesh.hidden
        self.labels = mesh.labels
        self.faces = {i: tuple(int(v) for v in face) for i, face in enumerate(mesh.faces)}
        self.around: dict[int, set[int]] = {}
        for i, face in self.faces.items():
            for v in face:
                self.around.setdefault(v, set()).add(i)
        self.kinds = {v: frozenset(int(mesh.labels[i]) for i in ids) for v, ids in self.around.items()}
        self.quadrics = self._face_quadrics(mesh.faces)
        self._add_border_quadrics()
        self.stamp: dict[int, int] = {}
        self.heap: list[tuple[float, int, int, int]] = []

    def _face_quadrics(self, faces: np.ndarray) -> np.ndarray:
        p = self.points
        normal = np.cross(p[faces[:, 1]] - p[faces[:, 0]], p[faces[:, 2]] - p[faces[:, 0]])
        area = np.linalg.norm(normal, axis=1) / 2
        normal = normal / (2 * area[:, None] + 1e-18)
        plane = np.c_[normal, -(normal * p[faces[:, 0]]).sum(1)]
        quadrics = np.zeros((len(p), 4, 4))
        for corner in range(3):
            np.add.at(quadrics, faces[:, corner], plane[:, :, None] * plane[:, None] * area[:, None, None])
        return quadrics

    def _add_border_quadrics(self) -> None:
        """Planes through the label borders, upright on the surface: straightens what is left of a border."""
        for u, kinds in self.kinds.items():
            for v in self.neighbours(u) if len(kinds) > 1 else ():
                shared = self.around[u] & self.around[v]
                if len({self.labels[i] for i in shared}) < 2:
                    continue
                edge = self.points[v] - self.points[u]
                for i in shared:
                    a, b, c = (self.points[w] for w in self.faces[i])
                    upright = np.cross(edge, np.cross(b - a, c - a))
                    upright /= np.linalg.norm(upright) + 1e-18
                    plane = np.append(upright, -upright @ self.points[u])
                    self.quadrics[u] += BORDER_COST * (edge @ edge) * np.outer(plane, plane)

    def neighbours(self, u: int) -> set[int]:
        return {w for i in self.around[u] for w in self.faces[i]} - {u}

    def cost(self, u: int, v: int) -> float:
        point = np.append(self.points[v], 1)
        edge = self.points[u] - self.points[v]
        value = point @ (self.quadrics[u] + self.quadrics[v]) @ point
        value += EDGE_COST * (edge @ edge) * len(self.around[u]) / 6
        return float(value) * (1e-6 if self.hidden[u] else 1)

    def keeps_border(self, u: int, v: int) -> bool:
        """Whether borders stay: a border vertex only slides along its border, a meeting point of three stays."""
        if len(self.kinds[u]) == 1:
            return True
        if len(self.kinds[u]) > 2 or self.centre[u] or not self.kinds[u] <= self.kinds[v]:
            return False
        return len({self.labels[i] for i in self.around[u] & self.around[v]}) == 2

    def keeps_topology(self, u: int, v: int) -> bool:
        """Whether the link condition holds, on the half mesh with its rim in the plane x = 0."""
        near_u, near_v = self.neighbours(u), self.neighbours(v)
        common = near_u & near_v
        if self.centre[u]:
            if not self.centre[v] or len(common) != 1:
                return False
        elif len(common) != 2 or len(self.around[u]) < 3:
            return False
        reaches_rim = self.centre[v] and not self.centre[u]
        if reaches_rim and any(self.centre[w] and w not in near_v for w in near_u - {v}):
            return False
        return all(len(self.around[w]) > (1 if self.centre[w] else 3) for w in common)

    def keeps_sides(self, u: int, v: int) -> bool:
        """Whether no face flips or degenerates."""
        p = self.points
        for i in self.around[u]:
            face = self.faces[i]
            if v in face:
                continue
            a, b, c = (p[w] for w in face)
            before = np.cross(b - a, c - a)
            a, b, c = (p[v if w == u else w] for w in face)
            after = np.cross(b - a, c - a)
            size = np.linalg.norm(after)
            if size < 1e-10 or before @ after < 0.3 * np.linalg.norm(before) * size:
                return False
        return True

    def push(self, u: int) -> None:
        self.stamp[u] = self.stamp.get(u, 0) + 1
        for v in sorted(self.neighbours(u)):
            if self.keeps_border(u, v) and (self.centre[v] or not self.centre[u]):
                heapq.heappush(self.heap, (self.cost(u, v), u, v, self.stamp[u]))

    def collapse(self, u: int, v: int) -> None:
        for i in list(self.around[u]):
            if v in self.faces[i]:
                for w in self.faces.pop(i):
                    self.around[w].discard(i)
            else:
                self.faces[i] = tuple(v if w == u else w for w in self.faces[i])
                self.around[v].add(i)
        del self.around[u]
        self.quadrics[v] += self.quadrics[u]
        for w in sorted(self.neighbours(v) | {v}):
            self.push(w)

    def count(self) -> int:
        """Vertices of the whole mesh: those off the plane count twice."""
        return sum(1 if self.centre[v] else 2 for v in self.around)


def decimate(mesh: HalfMesh, target: int) -> HalfMesh:
    """Collapse edges until the mirrored whole has exactly `target` vertices; unused vertices are dropped."""
    work = _Collapser(mesh)
    for u in sorted(work.around):
        work.push(u)
    count = work.count()
    while count > target:
        if not work.heap:
            raise ValueError(f"The mesh can only be simplified to {count} vertices, {target} were asked for.")
        _, u, v, stamp = heapq.heappop(work.heap)
        stale = u not in work.around or v not in work.around or stamp != work.stamp[u]
        if stale or v not in work.neighbours(u) or (count - target == 1 and not work.centre[u]):
            continue
        if not work.keeps_topology(u, v) or not (work.hidden[u] or work.keeps_sides(u, v)):
            continue
        work.collapse(u, v)
        count -= 1 if work.centre[u] else 2
    keep = np.array(sorted(work.around))
    index = {int(v): i for i, v in enumerate(keep)}
    ids = sorted(work.faces)
    faces = np.array([[index[w] for w in work.faces[i]] for i in ids])
    return HalfMesh(
        mesh.points[keep], faces, mesh.labels[ids], mesh.centre[keep], mesh.hidden[keep], mesh.blend[keep]
    )


def mirrored(mesh: HalfMesh, mirror: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """The whole mesh of a half whose original vertices have the mirror vertices `mirror` [V].

    Returns blend [n,V] over the original vertices, faces [2F,3] (left ones first, then their mirror images in
    the same order) and the mirror vertex [n] of every vertex.
    """
    order = np.r_[np.flatnonzero(mesh.centre), np.flatnonzero(~mesh.centre)]
    num_centre, num_left = mesh.centre.sum(), (~mesh.centre).sum()
    index = np.empty(len(order), int)
    index[order] = np.arange(len(order))
    left = index[mesh.faces]
    blend = mesh.blend[order]
    whole = sparse.vstack([blend, blend[num_centre:][:, mirror]]).tocsr()
    other = np.arange(num_centre + 2 * num_left)
    other[num_centre : num_centre + num_left] += num_left
    other[num_centre + num_left :] -= num_left
    return whole, np.r_[left, other[left][:, ::-1]], other
