"""Pictures of people to dense body parts and posed bodies: `<stem>_result.png` and `<stem>.npz` for each,
`<picture>_people.jpg` with everybody in it where people were cut out of a picture. Of a video, `<stem>_people.mp4` and
`<stem>_track<k>.npz` for each person. `run.json` tells about the run.

Exit code 0: all good; 2: something was skipped (`run.json` lists it with its reason); 1: nothing was done.
"""

from __future__ import annotations

from utils.script import StopSignals, run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.labels.check import sizes_of_some
from datasets.people.boxes import load_boxes
from datasets.people.crops import DETECTORS, People, build_detector
from datasets.people.detector import unused_of
from datasets.people.openpose import KeypointFiles
from datasets.people.video import VideoFrames
from models import InferenceConfig, Predictor, load_predictor
from models.inference.gallery import PAGE_NAME, write_gallery
from models.inference.image_run import NOT_LOOKED_AT, PictureRun
from models.inference.person_files import PersonFiles
from models.inference.pipeline import Seconds
from models.inference.run_record import FILE_NAME, SCHEMA, Outcome, RunRecord, joined_outcomes, with_earlier
from models.inference.track_files import TrackFiles
from models.inference.video_run import VideoRun
from utils.body import BodyAssets
from utils.config import option, parse_config
from utils.export import EXPORTS, PANEL_SUFFIX, check_formats, require_export_packages
from utils.geometry import check_focal_length
from utils.io import require_free, why_unwritable, writable_folder
from utils.io.marks import PAGE
from utils.packages import require_packages
from utils.renderer.backends import RENDERERS, mesh_renderer_class, opendr_or_none, renderer_problem
from utils.runtime import Processes, joined_processes, report_error, setup_logging
from utils.unused import Unused

log = logging.getLogger("demo")


@dataclass(frozen=True)
class DemoConfig(InferenceConfig):
    """Settings of the demo."""

    img_dir: str = option("./examples", "a picture or a folder of pictures")
    video: str | None = option(None, "a video file, or the number of a camera, instead of pictures")
    smooth: bool = option(False, "smooth the people of a video over time")
    out_dir: str = option("./output", "where results are written")
    overwrite: bool = option(False, "replace results that are there; without it their pictures are skipped")
    batch_size: int = option(8, "people at a time")
    detector: str = option(
        "auto",
        "who finds the people: movenet, torchvision, or none (a picture is one person's crop); auto: movenet, but "
        "square pictures that are one person's crop are taken whole",
        choices=DETECTORS,
    )
    detector_weights: str | None = option(None, "weights file of --detector torchvision")
    boxes: str | None = option(None, "JSON file with person boxes, instead of a detector")
    keypoints: str | None = option(
        None, "folder of OpenPose results <stem>_keypoints.json, instead of a detector"
    )
    export: tuple[str, ...] = option((), f"also write each person as any of {', '.join(EXPORTS)}")
    html: bool = option(False, "write index.html, one page with all results")
    focal_length: float | None = option(None, "of the full pictures, pixels; default: their diagonal")
    renderer: str = option("builtin", "who draws the bodies", choices=RENDERERS)
    use_opendr: bool = option(False, "add views by opendr to the panel, if it works here")
    reference_input: bool = option(False, "feed pixels in 0..1 without normalising, as the 2020 demo did")

    def __post_init__(self):
        super().__post_init__()
        check_formats(self.export, video=self.video is not None)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.focal_length is not None and not 0 < self.focal_length < float("inf"):
            raise ValueError(f"focal_length must be a positive number of pixels, got {self.focal_length}.")
        if (self.detector != "auto") + (self.boxes is not None) + (self.keypoints is not None) > 1:
            raise ValueError(
                "Give one of --detector, --boxes and --keypoints: each says where the people are."
            )
        of_pictures = {
            "boxes": self.boxes is not None,
            "keypoints": self.keypoints is not None,
            "html": self.html,
        }
        if self.video is not None and any(of_pictures.values()):
            wrong = next(name for name, given in of_pictures.items() if given)
            raise ValueError(
                f"{wrong} is for pictures and cannot be used with --video; leave one of them out."
            )
        if self.smooth and self.video is None:
            raise ValueError("smooth is for --video FILE; pictures have no order in time.")
        if self.detector_weights is not None and self.detector != "torchvision":
            raise ValueError("detector_weights belongs to --detector torchvision; give both or none.")


