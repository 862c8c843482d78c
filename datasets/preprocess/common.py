"""What the converters share: boxes, joint tables, reading of annotations, command line.

A converter reads a set's public annotation files and writes the .npz files that `BaseDataset` reads. Labels of
an item that has no box, or a number that is not finite, are left out and counted, never written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datasets.labels.coco import CocoHead, coco_head, entries_of, keypoints_of
from datasets.labels.files import Rows, gt24, save_labels
from utils.command_line import ALL_GOOD, DOCTOR, NOTHING_DONE, SOME_SKIPPED, SentenceParser
from utils.geometry import BOX_MARGIN, BOX_UNIT
from utils.io import DataFileError, load_json, load_mat, require_free, require_writable
from utils.io.marks import LABELS
from utils.skeleton import NUM_LSP_JOINTS

INCOMPLETE = (KeyError, TypeError, ValueError, OverflowError)  # what an annotation of another form raises

Box = tuple[np.ndarray, float]  # centre [2] in pixels, scale


# ------------------------------------------------------------------------------------------------------ boxes


def box_of_corners(x0: float, y0: float, x1: float, y1: float, margin: float = BOX_MARGIN) -> Box:
    """Centre and scale of the square that holds the box `margin` times."""
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2]), margin * max(x1 - x0, y1 - y0) / BOX_UNIT


def box_of_points(points: np.ndarray) -> Box:
    """Box of points [K,2+]; scale 0, which `Rows` leaves out, when there is none."""
    if len(points) == 0:
        return np.zeros(2), 0.0
    return box_of_corners(*points[:, :2].min(axis=0), *points[:, :2].max(axis=0))


def box_of_xywh(xywh: Iterable[float]) -> Box:
    """Box of x, y, width, height, as COCO gives it. Raises ValueError unless these are four numbers."""
    x, y, width, height = xywh
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (x, y, width, height)):
        raise TypeError("a box is four numbers")
    if not (width > 0 and height > 0):
        return np.array([x, y]), 0.0
    return box_of_corners(x, y, x + width, y + height)


# ---------------------------------------------------------------------------------------------------- reading


def read_json(path: Path) -> Any:
    """Content of a JSON file. Raises FileNotFoundError, or DataFileError for damage."""
    return load_json(path)


def read_coco(path: Path) -> tuple[CocoHead, list[dict[str, Any]]]:
    """What holds for all annotations of a COCO-style JSON file, and the annotations as they stand."""
    content = read_json(path)
    return coco_head(content, path), entries_of(content, "annotations", path)


def coco_keypoints(annotation: dict[str, Any], head: CocoHead) -> np.ndarray:
    """COCO's 17 keypoints [17,3]: x, y and 1 where labelled (hidden or not), 0 where not."""
    keypoints = keypoints_of(annotation, head, "an annotation")
    keypoints[:, 2] = keypoints[:, 2] > 0
    return keypoints


def coco_picture(name: str, default: str) -> str:
    """Path below COCO's folder: COCO_val2014_*.jpg is in val2014, other names are in `default`."""
    words = name.split("_")
    return f"{words[1] if words[0] == 'COCO' and len(words) == 3 else default}/{name}"


def read_lsp_joints(path: Path, order: tuple[int, int, int], count: int | None) -> np.ndarray:
    """`joints` of an LSP joints.mat as [N,14,3].

    order: axes of the file that hold items, joints and x, y, flag; count: items expected, None for any.
    """
    joints = load_mat(path).get("joints")
    if joints is not None and joints.ndim == 3 and np.issubdtype(joints.dtype, np.number):
        joints = joints.transpose(order).astype(np.float64)
        if joints.shape[1:] == (NUM_LSP_JOINTS, 3) and count in (None, len(joints)):
            return joints
    expected = [0, 0, 0]
    for axis, size in zip(order, (count or "N", NUM_LSP_JOINTS, 3), strict=True):
        expected[axis] = size
    raise DataFileError(
        f"{path} must hold an array 'joints' of {' x '.join(map(str, expected))} numbers. "
        "Expected the joints.mat of this very data set."
    )


def part_of_lsp(joints: np.ndarray) -> np.ndarray:
    """LSP's joints [14,3] as the field `part` [24,3]; rows without confidence are zero."""
    labelled = joints[:, 2:] > 0
    return gt24(np.where(labelled, joints[:, :2], 0), range(NUM_LSP_JOINTS), labelled[:, 0])


# ------------------------------------------------------------------------------------- command line, writing


def make_parser(module: str, doc: str | None, source: str) -> SentenceParser:
    """The command line of a converter; `source` says what folder it reads."""
    parser = SentenceParser(
        prog=f"python -m datasets.preprocess.{module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help=source)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/dataset_extras"),
        metavar="DIR",
        help="where the .npz files go (default: data/dataset_extras)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier conversion")
    return parser


def run(
    parser: SentenceParser,
    argv: list[str] | None,
    convert: Callable[[argparse.Namespace], Iterable[Rows]],
    files_of: Callable[[argparse.Namespace], Iterable[str]],
) -> int:
    """Convert, write all files when all went well, print the counts. Returns 0, or 2 where damaged items were left out.

    files_of: names of the files that may be written, none of which may be there without --overwrite.

    What is missing or damaged as a whole ends the program with one sentence and exit code 1; then no file was written.
    """
    args = parser.parse_args(argv)
    try:
        if not args.source.is_dir():
            raise FileNotFoundError(
                f"There is no folder '{args.source}'; give the data set's own as --source."
            )
        require_writable(args.out)
        for name in files_of(args):
            require_free(args.out / name, args.overwrite, LABELS)
        files = list(convert(args))
        for rows in files:
            print(rows.summary())
        empty = [rows.file for rows in files if not rows]
        if empty:
            raise DataFileError(f"Nothing is left for {' and '.join(empty)}; no file was written.")
        for rows in files:
            save_labels(args.out / rows.file, rows.arrays(), args.overwrite)
            print(f"wrote {args.out / rows.file}")
        unusable = sum(rows.unusable for rows in files)
        print(f"People kept: {sum(map(len, files)):,}. Left out because something is wrong with them: {unusable:,}.")
        return SOME_SKIPPED if unusable else ALL_GOOD
    except (ValueError, OSError, ImportError) as error:
        parser.exit(NOTHING_DONE, f"{parser.prog}: {error}\n{DOCTOR}\n")


def those_there(paths: Mapping[str, Path], chosen: Iterable[str] | None = None) -> dict[str, Path]:
    """The chosen files, or by default those of all that are there; a line is printed for each that is not.

    Raises FileNotFoundError for a chosen file that is missing, and when none is there.
    """
    wanted = {key: paths[key] for key in (chosen or paths)}
    missing = {key: path for key, path in wanted.items() if not path.is_file()}
    if chosen and missing or len(missing) == len(wanted):
        raise FileNotFoundError(f"Not there: {', '.join(str(path) for path in missing.values())}.")
    for key, path in missing.items():
        print(f"no {key}: {path} is not there")
    return {key: path for key, path in wanted.items() if key not in missing}
