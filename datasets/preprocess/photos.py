"""Label photographs of people with BlazePose: points, 3D directions and masks, one main person each.

    npm pack @mediapipe/pose@0.5.1675469404
    python -m pip install -r requirements-photos.txt
    python -m datasets.preprocess.photos --source data/photos --weights mediapipe-pose-0.5.1675469404.tgz

The photographs lie in <source>/train; <source>/masks/<name>.png and <source>/blazepose_labels.npz are written. A person
is taken whose detection, flag and visible points are sure enough; the others are counted by reason. An interrupted run
goes on where it stopped.
"""

from __future__ import annotations

from utils.script import StopSignals, run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.labels.photos import PHOTO_LABELS, SHAPES, VISIBLE, PhotoLabels, read_photo_labels
from datasets.photographs import IMAGES, MASKS
from datasets.preprocess.blazepose import LabelledPerson, load_blazepose
from utils.command_line import ALL_GOOD, DOCTOR, NOTHING_DONE, SOME_SKIPPED, SentenceParser
from utils.images import ImageError, read_image
from utils.io import DataFileError, load_npz, require_free, require_writable, save_npz_atomic
from utils.io.marks import LABELS, is_marked, marked_image
from utils.io.writers import atomic_write
from utils.skeleton import NUM_BLAZEPOSE

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
UNFINISHED = "blazepose_labels.unfinished.npz"
MIN_SCORE, MIN_FLAG, MIN_POINTS = 0.6, 0.8, 20
SAVE_SECONDS = 30.0
NO_PERSON = "no person found"
REASONS = {
    NO_PERSON: f"no person was found with a score of at least {MIN_SCORE:g}",
    "unsure": f"a flag below {MIN_FLAG:g}: the points may be no person's",
    "few points": f"fewer than {MIN_POINTS} of {NUM_BLAZEPOSE} points are visible",
    "no mask": "the mask is empty",
}
Labeller = Callable[[np.ndarray], LabelledPerson | None]


@dataclass
class Progress:
    """What was decided so far: rows of people who were taken, and why others were not."""

    rows: dict[str, dict[str, np.ndarray]]  # name -> fields of `PhotoLabels`
    refused: dict[str, str]  # name -> key of REASONS

    @classmethod
    def load(cls, path: Path) -> Progress:
        """The progress of an interrupted run; none where there is no file. Raises DataFileError for another file."""
        if not path.is_file():
            return cls({}, {})
        arrays, labels = load_npz(path), read_photo_labels(path)
        missing = {"refused_name", "refused_reason"} - arrays.keys()
        if missing:
            raise DataFileError(f"{path} is no file of an interrupted run; move it away.")
        rows = {
            name: {field: getattr(labels, field)[index] for field in SHAPES}
            for name, index in labels.index_of().items()
        }
        refused = zip(arrays["refused_name"].tolist(), arrays["refused_reason"].tolist(), strict=True)
        return cls(rows, dict(refused))

    def labels(self) -> PhotoLabels:
        """The labels of those who were taken, by name."""
        names = sorted(self.rows)
        columns = {
            field: np.array([self.rows[name][field] for name in names], np.float32).reshape(len(names), *shape)
            for field, shape in SHAPES.items()
        }
        return PhotoLabels(np.array(names, dtype=np.str_), **columns)

    def save(self, path: Path) -> None:
        labels = self.labels()
        arrays = {field.name: getattr(labels, field.name) for field in fields(labels)}
        refused = np.array(list(self.refused), np.str_), np.array(list(self.refused.values()), np.str_)
        save_npz_atomic(path, LABELS, True, **arrays, refused_name=refused[0], refused_reason=refused[1])


def refusal(person: LabelledPerson | None) -> str | None:
    """Why a person is not taken: a key of REASONS; None for one who is."""
    if person is None or person.score < MIN_SCORE:
        return NO_PERSON
    if person.landmarks.flag < MIN_FLAG:
        return "unsure"
    if (person.landmarks.visibility[:NUM_BLAZEPOSE] > VISIBLE).sum() < MIN_POINTS:
        return "few points"
    return None if person.mask.any() else "no mask"


