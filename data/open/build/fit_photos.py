"""Fit the open body to labelled photographs: the training set `photos`.

    python -m data.open.build.fit_photos --labels data/photos/blazepose_labels.npz --photos_root data/photos

The labels are those of `datasets.preprocess.photos`; the photographs lie in <photos_root>/train, their masks in
<photos_root>/masks. Written are <data_dir>/dataset_extras/photos_train.npz, and beside it photos_train.jpg, a sheet of
accepted and refused bodies to look at. Held-out photographs are left out. An interrupted run goes on where it stopped,
and ends with the same file. How bodies are fitted: docs/method.md 8.11.
"""

from __future__ import annotations

from utils.script import StopSignals, run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data.open.build.fit_sheet import write_sheet
from data.open.build.photo_fits import (
    FEW_POINTS,
    UNREADABLE,
    Limits,
    PhotoFits,
    read_unfinished,
    refusals,
    training_arrays,
)
from data.open.build.photo_people import LabelledPhotos, NetworkStarts, SeenPerson
from datasets.held_out import read_held_out
from datasets.labels.photos import read_photo_labels
from datasets.registry import EXTRAS, PHOTOS, SPECS
from models.fitting.outlines import GRID
from models.fitting.photo_fit import PhotoFit, PhotoFitter
from models.smpl import SMPL
from utils.body import BodyAssets, resolve_body
from utils.command_line import ALL_GOOD, DOCTOR, NOTHING_DONE, SOME_SKIPPED, SentenceParser
from utils.images import ImageError
from utils.io import DATA_DIR, DataFileError, require_free, require_writable, save_npz_atomic
from utils.io.marks import LABELS, SHEET
from utils.metrics import mask_iou
from utils.renderer import IUV_Renderer
from utils.skeleton import NUM_OPENPOSE

MIN_POINTS = 8  # visible ones of the 21 that are fitted
Fit = Callable[[Sequence[int]], PhotoFits]


class BatchFitter:
    """Fits the body to the people of some rows of the labels.

    Args:
        photos: labels and files.
        assets: the open body.
        network: gives a further start; None: the mean and a sitting pose only.
    """

    def __init__(self, photos: LabelledPhotos, assets: BodyAssets, network: NetworkStarts | None = None):
        self.photos, self.network = photos, network
        self.smpl = SMPL(assets.body, assets.extra, assets.surface)
        self._fitter = PhotoFitter(self.smpl)
        self._renderer = IUV_Renderer(out_size=GRID, atlas=assets.atlas)

    def __call__(self, rows: Sequence[int]) -> PhotoFits:
        """The fits; a row that cannot be fitted says why, and a line tells what is wrong with its files."""
        trouble, people = zip(*map(self._look, rows), strict=True)
        fits = PhotoFits.blank([str(self.photos.labels.name[row]) for row in rows], trouble)
        usable = [i for i, person in enumerate(people) if person is not None]
        if usable:
            self._fill(fits, usable, [rows[i] for i in usable], [people[i] for i in usable])
        return fits

    def _look(self, row: int) -> tuple[str, SeenPerson | None]:
        if self.photos.has_few_points(row, MIN_POINTS):
            return FEW_POINTS, None
        try:
            return "", self.photos.seen(row)
        except ImageError as error:
            tqdm.write(f"{self.photos.labels.name[row]}: {error}")
            return UNREADABLE, None

    def _fill(self, fits: PhotoFits, places: list[int], rows: list[int], people: list[SeenPerson]) -> None:
        """Fit the people of `rows` and write the results to the `places` of `fits`."""
        evidence = self.photos.evidence(rows, people)
        starts = self._fitter.starts(evidence)
        if self.network is not None:
            starts.append(self.network([self.photos.crop(row, self.photos.image_name(row)) for row in rows]))
        found = self._fitter(evidence, starts)
        joints, iou = self._judge(found, people)
        for name in ("rotvec", "betas", "cam", "error", "direction", "prior"):
            getattr(fits, name)[places] = getattr(found, name).numpy()
        fits.joints[places], fits.iou[places] = joints, iou

    @torch.no_grad()
    def _judge(self, found: PhotoFit, people: list[SeenPerson]) -> tuple[np.ndarray, np.ndarray]:
        """The labelled joints [B,24,3], and the silhouettes' IoU [B] with the masks within the photographs."""
        params = found.params()
        body = self.smpl(params.rotmat, params.betas)
        drawn = self._renderer.verts2uvimg(body.vertices, params.cam)[:, 0].numpy() > 0
        true, photograph = (
            np.stack([getattr(person, n) for person in people]) for n in ("mask", "photograph")
        )
        return body.joints[:, NUM_OPENPOSE:].numpy(), mask_iou(drawn & photograph, true & photograph)


def fit_all(
    fit: Fit,
    rows: Sequence[int],
    done: PhotoFits,
    batch: int,
    save: Callable[[PhotoFits], None],
    stop: StopSignals,
) -> PhotoFits:
    """`done` and the fits of the rows behind them, in batches; what there is when `stop` is asked."""
    with tqdm(total=len(rows), initial=len(done), unit="photograph") as bar:
        for first in range(len(done), len(rows), batch):
            if stop.asked:
                break
            found = fit(rows[first : first + batch])
            done = done.joined(found)
            save(done)
            bar.update(len(found))
            bar.set_postfix(error=f"{np.median(found.error):.4f}", iou=f"{np.median(found.iou):.2f}")
    return done


