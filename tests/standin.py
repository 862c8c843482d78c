"""Deterministic stand-in data with the shapes of the licensed SMPL / DensePose files.

Everything here is synthetic (no licensed data).  All randomness is numpy's legacy
RandomState, so the arrays are reproducible bit for bit.

    import standin
    standin.write_all('data')       # writes data/smpl/*.pkl, data/UV_data/*.mat, ...

Body: 24 ellipsoid "capsules", one per SMPL joint, 6890 vertices / 13776 faces in all.
DensePose atlas: 7829 vertices / 13774 faces, 24 parts, U,V in [0,1].
"""

import functools
import os
import pickle

import numpy as np

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
# rest-pose joint positions (x to the body's left, y up, z to the front), metres
JOINTS = np.array(
    [
        [0, -0.24, 0.00], [0.07, -0.33, 0.00], [-0.07, -0.33, 0.00], [0, -0.12, -0.02], [0.11, -0.72, 0.00],
        [-0.11, -0.72, 0.00], [0, 0.02, 0.00], [0.09, -1.12, -0.04], [-0.09, -1.12, -0.04], [0, 0.08, 0.02],
        [0.12, -1.18, 0.08], [-0.12, -1.18, 0.08], [0, 0.29, -0.01], [0.08, 0.19, -0.01],
        [-0.08, 0.19, -0.01], [0, 0.38, 0.04], [0.18, 0.22, -0.02], [-0.18, 0.22, -0.02], [0.44, 0.21, -0.04],
        [-0.44, 0.21, -0.04], [0.69, 0.22, -0.05], [-0.69, 0.22, -0.05], [0.77, 0.21, -0.06],
        [-0.77, 0.21, -0.06],
    ],
    np.float64,
)  # fmt: skip
# far end of each capsule
ENDS = np.array(
    [
        [0, -0.12, -0.02], [0.11, -0.70, 0], [-0.11, -0.70, 0], [0, 0.02, 0], [0.09, -1.10, -0.04],
        [-0.09, -1.10, -0.04], [0, 0.10, 0.02], [0.11, -1.17, 0.04], [-0.11, -1.17, 0.04], [0, 0.28, 0.0],
        [0.13, -1.20, 0.17], [-0.13, -1.20, 0.17], [0, 0.38, 0.03], [0.18, 0.22, -0.02], [-0.18, 0.22, -0.02],
        [0, 0.58, 0.06], [0.43, 0.21, -0.04], [-0.43, 0.21, -0.04], [0.68, 0.22, -0.05], [-0.68, 0.22, -0.05],
        [0.77, 0.21, -0.06], [-0.77, 0.21, -0.06], [0.90, 0.20, -0.06], [-0.90, 0.20, -0.06],
    ],
    np.float64,
)  # fmt: skip
RADII = [
    0.14, 0.085, 0.085, 0.13, 0.06, 0.06, 0.14, 0.05, 0.05, 0.15, 0.05, 0.05, 0.06, 0.07, 0.07, 0.11, 0.055,
    0.055, 0.045, 0.045, 0.04, 0.04, 0.045, 0.045,
]  # fmt: skip
# (rings, segments) of each capsule: sum(2 + r*s) = 6890
RS = [(20, 14)] * 24
RS[0], RS[9], RS[15] = (22, 14), (18, 18), (22, 15)
# DensePose part (back, front) of each capsule
DP_PART = [
    (1, 2), (8, 10), (7, 9), (1, 2), (12, 14), (11, 13), (2, 2), (5, 5), (6, 6), (1, 2), (5, 5), (6, 6),
    (1, 1), (15, 17), (16, 18), (23, 24), (15, 17), (16, 18), (19, 21), (20, 22), (4, 4), (3, 3), (4, 4),
    (3, 3),
]  # fmt: skip


def _capsule(a, b, rad, r, s):
    """ellipsoid-like tube from a to b, 2 poles + r rings of s vertices, outward faces"""
    d = b - a
    n = np.linalg.norm(d)
    d = d / n
    h = np.array([0.0, 0, 1]) if abs(d[2]) < 0.9 else np.array([0.0, 1, 0])
    e1 = np.cross(d, h)
    e1 /= np.linalg.norm(e1)
    e2 = np.cross(d, e1)
    c, half = (a + b) / 2, n / 2 + 0.5 * rad
    v, uv = [c - half * d], [(0.5, 0.0)]
    for i in range(r):
        th = np.pi * (i + 1) / (r + 1)
        for j in range(s):
            ph = 2 * np.pi * (j + 0.5 * (i % 2)) / s
            v.append(c - half * np.cos(th) * d + rad * np.sin(th) * (np.cos(ph) * e1 + np.sin(ph) * e2))
            uv.append((0.5 + 0.5 * np.sin(ph) * np.sin(th), (i + 1) / (r + 1)))
    v.append(c + half * d)
    uv.append((0.5, 1.0))
    f = []

    def ring(i, j):
        return 1 + i * s + j % s

    for j in range(s):
        f.append((0, ring(0, j + 1), ring(0, j)))
        f.append((len(v) - 1, ring(r - 1, j), ring(r - 1, j + 1)))
    for i in range(r - 1):
        for j in range(s):
            f.append((ring(i, j), ring(i, j + 1), ring(i + 1, j)))
            f.append((ring(i, j + 1), ring(i + 1, j + 1), ring(i + 1, j)))
    v, f = np.array(v), np.array(f)
    # orient outward
    tri = v[f]
    nrm = np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])
    out = ((tri.mean(1) - c) * nrm).sum(1) < 0
    f[out] = f[out][:, [0, 2, 1]]
    return v, f, np.array(uv)


