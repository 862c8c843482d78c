"""Files of a video's people: `<stem>_people.mp4`, one npz a track (schema "danet-track-1"), and its exports.

The parameters of all frames wait in a file until the end, about two kilobytes for each person and frame; vertices do
not: they follow from rotmat and betas.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.body import BodyAssets
from utils.export import AXES, ExportMotion, check_formats, endings, write_exports
from utils.export.steps import soles_of
from utils.export.world import Ground, find_ground, find_world, standing_directions, world_arrays
from utils.io import files_together, require_free, save_npz_atomic, why_unwritable
from utils.io.marks import DEMO, DEMO_MARKS, is_marked
from utils.io.row_store import RowStore
from utils.renderer import MeshRenderer
from utils.skeleton import JOINT_NAMES, SMPL_JOINT_NAMES

log = logging.getLogger(__name__)

SCHEMA = "danet-track-1"
VIDEO_SUFFIX = "_people.mp4"
PREDICTED = ("rotmat", "betas", "cam", "joints", "smpl_joints")
UNITS = (
    "T frames in which the person was seen, frame_ids from 0, seconds since the first frame; joints: metres from the "
    "body's origin; cam: weak camera s, tx, ty of the crop; cam_t_full: metres, added to joints for focal_length_full "
    "and principal_point, pixels of the frame; keypoints: x, y, confidence of COCO's 17; these, box (x, y, width, "
    "height, as detected) and center (of the crop): pixels of the upright frame, from its upper left corner; scale: "
    "side of the square crop / 200 px; vertices are those of body_model for rotmat and betas, times body_scale where "
    "that is given"
)


class VideoFiles:
    """Collects the tracks of a video and writes their files into one folder, named after the video's stem."""

    def __init__(
        self,
        out_dir: Path,
        stem: str,
        assets: BodyAssets,
        formats: Sequence[str] = (),
        renderer: type[MeshRenderer] = MeshRenderer,
        overwrite: bool = False,
        static_camera: bool = False,
    ):
        """Prepare to write.

        Args:
            formats: of exports.
            renderer: draws the people of the video.
            overwrite: replace results of an earlier run, and nothing else.
            static_camera: tracks move in a level world with a ground, which is found when they are written.

        Raises:
            ValueError: formats that have no motion.
        """
        check_formats(formats, video=True)
        self.out_dir, self.stem, self.assets, self.formats = out_dir, stem, assets, formats
        self.renderer, self.overwrite = renderer, overwrite
        self.video_path = out_dir / f"{stem}{VIDEO_SUFFIX}"
        self.static_camera, self.ground = static_camera, None
        self._rows = RowStore(out_dir, optional={"keypoints": (17, 3)})

    @property
    def tracks(self) -> dict[int, int]:
        """Number of frames of each track so far."""
        return self._rows.counts

    def track_stem(self, track: int) -> str:
        """Stem of a track's file names."""
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
        """Add a person in one more frame.

        Args:
            predicted: has the arrays of PREDICTED.
            place: frame_ids, seconds, box, center, scale, score, confidence, cam_t_full, body_scale for people of a
                known height, and keypoints [17,3], if detected; an npz has keypoints only if every frame has them.
        """
        row = {name: np.asarray(predicted[name], np.float32) for name in PREDICTED}
        self._rows.add(track, {**row, **place})

    def write(self, facts: Mapping[str, Any], remove_older: bool) -> dict[int, str]:
        """Write all tracks that can be written.

        Args:
            facts: video, fps, image_size, focal_length_full, principal_point, smoothed, body_model, weights.
            remove_older: also remove tracks of an earlier run that this one has not; those that it has but cannot
                write stay as they were.

        Returns:
            For each track that cannot be written, a sentence that says why.
        """
        older = set(self.existing()) - {self.video_path} if remove_older else set()
        unwritten = {}
        if self.static_camera:
            self.ground = self._find_ground(facts)
        for track in self.tracks:
            try:
                older -= self._write(track, facts)
            except OSError as error:
                older = {path for path in older if not path.name.startswith(f"{self.track_stem(track)}.")}
                reason = why_unwritable(error)
                unwritten[track] = f"the files of track {track} cannot be written to '{self.out_dir}': {reason}"
        for path in sorted(older):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("'%s' of an earlier run cannot be removed: %s", path, why_unwritable(error))
        return unwritten

    def _write(self, track: int, facts: Mapping[str, Any]) -> set[Path]:
        """Write the files of a track and move them into place together; their paths."""
        stem, arrays = self.track_stem(track), self._rows.arrays(track)
        motion, world = self._motion(track, arrays, facts), {}
        if self.ground is not None:
            found = find_world(motion.steps(), self.ground, motion.scale * self._soles)
            motion, world = replace(motion, world=found), world_arrays(found)
        with files_together(self.out_dir, f"{stem}.npz", self._may_replace) as aside:
            save_npz_atomic(
                aside / f"{stem}.npz", DEMO, schema=SCHEMA, axes=AXES, units=UNITS, track_id=track, **arrays, **facts,
                **world, joint_names=np.array(JOINT_NAMES), smpl_joint_names=np.array(SMPL_JOINT_NAMES),
            )  # fmt: skip
            if self.formats:
                write_exports(aside / stem, self.formats, motion)
            return {self.out_dir / path.name for path in aside.iterdir()}

    def _motion(self, track: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> ExportMotion:
        arrays = {name: array for name, array in arrays.items() if name != "keypoints"}
        facts = {**facts, "picture": facts["video"], "track_id": track}
        return ExportMotion(self.assets.body, self.assets.surface, arrays, facts, facts["fps"])

    @functools.cached_property
    def _soles(self) -> np.ndarray:
        return soles_of(self.assets.body, self.assets.surface)

    def _find_ground(self, facts: Mapping[str, Any]) -> Ground | None:
        """Up and ground by all tracks that can be read."""
        steps, directions = [], []
        for track in self.tracks:
            with contextlib.suppress(OSError):  # said when it is to be written
                motion = self._motion(track, self._rows.arrays(track), facts)
                steps.append(motion.steps())
                directions.append(standing_directions(motion.arrays["smpl_joints"]))
        return find_ground(steps, directions, self._soles)

    def _may_replace(self, path: Path) -> bool:
        return self.overwrite and is_marked(path, *DEMO_MARKS)
