"""Synthetic evaluation sets: photographs and labels in the files and folders of seven real sets.

    python -m datasets.synthetic --write DIR --count 64

DIR then serves as a --data_dir. The same people stand in every set, with what that set annotates (docs/method.md
8.5 and 8.8): Human3.6M and MPI-INF-3DHP 3D joints, 3DPW pose and shape, LSP masks and parts, COCO keypoints,
DensePose-COCO points. All truth is the open body's, so a perfect prediction has no error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from tqdm import tqdm

from datasets.labels.files import Rows, gt24, save_labels
from datasets.synthetic.annotations import (
    coco_annotations,
    coco_categories,
    dense_annotation,
    in_picture,
    part_picture,
)
from datasets.synthetic.wide import WidePerson, render_wide
from utils.body import OPEN_DIR, load_open_body, read_regressor
from utils.io import atomic_write, load_json, save_json_atomic
from utils.renderer.lsp_parts import skinning_classes
from utils.skeleton import GT24_TO_COCO17, H36M17_IN_GT24, NUM_LSP_JOINTS

if TYPE_CHECKING:
    from datasets.synthetic.dataset import SyntheticPeople

EXTRAS = "dataset_extras"
MARKER = "synthetic_sets.json"  # says that the sets in a folder are ours, so that they may be replaced
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)

ACTIONS = (
    "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting",
    "SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether",
)  # fmt: skip
FRONTAL_CAMERA = 60457274
CAMERAS = (FRONTAL_CAMERA, 54138969, 55011271, 58860488)
FIRST_LSP = 1001  # the test pictures' numbers
SEQUENCE = 16  # frames
COCO_JSON = "annotations/person_keypoints_val2014.json"
SMPL_WEIGHT = 0.5  # DensePose-COCO's SMPL joints follow from COCO's keypoints and weigh half


def h36m_name(index: int, camera: int) -> str:
    """Picture of every fifth frame of takes like S9_Eating_1."""
    turn, action = divmod(index, len(ACTIONS))
    take = f"S{(9, 11)[turn % 2]}_{ACTIONS[action]}_{1 + turn // 2 % 2}"
    return f"images/{take}.{camera}_{5 * (turn // 4) + 1:06d}.jpg"


def coco_ids(index: int) -> tuple[int, int]:
    """Numbers of picture `index` and of the person in it."""
    return 1_009 + 37 * index, 2_150_001 + 11 * index


NAMES: dict[str, Callable[[int], str]] = {
    "h36m_valid_protocol1": lambda i: h36m_name(i, CAMERAS[i % len(CAMERAS)]),
    "h36m_valid_protocol2": lambda i: h36m_name(i, FRONTAL_CAMERA),
    "3dpw_test": lambda i: f"imageFiles/open_people_{i // SEQUENCE:02d}/image_{i % SEQUENCE:05d}.jpg",
    "lsp_dataset_test": lambda i: f"images/im{FIRST_LSP + i:04d}.jpg",
    "mpi_inf_3dhp_valid": lambda i: (
        f"mpi_inf_3dhp_test_set/TS{1 + i % 6}/imageSequence/img_{1 + i // 6:06d}.jpg"
    ),
    "coco_2014_val": lambda i: f"val2014/COCO_val2014_{coco_ids(i)[0]:012d}.jpg",
    "dp_coco_2014_minival": lambda i: f"val2014/COCO_val2014_{coco_ids(i)[0]:012d}.jpg",
}
FOLDERS = {
    "h36m_valid_protocol1": "h36m",
    "h36m_valid_protocol2": "h36m",
    "3dpw_test": "3dpw",
    "lsp_dataset_test": "lsp_dataset",
    "mpi_inf_3dhp_valid": "mpi_inf_3dhp",
    "coco_2014_val": "coco",
    "dp_coco_2014_minival": "coco",
}
MASK_FOLDER = "upi-s1h"


def lsp_label_names(index: int) -> tuple[str, str]:
    """Pictures of the mask and of the part classes, below the folder of UPi-S1h."""
    stem = f"data/lsp/im{FIRST_LSP + index:04d}"
    return f"{stem}_segmentation.png", f"{stem}_part_segmentation.png"


def picture_paths(index: int) -> set[str]:
    """Where the photograph of a person lies in all sets, below the folder of the sets."""
    return {f"{FOLDERS[name]}/{name_of(index)}" for name, name_of in NAMES.items()}


def mask_paths(index: int) -> tuple[str, str]:
    """Where LSP's mask and part classes of a person lie, below the folder of the sets."""
    mask, parts = lsp_label_names(index)
    return f"{MASK_FOLDER}/{mask}", f"{MASK_FOLDER}/{parts}"


