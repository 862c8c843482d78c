"""Reading users' pictures: four formats, any size and colour mode, EXIF rotation; refusals in words."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.export import DENSEPOSE_SUFFIX, PANEL_SUFFIX, PEOPLE_SUFFIX
from utils.io.marks import DEMO, is_marked

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)  # EXIF: sides change places
MIN_SIDE = 8  # px; nothing can be seen in less


class PictureError(ValueError):
    """A file that is no usable picture; the message is the reason."""


def list_pictures(source: str | Path) -> list[Path]:
    """Pictures of a folder (not of its sub-folders) in natural order, a2 before a10; or the file itself.

    A single file may have any extension. Hidden files are passed over, and so are earlier results of the demo:
    `x_result.png`, `x.densepose.png` and `x_people.jpg` that bear its mark. A link to nowhere is listed, so that
    reading reports it.
    Raises ValueError when there is no such place, it may not be read, or no picture is in it.
    """
    source = Path(source)
    try:
        if source.is_file():
            return [source]
        if not source.is_dir():
            raise ValueError(f"There is no picture or folder '{source}'.")
        found = [path for path in source.iterdir() if why_no_picture(path) is None]
    except OSError as error:
        raise ValueError(f"The picture or folder '{source}' cannot be read: {error.strerror}.") from error
    if not found:
        raise ValueError(f"The folder '{source}' holds no picture ({', '.join(EXTENSIONS)}).")
    return sorted(found, key=_natural)


def why_no_picture(path: Path) -> str | None:
    """What a folder's entry is that is not listed as a picture, in the plural; None for one that is."""
    if path.name.startswith("."):
        return "hidden files"
    if path.is_dir():
        return "sub-folders, whose pictures are not looked at"
    if path.suffix.lower() not in EXTENSIONS:
        return f"files that are no pictures ({', '.join(EXTENSIONS)})"
    if _is_broken_link(path):
        return None  # reading it reports it
    if not path.is_file():
        return "entries that are no files"
    return "earlier results of the demo" if is_result(path) else None


def passed_over(source: str | Path) -> Iterator[tuple[Path, str]]:
    """What of a folder is not listed as a picture, each with its reason."""
    if Path(source).is_dir():
        for path in sorted(Path(source).iterdir()):
            if reason := why_no_picture(path):
                yield path, reason


def is_result(path: Path) -> bool:
    """Whether a picture is one that the demo has written, as its name and its mark say."""
    return path.name.endswith((PANEL_SUFFIX, DENSEPOSE_SUFFIX, PEOPLE_SUFFIX)) and is_marked(path, DEMO)


def _is_broken_link(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(1, int(p), "") if p.isascii() and p.isdigit() else (0, 0, p) for p in parts], path.name


def read_picture(path: str | Path) -> np.ndarray:
    """RGB uint8 [H, W, 3] of a picture file, turned as its EXIF orientation says.

    Grey, palette, 16-bit (the upper 8) and CMYK are converted without colour profiles, transparency is put on white, an
    animation gives its first frame. Raises PictureError: not there, empty, none of the four formats, damaged or cut
    off, too small, or beyond Pillow's decompression-bomb limit. Damage that a decoder does not notice stays unnoticed.
    """
    return _read(path, _to_rgb)


def read_labels(path: str | Path) -> np.ndarray:
    """Label picture as uint8 [H, W]: the numbers as stored, palette indices included; of colours the first channel.

    Raises PictureError as `read_picture` does.
    """
    return _read(path, _to_numbers)


def picture_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of a picture as `read_picture` would give it, from its header; None if that cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                lies = image.getexif().get(ORIENTATION) in LYING
                return image.size[::-1] if lies else image.size
    except Exception:  # as many types as in `_read`
        return None


def _read(path: str | Path, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    path = Path(path)
    try:
        if _is_broken_link(path):
            raise PictureError("a link to a file that is not there")
        if path.stat().st_size == 0:
            raise PictureError("the file is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata must not fill the terminal
            with Image.open(path, formats=FORMATS) as image:
                # up to twice the limit Pillow only warns, and filters of warnings belong to all threads at once
                if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError
                return convert(image)
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down first") from None
    except UnidentifiedImageError:
        raise PictureError(f"not a picture in one of the formats {', '.join(FORMATS)}") from None
    except MemoryError:
        raise PictureError("not enough memory to read it") from None
    except FileNotFoundError:
        raise PictureError("the file is not there") from None
    except PermissionError:
        raise PictureError("the file may not be read (permission denied)") from None
    except Exception as error:  # decoders raise many types on damaged data; all mean the same to the user
        if isinstance(error, OSError) and error.strerror:  # of the operating system
            raise PictureError(f"the file cannot be read ({error.strerror})") from error
        raise PictureError(f"damaged or cut off ({str(error) or type(error).__name__})") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    if min(image.size) < MIN_SIDE:
        raise PictureError(
            f"{image.width} x {image.height} pixels are too few, at least {MIN_SIDE} a side are needed"
        )
    image.load()
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing about the pixels
        upright = image
    return np.ascontiguousarray(np.asarray(_to_8_bit_rgb(upright)))


def _to_numbers(image: Image.Image) -> np.ndarray:
    numbers = np.asarray(image)  # palette pictures give their indices
    numbers = numbers[..., 0] if numbers.ndim == 3 else numbers
    if numbers.dtype not in (np.uint8, np.bool_):
        raise PictureError(f"labels of {numbers.dtype}, expected 8 bits a pixel")
    return np.ascontiguousarray(numbers, np.uint8)


def _to_8_bit_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey comes as I;16 or I
        grey = np.asarray(image).astype(np.int64)
        eight = (np.clip(grey, 0, 65535) >> 8).astype(np.uint8)
        eight[grey == image.info.get("transparency", -1)] = 255
        return Image.fromarray(eight).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")
