"""The IUV map of a still as DensePose stores it: a PNG of the 224 px crop."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from utils.export_motion import ExportMotion
from utils.file_marks import DEMO
from utils.geometry import CROP_SIZE


def densepose_bytes(still: ExportMotion) -> bytes:
    """IUV of the 224 px crop: cv2.imread gives part 0..24, 255 U, 255 V in this order.

    Each pixel of the 56 px map becomes 4 x 4, so no part number is mixed. Readers of RGB see (V, U, part).
    """
    iuv, center, scale = (still.arrays[name][0] for name in ("iuv", "center", "scale"))
    enlarged = iuv.repeat(CROP_SIZE // iuv.shape[1], axis=1).repeat(CROP_SIZE // iuv.shape[2], axis=2)
    text = PngInfo()
    text.add_text(
        "Description",
        "DensePose IUV. Channels as cv2.imread gives them: part 0..24, 255 U, 255 V; as RGB: 255 V, 255 U, part. "
        f"The {CROP_SIZE} px crop: the square of {200 * float(scale):.2f} px around "
        f"({center[0]:.2f}, {center[1]:.2f}) of the picture; {still.source()}",
    )
    text.add_text("Software", DEMO)
    stream = io.BytesIO()
    picture = np.ascontiguousarray(enlarged[::-1].transpose(1, 2, 0))
    Image.fromarray(picture).save(stream, format="PNG", pnginfo=text)
    return stream.getvalue()