@functools.cache
def body():
    """dict: v (6890,3), f (13776,3), cap (6890,) capsule id, uv (6890,2), fpart (13776,), base vertex ids"""
    V, F, C, UV, P, base = [], [], [], [], [], []
    off = 0
    for k in range(24):
        v, f, uv = _capsule(JOINTS[k], ENDS[k], RADII[k], *RS[k])
        zc = v[f].mean(1)[:, 2]
        mid = (JOINTS[k] + ENDS[k])[2] / 2
        part = np.where(zc < mid, DP_PART[k][0], DP_PART[k][1])
        base.append(off + 1 + np.arange(RS[k][1]) + 3 * RS[k][1])
        V.append(v), F.append(f + off), UV.append(uv), P.append(part), C.append(np.full(len(v), k))
        off += len(v)
    V, F, UV, P, C = map(np.concatenate, (V, F, UV, P, C))
    # bridge faces up to 13776: thin triangles between neighbouring capsules
    extra, ep = [], []
    k = 0
    while len(F) + len(extra) < 13776:
        c = 1 + k % 23
        p, m = PARENTS[c], k // 23
        a, b = base[c][m], base[c][m + 1]
        q = base[p][m % len(base[p])]
        extra.append((a, b, q))
        ep.append(DP_PART[c][1])
        k += 1
    F = np.concatenate([F, np.array(extra)])
    P = np.concatenate([P, np.array(ep)])
    assert V.shape == (6890, 3) and F.shape == (13776, 3)
    return dict(v=V, f=F, cap=C, uv=UV, fpart=P, base=base)


def smpl_dict(seed=0):
    B = body()
    rs = np.random.RandomState(seed)
    v, cap = B["v"], B["cap"]
    Jr = np.zeros((24, 6890))
    for k in range(24):  # joint = mean of the capsule's lower pole neighbourhood
        ids = np.where(cap == k)[0]
        d = np.linalg.norm(v[ids] - JOINTS[k], axis=1)
        w = np.exp(-((d / 0.06) ** 2))
        Jr[k, ids] = w / w.sum()
    W = np.zeros((6890, 24))
    for k in range(24):
        ids = np.where(cap == k)[0]
        t = np.clip(((v[ids] - JOINTS[k]) @ (ENDS[k] - JOINTS[k])) / ((ENDS[k] - JOINTS[k]) ** 2).sum(), 0, 1)
        own = 0.6 + 0.4 * t if k else np.ones(len(ids))
        W[ids, k] = own
        if k:
            W[ids, PARENTS[k]] += 1 - own
    shapedirs = np.zeros((6890, 3, 10))
    for i in range(10):
        A = rs.randn(3, 3) * 0.015
        ph = rs.rand(3) * 6.28
        shapedirs[:, :, i] = v @ A + 0.004 * np.sin(v * (2 + i) + ph)
    posedirs = (rs.randn(6890, 3, 207) * 0.0015).astype(np.float64)
    kin = np.stack([np.array([4294967295] + PARENTS[1:], np.uint32), np.arange(24, dtype=np.uint32)])
    return dict(
        v_template=v.copy(), f=B["f"].astype(np.uint32), J_regressor=Jr, weights=W, shapedirs=shapedirs,
        posedirs=posedirs, kintree_table=kin, J=Jr @ v, bs_type="lrotmin", bs_style="lbs",
    )  # fmt: skip


def regressors():
    """J_regressor_extra (9,6890) and J_regressor_h36m (17,6890), float64, rows sum to 1"""
    B = body()
    v = B["v"]

    def row(p, s=0.08):
        w = np.exp(-((np.linalg.norm(v - np.asarray(p), axis=1) / s) ** 2))
        w[w < 1e-4] = 0
        return w / w.sum()

    J = JOINTS
    ex = [
        J[2] + [-0.02, 0.03, 0], J[1] + [0.02, 0.03, 0], J[12], [0, 0.62, 0.05], J[0], J[9] + [0, 0.12, 0],
        J[6], J[15], J[15] + [0, 0.1, 0.02],
    ]  # fmt: skip
    hm = [
        J[0], J[2], J[5], J[8], J[1], J[4], J[7], J[6], J[12], J[15], [0, 0.62, 0.05], J[16], J[18], J[20],
        J[17], J[19], J[21],
    ]  # fmt: skip
    return np.stack([row(p) for p in ex]), np.stack([row(p) for p in hm])


