"""The errors of reading files, and how much memory one file may take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

LIMIT_VARIABLE = "DANET_MAX_FILE_BYTES"
DEFAULT_LIMIT = 2**32
_SHOWN = 2**62  # larger sizes are not written out


class DataFileError(ValueError):
    """A file is damaged or does not hold what was expected."""


class UnsafeFileError(DataFileError):
    """A file asks to run code; nothing of it was run."""


def unsafe_call(what: str, call: str) -> UnsafeFileError:
    """The error for the file `what`, which asks to call `call`."""
    return UnsafeFileError(
        f"{what} was refused: it asks to call {call}, which no data file needs. Nothing of it was run. "
        "Get the file from its publisher."
    )


def file_limit() -> int:
    """Bytes of memory that one file may take: the user's number, or `DEFAULT_LIMIT`."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19):
        raise DataFileError(
            f"{LIMIT_VARIABLE} is '{text[:40]}', expected a number of bytes such as {DEFAULT_LIMIT}."
        )
    return int(text)


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Context in which the process gets as much more memory as one file may take: for other packages' readers.

    Then MemoryError. Linux only; elsewhere nothing is limited. Threads share the limit.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + file_limit()
    if soft == resource.RLIM_INFINITY or wanted < soft:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Budget:
    """Counts the memory for the content of one file, before it is allocated."""

    def __init__(self, what: str) -> None:
        """`what` names the file in errors."""
        self.what, self.limit, self.taken = what, file_limit(), 0

    def take(self, count: int) -> None:
        """Count so many bytes more. Raises DataFileError when the file takes too many."""
        self.taken += count
        self.check(self.taken)

    def check(self, count: int) -> None:
        """Raise DataFileError when so many bytes are more than one file may take."""
        if count > self.limit:
            raise DataFileError(
                f"{self.what} needs {min(count, _SHOWN):,} bytes of memory or more, at most {self.limit:,} are given "
                f"to one file. If it comes from a source that you trust, set {LIMIT_VARIABLE} to a larger number."
            )
