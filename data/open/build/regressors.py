"""Joint and keypoint regressors of the open body: sparse convex rows over its vertices.

Used by `body.py`. Row orders follow docs/method.md 2.4. The right side's rows are the mirror images
of the left side's.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from data.open.build.people import People
from utils.skeleton import SMPL_FLIP, VERTEX_JOINT_NAMES

# Weight of the "sums to one" equation against positions in metres.
_SUM_WEIGHT = 30.0
_FIT_PEOPLE = 200


def _fit_row(vertices: np.ndarray, target: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Convex weights [V] over the candidate vertices that reproduce target [N,3] from vertices [N,V,3]."""
    system = vertices[:, candidates].transpose(0, 2, 1).reshape(-1, len(candidates))
    weight = _SUM_WEIGHT * np.sqrt(len(vertices))
    solution, _ = nnls(
        np.r_[system, np.full((1, len(candidates)), weight)], np.r_[target.reshape(-1), weight], maxiter=5000
    )
    solution[solution < 1e-3] = 0
    row = np.zeros(vertices.shape[1])
    row[candidates] = solution / solution.sum()
    return row


def _nearest(template: np.ndarray, point: np.ndarray, reach: int, step: int) -> np.ndarray:
    return np.argsort(np.linalg.norm(template - point, axis=1), kind="stable")[:reach:step]


def fit_joints(vertices: np.ndarray, joints: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """J_regressor [24,V] fitted to people (vertices [N,V,3], joints [N,24,3]); rights mirror lefts."""
    template, used = vertices.mean(0), slice(0, _FIT_PEOPLE)
    rows = np.zeros((24, vertices.shape[1]))
    for joint in range(24):
        other = SMPL_FLIP[joint]
        if other < joint:
            continue
        candidates = _nearest(template, joints[:, joint].mean(0), 1200, 3)
        if other == joint:
            candidates = np.unique(np.r_[candidates, mirror[candidates]])
        row = _fit_row(vertices[used], joints[used, joint], candidates)
        rows[joint], rows[other] = (row, row[mirror]) if other != joint else ((row + row[mirror]) / 2,) * 2
    return rows


def fit_vertex_joints(
    people: People, vertices: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows [21,V] of the face, foot and finger points and the row [V] of the top of the head.

    Fitted to the people's landmarks with the closest vertices; `vertices` [N,V,3] are the people on the new
    mesh.
    """
    template, used = vertices.mean(0), slice(0, _FIT_PEOPLE)
    rows = {}
    for name, points in people.landmarks.items():
        reach = 60 if name in ("left_heel", "left_big_toe", "left_small_toe", "left_ear") else 24
        row = _fit_row(vertices[used], points[used], _nearest(template, points.mean(0), reach, 1))
        if name in ("nose", "head_top"):
            row = (row + row[mirror]) / 2
        rows[name] = row
        if name.startswith("left_"):
            rows[name.replace("left_", "right_")] = row[mirror]
    return np.array([rows[name] for name in VERTEX_JOINT_NAMES]), rows["head_top"]


def keypoint_rows(
    joints: np.ndarray, nose: np.ndarray, head_top: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """J_regressor_extra [9,V] and the H36M-17 regressor [17,V].

    They are mixtures of the joints' rows [24,V] and two surface rows [V], which place each point where the
    markers or annotators of its data set put it.
    """
    hips, shoulders = (joints[1] + joints[2]) / 2, (joints[16] + joints[17]) / 2
    neck = 0.5 * joints[12] + 0.5 * shoulders
    thorax = 0.25 * joints[12] + 0.75 * shoulders
    spine = 0.5 * (joints[6] + joints[9])
    jaw = 0.5 * joints[15] + 0.5 * nose
    head = 0.85 * head_top + 0.15 * joints[15]
    pelvis = 0.5 * hips + 0.5 * joints[0]
    extra = [joints[2], joints[1], neck, head_top, pelvis, thorax, spine, jaw, head]
    h36m = [
        hips, *joints[[1, 4, 7]], *joints[[2, 5, 8]], spine, neck, jaw, head,
        *joints[[16, 18, 20]], *joints[[17, 19, 21]],
    ]  # fmt: skip
    return np.array(extra), np.array(h36m)
