"""The images of a user's file or folder: which files are images, in what order, and what the others are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from utils.export import DENSEPOSE_SUFFIX, PANEL_SUFFIX, PEOPLE_SUFFIX
from utils.images import is_broken_link
from utils.io.marks import DEMO, is_marked

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def list_images(source: str | Path) -> list[Path]:
    """Images of a folder (not of its sub-folders) in natural order, a2 before a10; or the file itself.

    A single file may have any extension. Hidden files are passed over, and so are earlier results of the demo:
    `x_result.png`, `x.densepose.png` and `x_people.jpg` that bear its mark. A link to nowhere is listed, so that
    reading reports it.

    Raises:
        ValueError: there is no such file or folder, it may not be read, or no image is in it.
    """
    source = Path(source)
    try:
        if source.is_file():
            return [source]
        if not source.is_dir():
            raise ValueError(f"There is no image or folder '{source}'.")
        found = [path for path in source.iterdir() if why_not_listed(path) is None]
    except OSError as error:
        raise ValueError(f"The image or folder '{source}' cannot be read: {error.strerror}.") from error
    if not found:
        raise ValueError(f"The folder '{source}' holds no image ({', '.join(EXTENSIONS)}).")
    return sorted(found, key=_natural)


def passed_over(source: str | Path) -> Iterator[tuple[Path, str]]:
    """The entries of a folder that are not listed as images, each with its reason."""
    if Path(source).is_dir():
        for path in sorted(Path(source).iterdir()):
            if reason := why_not_listed(path):
                yield path, reason


def why_not_listed(path: Path) -> str | None:
    """Reason, in the plural, why an entry of a folder is not listed as an image; None for one that is."""
    if path.name.startswith("."):
        return "hidden files"
    if path.is_dir():
        return "sub-folders, whose images are not looked at"
    if path.suffix.lower() not in EXTENSIONS:
        return f"files that are no images ({', '.join(EXTENSIONS)})"
    if is_broken_link(path):
        return None  # reading it reports it
    if not path.is_file():
        return "entries that are no files"
    is_result = path.name.endswith((PANEL_SUFFIX, DENSEPOSE_SUFFIX, PEOPLE_SUFFIX)) and is_marked(path, DEMO)
    return "earlier results of the demo" if is_result else None


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(1, int(p), "") if p.isascii() and p.isdigit() else (0, 0, p) for p in parts], path.name


def require_pixels(name: str, size: tuple[int, int], most: float) -> None:
    """Raise ValueError where an image or frame of this size (width, height) has more than `most` pixels."""
    if size[0] * size[1] > most:
        raise ValueError(
            f"{name}: {size[0]} x {size[1]} pixels are more than {most / 1e6:g} million; scale it down first."
        )
