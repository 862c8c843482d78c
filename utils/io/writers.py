"""Writing files whole or not at all, over nothing but results, with a sentence where it fails.

One rule for every command: a file that is there is replaced with `--overwrite` only, and only when it bears the mark of
what is written there (`utils.io.marks`). What a killed process left is removed by the next that writes into the
folder (`utils.io.temporary`).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import math
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from utils.io.marks import is_marked
from utils.io.temporary import remove_leftovers, temporary_name

IS_THERE = "is there; --overwrite replaces results"
NOT_OURS = "is none of our results, so it is kept, with --overwrite too; move it away or give another place"
REASONS = {
    errno.ENOSPC: "the disk is full; make room on it or give another folder",
    errno.EDQUOT: "your share of the disk is used up; make room or give another folder",
    errno.EFBIG: "the file grows larger than allowed here; give another folder",
    errno.EROFS: "the file system is read-only; give another folder",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "permission denied; give a folder that you may write to"),
    errno.ENAMETOOLONG: "the name is too long; give shorter ones",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a part of the path is a file; give another folder"),
    errno.EISDIR: "a folder has this name; move it away or give another one",
    errno.EIO: "the disk reports an error; check it or give another folder",
}
FAST = 1  # level of zlib; the usual 6 takes twice as long for files that are a thirtieth smaller
SAMPLE, WORTHWHILE = 1024, 0.8  # of an array: numbers that are tried, and to what share they must shrink
LEAST_SPACE = 2**16  # bytes; with less a disk counts as full


class WriteError(OSError):
    """A file that cannot be written; the message is a sentence that names it and says what to do."""


def _shown(path: str | os.PathLike) -> str:
    """A file name as text: bytes that are not UTF-8 become U+FFFD."""
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def why_unwritable(error: OSError) -> str:
    """Why the operating system refused to write, and what to do about it."""
    return REASONS.get(error.errno) or error.strerror or str(error)


# ----------------------------------------------------------------------------------------- what may be replaced


def overwrite_problem(path: str | os.PathLike, overwrite: bool, *marks: str) -> str | None:
    """Why the file at `path` must not be replaced, to be read after its name; None when it may be, or is not there.

    A link is replaced itself, never what it leads to.

    Args:
        path: that the command writes to.
        overwrite: whether the user asked to replace results.
        marks: of the files that this command writes there; without any, every file may be replaced with `overwrite`.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return None
    mode = path.stat().st_mode if path.exists() else stat.S_IFREG  # a link to nowhere
    if stat.S_ISDIR(mode):
        return "is a folder; move it away or give another name"
    if not stat.S_ISREG(mode):
        return "is a device or a pipe, no file; give the name of a file"
    if marks and not is_marked(path, *marks):
        return NOT_OURS
    return None if overwrite else IS_THERE


def require_free(path: str | os.PathLike, overwrite: bool, *marks: str) -> None:
    """Raise FileExistsError, with a sentence, for a file that must not be replaced (see `overwrite_problem`)."""
    if reason := overwrite_problem(path, overwrite, *marks):
        raise FileExistsError(f"'{_shown(path)}' {reason}.")


