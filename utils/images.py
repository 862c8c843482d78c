"""Image files as RGB bytes and back, and these as the networks take them: normalised tensors and back.

Files of four formats are read, of any size and colour mode, turned as their EXIF orientation says.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.geometry import FOCAL_USUAL
from utils.io import atomic_write
from utils.io.marks import DEMO, marked_image

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

    AnyImage = str | Path | Image.Image | UInt8[np.ndarray, "H W 3"]  # a file, of Pillow, or RGB bytes

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB values in 0..1
STD = (0.229, 0.224, 0.225)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
EXIF_IFD, FOCAL_35MM, FILM_DIAGONAL = 0x8769, 0xA405, math.hypot(36, 24)  # EXIF numbers; millimetres
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)  # EXIF: sides change places
MIN_SIDE = 8  # px; nothing can be seen in less
JPEG_ENDINGS = (".jpg", ".jpeg")
# Each pixel has its own colour, at the highest quality: colours that stand for numbers stay apart.
FINE_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
# Two thirds of the size of OpenCV's own choice, in less time; before 4.12 it has no choice of filters.
SMALL_PNG = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    SMALL_PNG += (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)
FROM_RGB = {1: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}


class ImageError(ValueError):
    """A file that is no usable image; the message is the reason.

    Attributes:
        size: width and height of a whole image that only has too few pixels; None for other files.
    """

    def __init__(self, reason: str, size: tuple[int, int] | None = None):
        super().__init__(reason)
        self.size = size


def to_tensor(image: UInt8[np.ndarray, "*B H W 3"]) -> Float[Tensor, "*B 3 H W"]:
    """RGB bytes as float32 in 0..1, channels first."""
    return torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3).to(torch.float32) / 255.0


def normalize(image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """RGB in 0..1 with zero mean and unit variance of ImageNet, as the networks were trained."""
    mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (image - mean) / std


def normalize_bytes(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "3 H W"]:
    """`to_tensor` and `normalize` in two passes over float32, for data workers."""
    mean, std = np.float32(MEAN), np.float32(STD)
    out = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    out *= (1 / (255 * std))[:, None, None]
    out -= (mean / std)[:, None, None]
    return out


def denormalize(image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """Inverse of `normalize`."""
    mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return image * std + mean


def to_bytes(image: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """A normalised image back as RGB bytes."""
    return (denormalize(image).clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()


def network_input(
    crops: Sequence[UInt8[np.ndarray, "224 224 3"]], normalise: bool = True
) -> Float[Tensor, "B 3 224 224"]:
    """RGB crops as a batch for the network; without `normalise`, in 0..1."""
    batch = to_tensor(np.stack(crops))
    return normalize(batch) if normalise else batch


# ------------------------------------------------------------------------------------------------------ files


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of an image file, turned as its EXIF orientation says.

    Grey, palette, 16-bit (the upper 8) and CMYK are converted without colour profiles, transparency is put on white, an
    animation gives its first frame.

    Raises:
        ImageError: not there, empty, none of the four formats, damaged or cut off, too small, or beyond Pillow's
            decompression-bomb limit. Damage that a decoder does not notice stays unnoticed.
    """
    return _read(path, _rgb)


def as_rgb(image: AnyImage) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of an image that is given as a file, by Pillow (both as in `read_image`) or as RGB bytes already.

    Raises:
        ImageError: the file or the image cannot be used.
        TypeError: it is none of these.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        with _as_image_errors():
            return np.ascontiguousarray(_rgb(image))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        _require_size(image.shape[1::-1])
        return image
    given = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise TypeError(
        f"An image is a path, a Pillow image or an array [H,W,3] of RGB bytes (uint8), several are a list; not {given}."
    )


def read_label_image(path: str | Path) -> UInt8[np.ndarray, "H W"]:
    """Numbers of a label image as stored, palette indices included; of colours the first channel.

    Raises ImageError as `read_image` does.
    """
    return _read(path, _stored_numbers)


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of an image as `read_image` would give it, from its header; None if that cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                return image.size[::-1] if image.getexif().get(ORIENTATION) in LYING else image.size
    except Exception:  # as many types as in `_read`
        return None


