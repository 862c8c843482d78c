"""Keypoints by their names: where COCO's 17 stand among those of a file."""

from __future__ import annotations

import re
from typing import Any

from datasets.labels.values import shown
from utils.io import DataFileError
from utils.skeleton import GT24_NAMES, GT24_TO_COCO17

COCO17_NAMES = tuple(GT24_NAMES[joint] for joint in GT24_TO_COCO17)
NUM_KEYPOINTS = len(COCO17_NAMES)


def _key(name: str) -> tuple[str, ...]:
    """Words of a keypoint's name in a fixed order: the same for left_eye, "Left Eye", leftEye, eye-left and L_Eye."""
    spaced = re.sub(r"([a-z])(?=[A-Z])", r"\1 ", name)
    spaced = re.sub(r"^(left|right)(?=[a-z])", r"\1 ", spaced.strip().lower())
    words = re.findall(r"[a-z]+|[0-9]+", spaced)
    return tuple(sorted({"l": "left", "r": "right"}.get(word, word) for word in words))


def keypoint_places(names: Any, what: str) -> tuple[int, ...]:
    """Places of COCO's 17 keypoints in a list of names; other names may stand between them.

    Raises DataFileError when one is missing or stands twice.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataFileError(f"{what}: 'keypoints' is {shown(names)}, expected a list of names.")
    keys = [_key(name) for name in names]
    wanted = [_key(name) for name in COCO17_NAMES]
    missing = [name for name, key in zip(COCO17_NAMES, wanted, strict=True) if keys.count(key) != 1]
    if missing:
        raise DataFileError(
            f"{what}: expected COCO's {NUM_KEYPOINTS} keypoints in any order, each once; of them "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''} cannot be told from its names "
            f"{', '.join(names[:20])}."
        )
    return tuple(keys.index(key) for key in wanted)
