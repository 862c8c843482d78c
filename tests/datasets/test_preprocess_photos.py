"""Labels of photographs by BlazePose: regions, detections, heat maps, and the program, with networks that are fakes."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from labelled import waves, write_image

from datasets.labels.photos import PHOTO_LABELS, read_photo_labels
from datasets.preprocess import blazepose, photos
from datasets.preprocess.blazepose import BlazePose, LabelledPerson, Landmarks, Region
from utils.io import DataFileError

UPRIGHT = Region(np.array([100.0, 80.0]), 120.0, 0.0)


def logit(value):
    return np.log(value / (1 - value))


# ------------------------------------------------------------------------------------------------------ geometry


@pytest.mark.parametrize("angle", [0, 0.5, -2.8])
def test_a_region_stands_upright_on_its_person(angle):
    """Hips in the middle, the point above them two fifths of the side higher, whichever way the person leans."""
    hips = np.array([210.0, 140.0])
    region = Region.about(hips, hips + 50 * np.array([np.sin(angle), -np.cos(angle)]))
    assert region.side == pytest.approx(125) and region.angle == pytest.approx(angle)
    found = region.to_image(np.array([[0.5, 0.5], [0.5, 0.1]]))
    np.testing.assert_allclose(found, [hips, hips + 50 * np.array([np.sin(angle), -np.cos(angle)])], atol=1e-9)


@pytest.mark.parametrize("times", [1, 6])
def test_crops_and_masks_are_where_the_region_is(times):
    """A dot of the photograph lands on its place of the crop, and back; large regions are shrunk first."""
    spot = np.array([140.0, 90.0]) * times
    y, x = np.mgrid[: 240 * times, : 320 * times] + 0.5
    blob = 250 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * (4 * times) ** 2))
    region = Region(np.array([150.0, 110.0]) * times, 130.0 * times, 0.6)
    crop = blazepose.cut_out(np.repeat(blob[..., None], 3, 2).astype(np.uint8), region)[..., 0].astype(float)
    rows, columns = np.mgrid[:256, :256] + 0.5
    seen = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    np.testing.assert_allclose(region.to_image(seen[None] / 256)[0], spot, atol=0.3 * times)
    marks = Landmarks(np.zeros((39, 2)), np.zeros(39), np.zeros((39, 3)), 1.0, (crop > 100).astype(float), region)
    mask = blazepose.mask_in_image(marks, blob.shape)
    centroid = np.array([columns.mean() for columns in np.nonzero(mask)])[::-1] + 0.5
    np.testing.assert_allclose(centroid, spot, atol=0.5 * times)


def test_heat_moves_a_point_to_its_mean():
    y, x = np.mgrid[:64, :64]
    heat = np.zeros((64, 64, 39))
    heat[..., 0] = 0.9 * np.exp(-((x - 20) ** 2 + (y - 31) ** 2) / 2)
    heat[..., 1] = heat[..., 0] / 2  # not sure enough
    points = np.full((39, 2), 0.5)
    points[:2] = [21.5 / 64, 30.5 / 64]
    points[2] = [1.7, -3]  # outside
    refined = blazepose.refine(points, heat)
    np.testing.assert_allclose(refined[0], [20 / 64, 31 / 64], atol=2e-3)
    assert np.array_equal(refined[1:], points[1:])


# ----------------------------------------------------------------------------------------------------- networks


def detector_of(*people):
    """A detector that finds people (score, box middle, box size, hips, top) in pixels of its own input."""
    raw, scores = np.zeros((1, 2254, 12)), np.full((1, 2254, 1), -30.0)
    for number, (score, middle, size, hips, top) in enumerate(people):
        anchor = 700 * number + 5
        shift = blazepose.anchors()[anchor] * 224
        raw[0, anchor] = np.concatenate([middle - shift, size, hips - shift, top - shift, np.zeros(4)])
        scores[0, anchor] = logit(score)
    return lambda image: [raw, scores] if image.shape == (1, 224, 224, 3) else pytest.fail("another size")


def person(score, x, y, size):
    middle = np.array([x, y], float)
    return score, middle, np.full(2, float(size)), middle, middle - [0, size]


def test_detections_come_back_in_pixels_of_the_photograph():
    """A portrait of 448 px is halved and stands in the middle of the input; one person's detections are averaged."""
    assert blazepose.anchors().shape == (2254, 2) and np.allclose(blazepose.anchors()[0], 0.5 / 28)
    image = np.zeros((448, 224, 3), np.uint8)
    found = blazepose.detections(detector_of(person(0.9, 112, 112, 40), person(0.4, 100, 100, 40)), image)
    np.testing.assert_allclose(found, [[0.9, 72, 184, 152, 264, 112, 224, 112, 144]], rtol=1e-5)
    twice = detector_of(person(0.9, 112, 112, 40), person(0.6, 114, 112, 40), person(0.95, 70, 60, 20))
    score, hips, top = blazepose.main_person(blazepose.detections(twice, image))
    assert score == pytest.approx(0.9) and hips[0] == pytest.approx((0.9 * 112 + 0.6 * 116) / 1.5)
    assert hips[1] - top[1] == pytest.approx(80)
    assert blazepose.main_person(np.zeros((0, 9))) is None


