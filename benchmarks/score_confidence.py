"""Whether `confidence` tells good predictions from bad ones, on labelled photographs.

    python benchmarks/score_confidence.py --ann_file FILE --img_root DIR   # OKS of COCO-style annotations
    python benchmarks/score_confidence.py --masks DIR   # <name>.jpg, <name>.png: IoU of body and person mask

Keypoints of the detector are used where it finds the annotated person. Printed are the mean of the score below and
above the threshold, and Spearman's rank correlation of confidence and score.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from scipy.stats import spearmanr

from datasets.people.detector import MoveNet, box_iou
from datasets.transforms import box_to_center_scale, crop_image
from models import InferenceConfig, load_predictor
from models.inference.confidence import COCO17_FROM_49, LOW_CONFIDENCE, why_no_body, with_keypoints
from utils.geometry import BOX_UNIT, CROP_SIZE, project_to_crop
from utils.images import read_image
from utils.io import load_json
from utils.people import Detection
from utils.renderer import IUV_Renderer

SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000  # of COCO
SAME_PERSON = 0.4  # IoU


class Setup:
    """The shipped network on the open body, and the detector."""

    def __init__(self, refine: bool):
        self.predictor = load_predictor(InferenceConfig(body="open", device="cpu", refine=refine))
        self.finder = MoveNet()
        self.renderer = IUV_Renderer(out_size=CROP_SIZE, atlas=self.predictor.assets.atlas)

    def predict(self, pixels: np.ndarray, found: Detection) -> tuple[dict, float, tuple, float]:
        """Arrays, confidence, centre and scale of a person of an image; the confidence is 0 where there is no body."""
        center, scale = box_to_center_scale(found.box, found.margin)
        (arrays,) = self.predictor.predict([crop_image(pixels, center, scale)])
        confidence = 0.0 if why_no_body(arrays) else with_keypoints(arrays, found.keypoints, center, scale)
        return arrays, confidence, center, scale


def annotated_people(
    setup: Setup, ann_file: Path, img_root: Path, detect: bool
) -> Iterator[tuple[float, float]]:
    """Confidence and OKS of each person with keypoints."""
    content = load_json(ann_file)
    people: dict[int, list[dict]] = {}
    for entry in content["annotations"]:
        if entry.get("num_keypoints", 0) and not entry.get("iscrowd", 0):
            people.setdefault(entry["image_id"], []).append(entry)
    for image in content["images"]:
        pixels = read_image(img_root / image["file_name"]) if image["id"] in people else None
        found = setup.finder.detect(pixels) if detect and pixels is not None else []
        for entry in people.get(image["id"], []):
            box = tuple(entry["bbox"])
            same = max(found, key=lambda person: box_iou(person.box, box), default=None)
            seen = same is not None and box_iou(same.box, box) > SAME_PERSON
            person = Detection(box, keypoints=same.keypoints if seen else None)
            arrays, confidence, center, scale = setup.predict(pixels, person)
            joints = torch.from_numpy(arrays["joints"][COCO17_FROM_49])[None]
            points = project_to_crop(joints, torch.from_numpy(arrays["cam"])[None])[0].numpy()
            true = np.reshape(entry["keypoints"], (17, 3))
            away = np.linalg.norm(np.array(center) + points * BOX_UNIT * scale / 2 - true[:, :2], axis=1)
            near = np.exp(-(away**2) / (2 * (2 * SIGMAS) ** 2 * entry["area"]))
            yield confidence, float(near[true[:, 2] > 0].mean())


def masked_people(setup: Setup, folder: Path) -> Iterator[tuple[float, float]]:
    """Confidence and IoU of body and mask of the largest person found in each image."""
    for path in sorted(folder.glob("*.jpg")):
        pixels, mask = read_image(path), read_image(path.with_suffix(".png"))
        found = setup.finder.detect(pixels)
        if not found:
            print(f"no person is found in {path.name}")
            continue
        main = max(found, key=lambda person: person.box[2] * person.box[3])
        arrays, confidence, center, scale = setup.predict(pixels, main)
        vertices, cam = (torch.from_numpy(arrays[name])[None] for name in ("vertices", "cam"))
        body = setup.renderer.verts2uvimg(vertices, cam)[0, 0].numpy() > 0
        true = crop_image(mask, center, scale)[..., 0] > 127
        yield confidence, float((body & true).sum() / (body | true).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ann_file", type=Path, help="COCO keypoint annotations")
    parser.add_argument("--img_root", type=Path, default=Path("."), help="folder of their images")
    parser.add_argument(
        "--no_keypoints", action="store_true", help="confidence without the detector's keypoints"
    )
    parser.add_argument("--masks", type=Path, help="folder of images and masks")
    parser.add_argument("--refine", action="store_true", help="confidence of refined bodies")
    args = parser.parse_args()
    if (args.ann_file is None) == (args.masks is None):
        parser.error("give one of --ann_file and --masks")
    if args.masks is not None:
        name, people = "IoU", masked_people(Setup(args.refine), args.masks)
    else:
        setup = Setup(args.refine)
        name, people = "OKS", annotated_people(setup, args.ann_file, args.img_root, not args.no_keypoints)
    confidence, score = np.array(list(people)).T
    for words, chosen in (("below", confidence < LOW_CONFIDENCE), ("from", confidence >= LOW_CONFIDENCE)):
        mean = f"{score[chosen].mean():.3f}" if chosen.any() else "-"
        print(f"confidence {words} {LOW_CONFIDENCE:g}: {chosen.sum()} people, mean {name} {mean}")
    lowest = confidence <= np.quantile(confidence, 0.25)
    print(
        f"least confident quarter: mean {name} {score[lowest].mean():.3f}; others {score[~lowest].mean():.3f}"
    )
    print(f"rank correlation of confidence and {name}: {spearmanr(confidence, score)[0]:.2f}")


if __name__ == "__main__":
    main()
