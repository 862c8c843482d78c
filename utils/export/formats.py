"""The formats that the demo can write a person or a track in, by name: `demo.py --export`."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from utils.export.bvh import MIXAMO_NAMES, bvh_bytes
from utils.export.gltf import glb_bytes
from utils.export.mesh import obj_bytes, ply_bytes
from utils.export.motion import ExportMotion
from utils.export.params import amass_arrays, humans4d_arrays, vibe_arrays
from utils.export.person import DENSEPOSE_SUFFIX
from utils.export.tables import csv_bytes, trc_bytes
from utils.geometry import BOX_UNIT, CROP_SIZE
from utils.io import atomic_write, save_npz_atomic
from utils.io.marks import DEMO
from utils.packages import require_packages


def densepose_bytes(still: ExportMotion) -> bytes:
    """IUV of the 224 px crop as a PNG file: cv2.imread gives part 0..24, 255 U, 255 V in this order.

    Each pixel of the 56 px map becomes 4 x 4, so no part number is mixed. Readers of RGB see (V, U, part).
    """
    iuv, center, scale = (still.arrays[name][0] for name in ("iuv", "center", "scale"))
    enlarged = iuv.repeat(CROP_SIZE // iuv.shape[1], axis=1).repeat(CROP_SIZE // iuv.shape[2], axis=2)
    text = PngInfo()
    text.add_text(
        "Description",
        "DensePose IUV. Channels as cv2.imread gives them: part 0..24, 255 U, 255 V; as RGB: 255 V, 255 U, part. "
        f"The {CROP_SIZE} px crop: the square of {BOX_UNIT * float(scale):.2f} px around "
        f"({center[0]:.2f}, {center[1]:.2f}) of the image; {still.source()}",
    )
    text.add_text("Software", DEMO)
    stream = io.BytesIO()
    image = np.ascontiguousarray(enlarged[::-1].transpose(1, 2, 0))
    Image.fromarray(image).save(stream, format="PNG", pnginfo=text)
    return stream.getvalue()


# Name -> ending of the file, and its bytes or, of an npz file, its arrays.
FORMATS: dict[str, tuple[str, Callable[[ExportMotion], bytes | dict[str, Any]]]] = {
    "obj": (".obj", obj_bytes),
    "ply": (".ply", ply_bytes),
    "glb": (".glb", glb_bytes),
    "amass": (".amass.npz", amass_arrays),
    "vibe": (".vibe.npz", vibe_arrays),
    "4dhumans": (".4dhumans.npz", humans4d_arrays),
    "bvh": (".bvh", bvh_bytes),
    "bvh-mixamo": (".mixamo.bvh", partial(bvh_bytes, names=MIXAMO_NAMES)),
    "csv": (".csv", csv_bytes),
    "trc": (".trc", trc_bytes),
    "densepose": (DENSEPOSE_SUFFIX, densepose_bytes),
}
PACKAGES = {"obj": "trimesh", "ply": "trimesh", "glb": "pygltflib"}
EXPORTS = tuple(FORMATS)
STILL_EXPORTS = ("obj", "ply", "densepose")
VIDEO_EXPORTS = tuple(name for name in EXPORTS if name not in STILL_EXPORTS)


def endings(names: Iterable[str] = EXPORTS) -> list[str]:
    """Endings of the files in these formats, each once."""
    return [FORMATS[name][0] for name in dict.fromkeys(names)]


def format_of(name: str) -> str | None:
    """The format that a file name ends in, in letters of either case; None for none of them."""
    found = [kind for kind in FORMATS if name.lower().endswith(FORMATS[kind][0])]
    return max(found, key=lambda kind: len(FORMATS[kind][0]), default=None)


def check_formats(names: Sequence[str], video: bool = False) -> None:
    """Raise ValueError for a name that is no format, and for one that has no motion where the person is a track."""
    unknown = [name for name in names if name not in EXPORTS]
    if unknown:
        raise ValueError(f"export takes any of {', '.join(EXPORTS)}; it was given {', '.join(unknown)}.")
    still = [name for name in names if name in STILL_EXPORTS]
    if video and still:
        raise ValueError(
            f"export of a video takes any of {', '.join(VIDEO_EXPORTS)}; it was given {', '.join(still)}. "
            "Those hold a single frame: for them give that frame as an image."
        )


def require_export_packages(names: Iterable[str]) -> None:
    """Raise ImportError where a package that writes one of these formats is not installed."""
    for name in names:
        if name in PACKAGES:
            require_packages(f"--export {name}", "export", PACKAGES[name])


def write_exports(stem: str | os.PathLike, names: Sequence[str], motion: ExportMotion) -> list[Path]:
    """Write a person in each format as `<stem><ending>`, each file whole or not at all.

    Args:
        stem: path without an ending.
        names: of `EXPORTS`; for a track, of those that have motion.
        motion: the person, of one image or over time.

    Returns:
        The paths of the files.

    Raises:
        ValueError: for a format that cannot hold the motion.
        OSError: where a file cannot be written.
    """
    check_formats(names, video=not motion.is_still)
    return [write_export(Path(f"{os.fspath(stem)}{FORMATS[name][0]}"), name, motion) for name in dict.fromkeys(names)]


def write_export(path: Path, name: str, motion: ExportMotion, replace: bool = True) -> Path:
    """Write a person in one format, as `write_exports` does, to a path of any ending; returns the path.

    Without `replace` raises FileExistsError where the name is taken.
    """
    made = FORMATS[name][1](motion)
    if isinstance(made, dict):
        save_npz_atomic(path, DEMO, replace, **made)
    else:
        with atomic_write(path, replace=replace) as file:
            file.write(made)
    return path
