"""What the demo writes about a person: one npz without pickled objects (schema "danet-person-1").

U and V are clipped to 0..1 and stored as 0..255; docs/demo.md describes every key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from utils.geometry import MAP_SIZE, cam_to_translation
from utils.io import save_npz_atomic
from utils.io.marks import DEMO
from utils.iuvmap import iuv_map2img, part_maps2img
from utils.skeleton import JOINT_NAMES, SMPL_JOINT_NAMES
from utils.structures import DaNetOutput, SMPLOutput

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

SCHEMA = "danet-person-1"
# Endings of the images beside the npz.
PANEL_SUFFIX, PEOPLE_SUFFIX, DENSEPOSE_SUFFIX = "_result.png", "_people.jpg", ".densepose.png"
AXES = "camera frame: x right, y down, z forward; the root rotation holds the body's half turn about x"
UNITS = (
    "vertices and joints: metres from the body's origin; cam_t: metres, added to them for focal 5000 px on "
    "the 224 px crop; cam_t_full: metres, added to them for focal_length_full and principal_point, pixels of the "
    "image; detected_keypoints: x, y, confidence of COCO's 17; these, box, center: pixels of the image after EXIF "
    "rotation, from its upper left corner; "
    "scale: side of the square crop / 200 px; iuv: part 0..24, then U and V times 255"
)


def pack_iuv(image: Float[Tensor, "*B 3 H W"]) -> UInt8[np.ndarray, "*B 3 H W"]:
    """(part/24, U, V) as bytes: the part's number, U and V times 255."""
    factor = image.new_tensor([24.0, 255.0, 255.0]).view(3, 1, 1)
    return (image.clamp(0, 1) * factor).round().to(torch.uint8).contiguous().cpu().numpy()


def seen_iuv(output: DaNetOutput) -> UInt8[np.ndarray, "B 3 H W"]:
    """The global maps of a batch, masked by the annotation head, as `pack_iuv` gives them."""
    maps = output.iuv.iuv
    return pack_iuv(iuv_map2img(maps.u, maps.v, maps.index, maps.ann))


def at_map_size(part_iuv: UInt8[np.ndarray, "B 24 3 S S"]) -> UInt8[np.ndarray, "B 24 3 56 56"]:
    """Part maps with the sides of global ones: of smaller maps the nearest cells, whose corners lie alike."""
    if part_iuv.shape[-1] == MAP_SIZE:
        return part_iuv
    nearest = np.rint(np.linspace(0, part_iuv.shape[-1] - 1, MAP_SIZE)).astype(int)
    return part_iuv[..., nearest[:, None], nearest]


def people_arrays(
    output: DaNetOutput, body: SMPLOutput, with_parts: bool = True
) -> list[dict[str, np.ndarray]]:
    """The people of a batch as named arrays, one dictionary a person.

    Args:
        output: of the network, for B crops.
        body: posed by it.
        with_parts: also give what the network says of its crops about the joints.

    Returns:
        For each person cam [3], cam_t [3] (metres), betas [10], rotmat [24,3,3], vertices [V,3], joints [49,3],
        smpl_joints [24,3] (metres, camera frame), iuv [3,56,56] (bytes, masked by the annotation head), the joints'
        names and, where the network has parts, part_centers, part_scales and part_iuv.
    """
    params, estimate = output.smpl.params, output.iuv
    with_parts = with_parts and estimate.part_iuv is not None
    batch = {
        "cam": params.cam,
        "cam_t": cam_to_translation(params.cam),
        "betas": params.betas,
        "rotmat": params.rotmat,
        "vertices": body.vertices,
        "joints": body.joints,
        "smpl_joints": body.smpl_joints,
    }
    if with_parts:
        batch |= {"part_centers": estimate.crops.centers, "part_scales": estimate.crops.scales}
    arrays = {name: value.detach().float().cpu().numpy() for name, value in batch.items()}
    arrays["iuv"] = seen_iuv(output)
    if with_parts:
        arrays["part_iuv"] = at_map_size(pack_iuv(part_maps2img(estimate.part_iuv)))
    names = {"joint_names": np.array(JOINT_NAMES), "smpl_joint_names": np.array(SMPL_JOINT_NAMES)}
    return [
        {**{name: value[row] for name, value in arrays.items()}, **names} for row in range(len(params.cam))
    ]


def save_person(
    path: str | os.PathLike, arrays: dict[str, np.ndarray], replace: bool = True, /, **facts: Any
) -> None:
    """Write a person's npz file, whole or not at all.

    Args:
        path: of the file.
        arrays: as `people_arrays` gives them.
        replace: an older file.
        facts: numbers and text that say where they come from.

    Raises:
        OSError: where the file cannot be written.
    """
    save_npz_atomic(path, DEMO, replace, schema=SCHEMA, axes=AXES, units=UNITS, **arrays, **facts)
