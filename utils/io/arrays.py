"""Arrays of numbers and text out of bytes of a file: plain dtypes by their codes, sizes checked before memory is taken.

No dtype of a file is used, only made anew from a code and a byte order; nothing is evaluated.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from utils.io.limits import Budget, DataFileError, UnsafeFileError

MAX_AXES = 32
MAX_CODE_POINT = 0x10FFFF
BLOCK = 2**20  # bytes that are copied at once
_OBJECT = 128  # bytes of an array without its content
_CODE = re.compile(r"[?]|b1|[iu][1248]|f[248]|c8|c16|[SU][0-9]{1,8}")
_SHAPE = re.compile(r"'shape'\s*:\s*\(([0-9L,\s]*)\)")
_SIZES = re.compile(r"\s*(?:[0-9]{1,19}L?\s*(?:,\s*|$))*")
_ORDER = re.compile(r"'fortran_order'\s*:\s*(True|False)")
_DESCR = re.compile(r"'descr'\s*:\s*'([<>|=]?)([?a-zA-Z][0-9]*)'")
_MAX_HEADER = 10_000


def plain_dtype(code: Any, order: Any = "=") -> np.dtype:
    """The dtype of a code (f8, u1, U12, ...) and a byte order. Raises ValueError for any other kind."""
    if not (isinstance(code, str) and _CODE.fullmatch(code) and order in ("<", ">", "=", "|")):
        raise ValueError("an array of neither numbers nor text")
    return np.dtype(code).newbyteorder(order if order in "<>" else "=")


def checked_shape(shape: Any) -> tuple[int, ...]:
    """`shape` (a tuple, a list or one number) as a tuple. Raises ValueError where it cannot be one."""
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    sizes = tuple(int(n) if isinstance(n, np.integer) else n for n in sizes)
    if len(sizes) > MAX_AXES or not all(type(n) is int and 0 <= n < 2**48 for n in sizes):
        raise ValueError("an array of an impossible shape")
    return sizes


def array_of(content: Any, dtype: np.dtype, shape: Any, fortran: bool, budget: Budget) -> np.ndarray:
    """The array whose bytes are `content`. Raises ValueError unless they are as many as its shape asks for."""
    shape = checked_shape(shape)
    if not isinstance(content, bytes | bytearray):
        raise ValueError("an array without its content")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"an array of shape {shape} and dtype {dtype} with {len(content)} bytes")
    flat = _empty(math.prod(shape), dtype, budget)
    if flat.nbytes == len(content):
        flat.view(np.uint8)[:] = np.frombuffer(content, np.uint8)
    return _sanitised(flat).reshape(shape, order="F" if fortran else "C")


def _empty(count: int, dtype: np.dtype, budget: Budget) -> np.ndarray:
    budget.take(_OBJECT + count * max(dtype.itemsize, 4))
    make = np.empty if dtype.itemsize else np.zeros  # of empty texts NumPy makes longer ones
    return make(count, dtype)


def _sanitised(flat: np.ndarray) -> np.ndarray:
    """`flat` with what NumPy's own code takes for granted: native byte order, booleans 0 and 1, valid characters."""
    if not flat.dtype.isnative:
        flat = flat.byteswap(inplace=True).view(flat.dtype.newbyteorder("="))
    if flat.dtype == bool:
        np.not_equal(flat.view(np.uint8), 0, out=flat)
    if flat.dtype.kind == "U":
        points = flat.view(np.uint32)
        for start in range(0, len(points), BLOCK):
            if points[start : start + BLOCK].max(initial=0) > MAX_CODE_POINT:
                raise ValueError("a text with impossible characters")
    return flat


def read_exactly(stream: IO[bytes], target: np.ndarray) -> None:
    """Fill the bytes [N] uint8 `target` from a stream. Raises ValueError when it ends before."""
    for start in range(0, len(target), BLOCK):
        block = stream.read(min(BLOCK, len(target) - start))
        if len(block) != min(BLOCK, len(target) - start):
            raise ValueError("it ends early")
        target[start : start + len(block)] = np.frombuffer(block, np.uint8)


# ------------------------------------------------------------------------------------------------------- .npy


def read_npy(
    stream: IO[bytes], what: str, budget: Budget, read_objects: Callable[[IO[bytes]], Any] | None
) -> np.ndarray:
    """The array of a .npy stream.

    Args:
        stream: at its beginning.
        what: names it in errors.
        budget: of its file.
        read_objects: reads the pickle that the header of an array of objects is followed by; None: such an array
            raises UnsafeFileError.
    """
    shape, fortran, order, code = _npy_header(stream)
    if code != "O":
        dtype = plain_dtype(code, order)
        flat = _empty(math.prod(shape), dtype, budget)
        if dtype.itemsize:
            read_exactly(stream, flat.view(np.uint8))
        return _sanitised(flat).reshape(shape, order="F" if fortran else "C")
    if read_objects is None:
        raise UnsafeFileError(
            f"{what} holds pickled Python objects, which may run code. Expected plain arrays of numbers or text."
        )
    array = read_objects(stream)
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise DataFileError(f"{what} does not hold an array of the shape {shape} that it says.")
    return array


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, str, str]:
    """Shape, whether in Fortran's order, byte order and code of the dtype."""
    head = stream.read(8)
    if head[:6] != b"\x93NUMPY" or head[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise ValueError("it does not begin as NumPy's files do")
    form = "<H" if head[6:] == b"\x01\x00" else "<I"
    (length,) = struct.unpack(form, stream.read(struct.calcsize(form)))
    text = stream.read(min(length, _MAX_HEADER)).decode("utf-8").replace('"', "'")
    shape, order, descr = (pattern.search(text) for pattern in (_SHAPE, _ORDER, _DESCR))
    if length > _MAX_HEADER or not (shape and order and descr and _SIZES.fullmatch(shape[1])):
        raise ValueError("its header tells no plain array of numbers or text")
    sizes = [int(number) for number in re.findall("[0-9]+", shape[1])]
    return checked_shape(sizes), order[1] == "True", *descr.groups()


# ------------------------------------------------------------------------------------------------ zip archives


def open_zip(path: Path, budget: Budget) -> zipfile.ZipFile:
    """The archive, once its directory was counted. Raises BadZipFile, DataFileError."""
    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - 2**16 - 200))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise zipfile.BadZipFile("its end is missing")
    directory = struct.unpack_from("<I", tail, end + 12)[0]
    if end >= 76 and tail[end - 76 : end - 72] == b"PK\x06\x06":
        directory = struct.unpack_from("<Q", tail, end - 36)[0]
    budget.take(20 * min(directory, length))  # about what zipfile makes of it
    return zipfile.ZipFile(path)


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """The member's bytes. Raises ValueError for packings that NumPy and torch never use."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"'{info.filename}' is packed in an unusual way")
    return archive.open(info)
