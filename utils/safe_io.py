"""Reading files of unknown origin without running what they hold (`safe_read`); writing files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from utils.file_budget import DataFileError, UnsafeFileError
from utils.safe_read import load_json, load_mat, load_npy, load_npz, load_torch, read_pickle

__all__ = [
    "DataFileError", "UnsafeFileError", "read_pickle", "load_npy", "load_npz", "load_mat", "load_torch", "load_json",
    "atomic_path", "atomic_write", "save_npz_atomic", "save_json_atomic", "files_together",
    "writable_folder",
]  # fmt: skip

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
            f"The folder '{folder}' cannot be written to ({error.strerror}); give another one, in the demo by --out_dir."
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