def mean_params():
    def rod(a):
        a = np.asarray(a, float)
        t = np.linalg.norm(a) + 1e-12
        k = a / t
        K = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
        return np.eye(3) + np.sin(t) * K + (1 - np.cos(t)) * K @ K

    rs = np.random.RandomState(7)
    R = [rod(rs.randn(3) * 0.15) for _ in range(24)]
    R[0] = rod([np.pi - 0.05, 0.02, 0.03])
    pose = np.concatenate([r[:, :2].reshape(-1) for r in R]).astype(np.float32)
    return dict(
        pose=pose, shape=(rs.randn(10) * 0.2).astype(np.float32), cam=np.array([0.9, 0.0, 0.0], np.float32)
    )


def uv_processed():
    """All_FaceIndices (13774,1), All_Faces (13774,3), All_U_norm/All_V_norm (7829,1), All_vertices (1,7829).

    Faces and vertices count from 1, as in the licensed file.
    """
    B = body()
    F, P = B["f"][:13774], B["fpart"][:13774]
    key, vid, uvs, faces = {}, [], [], np.zeros_like(F)
    for i in range(len(F)):
        for c in range(3):
            k = (F[i, c], P[i])
            if k not in key:
                key[k] = len(vid)
                vid.append(F[i, c])
                uvs.append(B["uv"][F[i, c]])
            faces[i, c] = key[k]
    for m in range(6890):  # vertices without a face, if any
        if not any((m, p) in key for p in range(1, 25)):
            vid.append(m), uvs.append(B["uv"][m])
    n = len(vid)
    assert n <= 7829, n
    i = 0
    while len(vid) < 7829:  # pad by splitting corners of every 7th face
        fi = (i * 7) % 13774
        vid.append(vid[faces[fi, 0]])
        uvs.append(uvs[faces[fi, 0]])
        faces[fi, 0] = len(vid) - 1
        i += 1
    uvs = np.clip(np.array(uvs), 0, 1)
    return dict(
        All_FaceIndices=P[:, None].astype(np.uint8),
        All_Faces=(faces + 1).astype(np.int32),
        All_U_norm=uvs[:, :1].astype(np.float64),
        All_V_norm=uvs[:, 1:].astype(np.float64),
        All_vertices=(np.array(vid)[None] + 1).astype(np.uint16),
    )


def uv_symmetry():
    U, V = np.empty((1, 24), object), np.empty((1, 24), object)
    g = np.arange(256) / 255.0
    for i in range(24):
        a = 0.01 * (i % 5)
        U[0, i] = np.clip(1 - g[None, :] + a * np.sin(6 * g[:, None]), 0, 1) * np.ones((256, 256))
        V[0, i] = np.clip(g[:, None] + a * np.cos(6 * g[None, :]), 0, 1) * np.ones((256, 256))
    return dict(U_transforms=U, V_transforms=V)


def image_batch(n=2, seed=11, size=224):
    """(n,3,size,size) float32, ImageNet-normalised smooth synthetic images"""
    rs = np.random.RandomState(seed)
    y, x = np.mgrid[0:size, 0:size] / float(size)
    out = np.zeros((n, 3, size, size), np.float64)
    for b in range(n):
        for c in range(3):
            im = 0.45 + 0.0 * x
            for _ in range(8):
                fx, fy, p, a = (
                    rs.uniform(-9, 9), rs.uniform(-9, 9), rs.uniform(0, 6.28), rs.uniform(0.03, 0.12),
                )  # fmt: skip
                im = im + a * np.sin(2 * np.pi * (fx * x + fy * y) + p)
            cx, cy, sg = rs.uniform(0.3, 0.7), rs.uniform(0.3, 0.7), rs.uniform(0.1, 0.25)
            im = im + rs.uniform(-0.5, 0.5) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / sg**2)
            out[b, c] = np.clip(im, 0, 1)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((out - mean[None, :, None, None]) / std[None, :, None, None]).astype(np.float32)


def write_body(root, gender="NEUTRAL", seed=0):
    """smpl/SMPL_<gender>.pkl"""
    import scipy.sparse

    d = smpl_dict(seed=seed)
    d["J_regressor"] = scipy.sparse.csc_matrix(d["J_regressor"])
    os.makedirs(os.path.join(root, "smpl"), exist_ok=True)
    with open(os.path.join(root, "smpl", f"SMPL_{gender}.pkl"), "wb") as f:
        pickle.dump(d, f, protocol=2)


def write_all(root="data", genders=("NEUTRAL", "MALE", "FEMALE")):
    from scipy.io import savemat

    for d in ("UV_data", "pretrained_model", "dataset_extras", "static_fits", "final_fits"):
        os.makedirs(os.path.join(root, d), exist_ok=True)
    for i, g in enumerate(genders):
        write_body(root, g, seed=i)
    ex, hm = regressors()
    np.save(os.path.join(root, "J_regressor_extra.npy"), ex)
    np.save(os.path.join(root, "J_regressor_h36m.npy"), hm)
    np.savez(os.path.join(root, "smpl_mean_params.npz"), **mean_params())
    savemat(os.path.join(root, "UV_data", "UV_Processed.mat"), uv_processed())
    savemat(os.path.join(root, "UV_data", "UV_symmetry_transforms.mat"), uv_symmetry())


if __name__ == "__main__":
    write_all("data")