def writable_folder(path: str | os.PathLike) -> Path:
    """The folder, made where it is missing, rid of what killed runs left. Raises ValueError when it cannot be used."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"a full disk refuses this, not the empty file")
    except OSError as error:
        raise ValueError(f"The folder '{folder}' cannot be written to: {why_unwritable(error)}.") from error
    remove_leftovers(folder)
    return folder


def require_writable(path: str | os.PathLike) -> None:
    """Raise ValueError where no folder can be made at the path and written to; makes none."""
    path = Path(path).absolute()
    writable_folder(next(folder for folder in (path, *path.parents) if folder.exists()))


_remove_leftovers_once = functools.cache(remove_leftovers)


# ------------------------------------------------------------------------------------------------------ writing


def raise_if_full(folder: Path, cause: Exception | None = None) -> None:
    """Raise the error of a full disk that a library has not reported as one."""
    if shutil.disk_usage(folder).free < LEAST_SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from cause


@contextlib.contextmanager
def named_errors(path: Path, anywhere: bool = False) -> Iterator[None]:
    """Context in which an OSError about `path`, a file beside it or any file (`anywhere`) becomes a WriteError."""
    try:
        yield
    except OSError as error:
        is_elsewhere = error.filename is not None and Path(os.fsdecode(error.filename)).parent != path.parent
        if error.errno is None or (is_elsewhere and not anywhere):
            raise
        raise WriteError(f"'{_shown(path)}' cannot be written: {why_unwritable(error)}.") from error


def move(source: Path, target: Path, replace: bool) -> None:
    """Rename a file; without `replace`, raise FileExistsError where the name was taken in the meantime."""
    if replace:
        os.replace(source, target)
        return
    try:
        os.link(source, target)  # a rename would replace
    except FileExistsError:
        raise FileExistsError(f"'{_shown(target)}' {IS_THERE}.") from None
    except OSError:  # a disk without links
        if os.path.lexists(target):
            raise FileExistsError(f"'{_shown(target)}' {IS_THERE}.") from None
        os.replace(source, target)
        return
    source.unlink()


@contextlib.contextmanager
def files_together(
    folder: Path, last: str = "", may_replace: Callable[[Path], bool] = lambda path: True
) -> Iterator[Path]:
    """Yield a hidden folder in `folder` whose files are moved up, and replace older ones, when the block succeeds.

    After an exception none is left and older files are as they were. Raises WriteError, and FileExistsError for names
    that are taken.

    Args:
        folder: that exists.
        last: name of the file that says that the others are there; the older one goes first and the new one comes
            last, so that a process that is killed in between leaves a set without it.
        may_replace: asked for each file whose name is taken.
    """
    aside = folder / temporary_name()
    try:
        aside.mkdir()
        yield aside
        _move_up(aside, folder, last, may_replace)
    except WriteError as error:  # names the hidden folder
        raise WriteError(str(error).replace(_shown(aside), _shown(folder))) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise WriteError(why_unwritable(error)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move_up(aside: Path, folder: Path, last: str, may_replace: Callable[[Path], bool]) -> None:
    names = sorted((path.name for path in aside.iterdir()), key=lambda name: (name == last, name))
    older = [name for name in reversed(names) if os.path.lexists(folder / name)]
    for name in older:
        require_free(folder / name, may_replace(folder / name))
    backup, moved = aside / temporary_name(), []
    backup.mkdir()
    try:
        for name in older:
            os.replace(folder / name, backup / name)
        for name in names:
            move(aside / name, folder / name, replace=False)
            moved.append(name)
    except BaseException:
        for name in moved:
            (folder / name).unlink()
        for path in backup.iterdir():
            os.replace(path, folder / path.name)
        raise


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix) that becomes `path` when the block succeeds.

    After an exception nothing is left and an older `path` is untouched. Missing folders are made. Raises WriteError
    where the disk refuses, and without `replace` FileExistsError when the name is taken.
    """
    path = Path(path)
    with named_errors(path, anywhere=True):
        path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers_once(path.parent.absolute())
    temporary = path.with_name(temporary_name(path.suffix))
    try:
        with named_errors(path):
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            move(temporary, path, replace)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb", replace: bool = True) -> Iterator[IO[Any]]:
    """Open `path` ("wb", or "w" for UTF-8 text); readers see the old file or the whole new one."""
    with (
        atomic_path(path, replace) as temporary,
        temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file,
    ):
        yield file


def save_npz_atomic(path: str | os.PathLike, mark: str = "", replace: bool = True, /, **arrays: Any) -> None:
    """Write a compressed .npz file of numbers or text. Raises TypeError for arrays of Python objects.

    Args:
        path: of the file.
        mark: by which the file is known as ours.
        replace: an older file; else FileExistsError.
        arrays: by name.
    """
    plain = {name: np.asarray(value) for name, value in arrays.items()}
    for name, value in plain.items():
        if value.dtype.hasobject:
            raise TypeError(f"Array '{name}' holds Python objects; our .npz files hold numbers and text only.")
    save_arrays(path, plain, mark, replace)


def save_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray], mark: str, replace: bool) -> None:
    """Write arrays of any kind as a .npz file, those compressed that shrink by it."""
    with atomic_path(path, replace) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
        archive.comment = mark.encode()
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getbuffer(), _packing(array), FAST)


def _packing(array: np.ndarray) -> int:
    """The zip method for an array: most floats hardly shrink, and trying takes longer than all other arrays."""
    if array.dtype.kind == "f":
        sample = array.reshape(-1)[:SAMPLE].tobytes()
        if len(zlib.compress(sample, FAST)) > WORTHWHILE * len(sample):
            return zipfile.ZIP_STORED
    return zipfile.ZIP_DEFLATED


def save_json_atomic(path: str | os.PathLike, value: Any, replace: bool = True) -> None:
    """Write `value` as indented JSON, which has no numbers that are not finite: they become null."""
    with atomic_write(path, "w", replace) as file:
        json.dump(_without_nan(value), file, indent=1, allow_nan=False)
        file.write("\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
