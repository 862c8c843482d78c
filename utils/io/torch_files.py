"""Torch's files (zip or pre-1.6 form) read without torch's unpickler: dense tensors on the CPU, numbers, containers.

A tensor is a view of a storage; both are made here, on sizes that were checked against the file.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.io.arrays import BLOCK, checked_shape, open_member, open_zip, read_exactly
from utils.io.limits import Budget, DataFileError
from utils.io.pickle_machine import PickleMachine
from utils.io.pickle_values import Call, Name, PickleError, call
from utils.io.pickles import Names, Resolver

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}
_PLAIN_DTYPES = {str(dtype): dtype for dtype in _DTYPES.values()} | {
    f"torch.{name}": getattr(torch, name)
    for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")
    if hasattr(torch, name)
}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what the pre-1.6 form begins with
_NOT_DENSE = ("torch._utils._rebuild_", "torch.serialization._get_layout", "torch.sparse", "torch.nested")

Fill = Callable[[str, np.ndarray], None]  # the name of a storage, its bytes [N] uint8


def read_torch(path: Path, budget: Budget) -> Any:
    """The content of a torch file. Raises UnsafeFileError, DataFileError; any other Exception means damage."""
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip:
        with open_zip(path, budget) as archive:
            return _read_zip(archive, str(path), budget)
    budget.take(path.stat().st_size)
    return _read_old(path.read_bytes(), str(path), budget)


def _read_zip(archive: zipfile.ZipFile, what: str, budget: Budget) -> Any:
    members = {info.filename: info for info in archive.infolist()}
    root = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
    if root is None:
        raise ValueError("it holds no data.pkl")
    order = members.get(f"{root}byteorder")
    if order is not None and open_member(archive, order).read(8) != b"little":
        raise ValueError("it was written on a machine of another byte order")

    def fill(key: str, memory: np.ndarray) -> None:
        info = members[f"{root}data/{key}"]
        if info.file_size != len(memory):
            raise ValueError(f"a storage of {len(memory)} bytes has {info.file_size} in the file")
        read_exactly(open_member(archive, info), memory)

    pickle = members[f"{root}data.pkl"]
    budget.take(pickle.file_size)
    names = TorchNames(what, budget)
    value = PickleMachine(open_member(archive, pickle).read(), budget, names.find, names.storage).run()
    return TorchResolver(budget, fill).plain(value)


def _read_old(data: bytes, what: str, budget: Budget) -> Any:
    names, position, parts = TorchNames(what, budget), 0, []
    for _ in range(5):  # two numbers that tell the form, the machine, the content, the storages' names
        machine = PickleMachine(data, budget, names.find, names.storage, position)
        parts.append(machine.run())
        position = machine.position
        if len(parts) == 2 and parts != [_MAGIC, _PROTOCOL]:
            raise ValueError("it begins as no torch file does")
    _, _, system, value, keys = parts
    if type(system) is not dict or system.get("little_endian") is not True or type(keys) is not list:
        raise ValueError("it was written on a machine of another byte order")
    places: dict[Any, tuple[int, int]] = {}
    for key in keys:
        dtype, count = names.storages[key].args[1:]
        if int.from_bytes(data[position : position + 8], "little") != count:
            raise ValueError("a storage of another size than its tensors say")
        places[key] = position + 8, count * dtype.itemsize
        position += 8 + count * dtype.itemsize

    def fill(key: str, memory: np.ndarray) -> None:
        start, length = places[key]
        if start + length > len(data):
            raise ValueError("it ends early")
        for at in range(0, length, BLOCK):
            size = min(BLOCK, length - at)
            memory[at : at + size] = np.frombuffer(data, np.uint8, size, start + at)

    return TorchResolver(budget, fill).plain(value)


# ------------------------------------------------------------------------------------------------ names, calls


class TorchNames(Names):
    """The names of torch that weights mention, beside NumPy's; and the storages that they name."""

    def __init__(self, what: str, budget: Budget) -> None:
        super().__init__(what, budget)
        self.storages: dict[str, Call] = {}
        self.known |= {
            "torch._utils._rebuild_tensor": lambda *args: _tensor_call(*args),
            "torch._utils._rebuild_tensor_v2": lambda *args: _tensor_call(*args[:4]),
            "torch._utils._rebuild_tensor_v3": lambda *args: _tensor_call(*args[:4], args[6]),
            "torch._utils._rebuild_parameter": lambda data, *rest: data,
            "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
            "torch._tensor._rebuild_from_type_v2": lambda make, kind, args, state: call(make, args),
            "torch.nn.parameter.Parameter": lambda data, *rest: data,
            "torch.Tensor": None,
            "torch.Size": lambda sizes=(): checked_shape(sizes),
            "torch.device": lambda *place: str(place[0])[:40] if place else None,
            "collections.Counter": self._dictionary,
            **dict.fromkeys(_PLAIN_DTYPES),
        }

    def find(self, module: str, name: str) -> Name:
        if module in ("torch", "torch.cuda", "torch.storage") and name in _DTYPES:
            return Name(name)
        full = f"{module}.{name}"
        if full not in self.known and full.startswith(_NOT_DENSE):
            raise DataFileError(
                f"{self.what} has a tensor that holds no dense values (made by {full[:100]}); weights are dense."
            )
        return super().find(module, name)

    def storage(self, pid: Any) -> Call:
        """The call for a storage, of which the file says type, name, place and number of elements."""
        ends = ((), (None,))
        if type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage" or pid[5:] not in ends:
            raise PickleError("an object outside the file")
        _, kind, key, _, count = pid[:5]
        if type(kind) is not Name or kind.full not in _DTYPES or type(key) is not str:
            raise PickleError("a storage of an unknown type")
        (count,) = checked_shape(count)
        args = key, _DTYPES[kind.full], count
        known = self.storages.setdefault(key, Call("storage", *args))
        if known.args != args:
            raise PickleError("a storage of two types")
        return known