def row_of(person: LabelledPerson) -> dict[str, np.ndarray]:
    """The person as a row of `PhotoLabels`."""
    seen = person.landmarks
    values = {
        "size": person.mask.shape[::-1],
        "keypoints_2d": seen.points[:NUM_BLAZEPOSE],
        "visibility": seen.visibility[:NUM_BLAZEPOSE],
        "world_3d": seen.world[:NUM_BLAZEPOSE],
        "detection_score": person.score,
        "flag": seen.flag,
        "mask_box": person.mask_box,
    }
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def write_mask(path: Path, mask: np.ndarray) -> None:
    """A PNG, 255 on the person, that bears the mark of labels."""
    data = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(data, "PNG")
    with atomic_write(path) as file:
        file.write(marked_image(data.getvalue(), LABELS))


def label_photographs(
    root: Path, names: Sequence[str], label: Labeller, progress: Progress, stop: StopSignals
) -> Iterator[str]:
    """Label what is not decided yet, until `stop` is asked; yields the names of photographs that cannot be read."""
    saved, todo = time.monotonic(), [n for n in names if n not in progress.rows and n not in progress.refused]
    try:
        for name in tqdm(todo, unit="photograph", total=len(names), initial=len(names) - len(todo)):
            if stop.asked:
                return
            try:
                person = label(read_image(root / IMAGES / name))
            except ImageError as error:
                tqdm.write(f"{name}: {error}")
                yield name
                continue
            if reason := refusal(person):
                progress.refused[name] = reason
            else:
                write_mask(root / MASKS / f"{Path(name).stem}.png", person.mask)
                progress.rows[name] = row_of(person)
            if time.monotonic() - saved > SAVE_SECONDS:
                progress.save(root / UNFINISHED)
                saved = time.monotonic()
    finally:
        progress.save(root / UNFINISHED)


def names_of(root: Path) -> list[str]:
    """The photographs of <root>/train. Raises FileNotFoundError, DataFileError for none, or two of one name."""
    folder = root / IMAGES
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}': put the photographs there.")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not names:
        raise DataFileError(f"{folder} holds no photograph ({', '.join(SUFFIXES)}).")
    twice = [stem for stem, count in Counter(Path(name).stem for name in names).items() if count > 1]
    if twice:
        raise DataFileError(f"{folder} holds several photographs '{twice[0]}.*': their masks would have one name.")
    return names


def convert(args: argparse.Namespace, load: Callable[[Path], Labeller]) -> int:
    """Label the photographs of the settings; the exit code."""
    root, names = args.source, names_of(args.source)
    file = root / PHOTO_LABELS
    require_free(file, args.overwrite, LABELS)
    require_writable(root)
    progress = Progress.load(root / UNFINISHED)
    masks = [root / MASKS / f"{Path(name).stem}.png" for name in names]
    foreign = [path for path in masks if path.exists() and not is_marked(path, LABELS)]
    if foreign:
        raise FileExistsError(f"{len(foreign)} masks are none of this program, first {foreign[0]}; move them away.")
    label = load(args.weights)
    with StopSignals() as stop:
        unreadable = list(label_photographs(root, names, label, progress, stop))
        if stop.asked:
            print(f"{stop.asked}: {len(progress.rows):,} people so far; the same command goes on.")
            return NOTHING_DONE
    print(f"{file}: {len(progress.rows):,} of {len(names):,} photographs labelled")
    for reason, count in Counter(progress.refused.values()).most_common():
        print(f"  left out {count:,}: {REASONS.get(reason, reason)}")
    if unreadable:
        print(f"  left out {len(unreadable):,} that cannot be read, first {unreadable[0]}")
    if not progress.rows:
        raise DataFileError("No person was labelled; no file was written.")
    progress.labels().save(file, args.overwrite)
    (root / UNFINISHED).unlink()
    return SOME_SKIPPED if unreadable else ALL_GOOD


def main(argv: list[str] | None = None, load: Callable[[Path], Labeller] = load_blazepose) -> int:
    parser = SentenceParser(
        prog="python -m datasets.preprocess.photos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = "folder whose train/ holds the photographs; masks and labels go into it"
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help=source)
    weights = "the Node package @mediapipe/pose: its .tgz, or the unpacked folder"
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help=weights)
    parser.add_argument("--overwrite", action="store_true", help="replace the labels of an earlier run")
    args = parser.parse_args(argv)
    try:
        return convert(args, load)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(NOTHING_DONE, f"{parser.prog}: {error}\n{DOCTOR}\n")


if __name__ == "__main__":
    run_script(main, on_stop="what was labelled is kept, the same command continues.")
