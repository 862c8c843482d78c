"""The formats that the demo can write a person or a track in, by name: `demo.py --export`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from utils.export import DENSEPOSE_SUFFIX
from utils.export_bvh import bvh_bytes
from utils.export_mesh import obj_bytes, ply_bytes
from utils.export_motion import ExportMotion
from utils.export_params import amass_arrays, humans4d_arrays, vibe_arrays
from utils.export_person import ExportPerson
from utils.export_picture import densepose_bytes
from utils.file_marks import DEMO
from utils.gltf import glb_bytes
from utils.safe_io import atomic_write, save_npz_atomic

# Name -> ending of the file, its bytes.
FILES: dict[str, tuple[str, Callable[[ExportMotion], bytes]]] = {
    "obj": (".obj", obj_bytes),
    "ply": (".ply", ply_bytes),
    "glb": (".glb", glb_bytes),
    "bvh": (".bvh", bvh_bytes),
    "densepose": (DENSEPOSE_SUFFIX, densepose_bytes),
}
# Name -> ending of the npz file, its arrays.
ARRAYS: dict[str, tuple[str, Callable[[ExportMotion], dict[str, Any]]]] = {
    "amass": (".amass.npz", amass_arrays),
    "vibe": (".vibe.npz", vibe_arrays),
    "4dhumans": (".4dhumans.npz", humans4d_arrays),
}
EXPORTS = ("obj", "ply", "glb", "amass", "vibe", "4dhumans", "bvh", "densepose")
STILL_EXPORTS = ("obj", "ply", "densepose")
VIDEO_EXPORTS = tuple(name for name in EXPORTS if name not in STILL_EXPORTS)


def endings(names: Iterable[str] = EXPORTS) -> list[str]:
    """Endings of the files in these formats, each once."""
    return [(FILES.get(name) or ARRAYS[name])[0] for name in dict.fromkeys(names)]


def check_formats(names: Sequence[str], video: bool = False) -> None:
    """Raise ValueError for a name that is no format, and for one that has no motion where the person is a track."""
    unknown = [name for name in names if name not in EXPORTS]
    if unknown:
        raise ValueError(f"export takes any of {', '.join(EXPORTS)}; it was given {', '.join(unknown)}.")
    still = [name for name in names if name in STILL_EXPORTS]
    if video and still:
        raise ValueError(
            f"export of a video takes any of {', '.join(VIDEO_EXPORTS)}; it was given {', '.join(still)}. "
            "Those hold a single frame: for them give that frame as a picture."
        )


def write_exports(stem: str | os.PathLike, names: Sequence[str], person: ExportPerson) -> list[Path]:
    """Write the person in each format as `<stem><ending>`, each file whole or not at all.

    stem: path without an ending. Raises OSError where a file cannot be written.
    """
    return _write(stem, names, person.as_motion())


def write_track_exports(stem: str | os.PathLike, names: Sequence[str], motion: ExportMotion) -> list[Path]:
    """Write the motion in each format as `<stem><ending>`, each file whole or not at all.

    stem: path without an ending. Raises ValueError for a format without motion, OSError where a file cannot be written.
    """
    check_formats(names, video=True)
    return _write(stem, names, motion)


def _write(stem: str | os.PathLike, names: Sequence[str], motion: ExportMotion) -> list[Path]:
    written = []
    for name in dict.fromkeys(names):
        ending, make = FILES.get(name) or ARRAYS[name]
        path = Path(f"{os.fspath(stem)}{ending}")
        made = make(motion)
        if isinstance(made, dict):
            save_npz_atomic(path, DEMO, **made)
        else:
            with atomic_write(path) as file:
                file.write(made)
        written.append(path)
    return written
