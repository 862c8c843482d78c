"""The marks by which a file is known as one of our results: with `--overwrite`, too, nothing else is replaced.

A mark is a word such as "danet-demo-1", at a place of the format that readers ignore or show as a comment.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

DEMO, EVAL, LABELS, PAGE, SHEET, ONNX = (
    f"danet-{kind}-1" for kind in ("demo", "eval", "labels", "page", "sheet", "onnx")
)
# BVH and CSV files have no place for comments.
DEMO_MARKS = (DEMO, "HIERARCHY\nROOT pelvis\n", "HIERARCHY\nROOT mixamorig:Hips\n", "frame,seconds,pelvis_x_m,")
SEARCHED = 4096  # bytes at each end of a file


def is_marked(path: str | os.PathLike, *marks: str) -> bool:
    """Whether a file bears one of the marks near its beginning or end; an empty file counts as marked."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            head = file.read(SEARCHED)
            file.seek(max(0, size - SEARCHED))
            tail = file.read(SEARCHED)
    except OSError:
        return False
    return size == 0 or any(mark.encode() in end for mark in marks for end in (head, tail))


def marked_image(data: bytes, mark: str) -> bytes:
    """The bytes of a PNG or JPEG file with the mark as its comment."""
    word = mark.encode()
    if data.startswith(b"\x89PNG"):
        content = b"tEXt" + b"Software\0" + word
        chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
        place = 33  # behind the signature and the header
    else:
        chunk = b"\xff\xfe" + struct.pack(">H", 2 + len(word)) + word
        has_jfif = data[2:4] == b"\xff\xe0"
        place = 4 + int.from_bytes(data[4:6], "big") if has_jfif else 2
    return data[:place] + chunk + data[place:]
