"""What the converters share: boxes and the command line.

A converter reads a set's public annotation files and writes the .npz files that `BaseDataset` reads. Labels of an
item that has no box, or a number that is not finite, are left out and counted, never written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from datasets.labels.files import Rows, save_labels
from utils.command_line import ALL_GOOD, DOCTOR, NOTHING_DONE, SOME_SKIPPED, SentenceParser
from utils.geometry import BOX_MARGIN, BOX_UNIT
from utils.io import DataFileError, require_free, require_writable
from utils.io.marks import LABELS

INCOMPLETE = (KeyError, TypeError, ValueError, OverflowError)  # what an annotation of another form raises

AddFlags = Callable[[argparse.ArgumentParser], object]
Planned = tuple[
    list[str], Callable[[], Iterable[Rows]]
]  # names of the files that may be written, and what makes their rows
Plan = Callable[[argparse.Namespace], Planned]


def box_of_corners(
    x0: float, y0: float, x1: float, y1: float, margin: float = BOX_MARGIN
) -> tuple[np.ndarray, float]:
    """Centre [2] in pixels and scale (side / 200 px) of the square that holds a box `margin` times."""
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2]), margin * max(x1 - x0, y1 - y0) / BOX_UNIT


def box_of_points(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and scale of points [K,2+]; scale 0, which `Rows` leaves out, when there is none."""
    if len(points) == 0:
        return np.zeros(2), 0.0
    return box_of_corners(*points[:, :2].min(axis=0), *points[:, :2].max(axis=0))


def run(
    argv: list[str] | None, name: str, doc: str | None, source: str, plan: Plan, *add_flags: AddFlags
) -> int:
    """Run a converter's program: convert, write all files when all went well, print the counts.

    What is missing or damaged as a whole ends the program with one sentence and exit code 1; then no file was written.

    Args:
        name, doc: of the converter's module.
        source: says what the folder --source holds.
        plan: from the settings to what is to be done.
        add_flags: add flags beside --source, --out and --overwrite.

    Returns:
        0, or 2 where damaged items were left out.
    """
    parser = SentenceParser(
        prog=f"python -m datasets.preprocess.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help=source)
    out = Path("data/dataset_extras")
    parser.add_argument(
        "--out", type=Path, default=out, metavar="DIR", help=f"where the .npz files go (default: {out})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier conversion")
    for add in add_flags:
        add(parser)
    args = parser.parse_args(argv)
    try:
        return _convert(args, plan)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(NOTHING_DONE, f"{parser.prog}: {error}\n{DOCTOR}\n")


def _convert(args: argparse.Namespace, plan: Plan) -> int:
    if not args.source.is_dir():
        raise FileNotFoundError(f"There is no folder '{args.source}'; give the data set's own as --source.")
    require_writable(args.out)
    names, convert = plan(args)
    for name in names:
        require_free(args.out / name, args.overwrite, LABELS)
    files = list(convert())
    for rows in files:
        print(rows.summary())
    empty = [rows.file for rows in files if not rows]
    if empty:
        raise DataFileError(f"Nothing is left for {' and '.join(empty)}; no file was written.")
    for rows in files:
        save_labels(args.out / rows.file, rows.arrays(), args.overwrite)
        print(f"wrote {args.out / rows.file}")
    unusable = sum(rows.unusable for rows in files)
    print(
        f"People written: {sum(map(len, files)):,}. Left out because something is wrong with them: {unusable:,}."
    )
    return SOME_SKIPPED if unusable else ALL_GOOD


def split_flag(*splits: str) -> AddFlags:
    """The flag --split of a converter."""
    return lambda parser: parser.add_argument("--split", nargs="+", choices=splits, help="only these")


def existing_splits(paths: dict[str, Path], chosen: Iterable[str] | None) -> dict[str, Path]:
    """The files of the chosen splits, or by default of all that are there; a line is printed for each that is not.

    Raises FileNotFoundError for a chosen file that is missing, and when none is there.
    """
    wanted = {split: paths[split] for split in chosen or paths}
    missing = {split: path for split, path in wanted.items() if not path.is_file()}
    if chosen and missing or len(missing) == len(wanted):
        raise FileNotFoundError(f"Not there: {', '.join(map(str, missing.values()))}.")
    for split, path in missing.items():
        print(f"no {split}: {path} is not there")
    return {split: path for split, path in wanted.items() if split not in missing}
