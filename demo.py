"""Images of people to dense body parts and posed bodies: `<stem>_result.png` and `<stem>.npz` for each person,
`<image>_people.jpg` with all of them where people were cut out of an image. Of a video, `<stem>_people.mp4` and
`<stem>_track<k>.npz` for each person. With --densepose also `densepose/<preset>/`, maps of whole images for other
programs. `run.json` tells about the run.

Exit code 0: all good; 2: something was skipped (`run.json` lists it with its reason); 1: nothing was done.
"""

from __future__ import annotations

from utils.script import StopSignals, run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.labels.check import sizes_of_some
from datasets.people.boxes import load_boxes
from datasets.people.crops import DETECTORS, People, build_detector
from datasets.people.detector import unused_of
from datasets.people.openpose import KeypointFiles
from datasets.people.video import VideoFrames
from datasets.people.video_people import MAX_STRIDE, VideoPeople
from models import InferenceConfig, Predictor, load_predictor
from models.inference.dense_files import SOURCES, DenseFiles, charts_warning
from models.inference.dense_video import DenseVideo
from models.inference.gallery import PAGE_NAME, save_run
from models.inference.image_files import ImageFiles
from models.inference.image_run import ImageRun
from models.inference.pipeline import Seconds
from models.inference.run_record import (
    FILE_NAME,
    SCHEMA,
    RunRecord,
    settings_without_effect,
    shown_settings,
    with_earlier,
    with_earlier_maps,
)
from models.inference.video_files import VideoFiles
from models.inference.video_run import VideoRun
from utils.body import check_height
from utils.command_line import NOTHING_DONE
from utils.config import option, parse_config, require_range
from utils.export import EXPORTS, PANEL_SUFFIX, check_formats, require_export_packages
from utils.export.densepose import PRESETS, check_presets
from utils.geometry import check_focal_length
from utils.io import require_free, writable_folder
from utils.io.marks import PAGE
from utils.packages import require_packages
from utils.renderer.backends import RENDERERS, mesh_renderer_class, opendr_or_none
from utils.runtime import Processes, joined_processes, report_error, setup_logging

log = logging.getLogger("demo")


@dataclass(frozen=True)
class DemoConfig(InferenceConfig):
    """Settings of the demo."""

    img_dir: str = option("./examples", "an image or a folder of images")
    video: str | None = option(None, "a video file, or the number of a camera, instead of images")
    smooth: bool = option(False, "smooth the people of a video over time")
    out_dir: str = option("./output", "where results are written")
    static_camera: bool = option(
        False, "the camera of a video stands still: level the world, with a ground, and keep standing feet in place"
    )
    overwrite: bool = option(False, "replace results that are there; without it their images are skipped")
    batch_size: int = option(8, "people at a time")
    detector: str = option(
        "auto",
        "who finds the people: movenet, torchvision, or none (an image is one person's crop); auto: movenet, but "
        "square images that are one person's crop are taken whole", choices=DETECTORS,
    )  # fmt: skip
    detector_weights: str | None = option(None, "weights file of --detector torchvision")
    detector_stride: int = option(1, "of a video: the detector looks at each Nth frame only, 1..10")
    boxes: str | None = option(None, "JSON file with person boxes, instead of a detector")
    keypoints: str | None = option(None, "folder of OpenPose's <stem>_keypoints.json, instead of a detector")
    export: tuple[str, ...] = option((), f"also write each person as any of {', '.join(EXPORTS)}")
    densepose: tuple[str, ...] = option(
        (), f"also write DensePose maps of whole images in the forms of other programs: any of {', '.join(PRESETS)}"
    )
    dense_source: str = option(
        "map", "what those maps show: map, the network's view, or body, the predicted bodies", choices=SOURCES
    )
    html: bool = option(False, "write index.html, one page with all results")
    focal_length: float | None = option(None, "of the full images, pixels; default: by EXIF, else their diagonal")
    height: float | None = option(None, "of a person, standing, in metres, to scale bodies by; default: as predicted")
    renderer: str = option("builtin", "who draws the bodies", choices=RENDERERS)
    use_opendr: bool = option(False, "add views by opendr to the panel, if it works here")
    reference_input: bool = option(False, "feed pixels in 0..1 without normalising, as the 2020 demo did")

    def __post_init__(self):
        super().__post_init__()
        check_formats(self.export, video=self.video is not None)
        check_presets(self.densepose)
        require_range(self, 1, MAX_STRIDE, "detector_stride")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        check_height(self.height)
        if self.focal_length is not None and not 0 < self.focal_length < float("inf"):
            raise ValueError(f"focal_length must be a positive number of pixels, got {self.focal_length}.")
        if (self.detector != "auto") + (self.boxes is not None) + (self.keypoints is not None) > 1:
            raise ValueError("Give one of --detector, --boxes and --keypoints: each says where the people are.")
        of_images = [name for name in ("boxes", "keypoints", "html") if getattr(self, name)]
        if self.video is not None and of_images:
            raise ValueError(f"{of_images[0]} is for images and cannot be used with --video; leave one of them out.")
        if self.smooth and self.video is None:
            raise ValueError("smooth is for --video FILE; images have no order in time.")
        if self.static_camera and self.video is None:
            raise ValueError("static_camera is for --video FILE; an image has no feet that stand still over time.")
        if self.detector_weights is not None and self.detector != "torchvision":
            raise ValueError("detector_weights belongs to --detector torchvision; give both or none.")


