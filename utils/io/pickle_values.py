"""What stands for names and calls in a pickle, and which values can be keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_KEYS = frozenset({str, bytes, float, bool, type(None)})


class PickleError(ValueError):
    """A pickle is damaged or asks for what no data file holds."""


class Name:
    """A name in a file. `make` gives the value of a call of it; None: it is never called."""

    __slots__ = ("full", "make")

    def __init__(self, full: str, make: Callable[..., Any] | None = None) -> None:
        self.full, self.make = full, make


class Call:
    """An object of a file before it is made: its kind, its arguments, and the state given to it."""

    __slots__ = ("args", "kind", "state")

    def __init__(self, kind: str, *args: Any) -> None:
        self.kind, self.args, self.state = kind, args, None


def as_key(value: Any) -> Any:
    """`value` where it can be a key: of tuples, complex and long numbers a file may hold any count of one hash."""
    kind = type(value)
    if kind in _KEYS or (kind is int and -(2**63) <= value < 2**64):
        return value
    if isinstance(value, np.generic) and value.dtype.kind != "c":
        return value
    raise PickleError(f"a key that is a {kind.__name__}")


def call(name: Any, args: Any) -> Any:
    """The value of a call in a file."""
    if type(name) is not Name or type(args) is not tuple or name.make is None:
        raise PickleError("an object built in an unusual way")
    return name.make(*args)
