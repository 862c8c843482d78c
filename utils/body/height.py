"""People of a known standing height: all lengths of a predicted body scaled by one factor (docs/method.md 12.2)."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.structures import BodyModel

if TYPE_CHECKING:
    from jaxtyping import Float

HEIGHTS = (0.3, 2.7)  # metres


def check_height(height: Any) -> None:
    """Raise ValueError for what is no person's height in metres; None, for one that is not known, is fine."""
    low, high = HEIGHTS
    if height is not None and not (isinstance(height, Real) and low <= height <= high):
        raise ValueError(f"height is a number of metres from {low:g} to {high:g}, got {height!r}.")


def standing_height(body: BodyModel, betas: Float[np.ndarray, "*T 10"]) -> Float[np.ndarray, "*T"]:
    """Heights of bodies at rest, from the lowest to the highest vertex, metres.

    Args:
        body: at rest it stands, y up.
        betas: shapes.
    """
    y = body.v_template[:, 1] + np.asarray(betas, np.float64) @ body.shapedirs[:, 1].T.astype(np.float64)
    return np.ptp(y, axis=-1)


def with_height(arrays: Mapping[str, np.ndarray], body: BodyModel, height: float) -> dict[str, np.ndarray]:
    """A predicted person whose lengths are scaled by `body_scale`, so that the shape's body at rest is so tall.

    The weak camera (s, tx, ty) becomes (s / scale, scale tx, scale ty): the person is seen at the same pixels, farther
    away or nearer. Shape and pose stay; the shape's body times `body_scale` is the person.

    Args:
        arrays: as `utils.export.people_arrays` gives them.
        body: that the shape belongs to.
        height: metres.
    """
    scale = np.float32(height / standing_height(body, arrays["betas"]))
    lengths = {name: arrays[name] * scale for name in ("cam_t", "vertices", "joints", "smpl_joints") if name in arrays}
    cam = arrays["cam"] * np.array([1 / scale, scale, scale], np.float32)
    return {**arrays, **lengths, "cam": cam, "body_scale": scale}