def main(argv: Sequence[str] | None = None) -> int:
    config = parse_config(DemoConfig, argv, __doc__)
    try:
        with joined_processes() as processes, StopSignals() as stop:
            setup_logging(level=logging.INFO if processes.is_first else logging.ERROR)
            require_export_packages(config.export)
            if config.video is None:
                return run_images(config, processes, stop)
            require_packages("--video", "video", "av")
            return run_video(config, processes, stop)
    except (ValueError, OSError, ImportError) as error:
        return report_error(log, error)


def run_images(config: DemoConfig, processes: Processes, stop: StopSignals) -> int:
    """Run on images, each process on its share; the first writes the record. Returns the exit code."""
    seconds = Seconds()
    people = find_people(config)
    camera = camera_facts(config, sizes_of_some(lambda index: people.paths[index], len(people)).values())
    predictor = load_predictor(config, local_rank=processes.local_rank, normalise=not config.reference_input)
    log.info(predictor.describe())
    stop.end_if_asked()
    run = image_run(config, predictor, people.stems, seconds)
    charts = charts_facts(config, predictor)
    processes.wait_for_all()  # results in the folder of images must not be listed as images
    with logging_redirect_tqdm(), run:
        for crop in run.read_ahead(people, people.paths[processes.rank :: processes.count], stop):
            run.add(crop)
        outcomes = run.finish()
    processes.wait_for_all()  # shares may differ by hours
    outcomes = [outcome for share in processes.gather(outcomes) for outcome in share]
    maps = [each for share in processes.gather([] if run.dense is None else run.dense.maps) for each in share]
    left_out = processes.gather(people.left_out)
    names, out_dir = [path.name for path in people.paths], Path(config.out_dir)
    record = RunRecord(
        with_earlier(outcomes, out_dir, names, (".npz", PANEL_SUFFIX)),
        seconds.so_far(),
        {**predictor.facts, **shown_settings(config, processes), **people.facts, **camera, **charts},
        people.unused.with_others([*left_out, settings_without_effect(config)]),
        with_earlier_maps(maps, out_dir, names),
    )
    if processes.is_first:
        record = save_run(record, out_dir, predictor.assets.body.faces if config.html else None)
        log.info(
            "People written to %s: %d, in %.1f s. Files or people skipped: %d. %s",
            out_dir, len(record.written), seconds.so_far()["whole run"], len(record.skipped), record.unused.line(),
        )  # fmt: skip
        if record.exit_code == NOTHING_DONE:
            log.error("Nothing of '%s' was done; the reasons stand above.", config.img_dir)
    processes.wait_for_all()  # torchrun ends all when one has ended with another code than 0
    return record.exit_code


