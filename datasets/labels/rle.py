"""COCO's run-length masks in plain NumPy, checked before use: damaged ones are told, never decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Int, UInt8

MAX_DIGITS = 7  # of 5 bits; no run of a mask needs more


def split_runs(masks: Sequence[bytes]) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "M+1"]]:
    """Lengths of the runs (0, 1, 0, ...) of all masks, one after another, and where each mask's runs start.

    A mask that cannot be read has a run of -1. A character carries 5 bits of a number, lowest first, and a
    mark whether more follow; from the fourth number on, the number two places before is to be added.
    """
    codes = np.frombuffer(b"".join(masks), dtype=np.uint8).astype(np.int64) - 48
    ends = np.cumsum([len(mask) for mask in masks], dtype=np.int64)
    last = (codes & 32) == 0
    if ends.size and len(codes):
        last[ends[ends > 0] - 1] = True  # a number never goes on in the next mask
    numbers = np.cumsum(last) - last  # which number a character belongs to
    first = np.flatnonzero(np.concatenate([[True], last[:-1]])) if len(codes) else np.zeros(0, np.int64)
    digit = np.arange(len(codes)) - first[numbers]
    amounts = np.where(digit < MAX_DIGITS, (codes & 31) << (5 * np.minimum(digit, MAX_DIGITS)), 0)
    values = np.bincount(numbers, amounts, len(first)).astype(np.int64)
    final = codes[last]
    negative = (final & 16) > 0
    values -= np.where(negative, np.int64(1) << (5 * np.minimum(digit[last] + 1, MAX_DIGITS)), 0)

    starts = np.concatenate([[0], np.searchsorted(first, ends)])
    runs = _add_up(values, starts)
    damaged = (codes < 0) | (codes > 63) | (digit >= MAX_DIGITS)
    damaged[np.flatnonzero(last)[final >= 32]] = True  # the mask ends inside a number
    runs[numbers[damaged]] = -1
    return runs, starts


def _add_up(values: Int[np.ndarray, "R"], starts: Int[np.ndarray, "M+1"]) -> Int[np.ndarray, "R"]:
    """Numbers of each mask -> run lengths: number n adds to run n - 2, for n > 2."""
    mask = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    place = np.arange(len(values)) - starts[:-1][mask]
    runs = values.copy()
    for parity in (0, 1):
        chosen = np.flatnonzero((place % 2 == parity) & (place > 0))
        total = np.concatenate([[0], np.cumsum(values[chosen])])
        owner = mask[chosen]
        before = total[np.searchsorted(owner, np.arange(len(starts)))]  # what earlier masks add up to
        runs[chosen] = total[1:] - before[owner]
    return runs


def readable(runs: Int[np.ndarray, "R"], starts: Int[np.ndarray, "M+1"], size: int) -> Bool[np.ndarray, "M"]:
    """Which masks have no negative run and fill `size` pixels."""
    total = np.concatenate([[0], np.cumsum(runs)])
    wrong = np.concatenate([[0], np.cumsum(runs < 0)])
    return (total[starts[1:]] - total[starts[:-1]] == size) & (wrong[starts[1:]] == wrong[starts[:-1]])


def decode(mask: bytes, height: int, width: int) -> UInt8[np.ndarray, "height width"]:
    """0 and 1 of a mask's pixels. Raises ValueError when the mask is damaged or of another size."""
    runs, starts = split_runs([mask])
    if not readable(runs, starts, height * width)[0]:
        raise ValueError(f"A run-length mask is damaged or does not fill {height} x {width} pixels.")
    values = np.arange(len(runs), dtype=np.uint8) & 1
    return np.repeat(values, runs).reshape(width, height).T  # runs go down the columns
