"""COCO's compressed run-length masks in plain Python.

Not pycocotools: its version 2.0.11 returns uninitialised memory for a mask that is cut off, instead of an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.labels import values

if TYPE_CHECKING:
    from jaxtyping import UInt8

BOX_SHARE = 0.53  # of a person's box that the person covers: median of COCO's annotations
MAX_BITS = 35  # of a number; no run of a mask needs more


def parse_runs(counts: bytes | Sequence[int], height: int, width: int) -> list[int]:
    """Lengths of a mask's alternating runs of 0 and 1, down the columns, from compressed or plain counts.

    Raises ValueError when the mask is damaged or its runs do not fill height x width pixels.
    """
    runs = _decompress(counts) if isinstance(counts, bytes) else list(counts)
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        raise ValueError(f"A run-length mask is damaged or does not fill {height} x {width} pixels.")
    return runs


def _decompress(counts: bytes) -> list[int]:
    """A character minus 48 holds 5 bits of a number, lowest first; bit 5: more follow; the last one's bit 4: sign.

    From the fourth number on, the number two places before is to be added.
    """
    runs, number, shift = [], 0, 0
    for code in counts:
        if not 48 <= code < 112 or shift == MAX_BITS:
            return []
        number |= (code - 48 & 31) << shift
        shift += 5
        if code - 48 < 32:
            number -= (code - 48 & 16) << (shift - 4)
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return [] if shift else runs


def decode(counts: bytes, height: int, width: int) -> UInt8[np.ndarray, "height width"]:
    """A mask's pixels, 0 or 1. Raises ValueError as `parse_runs` does."""
    runs = parse_runs(counts, height, width)
    return np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(width, height).T


def segmentation_area(segmentation: Any, box: values.Box) -> tuple[float, str]:
    """A person's pixels, and where the number comes from: the segmentation, or the box where that is not usable."""
    try:
        if isinstance(segmentation, list):
            pixels = sum(map(_polygon_area, segmentation))
        else:
            counts, (height, width) = segmentation["counts"], map(values.size, segmentation["size"])
            runs = [*map(values.integer, counts)] if isinstance(counts, list) else counts.encode("ascii")
            pixels = float(sum(parse_runs(runs, height, width)[1::2]))
        if 0 < pixels <= box[2] * box[3] * 1.1:
            return pixels, "segmentation"
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        pass  # none, or a damaged one
    return BOX_SHARE * box[2] * box[3], "box"


def _polygon_area(polygon: list[float]) -> float:
    x, y = values.numbers(polygon, len(polygon)).reshape(-1, 2).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
