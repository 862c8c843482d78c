"""What each opcode of a pickle does to the machine that carries it out."""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.io.pickle_values import Call, PickleError, as_key, called

if TYPE_CHECKING:
    from utils.io.pickle_machine import PickleMachine

MAX_INT_BYTES = 127  # numbers that a float can hold
_FLOATS = re.compile(rb"(?:G.{8}){1,4096}", re.DOTALL)  # more would take the expression much memory
_U1, _U2, _U4, _U8 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q"))
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


def _unknown(m: PickleMachine) -> None:
    raise PickleError(f"the opcode {m.data[m.position - 1]:#x}, which no data file needs")


def _constant(value: Any) -> Callable[[PickleMachine], None]:
    return lambda m: m.stack.append(value)


def _whole(form: struct.Struct) -> Callable[[PickleMachine], None]:
    return lambda m: m.stack.append(m.number(form))


def _long(form: struct.Struct) -> Callable[[PickleMachine], None]:
    def push(m: PickleMachine) -> None:
        count = m.number(form)
        if not 0 <= count <= MAX_INT_BYTES:
            raise PickleError("a number of too many digits")
        m.stack.append(int.from_bytes(m.content(count), "little", signed=True))

    return push


def _text(form: struct.Struct, encoding: str) -> Callable[[PickleMachine], None]:
    return lambda m: m.stack.append(str(m.content(m.number(form), 5), encoding))


def _content(form: struct.Struct, kind: type = bytes) -> Callable[[PickleMachine], None]:
    return lambda m: m.stack.append(kind(m.content(m.number(form), 2)))


def _float(m: PickleMachine) -> None:
    if m.data[m.position + 8 : m.position + 9] != b"G":
        m.stack.append(m.number(_F8))
        return
    start = m.position - 1
    m.position = _FLOATS.match(m.data, start).end()  # a list of numbers at once
    rows = np.frombuffer(m.data, np.uint8, m.position - start, start).reshape(-1, 9)
    m.budget.take(48 * len(rows))
    m.stack.extend(rows[:, 1:].copy().view(">f8")[:, 0].tolist())


def _int_line(m: PickleMachine) -> None:
    raw = m.digits()
    m.stack.append(raw == b"01" if raw in (b"00", b"01") else int(raw))


def _string_line(m: PickleMachine) -> None:
    raw = m.line()
    if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b"'", b'"'):
        raise PickleError("a text without its marks")
    m.stack.append(str(codecs.escape_decode(raw[1:-1])[0], "latin1"))


def _put(m: PickleMachine, index: int) -> None:
    if not 0 <= index < 2**32:  # longer ones may all have one hash
        raise PickleError("a place in the memo that no file needs")
    m.memo[index] = m.stack[-1]


