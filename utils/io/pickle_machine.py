"""The opcodes of pickles, carried out without Python's unpickler: values are built, calls are only noted.

A file gets nothing of Python, NumPy or torch into its hands. It makes numbers, text, lists, tuples, dictionaries and
sets; a name that it mentions becomes a `Name`, a call of one what the name's `make`, a function of the reader, gives:
a plain value, or a `Call` that keeps arguments and state as they stand in the file. Nothing else has a state that a
file can set.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from utils.io.limits import Budget
from utils.io.pickle_values import Call, Name, PickleError, as_key, call

MAX_DIGITS = 320  # of a number written as text: those that a float can hold
MAX_INT_BYTES = 127  # the same
_GRAIN = 2**20  # bytes of small objects that are counted together
_LEAST = 64  # bytes that an opcode counts for, so that the budget bounds the time, too
_FLOATS = re.compile(rb"(?:G.{8}){1,4096}", re.DOTALL)  # more would take the expression much memory
_U1, _U2, _U4, _U8 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q"))
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


class PickleMachine:
    """Carries out one pickle of `data` from `position` on; afterwards `position` is its end."""

    def __init__(
        self,
        data: bytes,
        budget: Budget,
        find: Callable[[str, str], Name],
        persistent: Callable[[Any], Any],
        position: int = 0,
    ) -> None:
        """find: the `Name` of a module's object; persistent: what a persistent id stands for; both may raise."""
        self.data, self.budget, self.position = data, budget, position
        self.find, self.persistent = find, persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The unpickled value. Raises PickleError or any other Exception for damage."""
        data, uncounted = self.data, 0
        while True:
            opcode = data[self.position]
            self.position += 1
            if opcode == ord("."):
                self.budget.take(uncounted)
                return self.stack.pop()
            carry_out, size = OPCODES[opcode]
            uncounted += max(size, _LEAST)
            if uncounted > _GRAIN:
                self.budget.take(uncounted)
                uncounted = 0
            carry_out(self)

    # ------------------------------------------------------------------------------------------- operands

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

    # --------------------------------------------------------------------------------------- stack and memo

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def pop_two(self) -> list[Any]:
        last, first = self.stack.pop(), self.stack.pop()
        return [first, last]

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        self.budget.take(16 * len(items))
        return items

    def top(self, kind: type) -> Any:
        """The value on top of the stack, which must be a `kind` of the machine's own."""
        if type(self.stack[-1]) is not kind:
            raise PickleError(f"items for a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def put(self, index: int) -> None:
        if not 0 <= index < 2**32:  # longer ones may all have one hash
            raise PickleError("a place in the memo that no file needs")
        self.memo[index] = self.stack[-1]

    # ---------------------------------------------------------------------------------------------- values

    def push_long(self, count: int) -> None:
        if not 0 <= count <= MAX_INT_BYTES:
            raise PickleError("a number of too many digits")
        self.push(int.from_bytes(self.content(count), "little", signed=True))

    def push_int_line(self) -> None:
        raw = self.digits()
        self.push(raw == b"01" if raw in (b"00", b"01") else int(raw))

    def push_float(self) -> None:
        if self.data[self.position + 8 : self.position + 9] != b"G":
            self.push(self.number(_F8))
            return
        start = self.position - 1
        self.position = _FLOATS.match(self.data, start).end()  # a list of numbers at once
        rows = np.frombuffer(self.data, np.uint8, self.position - start, start).reshape(-1, 9)
        self.budget.take(48 * len(rows))
        self.stack.extend(rows[:, 1:].copy().view(">f8")[:, 0].tolist())

    def push_string_line(self) -> None:
        raw = self.line()
        if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b"'", b'"'):
            raise PickleError("a text without its quotes")
        self.push(str(codecs.escape_decode(raw[1:-1])[0], "latin1"))

    def push_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise PickleError("too few values for a tuple")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def append(self) -> None:
        item = self.stack.pop()
        self.top(list).append(item)

    def extend(self) -> None:
        items = self.since_mark()
        self.top(list).extend(items)

    def update(self, items: list[Any], new: bool = False) -> None:
        if new:
            self.push({})
        target = self.top(dict)
        if len(items) % 2:
            raise PickleError("a key without its value")
        self.budget.take(120 * len(items))
        target.update(zip(map(as_key, items[::2]), items[1::2], strict=True))

    def keys_since_mark(self) -> list[Any]:
        items = self.since_mark()
        self.budget.take(120 * len(items))
        return [as_key(item) for item in items]

    def add(self) -> None:
        keys = self.keys_since_mark()
        self.top(set).update(keys)

    # ------------------------------------------------------------------------------------ names, calls, states

    def push_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise PickleError("a name that is no text")
        self.push(self.find(module, name))

    def reduce(self) -> None:
        self.push(call(*self.pop_two()))

    def reduce_with_keywords(self) -> None:
        keywords = self.stack.pop()
        if type(keywords) is not dict or keywords:
            raise PickleError("an object built in an unusual way")
        self.reduce()

    def instance(self) -> None:
        self.push_name(self.line().decode(), self.line().decode())
        name = self.stack.pop()
        self.push(call(name, tuple(self.since_mark())))

    def object(self) -> None:
        name, *args = self.since_mark()
        self.push(call(name, tuple(args)))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is Call and target.state is None:
            target.state = state
        elif type(target) is not dict:  # a state dict's versions of its modules, which are not used
            raise PickleError(f"a state for a {type(target).__name__}")

    def check_protocol(self) -> None:
        if self.number(_U1) > 5:
            raise PickleError("a protocol above 5")

    def unknown(self) -> None:
        raise PickleError(f"the opcode {self.data[self.position - 1]:#x}, which no data file needs")


