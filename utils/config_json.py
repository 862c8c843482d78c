"""The `config.json` that the 2020 trainer left in a run's folder, as settings of ours (method.md 9 and 10)."""

from __future__ import annotations

from typing import Any

# Options that only such a file has.
SIGNS = {"summary_dir", "checkpoint_dir"}
# 2020 option -> why it has no effect.
WITHOUT_EFFECT = {
    **dict.fromkeys(("log_dir", "summary_dir", "checkpoint_dir", "timestamp"), "folders of that run, not of this"),
    **dict.fromkeys(("resume", "checkpoint", "from_json"), "say how that run began"),
    **dict.fromkeys(
        ("shape_loss_weight", "keypoint_loss_weight", "pose_loss_weight", "beta_loss_weight"),
        "the 2020 code never used it",
    ),
    "danet_cfg_file": "give that file as --cfg instead",
    "misc": "it is no list of settings",
}  # fmt: skip


def is_2020_options(tree: dict[Any, Any]) -> bool:
    return tree.keys() >= SIGNS


def translate_options(tree: dict[str, Any], settings: set[str]) -> tuple[dict[str, Any], list[str]]:
    """Options that are settings of ours, and "option, option (reason)" for those without effect here.

    Options without a value (null) are left out. What is unknown is kept, so that the caller refuses it.
    """
    given = {name: value for name, value in tree.items() if value is not None}
    kept = {name: value for name, value in given.items() if name not in WITHOUT_EFFECT}
    if "train_data" not in settings:  # another script than the trainer
        kept = {name: value for name, value in kept.items() if name in settings}
    reasons: dict[str, list[str]] = {}
    for name in given.keys() - kept.keys():
        reasons.setdefault(WITHOUT_EFFECT.get(name, "no such setting in this script"), []).append(name)
    return kept, [f"{', '.join(sorted(map(str, names)))} ({reason})" for reason, names in reasons.items()]
