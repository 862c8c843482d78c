"""The demo's `--html`: all people of a run on one page, made from the files that the run has written.

One person is in memory at a time. What cannot be read any more is listed as skipped.
"""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from utils.export import PANEL_SUFFIX, endings
from utils.file_marks import PAGE
from utils.people_report_page import (
    ShownPerson,
    page_end,
    page_middle,
    page_start,
    person_card,
    picture_figure,
)
from utils.run_record import RunRecord
from utils.safe_io import load_npz
from utils.safe_write import atomic_write, require_free

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

ENDINGS = (".npz", PANEL_SUFFIX, *endings())
SHAPES = {
    "cam": (3,), "cam_t": (3,), "betas": (10,), "box": (4,), "image_size": (2,), "score": (), "confidence": (),
}  # fmt: skip
MAY_BE_UNKNOWN = ("score",)  # NaN where no detector gave one
TEXTS = ("picture", "person")
PANEL_HEIGHT = 224
PAGE_NAME = "index.html"
BACKGROUND = (47, 52, 61)  # RGB under what is transparent; the body is light, on light and dark pages
MOST_PIXELS = 90_000_000  # as many as a picture may have that the demo reads
LONGEST_SIDE = 1000  # of the full pictures, pixels


def write_people_report(path: Path, out_dir: Path, record: RunRecord, faces: Int[np.ndarray, "F 3"]) -> None:
    """Write the page of the people in `out_dir` whole or not at all; `path` is a file of that folder.

    faces: of the body, the same for all people. Raises OSError where the page cannot be written, or is not the demo's.
    """
    require_free(path, True, PAGE)
    faces = np.asarray(faces)
    skipped, pictures, people = list(record.skipped), set(), 0
    # The page's head counts what was readable, so it is written after the people below it.
    with _spool(path.parent) as cards, _spool(path.parent) as figures:
        for stem in record.people:
            try:
                person = read_person(out_dir, stem, num_vertices=int(faces.max()) + 1)
            except (OSError, ValueError) as error:
                skipped.append((stem, str(error)))
                continue
            cards.write(person_card(person))
            people += 1
            picture = person.people_picture or person.stem  # names that are no text may print alike
            if picture not in pictures:
                pictures.add(picture)
                everybody = read_everybody(out_dir, person)
                figures.write("" if everybody is None else picture_figure(person, everybody))
        with atomic_write(path, "w") as page:
            page.write(page_start(people, len(pictures), len(skipped), record))
            _append(page, cards)
            page.write(page_middle())
            _append(page, figures)
            page.write(page_end(skipped, record, faces))


def read_person(out_dir: Path, stem: str, num_vertices: int) -> ShownPerson:
    """A person as the demo wrote them. Raises OSError and ValueError for files that are gone or damaged."""
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
    texts = {name: str(arrays.pop(name, "")) for name in (*TEXTS, "people_picture")}
    files = tuple(stem + ending for ending in ENDINGS if (out_dir / (stem + ending)).is_file())
    panel = read_picture(out_dir / f"{stem}{PANEL_SUFFIX}")
    if panel.shape[0] != PANEL_HEIGHT:
        raise ValueError(
            f"{stem}{PANEL_SUFFIX} is {panel.shape[0]} pixels high; expected {PANEL_HEIGHT}. Make it again."
        )
    return ShownPerson(stem=stem, files=files, panel=panel, **texts, **arrays)


def read_everybody(out_dir: Path, person: ShownPerson) -> UInt8[np.ndarray, "H W 3"] | None:
    """The full picture with all of its people drawn over it, made smaller; None when there is none."""
    try:
        picture = read_picture(out_dir / Path(person.people_picture).name)
    except (OSError, ValueError):
        return None
    share = min(1.0, LONGEST_SIDE / max(picture.shape[:2]))
    size = [max(1, round(side * share)) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def read_picture(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """RGB, transparent parts over `BACKGROUND`. Raises OSError, and ValueError for what is no picture."""
    is_bomb = _num_pixels(path) > MOST_PIXELS
    data = np.frombuffer(b"" if is_bomb else path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if picture is None or picture.dtype != np.uint8 or picture.ndim != 3:
        raise ValueError(f"{path} is not a readable picture. Make it again.")
    rgb = picture[..., 2::-1]
    if picture.shape[2] == 3:
        return rgb
    alpha = picture[..., 3:].astype(np.float32) / 255
    return (rgb * alpha + np.float32(BACKGROUND) * (1 - alpha)).round().astype(np.uint8)


def _num_pixels(path: Path) -> float:
    """As the picture's header says, before anything of it is decoded; infinitely many where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as header:
                return header.width * header.height
    except FileNotFoundError:
        raise
    except Exception:  # as many types as Pillow's decoders know
        return math.inf


def _spool(folder: Path) -> IO[str]:
    return TemporaryFile("w+", encoding="utf-8", dir=folder)


def _append(page: IO[str], spool: IO[str]) -> None:
    spool.seek(0)
    shutil.copyfileobj(spool, page)
