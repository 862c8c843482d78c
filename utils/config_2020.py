"""Key map of 2020 YAML files (upper-case trees such as DANET.INPUT_MODE) to our settings.

A key is carried over, or known and without effect here (with the reason), or unknown, which is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# 2020 key -> (our setting, how its value is changed; None = taken as it is)
CARRIED: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "DANET.INPUT_MODE": ("input_mode", None),
    "DANET.DECOMPOSED": ("decomposed", None),
    "DANET.IUV_REGRESSOR": ("backbone", None),
    "DANET.USE_6D_ROT": ("use_6d_rot", None),
    "DANET.REFINE_STRATEGY": ("refine_strategy", None),
    "DANET.REFINE_ON": ("refine_on", None),
    "DANET.STN_PART_VIS_SCORE": ("vis_threshold", None),
    "DANET.STN_CENTER_JITTER": ("center_jitter", None),
    "DANET.STN_SCALE_JITTER": ("scale_jitter", None),
    "DANET.PART_DROP": ("partdrop_rate", None),
    "DANET.PARTDROP_RATE": ("partdrop_rate", None),
    "DANET.STN_KPS_WEIGHTS": ("weight_centers", None),
    "DANET.PART_IUV_WEIGHTS": ("weight_part_iuv", None),
    "DANET.ORTHOGONAL_WEIGHTS": ("weight_orthogonal", None),
    "SOLVER.BASE_LR": ("lr", None),
    "SOLVER.STEPS": ("lr_steps", lambda steps: [step for step in steps if step > 0]),
    "SOLVER.GAMMA": ("lr_gamma", None),
    "SOLVER.WEIGHT_DECAY": ("weight_decay", None),
    "HR_MODEL.PRETR_SET": ("pretrained_set", None),
}

# 2020 key -> why it has no effect. A key that ends in ".*" stands for its whole branch.
WITHOUT_EFFECT: dict[str, str] = {
    "DANET.STN_HM_WEIGHTS": "the 2020 code could not run with it above zero",
    "DANET.USE_LEARNED_RATIO": "the ratios are always read (data/learned_ratio.pkl or the shipped values)",
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