def main(argv: Sequence[str] | None = None) -> int:
    config = parse_config(DemoConfig, argv, __doc__)
    try:
        with joined_processes() as processes, StopSignals() as stop:
            setup_logging(level=logging.INFO if processes.is_first else logging.ERROR)
            require_export_packages(config.export)
            if config.video is not None:
                require_packages("--video", "video", "av")
            run = run_pictures if config.video is None else run_video
            return run(config, processes, stop)
    except (ValueError, OSError, ImportError) as error:
        return report_error(log, error)


def run_pictures(config: DemoConfig, processes: Processes, stop: StopSignals) -> int:
    """Each process does its share of the pictures, the first one the record of all; returns the exit code."""
    started = time.perf_counter()
    people = where_people_are(config)
    sizes = sizes_of_some(lambda index: people.paths[index], len(people))
    odd_focal_length = suspicions_of_camera(config, sizes.values())
    predictor = loaded(config, processes)
    stop.end_if_asked()
    run = picture_run(config, people, predictor, Seconds())
    processes.wait_for_all()  # results in the folder of pictures must not be listed as pictures
    mine = []
    with logging_redirect_tqdm():
        for outcome in run.outcomes(people.paths[processes.rank :: processes.count], stop):
            mine.append(outcome)
            if outcome.reason and not outcome.reason.startswith(NOT_LOOKED_AT):
                log.error("%s: %s", outcome.picture, outcome.reason)
    names = [path.name for path in people.paths]
    outcomes = with_earlier(
        joined_outcomes(mine, names, processes), Path(config.out_dir), names, (".npz", PANEL_SUFFIX)
    )
    seconds = {**run.seconds.by_stage, "whole run": time.perf_counter() - started}
    facts = {**facts_of(predictor), **shown_settings(config, processes), **people.facts, **odd_focal_length}
    left_out = processes.gather(people.left_out)
    unused = people.unused.with_others([*left_out, idle_settings(config)])
    record = RunRecord(outcomes, seconds, facts, unused)
    if processes.is_first:
        faces = predictor.assets.body.faces if config.html else None
        record = save_record(record, Path(config.out_dir), faces)
        log.info(
            "People written to %s: %d, in %.1f s. Files or people skipped: %d. %s",
            config.out_dir, record.num_written, record.seconds["whole run"], len(record.skipped), unused.line(),
        )  # fmt: skip
        for remark in record.remarks:
            log.warning("%s", remark)
        if not record.num_written:
            log.error("Nothing of '%s' was done; the reasons stand above.", config.img_dir)
    processes.wait_for_all()  # torchrun ends all when one has ended with another code than 0
    return record.exit_code


def run_video(config: DemoConfig, processes: Processes, stop: StopSignals) -> int:
    """The people of a video, frame by frame; returns the exit code."""
    if processes.count > 1:
        raise ValueError("A video is the work of one process: start demo.py without torchrun.")
    frames = VideoFrames(config.video)
    odd_focal_length = suspicions_of_camera(config, [frames.size])
    out_dir = results_folder(config)
    name = "movenet" if config.detector == "auto" else config.detector  # frames are not made for the network
    detector = build_detector(name, config.detector_weights)
    predictor = loaded(config, processes)
    renderer = mesh_renderer_class(config.renderer)
    files = TrackFiles(out_dir, frames.stem, predictor.assets, config.export, renderer, config.overwrite)
    files.require_free()
    run = VideoRun(
        frames=frames,
        find=detector.detect,
        predict=predictor.predict,
        files=files,
        facts=facts_of(predictor),
        seconds=Seconds(),
        batch_size=config.batch_size,
        smooth=config.smooth,
        focal_length=config.focal_length,
    )
    stop.end_if_asked()
    with logging_redirect_tqdm():
        summary = run.run(stop)
    seconds = {**run.seconds.by_stage, "whole run": summary.seconds}
    outcomes = [
        Outcome(frames.name, files.track_stem(track), confidence=summary.confidence[track])
        for track in summary.tracks
    ]
    outcomes += [Outcome(frames.name, reason=reason) for reason in summary.shortcomings()]
    facts = {**facts_of(predictor), **shown_settings(config, processes), **odd_focal_length}
    unused = summary.unused.with_others([unused_of(detector), idle_settings(config)])
    record = RunRecord(with_earlier(outcomes, out_dir, [frames.name], (".npz",)), seconds, facts, unused)
    record = save_record(record, out_dir, faces=None)
    for name, reason in record.skipped:
        log.error("%s: %s", name, reason)
    for remark in record.remarks:
        log.warning("%s", remark)
    people = len(summary.tracks)
    log.info(
        "Frames: %d (%.1f a second). People written to %s: %d. Shortcomings: %d. %s",
        summary.frames, summary.fps, out_dir, people, len(record.skipped), unused.line(),
    )  # fmt: skip
    return record.exit_code


