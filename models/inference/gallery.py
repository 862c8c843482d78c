"""What a run leaves about itself: `run.json`, and with `--html` one page of all its people, made from their files."""

from __future__ import annotations

import base64
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from models.inference.confidence import LOW_CONFIDENCE
from models.inference.run_record import FILE_NAME, Outcome, RunRecord
from utils.export import PANEL_SUFFIX, endings
from utils.geometry import CROP_SIZE, FOCAL_LENGTH
from utils.io import load_npz, require_free, why_unwritable
from utils.io.marks import PAGE
from utils.report import write_page

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

log = logging.getLogger(__name__)

PAGE_NAME = "index.html"
TEMPLATE = Path(__file__).with_name("gallery.html.j2")
VIEWER = Path(__file__).with_name("three.min.js")
ENDINGS = (".npz", PANEL_SUFFIX, *endings())
SHAPES = {
    "cam": (3,), "cam_t": (3,), "betas": (10,), "box": (4,), "image_size": (2,), "score": (), "confidence": (),
}  # fmt: skip
MAY_BE_UNKNOWN = ("score",)  # NaN where no detector gave one
TEXTS = ("picture", "person")
BACKGROUND = (47, 52, 61, 255)  # RGBA under what is transparent
MAX_PIXELS = 90_000_000  # as many as an image may have that the demo reads
MAX_SIDE = 1500  # of images on the page, pixels
UNIT = 1e-4  # of the page's vertices, metres; 16 bits reach 3.2 metres


def save_run(record: RunRecord, out_dir: Path, faces: Int[np.ndarray, "F 3"] | None = None) -> RunRecord:
    """Write `run.json`, and the page where the body's faces are given, and log the record's remarks.

    Returns:
        The record, with an outcome more where one of the two cannot be written: the results are there all the same.
    """
    for remark in record.remarks():
        log.warning("%s", remark)
    try:
        record.save(out_dir)
        if faces is not None:
            write_gallery(out_dir / PAGE_NAME, out_dir, record, faces)
    except OSError as error:
        reason = f"the record of the run cannot be written to '{out_dir}': {why_unwritable(error)}"
        log.error("%s", reason)
        return replace(record, outcomes=(*record.outcomes, Outcome(FILE_NAME, reason=reason)))
    return record


def write_gallery(path: Path, out_dir: Path, record: RunRecord, faces: Int[np.ndarray, "F 3"]) -> None:
    """Write the page of the people in `out_dir` whole or not at all; one person is in memory at a time.

    Args:
        path: the page, a file of `out_dir`.
        faces: vertex numbers of the body's triangles, the same for all people.

    Raises:
        OSError: the page cannot be written, or would replace a file of others.
    """
    require_free(path, True, PAGE)
    faces, skipped, images = np.asarray(faces), list(record.skipped), {}

    def people() -> Iterator[dict[str, Any]]:
        for stem in record.people:
            try:
                person = read_person(out_dir, stem, num_vertices=int(faces.max()) + 1)
            except (OSError, ValueError) as error:
                skipped.append((stem, str(error)))
                continue
            if person["people_picture"]:
                images.setdefault(person["people_picture"], stem)
            yield person

    def full_images() -> Iterator[tuple[str, str, UInt8[np.ndarray, "H W 3"]]]:
        for name, stem in images.items():
            try:
                yield name, stem, read_image(out_dir / Path(name).name)
            except (OSError, ValueError):
                continue

    write_page(
        path,
        TEMPLATE,
        people=people(),
        images=full_images(),
        skipped=skipped,
        record=record,
        faces=packed(faces, "<u2"),
        viewer=VIEWER.read_text(encoding="utf-8"),
        field_of_view=math.degrees(2 * math.atan(CROP_SIZE / 2 / FOCAL_LENGTH)),
        unit=UNIT,
        low_confidence=LOW_CONFIDENCE,
    )


def read_person(out_dir: Path, stem: str, num_vertices: int) -> dict[str, Any]:
    """A person as the demo wrote it, by the keys of its .npz file; the panel as RGB, and the names of all its files.

    Raises:
        OSError, ValueError: files that are gone or damaged.
    """
    path = out_dir / f"{stem}.npz"
    arrays = load_npz(path, only=(*SHAPES, *TEXTS, "vertices", "people_picture"))
    for name, shape in {**SHAPES, "vertices": (num_vertices, 3), **dict.fromkeys(TEXTS, ())}.items():
        found = arrays[name].shape if name in arrays else "nothing"
        if found != shape:
            raise ValueError(f"{path} should hold '{name}' {list(shape)}; found {found}. Make it again.")
        if name not in TEXTS and arrays[name].dtype.kind not in "iuf":
            raise ValueError(f"'{name}' of {path} should be numbers. Make it again.")
        if name not in (*TEXTS, *MAY_BE_UNKNOWN) and not np.isfinite(arrays[name]).all():
            raise ValueError(f"'{name}' of {path} is not finite; the weights may be damaged.")
    vertices = np.clip(np.round(arrays.pop("vertices") / UNIT), -(2**15), 2**15 - 1)
    return {
        **{name: array.tolist() for name, array in arrays.items()},
        **{name: str(arrays.get(name, "")) for name in (*TEXTS, "people_picture")},
        "stem": stem,
        "files": [stem + ending for ending in ENDINGS if (out_dir / (stem + ending)).is_file()],
        "panel": read_image(out_dir / f"{stem}{PANEL_SUFFIX}"),
        "vertices": packed(vertices, "<i2"),
    }


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of at most MAX_SIDE pixels a side, transparent parts over BACKGROUND.

    Raises:
        OSError, ValueError: no file, or no readable image.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow about large images
        try:
            with Image.open(file) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels")
                image.thumbnail((MAX_SIDE, MAX_SIDE))
                rgba = image.convert("RGBA")
        except Exception as error:  # as many types as Pillow's decoders know
            raise ValueError(f"{path} is not a readable image ({error}). Make it again.") from error
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, BACKGROUND), rgba).convert("RGB"))


def packed(values: np.ndarray, kind: str) -> str:
    """Numbers as base64 of their little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode("ascii")
