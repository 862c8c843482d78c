"""Miniature data folders in the form of the real sets: label files, images, DensePose annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from standin import uv_symmetry

N = 4


def waves(height: int, width: int, shift: float = 0.0) -> np.ndarray:
    """A smooth colour image."""
    y, x = np.mgrid[:height, :width] + shift
    waves = [np.sin(x / 17) + np.cos(y / 9), np.cos((x + y) / 23), np.sin(y / 13 + x / 31)]
    return np.clip(110 + 50 * np.stack(waves, -1), 0, 255).astype(np.uint8)


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_labels(data_dir: Path, name: str, **arrays: np.ndarray) -> Path:
    path = data_dir / "dataset_extras" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def base_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """imgname, center, scale and every numeric label of N people."""
    rng = np.random.default_rng(seed)
    part, openpose = (
        np.concatenate([rng.uniform(20, 220, (N, n, 2)), rng.integers(0, 2, (N, n, 1))], -1) for n in (24, 25)
    )
    smpl = np.concatenate([rng.uniform(20, 220, (N, 24, 2)), rng.integers(0, 2, (N, 24, 1)) / 2], -1)
    return {
        "imgname": np.array([f"images/S1_Walk.cam_{i:06d}.png" for i in range(N)]),
        "center": rng.uniform(90, 140, (N, 2)), "scale": rng.uniform(0.5, 0.9, N), "part": part,
        "openpose": openpose, "S": np.concatenate([rng.normal(size=(N, 24, 3)), np.ones((N, 24, 1))], -1),
        "pose": rng.normal(size=(N, 72)) * 0.4, "shape": rng.normal(size=(N, 10)), "smpl_2dkps": smpl,
    }  # fmt: skip


def write_set(
    data_dir: Path, name: str, folder: str, fields: tuple[str, ...], **changes: np.ndarray
) -> dict[str, np.ndarray]:
    """A label file with these fields, and its images; returns the arrays."""
    arrays = {**base_arrays(), **changes}
    arrays = {k: arrays[k] for k in ("imgname", "center", "scale", *fields, *changes)}
    write_labels(data_dir, name, **arrays)
    for i, image in enumerate(arrays["imgname"]):
        write_image(data_dir / folder / str(image), waves(240 + 9 * i, 260 - 7 * i, 3.0 * i))
    return arrays


def write_h36m(data_dir: Path, **changes: np.ndarray) -> dict[str, np.ndarray]:
    return write_set(data_dir, "h36m_mosh_train", "h36m", ("part", "openpose", "S", "pose", "shape"), **changes)


def dp_entry(seed: int = 3, count: int = 40, box=(60.0, 40.0, 110.0, 150.0)) -> dict:
    """A dp_annot entry with round masks, two of them empty."""
    import pycocotools.mask as coco_masks

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:256, :256]
    masks = []
    for number in range(14):
        cx, cy, radius = rng.uniform(30, 226, 2).tolist() + [rng.uniform(15, 60)]
        disc = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2).astype(np.uint8)
        masks.append([] if number in (4, 11) else coco_masks.encode(np.asfortranarray(disc)))
    return {
        "bbox": list(box),
        "dp_x": rng.uniform(0, 255, count).tolist(),
        "dp_y": rng.uniform(0, 255, count).tolist(),
        "dp_I": rng.integers(1, 25, count).astype(float).tolist(),
        "dp_U": rng.random(count).tolist(),
        "dp_V": rng.random(count).tolist(),
        "dp_masks": masks,
    }


def write_symmetry(data_dir: Path) -> None:
    path = data_dir / "UV_data" / "UV_symmetry_transforms.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, uv_symmetry())


def write_dp_coco(data_dir: Path, file: str = "dp_coco_2014_train", **changes) -> dict[str, np.ndarray]:
    entries = np.empty(N, dtype=object)
    entries[:] = [dp_entry(seed) for seed in range(N)]
    names = np.array([f"train2014/COCO_train2014_{i:012d}.png" for i in range(N)])
    return write_set(
        data_dir, file, "coco", ("part", "smpl_2dkps"),
        **{"imgname": names, "dp_annot": entries, "id": np.arange(N), "im_id": np.arange(N), **changes},
    )  # fmt: skip


def write_photographs(root: Path, names: tuple[str, ...], side: int = 200) -> dict[str, np.ndarray]:
    """Photographs in `train/`, masks (a disc) in `masks/` and labels of BlazePose's form; returns the label arrays."""
    rng, count = np.random.default_rng(5), len(names)
    y, x = np.mgrid[:side, :side]
    disc = (((x - 100) ** 2 + (y - 90) ** 2 < 60**2) * 255).astype(np.uint8)
    for i, name in enumerate(names):
        write_image(root / "train" / name, waves(side, side, i))
        write_image(root / "masks" / f"{Path(name).stem}.png", disc)
    arrays = {
        "name": np.array(names), "size": np.full((count, 2), side),
        "mask_box": np.tile([41.0, 31, 119, 119], (count, 1)),
        "keypoints_2d": rng.uniform(50, 150, (count, 33, 2)), "visibility": rng.uniform(0.6, 1, (count, 33)),
        "world_3d": rng.normal(size=(count, 33, 3)), "detection_score": np.ones(count), "flag": np.ones(count),
    }  # fmt: skip
    np.savez(root / "blazepose_labels.npz", **arrays)
    return arrays
