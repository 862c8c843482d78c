"""An unpickler that cannot run code: arrays, plain containers, and inert stand-ins for foreign objects.

The official body files hold chumpy and scipy.sparse objects; both come out as dense NumPy arrays, and neither
package is needed. Whatever else a file asks to call is refused by name.
"""

from __future__ import annotations

import contextlib
import pickle
from collections import OrderedDict
from typing import IO, Any

import numpy as np

MAX_DENSE = 2**28  # elements: far above any body file, far below what exhausts a machine


class DataFileError(ValueError):
    """A file is damaged or does not hold what was expected."""


class UnsafeFileError(DataFileError):
    """A file asks to run code; nothing of it was run."""


# ------------------------------------------------------------------------------------------- stand-in objects


class _Inert:
    """Takes the place of a foreign object in a pickle: keeps its state, does nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(k): v for k, v in state.items()})


class _Chumpy(_Inert):
    """A chumpy array: the values stand in `x`; `Select` picks them from another array `a`.

    Other expressions (the files hold some that nobody reads) have no values: None.
    """

    def to_array(self) -> np.ndarray | None:
        state = self.__dict__
        if "x" in state:
            return _as_array(state["x"])
        if "a" in state and "idxs" in state:
            picked = _as_array(state["a"]).ravel()[_as_array(state["idxs"])]
            return picked.reshape(state["preferred_shape"]) if "preferred_shape" in state else picked
        return None


class _Compressed(_Inert):
    """A scipy.sparse csc/csr matrix. Expanded here with checked indices; scipy's own code trusts them."""

    column_major = True

    def to_array(self) -> np.ndarray:
        state = self.__dict__
        rows, cols = (int(n) for n in state.get("_shape", state.get("shape")))
        if rows < 0 or cols < 0 or rows * cols > MAX_DENSE:
            raise ValueError(f"a sparse matrix of impossible size {rows} x {cols}")
        data, indices = _as_array(state["data"]), _as_array(state["indices"]).astype(np.int64)
        starts = _as_array(state["indptr"]).astype(np.int64)
        major, minor = (cols, rows) if self.column_major else (rows, cols)
        if starts.shape != (major + 1,) or starts[0] != 0 or np.any(np.diff(starts) < 0):
            raise ValueError("a sparse matrix with a damaged index")
        if data.shape != indices.shape or starts[-1] != len(data):
            raise ValueError("a sparse matrix with a damaged index")
        if len(indices) and not 0 <= indices.min() <= indices.max() < minor:
            raise ValueError("a sparse matrix with indices outside its shape")
        dense = np.zeros((major, minor), data.dtype)
        np.add.at(dense, (np.repeat(np.arange(major), np.diff(starts)), indices), data)
        return dense.T.copy() if self.column_major else dense


class _CompressedRows(_Compressed):
    column_major = False


def _as_array(value: Any) -> np.ndarray:
    return value.to_array() if isinstance(value, _Inert) else np.asarray(value)


def _plain(value: Any) -> Any:
    """Replace stand-ins inside containers by dense arrays; foreign values without numbers become None."""
    if isinstance(value, _Chumpy | _Compressed):
        return value.to_array()
    if isinstance(value, _Inert):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        plain = np.empty(value.shape, object)
        for index in np.ndindex(value.shape):
            plain[index] = _plain(value[index])
        return plain
    return value


# ---------------------------------------------------------------------------------------------------- pickles


def encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")  # how pickles below protocol 3 spell bytes


def _no_bytes() -> bytes:
    return b""  # which those pickles spell as a call


def _reconstructor(cls: type, base: type, state: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, _Inert)):
        raise pickle.UnpicklingError("an object built in an unusual way")
    return cls()


def _frombuffer(buffer: Any, dtype: Any, shape: Any, order: str, axis_order: Any = None) -> np.ndarray:
    array = np.frombuffer(buffer, dtype=dtype)
    return (array.reshape(shape, order=order) if axis_order is None else array.reshape(shape)).copy()


ARRAY_REBUILD = np.zeros(1).__reduce__()[0]
SCALAR_REBUILD = np.float64(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): ARRAY_REBUILD,
    ("numpy.core.multiarray", "scalar"): SCALAR_REBUILD,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): encode_latin1,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("builtins", "object"): object,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("builtins", "bytes"): _no_bytes,
}
_MODULE_NAMES = {"copy_reg": "copyreg", "__builtin__": "builtins"}
_SPARSE = {
    "csc_matrix": _Compressed,
    "csc_array": _Compressed,
    "csr_matrix": _CompressedRows,
    "csr_array": _CompressedRows,
}


class _SafeUnpickler(pickle.Unpickler):
    """Knows the names in `_ALLOWED`, chumpy's and scipy.sparse's; refuses every other."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "chumpy":
            return _Chumpy
        if module.startswith("scipy.sparse") and name in _SPARSE:
            return _SPARSE[name]
        known = _MODULE_NAMES.get(module, module).replace("numpy._core", "numpy.core")
        if (known, name) not in _ALLOWED:
            raise UnsafeFileError(f"{module}.{name}")
        return _ALLOWED[known, name]

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeFileError("an object outside the file")


def safe_unpickle(stream: IO[bytes], what: str) -> Any:
    """Read one pickle from `stream`; `what` names it in errors.

    Raises UnsafeFileError naming the blocked call, DataFileError for a damaged pickle.
    """
    try:
        return _plain(_SafeUnpickler(stream, encoding="latin1").load())
    except UnsafeFileError as error:
        raise blocked(what, str(error)) from None
    except (Exception, RecursionError) as error:
        raise DataFileError(
            f"{what} is not a readable pickle ({type(error).__name__}: {error}). Fetch the file again."
        ) from error


class _Listing(_SafeUnpickler):
    """Makes an inert object of every call and notes its name."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="latin1")
        self.foreign: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        try:
            super().find_class(module, name)
        except UnsafeFileError:
            if module.split(".")[0] != "torch":
                self.foreign.append(f"{module}.{name}")
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        return _Inert()


def foreign_calls(stream: IO[bytes]) -> list[str]:
    """Names that a pickle asks for and neither data files nor torch need, as far as it can be followed."""
    listing = _Listing(stream)
    with contextlib.suppress(Exception):
        listing.load()
    return listing.foreign


def blocked(what: str, call: str) -> UnsafeFileError:
    """The error for a file that asks to call `call`."""
    return UnsafeFileError(
        f"{what} was refused: it asks to call {call}, which no data file needs. Nothing of it was run. "
        "Get the file from its publisher."
    )
