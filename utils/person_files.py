"""The files of a picture's people: `<stem>_result.png`, `<stem>.npz`, exports; `<picture>_people.jpg` of all.

Arrays in, files out, without a network: the work of threads behind the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from utils.assets import BodyAssets
from utils.export import PANEL_SUFFIX, PEOPLE_SUFFIX, save_person
from utils.export_files import endings, write_exports
from utils.export_person import ExportPerson
from utils.full_picture import FullCamera, draw_people
from utils.geometry import CROP_SIZE
from utils.renderer import IUV_Renderer, MeshRenderer
from utils.safe_io import atomic_write, files_together
from utils.visualize import result_panel

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8


class PersonFiles:
    """Draws and writes the files of people into one folder; any thread may call it."""

    def __init__(
        self,
        out_dir: Path,
        assets: BodyAssets,
        formats: Sequence[str] = (),
        renderer: type[MeshRenderer] = MeshRenderer,
        extra: MeshRenderer | None = None,
    ):
        """formats: of exports. extra: a renderer whose two views stand in the panel, too."""
        self.out_dir = out_dir
        self.assets = assets
        self.formats = formats
        self._renderer, self._extra = renderer, extra
        self._iuv_renderer = IUV_Renderer(out_size=CROP_SIZE, atlas=assets.atlas)
        self._mesh_renderer = renderer(assets.body.faces)

    def names(self, stem: str, people: Sequence[str], full_picture: bool) -> list[str]:
        """Files of the picture `stem` and its people's stems."""
        written = [PANEL_SUFFIX, ".npz", *endings(self.formats)]
        names = [f"{person}{ending}" for person in people for ending in written]
        return [*names, f"{stem}{PEOPLE_SUFFIX}"] if full_picture else names

    def write_person(
        self,
        stem: str,
        crop: UInt8[np.ndarray, "224 224 3"],
        arrays: dict[str, np.ndarray],
        facts: dict[str, Any],
    ) -> None:
        """Panel, npz and exports of a person.

        Raises OSError when one cannot be written; then none is, and earlier ones stay as they were.
        """
        panel = result_panel(
            crop, arrays["iuv"], arrays.get("part_iuv"), arrays["vertices"], arrays["cam"],
            self._iuv_renderer, self._mesh_renderer, self._extra,
        )  # fmt: skip
        with files_together(self.out_dir) as aside:
            write_picture(aside / f"{stem}{PANEL_SUFFIX}", panel)
            save_person(aside / f"{stem}.npz", arrays, **facts)
            person = ExportPerson(self.assets.body, self.assets.surface, arrays, facts)
            write_exports(aside / stem, self.formats, person)

    def write_people(
        self,
        stem: str,
        picture: UInt8[np.ndarray, "H W 3"],
        people: Sequence[tuple[Float[np.ndarray, "V 3"], FullCamera]],
    ) -> None:
        """The full picture with all its people. Raises OSError."""
        drawn = draw_people(picture, people, self.assets.body.faces, self._renderer)
        write_picture(self.out_dir / f"{stem}{PEOPLE_SUFFIX}", drawn)


def write_picture(path: Path, picture: UInt8[np.ndarray, "H W C"]) -> None:
    """Write an RGB or RGBA picture whole or not at all, as its ending says (.png, .jpg).

    Raises OSError, also for a picture that the format cannot hold: a JPEG has at most 65535 pixels a side.
    """
    channels = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    is_made, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, channels))
    if not is_made:
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        raise OSError(f"a picture of {size} px cannot be stored as {path.suffix}")
    with atomic_write(path) as file:
        file.write(data.tobytes())
