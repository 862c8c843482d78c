"""Draw `docs/results.png`, the image at the top of the README, from `examples/` and the shipped weights.

    python examples/make_readme_image.py --overwrite

Runs `demo.py` on two of the example crops and sets the columns of their result panels under captions.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import tempfile
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

import demo
from utils.command_line import SentenceParser
from utils.io import atomic_path, require_free

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "results.png"
EXAMPLES = ("rendered_2", "rendered_3")
# Columns of the demo's panel (docs/demo.md): left and right edge in pixels, caption.
COLUMNS = (
    (0, 224, "image"),
    (224, 448, "IUV of the body"),
    (448, 784, "IUV of the 24 parts"),
    (1008, 1232, "predicted body"),
    (1232, 1456, "from the side"),
)
ROW, CAPTION, GAP = 224, 28, 4  # pixels


def predict_panels(folder: Path) -> list[Image.Image]:
    """The demo's panels [224 x 1456] of `EXAMPLES`, on white. Raises RuntimeError where the demo fails."""
    for name in EXAMPLES:
        image = ROOT / "examples" / f"{name}.jpg"
        if code := demo.main(["--img_dir", str(image), "--out_dir", str(folder), "--body", "open"]):
            raise RuntimeError(f"demo.py ended with exit code {code} on {image}.")
    panels = [Image.open(folder / f"{name}_result.png").convert("RGBA") for name in EXAMPLES]
    return [Image.alpha_composite(Image.new("RGBA", p.size, "white"), p).convert("RGB") for p in panels]


def compose(panels: Sequence[Image.Image]) -> Image.Image:
    """One row for each panel, one column for each entry of `COLUMNS`, captions on top."""
    width = sum(right - left + GAP for left, right, _ in COLUMNS) - GAP
    canvas = Image.new("RGB", (width, CAPTION + len(panels) * (ROW + GAP) - GAP), "white")
    pen, font, x = ImageDraw.Draw(canvas), ImageFont.load_default(17), 0
    for left, right, caption in COLUMNS:
        pen.text((x + (right - left) / 2, CAPTION / 2), caption, fill=(40, 40, 40), font=font, anchor="mm")
        for row, panel in enumerate(panels):
            canvas.paste(panel.crop((left, 0, right, ROW)), (x, CAPTION + row * (ROW + GAP)))
        x += right - left + GAP
    return canvas


def main(argv: list[str] | None = None) -> int:
    parser = SentenceParser(description="Draw the README's image of results.")
    parser.add_argument("--out", type=Path, default=OUT, help="PNG file (default: the README's)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    args = parser.parse_args(argv)
    try:
        require_free(args.out, args.overwrite)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        canvas = compose(predict_panels(Path(folder)))
    with atomic_path(args.out, args.overwrite) as temporary:
        canvas.save(temporary, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    run_script(main)
