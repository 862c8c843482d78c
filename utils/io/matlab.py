"""MATLAB files up to version 7: arrays of real numbers and cells of them, with every size checked before it is used."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.io.arrays import BLOCK, array_of, checked_shape, plain_dtype
from utils.io.limits import Budget

_MATRIX, _COMPRESSED, _CELL = 14, 15, 1
_NUMERIC = range(6, 16)  # classes: double, single, integers
_COMPLEX = 0x0800
_CODES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CODES_4 = ("f8", "f4", "i4", "i2", "u2", "u1")
_MAX_DEPTH = 20
_CELL_SIZE = 1024  # bytes that a cell counts for, so that the budget bounds the time, too


def parse_mat(data: bytes, budget: Budget) -> dict[str, Any]:
    """The variables of a MATLAB file by name: arrays of numbers, cells as arrays of objects; other kinds are left out.

    Any Exception means damage; DataFileError, that it needs too much memory.
    """
    if len(data) < 20:
        raise ValueError("it ends early")
    if 0 in data[:4] or len(data) < 128:
        return _parse_version_4(data, budget)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("it begins as no MATLAB file does")
    if data[125 if order == "<" else 124] == 2:
        raise NotImplementedError
    file = _Elements(data, order, budget)
    found, position = {}, 128
    while position < len(data):
        kind, start, end, position = file.tag(position)
        if kind == _COMPRESSED:
            inner = _Elements(_inflated(data[start:end], order, budget), order, budget)
            kind, start, end, _ = inner.tag(0)
            name, value = inner.matrix(start, end)
        elif kind == _MATRIX:
            name, value = file.matrix(start, end)
        else:
            continue
        if name and not name.startswith("__") and value is not None:
            found[name] = value
    return found


def _inflated(packed: bytes, order: str, budget: Budget) -> bytearray:
    """The one element that a compressed one holds; as much is unpacked as it says itself."""
    budget.take(len(packed))
    size = 8 + struct.unpack(order + "II", zlib.decompressobj().decompress(packed[:512], 8))[1]
    budget.take(size)
    stream, element, filled = zlib.decompressobj(), bytearray(size), 0
    for start in range(0, len(packed), BLOCK):
        piece = packed[start : start + BLOCK]
        while filled < size:
            block = stream.decompress(piece, min(BLOCK, size - filled))
            piece = stream.unconsumed_tail
            element[filled : filled + len(block)] = block
            filled += len(block)
            if not block and not piece:
                break
    if filled < size:
        raise ValueError("it ends early")
    return element


@dataclass
class _Elements:
    """The elements of a version 5 file, or of an unpacked part of one."""

    data: bytes | bytearray
    order: str  # "<" or ">"
    budget: Budget

    def tag(self, position: int) -> tuple[int, int, int, int]:
        """Type of the element at `position`, where its content starts and ends, and where the next element is."""
        kind, length = struct.unpack_from(self.order + "II", self.data, position)
        if kind >> 16:  # a short element, within the tag
            if kind >> 16 > 4:
                raise ValueError("a damaged element")
            return kind & 0xFFFF, position + 4, position + 4 + (kind >> 16), position + 8
        start, end = position + 8, position + 8 + length
        if end > len(self.data):
            raise ValueError("it ends early")
        return kind, start, end, end if kind == _COMPRESSED else end + -length % 8

    def matrix(self, start: int, end: int, depth: int = 0) -> tuple[str, np.ndarray | None]:
        """Name and value of a matrix element; None for kinds that are left out."""
        data, order = self.data, self.order
        if start == end:
            return "", np.zeros((0, 0))
        if depth > _MAX_DEPTH:
            raise ValueError("cells nested too deeply")
        _, at, _, position = self.tag(start)
        flags = struct.unpack_from(order + "I", data, at)[0]
        kind = flags & 0xFF
        if kind in (16, 17):  # functions and opaque objects have no shape
            return "", None
        _, at, stop, position = self.tag(position)
        shape = checked_shape([int(n) for n in np.frombuffer(data[at:stop], order + "i4")])
        _, at, stop, position = self.tag(position)
        name = str(data[at:stop], "latin1")
        if kind == _CELL:
            return name, self._cells(position, end, shape, depth)
        if kind not in _NUMERIC or flags & _COMPLEX:
            return name, None
        code, at, stop, _ = self.tag(position)
        return name, array_of(data[at:stop], plain_dtype(_CODES[code], order), shape, True, self.budget)

    def _cells(self, position: int, end: int, shape: tuple[int, ...], depth: int) -> np.ndarray:
        count = math.prod(shape)
        if count > (end - position) // 8:
            raise ValueError("more cells than it has content for")
        self.budget.take(_CELL_SIZE * count)
        cells = np.empty(count, object)
        for index in range(count):
            kind, start, stop, position = self.tag(position)
            if kind != _MATRIX:
                raise ValueError("a damaged cell")
            cells[index] = self.matrix(start, stop, depth + 1)[1]
        return cells.reshape(shape, order="F")


def _parse_version_4(data: bytes, budget: Budget) -> dict[str, np.ndarray]:
    found, position = {}, 0
    while position < len(data):
        order = "<" if struct.unpack_from("<I", data, position)[0] < 5000 else ">"
        form, rows, cols, imaginary, length = struct.unpack_from(order + "5I", data, position)
        big, zero, code, kind = (form // 10**place % 10 for place in (3, 2, 1, 0))
        if form > 4999 or zero or big > 1 or code >= len(_CODES_4):
            raise ValueError("it begins as no MATLAB file does")
        dtype = plain_dtype(_CODES_4[code], ">" if big else "<")
        start = position + 20 + length
        position = start + rows * cols * dtype.itemsize * (2 if imaginary else 1)
        if position > len(data):
            raise ValueError("it ends early")
        if kind == 0 and not imaginary:
            name = str(data[start - length : start], "latin1").rstrip("\0")
            found[name] = array_of(data[start:position], dtype, (rows, cols), True, budget)
    return found
