"""Frames of a video as JPEG files, for data sets that ship videos and are labelled by the frame."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import cv2

from utils.io import DataFileError, atomic_write, require_free

JPEG_QUALITY = 95


def add_flag(parser: argparse.ArgumentParser, where: str) -> None:
    """The flag --extract of a converter; `where` says what is read and written."""
    parser.add_argument(
        "--extract", action="store_true", help=f"write the labelled frames as pictures: {where}"
    )


def extract(video: Path, wanted: Mapping[int, Path]) -> set[int]:
    """Write the wanted frames (0-based) of a video, where they are not there yet; those now there.

    Frames behind the video's end are missing from the answer. Raises FileNotFoundError, DataFileError for a
    file that is no video.
    """
    there = {frame for frame, path in wanted.items() if path.is_file()}
    for frame in wanted.keys() - there:
        require_free(wanted[frame], False)
    left = sorted(set(wanted) - there)
    if not left:
        return there
    if not video.is_file():
        raise FileNotFoundError(f"There is no video {video} to take frames from.")
    capture = cv2.VideoCapture(str(video))
    try:
        if not capture.isOpened():
            raise DataFileError(f"{video} is not a readable video. Fetch it again.")
        position = 0
        for frame in left:
            while position < frame and capture.grab():
                position += 1
            read, picture = capture.read()
            if not read:
                break
            position += 1
            _write_jpeg(wanted[frame], picture)
            there.add(frame)
    finally:
        capture.release()
    return there


def _write_jpeg(path: Path, picture) -> None:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    with atomic_write(path, replace=False) as file:
        file.write(encoded.tobytes())
