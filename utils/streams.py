"""Standard streams that never end a run: closed ones are opened, and what nobody takes is dropped."""

from __future__ import annotations

import errno
import io
import os
import sys

_told = []  # whether it was said that the output is lost


def keep_streams() -> None:
    """Replace stdout and stderr of this process by streams whose writing never fails."""
    if os.name != "posix":
        return
    _open_closed()
    for number, name in ((1, "stdout"), (2, "stderr")):
        encoding = getattr(getattr(sys, name), "encoding", "utf-8")
        stream = io.BufferedWriter(_Tolerant(number, "wb", closefd=False))
        lines = number == 2 or os.isatty(number)
        setattr(sys, name, io.TextIOWrapper(stream, encoding, "backslashreplace", line_buffering=lines))


def _open_closed() -> None:
    """Messages go where a stream is left; a result file must not become number 1 or 2 and take messages in."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number
            other = {1: sys.stderr, 2: sys.stdout}.get(number)
            if other is not None:
                os.dup2(other.fileno(), number)


class _Tolerant(io.FileIO):
    def write(self, data) -> int:
        write(self.fileno(), bytes(data))
        return len(data)


def write(number: int, data: bytes) -> None:
    """Write all that stdout (1) or stderr (2) takes; what stderr does not take goes to stdout.

    A reader that went away (`| head`) has what it wanted; that a disk is full below stdout is said once.
    """
    try:
        while data:
            data = data[os.write(number, data) :]
    except OSError as error:
        if number == 2:
            _try_stdout(data)
        elif error.errno != errno.EPIPE and not _told:
            _told.append(number)
            write(2, f"The output cannot be written: {error.strerror}. The work goes on.\n".encode())


def _try_stdout(data: bytes) -> None:
    try:
        os.write(1, data)
    except OSError:
        return  # nobody is left to be told
