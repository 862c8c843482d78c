"""Deterministic weights without a big file: every value follows from its state_dict key.

    from fill import fill_state_dict
    excluded = fill_state_dict(model)          # in place; returns the keys left alone

value = f(shape, role) drawn from numpy.random.RandomState(zlib.crc32(key)).  `role` is derived from
the key and from which sibling keys exist (never from module classes).  Three bias vectors are then
overridden by CALIB (below) so that the part-index argmax and the joint heat-maps are not degenerate.
Keys are those of DaNet.state_dict() (checkpoint['model']); a prefix can be stripped with `prefix`.
"""

import os
import zlib

import numpy as np
import torch

EXCLUDE_PREFIX = ("iuv2smpl.smpl.",)  # body model: not weights
EXCLUDE_SUFFIX = (  # graphs, mean parameters, counters
    ".I_n", ".A_link", ".A", ".A_mask", ".r2p_A", ".p2r_A", ".mean_cam_shape", ".mean_pose", "init_pose", "init_shape",
    "init_cam", ".learned_ratio", ".learned_offset", "num_batches_tracked",
)  # fmt: skip
GAINS = {  # of convolutions whose key holds the word
    "final_pred.predict_u.": 0.03, "final_pred.predict_v.": 0.03, "final_pred.predict_uv_index.": 0.15,
    "final_pred.predict_ann_index.": 0.15, "final_pred.predict_hm.1.": 0.025, "final_pred.predict_partial_iuv.": 0.06,
    "pose_regressors": 0.06, "coord_regressors": 0.06,
}  # fmt: skip
CALIB_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fill_calib.npz")


def _is_excluded(key):
    return key.startswith(EXCLUDE_PREFIX) or key.endswith(EXCLUDE_SUFFIX)


def make_value(key, shape, keys):
    rs = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    shape = tuple(shape)
    stem, leaf = key.rsplit(".", 1)
    is_bn = (stem + ".running_mean") in keys
    if leaf == "running_mean":
        return 0.1 * rs.randn(*shape)
    if leaf == "running_var":
        return 0.6 + 0.8 * rs.rand(*shape)
    if is_bn and leaf == "weight":
        s = 1.0
        parent, name = stem.rsplit(".", 1) if "." in stem else ("", stem)
        dot = parent + "." if parent else ""
        has = lambda other: dot + other + ".weight" in keys  # noqa: E731
        in_basic_block = has("conv1") and has("conv2") and not has("bn3") and not has("layer1.0.conv1")
        if name == "bn3" or (name == "bn2" and in_basic_block):
            s = 0.25  # last norm of a residual block
        if ".fuse_layers." in key:
            s = 0.35
        return s * (0.8 + 0.4 * rs.rand(*shape))
    if is_bn and leaf == "bias":
        return 0.1 * rs.randn(*shape)
    if leaf == "edge_importance":
        return 1.0 + 0.7 * rs.randn(*shape)  # some negative: relu matters
    if leaf == "weight" and len(shape) == 4:
        channels = shape[0] / 4.0 if "deconv_layers" in key else shape[1]  # (in, out, k, k), stride 2
        fan = channels * shape[2] * shape[3]
        gain = next((gain for word, gain in GAINS.items() if word in key), 1.0)
        return gain * np.sqrt(2.0 / fan) * rs.randn(*shape)
    if leaf == "weight" and len(shape) == 2:
        fan = shape[0] if "_gcn.gc." in key else shape[1]  # graph conv stores (in, out)
        gain = 0.15 if ("final_layer" in key or key.startswith("dec")) else 1.0
        return gain * np.sqrt(2.0 / fan) * rs.randn(*shape)
    if "weight_ih" in leaf or "weight_hh" in leaf:
        return np.sqrt(1.0 / shape[1]) * rs.randn(*shape)
    return 0.05 * rs.randn(*shape)  # biases


def fill_state_dict(model, prefix="", calib=True):
    sd = model.state_dict()
    keys = set(prefix + k for k in sd)
    cal = dict(np.load(CALIB_FILE)) if calib and os.path.exists(CALIB_FILE) else {}
    excluded = []
    with torch.no_grad():
        for k, t in sd.items():
            full = prefix + k
            if _is_excluded(full) or not t.is_floating_point():
                excluded.append(full)
                continue
            v = make_value(full, t.shape, keys)
            if full in cal and cal[full].shape == v.shape:
                v = cal[full]
            t.copy_(torch.from_numpy(np.asarray(v, np.float32).reshape(tuple(t.shape))))
    return excluded
