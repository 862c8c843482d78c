"""The opcodes of pickles, carried out without Python's unpickler: values are built, calls are only noted.

A file gets nothing of Python, NumPy or torch into its hands. It makes numbers, text, lists, tuples, dictionaries and
sets; a name that it mentions becomes a `Name`, a call of one what the name's `make`, a function of the reader, gives:
a plain value, or a `Call` that keeps arguments and state as they stand in the file. Nothing else has a state that a
file can set.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from utils.io.budget import Budget
from utils.io.pickle_opcodes import OPCODES
from utils.io.pickle_values import Name, PickleError

MAX_DIGITS = 320  # of a number written as text: those that a float can hold
_STOP = 0x2E
_GRAIN = 2**20  # bytes of small objects that are counted together
_LEAST = 64  # bytes that an opcode counts for, so that the budget bounds the time, too


class PickleMachine:
    """Carries out one pickle of `data` from `position` on; afterwards `position` is its end."""

    def __init__(
        self,
        data: bytes,
        budget: Budget,
        find: Callable[[str, str], Name],
        outside: Callable[[Any], Any],
        position: int = 0,
    ) -> None:
        """find: the name of a module's object, or an error. outside: what stands for a persistent id, or an error."""
        self.data, self.budget, self.find, self.outside, self.position = data, budget, find, outside, position
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value. Raises PickleError, or whatever wrong operands lead to: any Exception means damage."""
        data, owed = self.data, 0
        while True:
            opcode = data[self.position]
            self.position += 1
            if opcode == _STOP:
                self.budget.take(owed)
                return self.stack.pop()
            carry_out, size = OPCODES[opcode]
            owed += max(size, _LEAST)
            if owed > _GRAIN:
                self.budget.take(owed)
                owed = 0
            carry_out(self)

    # operands

    def number(self, form: struct.Struct) -> Any:
        value = form.unpack_from(self.data, self.position)[0]
        self.position += form.size
        return value

    def content(self, count: int, copies: int = 1) -> bytes:
        end = self.position + count
        if not self.position <= end <= len(self.data):
            raise PickleError("it ends early")
        self.budget.take(copies * count)
        raw = self.data[self.position : end]
        self.position = end
        return raw

    def line(self) -> bytes:
        raw = self.content(self.data.index(b"\n", self.position) - self.position, 5)
        self.position += 1
        return raw

    def digits(self) -> bytes:
        raw = self.line()
        if len(raw) > MAX_DIGITS:
            raise PickleError("a number of too many digits")
        return raw

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        self.budget.take(16 * len(items))
        return items
