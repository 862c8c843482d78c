"""Pictures of people to dense body parts and posed bodies: `<stem>_result.png` and `<stem>.npz` for each,
and `<picture>_people.jpg` with everybody in it where people were cut out of a picture.

Exit code 0: all well; 1: some files could not be used; 2: nothing could be done, or a setting is wrong.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.boxes import load_boxes
from datasets.keypoint_files import KeypointFiles
from datasets.people import DETECTORS, BadPicture, People, PersonCrop
from models import SMPL, DaNetConfig, build_danet
from models.danet import PRESETS
from models.pretrained import network_of, warn_of_another_body, weights_file
from utils.assets import BODY_CHOICES, resolve_body
from utils.body import OPEN_DIR
from utils.checkpoint import load_danet
from utils.config import group, option, parse_config
from utils.export import person_arrays, save_person
from utils.export_files import EXPORTS, check_formats, write_exports
from utils.export_person import ExportPerson
from utils.full_picture import FullCamera, PeoplePictures, full_camera
from utils.geometry import CROP_SIZE, FOCAL_LENGTH, cam_to_translation
from utils.iuvmap import iuvmap_clean
from utils.renderer import IUV_Renderer, MeshRenderer, OpendrMeshRenderer, build_mesh_renderer
from utils.runtime import choose_device, setup_logging
from utils.safe_io import atomic_write
from utils.structures import DaNetOutput, SMPLOutput
from utils.visualize import result_panel, to_uint8

log = logging.getLogger("demo")


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the demo."""

    img_dir: str = option("./examples", "a picture or a folder of pictures")
    out_dir: str = option("./output", "where results are written")
    checkpoint: str | None = option(None, "weights (.pt or .safetensors); default: the shipped ones")
    model: str | None = option(None, "the network of the weights; default: seen from them", choices=PRESETS)
    batch_size: int = option(8, "people at a time")
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    detector: str = option(
        "auto",
        "who finds the people: movenet, or none (a picture is one person's crop); auto: none for square pictures, "
        "movenet for others",
        choices=DETECTORS,
    )
    boxes: str | None = option(None, "JSON file with person boxes, instead of a detector")
    keypoints: str | None = option(
        None, "folder of OpenPose results <stem>_keypoints.json, instead of a detector"
    )
    export: tuple[str, ...] = option((), f"also write each person as any of {', '.join(EXPORTS)}")
    focal_length: float | None = option(None, "of the full pictures, pixels; default: their diagonal")
    body: str = option("auto", "official files, the open body, or the first if there", choices=BODY_CHOICES)
    data_dir: str = option(str(OPEN_DIR.parent), "folder of the licensed files")
    use_opendr: bool = option(False, "add views by opendr to the panel, if it works here")
    reference_input: bool = option(False, "feed pixels in 0..1 without normalising, as the 2020 demo did")
    network: DaNetConfig = group(DaNetConfig, preset_by=("model", "checkpoint"), preset=network_of)

    def __post_init__(self):
        check_formats(self.export)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.focal_length is not None and not 0 < self.focal_length < float("inf"):
            raise ValueError(f"focal_length must be a positive number of pixels, got {self.focal_length}.")
        if (self.detector != "auto") + (self.boxes is not None) + (self.keypoints is not None) > 1:
            raise ValueError(
                "Give one of --detector, --boxes and --keypoints: each says where the people are."
            )
        if self.checkpoint is None and self.model not in (None, "danet_s"):
            raise ValueError(f"No weights for '{self.model}' ship with the project; give --checkpoint FILE.")


