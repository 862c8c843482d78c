"""Reading files of unknown origin without running what they hold; writing files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pickle
import re
import tempfile
import uuid
import warnings
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from utils.safe_pickle import (
    SCALAR_REBUILD,
    CheckedArray,
    DataFileError,
    UnsafeFileError,
    blocked,
    encode_latin1,
    foreign_calls,
    rebuild_array,
    safe_unpickle,
)

__all__ = [
    "DataFileError", "UnsafeFileError", "read_pickle", "load_npy", "load_npz", "load_mat", "load_torch",
    "atomic_path", "atomic_write", "save_npz_atomic", "save_json_atomic", "files_together",
    "writable_folder",
]  # fmt: skip

SHIPPED = Path(__file__).resolve().parents[1] / "data" / "open"
MAX_UNPACKED = 2**32  # bytes of a .npz file in memory; a small file can unpack to any size


def _existing(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        ships = SHIPPED in path.resolve().parents
        cure = " It ships with the project: git checkout -- data/open" if ships else ""
        raise FileNotFoundError(f"{path} does not exist or is not a file.{cure}")
    return path


def read_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle of arrays and plain values (Python 2 ones as latin-1); no code in it is run.

    chumpy arrays and scipy.sparse matrices come out as dense NumPy arrays, neither package is needed.
    Raises UnsafeFileError naming the blocked call, DataFileError for a damaged file.
    """
    path = _existing(path)
    with path.open("rb") as stream:
        return safe_unpickle(stream, str(path))


# ----------------------------------------------------------------------------------------------------- arrays


def _read_npy(stream: IO[bytes], what: str, objects: bool) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read_header(stream)
    if not dtype.hasobject:
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    if not objects:
        raise UnsafeFileError(
            f"{what} holds pickled Python objects, which may run code. "
            "Expected plain arrays of numbers or text."
        )
    array = safe_unpickle(stream, what)
    if not isinstance(array, np.ndarray):
        raise DataFileError(f"{what} does not hold an array.")
    return array.reshape(shape, order="F" if fortran else "C")


def load_npy(path: str | os.PathLike) -> np.ndarray:
    """Read a .npy file of numbers or text.

    Raises UnsafeFileError when it holds pickled objects, DataFileError when it is damaged.
    """
    path = _existing(path)
    try:
        return _read_npy(io.BytesIO(path.read_bytes()), str(path), objects=False)
    except DataFileError:
        raise
    except Exception as error:
        raise DataFileError(f"{path} is not a readable .npy file ({error}). Fetch it again.") from error


