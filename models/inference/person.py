"""People of images as records: predicted body, IUV maps and camera, what is drawn of them, and their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.inference.confidence import why_no_body, with_keypoints
from models.inference.dense_files import SOURCES, DensePerson, dense_map, dense_person
from utils.body import BodyAssets, with_height
from utils.export import (
    PEOPLE_SUFFIX,
    endings,
    format_of,
    require_export_packages,
    save_person,
    still_motion,
    write_export,
)
from utils.export.densepose import PRESETS, check_presets, file_pixels
from utils.geometry import BOX_UNIT, CROP_SIZE, project_to_crop
from utils.images import as_rgb, write_image
from utils.io import require_free
from utils.io.marks import DEMO_MARKS
from utils.people import Box, Detection, PersonCrop, TrackedPerson
from utils.renderer import IUV_Renderer, MeshRenderer
from utils.renderer.dense_map import DenseMap
from utils.renderer.panel import result_panel
from utils.renderer.people import FullCamera, draw_people, full_camera
from utils.skeleton import JOINT_NAMES, SMPL_JOINT_NAMES
from utils.structures import BodyModel

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Shaped, UInt8

    from utils.images import AnyImage

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, eq=False, repr=False)
class Person:
    """A person of an image. Plain arrays; the body in metres about its own origin, x right, y down, z forward.

    Places in the image are pixels after EXIF rotation, from its upper left corner.
    """

    cam: Float[np.ndarray, "3"]  # weak camera (s, tx, ty) of the square crop that the network saw
    betas: Float[np.ndarray, "10"]  # shape
    rotmat: Float[np.ndarray, "24 3 3"]  # pose: local rotations in SMPL's order, the root first
    vertices: Float[np.ndarray, "V 3"]  # metres; add `camera.cam_t` for the place before the image's camera
    joints: Float[np.ndarray, "49 3"]  # metres, named by `joint_names`
    smpl_joints: Float[np.ndarray, "24 3"]  # metres, named by `smpl_joint_names`
    iuv: UInt8[np.ndarray, "3 56 56"]  # of the crop: part 0..24, 255 U, 255 V
    part_iuv: UInt8[np.ndarray, "24 3 56 56"] | None  # the same of 24 crops about the joints
    confidence: float  # 0..1
    box: Box  # x, y, width, height
    score: float  # of the detector, 0..1; NaN where boxes were given
    detected_keypoints: Float[np.ndarray, "17 3"] | None  # COCO's, of the detector: x, y, confidence
    camera: FullCamera  # of the image
    problem: str  # why the prediction is no body ("is empty", ...); "" where all is well
    crop: PersonCrop  # what the network saw, and where in the image
    assets: BodyAssets  # the body that shape and pose belong to
    arrays: dict[str, np.ndarray]  # all that the npz file holds of the prediction
    facts: dict[str, Any]  # all that it holds beside
    dense: DensePerson  # what whole-image maps are made from
    joint_names = JOINT_NAMES
    smpl_joint_names = tuple(SMPL_JOINT_NAMES)

    def __repr__(self) -> str:
        problem = f", problem='{self.problem}'" if self.problem else ""
        return f"Person(box={self.box}, score={self.score:.2f}, confidence={self.confidence:.2f}{problem})"

    @property
    def faces(self) -> Int[np.ndarray, "F 3"]:
        """Triangles of the body."""
        return self.assets.body.faces

    @property
    def keypoints(self) -> Float[np.ndarray, "49 2"]:
        """The joints in pixels of the image."""
        points = project_to_crop(torch.from_numpy(self.joints)[None], torch.from_numpy(self.cam)[None])[0].numpy()
        return self.crop.center + points * (BOX_UNIT * self.crop.scale / 2)

    def overlay(self, image: AnyImage) -> UInt8[np.ndarray, "H W 3"]:
        """The RGB image, of which this person is, with the body drawn over it, unless there is a `problem` with it.

        Raises ValueError for an image of another size.
        """
        pixels = as_rgb(image)
        if pixels.shape[1::-1] != self.crop.image_size:
            given, own = ("{} x {}".format(*size) for size in (pixels.shape[1::-1], self.crop.image_size))
            raise ValueError(f"The person is one of an image of {own} px; this one has {given} px.")
        return pixels.copy() if self.problem else draw_people(pixels, [(self.vertices, self.camera)], self.faces)

    def panel(self) -> UInt8[np.ndarray, "224 W 4"]:
        """RGBA: the crop, IUV maps, the body's IUV, the body over the crop, its side view."""
        iuv_renderer = IUV_Renderer(out_size=CROP_SIZE, atlas=self.assets.atlas)
        return result_panel(
            self.crop.crop, self.iuv, self.part_iuv, self.vertices, self.cam, iuv_renderer, MeshRenderer(self.faces)
        )

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write a file whose kind the ending says, whole or not at all.

        Args:
            path: .npz (everything, as the demo writes it), .glb, .obj, .ply, .bvh, .csv, .trc and the other endings
                of `demo.py --export`, or .png and .jpg for the demo's image of results; in letters of either case.
                Folders that are missing are made.
            overwrite: replace a result that is there, and nothing else.

        Returns:
            The path.

        Raises:
            ValueError: an ending that is none of these, or a person with a `problem`.
            FileExistsError: the file is there.
            OSError: it cannot be written.
            ImportError: the package that writes this kind is not installed.
        """
        path = Path(path)
        kind, suffix = format_of(path.name), path.suffix.lower()
        if kind is None and suffix not in (".npz", *IMAGE_ENDINGS):
            known = ", ".join([".npz", *endings(), *IMAGE_ENDINGS])
            raise ValueError(f"The file '{path.name}' would be of an unknown kind; its name must end in {known}.")
        if self.problem:
            raise ValueError(f"'{path}' is not written: the prediction {self.problem}.")
        require_free(path, overwrite, *DEMO_MARKS)
        if kind is not None:
            require_export_packages([kind])
            motion = still_motion(self.assets.body, self.assets.surface, self.arrays, self.facts)
            write_export(path, kind, motion, overwrite)
        elif suffix == ".npz":
            save_person(path, self.arrays, overwrite, **self.facts)
        else:
            panel = self.panel()
            write_image(path, panel if suffix == ".png" else panel[..., :3], overwrite)
        return path


class ImageResult(list[Person]):
    """The people of one image, a list of `Person`.

    Attributes:
        image: RGB [H,W,3], bytes, upright.
    """

    def __init__(self, image: UInt8[np.ndarray, "H W 3"], people: list[Person], assets: BodyAssets):
        super().__init__(people)
        self.image, self._assets = image, assets

    def overlay(self) -> UInt8[np.ndarray, "H W 3"]:
        """The RGB image with all bodies drawn over it, nearer ones in front."""
        bodies = [(person.vertices, person.camera) for person in self if not person.problem]
        return draw_people(self.image, bodies, self._assets.body.faces) if bodies else self.image.copy()

    def dense_map(self, source: str = "map") -> DenseMap:
        """DensePose's part, U and V at each pixel of the image, nearer people in front.

        Args:
            source: "map" of what the network sees, or "body" rendered from the bodies.
        """
        if source not in SOURCES:
            raise ValueError(f"The source of a dense map is 'map' or 'body', not '{source}'.")
        people = [person.dense for person in self if not person.problem]
        return dense_map(people, source, self._assets.atlas, self.image.shape[1::-1])

    def densepose(self, preset: str = "iuv-rgb", source: str = "map") -> Shaped[np.ndarray, "..."]:
        """The whole-image map as the first file of a preset of `demo.py --densepose` holds it, at the image's size.

        Returns:
            Bytes [H,W] or [H,W,3] (RGB), or floats [C,H,W], as docs/densepose.md says.
        """
        check_presets([preset])
        return file_pixels(PRESETS[preset].files[0], self.dense_map(source))


def make_person(
    crop: PersonCrop,
    arrays: Mapping[str, np.ndarray],
    assets: BodyAssets,
    facts: Mapping[str, str],
    focal_length: float | None = None,
    height: float | None = None,
) -> Person:
    """The record of a predicted person.

    Args:
        crop: what the network saw.
        arrays: as `Predictor.predict` gives them; `scores` only where they were asked for.
        assets: the body that was posed.
        facts: of the predictor.
        focal_length: of the whole image, pixels; None: the one that its file says, else its diagonal.
        height: of the person, standing, metres; None: as predicted.
    """
    if focal_length is None and crop.full_image is not None:
        focal_length = crop.full_image.focal_length
    placed = place_body(arrays, crop, crop, crop.image_size, assets.body, focal_length, height)
    arrays, camera = placed.arrays, placed.camera
    named = ("cam", "betas", "rotmat", "vertices", "joints", "smpl_joints", "iuv")
    return Person(
        **{name: arrays[name] for name in named}, part_iuv=arrays.get("part_iuv"), confidence=placed.confidence,
        box=crop.box, score=crop.score, detected_keypoints=crop.keypoints, camera=camera, problem=why_no_body(arrays),
        crop=crop, assets=assets, arrays=arrays, facts={**facts_of(crop, camera), **facts}, dense=placed.dense,
    )  # fmt: skip


@dataclass(frozen=True)
class PlacedBody:
    """A predicted body in its image or frame."""

    arrays: dict[str, np.ndarray]  # of `Predictor.predict`, at the person's height, with the whole confidence
    camera: FullCamera
    confidence: float  # 0..1
    dense: DensePerson


def place_body(
    arrays: Mapping[str, np.ndarray],
    place: PersonCrop | TrackedPerson,
    found: PersonCrop | Detection,
    image_size: tuple[int, int],
    body: BodyModel,
    focal_length: float | None,
    height: float | None,
) -> PlacedBody:
    """The body of a person who was found in an image; other arguments as of `make_person`.

    Args:
        place: has the crop's center and scale.
        found: has the person's box and keypoints.
        image_size: width and height, pixels.
        body: that was posed.
        focal_length: of the whole image, pixels; None: its diagonal.
    """
    arrays = dict(arrays) if height is None else with_height(arrays, body, height)
    scores = arrays.pop("scores", None)
    confidence = float(with_keypoints(arrays, found.keypoints, place.center, place.scale))
    arrays["confidence"] = np.float32(confidence)
    camera = full_camera(torch.from_numpy(arrays["cam"]), place.center, place.scale, image_size, focal_length)
    return PlacedBody(arrays, camera, confidence, dense_person(arrays, scores, camera, place, found.box))


def facts_of(person: PersonCrop, camera: FullCamera) -> dict[str, Any]:
    """Crop, camera and source of a person, by the keys of the npz file."""
    facts = {name: getattr(person, name) for name in ("person", "box", "score", "center", "scale", "image_size")}
    facts |= {"cam_t_full": camera.cam_t, "focal_length_full": camera.focal_length}
    facts |= {"principal_point": camera.principal_point}
    facts["picture"] = person.path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if person.keypoints is not None:
        facts["detected_keypoints"] = person.keypoints
    if person.full_image is not None:
        facts["people_picture"] = f"{person.full_image.stem}{PEOPLE_SUFFIX}"
    return facts
