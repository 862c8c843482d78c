"""Standard streams that never end a run: closed ones are opened, and output that cannot be written is dropped."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

_reported = []  # whether lost output was reported


def keep_streams() -> None:
    """Replace stdout and stderr of this process by streams whose writing never fails."""
    if os.name != "posix":
        return
    _open_closed()
    for number, name in ((1, "stdout"), (2, "stderr")):
        encoding = getattr(getattr(sys, name), "encoding", "utf-8")
        stream = io.BufferedWriter(_TolerantFile(number, "wb", closefd=False))
        lines = number == 2 or os.isatty(number)
        setattr(sys, name, io.TextIOWrapper(stream, encoding, "backslashreplace", line_buffering=lines))


def _open_closed() -> None:
    """Open closed streams on the other one or nowhere: a result file must not get their number and their messages."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number
            other = {1: sys.stderr, 2: sys.stdout}.get(number)
            if other is not None:
                os.dup2(other.fileno(), number)


class _TolerantFile(io.FileIO):
    def write(self, data) -> int:
        write(self.fileno(), bytes(data))
        return len(data)


def write(number: int, data: bytes) -> None:
    """Write all that stdout (1) or stderr (2) takes; what stderr does not take goes to stdout.

    A reader that went away (`| head`) has what it wanted; a full disk below stdout is reported once.
    """
    try:
        while data:
            data = data[os.write(number, data) :]
    except OSError as error:
        if number == 2:
            with contextlib.suppress(OSError):
                os.write(1, data)
        elif error.errno != errno.EPIPE and not _reported:
            _reported.append(number)
            write(2, f"The output cannot be written: {error.strerror}. The work goes on.\n".encode())
