"""Each preset's files, read as the programs' own loaders read them, and back from colours to parts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.export.densepose import BLACK, PRESETS, VIRIDIS_0, check_presets, map_paths, part_colors, write_map
from utils.io import load_npy
from utils.io.marks import DEMO, is_marked
from utils.renderer.dense_map import DenseMap

PARULA = """
53,42,135 37,60,163 20,80,194 4,97,223 8,110,221 14,122,216 20,132,212 15,144,208 11,156,203 6,166,198 22,173,185
38,179,172 55,185,159 86,187,144 114,189,130 145,191,116 170,189,105 192,188,96 216,186,86 228,192,74 240,199,60
252,206,46 251,220,36 250,235,25 249,251,14
"""
VIRIDIS = """
68,1,84 71,16,99 72,31,112 71,44,122 68,57,131 64,70,136 59,81,139 54,93,141 49,104,142 44,113,142 40,124,142 37,133,142
33,144,141 31,154,138 32,163,134 39,173,129 53,183,121 70,192,111 92,200,99 115,208,86 142,214,69 170,220,50 197,224,33
226,228,24 253,231,37
"""


@pytest.fixture(scope="module")
def dense():
    """Blocks of all parts, 96 x 64 px, with U and V that differ."""
    part = np.zeros((64, 96), np.uint8)
    part[8:56, 8:88] = np.random.default_rng(0).permutation(np.r_[np.arange(25), np.arange(5)]).reshape(5, 6).repeat(
        16, axis=1).repeat(16, axis=0)[:48, :80]  # fmt: skip
    rows, cols = np.mgrid[:64, :96].astype(np.uint8)
    return DenseMap(part, (cols * 2) * (part > 0), (rows * 3) * (part > 0))


@pytest.fixture
def written(dense, tmp_path):
    """Writes a preset's files of the map for an image; gives their paths by ending."""

    def write(preset: str, image: str = "000006_0.jpg"):
        paths = {}
        for _, file, path in map_paths(tmp_path, [preset], image, image.rpartition(".")[0]):
            write_map(path, file, dense, replace=False)
            assert is_marked(path, DEMO), "or --overwrite would take it for another's"
            paths[path.relative_to(tmp_path / "densepose" / preset).as_posix()] = path
        return paths

    return write


def to_parts(colors: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The part with the nearest colour."""
    distance = np.abs(colors[:, :, None].astype(int) - palette[None, None]).sum(axis=-1)
    return distance.argmin(axis=-1)


def test_palettes_are_opencvs():
    for palette, background, text in (("parula", BLACK, PARULA), ("viridis", VIRIDIS_0, VIRIDIS)):
        expected = np.array([[int(n) for n in color.split(",")] for color in text.split()])
        assert np.array_equal(part_colors(palette, background)[1:], expected[1:])
    assert tuple(expected[0]) == VIRIDIS_0
    assert part_colors("parula", BLACK)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["000006_0.jpg", "000006_0.JPEG", "000006_0.png", "000006_0.webp"])
def test_viton_has_the_images_name_and_colours_that_give_the_parts_back(written, dense, name):
    ((place, path),) = written("viton", name).items()
    assert place == f"image-densepose/{name}"
    with Image.open(path) as image:
        assert image.mode == "RGB" and image.format == ("JPEG" if "J" in name or "j" in name else "PNG")
        pixels = np.asarray(image)
    assert np.array_equal(to_parts(pixels, part_colors("parula", BLACK)), dense.part)
    assert np.abs(pixels[dense.part == 0].astype(int)).max() <= 2
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], pixels) or "jp" in name.lower()
    assert PRESETS["viton"].size == (768, 1024)


def test_parts_are_grey_numbers_that_become_one_hot(written, dense):
    ((place, path),) = written("parts").items()
    assert place == "densepose/000006_0.png"
    with Image.open(path) as image:
        assert image.mode == "L"
        label = np.asarray(image)
    one_hot = np.eye(25)[label]
    assert one_hot.shape == (64, 96, 25) and np.array_equal(one_hot.argmax(-1), dense.part)


def test_dresscode_finds_labels_and_uv_by_the_images_name(written, dense):
    paths = written("uv-npz")
    assert set(paths) == {"dense/000006_5.png", "dense/000006_5_uv.npz"}
    uv = np.load(paths["dense/000006_5_uv.npz"])["uv"]
    assert uv.dtype == np.float32 and uv.shape == (2, 64, 96) and uv.min() >= 0 and uv.max() <= 1
    assert np.array_equal((uv * 255).round().astype(np.uint8), np.stack([dense.u, dense.v]))
    assert np.array_equal(np.asarray(Image.open(paths["dense/000006_5.png"])), dense.part)
    assert set(written("uv-npz", "other.png")) == {"dense/other_5.png", "dense/other_5_uv.npz"}


def test_iuv_images_have_the_part_first_for_pillow_or_for_opencv(written, dense):
    planes = np.stack([dense.part, dense.u, dense.v], axis=-1)
    ((place, path),) = written("iuv-rgb").items()
    assert place == "000006_0_iuv.png" and np.array_equal(np.asarray(Image.open(path)), planes)
    ((place, path),) = written("iuv-bgr").items()
    assert place == "000006_0_IUV.png" and np.array_equal(cv2.imread(str(path)), planes)


def test_leffa_has_u_and_v_stretched_before_the_part(written, dense):
    ((_, path),) = written("leffa").items()
    pixels = np.asarray(Image.open(path))
    assert np.array_equal(pixels[..., 2], dense.part)
    top = max(dense.u.max(), dense.v.max())
    expected = np.stack([dense.u, dense.v], axis=-1) * (255 / top)
    assert pixels[..., :2].max() == 255 and np.abs(pixels[..., :2] - expected).max() < 1


def test_dreampose_is_an_array_of_u_and_v(written, dense):
    ((place, path),) = written("dreampose").items()
    assert place == "000006_0_densepose.npy"
    for array in (np.load(path), np.load(path, mmap_mode="r"), load_npy(path)):
        assert array.dtype == np.float64 and array.shape == (2, 64, 96)
        assert np.array_equal((array * 255).round().astype(np.uint8), np.stack([dense.u, dense.v]))


@pytest.mark.parametrize(
    ("preset", "palette", "background"), [("magicanimate", "viridis", VIRIDIS_0), ("controlnet", "parula", BLACK)]
)
def test_colours_without_loss(written, dense, preset, palette, background):
    ((_, path),) = written(preset).items()
    pixels = np.asarray(Image.open(path))
    assert tuple(pixels[0, 0]) == background
    assert np.array_equal(part_colors(palette, background)[dense.part], pixels)


def test_files_are_not_replaced_unasked_and_unknown_names_are_refused(written, dense, tmp_path):
    ((_, path),) = written("parts").items()
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_map(path, PRESETS["parts"].files[0], dense, replace=False)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="densepose takes any of viton, parts, .*; it was given vitton"):
        check_presets(["parts", "vitton"])


def test_a_map_without_people_is_background_in_every_form(tmp_path):
    empty = DenseMap.empty((9, 5))
    for name, file, path in map_paths(tmp_path, PRESETS, "a.png", "a"):
        write_map(path, file, empty, replace=False)
        if path.suffix == ".png":
            expected = VIRIDIS_0 if name == "magicanimate" else BLACK
            assert (np.asarray(Image.open(path).convert("RGB")) == expected).all()
            assert Image.open(path).size == (9, 5)
