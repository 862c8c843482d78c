"""COCO keypoint AP of body estimates, or GPS of dense maps, on any folder of COCO form (docs/method.md 11.3, 11.6).

python eval_coco.py --checkpoint data/pretrained_model/danet_model_h36m_dpcoco.pt
python eval_coco.py --ann_file annotations.json --img_root pictures
python eval_coco.py --densepose
python eval_coco.py --densepose --bodies bodies_of_another_system.json

Written: the results JSON of keypoints in <output_dir>/results, and protocol.json, errors.npz and report.html in
<output_dir>/coco_<set>_<regressor> or densepose_<set>_<regressor>. Exit code 0: all good; 2: some people could not be
read; 1: nothing was scored.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.coco_dataset import COCODataset
from datasets.dense_coco import DenseCOCODataset, find_minival
from datasets.labels.coco import CocoFile, in_file_order, read_coco_file, truth_for_pycocotools
from datasets.loading import load_planned
from datasets.registry import PathsConfig
from models.evaluation.coco import Keypoints
from models.evaluation.dense import DenseMaps
from models.evaluation.parts import PART_NEED
from models.evaluation.projected_bodies import BEGIN, BodyFile, DenseBodies, read_bodies, write_bodies
from models.evaluation.report import require_free_results
from models.evaluation.resumable import Results
from models.evaluation.run import Evaluation, EvaluationConfig, evaluate
from models.inference.predictor import Predictor, load_predictor
from utils.body import CORE_NEED, resolve_body, resolve_surface
from utils.config import group, option, parse_config
from utils.geometry import BOX_MARGIN
from utils.io import DataFileError, require_free, require_writable, save_json_atomic
from utils.runtime import joined_processes, report_error, setup_logging

ROWS = '[\n {\n  "image_id": '  # how the list of keypoints begins

log = logging.getLogger("eval_coco")


@dataclass(frozen=True)
class EvalCocoConfig(EvaluationConfig):
    """Settings of a COCO evaluation."""

    ann_file: str | None = option(None, "COCO keypoint annotations; default: val2014 of --data_dir")
    img_root: str | None = option(None, "folder of the annotations' images")
    detections: str | None = option(None, "COCO detections JSON: score these boxes, not the annotated ones")
    min_score: float = option(0.0, "detections below are left out")
    densepose: bool = option(False, "score dense maps against DensePose's points (GPS) instead of keypoints")
    bodies: str | None = option(
        None, "JSON of projected bodies (smpl_xy_proj): score these, not the network's"
    )
    write_bodies: str | None = option(None, "also write the network's projected bodies to this JSON")
    paths: PathsConfig = group(PathsConfig)

    def __post_init__(self):
        super().__post_init__()
        if (self.ann_file is None) != (self.img_root is None):
            raise ValueError("--ann_file and --img_root belong together: give both, or none for val2014.")
        if self.detections and not self.ann_file:
            raise ValueError(
                "--detections needs the annotations it is scored against: --ann_file and --img_root."
            )
        if (self.bodies or self.write_bodies) and not self.densepose:
            raise ValueError("--bodies and --write_bodies belong to --densepose.")
        if sum(map(bool, (self.bodies, self.write_bodies, self.detections))) > 1:
            raise ValueError(
                "Bodies of a file belong to annotated people: give one of --bodies, --write_bodies, --detections."
            )
        if self.densepose and self.crop_mode != "warp":
            raise ValueError("--densepose needs exact crops: --crop_mode warp.")


def open_dataset(cfg: EvalCocoConfig) -> tuple[COCODataset, CocoFile]:
    """People to evaluate, and the annotations they are scored against. Raises DataFileError for damaged ones."""
    if cfg.ann_file:
        dataset = COCODataset(
            cfg.ann_file, cfg.img_root, cfg.detections, crop_mode=cfg.crop_mode, min_score=cfg.min_score
        )
        return dataset, dataset.truth
    dataset = COCODataset.from_extras(cfg.data_dir, cfg.paths, crop_mode=cfg.crop_mode)
    ann_file = dataset.root / "annotations" / "person_keypoints_val2014.json"
    if not ann_file.is_file():
        raise FileNotFoundError(
            f"The annotations of val2014 are not at {ann_file}. They come in annotations_trainval2014.zip from "
            "cocodataset.org; or give others by --ann_file and --img_root."
        )
    truth = read_coco_file(ann_file)
    unknown = [image_id for image_id in dataset.image_ids if image_id not in truth.head.names]
    if unknown:
        raise DataFileError(
            f"{ann_file} does not know {len(unknown):,} of the {len(dataset.image_ids):,} images of {dataset.file}, "
            f"first the id {unknown[0]}. Give the annotations of these images."
        )
    return dataset, truth


def prepare(cfg: EvalCocoConfig) -> Evaluation:
    """The people of the set with the protocol and the network that they are scored by."""
    title = Path(cfg.ann_file).stem.removeprefix("person_keypoints_") if cfg.ann_file else "val2014"
    folder = Path(cfg.output_dir) / f"coco_{title}_{cfg.regressor}"
    rows_file = Path(cfg.output_dir) / "results" / f"keypoints_{title}_results_{cfg.regressor}.json"
    require_free_results(folder, cfg.result_file, cfg.overwrite)
    require_free(rows_file, cfg.overwrite, ROWS)
    require_writable(rows_file.parent)
    people, truth = open_dataset(cfg)
    predictor = load_predictor(cfg, PART_NEED)
    protocol = Keypoints(predictor, people.labels, truth_for_pycocotools(truth), people.image_ids)
    return Evaluation(
        name=f"coco {title}",
        folder=folder,
        people=people,
        protocol=protocol,
        load=lambda batches: load_planned(people, batches, cfg.workers),
        settings={"set": title, "min_score": str(cfg.min_score)},
        files=[truth.head.path, *([Path(cfg.detections)] if cfg.detections else [])],
        images=map(people.image_path, range(len(people))),
        facts={
            "protocol": "COCO keypoint AP by pycocotools, every keypoint with the score 1, no suppression",
            "boxes": f"detections of {cfg.detections}" if cfg.detections else people.rule,
            "images": f"{len(people.image_ids)}: those of the file; AP is over them",
            "crop mode": f"{cfg.crop_mode}, 224 px, longer side of the box x {BOX_MARGIN}",
        },
        notes=[f"{truth.head.path}: {note}" for note in truth.notes],
        suspicions=list(dict.fromkeys([*people.suspicions, *truth.suspicions])),
        save=lambda results: save_json_atomic(
            rows_file, in_file_order(protocol.rows(results), truth.head), cfg.overwrite
        ),
    )


def load_dense(cfg: EvalCocoConfig, people: DenseCOCODataset) -> Predictor | BodyFile:
    """The network or the bodies of a file. Raises ValueError where the labels lie on another body's surface."""
    if cfg.bodies:
        predictor = read_bodies(cfg.bodies, resolve_body(cfg.body, cfg.data_dir, CORE_NEED))
    else:
        predictor = load_predictor(cfg, CORE_NEED)
    if people.body != (used := predictor.assets.body.model_id):
        raise ValueError(
            f"The points of {people.file} lie on the surface of the body '{people.body}', but this run has the body "
            f"'{used}', whose U and V are others. Points of DensePose need the official files (--body smpl; "
            "docs/licensed_files.md), those of rendered people --body open."
        )
    return predictor