def landmark_network(points, flag=0.99):
    """Answers with these points (0..1 of the crop), a mask of the left half, and counts its crops."""
    crops = []

    def network(crop):
        crops.append(crop)
        rows = np.zeros((39, 5))
        rows[:, :2], rows[:, 3] = points * 256, logit(0.9)
        mask = np.full((1, 256, 256, 1), -9.0)
        mask[:, :, :128] = 9
        world = np.zeros((39, 3))
        world[11] = [0, -0.5, 0.1]
        return [rows.reshape(1, -1), np.array([[flag]]), mask, np.full((1, 64, 64, 39), -9.0), world.reshape(1, -1)]

    return network, crops


def test_the_second_look_is_about_the_points_of_the_first():
    points = np.full((39, 2), 0.5)
    points[33], points[34] = [0.5, 0.6], [0.9, 0.6]  # hips, and a body that lies to the right
    network, crops = landmark_network(points)
    found = BlazePose(detector_of(person(0.9, 112, 112, 40)), network)(np.full((224, 224, 3), 255, np.uint8))
    assert len(crops) == 2 and crops[0].max() == pytest.approx(1)
    region = found.landmarks.region  # first: side 100 about (112, 112); then about (112, 122), side 2.5 x 40
    np.testing.assert_allclose(region.center, [112, 122])
    assert region.side == pytest.approx(100) and region.angle == pytest.approx(np.pi / 2)
    np.testing.assert_allclose(found.landmarks.world[11], [0.5, 0, 0.1], atol=1e-9)  # up is to the right
    x, y, width, height = found.mask_box  # the region's left half is above, now
    assert (x, width, height) == (62, 100, 50) and y == 72
    assert found.landmarks.visibility == pytest.approx(np.full(39, 0.9))
    assert BlazePose(detector_of(), network)(np.zeros((50, 60, 3), np.uint8)) is None


# ------------------------------------------------------------------------------------------------------ weights


def archive(path, **files):
    with tarfile.open(path, "w:gz") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name.replace('__', '.')}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def test_weights_are_read_from_the_package(tmp_path):
    one, two = b"\x1c\0\0\0TFL3one", b"\x1c\0\0\0TFL3two"
    both = {"pose_solution_packed_assets__data": one, "pose_landmark_heavy__tflite": two}
    assert blazepose.read_weights(archive(tmp_path / "a.tgz", **both)) == (one, two)
    (tmp_path / "pose_detection.tflite").write_bytes(one)
    (tmp_path / "pose_landmark_heavy.tflite").write_bytes(two)
    assert blazepose.read_weights(tmp_path) == (one, two)
    for path, said in (
        (archive(tmp_path / "b.tgz", pose_landmark_heavy__tflite=two), "holds no pose_solution_packed_assets.data"),
        (archive(tmp_path / "c.tgz", **both | {"pose_landmark_heavy__tflite": b"other"}), "no pose_landmark_heavy"),
        (tmp_path / "pose_detection.tflite", "cannot be read"),
        (tmp_path / "none.tgz", "cannot be read: .*npm pack @mediapipe/pose"),
    ):
        with pytest.raises(DataFileError, match=said):
            blazepose.read_weights(path)


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.packages.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="Labelling photographs needs .* pip install -r requirements-photos.txt"):
        blazepose.load_blazepose(tmp_path)


