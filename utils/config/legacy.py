"""Key map of 2020 YAML files (upper-case trees such as DANET.INPUT_MODE) to our settings.

A key is carried over, or chooses among the values that we have, or has no effect; those without are named with the
reason. Values that 2020 could not run, or that gave a broken output, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from utils.config.values import ConfigError
from utils.wording import shorten, shown

MOST_ENTRIES, DEEPEST = 10_000, 50

# 2020 key (a pattern) -> our setting
CARRIED: dict[str, str] = {
    r"DANET\.STN_PART_VIS_SCORE": "vis_threshold",
    r"DANET\.STN_CENTER_JITTER": "center_jitter",
    r"DANET\.STN_SCALE_JITTER": "scale_jitter",
    r"DANET\.PARTDROP_RATE": "partdrop_rate",
    r"DANET\.STN_KPS_WEIGHTS": "roi_weight",
    r"BODY_UV_RCNN\.POINT_REGRESSION_WEIGHTS": "uv_weight",
    r"BODY_UV_RCNN\.PART_WEIGHTS": "point_index_weight",
    r"BODY_UV_RCNN\.INDEX_WEIGHTS": "point_ann_weight",
    r"DANET\.(SMPL_)?POSE(_PARA)?_WEIGHTS": "rotation_weight",
    r"DANET\.(SMPL_)?(BETAS?|SHAPE)(_PARA)?_WEIGHTS": "betas_weight",
    r"DANET\.(PROJ_KPS|KPS?_?2D|KEYPOINTS?_?2D)_WEIGHTS": "keypoints_2d_weight",
    r"DANET\.(KPS?_?3D|KEYPOINTS?_?3D)_WEIGHTS": "keypoints_3d_weight",
    r"DANET\.JOINT_POS(ITION)?_WEIGHTS": "position_weight",
    r"DANET\.(SMPL_)?VERT(EX|ICES|S)_WEIGHTS": "verts_weight",
    r"DANET\.ORTHOGONAL_WEIGHTS": "orthogonal_weight",
    r"HR_MODEL\.PRETR_SET": "pretr_set",
    r"SOLVER\.BASE_LR": "base_lr",
    r"SOLVER\.STEPS": "lr_steps",
    r"SOLVER\.GAMMA": "lr_gamma",
}

# 2020 key -> {each value that we have: our settings}. The published network's values set nothing, so that a file that
# spells them out does not change a smaller network's trunk.
VALUES: dict[str, dict[Any, dict[str, Any]]] = {
    "DANET.IUV_REGRESSOR": {"hrnet": {}, "resnet": {"backbone": "resnet"}},
    "DANET.INPUT_MODE": {"iuv": {}, "iuv_gt": {"input_mode": "iuv_gt"}},
    "DANET.DECOMPOSED": {True: {}, False: {"decomposed": False}},
    "DANET.REFINE_STRATEGY": {
        "gcn": {},
        "lstm": {"refinement": "lstm"},
        "lstm_direct": {"refinement": "lstm_direct"},
        "gcn_direct": {"refinement": "gcn_direct"},
    },
    "DANET.REFINE_ON": {True: {}, False: {"refinement": "none"}},
    "DANET.USE_6D_ROT": {True: {}, False: {}},  # follows from the refinement
    "DANET.USE_LEARNED_RATIO": {True: {}},
    "SOLVER.WEIGHT_DECAY": {0.0: {}},
}
REFINEMENT_KEYS = ("DANET.REFINE_STRATEGY", "DANET.REFINE_ON", "DANET.USE_6D_ROT")

# 2020 key -> why it has no effect. A key that ends in ".*" stands for its whole branch.
WITHOUT_EFFECT: dict[str, str] = {
    "DANET.STN_HM_WEIGHTS": "the 2020 code could not run with it above zero",
    "DANET.SMPL_MEAN_PARAMS": "mean parameters are found in data/ or shipped",
    "SOLVER.TYPE": "the optimiser is Adam, as the 2020 code always used",
    "MODEL.*": "unused by the 2020 code",
    **dict.fromkeys(
        ("DANET.INIMG_SIZE", "DANET.HEATMAP_SIZE", "HR_MODEL.*", "MSRES_MODEL.*"),
        "the layout is fixed by the released weights",
    ),
    **dict.fromkeys(
        ("SOLVER.MAX_ITER", "SOLVER.SNAPSHOT_ITERS", "TRAIN.*", "TEST.*", "VIS.*", "OUTPUT_DIR", "DATA_DIR", "NUM_GPUS",
         "RNG_SEED"),
        "the command line gives it",
    ),
}  # fmt: skip
NO_SETTING = "no such setting in this script"


def is_2020_tree(tree: dict[Any, Any]) -> bool:
    """True for a tree with upper-case top keys; our own keys are lower-case throughout."""
    return any(_is_upper(key) for key in tree)


def translate_2020(tree: dict[Any, Any], settings: set[str], source: str) -> tuple[dict[Any, Any], list[str]]:
    """Our settings from a 2020 tree, and what of it has no effect.

    Args:
        tree: as the YAML file holds it. Lower-case top keys, which no 2020 file has, are kept for the caller to check.
        settings: names of those that the script has.
        source: names the file in errors.

    Returns:
        Flat {our setting: value}, and "key, key (reason)" for keys without effect.

    Raises:
        ConfigError: for values that this project does not have or that make no sense together, and for two values of
            one setting.
    """
    result = {key: value for key, value in tree.items() if not _is_upper(key)}
    flat = _dotted({key: value for key, value in tree.items() if _is_upper(key)})
    if flat.get("DANET.DECOMPOSED") is not False:
        _check_refinement(source, *(flat.get(key) for key in REFINEMENT_KEYS))
    ignored: dict[str, dict[str, None]] = {}  # reason -> keys, in order
    origin: dict[str, str] = {}
    for key, value in flat.items():
        given, key_or_branch, reason = _translated(key, value, flat, source)
        if reason:
            ignored.setdefault(reason, {})[key_or_branch] = None
        for name, setting in given.items():
            if name not in settings:
                ignored.setdefault(NO_SETTING, {})[key] = None
                continue
            if name in result:
                first = origin.get(name, name)
                raise ConfigError(f"{source}: {first} and {key} both give '{name}'; give it once.")
            result[name], origin[name] = setting, key
    return result, [f"{', '.join(keys)} ({reason})" for reason, keys in ignored.items()]


def _translated(key: str, value: Any, flat: dict[str, Any], source: str) -> tuple[dict[str, Any], str, str]:
    """Our settings for a 2020 key; the key or its branch, and the reason, when it has no effect."""
    if key in VALUES:
        is_bool = isinstance(value, bool)  # 1 is not True
        known = next((v for v in VALUES[key] if isinstance(v, bool) is is_bool and v == value), None)
        if known is None:
            listed = ", ".join(map(repr, VALUES[key]))
            raise ConfigError(f"{source}: {key} is {shown(value)}, but this project has {listed} only.")
        given = VALUES[key][known]
        if flat.get("DANET.DECOMPOSED") is False and key in REFINEMENT_KEYS:
            return {}, key, "a network without parts has nothing to refine" if given else ""
        if key == "DANET.USE_6D_ROT" and known is False and "DANET.REFINE_STRATEGY" not in flat:
            return {}, key, "it follows from DANET.REFINE_STRATEGY"
        return given, key, ""
    for pattern, name in CARRIED.items():
        if re.fullmatch(pattern, key):
            if key == "SOLVER.STEPS" and isinstance(value, list | tuple):
                value = [step for step in value if step != 0]  # 2020 lists begin with step 0
            return {name: value}, key, ""
    for name in (key, key.split(".")[0] + ".*"):
        if name in WITHOUT_EFFECT:
            return {}, name, WITHOUT_EFFECT[name]
    return {}, key, "nothing here corresponds to it"


def _check_refinement(source: str, strategy: str | None, refine: bool | None, use_6d: bool | None) -> None:
    """Raise ConfigError for refinements that contradict each other; None: the file does not say."""
    if (
        (refine is False and strategy not in (None, "gcn"))
        or (use_6d is True and strategy == "gcn_direct")  # nine numbers a joint read as six: broken output in 2020
        or (use_6d is False and strategy in ("gcn", "lstm"))
    ):
        raise ConfigError(
            f"{source}: DANET.REFINE_STRATEGY {strategy!r}, DANET.REFINE_ON {refine} and DANET.USE_6D_ROT {use_6d} "
            "contradict each other. REFINE_ON False goes with 'gcn' only; USE_6D_ROT must be True for 'gcn' and 'lstm' "
            "and False for 'gcn_direct'."
        )


def _is_upper(key: Any) -> bool:
    return isinstance(key, str) and key.isupper()


def _dotted(tree: dict[Any, Any]) -> dict[str, Any]:
    """Leaves of a tree by dotted name; a branch without content, at the top, has none.

    Raises ConfigError for a tree that is deeper or larger than settings are: aliases can make it endless.
    """

    def entries(branch: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in branch.items():
            name = f"{prefix}{shorten(key, 80)}"
            yield name, value
            if isinstance(value, dict):
                yield from entries(value, name + ".")

    flat: dict[str, Any] = {}
    for number, (name, value) in enumerate(entries(tree)):
        if name.count(".") > DEEPEST or number > MOST_ENTRIES:
            raise ConfigError(f"The settings at '{shorten(name, 80)}' are nested too deeply or too many.")
        if not isinstance(value, dict) and (value is not None or "." in name):
            flat[name] = value
    return flat