def prepare_dense(cfg: EvalCocoConfig) -> Evaluation:
    """People with DensePose labels, with the network or the bodies of a file that they are scored by."""
    where = (
        (Path(cfg.ann_file), Path(cfg.img_root)) if cfg.ann_file else find_minival(cfg.data_dir, cfg.paths)
    )
    regressor = "bodies" if cfg.bodies else cfg.regressor
    folder = Path(cfg.output_dir) / f"densepose_{where[0].stem.removeprefix('densepose_')}_{regressor}"
    require_free_results(folder, cfg.result_file, cfg.overwrite)
    if cfg.write_bodies:
        require_free(cfg.write_bodies, cfg.overwrite, BEGIN)
        require_writable(Path(cfg.write_bodies).parent)
    people = DenseCOCODataset(*where, cfg.detections, min_score=cfg.min_score)
    predictor = load_dense(cfg, people)
    surface = resolve_surface(predictor.assets, cfg.data_dir)
    truth = truth_for_pycocotools(people.truth, dense=True)
    given, ids = (predictor, surface, people, truth, people.image_ids), people.annotation_ids()
    protocol = DenseBodies(*given, ids) if cfg.bodies else DenseMaps(*given)

    def save(results: Results) -> None:
        if cfg.write_bodies:
            write_bodies(cfg.write_bodies, protocol, results, ids, cfg.overwrite)

    return Evaluation(
        name=f"densepose {where[0].stem}",
        folder=folder,
        people=people,
        protocol=protocol,
        load=lambda batches: load_planned(people, batches, cfg.workers, protocol.extra),
        settings={"set": where[0].stem, "min_score": str(cfg.min_score), "geodesics": surface.source},
        files=[where[0], *(Path(name) for name in (cfg.detections, cfg.bodies) if name)],
        images=map(people.image_path, range(len(people))),
        facts={
            "protocol": "GPS, GPSm = sqrt(GPS x IoU of masks), AP and AR by pycocotools' matching, 20 results an image",
            "boxes": f"detections of {cfg.detections}" if cfg.detections else people.rule,
            "maps": "map: the network's, interpolated before its parts are chosen; body: drawn from the body",
            "geodesic distances": surface.source,
            "images": f"{len(people.image_ids)}: those of the file; AP is over them",
            "crop mode": f"{cfg.crop_mode}, 224 px, longer side of the box x {BOX_MARGIN}",
        },
        notes=[f"{people.truth.head.path}: {note}" for note in people.truth.notes],
        suspicions=list(dict.fromkeys(people.suspicions)),
        save=save,
    )


def main(argv: Sequence[str] | None = None) -> int:
    config = parse_config(EvalCocoConfig, argv, __doc__.splitlines()[0])
    try:
        with joined_processes() as processes:
            setup_logging(level=logging.INFO if processes.is_first else logging.WARNING)
            task = prepare_dense(config) if config.densepose else prepare(config)
            return evaluate(config, task, processes)
    except (ValueError, OSError, ImportError) as error:
        return report_error(log, error)


if __name__ == "__main__":
    run_script(main, on_stop="what was computed is kept, --resume continues.")