def open_photographs(args: argparse.Namespace) -> tuple[LabelledPhotos, list[int]]:
    """The labelled photographs, and the rows to fit, by name: all but held-out ones."""
    labels = read_photo_labels(args.labels)
    if len(set(labels.name.tolist())) < len(labels):
        raise DataFileError(f"{args.labels} names a photograph twice; each has one main person.")
    held_out = set(read_held_out(args.photos_held_out))
    rows = [row for name, row in sorted(labels.index_of().items()) if name not in held_out]
    if not rows:
        raise DataFileError(f"{args.labels} labels no photograph but held-out ones; none is left to fit.")
    photos = LabelledPhotos(labels, args.photos_root.expanduser())
    photos.require_files(rows)
    return photos, rows


def identity(args: argparse.Namespace) -> str:
    """Text that differs between runs whose fits differ: label file, starts and size of the batches."""
    files = [path for path in (args.labels, args.weights) if path]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files]
    return " ".join([*digests, str(args.batch_size)])


def report(fits: PhotoFits, refused: np.ndarray, limits: Limits) -> Iterator[str]:
    """Lines on how many were accepted and why others were not."""
    accepted = refused == ""
    yield f"{accepted.sum():,} of {len(fits):,} bodies accepted"
    if accepted.any():
        medians = (float(np.median(getattr(fits, n)[accepted])) for n in ("error", "direction", "iou"))
        yield "  medians: error {:.4f} of half the crop, direction {:.3f}, IoU {:.3f}".format(*medians)
    for reason, count in Counter(refused[~accepted].tolist()).most_common():
        yield f"  left out {count:,}: {limits.reasons()[reason]}"


def run(args: argparse.Namespace) -> int:
    """Fit the photographs of the settings; the exit code."""
    file = args.data_dir.expanduser() / EXTRAS / SPECS[PHOTOS].label_file(is_train=True)
    sheet, unfinished = file.with_suffix(".jpg"), file.with_suffix(".unfinished.npz")
    require_free(file, args.overwrite, LABELS)
    require_free(sheet, args.overwrite, SHEET)
    require_writable(file.parent)
    if args.weights and not args.weights.is_file():
        raise FileNotFoundError(f"There is no weights file '{args.weights}'.")
    photos, rows = open_photographs(args)
    name, names = identity(args), [str(photos.labels.name[row]) for row in rows]
    done = read_unfinished(unfinished, name, names)
    assets = resolve_body("open")
    fit = BatchFitter(photos, assets, NetworkStarts(args.weights) if args.weights else None)
    with StopSignals() as stop:
        fits = fit_all(fit, rows, done, args.batch_size, lambda fits: fits.save(unfinished, name), stop)
        if len(fits) < len(rows):
            print(f"{stop.asked}: {len(fits):,} photographs so far; the same command goes on.")
            return NOTHING_DONE
    limits = Limits(args.max_error, args.max_direction, args.max_prior, args.max_beta, args.min_iou)
    refused = refusals(fits, limits)
    print("\n".join(report(fits, refused, limits)))
    if (fits.trouble == "").any():
        write_sheet(sheet, photos, rows, fits, refused, fit.smpl, args.overwrite)
        print(f"{sheet}: look at the bodies")
    if not (refused == "").any():
        raise DataFileError(
            "No body was accepted; no file was written. The same command with other limits is quick."
        )
    arrays = training_arrays(photos, rows, fits, refused == "", assets.body.model_id)
    save_npz_atomic(file, LABELS, args.overwrite, **arrays)
    unfinished.unlink()
    print(f"{file}: the training set '{PHOTOS}'")
    return SOME_SKIPPED if (fits.trouble == UNREADABLE).any() else ALL_GOOD


def make_parser() -> SentenceParser:
    parser = SentenceParser(
        prog="python -m data.open.build.fit_photos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--labels", type=Path, required=True, metavar="FILE", help="blazepose_labels.npz")
    add("--photos_root", type=Path, required=True, metavar="DIR", help="holds train/ and masks/")
    add(
        "--data_dir", type=Path, default=DATA_DIR, metavar="DIR", help="holds dataset_extras/ (default: data)"
    )
    add(
        "--photos_held_out",
        default="",
        metavar="FILE",
        help="names that are left out (default: the shipped list)",
    )
    add("--weights", type=Path, metavar="FILE", help="weights of a network whose answer is a further start")
    add("--batch_size", type=int, default=128, help="photographs at a time")
    add("--overwrite", action="store_true", help="replace the files of an earlier run")
    limits = parser.add_argument_group("what is accepted")
    for flag, default, text in (
        ("--max_error", 0.02, "mean distance of points, halves of the crop's side"),
        ("--max_direction", 0.15, "mean 1 - cos of the angles between bones"),
        ("--max_prior", 120.0, "squared distance from the mean pose, standard deviations"),
        ("--max_beta", 3.0, "absolute shape coefficient"),
        ("--min_iou", 0.5, "IoU of silhouette and mask"),
    ):
        limits.add_argument(
            flag, type=float, default=default, metavar="X", help=f"{text} (default: {default:g})"
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line `argv`."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"--batch_size is {args.batch_size}; at least one photograph is fitted at a time.")
    try:
        return run(args)
    except (ValueError, OSError) as error:
        parser.exit(NOTHING_DONE, f"{parser.prog}: {error}\n{DOCTOR}\n")


if __name__ == "__main__":
    run_script(main, on_stop="what was fitted is kept, the same command continues.")
