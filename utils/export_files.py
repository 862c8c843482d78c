"""The formats that the demo can write a person in, by name: `demo.py --export`."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from utils.export_bvh import bvh_bytes
from utils.export_mesh import obj_bytes, ply_bytes
from utils.export_params import amass_arrays, humans4d_arrays, vibe_arrays
from utils.export_person import ExportPerson
from utils.geometry import CROP_SIZE
from utils.gltf import glb_bytes
from utils.safe_io import atomic_write, save_npz_atomic

# Name -> ending of the file, its bytes.
FILES: dict[str, tuple[str, Callable[[ExportPerson], bytes]]] = {
    "obj": (".obj", obj_bytes),
    "ply": (".ply", ply_bytes),
    "glb": (".glb", glb_bytes),
    "bvh": (".bvh", bvh_bytes),
    "densepose": (".densepose.png", lambda person: densepose_bytes(person)),
}
# Name -> ending of the npz file, its arrays.
ARRAYS: dict[str, tuple[str, Callable[[ExportPerson], dict]]] = {
    "amass": (".amass.npz", amass_arrays),
    "vibe": (".vibe.npz", vibe_arrays),
    "4dhumans": (".4dhumans.npz", humans4d_arrays),
}
EXPORTS = ("obj", "ply", "glb", "amass", "vibe", "4dhumans", "bvh", "densepose")


def check_formats(names: Sequence[str]) -> None:
    """Raise ValueError for a name that is no format."""
    unknown = [name for name in names if name not in EXPORTS]
    if unknown:
        raise ValueError(f"export takes any of {', '.join(EXPORTS)}; it was given {', '.join(unknown)}.")


def write_exports(stem: str | os.PathLike, names: Sequence[str], person: ExportPerson) -> list[Path]:
    """Write the person in each format as `<stem><ending>`, each file whole or not at all.

    stem: path without an ending. Raises OSError where a file cannot be written.
    """
    written = []
    for name in dict.fromkeys(names):
        ending, make = FILES.get(name) or ARRAYS[name]
        path = Path(f"{os.fspath(stem)}{ending}")
        made = make(person)
        if isinstance(made, dict):
            save_npz_atomic(path, **made)
        else:
            with atomic_write(path) as file:
                file.write(made)
        written.append(path)
    return written


def densepose_bytes(person: ExportPerson) -> bytes:
    """IUV of the 224 px crop as DensePose stores it: cv2.imread gives part 0..24, 255 U, 255 V in this order.

    Each pixel of the 56 px map becomes 4 x 4, so no part number is mixed. Readers of RGB see (V, U, part).
    """
    iuv = person.arrays["iuv"]
    enlarged = iuv.repeat(CROP_SIZE // iuv.shape[1], axis=1).repeat(CROP_SIZE // iuv.shape[2], axis=2)
    facts = person.facts
    text = PngInfo()
    text.add_text(
        "Description",
        "DensePose IUV. Channels as cv2.imread gives them: part 0..24, 255 U, 255 V; as RGB: 255 V, 255 U, part. "
        f"The {CROP_SIZE} px crop: the square of {200 * float(facts['scale']):.2f} px around "
        f"({facts['center'][0]:.2f}, {facts['center'][1]:.2f}) of the picture; {person.source()}",
    )
    stream = io.BytesIO()
    picture = np.ascontiguousarray(enlarged[::-1].transpose(1, 2, 0))
    Image.fromarray(picture).save(stream, format="PNG", pnginfo=text)
    return stream.getvalue()
