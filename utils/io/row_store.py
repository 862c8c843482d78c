"""Rows of arrays that wait in a file until they are wanted: a long video must not fill the memory."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Shaped

BLOCK = 2**22  # bytes that are written at once


class RowStore:
    """Named arrays of several series, row by row; in memory are the newest rows, and eight bytes for each other one.

    All rows have the types and shapes of the first one. The file has no name and goes with the process, however that
    ends; while it cannot be written (a full disk), rows stay in memory.

    Args:
        folder: where the file is.
        optional: name -> shape of float32 arrays that a row need not have.
    """

    def __init__(self, folder: Path, optional: Mapping[str, tuple[int, ...]]):
        self._folder, self._optional = folder, optional
        self._dtype: np.dtype | None = None
        self._places: dict[int, array[int]] = {}  # numbers of each series' rows
        self._incomplete: set[tuple[int, str]] = set()  # series and name of an array that one of its rows lacks
        self._file: IO[bytes] | None = None
        self._stored, self._block, self._limit = 0, bytearray(), BLOCK  # bytes in the file, those after them

    @property
    def counts(self) -> dict[int, int]:
        """Number of rows of each series."""
        return {series: len(places) for series, places in sorted(self._places.items())}

    def add(self, series: int, row: Mapping[str, Any]) -> None:
        """Append a row."""
        arrays = {name: np.asarray(value) for name, value in row.items()}
        for name in self._optional.keys() - arrays.keys():
            self._incomplete.add((series, name))
            arrays[name] = np.zeros(self._optional[name], np.float32)
        if self._dtype is None:
            self._dtype = np.dtype([(name, value.dtype, value.shape) for name, value in arrays.items()])
        record = np.zeros((), self._dtype)
        for name, value in arrays.items():
            record[name] = value
        count = (self._stored + len(self._block)) // self._dtype.itemsize
        self._places.setdefault(series, array("q")).append(count)
        self._block += record.tobytes()
        if len(self._block) >= self._limit:
            self._store()

    def arrays(self, series: int) -> dict[str, Shaped[np.ndarray, "T *N"]]:
        """All rows of a series by name; optional arrays only if every row has them. Raises OSError."""
        rows = np.frombuffer(b"".join(map(self._read, self._places[series])), self._dtype)
        names = [name for name in rows.dtype.names if (series, name) not in self._incomplete]
        return {name: np.ascontiguousarray(rows[name]) for name in names}

    def _store(self) -> None:
        with contextlib.suppress(OSError):
            self._file = self._file or TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  (lives as long)
            self._file.seek(self._stored)
            if self._file.write(self._block) == len(self._block):
                self._stored += len(self._block)
                self._block.clear()
        self._limit = len(self._block) + BLOCK

    def _read(self, number: int) -> bytes:
        length = self._dtype.itemsize
        start = number * length
        if start >= self._stored:
            return bytes(self._block[start - self._stored : start - self._stored + length])
        self._file.seek(start)
        return self._file.read(length)
