"""Files of an image's people: `<stem>_result.png`, `<stem>.npz`, exports; `<image>_people.jpg` with all of them.

Arrays in, files out, without a network: the work of threads behind the network. A person's npz comes last, and the
image of all people after theirs, so what is missing tells that a run was killed before them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.body import BodyAssets
from utils.export import PANEL_SUFFIX, PEOPLE_SUFFIX, endings, save_person, still_motion, write_exports
from utils.geometry import CROP_SIZE
from utils.images import write_image
from utils.io import IS_THERE, DataFileError, files_together, load_npz, overwrite_problem, require_free
from utils.io.marks import DEMO_MARKS, is_marked
from utils.renderer import IUV_Renderer, MeshRenderer
from utils.renderer.panel import result_panel
from utils.renderer.people import FullCamera, draw_people

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8


class ImageFiles:
    """Draws and writes the files of people into one folder; any thread may call it."""

    def __init__(
        self,
        out_dir: Path,
        assets: BodyAssets,
        formats: Sequence[str] = (),
        renderer: type[MeshRenderer] = MeshRenderer,
        extra: MeshRenderer | None = None,
        overwrite: bool = False,
    ):
        """Prepare to write.

        Args:
            formats: of exports.
            extra: a renderer whose two views stand in the panel, too.
            overwrite: replace results that are there, and nothing else; without it only what a killed run left
                unfinished.
        """
        self.out_dir, self.assets, self.formats, self.overwrite = out_dir, assets, formats, overwrite
        self._written: set[str] = set()
        self._renderer, self._extra = renderer, extra
        self._iuv_renderer = IUV_Renderer(out_size=CROP_SIZE, atlas=assets.atlas)
        self._mesh_renderer = renderer(assets.body.faces)

    def reason_to_skip(
        self, stem: str, people: Sequence[str], is_full: bool, more_is_missing: bool = False
    ) -> str | None:
        """Reason to skip an image, whose results are there; None when results may be replaced, or some are missing.

        Args:
            stem: of the image.
            people: the stems of its people.
            is_full: whether they were cut out of the image, which is written with all of them then.
            more_is_missing: whether the image lacks results that others write.
        """
        written = [PANEL_SUFFIX, *endings(self.formats), ".npz"]
        names = [f"{person}{ending}" for person in people for ending in written]
        names += [f"{stem}{PEOPLE_SUFFIX}"] if is_full else []
        for name in names:
            if reason := overwrite_problem(self.out_dir / name, True, *DEMO_MARKS):
                return f"its result '{name}' {reason}"
        is_done = people and all(map(self._is_whole, people)) and (not is_full or self._is_ours(names[-1]))
        if self.overwrite or more_is_missing or not is_done:
            return None
        missing = [name for name in names if not os.path.lexists(self.out_dir / name)]
        asked = f", without '{missing[0]}'" if missing else ""
        return f"its result '{people[0]}.npz'{asked} {IS_THERE}"

    def reason_to_skip_unread(self, stem: str) -> str | None:
        """`reason_to_skip` as far as it shows before the image is read; who is in it is not known yet."""
        if self.overwrite:
            return None
        if os.path.lexists(self.out_dir / f"{stem}_0.npz"):
            return self.reason_to_skip(stem, [f"{stem}_0"], is_full=True)
        one = self.out_dir / f"{stem}.npz"
        if not os.path.lexists(one):
            return None
        try:
            is_full = self._is_whole(stem) and "people_picture" in load_npz(one, only=["people_picture"])
        except (OSError, DataFileError):
            is_full = False
        return self.reason_to_skip(stem, [stem], is_full)

    def _is_whole(self, person: str) -> bool:
        """Whether the files that every run writes of a person are there."""
        return all(self._is_ours(f"{person}{ending}") for ending in (".npz", PANEL_SUFFIX))

    def _is_ours(self, name: str) -> bool:
        path = self.out_dir / name
        return path.is_file() and path.stat().st_size > 0 and is_marked(path, *DEMO_MARKS)

    def write_person(
        self,
        stem: str,
        crop: UInt8[np.ndarray, "224 224 3"],
        arrays: dict[str, np.ndarray],
        facts: dict[str, Any],
    ) -> bool:
        """Write a person's panel, exports and npz.

        Args:
            arrays: as `Predictor.predict` gives them.
            facts: where they come from, for the npz.

        Returns:
            Whether they were written; those that are whole are kept.

        Raises:
            OSError: one cannot be written; then none is, and earlier ones stay as they were.
        """
        if stem in self._written:
            raise FileExistsError(f"'{stem}.npz' was written for another image of this run; rename one of them")
        if not self.overwrite and self._is_whole(stem):
            return False
        panel = result_panel(
            crop, arrays["iuv"], arrays.get("part_iuv"), arrays["vertices"], arrays["cam"],
            self._iuv_renderer, self._mesh_renderer, self._extra,
        )  # fmt: skip
        # whole sets are kept before it comes to this
        with files_together(self.out_dir, f"{stem}.npz", lambda path: is_marked(path, *DEMO_MARKS)) as aside:
            write_image(aside / f"{stem}{PANEL_SUFFIX}", panel)
            if self.formats:
                still = still_motion(self.assets.body, self.assets.surface, arrays, facts)
                write_exports(aside / stem, self.formats, still)
            save_person(aside / f"{stem}.npz", arrays, **facts)
        self._written.add(stem)
        return True

    def write_people(
        self,
        stem: str,
        image: UInt8[np.ndarray, "H W 3"],
        people: Sequence[tuple[Float[np.ndarray, "V 3"], FullCamera]],
    ) -> None:
        """Write the full image with all its people, unless it is there. Raises OSError."""
        name = f"{stem}{PEOPLE_SUFFIX}"
        if not self.overwrite and self._is_ours(name):
            return
        require_free(self.out_dir / name, True, *DEMO_MARKS)
        drawn = draw_people(image, people, self.assets.body.faces, self._renderer)
        write_image(self.out_dir / name, drawn, replace=self.overwrite)
