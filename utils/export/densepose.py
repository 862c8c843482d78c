"""Whole-image DensePose maps as the files that other programs read: `demo.py --densepose`.

One record a preset: which files, their names and folders, channels, colours, numbers. docs/densepose.md says which
program reads which; the forms are those of the programs' own loaders.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from utils.images import write_image
from utils.io import atomic_write, save_npz_atomic
from utils.io.marks import DEMO
from utils.renderer.dense_map import CHANNELS, DenseMap

if TYPE_CHECKING:
    from jaxtyping import Shaped, UInt8

FOLDER = "densepose"  # of all maps, in the folder of results
Palette = Literal["parula", "viridis"]
COLORMAPS = {"parula": cv2.COLORMAP_PARULA, "viridis": cv2.COLORMAP_VIRIDIS}
VIRIDIS_0, BLACK = (68, 1, 84), (0, 0, 0)


@dataclass(frozen=True)
class MapFile:
    """A file of a preset and what it holds."""

    # Below the preset's folder. {name} is the image's file name, {stem} that without its ending, {id} the stem without
    # the "_0" that DressCode's images of people end on.
    name: str
    channels: tuple[str, ...] = ("part",)  # fields of `DenseMap` in the file's order; RGB of an image
    palette: Palette | None = None  # parts are shown as its colours
    background: tuple[int, int, int] = BLACK  # RGB, with a palette
    dtype: Literal["uint8", "float32", "float64"] = "uint8"  # floats: an array [C,H,W] of U and V in 0..1
    key: str = ""  # of an array in a .npz file; without it the array is a .npy file
    is_stretched: bool = False  # U and V are stretched until the largest is 255


@dataclass(frozen=True)
class Preset:
    """The files that programs of one kind read."""

    files: tuple[MapFile, ...]
    size: tuple[int, int] | None = None  # width and height of the map; None: the image's own

    @property
    def colors(self) -> MapFile | None:
        """The file that shows parts as colours, which a video can show, too; None where pixels are numbers."""
        return next((file for file in self.files if file.palette), None)

    @property
    def has_charts(self) -> bool:
        """Whether U and V are in it."""
        return any("u" in file.channels for file in self.files)


PRESETS: dict[str, Preset] = {
    # The loaders of IDM-VTON take the file as it is, those of HR-VITON and StableVITON resize it.
    "viton": Preset((MapFile("image-densepose/{name}", palette="parula"),), size=(768, 1024)),
    "parts": Preset((MapFile("densepose/{stem}.png"),)),
    "uv-npz": Preset((
        MapFile("dense/{id}_5.png"),
        MapFile("dense/{id}_5_uv.npz", ("u", "v"), dtype="float32", key="uv"),
    )),
    "iuv-rgb": Preset((MapFile("{stem}_iuv.png", ("part", "u", "v")),)),
    "iuv-bgr": Preset((MapFile("{stem}_IUV.png", ("v", "u", "part")),)),
    "leffa": Preset((MapFile("{stem}_densepose.png", ("u", "v", "part"), is_stretched=True),)),
    "dreampose": Preset((MapFile("{stem}_densepose.npy", ("u", "v"), dtype="float64"),)),
    "magicanimate": Preset((MapFile("{stem}.png", palette="viridis", background=VIRIDIS_0),)),
    "controlnet": Preset((MapFile("{stem}.png", palette="parula"),)),
}  # fmt: skip


def check_presets(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no preset."""
    if unknown := [name for name in names if name not in PRESETS]:
        raise ValueError(f"densepose takes any of {', '.join(PRESETS)}; it was given {', '.join(map(str, unknown))}.")


def map_paths(
    out_dir: Path, names: Iterable[str], image: str, stem: str
) -> Iterator[tuple[str, MapFile, Path]]:
    """Preset, file and path of each map of an image.

    Args:
        out_dir: the folder of results.
        names: of presets; each counts once.
        image: its file name.
        stem: what results of the image begin with.
    """
    for name in dict.fromkeys(names):
        for file in PRESETS[name].files:
            place = file.name.format(name=image, stem=stem, id=stem.removesuffix("_0"))
            yield name, file, out_dir / FOLDER / name / place


@functools.cache
def part_colors(palette: Palette, background: tuple[int, int, int]) -> UInt8[np.ndarray, "25 3"]:
    """RGB of the background and of the parts 1..24: OpenCV's colour map at 255/24 part, whole numbers."""
    values = (np.arange(CHANNELS) * (255 / (CHANNELS - 1))).astype(np.uint8)
    colors = np.ascontiguousarray(cv2.applyColorMap(values[:, None], COLORMAPS[palette])[:, 0, ::-1])
    colors[0] = background
    return colors


def file_pixels(file: MapFile, dense: DenseMap) -> Shaped[np.ndarray, "..."]:
    """What a file holds of a map: bytes [H,W] or [H,W,3] (RGB) of an image, floats [C,H,W] of an array."""
    if file.palette is not None:
        return part_colors(file.palette, file.background)[dense.part]
    planes = [getattr(dense, channel) for channel in file.channels]
    if file.dtype != "uint8":
        values = np.stack(planes).astype(file.dtype)
        values /= 255
        return values
    if file.is_stretched:
        top = max(int(dense.u.max(initial=0)), int(dense.v.max(initial=0)), 1)
        stretched = (np.arange(256) * (255 / top)).clip(0, 255).astype(np.uint8)
        pairs = zip(file.channels, planes, strict=True)
        planes = [plane if channel == "part" else stretched[plane] for channel, plane in pairs]
    return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)


def write_map(path: Path, file: MapFile, dense: DenseMap, replace: bool) -> None:
    """Write a file of a preset, whole or not at all, with the demo's mark. Raises OSError."""
    pixels = file_pixels(file, dense)
    if file.dtype == "uint8":
        write_image(path, pixels, replace, is_fine=True)
    elif file.key:
        save_npz_atomic(path, DEMO, replace, **{file.key: pixels})
    else:
        with atomic_write(path, replace=replace) as stream:
            np.lib.format.write_array(stream, pixels, allow_pickle=False)
            stream.write(DEMO.encode())  # readers stop at the array's end
