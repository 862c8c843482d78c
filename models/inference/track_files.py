"""What the demo writes about a person of a video: one npz a track (schema "danet-track-1"), and its exports.

The parameters of all frames wait in a file until the end, about two kilobytes for each person and frame; vertices do
not: they follow from rotmat and betas.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.body import BodyAssets
from utils.export import AXES, ExportMotion, check_formats, endings, write_exports
from utils.io import files_together, require_free, save_npz_atomic, why_unwritable
from utils.io.marks import DEMO, DEMO_MARKS, is_marked
from utils.io.row_store import RowStore
from utils.renderer import MeshRenderer
from utils.skeleton import JOINT_NAMES, SMPL_JOINT_NAMES

if TYPE_CHECKING:
    from jaxtyping import Float

log = logging.getLogger(__name__)

SCHEMA = "danet-track-1"
VIDEO_SUFFIX = "_people.mp4"
PREDICTED = ("rotmat", "betas", "cam", "joints", "smpl_joints")
UNITS = (
    "T frames in which the person was seen, frame_ids from 0, seconds since the first frame; joints: metres from the "
    "body's origin; cam: weak camera s, tx, ty of the crop; cam_t_full: metres, added to joints for focal_length_full "
    "and principal_point, pixels of the frame; keypoints: x, y, confidence of COCO's 17; these, box (x, y, width, "
    "height, as detected) and center (of the crop): pixels of the upright frame, from its upper left corner; scale: "
    "side of the square crop / 200 px; vertices are those of body_model for rotmat and betas"
)


class TrackFiles:
    """Collects the tracks of a video and writes their files into one folder, named after the video's stem.

    overwrite: replace results of an earlier run, and nothing else. Raises ValueError for formats that have no motion.
    """

    def __init__(
        self,
        out_dir: Path,
        stem: str,
        assets: BodyAssets,
        formats: Sequence[str] = (),
        renderer: type[MeshRenderer] = MeshRenderer,
        overwrite: bool = False,
    ):
        check_formats(formats, video=True)
        self.out_dir, self.stem, self.assets, self.formats = out_dir, stem, assets, formats
        self.renderer, self.overwrite = renderer, overwrite
        self._rows = RowStore(out_dir, optional={"keypoints": (17, 3)})

    @property
    def video_path(self) -> Path:
        """Of the MP4 file with everybody in it."""
        return self.out_dir / f"{self.stem}{VIDEO_SUFFIX}"

    def track_stem(self, track: int) -> str:
        """What the names of a track's files begin with."""
        return f"{self.stem}_track{track}"

    def existing(self) -> list[Path]:
        """The video's results that an earlier run left."""
        written = "|".join(map(re.escape, (".npz", *endings())))
        ours = re.compile(rf"{re.escape(self.stem)}_track\d+({written})")
        tracks = [path for path in self.out_dir.glob("*_track*") if ours.fullmatch(path.name)]
        return sorted([*tracks, *([self.video_path] if self.video_path.exists() else [])])

    def require_free(self) -> None:
        """Raise FileExistsError for what an earlier run left and this one must not replace."""
        for path in self.existing():
            require_free(path, self.overwrite, *DEMO_MARKS)

    def add(self, track: int, predicted: Mapping[str, np.ndarray], place: Mapping[str, Any]) -> None:
        """A person in one more frame.

        predicted: has the arrays of PREDICTED. place: frame_ids, seconds, box, center, scale, score, confidence,
        cam_t_full, and keypoints [17,3], if detected.
        """
        row = {name: np.asarray(predicted[name], np.float32) for name in PREDICTED}
        self._rows.add(track, {**row, **place})

    @property
    def tracks(self) -> dict[int, int]:
        """Number of frames of each track so far."""
        return self._rows.counts

    def arrays(self, track: int) -> dict[str, Float[np.ndarray, "T *N"]]:
        """All frames of a track; keypoints only if every frame has them."""
        return self._rows.arrays(track)

    def write(self, facts: Mapping[str, Any], remove_older: bool) -> dict[int, str]:
        """Write all tracks that can be written; for each other one, a sentence that says why it cannot.

        facts: video, fps, image_size, focal_length_full, principal_point, smoothed, body_model, weights.
        remove_older: also remove tracks of an earlier run that this one has not; those that it has but cannot write
        stay as they were.
        """
        older = set(self.existing()) - {self.video_path} if remove_older else set()
        unwritten = {}
        for track in self.tracks:
            try:
                older -= self._write(track, facts)
            except OSError as error:
                older = {path for path in older if not path.name.startswith(f"{self.track_stem(track)}.")}
                unwritten[track] = (
                    f"the files of track {track} cannot be written to '{self.out_dir}': {why_unwritable(error)}"
                )
        for path in sorted(older):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("'%s' of an earlier run cannot be removed: %s", path, why_unwritable(error))
        return unwritten

    def _write(self, track: int, facts: Mapping[str, Any]) -> set[Path]:
        """The files of a track, moved into place together."""
        last, may_replace = f"{self.track_stem(track)}.npz", self._may_replace
        with files_together(self.out_dir, last, may_replace) as aside:
            stem, arrays = aside / self.track_stem(track), self.arrays(track)
            save_npz_atomic(
                f"{stem}.npz", DEMO, schema=SCHEMA, axes=AXES, units=UNITS, track_id=track, **arrays, **facts,
                joint_names=np.array(JOINT_NAMES), smpl_joint_names=np.array(SMPL_JOINT_NAMES),
            )  # fmt: skip
            if self.formats:
                motion_arrays = {name: array for name, array in arrays.items() if name != "keypoints"}
                motion_facts = {**facts, "picture": facts["video"], "track_id": track}
                motion = ExportMotion(
                    self.assets.body, self.assets.surface, motion_arrays, motion_facts, facts["fps"]
                )
                write_exports(stem, self.formats, motion)
            made = {self.out_dir / path.name for path in aside.iterdir()}
        return made

    def _may_replace(self, path: Path) -> bool:
        return self.overwrite and is_marked(path, *DEMO_MARKS)
