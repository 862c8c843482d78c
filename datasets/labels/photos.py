"""Labels of photographs by BlazePose, one main person each: the file of `datasets.preprocess.photos`.

The layout is that of docs/training.md. Points are in MediaPipe's order, positions in pixels of the photograph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.geometry import BOX_MARGIN, BOX_UNIT
from utils.io import DataFileError, load_npz, save_npz_atomic
from utils.io.marks import LABELS
from utils.skeleton import BLAZEPOSE_TO_COCO17, NUM_BLAZEPOSE

if TYPE_CHECKING:
    from jaxtyping import Float, Int

PHOTO_LABELS = "blazepose_labels.npz"
VISIBLE = 0.5  # of 1
SHAPES = {
    "size": (2,), "keypoints_2d": (NUM_BLAZEPOSE, 2), "visibility": (NUM_BLAZEPOSE,),
    "world_3d": (NUM_BLAZEPOSE, 3), "detection_score": (), "flag": (), "mask_box": (4,),
}  # fmt: skip


@dataclass(frozen=True)
class PhotoLabels:
    """Labels of the main person of N photographs."""

    name: np.ndarray  # [N] text, file name
    size: Int[np.ndarray, "N 2"]  # width, height
    keypoints_2d: Float[np.ndarray, "N 33 2"]
    visibility: Float[np.ndarray, "N 33"]  # 0..1
    world_3d: Float[np.ndarray, "N 33 3"]  # metres about the middle of the hips; x right, y down, z away
    detection_score: Float[np.ndarray, "N"]  # of the person, 0..1
    flag: Float[np.ndarray, "N"]  # that the points are a person's, 0..1
    mask_box: Float[np.ndarray, "N 4"]  # x, y, width, height of the mask

    def __len__(self) -> int:
        return len(self.name)

    def index_of(self) -> dict[str, int]:
        """Row of each photograph by its name."""
        return {str(name): index for index, name in enumerate(self.name)}

    def box(self, index: int) -> tuple[Float[np.ndarray, "2"], float]:
        """Centre and scale (side / 200 px) of the square around the visible points and the mask, within the image."""
        x, y, width, height = self.mask_box[index]
        visible = self.keypoints_2d[index][self.visibility[index] > VISIBLE]
        points = np.concatenate([visible, [[x, y], [x + width, y + height]]])
        low = points.min(axis=0).clip(0)
        high = np.minimum(points.max(axis=0), self.size[index])
        return (low + high) / 2, float((high - low).max()) * BOX_MARGIN / BOX_UNIT

    def coco_keypoints(self, index: int) -> Float[np.ndarray, "17 3"]:
        """COCO's 17 keypoints: x, y, and 1 where the point is visible, else 0."""
        chosen = list(BLAZEPOSE_TO_COCO17)
        visible = self.visibility[index, chosen, None] > VISIBLE
        return np.concatenate([self.keypoints_2d[index, chosen], visible], axis=1).astype(np.float64)

    def save(self, path: Path, overwrite: bool) -> None:
        """Write the file whole or not at all."""
        save_npz_atomic(path, LABELS, overwrite, **asdict(self))


def read_photo_labels(path: str | Path) -> PhotoLabels:
    """The labels of a file. Raises DataFileError, naming the field, for one of another form."""
    arrays = load_npz(path)
    missing = [name for name in ("name", *SHAPES) if name not in arrays]
    if missing:
        raise DataFileError(f"{path} lacks {', '.join(missing)}: it is no file of datasets.preprocess.photos.")
    names = arrays["name"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataFileError(f"{path}: name is {names.dtype} of the shape {names.shape}; expected [N] text.")
    for field, shape in SHAPES.items():
        values = arrays[field]
        if values.shape != (len(names), *shape) or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise DataFileError(f"{path}: {field} is not [{', '.join(map(str, (len(names), *shape)))}] finite numbers.")
    return PhotoLabels(names, **{field: arrays[field] for field in SHAPES})