def test_a_damaged_network_is_a_sentence(tmp_path):
    pytest.importorskip("ai_edge_litert")
    files = ("pose_solution_packed_assets__data", "pose_landmark_heavy__tflite")
    path = archive(tmp_path / "a.tgz", **dict.fromkeys(files, b"\x1c\0\0\0TFL3" + bytes(100)))
    with pytest.raises(DataFileError, match="cannot be loaded by LiteRT"):
        blazepose.load_blazepose(path)


# ------------------------------------------------------------------------------------------------------ program


def labelled_person(score=0.9, flag=0.9, visible=33, mask=True):
    visibility = np.where(np.arange(39) < visible, 0.9, 0.1)
    marks = Landmarks(np.full((39, 2), 7.0), visibility, np.zeros((39, 3)), flag, np.zeros((256, 256)), UPRIGHT)
    return LabelledPerson(score, marks, np.pad(np.full((10, 20), mask), 15))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, None),
        ({"score": 0.59}, photos.NO_PERSON),
        ({"flag": 0.79}, "unsure"),
        ({"visible": 20}, None),
        ({"visible": 19}, "few points"),
        ({"mask": False}, "no mask"),
    ],
)
def test_who_is_taken(given, reason):
    assert photos.refusal(labelled_person(**given)) == reason


class Labeller:
    """Answers in turn, and raises what is an exception; stands for the loaded networks, too."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), 0

    def __call__(self, image):
        self.calls += 1
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def run(source, labeller, *more):
    return photos.main(["--source", str(source), "--weights", "w.tgz", *more], lambda path: labeller)


@pytest.fixture
def source(tmp_path):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        write_image(tmp_path / "train" / name, waves(40, 50))
    return tmp_path


def test_labels_masks_and_counts(source, capsys):
    (source / "train/c.png").write_bytes(b"damaged")
    answers = labelled_person(), labelled_person(flag=0.1), labelled_person()
    assert run(source, Labeller(*answers)) == 2
    said = capsys.readouterr().out
    assert "2 of 4 photographs labelled" in said and "left out 1 that cannot be read, first c.png" in said
    assert "left out 1: a flag below 0.8" in said
    labels = read_photo_labels(source / PHOTO_LABELS)
    assert labels.name.tolist() == ["a.png", "d.png"] and labels.size.tolist() == [[50, 40]] * 2
    assert labels.mask_box.tolist() == [[15, 15, 20, 10]] * 2
    assert sorted(path.name for path in (source / "masks").iterdir()) == ["a.png", "d.png"]
    assert not (source / photos.UNFINISHED).exists()
    with pytest.raises(SystemExit):
        run(source, Labeller())
    assert "--overwrite replaces results" in capsys.readouterr().err


def test_an_interrupted_run_goes_on(source, capsys):
    with pytest.raises(KeyboardInterrupt):
        run(source, Labeller(labelled_person(), None, KeyboardInterrupt()))
    assert (source / photos.UNFINISHED).is_file() and not (source / PHOTO_LABELS).exists()
    rest = Labeller(labelled_person(), labelled_person())
    assert run(source, rest) == 0 and rest.calls == 2
    assert "3 of 4 photographs labelled" in capsys.readouterr().out
    assert read_photo_labels(source / PHOTO_LABELS).name.tolist() == ["a.png", "c.png", "d.png"]


def test_what_is_wrong_is_said_before_the_work(source, capsys):
    def said(*more):
        with pytest.raises(SystemExit) as stop:
            run(source, Labeller(), *more)
        assert stop.value.code == 1
        return capsys.readouterr().err

    write_image(source / "masks/b.png", np.zeros((40, 50), np.uint8))
    assert "1 masks are none of this program" in said()
    write_image(source / "train/a.jpg", waves(40, 50))
    assert "several photographs 'a.*'" in said()
    (source / "train").rename(source / "elsewhere")
    assert "put the photographs there" in said()
    (source / "train").mkdir()
    assert "holds no photograph" in said()