def _pop(m: PickleMachine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


def _mark(m: PickleMachine) -> None:
    m.marked.append(m.stack)
    m.stack = []


def _fixed_tuple(count: int) -> Callable[[PickleMachine], None]:
    def push(m: PickleMachine) -> None:
        if len(m.stack) < count:
            raise PickleError("too few values for a tuple")
        m.stack[-count:] = [tuple(m.stack[-count:])]

    return push


def _tuple(m: PickleMachine) -> None:
    items = m.since_mark()
    m.stack.append(tuple(items))


def _list(m: PickleMachine) -> None:
    items = m.since_mark()
    m.stack.append(items)


def _extend(m: PickleMachine, items: list[Any]) -> None:
    if type(m.stack[-1]) is not list:
        raise PickleError(f"items for a {type(m.stack[-1]).__name__}")
    m.stack[-1].extend(items)


def _update(m: PickleMachine, items: list[Any]) -> None:
    if type(m.stack[-1]) is not dict or len(items) % 2:
        raise PickleError(f"keys for a {type(m.stack[-1]).__name__}")
    m.budget.take(120 * len(items))
    m.stack[-1].update(zip(map(as_key, items[::2]), items[1::2], strict=True))


def _dict(m: PickleMachine) -> None:
    items = m.since_mark()
    m.stack.append({})
    _update(m, items)


def _add(m: PickleMachine) -> None:
    items = m.since_mark()
    if type(m.stack[-1]) is not set:
        raise PickleError(f"items for a {type(m.stack[-1]).__name__}")
    m.budget.take(120 * len(items))
    m.stack[-1].update(map(as_key, items))


def _frozen(m: PickleMachine) -> None:
    items = m.since_mark()
    m.budget.take(120 * len(items))
    m.stack.append(frozenset(map(as_key, items)))


def _two(m: PickleMachine) -> list[Any]:
    value, key = m.stack.pop(), m.stack.pop()
    return [key, value]


def _global(m: PickleMachine) -> None:
    module, name = m.line(), m.line()
    m.stack.append(m.find(module.decode(), name.decode()))


def _stack_global(m: PickleMachine) -> None:
    module, name = _two(m)
    if type(module) is not str or type(name) is not str:
        raise PickleError("a name that is no text")
    m.stack.append(m.find(module, name))


def _reduce(m: PickleMachine) -> None:
    m.stack.append(called(*_two(m)))


def _new_with_keywords(m: PickleMachine) -> None:
    keywords = m.stack.pop()
    if type(keywords) is not dict or keywords:
        raise PickleError("an object built in an unusual way")
    _reduce(m)


def _inst(m: PickleMachine) -> None:
    _global(m)
    name = m.stack.pop()
    args = m.since_mark()
    m.stack.append(called(name, tuple(args)))


def _obj(m: PickleMachine) -> None:
    name, *args = m.since_mark()
    m.stack.append(called(name, tuple(args)))


def _build(m: PickleMachine) -> None:
    state, target = m.stack.pop(), m.stack[-1]
    if type(target) is Call and target.state is None:
        target.state = state
    elif type(target) is not dict:  # a state dict's versions of its modules, which nobody reads
        raise PickleError(f"a state for a {type(target).__name__}")


def _proto(m: PickleMachine) -> None:
    if m.number(_U1) > 5:
        raise PickleError("a protocol above 5")


# What each opcode does, and the bytes that its result takes at most; content of variable size is counted apart.
_TABLE: dict[bytes, tuple[Callable[[PickleMachine], None], int]] = {
    b"\x80": (_proto, 0),
    b"\x95": (lambda m: m.number(_U8), 0),  # FRAME
    b"(": (_mark, 80),
    b"0": (_pop, 0),
    b"1": (lambda m: m.since_mark(), 0),
    b"2": (lambda m: m.stack.append(m.stack[-1]), 16),
    b"N": (_constant(None), 16),
    b"\x88": (_constant(True), 16),
    b"\x89": (_constant(False), 16),
    b"K": (_whole(_U1), 16),
    b"M": (_whole(_U2), 48),
    b"J": (_whole(_I4), 48),
    b"I": (_int_line, 160),
    b"L": (lambda m: m.stack.append(int(m.digits().rstrip(b"L"))), 160),
    b"\x8a": (_long(_U1), 160),
    b"\x8b": (_long(_I4), 160),
    b"F": (lambda m: m.stack.append(float(m.digits())), 48),
    b"G": (_float, 48),
    b"S": (_string_line, 96),
    b"U": (_text(_U1, "latin1"), 96),
    b"T": (_text(_I4, "latin1"), 96),
    b"V": (lambda m: m.stack.append(str(m.line(), "raw-unicode-escape")), 96),
    b"\x8c": (_text(_U1, "utf-8"), 96),
    b"X": (_text(_U4, "utf-8"), 96),
    b"\x8d": (_text(_U8, "utf-8"), 96),
    b"C": (_content(_U1), 96),
    b"B": (_content(_U4), 96),
    b"\x8e": (_content(_U8), 96),
    b"\x96": (_content(_U8, bytearray), 96),
    b"]": (lambda m: m.stack.append([]), 96),
    b"}": (lambda m: m.stack.append({}), 256),
    b"\x8f": (lambda m: m.stack.append(set()), 256),
    b")": (_constant(()), 16),
    b"\x85": (_fixed_tuple(1), 80),
    b"\x86": (_fixed_tuple(2), 80),
    b"\x87": (_fixed_tuple(3), 80),
    b"t": (_tuple, 64),
    b"l": (_list, 64),
    b"d": (_dict, 256),
    b"\x91": (_frozen, 256),
    b"a": (lambda m: _extend(m, [m.stack.pop()]), 16),
    b"e": (lambda m: _extend(m, m.since_mark()), 0),
    b"s": (lambda m: _update(m, _two(m)), 0),
    b"u": (lambda m: _update(m, m.since_mark()), 0),
    b"\x90": (_add, 0),
    b"p": (lambda m: _put(m, int(m.digits())), 160),
    b"q": (lambda m: _put(m, m.number(_U1)), 160),
    b"r": (lambda m: _put(m, m.number(_U4)), 160),
    b"\x94": (lambda m: _put(m, len(m.memo)), 160),
    b"g": (lambda m: m.stack.append(m.memo[int(m.digits())]), 16),
    b"h": (lambda m: m.stack.append(m.memo[m.number(_U1)]), 16),
    b"j": (lambda m: m.stack.append(m.memo[m.number(_U4)]), 16),
    b"c": (_global, 320),
    b"\x93": (_stack_global, 320),
    b"R": (_reduce, 320),
    b"\x81": (_reduce, 320),  # NEWOBJ
    b"\x92": (_new_with_keywords, 320),
    b"i": (_inst, 640),
    b"o": (_obj, 320),
    b"b": (_build, 0),
    b"P": (lambda m: m.stack.append(m.outside(m.line().decode())), 320),
    b"Q": (lambda m: m.stack.append(m.outside(m.stack.pop())), 320),
}
OPCODES = [_TABLE.get(bytes([code]), (_unknown, 0)) for code in range(256)]