def _text(form: struct.Struct, encoding: str) -> Callable[[PickleMachine], None]:
    return lambda m: m.push(str(m.content(m.number(form), 5), encoding))


def _content(form: struct.Struct, kind: type = bytes) -> Callable[[PickleMachine], None]:
    return lambda m: m.push(kind(m.content(m.number(form), 2)))


# What each opcode does, and the bytes that its result takes at most; content of variable size is counted apart.
_TABLE: dict[bytes, tuple[Callable[[PickleMachine], Any], int]] = {
    b"\x80": (PickleMachine.check_protocol, 0),
    b"\x95": (lambda m: m.number(_U8), 0),  # FRAME
    b"(": (PickleMachine.mark, 80),
    b"0": (PickleMachine.pop, 0),
    b"1": (PickleMachine.since_mark, 0),
    b"2": (lambda m: m.push(m.stack[-1]), 16),
    b"N": (lambda m: m.push(None), 16),
    b"\x88": (lambda m: m.push(True), 16),
    b"\x89": (lambda m: m.push(False), 16),
    b"K": (lambda m: m.push(m.number(_U1)), 16),
    b"M": (lambda m: m.push(m.number(_U2)), 48),
    b"J": (lambda m: m.push(m.number(_I4)), 48),
    b"I": (PickleMachine.push_int_line, 160),
    b"L": (lambda m: m.push(int(m.digits().rstrip(b"L"))), 160),
    b"\x8a": (lambda m: m.push_long(m.number(_U1)), 160),
    b"\x8b": (lambda m: m.push_long(m.number(_I4)), 160),
    b"F": (lambda m: m.push(float(m.digits())), 48),
    b"G": (PickleMachine.push_float, 48),
    b"S": (PickleMachine.push_string_line, 96),
    b"U": (_text(_U1, "latin1"), 96),
    b"T": (_text(_I4, "latin1"), 96),
    b"V": (lambda m: m.push(str(m.line(), "raw-unicode-escape")), 96),
    b"\x8c": (_text(_U1, "utf-8"), 96),
    b"X": (_text(_U4, "utf-8"), 96),
    b"\x8d": (_text(_U8, "utf-8"), 96),
    b"C": (_content(_U1), 96),
    b"B": (_content(_U4), 96),
    b"\x8e": (_content(_U8), 96),
    b"\x96": (_content(_U8, bytearray), 96),
    b"]": (lambda m: m.push([]), 96),
    b"}": (lambda m: m.push({}), 256),
    b"\x8f": (lambda m: m.push(set()), 256),
    b")": (lambda m: m.push(()), 16),
    b"\x85": (lambda m: m.push_tuple(1), 80),
    b"\x86": (lambda m: m.push_tuple(2), 80),
    b"\x87": (lambda m: m.push_tuple(3), 80),
    b"t": (lambda m: m.push(tuple(m.since_mark())), 64),
    b"l": (lambda m: m.push(m.since_mark()), 64),
    b"d": (lambda m: m.update(m.since_mark(), new=True), 256),
    b"\x91": (lambda m: m.push(frozenset(m.keys_since_mark())), 256),
    b"a": (PickleMachine.append, 16),
    b"e": (PickleMachine.extend, 0),
    b"s": (lambda m: m.update(m.pop_two()), 0),
    b"u": (lambda m: m.update(m.since_mark()), 0),
    b"\x90": (PickleMachine.add, 0),
    b"p": (lambda m: m.put(int(m.digits())), 160),
    b"q": (lambda m: m.put(m.number(_U1)), 160),
    b"r": (lambda m: m.put(m.number(_U4)), 160),
    b"\x94": (lambda m: m.put(len(m.memo)), 160),
    b"g": (lambda m: m.push(m.memo[int(m.digits())]), 16),
    b"h": (lambda m: m.push(m.memo[m.number(_U1)]), 16),
    b"j": (lambda m: m.push(m.memo[m.number(_U4)]), 16),
    b"c": (lambda m: m.push_name(m.line().decode(), m.line().decode()), 320),
    b"\x93": (lambda m: m.push_name(*m.pop_two()), 320),
    b"R": (PickleMachine.reduce, 320),
    b"\x81": (PickleMachine.reduce, 320),  # NEWOBJ
    b"\x92": (PickleMachine.reduce_with_keywords, 320),
    b"i": (PickleMachine.instance, 640),
    b"o": (PickleMachine.object, 320),
    b"b": (PickleMachine.build, 0),
    b"P": (lambda m: m.push(m.persistent(m.line().decode())), 320),
    b"Q": (lambda m: m.push(m.persistent(m.stack.pop())), 320),
}
OPCODES = [_TABLE.get(bytes([code]), (PickleMachine.unknown, 0)) for code in range(256)]
