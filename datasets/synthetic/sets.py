"""Synthetic evaluation sets: photographs and labels in the files and folders of seven real sets.

    python -m datasets.synthetic --write DIR --count 64

DIR then serves as a --data_dir. The same people stand in every set, with what that set annotates (docs/method.md 8.8):
Human3.6M and MPI-INF-3DHP 3D joints, 3DPW pose and shape, LSP masks and parts, COCO keypoints, DensePose-COCO points.
All truth is the open body's, so a perfect prediction has no error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from datasets.labels.files import Rows, gt24, save_labels
from datasets.synthetic.annotations import (
    coco_annotations,
    coco_categories,
    dense_annotation,
    in_image,
    part_image,
)
from datasets.synthetic.generator import Resources
from datasets.synthetic.wide import WidePerson, render_wide
from utils.body import OPEN_DIR, load_open_body, read_regressor
from utils.io import atomic_write, load_json, save_json_atomic
from utils.renderer.lsp_parts import skinning_classes
from utils.skeleton import GT24_TO_COCO17, H36M17_IN_GT24, NUM_LSP_JOINTS

EXTRAS = "dataset_extras"
MARKER = "synthetic_sets.json"  # says that the sets in a folder are ours, so that they may be replaced

ACTIONS = (
    "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting",
    "SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether",
)  # fmt: skip
FRONTAL_CAMERA = 60457274
CAMERAS = (FRONTAL_CAMERA, 54138969, 55011271, 58860488)
FIRST_LSP = 1001  # the test images' numbers
COCO_JSON = "coco/annotations/person_keypoints_val2014.json"
DENSE_JSON = "coco/annotations/densepose_coco_2014_minival.json"
MASK_FOLDER = "upi-s1h"
SMPL_WEIGHT = 0.5  # DensePose-COCO's SMPL joints follow from COCO's keypoints and weigh half


def h36m_name(index: int, camera: int) -> str:
    """Image of every fifth frame of takes like S9_Eating_1."""
    turn, action = divmod(index, len(ACTIONS))
    take = f"S{(9, 11)[turn % 2]}_{ACTIONS[action]}_{1 + turn // 2 % 2}"
    return f"images/{take}.{camera}_{5 * (turn // 4) + 1:06d}.jpg"


def mpi_inf_3dhp_name(index: int) -> str:
    """Image of one of the six test sequences, in turn."""
    return f"mpi_inf_3dhp_test_set/TS{1 + index % 6}/imageSequence/img_{1 + index // 6:06d}.jpg"


def coco_ids(index: int) -> tuple[int, int]:
    """Numbers of image `index` and of the person in it."""
    return 1_009 + 37 * index, 2_150_001 + 11 * index


def coco_name(index: int) -> str:
    """Image of COCO's validation set."""
    return f"val2014/COCO_val2014_{coco_ids(index)[0]:012d}.jpg"


def lsp_label_names(index: int) -> tuple[str, str]:
    """Images of the mask and of the part classes, below the folder of UPi-S1h."""
    stem = f"data/lsp/im{FIRST_LSP + index:04d}"
    return f"{stem}_segmentation.png", f"{stem}_part_segmentation.png"


@dataclass(frozen=True)
class Layout:
    """Folder of a set's photographs, and the joints (of 24) that it annotates."""

    folder: str
    image_name: Callable[[int], str]  # below the folder, by the person's number
    joints: Sequence[int] = ()


LAYOUTS = {
    "h36m_valid_protocol1": Layout("h36m", lambda i: h36m_name(i, CAMERAS[i % len(CAMERAS)])),
    "h36m_valid_protocol2": Layout("h36m", lambda i: h36m_name(i, FRONTAL_CAMERA)),
    "3dpw_test": Layout("3dpw", lambda i: f"imageFiles/open_people_{i // 16:02d}/image_{i % 16:05d}.jpg"),
    "lsp_dataset_test": Layout("lsp_dataset", lambda i: f"images/im{FIRST_LSP + i:04d}.jpg", range(NUM_LSP_JOINTS)),
    "mpi_inf_3dhp_valid": Layout("mpi_inf_3dhp", mpi_inf_3dhp_name, H36M17_IN_GT24),
    "coco_2014_val": Layout("coco", coco_name, GT24_TO_COCO17),
    "dp_coco_2014_minival": Layout("coco", coco_name, GT24_TO_COCO17),
}  # fmt: skip


def image_paths(index: int) -> set[str]:
    """Paths of a person's photograph in all sets, below the folder of the sets."""
    return {f"{layout.folder}/{layout.image_name(index)}" for layout in LAYOUTS.values()}


def mask_paths(index: int) -> list[str]:
    """Paths of a person's LSP mask and part classes, below the folder of the sets."""
    return [f"{MASK_FOLDER}/{name}" for name in lsp_label_names(index)]


