"""One person of a picture as the exporters take it: a motion of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.export_motion import ExportMotion
from utils.structures import BodyModel, Regressor

STILL_FPS = 30.0  # for readers of motions that ask for a rate
ARRAYS = ("rotmat", "betas", "cam", "joints", "smpl_joints", "vertices", "iuv")
PLACE = ("cam_t_full", "box", "center", "scale", "score")


@dataclass(frozen=True)
class ExportPerson:
    """A person of a picture: the arrays and facts of its npz file, with the body they belong to.

    arrays: of `export.person_arrays`. facts: where they come from, as `export.save_person` takes them. The body stands
    at its own origin, as in `arrays["vertices"]`; `facts["cam_t_full"]` puts it in front of the camera.
    """

    body: BodyModel
    surface: Regressor
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]

    def as_motion(self) -> ExportMotion:
        """The person as frame 0 of a track that has the person's number."""
        arrays = {name: self.arrays[name][None] for name in ARRAYS}
        arrays |= {name: np.asarray(self.facts[name])[None] for name in PLACE}
        arrays["confidence"] = np.asarray(self.arrays.get("confidence", 1.0))[None]
        arrays["frame_ids"] = np.array([0])
        facts = {**self.facts, "track_id": self.facts["person"]}
        return ExportMotion(self.body, self.surface, arrays, facts, STILL_FPS)
