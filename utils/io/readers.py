"""Reading files of unknown origin: nothing in them runs, and their size in memory is checked before it is taken.

Every reader raises FileNotFoundError, DataFileError for a damaged file and for one that needs more memory than
`limits.file_limit` gives, and UnsafeFileError, naming the call, for one that asks to run code.
"""

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
from utils.io.limits import Budget, DataFileError
from utils.io.matlab import parse_mat
from utils.io.pickles import safe_unpickle
from utils.io.torch_files import read_torch

ROOT = Path(__file__).resolve().parents[2]
DATA_DIR = ROOT / "data"  # licensed files of the user
OPEN_DIR = DATA_DIR / "open"  # files that the project ships


@contextlib.contextmanager
def _opened(path: str | os.PathLike, problem: str) -> Iterator[tuple[Path, Budget]]:
    """The existing file and its budget; inside, other errors become DataFileError with `problem` and the cause."""
    path = Path(path)
    if not path.is_file():
        ships = OPEN_DIR in path.resolve().parents
        cure = " It ships with the project: git checkout -- data/open" if ships else ""
        raise FileNotFoundError(f"{path} does not exist or is not a file.{cure}")
    try:
        yield path, Budget(str(path))
    except DataFileError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__
        raise DataFileError(f"{path} {problem} ({reason}). Fetch it again.") from error


def _content(path: Path, budget: Budget) -> bytes:
    budget.take(path.stat().st_size)
    return path.read_bytes()


def read_pickle(path: str | os.PathLike) -> Any:
    """The value of a pickle: arrays and plain values (Python 2's texts as latin-1).

    chumpy arrays and scipy.sparse matrices come out as dense NumPy arrays, neither package is needed.
    """
    with _opened(path, "is not a readable pickle file") as (path, budget):
        return safe_unpickle(_content(path, budget), str(path), budget)


def load_npy(path: str | os.PathLike) -> np.ndarray:
    """The array of a .npy file of numbers or text. Raises UnsafeFileError for pickled objects."""
    with _opened(path, "is not a readable .npy file") as (path, budget), path.open("rb") as stream:
        return read_npy(stream, str(path), budget, None)


def load_npz(
    path: str | os.PathLike, *, objects: bool = False, only: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name.

    Args:
        path: of the file.
        objects: also read arrays of Python objects (lists, dicts), as `read_pickle` does; else UnsafeFileError.
        only: names to read, as far as they are there (default: all).
    """
    with _opened(path, "is not a readable .npz file") as (path, budget), open_zip(path, budget) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        members = {name: info for name, info in members.items() if only is None or name in only}
        budget.check(sum(info.file_size for info in members.values()))
        return {
            name: _member(archive, info, f"Array '{name}' of {path}", budget, objects)
            for name, info in members.items()
        }


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str, budget: Budget, objects: bool
) -> np.ndarray:
    def unpickled(stream: IO[bytes]) -> Any:
        budget.take(info.file_size)
        return safe_unpickle(stream.read(), what, budget)

    with open_member(archive, info) as stream:
        return read_npy(stream, what, budget, unpickled if objects else None)


def load_mat(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of numbers and cells of a MATLAB file by name. Raises DataFileError for version 7.3 (HDF5), too."""
    with _opened(path, "is not a readable MATLAB file") as (path, budget):
        try:
            return parse_mat(_content(path, budget), budget)
        except NotImplementedError as error:
            raise DataFileError(f"{path} is a MATLAB 7.3 (HDF5) file; expected an older format.") from error


def load_torch(path: str | os.PathLike) -> Any:
    """The content of a torch file (zip or pre-1.6 form): CPU tensors, numbers, strings and containers only."""
    with _opened(path, "is not a readable checkpoint") as (path, budget):
        return read_torch(path, budget)


def load_safetensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file and its text about them."""
    with _open_safetensors(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
        for tensor in tensors.values():
            if tensor.dtype is torch.bool:
                tensor.view(torch.uint8).clamp_(max=1)  # torch takes it for granted
        return tensors, file.metadata() or {}


def safetensors_shapes(path: str | os.PathLike) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """The shapes in a .safetensors file and its text about them; only its header is read."""
    with _open_safetensors(path) as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no dict)
        return shapes, file.metadata() or {}


@contextlib.contextmanager
def _open_safetensors(path: str | os.PathLike) -> Iterator[Any]:
    with _opened(path, "is not a readable safetensors file") as (path, budget):
        size = path.stat().st_size
        with path.open("rb") as raw:
            header = int.from_bytes(raw.read(8), "little")
        budget.take(size + 20 * min(header, size))  # about what the library makes of its header
        with safe_open(path, framework="pt") as file:
            yield file


def load_json(path: str | os.PathLike, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        pairs: makes the dictionaries, as json's `object_pairs_hook`.
    """
    with _opened(path, "is not valid JSON") as (path, budget):
        data = _content(path, budget)
        budget.take(_size_of_json(data))
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=pairs)


def _size_of_json(data: bytes) -> int:
    """Bytes that Python's values of a JSON text take, or a little more."""
    signs = {b"{": 240, b"[": 96, b",": 42, b":": 64, b'"': 32}
    text = (2 if data.isascii() else 8) * len(data)
    return text + sum(size * data.count(sign) for sign, size in signs.items())
