"""Typed values of label files: what counts as a number, a box, a point, the same for every reader.

A converter takes a value of a JSON file and returns it typed, or raises TypeError, ValueError or OverflowError;
`field` turns these into a sentence with the file and the entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.io import DataFileError

if TYPE_CHECKING:
    from jaxtyping import Float

MAX_PIXELS = 1e6  # no image that can be read has so long a side
MAX_ID = 2**62
MAX_SHOWN = 60  # characters of a wrong value

Box = tuple[float, float, float, float]  # x, y, width, height in pixels


def number(value: Any) -> float:
    """A finite number; neither text nor a boolean."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def integer(value: Any) -> int:
    """A whole number, as identifiers are."""
    if number(value) != int(value) or abs(value) > MAX_ID:
        raise ValueError
    return int(value)


def boolean(value: Any) -> bool:
    """A boolean, from 0, 1, false or true."""
    if value not in (0, 1):
        raise ValueError
    return bool(value)


def text(value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def size(value: Any) -> int:
    """A side of an image in pixels."""
    return int(_within(integer(value), 1, MAX_PIXELS))


def area(value: Any) -> float:
    """An area in pixels."""
    return _within(number(value), 0, MAX_PIXELS**2)


def _within(value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise ValueError
    return value


def box(value: Any) -> Box:
    """x, y, width, height in pixels with a positive size."""
    x, y, width, height = map(number, value)
    if min(width, height) < 0 or max(width, height) <= 0 or max(map(abs, value)) > MAX_PIXELS:
        raise ValueError
    return x, y, width, height


def numbers(value: Any, count: int) -> Float[np.ndarray, "count"]:
    """`count` finite numbers, none beyond what pixels can be."""
    if not isinstance(value, list) or len(value) != count or not set(map(type, value)) <= {int, float}:
        raise ValueError
    found = np.array(value, dtype=np.float64)
    if first_implausible(found[:, None], MAX_PIXELS) is not None:
        raise ValueError
    return found


EXPECTED = {
    text: "text",
    integer: "a whole number",
    number: "a number",
    boolean: "0 or 1",
    size: f"a number of pixels from 1 to {MAX_PIXELS:,.0f}",
    area: f"an area in pixels from 0 to {MAX_PIXELS**2:,.0f}",
    box: f"x, y, width, height with a positive size, in pixels below {MAX_PIXELS:,.0f}",
}


def field(
    entry: dict[str, Any], key: str, convert: Callable[[Any], Any], what: str, expected: str = ""
) -> Any:
    """The converted value of an entry.

    Args:
        entry: an object of a JSON file.
        convert: one of the converters above, or another with its `expected`.
        what: names file and entry in the error.

    Raises:
        DataFileError: the value is missing or cannot be converted.
    """
    if key not in entry:
        raise DataFileError(f"{what} lacks '{key}'.")
    try:
        return convert(entry[key])
    except (TypeError, ValueError, OverflowError):
        wanted = expected or EXPECTED[convert]
        raise DataFileError(f"{what}: '{key}' is {shown(entry[key])}, expected {wanted}.") from None


def optional(entry: dict[str, Any], key: str, convert: Callable[[Any], Any], what: str, default: Any) -> Any:
    """`field`, or the default where the entry lacks the value or has null."""
    return default if entry.get(key) is None else field(entry, key, convert, what)


def shown(value: Any) -> str:
    """The value's repr, cut off where it is long."""
    full = repr(value)
    return full if len(full) <= MAX_SHOWN else f"{full[:MAX_SHOWN]}..."


def counted(reasons: Iterable[tuple[str, int]]) -> str:
    """Counts with their reasons: "3 that are crowds, 12 without labelled keypoints"."""
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons)


def first_implausible(values: Float[np.ndarray, "N ..."], limit: float) -> int | None:
    """The first row that holds a number not finite or beyond the limit; None when all are plausible."""
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(values) <= limit)
    return int(np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))[0]) if wrong.any() else None