class Demo:
    """Network, body and renderers of a run, and the writing of what they say about people."""

    def __init__(self, config: DemoConfig):
        self.out_dir = Path(config.out_dir)
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self.device = choose_device(config.device)
        self.normalise = not config.reference_input
        assets = resolve_body(config.body, config.data_dir)
        model = build_danet(config.network, config.data_dir)
        weights = load_danet(model, weights_file(config.checkpoint))
        log.info(assets.log_line(str(weights)))
        warn_of_another_body(weights.meta.get("body"), assets.body.model_id)
        self.model = model.to(self.device).prepare_for_inference()
        self.smpl = SMPL(assets.body, assets.extra, assets.surface).to(self.device)
        self.iuv_renderer = IUV_Renderer(out_size=CROP_SIZE, atlas=assets.atlas)
        self.mesh_renderer = MeshRenderer(assets.body.faces)
        self.focal_length = config.focal_length
        self.assets, self.export = assets, config.export
        self.people_pictures = PeoplePictures(self.out_dir, assets.body.faces)
        self.facts = {"body_model": assets.body.model_id, "weights": weights.weights_id}
        self.other_renderer = build_mesh_renderer(assets.body.faces, config.use_opendr)

    @torch.inference_mode()
    def run(self, people: Sequence[PersonCrop]) -> list[PersonCrop | BadPicture]:
        """Predict a batch of people and write their files; a `BadPicture` for each that has none."""
        if not people:
            return []
        images = [person.image if self.normalise else person.pixels for person in people]
        output = self.model(torch.stack(images).to(self.device))
        body = self.smpl(output.smpl.params.rotmat, output.smpl.params.betas)
        return [self.write(person, output, body, row) for row, person in enumerate(people)]

    def write(
        self, person: PersonCrop, output: DaNetOutput, body: SMPLOutput, row: int
    ) -> PersonCrop | BadPicture:
        """Write the files of person `row` of a batch."""
        if not (body.vertices[row].isfinite().all() and output.smpl.params.cam[row].isfinite().all()):
            return BadPicture(
                person.path, f"the prediction of '{person.stem}' is not finite; the weights may be damaged"
            )
        camera = full_camera(
            output.smpl.params.cam[row], person.center, person.scale, person.image_size, self.focal_length
        )
        try:
            write_png(self.out_dir / f"{person.stem}_result.png", self.panel(person, output, body, row))
            arrays, facts = person_arrays(output, body, row), self.facts_of(person, camera)
            save_person(self.out_dir / f"{person.stem}.npz", arrays, **facts)
            exported = ExportPerson(self.assets.body, self.assets.surface, arrays, facts)
            write_exports(self.out_dir / person.stem, self.export, exported)
        except OSError as error:
            return BadPicture(
                person.path,
                f"the results '{person.stem}' cannot be written to '{self.out_dir}': {error.strerror or error}",
            )
        if person.full_picture is not None:
            full = person.full_picture
            self.people_pictures.add(full.stem, full.path, full.pixels, arrays["vertices"], camera)
        return person

    def facts_of(self, person: PersonCrop, camera: FullCamera) -> dict[str, object]:
        """Where a person's arrays come from."""
        detected = {} if person.keypoints is None else {"detected_keypoints": person.keypoints}
        return {
            "picture": person.path.name,
            "person": person.person,
            "box": person.box,
            "score": person.score,
            "center": person.center,
            "scale": person.scale,
            "image_size": person.image_size,
            "cam_t_full": camera.cam_t,
            "focal_length_full": camera.focal_length,
            "principal_point": camera.principal_point,
            **detected,
            **self.facts,
        }

    def panel(self, person: PersonCrop, output: DaNetOutput, body: SMPLOutput, row: int) -> np.ndarray:
        """The row of pictures, RGBA; views by opendr stand before our own two."""
        vertices, cam = body.vertices[row].cpu(), output.smpl.params.cam[row].cpu()
        maps, parts = output.iuv.iuv[row : row + 1], output.iuv.part_iuv
        clean = iuvmap_clean(maps.u, maps.v, maps.index, maps.ann)[0]
        if parts is not None:
            parts = iuvmap_clean(*list(parts[row : row + 1])[:3])[0]
        own = result_panel(person.crop, clean, parts, vertices, cam, self.iuv_renderer, self.mesh_renderer)
        if not isinstance(self.other_renderer, OpendrMeshRenderer):
            return own
        cam_t, size = cam_to_translation(cam), person.crop.shape[0]
        front = self.other_renderer.overlay(person.crop, vertices, cam_t, FOCAL_LENGTH)
        front = np.dstack([front, np.full((size, size), 255, np.uint8)])
        side = to_uint8(self.other_renderer.side_view(vertices, cam_t, FOCAL_LENGTH, size))
        return np.concatenate([own[:, : -2 * size], front, side, own[:, -2 * size :]], axis=1)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGBA picture whole or not at all."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    with atomic_write(path) as file:
        file.write(data.tobytes())


def outcomes(demo: Demo, people: People, batch_size: int) -> Iterator[PersonCrop | BadPicture]:
    """Run the demo on all people in batches: each person written, each file or box that was not."""
    batch: list[PersonCrop] = []
    for path in tqdm(people.paths, unit="picture", disable=None):
        for found in people.people_of(path):
            if isinstance(found, BadPicture):
                yield found
                continue
            batch.append(found)
            if len(batch) == batch_size:
                yield from demo.run(batch)
                batch = []
    yield from demo.run(batch)
    demo.people_pictures.finish()
    yield from (BadPicture(path, reason) for path, reason in demo.people_pictures.failed)


def where_people_are(config: DemoConfig) -> People:
    """The people of the pictures, by the file, folder or detector that the settings name."""
    if config.boxes is not None:
        return People(config.img_dir, load_boxes(config.boxes))
    if config.keypoints is not None:
        return People(config.img_dir, KeypointFiles(config.keypoints))
    return People(config.img_dir, detector=config.detector)


def main(argv: Sequence[str] | None = None) -> int:
    config = parse_config(DemoConfig, argv, __doc__)
    setup_logging()
    try:
        people = where_people_are(config)
        demo = Demo(config)
    except (ValueError, OSError) as error:
        log.error("%s", error)
        return 2
    written, bad = 0, 0
    with logging_redirect_tqdm():
        for outcome in outcomes(demo, people, config.batch_size):
            if isinstance(outcome, BadPicture):
                bad += 1
                log.error("%s: %s", outcome.path, outcome.reason)
            else:
                written += 1
    log.info("%d people written to %s; %d files or boxes could not be used.", written, config.out_dir, bad)
    if not written:
        log.error("No picture of '%s' could be used.", config.img_dir)
        return 2
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
