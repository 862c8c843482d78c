"""The photographs that no training sees: their names, and the check of a training set against them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from utils.body import OPEN_DIR
from utils.io import DataFileError

HELD_OUT_FILE = OPEN_DIR / "photos_held_out.txt"


def read_held_out(path: str | Path = "") -> tuple[str, ...]:
    """File names of the photographs that are held out, one a line of the file; by default those of the shipped list.

    Raises DataFileError for a file that is missing, no text, or empty.
    """
    path = Path(path or HELD_OUT_FILE)
    try:
        names = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(f"The list of held-out photographs {path} cannot be read: {error}") from error
    found = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not found:
        raise DataFileError(f"The list of held-out photographs {path} is empty; expected a file name in each line.")
    return found


def require_held_out(imgnames: Iterable[str], held_out: Iterable[str], what: str) -> None:
    """Raise DataFileError where one of `imgnames` is a held-out photograph (by its name without folders)."""
    secret, names = set(held_out), list(imgnames)
    shared = [name for name in names if str(name).rpartition("/")[2] in secret]
    if shared:
        raise DataFileError(
            f"{what} holds {len(shared):,} of the held-out photographs, first {shared[0]}. They measure trainings and "
            "must not be trained on: write the labels without them, or give another list by --photos_held_out FILE."
        )
