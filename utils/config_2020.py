"""Key map of 2020 YAML files (upper-case trees such as DANET.INPUT_MODE) to our settings.

A key is carried over, or must have the one value we have, or is known and without effect (with the reason),
or is unknown, which is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from utils.config_values import ConfigError

# 2020 key -> (our setting, how its value is changed; None = taken as it is)
CARRIED: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "DANET.STN_PART_VIS_SCORE": ("vis_threshold", None),
    "DANET.STN_CENTER_JITTER": ("center_jitter", None),
    "DANET.STN_SCALE_JITTER": ("scale_jitter", None),
    "DANET.PARTDROP_RATE": ("partdrop_rate", None),
    "DANET.STN_KPS_WEIGHTS": ("roi_weight", None),
    "BODY_UV_RCNN.POINT_REGRESSION_WEIGHTS": ("uv_weight", None),
    "BODY_UV_RCNN.PART_WEIGHTS": ("point_index_weight", None),
    "BODY_UV_RCNN.INDEX_WEIGHTS": ("point_ann_weight", None),
    "SOLVER.BASE_LR": ("base_lr", None),
    "SOLVER.STEPS": ("lr_steps", lambda steps: [step for step in steps if step > 0]),
    "SOLVER.GAMMA": ("lr_gamma", None),
}

# 2020 key -> the one value that this project has. Others were broken in 2020 or gave other networks.
ONLY: dict[str, Any] = {
    "DANET.INPUT_MODE": "iuv",
    "DANET.DECOMPOSED": True,
    "DANET.IUV_REGRESSOR": "hrnet",
    "DANET.USE_6D_ROT": True,
    "DANET.REFINE_STRATEGY": "gcn",
    "DANET.REFINE_ON": True,
    "DANET.USE_LEARNED_RATIO": True,
    "SOLVER.WEIGHT_DECAY": 0.0,
}

# 2020 key -> why it has no effect. A key that ends in ".*" stands for its whole branch.
WITHOUT_EFFECT: dict[str, str] = {
    "DANET.ORTHOGONAL_WEIGHTS": "rotations are orthogonal by construction",
    "DANET.STN_HM_WEIGHTS": "the 2020 code could not run with it above zero",
    "DANET.INIMG_SIZE": "pictures are always 224 px",
    "DANET.HEATMAP_SIZE": "maps are always 56 px",
    "DANET.SMPL_MEAN_PARAMS": "mean parameters are found in data/ or shipped",
    "SOLVER.TYPE": "the optimiser is Adam, as the 2020 code always used",
    "SOLVER.MAX_ITER": "the command line gives the number of epochs",
    "SOLVER.SNAPSHOT_ITERS": "the command line gives --checkpoint_steps",
    "HR_MODEL.*": "the layout of HRNet-W48 is fixed by the released weights",
    "MSRES_MODEL.*": "the layout of the ResNet trunk is fixed",
    "TRAIN.*": "batch size and steps come from the command line",
    "TEST.*": "batch size comes from the command line",
    "MODEL.*": "unused by the 2020 code",
    "OUTPUT_DIR": "the command line gives the folders",
    "NUM_GPUS": "the device is chosen by --device",
    "RNG_SEED": "the command line gives --seed",
    "VIS.*": "the command line gives --vis_interval",
    "DATA_DIR": "the command line gives --data_dir",
}


def is_2020_tree(tree: dict[Any, Any]) -> bool:
    """True for a tree with upper-case top keys; our own keys are lower-case throughout."""
    return any(isinstance(key, str) and key.isupper() for key in tree)


def translate_2020(tree: dict[str, Any], settings: set[str], source: str) -> tuple[dict[str, Any], list[str]]:
    """Flat {our setting: value} and notes on what has no effect for a script with these `settings`.

    Keys that stand in no table are kept under their own name, so that the caller reports them as unknown.
    Raises ConfigError for a network that this project does not have.
    """
    result: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in _dotted(tree).items():
        if key in CARRIED:
            name, change = CARRIED[key]
            if name in settings:
                result[name] = change(value) if change else value
            else:
                notes.append(f"{source}: {key} has no effect in this script.")
            continue
        if key in ONLY:
            if value != ONLY[key]:
                raise ConfigError(f"{source}: {key} is {value!r}, but this project has {ONLY[key]!r} only.")
            continue
        reason = WITHOUT_EFFECT.get(key) or WITHOUT_EFFECT.get(key.split(".")[0] + ".*")
        if reason:
            notes.append(f"{source}: {key} has no effect: {reason}.")
        else:
            result[key] = value
    return result, notes


def _dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name.isupper():
            flat.update(_dotted(value, name + "."))
        else:
            flat[name] = value
    return flat
