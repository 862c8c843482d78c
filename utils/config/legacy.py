"""Key map of 2020 YAML files (upper-case trees such as DANET.INPUT_MODE) to our settings.

A key is carried over, or chooses a network, or must have the one value we have, or has no effect; those without are
named with the reason. Values that 2020 could not run, or that gave a broken output, are refused.
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

# 2020 key that chooses a network -> {its values here: our settings}. The published network's values set nothing, so
# that a file that spells them out does not change a smaller network's trunk.
NETWORKS: dict[str, dict[Any, dict[str, Any]]] = {
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
}
REFINEMENT_KEYS = ("DANET.REFINE_STRATEGY", "DANET.REFINE_ON", "DANET.USE_6D_ROT")

# 2020 key -> the one value that this project has.
ONLY: dict[str, Any] = {
    "DANET.USE_LEARNED_RATIO": True,
    "SOLVER.WEIGHT_DECAY": 0.0,
}

# 2020 key -> why it has no effect. A key that ends in ".*" stands for its whole branch.
WITHOUT_EFFECT: dict[str, str] = {
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
NO_SETTING = "no such setting in this script"
NO_REFINEMENT = "a network without parts has nothing to refine"
UNKNOWN = "nothing here corresponds to it"


def is_2020_tree(tree: dict[Any, Any]) -> bool:
    """True for a tree with upper-case top keys; our own keys are lower-case throughout."""
    return any(isinstance(key, str) and key.isupper() for key in tree)


def translate_2020(tree: dict[Any, Any], settings: set[str], source: str) -> tuple[dict[Any, Any], list[str]]:
    """Flat {our setting: value}, and "key, key (reason)" for what has no effect with these `settings`.

    Lower-case top keys, which no 2020 file has, are kept, so that the caller checks them as our own.
    Raises ConfigError for a network that this project does not have or that makes no sense, and for two values of one
    setting.
    """
    result = {key: value for key, value in tree.items() if not _is_upper(key)}
    flat = _dotted({key: value for key, value in tree.items() if _is_upper(key)})
    ignored: dict[str, list[str]] = {}  # reason -> keys
    origin: dict[str, str] = {}
    networks = _networks(flat, source, ignored)
    for key, value in flat.items():
        name = next((ours for pattern, ours in CARRIED.items() if re.fullmatch(pattern, key)), None)
        if key in networks:
            given = networks[key]
        elif name in settings:
            given = {name: _changed(key, value)}
        elif key in ONLY and value != ONLY[key]:
            raise ConfigError(f"{source}: {key} is {shown(value)}, but this project has {ONLY[key]!r} only.")
        else:
            given = {}
            if key not in ONLY:
                _note(ignored, *((key, NO_SETTING) if name else _without_effect(key)))
        for name, setting in given.items():
            if name not in settings:
                _note(ignored, key, NO_SETTING)
                continue
            if name in result:
                first = origin.get(name, name)
                raise ConfigError(f"{source}: {first} and {key} both give '{name}'; give it once.")
            result[name], origin[name] = setting, key
    return result, [f"{', '.join(keys)} ({reason})" for reason, keys in ignored.items()]


def _note(ignored: dict[str, list[str]], key: str, reason: str) -> None:
    keys = ignored.setdefault(reason, [])
    keys += [key] if key not in keys else []


def _networks(flat: dict[str, Any], source: str, ignored: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Our settings by the keys of `NETWORKS` that a file gives. Raises ConfigError for what makes no sense."""
    given = {key: flat[key] for key in NETWORKS if key in flat}
    for key, value in given.items():
        if not any(type(value) is type(known) and value == known for known in NETWORKS[key]):
            known = ", ".join(map(repr, NETWORKS[key]))
            raise ConfigError(f"{source}: {key} is {shown(value)}, but this project has {known} only.")
    chosen = {key: NETWORKS[key][value] for key, value in given.items()}
    if given.get("DANET.DECOMPOSED") is False:
        for key in REFINEMENT_KEYS:
            if chosen.pop(key, None):
                _note(ignored, key, NO_REFINEMENT)
            chosen[key] = {}
        return chosen
    _require_sense(source, *(given.get(key) for key in REFINEMENT_KEYS))
    if given.get("DANET.USE_6D_ROT") is False and "DANET.REFINE_STRATEGY" not in given:
        _note(ignored, "DANET.USE_6D_ROT", "it follows from DANET.REFINE_STRATEGY")
    return chosen


def _require_sense(source: str, strategy: str | None, refine: bool | None, six: bool | None) -> None:
    """Raise ConfigError for refinements that contradict each other; None: the file does not say."""
    if refine is False and strategy not in (None, "gcn"):
        raise ConfigError(
            f"{source}: DANET.REFINE_ON False goes with DANET.REFINE_STRATEGY 'gcn' only, but that is {strategy!r}. "
            "Leave one of them out."
        )
    if six is True and strategy == "gcn_direct":
        raise ConfigError(
            f"{source}: DANET.REFINE_STRATEGY 'gcn_direct' regresses nine numbers a joint, but DANET.USE_6D_ROT is "
            "True: the two together gave a broken output in 2020. Set DANET.USE_6D_ROT to False."
        )
    if six is False and strategy in ("gcn", "lstm"):
        raise ConfigError(
            f"{source}: DANET.USE_6D_ROT False goes with the strategies 'gcn_direct' and 'lstm_direct', but "
            f"DANET.REFINE_STRATEGY is {strategy!r}. Set DANET.USE_6D_ROT to True."
        )


def _without_effect(key: str) -> tuple[str, str]:
    """What to call a key (itself or its branch) and why it has no effect."""
    if key in WITHOUT_EFFECT:
        return key, WITHOUT_EFFECT[key]
    branch = key.split(".")[0] + ".*"
    return (branch, WITHOUT_EFFECT[branch]) if branch in WITHOUT_EFFECT else (key, UNKNOWN)


def _changed(key: str, value: Any) -> Any:
    if key == "SOLVER.STEPS" and isinstance(value, list | tuple):
        return [step for step in value if step != 0]  # 2020 lists begin with step 0
    return value


def _is_upper(key: Any) -> bool:
    return isinstance(key, str) and key.isupper()


def _dotted(tree: dict[Any, Any]) -> dict[str, Any]:
    """Leaves of a tree by dotted name; a branch without content, at the top, has none.

    Raises ConfigError for a tree that is deeper or larger than settings are: aliases can make it endless.
    """
    flat: dict[str, Any] = {}
    for number, (name, value) in enumerate(_entries(tree)):
        if name.count(".") > DEEPEST or number > MOST_ENTRIES:
            raise ConfigError(f"The settings at '{shorten(name, 80)}' are nested too deeply or too many.")
        if not isinstance(value, dict) and (value is not None or "." in name):
            flat[name] = value
    return flat


def _entries(tree: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All branches and leaves, a branch before what is in it."""
    for key, value in tree.items():
        name = f"{prefix}{shorten(key, 80)}"
        yield name, value
        if isinstance(value, dict):
            yield from _entries(value, name + ".")
