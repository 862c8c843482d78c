"""Draw how a person's box becomes the network's crop: `examples/pictures/box_to_crop.png`, shown in docs/demo.md.

    python examples/box_to_crop.py

The person does not exist; the geometry is the one that every script uses (`datasets/transforms.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.synthetic.generator import load_resources
from datasets.synthetic.wide import render_wide
from datasets.transforms import box_to_center_scale, crop_image
from utils.command_line import SentenceParser
from utils.geometry import BOX_MARGIN, BOX_UNIT, CROP_SIZE
from utils.io import atomic_path, require_free, require_writable

OUT = Path(__file__).resolve().parent / "pictures" / "box_to_crop.png"
PERSON = 24  # of the held-out rendered people: near the image's left edge
SIZE = (880, 404)
IMAGE_AT, CROP_AT = (92, 56), (622, 94)  # upper left corners on the canvas, pixels
INK, PALE, BOX_COLOR, SQUARE_COLOR = (25, 25, 25), (110, 110, 110), (214, 93, 14), (8, 98, 190)
TEXT_SIZE = 16
COLORS = 256  # of the palette, for a small file

Point = tuple[float, float]


@dataclass(frozen=True)
class Crop:
    """An image [H,W,3], a box in it, and what the rule makes of that."""

    image: np.ndarray
    box: tuple[float, float, float, float]  # x, y, width, height in pixels

    @property
    def center(self) -> Point:
        return box_to_center_scale(self.box)[0]

    @property
    def scale(self) -> float:
        return box_to_center_scale(self.box)[1]

    @property
    def square(self) -> tuple[float, float, float, float]:
        """x, y, width, height in pixels of the image."""
        side = BOX_UNIT * self.scale
        return (self.center[0] - side / 2, self.center[1] - side / 2, side, side)

    @property
    def pixels(self) -> np.ndarray:
        """The network's view [224,224,3]."""
        return crop_image(self.image, self.center, self.scale)


def example() -> Crop:
    """The person of docs/demo.md, with a box in whole pixels."""
    person = render_wide(load_resources("eval"), seed=0, index=PERSON)
    return Crop(person.image, tuple(np.round(person.view.box).tolist()))


def draw(crop: Crop) -> Image.Image:
    """The whole illustration."""
    canvas = Image.new("RGB", SIZE, "white")
    canvas.paste(Image.fromarray(crop.image), IMAGE_AT)
    canvas.paste(Image.fromarray(crop.pixels), CROP_AT)
    pen = ImageDraw.Draw(canvas)
    _draw_image(pen, crop)
    _draw_crop(pen)
    return canvas


def _draw_image(pen: ImageDraw.ImageDraw, crop: Crop) -> None:
    left, top = IMAGE_AT
    height, width = crop.image.shape[:2]
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=PALE)
    _text(pen, (left + width, top - 8), f"image, {width} x {height} px", PALE, "rs")
    bx, by, bw, bh = _placed(crop.box)
    sx, sy, side, _ = _placed(crop.square)
    _dashed(pen, (sx, sy, side, side), SQUARE_COLOR)
    pen.rectangle((bx, by, bx + bw, by + bh), outline=BOX_COLOR, width=3)
    cx, cy = bx + bw / 2, by + bh / 2
    pen.ellipse((cx - 5, cy - 5, cx + 5, cy + 5), fill=SQUARE_COLOR, outline="white", width=1)

    _text(pen, (cx, by - 7), f"w = {bw:.0f}", BOX_COLOR, "ms")
    _text(pen, (bx + bw + 8, by + bh * 0.8), f"h = {bh:.0f}", BOX_COLOR, "lm")
    _text(pen, (bx + bw + 8, cy), "center", SQUARE_COLOR, "lm")
    pen.line((cx + 6, cy, bx + bw + 5, cy), fill=SQUARE_COLOR, width=1)
    _measure(pen, (sx, sx + side), sy - 12, SQUARE_COLOR)
    _text(pen, (sx, top - 29), f"side = {BOX_MARGIN} x longer side of the box", SQUARE_COLOR, "ls")
    _text(pen, (sx, top - 8), f"= {BOX_MARGIN} x {max(bw, bh):.0f} = {side:.0f} px", SQUARE_COLOR, "ls")
    scale = f"scale = side / {BOX_UNIT:.0f} px = {crop.scale:.3f}"
    _text(pen, (sx, sy + side + 22), scale, SQUARE_COLOR, "ls")


def _draw_crop(pen: ImageDraw.ImageDraw) -> None:
    left, top = CROP_AT
    middle = top + CROP_SIZE // 2
    pen.line((left - 48, middle, left - 20, middle), fill=SQUARE_COLOR, width=3)
    pen.polygon([(left - 12, middle), (left - 22, middle - 6), (left - 22, middle + 6)], fill=SQUARE_COLOR)
    _dashed(pen, (left - 2, top - 2, CROP_SIZE + 3, CROP_SIZE + 3), SQUARE_COLOR)
    _text(pen, (left, top - 10), f"crop, {CROP_SIZE} x {CROP_SIZE} px", SQUARE_COLOR, "ls")
    _text(pen, (left, top + CROP_SIZE + 22), "black where it leaves the image", INK, "ls")


def _placed(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """A box of the image on the canvas."""
    return (box[0] + IMAGE_AT[0], box[1] + IMAGE_AT[1], box[2], box[3])


def _text(pen: ImageDraw.ImageDraw, at: Point, text: str, color: tuple[int, int, int], anchor: str) -> None:
    font = ImageFont.load_default(TEXT_SIZE)
    pen.text(at, text, fill=color, font=font, anchor=anchor, stroke_width=2, stroke_fill="white")


def _measure(
    pen: ImageDraw.ImageDraw, span: tuple[float, float], y: float, color: tuple[int, int, int]
) -> None:
    pen.line((span[0], y, span[1], y), fill=color, width=1)
    for x in span:
        pen.line((x, y - 5, x, y + 5), fill=color, width=1)


def _dashed(pen: ImageDraw.ImageDraw, box: tuple[float, ...], color: tuple[int, int, int]) -> None:
    x, y, width, height = box
    for start in np.arange(0, width, 12):
        stop = min(start + 7, width)
        for side in (y, y + height):
            pen.line((x + start, side, x + stop, side), fill=color, width=3)
        for side in (x, x + width):
            pen.line((side, y + start, side, y + stop), fill=color, width=3)


def main(argv: list[str] | None = None) -> int:
    parser = SentenceParser(description="Draw how a person's box becomes the network's crop.")
    parser.add_argument("--out", type=Path, default=OUT, help="PNG file (default: that of docs/demo.md)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    args = parser.parse_args(argv)
    out = args.out
    try:
        require_free(out, args.overwrite)
        require_writable(out.parent)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    small = draw(example()).quantize(COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    with atomic_path(out, args.overwrite) as temporary:
        small.save(temporary, optimize=True)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    run_script(main)