def _tensor_call(storage: Any, offset: Any, size: Any, stride: Any, dtype: Name | None = None) -> Call:
    return Call("tensor", storage, offset, size, stride, dtype)


class TorchResolver(Resolver):
    """A `Resolver` that also makes tensors; those of one storage share it, as when they were written."""

    def __init__(self, budget: Budget, fill: Fill) -> None:
        super().__init__(budget)
        self.fill = fill

    def of_name(self, name: Name) -> torch.dtype | None:
        return _PLAIN_DTYPES.get(name.full)

    def of_call(self, call: Call) -> Any:
        if call.kind == "storage":
            return self._storage(*call.args)
        return self._tensor(*call.args) if call.kind == "tensor" else super().of_call(call)

    def _storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        self.budget.take(count * dtype.itemsize)
        storage = torch.empty(count, dtype=dtype)
        memory = storage.view(torch.uint8)
        self.fill(key, memory.numpy())
        if dtype is torch.bool:
            memory.clamp_(max=1)  # torch takes it for granted
        return storage

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, dtype: Any) -> Tensor:
        if type(storage) is not Call or storage.kind != "storage":
            raise PickleError("a tensor without its storage")
        memory = self.plain(storage)
        if dtype is not None:
            if dtype.full == "torch.bool":
                raise PickleError("truth values in a storage of another type")
            memory = memory.view(torch.uint8).view(_PLAIN_DTYPES[dtype.full])
        size, stride, (offset,) = checked_shape(size), checked_shape(stride), checked_shape(offset)
        if len(size) != len(stride):
            raise PickleError("a tensor of an impossible shape")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if 0 not in size and last >= len(memory):
            raise PickleError("a tensor that reaches beyond its storage")
        written_out = math.prod(max(n, 1) for n in size) * memory.dtype.itemsize
        self.budget.take(max(0, written_out - memory.nbytes))  # a few bytes can stand for a large one
        return torch.as_strided(memory, size, stride, offset if 0 not in size else 0)
