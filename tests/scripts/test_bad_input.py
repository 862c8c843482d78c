"""Unusual and bad images: the crop each gives, by value, or the reason why it gives none. Boxes: test_bad_boxes.py."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.people.boxes import load_boxes
from datasets.people.crops import People
from datasets.people.images import list_images
from datasets.transforms import box_to_center_scale, crop_image
from utils.images import ImageError, read_image
from utils.people import BadImage, PersonCrop

SIDE = 224  # an image of this size is its own crop, pixel by pixel
BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def ramp(height=SIDE, width=SIDE):
    """A smooth image with four different corners."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, 255 - x * 255 // width], -1).astype(np.uint8)


def flat(color):
    return np.full((SIDE, SIDE, 3), color, np.uint8)


def encoded(kind, image=None, **options) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(ramp()) if image is None else image
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, depth, color, row, *chunks) -> bytes:
    """A PNG file written by hand, all rows alike; `color` is the standard's colour type."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    rows = zlib.compress((b"\0" + row) * height)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def alone(folder, name, content, **people):
    """What comes out of a folder with this one file."""
    (folder / name).write_bytes(content)
    (found,) = People(folder, **people)
    return found


# --------------------------------------------------------------------------------------------- unusual, but readable

SHARES = np.linspace(0, 65535, SIDE).astype(">u2")  # a row of 16-bit numbers
TOP = (SHARES >> 8).astype(np.uint8)  # their upper bytes
GREY_ROW = np.broadcast_to(TOP[None, :, None], (SIDE, SIDE, 3))
FRAMES = [Image.new("RGB", (SIDE, SIDE), color) for color in ("red", "green", "blue")]
HALF_SEEN = np.dstack([flat(BLACK), np.full((SIDE, SIDE), 255, np.uint8)])
HALF_SEEN[:, :100, 3] = 0
ON_WHITE = flat(BLACK)
ON_WHITE[:, :100] = 255
FAINT = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 51))  # a fifth of red on white
STRIPES = np.tile([[WHITE, BLACK]], (SIDE, SIDE // 2, 1))
PLANES = np.repeat(SHARES, 3).tobytes()

READ = {
    "png_named.jpg": (encoded("PNG"), ramp(), 0),
    "jpeg_named.png": (encoded("JPEG", quality=95), ramp(), 12),
    "webp_named.bmp": (encoded("WEBP", lossless=True), ramp(), 0),
    "upper.JPG": (encoded("JPEG", quality=95), ramp(), 12),
    "progressive.jpg": (encoded("JPEG", quality=95, progressive=True), ramp(), 12),
    "tail.jpg": (encoded("JPEG", quality=95) + b"appended by a careless program" * 99, ramp(), 12),
    "mpo.jpg": (encoded("MPO", FRAMES[0], save_all=True, append_images=FRAMES[1:], quality=95), flat(RED), 3),
    "cmyk.jpg": (encoded("JPEG", Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), quality=95), flat(RED), 3),
    "cmyk_dark.jpg": (encoded("JPEG", Image.new("CMYK", (SIDE, SIDE), (0, 0, 0, 155))), flat(100), 3),
    "grey.jpg": (encoded("JPEG", Image.new("L", (SIDE, SIDE), 90)), flat(90), 2),
    "grey.png": (png(SIDE, SIDE, 8, 0, TOP.tobytes()), GREY_ROW, 0),
    "grey16.png": (png(SIDE, SIDE, 16, 0, SHARES.tobytes()), GREY_ROW, 0),
    "rgb16.png": (png(SIDE, SIDE, 16, 2, PLANES), GREY_ROW, 0),
    "rgba16.png": (png(SIDE, SIDE, 16, 6, b"\x80\0\x40\0\x20\0\xff\xff" * SIDE), flat((128, 64, 32)), 0),
    "greya16.png": (png(SIDE, SIDE, 16, 4, b"\x12\x34\0\0" * SIDE), flat(WHITE), 0),
    "grey16_key.png": (png(SIDE, SIDE, 16, 0, b"\x12\x34" * SIDE, (b"tRNS", b"\x12\x34")), flat(WHITE), 0),
    "bit.png": (png(SIDE, SIDE, 1, 0, b"\xaa" * (SIDE // 8)), STRIPES, 0),
    "two_bits.png": (png(SIDE, SIDE, 2, 0, b"\x55" * (SIDE // 4)), flat(85), 0),
    "palette.png": (png(SIDE, SIDE, 8, 3, b"\1" * SIDE, (b"PLTE", bytes([9, 9, 9, 10, 200, 30]))),
                    flat((10, 200, 30)), 0),
    "palette_alpha.png": (png(SIDE, SIDE, 8, 3, b"\0" * SIDE, (b"PLTE", b"\1\2\3"), (b"tRNS", b"\0")),
                          flat(WHITE), 0),
    "color_key.png": (png(SIDE, SIDE, 8, 2, b"\1\2\3" * SIDE, (b"tRNS", b"\0\1\0\2\0\3")), flat(WHITE), 0),
    "alpha.png": (encoded("PNG", Image.fromarray(HALF_SEEN)), ON_WHITE, 0),
    "alpha.webp": (encoded("WEBP", Image.fromarray(HALF_SEEN), lossless=True), ON_WHITE, 0),
    "faint.png": (encoded("PNG", FAINT), flat((255, 204, 204)), 1),
    "grey_alpha.png": (encoded("PNG", FAINT.convert("LA")), flat(255 - (255 - 76) // 5), 1),
    "animated.png": (encoded("PNG", FRAMES[0], save_all=True, append_images=FRAMES[1:]), flat(RED), 0),
    "animated.webp": (encoded("WEBP", FRAMES[0], save_all=True, append_images=FRAMES[1:], lossless=True),
                      flat(RED), 0),
    "no_end.png": (encoded("PNG")[:-12], ramp(), 0),  # only the end mark is missing
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_unusual_files_are_read_and_their_colours_are_right(tmp_path, name):
    content, expected, tolerance = READ[name]
    person = alone(tmp_path, name, content)
    assert isinstance(person, PersonCrop), person.reason
    assert np.abs(person.crop.astype(int) - expected).max() <= tolerance


def test_another_reader_sees_the_same_colours_in_the_files_of_this_test():
    """OpenCV knows CMYK and 16 bits on its own: what is red here is red there."""
    for name in ("cmyk.jpg", "cmyk_dark.jpg", "grey16.png", "rgb16.png"):
        content, expected, tolerance = READ[name]
        theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(theirs.astype(int) - expected).max() <= tolerance + 1, name


TURNED = {  # from the image as it is displayed to the one that is stored
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
    0: lambda a: a,  # the rest is not defined, and left alone
    9: lambda a: a,
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})]
)
def test_orientation_is_obeyed_and_boxes_belong_to_the_displayed_image(
    tmp_path, kind, options, orientation
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation](ramp(120, 80))))
    (tmp_path / "a.png").write_bytes(encoded(kind, stored, exif=exif, **options))
    box = (10.0, 50.0, 30.0, 60.0)
    (tmp_path / "boxes.json").write_text(json.dumps({"a.png": [box]}))
    (person,) = People(tmp_path, load_boxes(tmp_path / "boxes.json"))
    expected = crop_image(ramp(120, 80), *box_to_center_scale(box))
    assert person.image_size == (80, 120)
    assert np.abs(person.crop.astype(int) - expected).max() <= (16 if kind == "JPEG" else 0)


def test_exif_that_is_garbage_does_no_harm(tmp_path):
    content = encoded("JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert np.abs(alone(tmp_path, "a.jpg", content).crop.astype(int) - ramp()).max() <= 12


# -------------------------------------------------------------------------------------------- what is passed over

NO_FORMAT = "not an image in one of the formats JPEG, PNG, WEBP, BMP"
CUT = "damaged or cut off"
JPEG_TAIL = encoded("JPEG")[:-1]
PROGRESSIVE = encoded("JPEG", progressive=True)
SKIPPED = {
    "empty.jpg": (b"", r"the file is empty \(0 bytes\)"),
    "text.jpg": (b"this is no image", NO_FORMAT),
    "zeros.png": (bytes(5000), NO_FORMAT),
    "gif.jpg": (encoded("GIF"), NO_FORMAT),
    "tiff.jpg": (encoded("TIFF"), NO_FORMAT),
    "pdf.png": (encoded("PDF"), NO_FORMAT),
    "svg.jpg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>', NO_FORMAT),
    "heic.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(999), NO_FORMAT),
    "lead.jpg": (b"xx" + encoded("JPEG"), NO_FORMAT),
    "last_byte.jpg": (JPEG_TAIL, CUT),
    "half.jpg": (JPEG_TAIL[: len(JPEG_TAIL) // 2], CUT),
    "progressive.jpg": (PROGRESSIVE[: len(PROGRESSIVE) * 9 // 10], CUT),
    "header.jpg": (JPEG_TAIL[:20], f"{CUT}|{NO_FORMAT}"),
    "half.png": (encoded("PNG")[:-60], CUT),
    "half.webp": (encoded("WEBP")[:-20], f"{CUT}|{NO_FORMAT}"),
    "half.bmp": (encoded("BMP")[:-900], CUT),
    "one.png": (png(1, 1, 8, 2, bytes(3)), "1 x 1 pixels are too few; at least 8 a side are needed"),
    "line.png": (png(20000, 1, 8, 2, bytes(60000)), "20000 x 1 pixels are too few"),
    "narrow.png": (png(20000, 9, 8, 2, bytes(60000)), "20000 x 9 px is too narrow for a person"),
    "no_size.png": (png(0, 0, 8, 2, b""), NO_FORMAT),
    "bomb.png": (png(20000, 20000, 8, 2, b"")[:60], "more than 89,478,485 pixels; scale it down first"),
    "small_bomb.png": (png(9500, 9500, 8, 2, b"")[:60], "more than 89,478,485 pixels; scale it down first"),
    "text_bomb.png": (png(9, 9, 8, 2, bytes(27), (b"zTXt", b"a\0\0" + zlib.compress(bytes(9**8)))), "too large"),
}  # fmt: skip


@pytest.mark.parametrize("name", SKIPPED)
def test_unusable_files_are_named_with_their_reason(tmp_path, name):
    content, reason = SKIPPED[name]
    bad = alone(tmp_path, name, content)
    assert isinstance(bad, BadImage) and bad.path == tmp_path / name
    assert re.search(reason, bad.reason), bad.reason


def test_links_folders_pipes_and_hidden_files_are_distinguished(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "notes.txt").write_bytes(encoded("JPEG"))
    (tmp_path / ".hidden.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "good_link.jpg").symlink_to(tmp_path / "notes.txt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")  # reading it would never end
    good, *bad = People(tmp_path)
    assert isinstance(good, PersonCrop) and good.path.name == "good_link.jpg"
    assert [p.path.name for p in bad] == ["link.jpg", "loop.jpg"]
    assert {p.reason for p in bad} == {"a link to a file that is not there"}


def test_a_file_that_vanishes_or_becomes_a_folder_is_reported(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded("PNG"))
    people = People(tmp_path)
    (tmp_path / "a.png").unlink(), (tmp_path / "b.png").unlink(), (tmp_path / "b.png").mkdir()
    gone, folder = people
    assert gone.reason == "the file is not there" and "cannot be read (" in folder.reason


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_reported(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "a.png").chmod(0)
    (bad,) = People(tmp_path)
    assert bad.reason == "the file may not be read (permission denied)"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "the file may not be read (permission denied)"),
        (OSError(5, "Input/output error"), "the file cannot be read (Input/output error)"),
        (MemoryError(), "not enough memory to read it"),
    ],
)
def test_what_the_system_refuses_is_reported(tmp_path, monkeypatch, error, said):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", refuse)
    assert alone(tmp_path, "a.png", b"x").reason == said


def test_places_that_cannot_be_listed_are_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="cannot be read: "):
        list_images("a" * 5000)
    monkeypatch.setattr(
        type(tmp_path), "iterdir", lambda _: (_ for _ in ()).throw(PermissionError(13, "denied"))
    )
    with pytest.raises(ValueError, match="cannot be read: denied"):
        list_images(tmp_path)


def test_random_damage_gives_an_image_or_a_reason(tmp_path):
    small = Image.fromarray(ramp(48, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [small.rotate(9)]}
    kinds = [
        encoded("JPEG", small, exif=exif), encoded("JPEG", small.convert("CMYK"), progressive=True),
        encoded("PNG", small.convert("RGBA"), exif=exif), encoded("PNG", small.convert("P"), **frames),
        encoded("WEBP", small, exif=exif), encoded("WEBP", small, lossless=True, **frames), encoded("BMP", small),
    ]  # fmt: skip
    rng, outcomes = np.random.default_rng(7), []
    for content in kinds:
        for _ in range(60):
            damaged = bytearray(content)
            reach = len(damaged) if rng.random() < 0.5 else 120  # headers matter most
            for place in rng.integers(reach, size=rng.choice([1, 4, 16])):
                damaged[place] = rng.integers(256)
            (tmp_path / "a.jpg").write_bytes(
                damaged[: rng.integers(len(damaged))] if reach < 121 else damaged
            )
            try:
                outcomes.append(read_image(tmp_path / "a.jpg"))
            except ImageError as error:
                outcomes.append(str(error))
    images = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert all(p.dtype == np.uint8 and p.shape[2] == 3 and min(p.shape[:2]) >= 8 for p in images)
    assert 50 < len(images) < len(outcomes) - 50
