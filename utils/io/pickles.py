"""Pickles read without running what they hold: arrays, plain containers, and dense arrays for foreign objects.

The official body files hold chumpy and scipy.sparse objects; both come out as NumPy arrays, and neither package is
needed. Whatever else a file asks to call is refused by name. `pickle_machine` builds values and notes calls; this
module gives what the calls of data files stand for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from utils.io.arrays import array_of, checked_shape, plain_dtype
from utils.io.limits import Budget, DataFileError, unsafe_call
from utils.io.pickle_machine import PickleMachine
from utils.io.pickle_values import Call, Name, PickleError, as_key, call

MAX_DEPTH = 100
_MODULES = {"copy_reg": "copyreg", "__builtin__": "builtins"}
_SPARSE = ("csc_matrix", "csc_array", "csr_matrix", "csr_array")
_NUMBERS = frozenset({int, float, bool, complex, type(None)})


def safe_unpickle(data: bytes, what: str, budget: Budget) -> Any:
    """The value of a pickle; `what` names it in errors. Python 2's texts are read as latin-1.

    Raises UnsafeFileError naming the refused call, DataFileError for a damaged pickle.
    """

    def persistent(_: Any) -> Any:
        raise unsafe_call(what, "an object outside the file")

    try:
        return Resolver(budget).plain(PickleMachine(data, budget, Names(what, budget).find, persistent).run())
    except DataFileError:
        raise
    except Exception as error:
        raise DataFileError(
            f"{what} is not a readable pickle ({type(error).__name__}: {error}). Fetch the file again."
        ) from error


# ------------------------------------------------------------------------------------------------ names, calls


class Names:
    """Names that data files may mention, with the values of their calls."""

    def __init__(self, what: str, budget: Budget) -> None:
        self.what, self.budget = what, budget
        self.known: dict[str, Callable[..., Any] | None] = {
            "numpy.core.multiarray._reconstruct": self._array,
            "numpy.core.multiarray.scalar": self._scalar,
            "numpy.core.numeric._frombuffer": self._array_of_buffer,
            "numpy.ndarray": None,
            "numpy.dtype": lambda code, *flags: Call("dtype", code),
            "collections.OrderedDict": self._dictionary,
            "_codecs.encode": self._encoded,
            "copyreg._reconstructor": lambda kind, base, state: call(kind, ()),
            "builtins.object": None,
            "builtins.set": lambda items=(): set(self._keys(items)),
            "builtins.frozenset": lambda items=(): frozenset(self._keys(items)),
            "builtins.complex": _complex,
            "builtins.bytes": lambda: b"",  # as pickles below protocol 3 spell it
            "builtins.bytearray": lambda *args: bytearray(self._encoded(*args) if args else b""),
        }

    def find(self, module: str, name: str) -> Name:
        """The `Name` of an object in a module. Raises UnsafeFileError for one that no data file needs."""
        if module.split(".")[0] == "chumpy":
            return Name("chumpy", lambda *args: Call("chumpy"))
        if module.startswith("scipy.sparse") and name in _SPARSE:
            return Name("scipy.sparse", lambda *args: Call(name[:3]))
        full = f"{_MODULES.get(module, module).replace('numpy._core', 'numpy.core')}.{name}"
        if full not in self.known:
            raise unsafe_call(self.what, f"{module}.{name}"[:200])
        return Name(full, self.known[full])

    def _keys(self, items: Any) -> list[Any]:
        if type(items) not in (list, tuple, set, frozenset):
            raise PickleError("a set of no items")
        self.budget.take(120 * len(items))
        return [as_key(item) for item in items]

    def _dictionary(self, pairs: Any = ()) -> dict[Any, Any]:
        pairs = list(pairs.items()) if type(pairs) is dict else pairs
        kinds = (list, tuple)
        if type(pairs) not in kinds or not all(type(p) in kinds and len(p) == 2 for p in pairs):
            raise PickleError("a dictionary of no pairs")
        self.budget.take(240 * len(pairs))
        return {as_key(key): value for key, value in pairs}

    def _encoded(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str | bytes | bytearray) or encoding not in ("latin1", "latin-1"):
            raise PickleError("bytes written in an unusual way")
        self.budget.take(len(text))
        return text.encode("latin1") if isinstance(text, str) else bytes(text)

    def _array(self, kind: Any, shape: Any, code: Any) -> Call:
        if type(kind) is not Name or kind.full != "numpy.ndarray" or shape != (0,):
            raise PickleError("an array built in an unusual way")
        return Call("array")

    def _scalar(self, dtype: Any, content: Any) -> np.generic:
        content = self._encoded(content) if type(content) is str else content
        return array_of(content, dtype_of(dtype), (), False, self.budget)[()]

    def _array_of_buffer(
        self, content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
    ) -> np.ndarray:
        array = array_of(content, dtype_of(dtype), shape, order == "F", self.budget)
        return array if axes is None else array.transpose(checked_shape(axes))


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise PickleError("a complex number of no numbers")
    return complex(real, imaginary)


def dtype_of(value: Any) -> np.dtype:
    """A plain dtype, made anew from the code and the byte order of a call in a file."""
    if type(value) is not Call or value.kind != "dtype":
        raise PickleError("an array of neither numbers nor text")
    state = value.state
    is_plain = type(state) is tuple and len(state) >= 5 and all(part is None for part in state[2:5])
    if not (state is None or is_plain):  # structured
        raise PickleError("an array of neither numbers nor text")
    return plain_dtype(value.args[0], state[1] if state else "=")


def _is_object_dtype(value: Any) -> bool:
    return type(value) is Call and value.kind == "dtype" and value.args[0] in ("O", "O4", "O8")


# --------------------------------------------------------------------------------------------- what calls give


class Resolver:
    """Puts arrays in the place of calls, each object once however often the file refers to it.

    Foreign values without numbers become None. Refuses what would take too much memory when written out, for
    references to references let a small file stand for any number.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        # by id: the value (referenced, so that its id stays its own), the plain one, its bytes
        self._resolved: dict[int, tuple[Any, Any, int]] = {}
        self._depth = 0

    def plain(self, value: Any) -> Any:
        """`value` with arrays in the place of calls; lists and dictionaries are changed, not copied."""
        return self._sized(value)[0]

    def array(self, value: Any) -> np.ndarray:
        """The array that `value` stands for. Raises PickleError for anything else."""
        value = self.plain(value)
        if type(value) in _NUMBERS and value is not None:
            value = np.asarray(float(value))
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
            raise PickleError("an object without its array of numbers")
        return value

    def _sized(self, value: Any) -> tuple[Any, int]:
        """The plain value and its bytes when written out."""
        kind = type(value)
        if kind in _NUMBERS:
            return value, 8
        if kind in (str, bytes, bytearray):
            return value, 8 + 4 * len(value)
        if id(value) not in self._resolved:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise PickleError("values nested too deeply")
            plain, size = self._resolve(value)
            self._depth -= 1
            self.budget.check(size)
            self._resolved[id(value)] = value, plain, size
        return self._resolved[id(value)][1:]

    def _resolve(self, value: Any) -> tuple[Any, int]:
        if type(value) is dict:
            return self._in_place(value, list(value.items()), 100)
        if type(value) is list:
            return self._in_place(value, enumerate(value), 8)
        if type(value) is tuple:
            items, size = self._in_place(list(value), enumerate(value), 8)
            return tuple(items), size
        if type(value) is Call:
            self.budget.take(200)
            result = self.of_call(value)
            size = getattr(result, "nbytes", 8)
            holds_objects = isinstance(result, np.ndarray) and result.dtype == object
            return result, size + self._sized(value.state[-1])[1] if holds_objects else size
        if type(value) is Name:
            return self.of_name(value), 8
        return value, 100 * len(value) if isinstance(value, set | frozenset) else value.nbytes

    def _in_place(self, container: Any, items: Any, own: int) -> tuple[Any, int]:
        size = 64 + own * len(container)
        for key, item in items:
            if type(item) not in _NUMBERS:
                container[key], more = self._sized(item)
                size += more
        return container, size

    def of_name(self, name: Name) -> Any:
        """Value of a name that is not called: None."""
        return None

    def of_call(self, call: Call) -> Any:
        """The array that a call stands for; None for one without numbers."""
        if call.kind == "dtype":
            return dtype_of(call)
        if call.kind == "array":
            return self._array(call)
        state = call.state if type(call.state) is dict else {}
        return self._chumpy(state) if call.kind == "chumpy" else self._dense(state, call.kind == "csc")

    def _array(self, call: Call) -> np.ndarray:
        if type(call.state) is not tuple or len(call.state) not in (4, 5):
            raise PickleError("a damaged array")
        shape, dtype, fortran, content = call.state[-4:]
        if not _is_object_dtype(dtype):
            content = content.encode("latin1") if type(content) is str else content
            return array_of(content, dtype_of(dtype), shape, bool(fortran), self.budget)
        shape = checked_shape(shape)
        if type(content) is not list or len(content) != math.prod(shape):
            raise PickleError("a damaged array of objects")
        self.budget.take(8 * len(content))
        self.plain(content)
        array = np.empty(len(content), object)
        for index, item in enumerate(content):
            array[index] = item
        return array.reshape(shape)  # NumPy lists objects in C's order whatever the array's

    def _chumpy(self, state: dict[Any, Any]) -> np.ndarray | None:
        """The values of a chumpy array: they stand in `x`; `Select` picks them from another array `a`.

        Other expressions (the files hold some that are never used) have no values: None.
        """
        if "x" in state:
            return self.array(state["x"])
        if "a" not in state or "idxs" not in state:
            return None
        values, indices = self.array(state["a"]).ravel(), self.array(state["idxs"])
        self.budget.take(values.itemsize * indices.size)
        values, shape = values[indices], state.get("preferred_shape")
        return values if shape is None else values.reshape(checked_shape(self.plain(shape)))

    def _dense(self, state: dict[Any, Any], column_major: bool) -> np.ndarray:
        """A scipy.sparse csc/csr matrix, with checked indices; scipy's own code trusts them."""
        rows, cols = checked_shape(self.plain(state.get("_shape", state.get("shape"))))
        data, indices = self.array(state["data"]), self.array(state["indices"])
        self.budget.take(2 * rows * cols * data.itemsize)
        self.budget.take(32 * (data.size + rows + cols))
        indices, starts = indices.astype(np.int64), self.array(state["indptr"]).astype(np.int64)
        major, minor = (cols, rows) if column_major else (rows, cols)
        if (
            starts.shape != (major + 1,) or starts[0] != 0 or np.any(np.diff(starts) < 0)
            or data.ndim != 1 or data.shape != indices.shape or starts[-1] != len(data)
        ):  # fmt: skip
            raise PickleError("a sparse matrix with a damaged index")
        if len(indices) and not 0 <= indices.min() <= indices.max() < minor:
            raise PickleError("a sparse matrix with indices outside its shape")
        dense = np.zeros((major, minor), data.dtype)
        np.add.at(dense, (np.repeat(np.arange(major), np.diff(starts)), indices), data)
        return dense.T.copy() if column_major else dense
