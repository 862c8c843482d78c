"""COCO keypoint AP of body estimates, on val2014 or any folder of COCO form (docs/method.md 11.3).

python eval_coco.py --checkpoint data/pretrained_model/danet_model_h36m_dpcoco.pt
python eval_coco.py --ann_file annotations.json --img_root pictures

Written: the results JSON in <output_dir>/results, and protocol.json, errors.npz and report.html in
<output_dir>/coco_<set>_<regressor>. Exit code 0: all good; 2: some people could not be read; 1: nothing was scored.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.coco_dataset import COCODataset
from datasets.labels.coco import CocoFile, in_file_order, read_coco_file, truth_for_pycocotools
from datasets.loading import load_planned
from datasets.registry import PathsConfig
from models.evaluation.coco import Keypoints
from models.evaluation.parts import PART_NEED
from models.evaluation.report import require_free_results
from models.evaluation.run import Evaluation, EvaluationConfig, run_evaluation
from models.inference.predictor import load_predictor
from utils.config import group, option, parse_config
from utils.geometry import BOX_MARGIN
from utils.io import DataFileError, require_free, require_writable, save_json_atomic

ROWS = '[\n {\n  "image_id": '  # how the list of keypoints begins


@dataclass(frozen=True)
class EvalCocoConfig(EvaluationConfig):
    """Settings of a COCO evaluation."""

    ann_file: str | None = option(None, "COCO keypoint annotations; default: val2014 of --data_dir")
    img_root: str | None = option(None, "folder of the annotations' images")
    detections: str | None = option(None, "COCO detections JSON: score these boxes, not the annotated ones")
    min_score: float = option(0.0, "detections below are left out")
    paths: PathsConfig = group(PathsConfig)

    def __post_init__(self):
        super().__post_init__()
        if (self.ann_file is None) != (self.img_root is None):
            raise ValueError("--ann_file and --img_root belong together: give both, or none for val2014.")
        if self.detections and not self.ann_file:
            raise ValueError(
                "--detections needs the annotations it is scored against: --ann_file and --img_root."
            )


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


def main(argv: Sequence[str] | None = None) -> int:
    return run_evaluation(prepare, parse_config(EvalCocoConfig, argv, __doc__.splitlines()[0]))


if __name__ == "__main__":
    run_script(main, on_stop="what was computed is kept, --resume continues.")
