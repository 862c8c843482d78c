"""The page about a run's people: complete, closed in itself, and working in a browser where there is one."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import weakref
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from PIL import Image
from test_report import Page

from models.inference import gallery
from models.inference.gallery import BACKGROUND, UNIT, read_image, read_person, write_gallery
from models.inference.run_record import Outcome, RunRecord, with_earlier
from utils.io import save_npz_atomic

NASTY = "&'é #%(1)"  # of a file; others may hold more
NASTY_IMAGE = '</script><b onload="x()">.jpg'
MAGENTA = (255, 0, 255)
CAM_T = (0.1, -0.05, 40.0)


def solid():
    """Vertices and outward faces of a bent ellipsoid that looks different from each side."""
    rings, around = 14, 20
    polar, angle = np.meshgrid(np.linspace(0.05, np.pi - 0.05, rings), np.arange(around) * 2 * np.pi / around)
    x, z = 0.25 * np.sin(polar) * np.cos(angle), 0.5 * np.sin(polar) * np.sin(angle)
    y = -0.8 * np.cos(polar)
    vertices = np.stack([x + 0.3 * y**2, y, z - 0.2 * y], axis=-1).transpose(1, 0, 2).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij")
    a, b = i * around + j, i * around + (j + 1) % around
    quads = np.stack([a, a + around, b + around, b], axis=-1).reshape(-1, 4)
    caps = np.array([[0, k, k + 1] for k in range(1, around - 1)])
    last = (rings - 1) * around
    faces = np.concatenate([quads[:, [0, 2, 1]], quads[:, [0, 3, 2]], caps, last + caps[:, ::-1]])
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    volume = np.einsum("ij,ij->", normal, corners[:, 0])
    return vertices.astype(np.float32), (faces if volume > 0 else faces[:, ::-1]).astype(np.int64)


VERTICES, FACES = solid()


def write_person(folder, stem, picture, person=0, confidence=0.5, **others):
    arrays = {
        "vertices": VERTICES, "cam": np.float32([1, 0.1, -0.05]), "cam_t": np.float32(CAM_T),
        "betas": np.linspace(-2, 4, 10).astype(np.float32), "box": [10.0, 20.0, 30.0, 45.0], "score": np.nan,
        "confidence": confidence,
        "image_size": [640, 480], "picture": picture, "person": person, **others,
    }  # fmt: skip
    save_npz_atomic(folder / f"{stem}.npz", **{k: v for k, v in arrays.items() if v is not None})
    panel = np.full((224, 1456, 4), 128, np.uint8)
    panel[:, :224] = (*MAGENTA[::-1], 255)
    panel[:, -224:] = 0
    panel[:, 224:-224, 3] = 255
    (folder / f"{stem}_result.png").write_bytes(cv2.imencode(".png", panel)[1].tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_person(folder, "beach_0", "beach.jpg", 0, 0.9, people_picture="beach_people.jpg")
    write_person(folder, "beach_1", "beach.jpg", 1, 0.3, people_picture="beach_people.jpg")
    write_person(folder, "street", "street.jpg", 0, 0.6)
    write_person(folder, NASTY, NASTY_IMAGE, 0, 0.7)
    full = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    full = cv2.resize(full, (1600, 1200), interpolation=cv2.INTER_NEAREST)
    (folder / "beach_people.jpg").write_bytes(cv2.imencode(".jpg", full)[1].tobytes())
    (folder / "street.glb").write_bytes(b"glTF")
    (folder / "street.amass.npz").write_bytes(b"PK")
    write_person(folder, "no_numbers", "n.jpg", vertices=np.full_like(VERTICES, np.nan))
    write_person(folder, "no_camera", "c.jpg", cam_t=None)
    write_person(folder, "no_image", "p.jpg")
    (folder / "no_image_result.png").write_bytes(b"\x89PNG nothing")
    (folder / "cut_short.npz").write_bytes((folder / "street.npz").read_bytes()[:500])
    write_gallery(folder / "index.html", folder, record(), FACES)
    return folder


GOOD = ("beach_0", "beach_1", "street", NASTY)
BAD = ("no_numbers", "no_camera", "no_image", "cut_short", "gone")


def record(people=GOOD + BAD):
    outcomes = [Outcome(f"{stem}.jpg", stem) for stem in people]
    outcomes.append(Outcome("<img src=x onerror=alert(1)>.jpg", reason='no person was "found" in it'))
    return RunRecord(tuple(outcomes), {"network": 1.2, "whole run": 2.0}, {"body_model": "open <1>"})


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def cards(page):
    return [a for a, _ in page.all("a", **{"class": "card"})]


def test_page_lists_people_in_order_with_links_to_files_that_are_there(page, folder):
    people = cards(page)[:4]
    assert [(a["data-stem"], a["data-name"]) for a in people] == [
        ("beach_0", "beach_0 beach.jpg"), ("beach_1", "beach_1 beach.jpg"), ("street", "street street.jpg"),
        (NASTY, f"{NASTY} {NASTY_IMAGE}"),
    ]  # fmt: skip
    assert [float(a["data-confidence"]) for a in people] == [0.9, 0.3, 0.6, 0.7]
    assert [unquote(a["href"][1:]) for a in cards(page)] == [
        *GOOD,
        "beach_0",
    ]  # the last one is the full image
    hrefs = [a["href"] for a, _ in page.all("a")]
    files = [unquote(h.removeprefix("./")) for h in hrefs if h.startswith("./")]
    assert len(files) == 2 * 4 + 2 and all((folder / name).is_file() for name in files)
    assert {"street.glb", "street.amass.npz", f"{NASTY}.npz"} <= set(files)
    assert [t for _, t in page.all("dd")][-3:] == ["open <1>", "1.2", "2.0"]


def test_what_cannot_be_read_is_skipped_with_its_reason(page):
    cells = [t for _, t in page.all("td")]
    assert cells[:2] == ["<img src=x onerror=alert(1)>.jpg", 'no person was "found" in it']
    reasons = dict(zip(cells[2::2], cells[3::2], strict=True))
    assert tuple(reasons) == BAD
    assert "'vertices'" in reasons["no_numbers"] and "not finite" in reasons["no_numbers"]
    assert "'cam_t'" in reasons["no_camera"] and "not a readable image" in reasons["no_image"]
    assert "not a readable .npz" in reasons["cut_short"] and "does not exist" in reasons["gone"]


def test_damaged_files_are_refused_in_a_sentence(tmp_path):
    write_person(tmp_path, "text", "t.jpg", box=np.array(["a"] * 4))
    with pytest.raises(ValueError, match="'box' of .* should be numbers"):
        read_person(tmp_path, "text", len(VERTICES))
    for side in (10_000, 20_000):
        Image.new("1", (side, side)).save(tmp_path / "large.png")
        with pytest.raises(ValueError, match="large.png is not a readable image"):
            read_image(tmp_path / "large.png")
    (tmp_path / "run.json").write_text(
        '{"people": [{"stem": "a", "picture": "b", "bystanders_left_out": 1e999}]}'
    )
    assert with_earlier([], tmp_path, [], []) == ()


def test_page_is_escaped_and_asks_nothing_of_the_network(page, text):
    page.assert_offline()
    assert "<img src=x" not in text and "<b onload" not in text
    (nonce,) = {a["nonce"] for a, _ in page.all("script") if "type" not in a}
    assert f"script-src 'nonce-{nonce}'" in text
    ours = text[text.rindex("<script") :]
    assert not re.search(r"https?:|fetch|XMLHttp|WebSocket|import\(|eval|innerHTML|<!--", ours)


def test_bodies_and_images_come_back(page):
    def numbers(data, kind):
        return np.frombuffer(base64.b64decode(data), kind).reshape(-1, 3)

    for person in cards(page)[:4]:
        assert np.abs(numbers(person["data-vertices"], "<i2") * UNIT - VERTICES).max() < 0.51 * UNIT
        assert json.loads(person["data-camera"]) == pytest.approx(CAM_T)
    (faces,) = [t for a, t in page.all("script") if a.get("id") == "faces"]
    assert np.array_equal(numbers(faces, "<u2"), FACES)
    shown = [
        cv2.imdecode(np.frombuffer(base64.b64decode(a["src"].split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        for a, _ in page.all("img") if "src" in a
    ]  # fmt: skip
    assert [image.shape for image in shown] == [(224, 1456, 3)] * 4 + [(1125, 1500, 3)]
    panel = shown[0][..., ::-1].astype(int)
    for columns, color in (
        (slice(0, 220), MAGENTA),
        (slice(300, 900), 128),
        (slice(1240, 1456), BACKGROUND[:3]),
    ):
        assert np.abs(panel[:, columns] - color).max() < 6


def test_one_person_is_in_memory_at_a_time(folder, tmp_path, monkeypatch):
    class Person(dict):  # a dict has no weak references
        pass

    people = []

    def counting(*args, **kwargs):
        assert sum(person() is not None for person in people) <= 1
        person = Person(read_person(*args, **kwargs))
        people.append(weakref.ref(person))
        return person

    monkeypatch.setattr(gallery, "read_person", counting)
    write_gallery(tmp_path / "page.html", folder, record(GOOD * 3), FACES)
    assert len(people) == 12


def test_a_run_without_people_has_a_page_too(tmp_path):
    write_gallery(tmp_path / "index.html", tmp_path, RunRecord((), {}, {}), FACES)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert not cards(page) and "Nothing was skipped." in [t for _, t in page.all("p")]
    (tmp_path / "index.html").write_text("another program's page")
    with pytest.raises(FileExistsError, match="none of our results"):
        write_gallery(tmp_path / "index.html", tmp_path, RunRecord((), {}, {}), FACES)


# ---------------------------------------------------------------------------------------------------- in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WITH_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def browse(tmp_path, address, *flags):
    """What Chromium prints about a page."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    quiet = (
        "--headless", "--no-sandbox", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-device-scale-factor=1",
        "--virtual-time-budget=3000", f"--user-data-dir={tmp_path / 'profile'}",
    )  # fmt: skip
    run = subprocess.run([CHROMIUM, *quiet, *flags, address], capture_output=True, timeout=100, check=True)
    return run.stdout.decode("utf-8")


