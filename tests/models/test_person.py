"""Calling a predictor with images: what may be given, the records that come back, and the files that they save."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import replace
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_demo import FLAGS, TINY

import demo
from models import DaNetConfig, ImageResult, InferenceConfig, Predictor, load_predictor
from utils.body import standing_height
from utils.images import ImageError, as_rgb
from utils.io import load_npz
from utils.people import Detection

BOXES = [(10, 10, 60, 100), (70, 5, 60, 110)]


@pytest.fixture(scope="module")
def predictor(weights):
    config = InferenceConfig(checkpoint=str(weights), body="open", device="cpu", network=DaNetConfig(**TINY))
    return load_predictor(config)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 14, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(pixels, (140, 120), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture(scope="module")
def people(predictor, photo):
    return predictor(str(photo), boxes=BOXES)


def test_path_pillow_image_and_array_are_the_same_image(predictor, photo, people):
    pixels = cv2.imread(str(photo))[..., ::-1]
    given = [photo, Image.open(photo), np.ascontiguousarray(pixels)]
    many = predictor(given, boxes=[BOXES] * 3, batch_size=4)
    assert [len(found) for found in many] == [2, 2, 2]
    for found in many:
        assert np.array_equal(found.image, pixels)
        for person, other in zip(found, people, strict=True):
            assert np.allclose(person.vertices, other.vertices, atol=1e-5) and person.box == other.box


def test_a_record_holds_what_the_demo_writes(photo, weights, people, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(f'{{"photo.png": {[list(box) for box in BOXES]}}}')
    given = ["--checkpoint", str(weights), "--img_dir", str(photo), "--boxes", str(boxes)]
    assert demo.main([*FLAGS, *given, "--out_dir", str(tmp_path / "out")]) == 0
    for number, person in enumerate(people):
        written = load_npz(tmp_path / "out" / f"photo_{number}.npz")
        ours = load_npz(person.save(tmp_path / f"{number}.npz"))
        assert written.keys() == ours.keys()
        for name, value in written.items():
            if value.dtype.kind == "f":
                assert np.allclose(value, ours[name], atol=1e-5, equal_nan=True), name
            else:
                assert np.mean(value == ours[name]) > 0.999, name
    assert people[0].joints.shape == (49, 3) and len(people[0].joint_names) == 49
    assert people[0].smpl_joints.shape == (24, 3) and people[0].smpl_joint_names[0] == "pelvis"
    # The whole image's pinhole camera and the crop's camera see the joints at about the same pixels.
    person = people[0]
    point = person.camera.as_seen(person.joints)
    seen = point[:, :2] / point[:, 2:] * person.camera.focal_length + person.camera.principal_point
    assert np.abs(seen - person.keypoints).max() < 3 and repr(person).startswith("Person(box=(10.0, 10.0,")


def test_a_known_height_scales_a_person_and_moves_no_pixel(predictor, photo, people, caplog):
    tall = predictor(photo, boxes=BOXES, height=2.0)
    assert "photo.png: each of its 2 people is given the height of 2 m." in caplog.text
    for person, scaled in zip(people, tall, strict=True):
        ratio = scaled.arrays["body_scale"]
        assert ratio == pytest.approx(2.0 / standing_height(person.assets.body, person.betas)) and abs(ratio - 1) > 0.05
        for name in ("vertices", "joints", "smpl_joints"):
            assert np.allclose(getattr(scaled, name), ratio * getattr(person, name), atol=1e-5)
        assert np.allclose(scaled.camera.cam_t, ratio * person.camera.cam_t, rtol=1e-4)
        assert np.allclose(scaled.keypoints, person.keypoints, atol=1e-3)
        assert np.array_equal(scaled.betas, person.betas) and np.array_equal(scaled.rotmat, person.rotmat)
        assert scaled.confidence == pytest.approx(person.confidence, abs=1e-4)
    assert np.mean(tall.overlay() != people.overlay()) < 0.01
    for height in (0.2, 170, float("nan"), "2 m"):
        with pytest.raises(ValueError, match="a number of metres from 0.3 to 2.7, got"):
            predictor(photo, boxes=BOXES, height=height)


def test_images_and_maps_have_the_size_of_the_image(people):
    assert people.overlay().shape == people.image.shape == (120, 140, 3)
    assert people[1].overlay(people.image).shape == (120, 140, 3) and people[0].panel().shape[::2] == (224, 4)
    for source in ("map", "body"):
        dense = people.dense_map(source)
        assert dense.part.shape == (120, 140) and dense.part.max() <= 24
        assert np.array_equal(people.densepose("iuv-rgb", source)[..., 0], dense.part)
    assert people.densepose("dreampose").shape == (2, 120, 140)
    with pytest.raises(ValueError, match="'map' or 'body', not 'maps'"):
        people.dense_map("maps")
    with pytest.raises(ValueError, match="densepose takes any of viton"):
        people.densepose("vitton")


@pytest.mark.parametrize("name", ["a.glb", "a.obj", "a.mixamo.bvh", "a.bvh", "a.csv", "a.amass.npz", "a.png", "a.jpg"])
def test_the_ending_says_the_kind_of_file(name, people, tmp_path):
    path = people[0].save(tmp_path / name)
    assert path.stat().st_size > 500 and list(tmp_path.iterdir()) == [path]
    if name.endswith((".png", ".jpg")):
        assert cv2.imread(str(path)).shape == (224, 1456, 3)
    with pytest.raises(FileExistsError, match="--overwrite|is there"):
        people[0].save(path)
    assert people[0].save(path, overwrite=True) == path


def test_an_unknown_ending_is_named(people, tmp_path):
    with pytest.raises(ValueError, match=r"'a.fbx' would be of an unknown kind; its name must end in \.npz, \.obj"):
        people[0].save(tmp_path / "a.fbx")
    (tmp_path / "a.png").write_bytes(b"a photograph")
    with pytest.raises(FileExistsError):
        people[0].save(tmp_path / "a.png", overwrite=True)


@pytest.mark.parametrize(("millimetres", "ratio"), [(28, 28 / 43.2666), (2, 1.0), (None, 1.0)])
def test_the_focal_length_is_that_of_the_file(predictor, photo, tmp_path, millimetres, ratio):
    """Of its equivalent on 35 mm film; an unlikely one is passed over."""
    image, exif = Image.open(photo), Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = millimetres or 0
    image.save(tmp_path / "a.jpg", exif=exif)
    for given in (tmp_path / "a.jpg", Image.open(tmp_path / "a.jpg")):
        (person,) = predictor(given, boxes=BOXES[:1])
        assert person.camera.focal_length == pytest.approx(ratio * np.hypot(140, 120), rel=1e-4)
    (person,) = predictor(given, boxes=BOXES[:1], focal_length=300.0)
    assert person.camera.focal_length == 300.0


def test_the_ending_may_be_in_capitals(people, tmp_path):
    for name in ("A.CSV", "a.Amass.npz", "A.NPZ", "A.DensePose.PNG"):
        assert people[0].save(tmp_path / "new folder" / name).name == name
    assert load_npz(tmp_path / "new folder/a.Amass.npz").keys() >= {"poses", "trans"}
    assert load_npz(tmp_path / "new folder/A.NPZ").keys() >= {"schema", "vertices"}
    assert cv2.imread(str(tmp_path / "new folder/A.DensePose.PNG")).shape == (224, 224, 3)


@pytest.mark.parametrize("name", ["a.npz", "a.csv", "a.png"])
def test_threads_that_save_one_file_replace_nothing(name, people, tmp_path, monkeypatch):
    """The name is taken after it was found free."""
    monkeypatch.setattr("models.inference.person.require_free", lambda path, *_: path.write_bytes(b"first"))
    with pytest.raises(FileExistsError):
        people[0].save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"first" and len(list(tmp_path.iterdir())) == 1


def test_what_is_no_body_is_neither_written_nor_drawn(people, tmp_path):
    person = replace(people[0], problem="is not finite; the weights may be damaged")
    for name in ("a.npz", "a.glb", "a.png"):
        with pytest.raises(ValueError, match=r"a\.\w+' is not written: the prediction is not finite"):
            person.save(tmp_path / name)
    assert not list(tmp_path.iterdir()) and np.array_equal(person.overlay(people.image), people.image)


def test_overlays_are_images_of_their_own(predictor, photo, people):
    """Read-only images and those of Pillow may be given; what is drawn never changes them."""
    pixels = people.image.copy()
    pixels.flags.writeable = False
    for boxes in (BOXES, []):
        found = predictor(pixels, boxes=boxes)
        found.overlay()[:] = 0
        assert np.array_equal(found.image, people.image)
    assert np.array_equal(people[0].overlay(Image.open(photo)), people[0].overlay(pixels))
    with pytest.raises(ValueError, match="image of 140 x 120 px; this one has 50 x 60 px"):
        people[0].overlay(pixels[:60, :50])


class Finds:
    def __init__(self, *boxes):
        self.boxes = boxes

    def detect(self, image):
        return [Detection(box, 0.5) for box in self.boxes]


def test_the_detector_may_be_any_object(predictor, photo):
    (person,) = predictor(photo, detector=Finds(BOXES[0]))
    assert person.box == BOXES[0] and person.score == 0.5
    nothing = predictor(photo, detector=Finds())
    assert nothing == [] and isinstance(nothing, ImageResult) and np.array_equal(nothing.overlay(), nothing.image)
    assert not nothing.densepose("parts").any()
    assert predictor([]) == []


def test_boxes_need_no_detector_and_may_be_arrays(predictor, photo, monkeypatch):
    monkeypatch.setattr("models.inference.people.shared_detector", None)
    for rows in (np.array(BOXES), torch.tensor(BOXES), [list(map(np.float32, box)) for box in BOXES]):
        assert [person.box for person in predictor(photo, boxes=rows)] == BOXES
    assert list(map(len, predictor([photo] * 3, boxes=iter([BOXES, np.zeros((0, 4)), []])))) == [2, 0, 0]


def test_a_network_without_weights_file_has_people_too(predictor, photo):
    (person,) = Predictor(predictor.network, predictor.assets, predictor.device)(photo, boxes=BOXES[:1])
    assert person.facts["weights"] == "none"


def pillow_image(damage):
    """A JPEG file that Pillow opens and cannot decode, or that is closed already."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG")
    image = Image.open(io.BytesIO(stream.getvalue()[:-20] if damage == "cut" else stream.getvalue()))
    if damage == "closed":
        image.close()
    return image


