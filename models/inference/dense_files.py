"""Files of the whole-image DensePose maps of images (`demo.py --densepose`)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.inference.run_record import MapsOfImage
from utils.body import SMPL_ID
from utils.checkpoint import LoadReport
from utils.export.densepose import PRESETS, MapFile, map_paths, write_map
from utils.io import overwrite_problem, require_free
from utils.io.marks import DEMO
from utils.people import Box, PersonCrop, TrackedPerson
from utils.renderer.dense_map import DenseMap, SeenPerson, body_map, seen_map
from utils.renderer.people import FullCamera
from utils.structures import Atlas

if TYPE_CHECKING:
    from jaxtyping import Float

SOURCES = ("map", "body")


@dataclass(frozen=True)
class DensePerson:
    """A person of an image, with what a map of either source is made from."""

    vertices: Float[np.ndarray, "V 3"]  # metres
    camera: FullCamera
    seen: SeenPerson | None  # None where maps are rendered from bodies


def dense_person(
    arrays: Mapping[str, np.ndarray],
    scores: Float[np.ndarray, "H W 76"] | None,
    camera: FullCamera,
    place: PersonCrop | TrackedPerson,
    box: Box,
) -> DensePerson:
    """A person as predicted.

    Args:
        arrays: as `Predictor.predict` gives them.
        scores: of the network; None where maps are rendered from bodies.
        camera: of the image.
        place: has the crop's center and scale.
        box: of the person, pixels of the image.
    """
    seen = None
    if scores is not None:
        seen = SeenPerson(scores, place.center, place.scale, box, depth=float(camera.cam_t[2]))
    return DensePerson(arrays["vertices"], camera, seen)


def dense_map(
    people: Sequence[DensePerson],
    source: str,
    atlas: Atlas,
    image_size: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> DenseMap:
    """The map of an image's people, nearer ones in front.

    Args:
        people: made for this source.
        source: of SOURCES.
        atlas: of the bodies.
        image_size: width and height, pixels.
        size: of the map, as in `seen_map`.
    """
    if source == "map":
        return seen_map([person.seen for person in people], image_size, size)
    return body_map([(person.vertices, person.camera) for person in people], atlas, image_size, size)


@dataclass
class DenseFiles:
    """Makes and writes the maps of images below one folder; any thread may call it.

    Attributes:
        maps: those that are there now.
    """

    out_dir: Path
    presets: Sequence[str]
    source: str  # of SOURCES
    atlas: Atlas  # of the bodies
    overwrite: bool = False  # replace maps that are there, and nothing else
    stems: Mapping[Path, str] = field(default_factory=dict)  # of all images of the run, those of other processes, too

    def __post_init__(self) -> None:
        self.maps: list[MapsOfImage] = []
        self._image_of: dict[str, str] = {}  # map -> file name of the image that it is of
        for path, stem in self.stems.items():
            for _, _, place in map_paths(self.out_dir, self.presets, path.name, stem):
                self._owner(place, path.name)

    @property
    def needs_scores(self) -> bool:
        """Whether maps are made from what the network sees (`Predictor.predict` with `with_scores`)."""
        return self.source == "map"

    def reason_to_skip(self, image: str, stem: str) -> str | None:
        """Why an image's maps must not be written; None when they may."""
        for _, _, path in self._own_paths(image, stem):
            if reason := overwrite_problem(path, True, DEMO):
                return f"its result '{self.shown(path)}' {reason}"
        return None

    def is_missing(self, image: str, stem: str) -> bool:
        """Whether one of an image's maps is not there."""
        return not all(os.path.lexists(path) for _, _, path in self._own_paths(image, stem))

    def _owner(self, path: Path, image: str) -> str:
        """The image that a map is of, which is the first that asked; some file systems do not tell A from a."""
        return self._image_of.setdefault(str(path).lower(), image)

    def _own_paths(self, image: str, stem: str) -> list[tuple[str, MapFile, Path]]:
        """As `map_paths`, without maps of another image that would have the same name."""
        paths = map_paths(self.out_dir, self.presets, image, stem)
        return [each for each in paths if self._owner(each[2], image) == image]

    def write(
        self, image: str, stem: str, image_size: tuple[int, int], people: Sequence[DensePerson]
    ) -> None:
        """Write the maps of an image; those that are there stay, unless they are to be replaced.

        A map that another image of the run has under the same name is left out, and said after all others are written.

        Args:
            image: its file name.
            stem: what results of the image begin with.
            image_size: width and height, pixels.
            people: of the image; without any the maps are all background.

        Raises:
            OSError: a map cannot be written, or would replace what is none.
        """
        maps: dict[tuple[int, int], DenseMap] = {}
        names, is_earlier, own = [], True, self._own_paths(image, stem)
        for preset, file, path in own:
            if self.overwrite or not os.path.lexists(path):
                size = PRESETS[preset].size or image_size
                if size not in maps:
                    maps[size] = self.compose(people, image_size, size)
                require_free(path, self.overwrite, DEMO)
                write_map(path, file, maps[size], self.overwrite)
                is_earlier = False
            names.append(self.shown(path))
        if names:
            self.maps.append(MapsOfImage(image, tuple(names), is_earlier))
        for each in map_paths(self.out_dir, self.presets, image, stem):
            if each not in own:
                other = self._owner(each[2], image)
                raise FileExistsError(f"'{self.shown(each[2])}' is the map of '{other}', too; rename one of the images")

    def compose(
        self, people: Sequence[DensePerson], image_size: tuple[int, int], size: tuple[int, int] | None = None
    ) -> DenseMap:
        """The map of an image; `size` as in `seen_map`."""
        return dense_map(people, self.source, self.atlas, image_size, size)

    def shown(self, path: Path) -> str:
        """A path in the folder of results, as the record names it."""
        return path.relative_to(self.out_dir).as_posix()


def charts_warning(presets: Sequence[str], source: str, weights: LoadReport | None, atlas: Atlas) -> str:
    """A warning where presets promise U and V of DensePose's charts and get those of the open atlas; else "".

    Maps of the network have the charts that its weights were trained on, rendered ones those of the body's atlas.
    """
    meta = {} if weights is None else weights.meta
    charts = meta.get("body", SMPL_ID) if source == "map" else atlas.model_id
    affected = [name for name in dict.fromkeys(presets) if PRESETS[name].has_charts]
    if charts == SMPL_ID or not affected:
        return ""
    need = (
        "weights trained on the official files" if source == "map" else "the official files and --body smpl"
    )
    return (
        f"U and V of {', '.join(affected)} are those of the open atlas, not DensePose's charts (part numbers are "
        f"DensePose's): programs that look up textures by them need {need}; see docs/densepose.md"
    )
