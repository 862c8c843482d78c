"""MATLAB 7.3 files, which are HDF5, as data sets ship them: arrays and cell arrays, read through h5py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from utils.io import Budget, DataFileError, limited_memory
from utils.packages import require_packages

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# What h5py raises on damaged files.
DAMAGE = (MemoryError, OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError)


def is_hdf5(path: Path) -> bool:
    """Whether the file is of MATLAB 7.3 (or plain HDF5) rather than of an older MATLAB."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file.")
    with path.open("rb") as file:
        head = file.read(520)
    return head.startswith(SIGNATURE) or head[512:] == SIGNATURE


class MatFile:
    """An open file. Axes of arrays run in the reverse order of MATLAB's, as HDF5 stores them.

    Every method raises DataFileError for what is missing or damaged, and for contents that lie in other files.
    """

    def __init__(self, path: Path, h5py: Any, file: Any) -> None:
        self.path, self._h5py, self._file = path, h5py, file

    def array(self, name: str) -> np.ndarray:
        """The numeric array of this name."""
        with _naming(self.path, name):
            return self._read(self._at(name))

    def num_cells(self, name: str) -> int:
        """Number of elements of a cell array."""
        with _naming(self.path, name):
            return int(self._at(name).size)

    def cell(self, name: str, index: int) -> np.ndarray:
        """The numeric array in one element of a cell array that is a row or a column."""
        with _naming(self.path, name):
            cells = self._at(name)
            if cells.dtype != self._h5py.ref_dtype or cells.ndim != 2 or min(cells.shape) != 1:
                raise ValueError("it is no cell array of one row or column")
            return self._read(self._file[cells[(index, 0) if cells.shape[1] == 1 else (0, index)]])

    def _at(self, name: str) -> Any:
        if name not in self._file:
            raise KeyError("it is not there")
        if not isinstance(self._file.get(name, getlink=True), self._h5py.HardLink):
            raise ValueError("it lies in another place")
        return self._file[name]

    def _read(self, dataset: Any) -> np.ndarray:
        if not isinstance(dataset, self._h5py.Dataset) or dataset.dtype.kind not in "biuf":
            raise ValueError("it is no array of numbers")
        if dataset.is_virtual or dataset.external:
            raise ValueError("it lies in another file")
        Budget(str(self.path)).take(dataset.nbytes)  # one array at a time; earlier ones may be gone
        return np.asarray(dataset)


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[MatFile]:
    """Open a MATLAB 7.3 file for reading.

    Raises ImportError without h5py, FileNotFoundError, DataFileError when it is damaged.
    """
    require_packages(f"Reading {path}", "datasets", "h5py")
    import h5py

    if not is_hdf5(path):
        raise DataFileError(f"{path} is not a MATLAB 7.3 (HDF5) file. Fetch it again.")
    with contextlib.ExitStack() as stack:
        with _naming(path, ""):
            file = stack.enter_context(h5py.File(path, "r"))
        yield MatFile(path, h5py, file)


@contextlib.contextmanager
def _naming(path: Path, name: str) -> Iterator[None]:
    """Turn what h5py raises into a DataFileError with the names of the file and of what was read."""
    try:
        with limited_memory():
            yield
    except DataFileError:
        raise
    except DAMAGE as error:
        what = f"'{name}' of {path} cannot be read" if name else f"{path} is not a readable HDF5 file"
        reason = str(error.args[0] if error.args else type(error).__name__).splitlines()[0]
        raise DataFileError(f"{what} ({reason}). Fetch the file again.") from error