def stored_focal_length(image: str | Path | Image.Image) -> float | None:
    """Focal length in pixels by the image's EXIF data (equivalent on 35 mm film); None without or with an unlikely one.

    By the equivalent's definition a film of 36 x 24 mm has the image's diagonal.
    """
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            if not isinstance(image, Image.Image):
                image = stack.enter_context(Image.open(image, formats=FORMATS))
            millimetres = float(image.getexif().get_ifd(EXIF_IFD).get(FOCAL_35MM, 0))
            size = image.size
    except Exception:  # as many types as in `_read`
        return None
    ratio = millimetres / FILM_DIAGONAL
    return ratio * math.hypot(*size) if FOCAL_USUAL[0] <= ratio <= FOCAL_USUAL[1] else None


def is_broken_link(path: Path) -> bool:
    """Whether the path is a link to a file that is not there."""
    return path.is_symlink() and not path.exists()


def _read(path: str | Path, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    path = Path(path)
    with _as_image_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata must not fill the terminal
        if is_broken_link(path):
            raise ImageError("a link to a file that is not there")
        if path.stat().st_size == 0:
            raise ImageError("the file is empty (0 bytes)")
        with Image.open(path, formats=FORMATS) as image:
            # Up to twice the limit Pillow only warns, and filters of warnings belong to all threads at once.
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            return np.ascontiguousarray(convert(image))


@contextlib.contextmanager
def _as_image_errors() -> Iterator[None]:
    """Context in which every error is an ImageError that says why an image cannot be used."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # decoders raise many types on damaged data; all mean the same to the user
        raise ImageError(_why_unreadable(error)) from error


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down first"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in one of the formats {', '.join(FORMATS)}"
    if isinstance(error, MemoryError):
        return "not enough memory to read it"
    if isinstance(error, FileNotFoundError):
        return "the file is not there"
    if isinstance(error, PermissionError):
        return "the file may not be read (permission denied)"
    if isinstance(error, OSError) and error.strerror:  # of the operating system
        return f"the file cannot be read ({error.strerror})"
    return f"damaged or cut off ({str(error) or type(error).__name__})"


def _require_size(size: tuple[int, int]) -> None:
    if min(size) < MIN_SIDE:
        raise ImageError(f"{size[0]} x {size[1]} pixels are too few; at least {MIN_SIDE} a side are needed", size)


def _rgb(image: Image.Image) -> np.ndarray:
    image.load()
    lies = min(image.size) < MIN_SIDE and image.getexif().get(ORIENTATION) in LYING
    _require_size(image.size[::-1] if lies else image.size)
    is_file = image.format is not None
    with contextlib.suppress(Exception):  # unreadable EXIF says nothing about the pixels
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey comes as I;16 or I
        grey = np.asarray(image).astype(np.int64)
        # What Pillow itself converts to I keeps its values 0..255.
        is_eight = image.mode == "I" and not is_file and grey.max() <= 255
        eight = (np.clip(grey, 0, 65535) >> (0 if is_eight else 8)).astype(np.uint8)
        eight[grey == image.info.get("transparency", -1)] = 255
        return np.stack([eight] * 3, axis=-1)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layered.size, (255, 255, 255, 255)), layered)
    return np.asarray(image.convert("RGB"))


def _stored_numbers(image: Image.Image) -> np.ndarray:
    numbers = np.asarray(image)  # palette images give their indices
    numbers = numbers[..., 0] if numbers.ndim == 3 else numbers
    if numbers.dtype not in (np.uint8, np.bool_):
        raise ImageError(f"labels of {numbers.dtype}, expected 8 bits a pixel")
    return numbers.astype(np.uint8)


def write_image(
    path: Path, image: UInt8[np.ndarray, "H W *C"], replace: bool = True, is_fine: bool = False
) -> None:
    """Write a grey, RGB or RGBA image with the demo's mark, whole or not at all.

    Args:
        path: JPEG where it ends on .jpg or .jpeg, PNG (no loss) under every other name: readers look at the content.
        image: of the file.
        replace: a file that is there.
        is_fine: as little loss as JPEG has.

    Raises:
        OSError: also for an image that the format cannot hold: a JPEG has at most 65535 pixels a side.
    """
    is_jpeg = path.suffix.lower() in JPEG_ENDINGS
    channels = FROM_RGB[1 if image.ndim == 2 else image.shape[2]]
    bgr = image if channels is None else cv2.cvtColor(image, channels)
    settings = (FINE_JPEG if is_fine else ()) if is_jpeg else SMALL_PNG
    is_made, data = cv2.imencode(".jpg" if is_jpeg else ".png", bgr, settings)
    if not is_made:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise OSError(f"an image of {size} px cannot be stored as {path.suffix}")
    with atomic_write(path, replace=replace) as file:
        file.write(marked_image(data.tobytes(), DEMO))