@dataclass
class SetWriter:
    """Writes people, one after the other, to the folders of all sets; the label files come last."""

    folder: Path
    people: SyntheticPeople
    face_class: np.ndarray  # [F] LSP's class of every face
    h36m: np.ndarray  # [17,V]
    rows: dict[str, Rows] = field(default_factory=lambda: {name: Rows(f"{name}.npz") for name in NAMES})
    coco: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"images": [], "annotations": []})

    def add(self, person: WidePerson, index: int) -> None:
        """Write the pictures of a person and keep its labels."""
        jpeg = _encode(person.image[..., ::-1], ".jpg", JPEG)
        for path in picture_paths(index):
            _write(self.folder / path, jpeg)
        labels = self._joint_labels(person) | self._dense_labels(person, index)
        labels |= {"gender": "mf"[index % 2], "pose": person.rotvec.reshape(72), "shape": person.betas}
        # Boxes of Human3.6M count 0.9 times: those of its masks are a third wider than the person.
        labels |= {"center": person.view.center, "scale": person.view.scale}
        for name, rows in self.rows.items():
            part = _keep_rows(labels["part"], PART_ROWS.get(name, ()))
            values = labels | {"imgname": NAMES[name](index), "part": part}
            rows.add(**{key: values[key] for key in rows.fields})

    def _joint_labels(self, person: WidePerson) -> dict[str, Any]:
        joints = self.h36m @ person.body.vertices
        smpl = person.body.smpl_joints
        size = person.size
        return {
            "S": gt24(joints - joints[:1], H36M17_IN_GT24),
            "part": in_picture(person.view.project(person.body.joints[25:])[:, :2], size),
            "smpl_joints": smpl - smpl[:1],
            "smpl_2dkps": in_picture(person.view.project(smpl)[:, :2], size) * [1, 1, SMPL_WEIGHT],
        }

    def _dense_labels(self, person: WidePerson, index: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.people.seed, index))
        mask = person.surface.mask.astype(np.uint8) * 255
        parts = part_picture(person.surface, self.face_class, unknown_rim=index % 2 == 1)
        for path, picture in zip(mask_paths(index), (mask, parts), strict=True):
            _write(self.folder / path, _encode(picture, ".png"))
        names = dict(zip(("maskname", "partname"), lsp_label_names(index), strict=True))
        picture_id, person_id = coco_ids(index)
        width, height = person.size
        name = Path(NAMES["coco_2014_val"](index)).name
        self.coco["images"].append({"id": picture_id, "file_name": name, "width": width, "height": height})
        self.coco["annotations"] += coco_annotations(person, picture_id, person_id)
        dense = dense_annotation(rng, person, self.people.assets.face_uv)
        return names | {"dp_annot": dense, "im_id": picture_id, "id": person_id}

    def finish(self) -> None:
        """Write the label files of everybody that was added."""
        value = self.coco | {"categories": coco_categories(), "info": {"description": "synthetic people"}}
        save_json_atomic(self.folder / FOLDERS["coco_2014_val"] / COCO_JSON, value)
        for name, rows in self.rows.items():
            save_labels(self.folder / EXTRAS / f"{name}.npz", rows.arrays())


# Rows of the 24 joints that a set annotates in the picture.
PART_ROWS: dict[str, Sequence[int]] = {
    "lsp_dataset_test": range(NUM_LSP_JOINTS),
    "mpi_inf_3dhp_valid": H36M17_IN_GT24,
    "coco_2014_val": GT24_TO_COCO17,
    "dp_coco_2014_minival": GT24_TO_COCO17,
}


def _keep_rows(part: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    kept = np.zeros_like(part)
    kept[list(rows)] = part[list(rows)]
    return kept


def _encode(picture: np.ndarray, suffix: str, options: Sequence[int] = ()) -> bytes:
    return cv2.imencode(suffix, picture, list(options))[1].tobytes()


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as stream:
        stream.write(data)


def write_sets(people: SyntheticPeople, folder: Path, overwrite: bool = False) -> list[str]:
    """Write all sets with everybody of `people` below `folder`; returns one sentence a set.

    Raises FileExistsError when `folder` holds sets; with `overwrite`, only when they are not synthetic ones.
    """
    prepare_folder(folder, overwrite)
    facts = {"people": len(people), "seed": people.seed, "split": people.split.name}
    body = load_open_body()
    made_by = "python -m datasets.synthetic --write"
    save_json_atomic(folder / MARKER, {"made by": made_by, **facts, "body": body.model_id})
    matrix = read_regressor(OPEN_DIR / "regressors.npz", "h36m").matrix
    writer = SetWriter(folder, people, skinning_classes(body), matrix)
    for index in tqdm(range(len(people)), unit="person", disable=None):
        writer.add(render_wide(people, index), index)
    writer.finish()
    return [
        f"{name}.npz: {len(rows)} people, pictures below {folder / FOLDERS[name]}."
        for name, rows in writer.rows.items()
    ]


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make sure that nothing of anybody else's is written over; files of older synthetic sets are removed."""
    there = [name for name in (EXTRAS, MASK_FOLDER, *FOLDERS.values()) if (folder / name).exists()]
    if there and not (folder / MARKER).is_file():
        raise FileExistsError(
            f"'{folder / there[0]}' exists and was not written by this command; name another folder."
        )
    if there and not overwrite:
        raise FileExistsError(f"'{folder}' holds synthetic sets already; give --overwrite to replace them.")
    if there:
        _remove_sets(folder)


def _remove_sets(folder: Path) -> None:
    """Remove what an older run wrote, label files first; other files in its folders stay."""
    try:
        count = int(load_json(folder / MARKER)["people"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{folder / MARKER}' is damaged; name another folder.") from error
    labels = [f"{EXTRAS}/{name}.npz" for name in NAMES] + [f"{FOLDERS['coco_2014_val']}/{COCO_JSON}"]
    pictures = (path for index in range(count) for path in picture_paths(index) | set(mask_paths(index)))
    for path in (*labels, *pictures):
        (folder / path).unlink(missing_ok=True)
