"""The body: its files (licensed SMPL or the open one), arrays, skinning, and DensePose's surface atlas."""

from utils.body.assets import (
    BODY_CHOICES,
    CORE_NEED,
    LICENSED_FILES,
    BodyAssets,
    MeanParams,
    find_smpl_file,
    load_learned_ratio,
    load_mean_params,
    resolve_body,
    unknown_bodies,
)
from utils.body.atlas import default_atlas, face_colors, load_open_atlas, load_uv_processed
from utils.body.height import HEIGHTS, check_height, standing_height, with_height
from utils.body.model import (
    BODY_KEYS,
    SMPL_ID,
    BodyTensors,
    body_tensors,
    load_open_body,
    read_regressor,
    read_smpl_file,
    skin,
    surface_points,
)
from utils.body.point_similarity import COARSE_PARTS, coarse_means, point_similarity
from utils.body.surface import Surface, open_surface, own_surface, resolve_surface
from utils.io import DATA_DIR, OPEN_DIR

__all__ = [
    "BODY_CHOICES", "BODY_KEYS", "COARSE_PARTS", "CORE_NEED", "DATA_DIR", "HEIGHTS", "LICENSED_FILES", "OPEN_DIR",
    "SMPL_ID", "BodyAssets", "BodyTensors", "MeanParams", "Surface", "body_tensors", "check_height", "coarse_means",
    "default_atlas",
    "face_colors", "find_smpl_file", "load_learned_ratio", "load_mean_params", "load_open_atlas", "load_open_body",
    "load_uv_processed", "open_surface", "own_surface", "point_similarity", "read_regressor", "read_smpl_file",
    "resolve_body", "resolve_surface", "skin", "standing_height", "surface_points", "unknown_bodies", "with_height",
]  # fmt: skip