def test_a_pillow_image_of_a_path_in_bytes_has_its_name(predictor, photo):
    (person,) = predictor(Image.open(os.fsencode(photo)), boxes=BOXES[:1])
    assert person.crop.path == photo


@pytest.mark.parametrize("mode", ["L", "I", "F", "HSV", "YCbCr", "LAB", "I;16"])
def test_a_pillow_image_of_any_mode_has_its_colours(mode):
    """Also numbers of 32 bits that hold 0..255, as Pillow's own conversion leaves them."""
    color = (200, 30, 30) if mode in ("HSV", "YCbCr", "LAB") else (200, 200, 200)
    image = Image.new("RGB", (9, 9), color)
    if mode == "I;16":
        given = Image.fromarray(np.full((9, 9), 200 * 256, np.uint16))
    else:
        given = image.convert("L").convert(mode) if mode in ("I", "F") else image.convert(mode)
    assert given.mode == mode and np.abs(as_rgb(given).astype(int) - np.asarray(image)).max() < 5


GREY = np.zeros((99, 99, 3), np.uint8)
ROWS = r"rows of four numbers .* list of images there is a list of these; got "


@pytest.mark.parametrize(
    ("images", "settings", "error", "said"),
    [
        (np.zeros((9, 9, 3)), {}, TypeError, "not float64 of shape"),
        (np.zeros((9, 9), np.uint8), {}, TypeError, "RGB bytes"),
        (7, {}, TypeError, "not int"),
        ("nowhere.jpg", {}, ImageError, "nowhere.jpg: the file is not there"),
        (np.zeros((3, 9, 3), np.uint8), {}, ImageError, "image_0: 9 x 3 pixels are too few"),
        ([], {"boxes": [[]]}, ValueError, "1 images, but 0 images"),
        (GREY, {"boxes": [(200, 0, 50, 50)]}, ValueError, "image_0: box 0: .* outside"),
        (GREY, {"batch_size": 0}, ValueError, "at least 1"),
        (GREY, {"batch_size": 2.5}, ValueError, "a whole number, at least 1, got 2.5"),
        (np.stack([GREY, GREY]), {}, TypeError, r"several are a list; not uint8 of shape \(2, 99, 99, 3\)"),
        ((image for image in [GREY]), {}, TypeError, "several are a list; not generator"),
        ([GREY, None], {"detector": "none"}, TypeError, "image_1: An image is .*; not NoneType"),
        (pillow_image("cut"), {}, ImageError, "image_0: damaged or cut off"),
        (pillow_image("closed"), {}, ImageError, "image_0: .*closed image"),
        (GREY, {"detector": None}, TypeError, "auto, none, movenet, torchvision, or an object .*, not NoneType"),
        (GREY, {"focal_length": np.nan}, ValueError, "positive number of pixels, got nan"),
        (GREY, {"focal_length": np.inf}, ValueError, "positive number of pixels, got inf"),
        (GREY, {"boxes": (1, 2, 30, 40)}, ValueError, f"image_0: .*{ROWS}\\(1, 2, 30, 40\\)"),
        (GREY, {"boxes": [[(1, 2, 30, 40)]]}, ValueError, ROWS),
        (GREY, {"boxes": [(1, 2, 30, 40, 0.9)]}, ValueError, ROWS),
        (GREY, {"boxes": [(1, 2, 30, 40), (1, 2, 30)]}, ValueError, ROWS),
        (GREY, {"boxes": [("1", "2", "30", "40")]}, ValueError, ROWS),
        (GREY, {"boxes": [(np.nan, 2, 30, 40)]}, ValueError, "image_0: box 0: .* not finite"),
        ([GREY, GREY], {"boxes": BOXES}, ValueError, f"image_0: .*{ROWS}"),
        ([GREY, GREY], {"boxes": [BOXES, None]}, ValueError, f"image_1: .*{ROWS}None"),
        ([GREY], {"boxes": 5}, TypeError, "not int"),
        (GREY, {"detector": "yolo"}, ValueError, "Unknown detector 'yolo'"),
        (GREY, {"focal_length": 1.0}, ValueError, "no lens"),
    ],
)
def test_what_cannot_be_used_is_named(images, settings, error, said, predictor):
    with pytest.raises(error, match=said):
        predictor(images, **settings)


def test_torch_hub_loads_from_any_folder(root, weights, photo, people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"checkpoint": weights, "body": "open", "device": "cpu", "network": DaNetConfig(**TINY)}
    loaded = torch.hub.load(str(root), "danet", source="local", **settings)
    assert np.allclose(loaded(photo, boxes=BOXES)[1].vertices, people[1].vertices, atol=1e-6)
    other = ModuleType("datasets")
    other.__path__ = [str(tmp_path / "datasets")]
    monkeypatch.setitem(sys.modules, "datasets", other)
    with pytest.raises(ImportError, match="A package 'datasets' from .* is loaded already"):
        torch.hub.load(str(root), "danet_s", source="local")