def run_video(config: DemoConfig, processes: Processes, stop: StopSignals) -> int:
    """Run on a video, frame by frame. Returns the exit code."""
    if processes.count > 1:
        raise ValueError("A video is the work of one process: start demo.py without torchrun.")
    frames = VideoFrames(config.video)
    camera = camera_facts(config, [frames.size])
    out_dir = results_folder(config)
    name = "movenet" if config.detector == "auto" else config.detector  # frames are not made for the network
    detector = build_detector(name, config.detector_weights)
    predictor = load_predictor(config, local_rank=processes.local_rank, normalise=not config.reference_input)
    log.info(predictor.describe())
    renderer = mesh_renderer_class(config.renderer)
    files = VideoFiles(
        out_dir, frames.stem, predictor.assets, config.export, renderer, config.overwrite, config.static_camera
    )
    files.require_free()
    maps = dense_files(config, predictor, out_dir)
    dense = None if maps is None else DenseVideo(maps, frames.name, frames.stem)
    if dense is not None:
        dense.require_free()
    charts = charts_facts(config, predictor)
    stop.end_if_asked()
    read, stride = takewhile(lambda _: not stop.asked, frames), 1 if name == "none" else config.detector_stride
    people = VideoPeople(read, detector.detect, config.smooth, stride)
    run = VideoRun(
        frames, people, predictor, files, config.batch_size, config.smooth, config.focal_length, stop, dense=dense,
        height=config.height,
    )  # fmt: skip
    with logging_redirect_tqdm(), run:
        for frame in run.read_ahead():
            run.add(frame)
        outcomes, fps = run.finish(), run.fps
    record = RunRecord(
        with_earlier(outcomes, out_dir, [frames.name], (".npz",)),
        run.seconds.so_far(),
        {**predictor.facts, **shown_settings(config, processes), **camera, **charts},
        run.unused().with_others([unused_of(detector), settings_without_effect(config)]),
        with_earlier_maps([] if maps is None else maps.maps, out_dir, [frames.name]),
    )
    record = save_run(record, out_dir)
    for name, reason in record.skipped:
        log.error("%s: %s", name, reason)
    log.info(
        "Frames: %d (%.1f a second). People written to %s: %d. Shortcomings: %d. %s",
        run.video.frames, fps, out_dir, len(record.written), len(record.skipped), record.unused.line(),
    )  # fmt: skip
    return record.exit_code


def find_people(config: DemoConfig) -> People:
    """The people of the images, by the file, folder or detector that the settings name."""
    given = None if config.boxes is None else load_boxes(config.boxes)
    given = given if config.keypoints is None else KeypointFiles(config.keypoints)
    return People(config.img_dir, given, config.detector, config.detector_weights)


def image_run(
    config: DemoConfig, predictor: Predictor, stems: Mapping[Path, str], seconds: Seconds
) -> ImageRun:
    """The `ImageRun` of the settings, not yet entered; stems: of all images."""
    assets = predictor.assets
    extra = opendr_or_none(assets.body.faces) if config.use_opendr else None
    renderer = mesh_renderer_class(config.renderer)
    files = ImageFiles(results_folder(config), assets, config.export, renderer, extra, config.overwrite)
    dense = dense_files(config, predictor, files.out_dir, stems)
    return ImageRun(predictor, files, config.batch_size, config.focal_length, seconds, dense, config.height)


def dense_files(
    config: DemoConfig, predictor: Predictor, out_dir: Path, stems: Mapping[Path, str] | None = None
) -> DenseFiles | None:
    """The maps of --densepose; None without."""
    if not config.densepose:
        return None
    return DenseFiles(
        out_dir, config.densepose, config.dense_source, predictor.assets.atlas, config.overwrite, stems or {}
    )


def charts_facts(config: DemoConfig, predictor: Predictor) -> dict[str, str]:
    """What is to be known about U and V of the maps; logged, too."""
    warning = charts_warning(
        config.densepose, config.dense_source, predictor.weights, predictor.assets.atlas
    )
    if warning:
        log.warning("%s.", warning)
    return {"U and V": warning} if warning else {}


def results_folder(config: DemoConfig) -> Path:
    """The folder of results. Raises FileExistsError where a record or page would replace what is not the demo's."""
    folder = writable_folder(config.out_dir)
    require_free(folder / FILE_NAME, True, SCHEMA)
    if config.html:
        require_free(folder / PAGE_NAME, True, PAGE)
    return folder


def camera_facts(config: DemoConfig, sizes: Iterable[tuple[int, int]]) -> dict[str, str]:
    """Warning about an unlikely --focal_length for the smallest image. Raises ValueError for an impossible one."""
    smallest = min(sizes, key=lambda size: size[0] * size[1], default=None)
    suspicion = check_focal_length(config.focal_length, smallest) if smallest else ""
    if suspicion:
        log.warning("Suspicion: %s", suspicion)
    return {"suspicion about the camera": suspicion} if suspicion else {}


if __name__ == "__main__":
    run_script(main)
