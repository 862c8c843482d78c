"""An unpickler that cannot run code: arrays, plain containers, and inert stand-ins for foreign objects.

The official body files hold chumpy and scipy.sparse objects; both come out as dense NumPy arrays, and neither
package is needed. Whatever else a file asks to call is refused by name.
"""

from __future__ import annotations

import contextlib
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

import numpy as np

MAX_ELEMENTS = 2**28  # far above any body file, far below what exhausts a machine
ArrayOf = Callable[[Any], np.ndarray]


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

    def to_array(self, array: ArrayOf) -> np.ndarray | None:
        """array: converts what the object holds, which may be other stand-ins."""
        state = self.__dict__
        if "x" in state:
            return array(state["x"])
        if "a" in state and "idxs" in state:
            picked = array(state["a"]).ravel()[array(state["idxs"])]
            return picked.reshape(state["preferred_shape"]) if "preferred_shape" in state else picked
        return None


class _Compressed(_Inert):
    """A scipy.sparse csc/csr matrix. Expanded here with checked indices; scipy's own code trusts them."""

    column_major = True

    def to_array(self, array: ArrayOf) -> np.ndarray:
        """array: converts what the object holds, which may be other stand-ins."""
        state = self.__dict__
        rows, cols = (int(n) for n in state.get("_shape", state.get("shape")))
        if rows < 0 or cols < 0 or rows * cols > MAX_ELEMENTS:
            raise ValueError(f"a sparse matrix of impossible size {rows} x {cols}")
        data, indices = array(state["data"]), array(state["indices"]).astype(np.int64)
        starts = array(state["indptr"]).astype(np.int64)
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


class CheckedArray(np.ndarray):
    """An array under reconstruction. NumPy reads past the end of a list that is shorter than its shape."""

    def __new__(cls, *args: Any, **kwargs: Any) -> CheckedArray:
        raise pickle.UnpicklingError("an array built in an unusual way")

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, content = state[-4], state[-3], state[-1]
        if dtype.hasobject and (dtype.char != "O" or len(content) != math.prod(shape)):
            raise pickle.UnpicklingError("a damaged array of objects")
        super().__setstate__(state)


def rebuild_array(cls: type, shape: Any, code: Any) -> CheckedArray:
    """What NumPy's pickles start an array with: empty, its state follows."""
    if cls is not CheckedArray or shape != (0,):
        raise pickle.UnpicklingError("an array built in an unusual way")
    return np.ndarray.__new__(CheckedArray, (0,), "b")


class _Converter:
    """Replaces stand-ins by dense arrays, each object once however often the file refers to it.

    Foreign values without numbers become None. Refuses what has too many elements when written out, for
    references to references let a small file stand for any number.
    """

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, int]] = {}  # by id: the plain value, its elements

    def plain(self, value: Any) -> Any:
        return self._converted(value)[0]

    def array(self, value: Any) -> np.ndarray:
        return np.asarray(self.plain(value))

    def _converted(self, value: Any) -> tuple[Any, int]:
        if not isinstance(value, _Inert | dict | list | tuple | np.ndarray):
            return value, 1
        if id(value) not in self._done:
            plain, elements = self._convert(value)
            if elements > MAX_ELEMENTS:
                raise ValueError(f"more than {MAX_ELEMENTS} elements")
            self._done[id(value)] = plain, elements
        return self._done[id(value)]

    def _convert(self, value: Any) -> tuple[Any, int]:
        if isinstance(value, _Chumpy | _Compressed):
            array = value.to_array(self.array)
            return array, 1 if array is None else array.size
        if isinstance(value, _Inert):
            return None, 1
        if isinstance(value, dict):
            items = {key: self._converted(item) for key, item in value.items()}
            return {k: plain for k, (plain, _) in items.items()}, 1 + sum(n for _, n in items.values())
        if isinstance(value, list | tuple):
            parts = [self._converted(item) for item in value]
            return type(value)(plain for plain, _ in parts), 1 + sum(n for _, n in parts)
        if value.dtype != object:
            return value.view(np.ndarray), value.size
        parts = [self._converted(item) for item in value.flat]
        plain = np.empty(value.shape, object)
        for index, (item, _) in zip(np.ndindex(value.shape), parts, strict=True):
            plain[index] = item
        return plain, 1 + sum(n for _, n in parts)


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


SCALAR_REBUILD = np.float64(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): rebuild_array,
    ("numpy.core.multiarray", "scalar"): SCALAR_REBUILD,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): CheckedArray,
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
        return _Converter().plain(_SafeUnpickler(stream, encoding="latin1").load())
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