def picture_run(config: DemoConfig, people: People, predictor: Predictor, seconds: Seconds) -> PictureRun:
    """What happens to the people of each picture."""
    return PictureRun(
        people=people,
        predict=predictor.predict,
        files=person_files(config, predictor.assets),
        facts=facts_of(predictor),
        seconds=seconds,
        batch_size=config.batch_size,
        focal_length=config.focal_length,
    )


def save_record(record: RunRecord, out_dir: Path, faces: np.ndarray | None) -> RunRecord:
    """Write what the run did, and the page about it where the body's `faces` are given; the record of all that."""
    try:
        record.save(out_dir)
        if faces is not None:
            write_gallery(out_dir / PAGE_NAME, out_dir, record, faces)
    except OSError as error:  # the results are there all the same
        reason = f"the record of the run cannot be written to '{out_dir}': {why_unwritable(error)}"
        log.error("%s", reason)
        return replace(record, outcomes=(*record.outcomes, Outcome(FILE_NAME, reason=reason)))
    return record


def loaded(config: DemoConfig, processes: Processes) -> Predictor:
    """The network and the body of a run. Raises ValueError and OSError for what is missing or does not fit."""
    predictor = load_predictor(
        config, device_number=processes.local_rank, normalise=not config.reference_input
    )
    log.info(predictor.describe())
    return predictor


def facts_of(predictor: Predictor) -> dict[str, str]:
    """Body and weights, as every result file names them."""
    return {"body_model": predictor.assets.body.model_id, "weights": predictor.weights.weights_id}


def results_folder(config: DemoConfig) -> Path:
    """The folder of results. Raises FileExistsError where a record or page would replace what is not the demo's."""
    folder = writable_folder(config.out_dir)
    require_free(folder / FILE_NAME, True, SCHEMA)
    if config.html:
        require_free(folder / PAGE_NAME, True, PAGE)
    return folder


def person_files(config: DemoConfig, assets: BodyAssets) -> PersonFiles:
    """The folder of results and who draws in it."""
    out_dir = results_folder(config)
    extra = opendr_or_none(assets.body.faces) if config.use_opendr else None
    renderer = mesh_renderer_class(config.renderer)
    return PersonFiles(out_dir, assets, config.export, renderer, extra, config.overwrite)


def idle_settings(config: DemoConfig) -> Unused:
    """Settings that were given and change nothing in this run."""
    unused, no_effect = Unused(), "settings without effect"
    is_video = config.video is not None
    if is_video and config.img_dir != DemoConfig.img_dir:
        unused.add(no_effect, example=f"img_dir {config.img_dir}: --video is looked at instead")
    if config.use_opendr and is_video:
        unused.add(no_effect, example="use_opendr: it adds to the panels of pictures")
    elif config.use_opendr and renderer_problem("opendr"):
        unused.add(no_effect, example="use_opendr: opendr does not work here")
    return unused


def where_people_are(config: DemoConfig) -> People:
    """The people of the pictures, by the file, folder or detector that the settings name."""
    if config.boxes is not None:
        return People(config.img_dir, load_boxes(config.boxes))
    if config.keypoints is not None:
        return People(config.img_dir, KeypointFiles(config.keypoints))
    return People(config.img_dir, detector=config.detector, detector_weights=config.detector_weights)


def suspicions_of_camera(config: DemoConfig, sizes: Iterable[tuple[int, int]]) -> dict[str, str]:
    """What is odd with --focal_length for the smallest picture. Raises ValueError for what cannot be."""
    smallest = min(sizes, key=lambda size: size[0] * size[1], default=None)
    told = check_focal_length(config.focal_length, smallest) if smallest else ""
    if told:
        log.warning("Suspicion: %s", told)
    return {"suspicion about the camera": told} if told else {}


def shown_settings(config: DemoConfig, processes: Processes) -> dict[str, str]:
    """The settings that a reader of the results asks for, as far as they are given."""
    source = "img_dir" if config.video is None else "video"
    where = ("detector", "detector_weights", "boxes", "keypoints", "focal_length")
    how = ("checkpoint", "batch_size", "reference_input", "smooth", "renderer", "export")
    values = {name: getattr(config, name) for name in (source, *where, *how)}
    given = {name: value for name, value in values.items() if value not in (None, False, ())}
    shown = {name: " ".join(v) if isinstance(v, tuple) else str(v) for name, v in given.items()}
    return {**shown, "processes": str(processes.count)}


if __name__ == "__main__":
    run_script(main)