def test_filters_and_policy_hold_in_a_browser(text, tmp_path):
    path = tmp_path / "index.html"
    foreign = "<script>document.title = 'foreign'</script></body>"
    path.write_text(text.replace("</body>", foreign), encoding="utf-8")
    address = f"{path.as_uri()}?find=BEACH&confidence=0.5&show=iuv#beach_1"
    shown = Page(browse(tmp_path, address, "--dump-dom", *WITH_GL))
    assert shown.all("title")[0][1] == "People"  # the policy forbids the foreign script
    people = {a["data-stem"]: "hidden" not in a for a in cards(shown)[:4]}
    assert people == {"beach_0": True, "beach_1": False, "street": False, NASTY: False}
    assert [t for a, t in shown.all("output") if a.get("name") == "count"] == ["1 of 4 people"]
    assert shown.all("div", **{"data-look": "iuv"})
    assert "open" in shown.all("dialog")[0][0] and "beach_1" in shown.all("dialog")[0][1]


def test_body_lies_where_its_camera_puts_it(folder, tmp_path):
    address = f"{(folder / 'index.html').as_uri()}#street"
    browse(tmp_path, address, *WITH_GL, "--window-size=1280,1100", f"--screenshot={tmp_path / 'shot.png'}")
    red, green, blue = cv2.imread(str(tmp_path / "shot.png"))[..., ::-1].astype(int).transpose(2, 0, 1)
    backdrop = (np.minimum(red, blue) - green > 20).astype(np.uint8)
    boxes = cv2.connectedComponentsWithStats(backdrop)[2][1:].tolist()
    x, y, width, height, _ = max(boxes, key=lambda box: box[4])
    assert width > 400 and abs(width - height) < 8
    window = np.s_[y : y + height, x : x + width]
    body = backdrop[window] == 0
    assert (blue[window][body] > red[window][body]).mean() > 0.95  # the light blue of bodies
    points = VERTICES + CAM_T
    pixels = (112 + 5000 * points[:, :2] / points[:, 2:]) * (width / 224)
    expected = np.zeros(body.shape, np.uint8)
    for face in pixels[FACES].round().astype(np.int32):
        cv2.fillConvexPoly(expected, face, 1)
    both, either = np.logical_and(body, expected).sum(), np.logical_or(body, expected).sum()
    assert expected.mean() > 0.05 and both / either > 0.94
