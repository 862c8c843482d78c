"""Temporary files whose names say which process made them, so that what a killed one left can be removed."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from pathlib import Path

LEFTOVER = re.compile(r"\.danet-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp(?:\.\w+)?")
ABANDONED = 24 * 3600  # seconds after which a file of another machine, whose processes are unknown, is abandoned


@functools.cache
def _machine() -> str:
    """Eight digits for the machine, or the container, in which a process number means something."""
    try:
        processes = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        processes = 0
    return hashlib.sha256(f"{socket.gethostname()} {processes}".encode()).hexdigest()[:8]


def temporary_name(suffix: str = "") -> str:
    """A new hidden file name of this process; the final name, which may be as long as allowed, is not in it."""
    suffix = suffix if re.fullmatch(r"\.\w+", suffix) else ""
    return f".danet-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp{suffix}"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in a folder, and nothing else."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if LEFTOVER.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                if not _is_abandoned(path):
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _is_abandoned(path: Path) -> bool:
    machine, process = LEFTOVER.fullmatch(path.name).groups()
    if machine != _machine() or os.name != "posix":
        return time.time() - path.lstat().st_mtime > ABANDONED
    try:
        os.kill(int(process), 0)
    except (OSError, OverflowError) as error:  # of another user's process: permission denied
        return getattr(error, "errno", errno.ESRCH) == errno.ESRCH
    return False
