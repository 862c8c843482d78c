"""Reading files of unknown origin: nothing in them runs, and their size in memory is checked before it is taken."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from utils.io.arrays import open_member, open_zip, read_npy
from utils.io.budget import Budget, DataFileError
from utils.io.folders import OPEN_DIR
from utils.io.matlab import parse_mat
from utils.io.pickles import safe_unpickle
from utils.io.torch_files import read_torch


def _existing(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        ships = OPEN_DIR in path.resolve().parents
        cure = " It ships with the project: git checkout -- data/open" if ships else ""
        raise FileNotFoundError(f"{path} does not exist or is not a file.{cure}")
    return path


def _content(path: Path, budget: Budget) -> bytes:
    budget.take(path.stat().st_size)
    return path.read_bytes()


def _damaged(path: Path, form: str, error: Exception) -> DataFileError:
    reason = (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__
    return DataFileError(f"{path} is not a readable {form} file ({reason}). Fetch it again.")


def read_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle of arrays and plain values (Python 2 ones as latin-1); no code in it is run.

    chumpy arrays and scipy.sparse matrices come out as dense NumPy arrays, neither package is needed.
    Raises UnsafeFileError naming the blocked call, DataFileError for a damaged file and, as all readers here, for one
    that needs more memory than `file_budget` gives.
    """
    path = _existing(path)
    budget = Budget(str(path))
    return safe_unpickle(_content(path, budget), str(path), budget)


def load_npy(path: str | os.PathLike) -> np.ndarray:
    """Read a .npy file of numbers or text.

    Raises UnsafeFileError when it holds pickled objects, DataFileError when it is damaged.
    """
    path = _existing(path)
    try:
        with path.open("rb") as stream:
            return read_npy(stream, str(path), Budget(str(path)), None)
    except DataFileError:
        raise
    except Exception as error:
        raise _damaged(path, ".npy", error) from error


def load_npz(
    path: str | os.PathLike, *, objects: bool = False, only: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz file into memory.

    objects: also read arrays of Python objects (lists, dicts), through the allow-list of `read_pickle`.
    only: names to read, as far as they are there (default: all).
    Raises UnsafeFileError for object arrays (with `objects`: for blocked calls), DataFileError for damage.
    """
    path = _existing(path)
    budget = Budget(str(path))
    try:
        with open_zip(path, budget) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            members = {name: info for name, info in members.items() if only is None or name in only}
            unpacked = sum(info.file_size for info in members.values())
            if unpacked > budget.limit:
                budget.refuse(unpacked)
            return {
                name: _member(archive, info, f"Array '{name}' of {path}", budget, objects)
                for name, info in members.items()
            }
    except DataFileError:
        raise
    except Exception as error:
        raise _damaged(path, ".npz", error) from error


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str, budget: Budget, objects: bool
) -> np.ndarray:
    def unpickled(stream: IO[bytes]) -> Any:
        budget.take(info.file_size)
        return safe_unpickle(stream.read(), what, budget)

    with open_member(archive, info) as stream:
        return read_npy(stream, what, budget, unpickled if objects else None)


def load_mat(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the arrays of numbers and cells of a MATLAB file (up to version 7).

    Raises DataFileError when it is damaged or newer (HDF5).
    """
    path = _existing(path)
    budget = Budget(str(path))
    try:
        return parse_mat(_content(path, budget), budget)
    except DataFileError:
        raise
    except NotImplementedError as error:
        raise DataFileError(f"{path} is a MATLAB 7.3 (HDF5) file; expected an older format.") from error
    except Exception as error:
        raise _damaged(path, "MATLAB", error) from error


def load_torch(path: str | os.PathLike) -> Any:
    """Read a torch file (zip or pre-1.6 form) onto the CPU: tensors, numbers, strings and containers only.

    Raises UnsafeFileError naming the blocked call, DataFileError for a damaged file.
    """
    path = _existing(path)
    try:
        return read_torch(path)
    except DataFileError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:120] or type(error).__name__
        raise DataFileError(
            f"{path} is not a readable checkpoint: it is damaged, cut short or not a torch file ({reason})."
        ) from error


def load_safetensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file and its text about them. Raises DataFileError for damage."""
    with _open_safetensors(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
        for tensor in tensors.values():
            if tensor.dtype is torch.bool:
                tensor.view(torch.uint8).clamp_(max=1)  # torch takes it for granted
        return tensors, file.metadata() or {}


def safetensors_shapes(path: str | os.PathLike) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """The shapes in a .safetensors file and its text about them; only its header is read.

    Raises DataFileError for damage.
    """
    with _open_safetensors(path) as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no dict)
        return shapes, file.metadata() or {}


@contextlib.contextmanager
def _open_safetensors(path: str | os.PathLike) -> Iterator[Any]:
    path = _existing(path)
    try:
        budget, size = Budget(str(path)), path.stat().st_size
        with path.open("rb") as raw:
            header = int.from_bytes(raw.read(8), "little")
        budget.take(size + 20 * min(header, size))  # about what the library makes of its header
        with safe_open(path, framework="pt") as file:
            yield file
    except DataFileError:
        raise
    except Exception as error:
        raise _damaged(path, "safetensors", error) from error


def load_json(path: str | os.PathLike, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    pairs: makes the dictionaries, as json's `object_pairs_hook`. Raises DataFileError for damage.
    """
    path = _existing(path)
    budget = Budget(str(path))
    data = _content(path, budget)
    budget.take(_size_of_json(data))
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=pairs)
    except DataFileError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataFileError(f"{path} is not valid JSON ({reason}). Fetch it again.") from error


def _size_of_json(data: bytes) -> int:
    """Bytes that Python's values of a JSON text take, or a little more."""
    signs = {b"{": 240, b"[": 96, b",": 42, b":": 64, b'"': 32}
    text = (2 if data.isascii() else 8) * len(data)
    return text + sum(size * data.count(sign) for sign, size in signs.items())