def write_sets(
    folder: Path,
    resources: Resources,
    count: int,
    seed: int,
    difficulty: float = 1.0,
    overwrite: bool = False,
) -> list[str]:
    """Write all sets with `count` people below `folder`.

    Args:
        seed, difficulty: see `render_wide`.
        overwrite: replace synthetic sets that are there.
    Returns:
        One sentence a set.
    Raises:
        FileExistsError: when `folder` holds sets; with `overwrite`, only when they are not synthetic ones.
    """
    prepare_folder(folder, overwrite)
    body = load_open_body()
    facts = {"people": count, "seed": seed, "split": resources.split.name, "body": body.model_id}
    save_json_atomic(folder / MARKER, {"made by": "python -m datasets.synthetic --write", **facts})
    matrix = read_regressor(OPEN_DIR / "regressors.npz", "h36m").matrix
    face_class = skinning_classes(body)
    rows = {name: Rows(f"{name}.npz") for name in LAYOUTS}
    coco = {"images": [], "annotations": [], "categories": coco_categories(),
            "info": {"description": "synthetic people", "body": body.model_id}}  # fmt: skip
    dense_people = []
    for index in tqdm(range(count), unit="person", disable=None):
        person = render_wide(resources, seed, index, difficulty)
        _write_images(folder, index, person, face_class)
        image_id, person_id = coco_ids(index)
        width, height = person.view.size
        file = {"file_name": Path(coco_name(index)).name, "width": width, "height": height}
        coco["images"].append({"id": image_id, **file})
        annotations = coco_annotations(person, image_id, person_id)
        dense = dense_annotation(np.random.default_rng((seed, index)), person, resources.assets.face_uv)
        coco["annotations"] += annotations
        dense_people += [annotations[0] | dense, *annotations[1:]]
        labels = person_labels(person, index, matrix @ person.body.vertices) | {"dp_annot": dense}
        for name, layout in LAYOUTS.items():
            annotated = np.isin(np.arange(24), list(layout.joints))[:, None]
            values = {"imgname": layout.image_name(index), "part": np.where(annotated, labels["part"], 0)}
            rows[name].add(**{key: (labels | values)[key] for key in rows[name].fields})
    save_json_atomic(folder / COCO_JSON, coco)
    save_json_atomic(folder / DENSE_JSON, coco | {"annotations": dense_people})
    for name, items in rows.items():  # last, so that no label lacks its image
        save_labels(folder / EXTRAS / f"{name}.npz", items.arrays())
    return [f"{n}.npz: {len(rows[n])} people, images below {folder / LAYOUTS[n].folder}." for n in LAYOUTS]


def person_labels(person: WidePerson, index: int, h36m_joints: np.ndarray) -> dict[str, Any]:
    """Fields of the label files but the image's name and DensePose's annotation; `h36m_joints` [17,3] metres."""
    body, view = person.body, person.view
    mask_name, part_name = lsp_label_names(index)
    image_id, person_id = coco_ids(index)
    return {
        "S": gt24(h36m_joints - h36m_joints[:1], H36M17_IN_GT24),
        "part": in_image(view.project(body.joints[25:])[:, :2], view.size),
        "smpl_joints": body.smpl_joints - body.smpl_joints[:1],
        "smpl_2dkps": in_image(view.project(body.smpl_joints)[:, :2], view.size) * [1, 1, SMPL_WEIGHT],
        "gender": "mf"[index % 2],
        "pose": body.rotvec.reshape(72),
        "shape": body.betas,
        # Boxes of Human3.6M count 0.9 times: those of its masks are a third wider than the person.
        "center": view.center,
        "scale": view.scale,
        "maskname": mask_name,
        "partname": part_name,
        "im_id": image_id,
        "id": person_id,
    }


def _write_images(folder: Path, index: int, person: WidePerson, face_class: np.ndarray) -> None:
    """Write a person's photograph into all sets, and LSP's mask and part classes."""
    parts = part_image(person.surface, face_class, unknown_rim=index % 2 == 1)
    images = dict.fromkeys(image_paths(index), person.image[..., ::-1])
    images |= zip(mask_paths(index), (person.surface.mask.astype(np.uint8) * 255, parts), strict=True)
    for path, image in images.items():
        with atomic_write(folder / path) as stream:
            stream.write(cv2.imencode(Path(path).suffix, image)[1].tobytes())


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Remove older synthetic sets on demand. Raises FileExistsError where sets would be replaced otherwise."""
    folders = (EXTRAS, MASK_FOLDER, *(layout.folder for layout in LAYOUTS.values()))
    there = [name for name in folders if (folder / name).exists()]
    if not there:
        return
    if not (folder / MARKER).is_file():
        raise FileExistsError(
            f"'{folder / there[0]}' exists and was not written by this command; name another folder."
        )
    if not overwrite:
        raise FileExistsError(f"'{folder}' holds synthetic sets already; give --overwrite to replace them.")
    try:
        count = int(load_json(folder / MARKER)["people"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{folder / MARKER}' is damaged; name another folder.") from error
    labels = [
        COCO_JSON,
        DENSE_JSON,
        *(f"{EXTRAS}/{name}.npz" for name in LAYOUTS),
    ]  # first, so that no label lacks its image
    images = (path for index in range(count) for path in [*image_paths(index), *mask_paths(index)])
    for path in (*labels, *images):
        (folder / path).unlink(missing_ok=True)