def load_npz(
    path: str | os.PathLike, *, objects: bool = False, only: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz file into memory.

    objects: also read arrays of Python objects (lists, dicts), through the allow-list of `read_pickle`.
    only: names to read, as far as they are there (default: all).
    Raises UnsafeFileError for object arrays (with `objects`: for blocked calls), DataFileError for damage and
    for more than `MAX_UNPACKED` bytes.
    """
    path = _existing(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            members = {name: info for name, info in members.items() if only is None or name in only}
            unpacked = sum(info.file_size for info in members.values())
            if unpacked > MAX_UNPACKED:
                raise DataFileError(
                    f"{path} unpacks to {unpacked:,} bytes, at most {MAX_UNPACKED:,} are read."
                )
            return {
                name: _read_npy(io.BytesIO(archive.read(info)), f"Array '{name}' of {path}", objects)
                for name, info in members.items()
            }
    except DataFileError:
        raise
    except Exception as error:
        raise DataFileError(f"{path} is not a readable .npz file ({error}). Fetch it again.") from error


def load_mat(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read a MATLAB file (up to version 7). Raises DataFileError when it is damaged or newer (HDF5)."""
    from scipy.io import loadmat

    path = _existing(path)
    try:
        return {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    except NotImplementedError as error:
        raise DataFileError(f"{path} is a MATLAB 7.3 (HDF5) file; expected an older format.") from error
    except Exception as error:
        raise DataFileError(f"{path} is not a readable MATLAB file ({error}). Fetch it again.") from error


# ------------------------------------------------------------------------------------------------ torch files


def _torch_allow_list() -> list[Any]:
    """NumPy scalars and arrays, as old trainers left them in checkpoints, under their old and new names."""
    dtypes = [
        type(np.dtype(code)) for code in ("?", "i1", "u1", "i2", "i4", "i8", "f2", "f4", "f8", "U1", "S1")
    ]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    rebuild = [(rebuild_array, f"{m}._reconstruct") for m in modules]
    rebuild += [(SCALAR_REBUILD, f"{m}.scalar") for m in modules]
    return [*rebuild, (CheckedArray, "numpy.ndarray"), np.dtype, *dtypes, (encode_latin1, "_codecs.encode")]


def load_torch(path: str | os.PathLike) -> Any:
    """Read a torch file (zip or pre-1.6 form) onto the CPU: tensors, numbers, strings and containers only.

    Raises UnsafeFileError naming the blocked call, DataFileError for a damaged file.
    """
    path = _existing(path)
    try:
        with torch.serialization.safe_globals(_torch_allow_list()), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _torch_error(path, error) from (None if isinstance(error, pickle.UnpicklingError) else error)


def _torch_error(path: Path, error: Exception) -> DataFileError:
    text = str(error).split("WeightsUnpickler error:")[-1]
    if isinstance(error, pickle.UnpicklingError):
        call = re.search(r"GLOBAL ([\w.]+)", text)
        foreign = [call.group(1)] if call else _foreign_calls_of(path)
        if foreign:
            return blocked(str(path), foreign[0])
    reason = (text.strip().splitlines() or [type(error).__name__])[0][:120]
    return DataFileError(
        f"{path} is not a readable checkpoint: it is damaged, cut short or not a torch file ({reason})."
    )


def _foreign_calls_of(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            return foreign_calls(stream)
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return [call for name in members for call in foreign_calls(io.BytesIO(archive.read(name)))]


# ---------------------------------------------------------------------------------------------------- writing


def writable_folder(path: str | os.PathLike) -> Path:
    """The folder, made where it is missing. Raises ValueError when no file can be made in it."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"The folder '{folder}' cannot be written to ({error.strerror}); give another one."
        ) from error
    return folder


@contextlib.contextmanager
def files_together(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder in `folder` whose files are moved up, and replace older ones, when the block succeeds.

    After an exception none is left and older files are untouched. Raises OSError where a folder has a file's name.
    """
    with tempfile.TemporaryDirectory(prefix=".", dir=folder, ignore_cleanup_errors=True) as aside:
        yield Path(aside)
        made = sorted(Path(aside).iterdir())
        if taken := next((path.name for path in made if (folder / path.name).is_dir()), None):
            raise IsADirectoryError(errno.EISDIR, f"'{taken}' is a folder")
        for path in made:
            os.replace(path, folder / path.name)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix) that replaces `path` when the block succeeds.

    After an exception nothing is left and an older `path` is untouched. Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{uuid.uuid4().hex[:8]}.tmp{path.suffix}"
    )  # `path`'s own may be at the limit
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open `path` ("wb", or "w" for UTF-8 text); readers see the old file or the whole new one."""
    with (
        atomic_path(path) as temporary,
        temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file,
    ):
        yield file


def save_npz_atomic(path: str | os.PathLike, **arrays: Any) -> None:
    """Write compressed arrays of numbers or text. Raises TypeError for arrays of Python objects."""
    plain = {name: np.asarray(value) for name, value in arrays.items()}
    for name, value in plain.items():
        if value.dtype.hasobject:
            raise TypeError(
                f"Array '{name}' holds Python objects; a .npz file of ours holds numbers and text only."
            )
    with atomic_write(path) as file:
        np.savez_compressed(file, **plain)


def save_json_atomic(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
