"""Self-contained HTML pages from Jinja2 templates: everything is in the file, and texts are escaped."""

from __future__ import annotations

import base64
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utils.io import atomic_write
from utils.io.marks import PAGE

if TYPE_CHECKING:
    from jaxtyping import UInt8

JPEG_QUALITY = 85
NOT_PRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def write_page(path: str | os.PathLike, template: Path, replace: bool = True, **values: Any) -> None:
    """Write the page of a template whole or not at all; missing folders are made.

    Args:
        template: extends `base.html.j2` of this folder. Its scripts need the attribute `nonce="{{ nonce }}"`: the
            page's content policy forbids all others, and every request to the network.
        replace: a page that is there.
        values: of the template. Generators among them are consumed piece by piece, so they may be larger than memory.

    Raises:
        OSError: the page cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if hasattr(value, "__html__") else printable(value),
    )
    environment.filters |= {"image_uri": image_uri, "quote": quote_name}
    nonce = secrets.token_urlsafe(16)  # new for each page: no text in it can have known it
    with atomic_write(path, "w", replace) as file:
        file.writelines(environment.get_template(template.name).generate(mark=PAGE, nonce=nonce, **values))


def printable(value: object) -> str:
    """The value as text, with the replacement character for what HTML and XML cannot hold."""
    return NOT_PRINTABLE.sub("\ufffd", str(value))


def quote_name(name: str) -> str:
    """A file name as a part of an address; bytes that are no text come back as they were."""
    return quote(name, safe="!'()*", errors="surrogateescape")


def image_uri(image: UInt8[np.ndarray, "H W 3"]) -> str:
    """An RGB image as a data URI: JPEG, or PNG where that is smaller (drawings of few colours)."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    png = cv2.imencode(".png", bgr)[1].tobytes()
    kind, data = ("png", png) if len(png) <= len(jpeg) else ("jpeg", jpeg)
    return data_uri(f"image/{kind}", data)


def data_uri(kind: str, data: bytes) -> str:
    """Bytes of a media type as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
