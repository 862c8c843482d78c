"""The page about a run's people: complete, closed in itself, and working in a browser where there is one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import weakref
from html import unescape
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from PIL import Image
from test_report import Page

from utils import people_report
from utils.people_report import BACKGROUND, read_person, read_picture, write_people_report
from utils.people_report_page import SCRIPT, STYLE
from utils.run_record import Outcome, RunRecord, with_earlier
from utils.safe_io import save_npz_atomic

NASTY = "&'é #%(1)"  # of a file; others may hold more
NASTY_PICTURE = '</script><b onload="x()">.jpg'
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
    write_person(folder, NASTY, NASTY_PICTURE, 0, 0.7)
    full = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    full = cv2.resize(full, (1600, 1200), interpolation=cv2.INTER_NEAREST)
    (folder / "beach_people.jpg").write_bytes(cv2.imencode(".jpg", full)[1].tobytes())
    (folder / "street.glb").write_bytes(b"glTF")
    (folder / "street.amass.npz").write_bytes(b"PK")
    write_person(folder, "no_numbers", "n.jpg", vertices=np.full_like(VERTICES, np.nan))
    write_person(folder, "no_camera", "c.jpg", cam_t=None)
    write_person(folder, "no_picture", "p.jpg")
    (folder / "no_picture_result.png").write_bytes(b"\x89PNG nothing")
    (folder / "cut_short.npz").write_bytes((folder / "street.npz").read_bytes()[:500])
    write_people_report(folder / "index.html", folder, record(), FACES)
    return folder


GOOD = ("beach_0", "beach_1", "street", NASTY)
BAD = ("no_numbers", "no_camera", "no_picture", "cut_short", "gone")


def record(people=GOOD + BAD):
    outcomes = [Outcome(f"{stem}.jpg", stem) for stem in people]
    outcomes.append(Outcome("<img src=x onerror=alert(1)>.jpg", reason='nobody was "found" in it'))
    seconds = {"whole run": 2.0, "network": 1.2}
    return RunRecord(tuple(outcomes), seconds, {"body_model": "open <1>", "img_dir": "./pictures"})


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_page_tells_what_the_run_did(page):
    assert page.all("h1")[0][1] == page.all("title")[0][1] == "4 people in 3 pictures"
    assert "6 files or people skipped · 2.00 s, 4.50 people per second" in page.all("header")[0][1]
    assert [a["href"][1:] for a, _ in page.all("a")[:5]] == [a["id"] for a, _ in page.all("section")]
    cells = [t for _, t in page.all("td")]
    assert cells[-6:] == ["network", "1.20 s", "133 ms", "whole run", "2.00 s", "222 ms"]
    assert [t for _, t in page.all("dd")][-2:] == ["open <1>", "./pictures"]


def test_what_cannot_be_read_is_skipped_with_its_reason(page):
    cells = [t for _, t in page.all("td")][:-6]
    assert cells[:2] == ["<img src=x onerror=alert(1)>.jpg", 'nobody was "found" in it']
    reasons = dict(zip(cells[2::2], cells[3::2], strict=True))
    assert tuple(reasons) == BAD
    assert "'vertices'" in reasons["no_numbers"] and "not finite" in reasons["no_numbers"]
    assert "'cam_t'" in reasons["no_camera"] and "not a readable picture" in reasons["no_picture"]
    assert "not a readable .npz" in reasons["cut_short"] and "does not exist" in reasons["gone"]


def test_odd_files_of_others_are_refused_in_words(folder, tmp_path):
    write_person(tmp_path, "text", "t.jpg", box=np.array(["a"] * 4))
    with pytest.raises(ValueError, match="'box' of .* should be numbers"):
        read_person(tmp_path, "text", len(VERTICES))
    for side in (10_000, 20_000):
        Image.new("1", (side, side)).save(tmp_path / "large.png")
        with pytest.raises(ValueError, match="large.png is not a readable picture"):
            read_picture(tmp_path / "large.png")
    (tmp_path / "run.json").write_text('{"people": [{"stem": "a", "picture": "b", "bystanders_left_out": 1e999}]}')
    assert with_earlier([], tmp_path, [], []) == ()


def test_people_stand_in_order_with_links_to_files_that_are_there(page, folder):
    people = [a for a, _ in page.all("li")]
    assert [(a["data-stem"], a["data-picture"]) for a in people][1:] == [
        ("beach_1", "beach.jpg"), ("street", "street.jpg"), (NASTY, NASTY_PICTURE),
    ]  # fmt: skip
    assert [float(a["data-confidence"]) for a in people] == [0.9, 0.3, 0.6, 0.7]
    hrefs = [a["href"] for a, _ in page.all("a")]
    assert [unquote(h[1:]) for h in hrefs if h.startswith("#") and not h.startswith("#all-")] == [
        *GOOD, "beach_0",
    ]  # fmt: skip
    files = [unquote(h.removeprefix("./")) for h in hrefs if h.startswith("./")]
    assert len(files) == 2 * 4 + 2 and all((folder / name).is_file() for name in files)
    assert {"street.glb", "street.amass.npz", f"{NASTY}.npz"} <= set(files)


def test_texts_do_not_become_markup(page, text):
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}
    assert "<img src=x" not in text and "<b onload" not in text
    scripts = [a.get("type") for a, _ in page.all("script")]
    assert scripts == ["application/json"] * 4 + ["text/plain", None]


def test_page_asks_nothing_of_the_network(page, text):
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "action", (tag, name)
            if name == "src":
                assert value.startswith("data:image/")
            if name == "href":
                assert value.startswith(("#", "./"))
    assert not page.all("link") and not page.all("iframe")
    assert not re.search(r"https?:|url\(|@import", re.sub(r"base64,[\w+/=]+", "", text))
    assert (
        not re.search(r"fetch|XMLHttp|WebSocket|import\(|eval|innerHTML|</|<!--", SCRIPT)
        and "</" not in STYLE
    )


def test_only_the_one_script_may_run(page):
    (script,) = [t for a, t in page.all("script") if "type" not in a]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def test_bodies_and_pictures_come_back(page):
    def numbers(data):
        return np.frombuffer(base64.b64decode(data), "<u2").reshape(-1, 3)

    for _, data in page.all("script", type="application/json"):
        body = json.loads(data)
        vertices = numbers(body["vertices"]) * np.array(body["step"]) + body["low"]
        assert np.abs(vertices - VERTICES).max() < 2e-5 and body["cam_t"] == pytest.approx(CAM_T)
    (faces,) = [t for a, t in page.all("script") if a.get("id") == "faces"]
    assert np.array_equal(numbers(faces), FACES)
    shown = [a for a, _ in page.all("img") if "src" in a]
    assert [(a["width"], a["height"]) for a in shown] == [("1456", "224")] * 4 + [("1000", "750")]
    data = np.frombuffer(base64.b64decode(shown[0]["src"].split(",")[1]), np.uint8)
    panel = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    for columns, color in ((slice(0, 220), MAGENTA), (slice(300, 900), 128), (slice(1240, 1456), BACKGROUND)):
        assert np.abs(panel[:, columns] - color).max() < 6


def test_one_person_is_in_memory_at_a_time(folder, tmp_path, monkeypatch):
    read, people = people_report.read_person, []

    def counting(*args, **kwargs):
        assert sum(person() is not None for person in people) <= 1
        person = read(*args, **kwargs)
        people.append(weakref.ref(person))
        return person

    monkeypatch.setattr(people_report, "read_person", counting)
    write_people_report(tmp_path / "page.html", folder, record(GOOD * 3), FACES)
    assert len(people) == 12


def test_a_run_without_people_has_a_page_too(tmp_path):
    write_people_report(tmp_path / "index.html", tmp_path, RunRecord((), {}, {}), FACES)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert page.all("h1")[0][1] == "0 people in 0 pictures" and not page.all("form")
    assert [t for _, t in page.all("p")][:1] == ["0 files or people skipped"]


def test_page_is_written_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    path = tmp_path / "index.html"
    path.write_text("before danet-page-1")

    def fail(self, *args):
        raise OSError("disk full")

    monkeypatch.setattr("utils.safe_write.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_people_report(path, folder, record(), FACES)
    assert path.read_text() == "before danet-page-1" and list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------------------------------------------- in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WITH_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WITHOUT_GL = ("--disable-gpu", "--disable-3d-apis")


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
    path.write_text(
        text.replace("</body>", "<script>document.title = 'foreign'</script></body>"), encoding="utf-8"
    )
    address = f"{path.as_uri()}?find=BEACH&confidence=0.5&several=1&show=iuv#beach_1"
    shown = Page(browse(tmp_path, address, "--dump-dom"))
    assert shown.all("title")[0][1] == "4 people in 3 pictures"  # the policy forbids the foreign script
    people = {a["data-stem"]: "hidden" not in a for a, _ in shown.all("li")}
    assert people == {"beach_0": True, "beach_1": False, "street": False, NASTY: False}
    assert [t for a, t in shown.all("output") if a.get("id") == "count"] == ["1 of 4 people"]
    assert ["hidden" in a for a, _ in shown.all("p", id="nobody")] == [True]
    assert shown.all("ul", id="people")[0][0]["data-look"] == "iuv"
    assert "open" in shown.all("dialog")[0][0] and shown.all("h2", id="person-name")[0][1] == "beach_1"


STEPS = """
const log = [], wait = () => new Promise((done) => setTimeout(done, 60));
const order = () => [...list.children].filter((item) => !item.hidden).map((i) => i.dataset.stem);
const type = (name, value) => {
  form[name].value = value;
  form[name].dispatchEvent(new Event("input", {bubbles: true}));
};
const key = (name, shiftKey = false) =>
  canvas.dispatchEvent(new KeyboardEvent("keydown", {key: name, shiftKey, bubbles: true, cancelable: true}));
const pointer = (kind, id, x, y) => {
  const event = new PointerEvent(kind, {pointerId: id, bubbles: true});
  Object.defineProperties(event, {offsetX: {value: x}, offsetY: {value: y}});
  canvas.dispatchEvent(event);
};
canvas.setPointerCapture = () => {};
(async () => {
  type("find", "É "); log.push(order());
  type("find", "nobody at all"); log.push([...order(), byId("nobody").hidden, byId("count").textContent]);
  byId("clear").click(); await wait(); log.push(order());
  type("sort", "best"); log.push(order());
  everyone[0].link.click(); await wait(); log.push([byId("person-name").textContent, byId("position").textContent]);
  key("ArrowRight"); await wait(); log.push([byId("person-name").textContent, byId("position").textContent]);
  key("ArrowLeft"); await wait(); log.push([byId("person-name").textContent, byId("previous").disabled]);
  key("ArrowRight", true); log.push(view.yaw > 0);
  const yaw = view.yaw; pointer("pointerdown", 1, 100, 100); pointer("pointermove", 1, 60, 130);
  log.push([view.yaw < yaw, view.pitch > 0]);
  pointer("pointerdown", 2, 160, 130); pointer("pointermove", 2, 260, 130); log.push(Math.round(10 * view.zoom));
  pointer("pointerup", 1, 0, 0); pointer("pointerup", 2, 0, 0);
  canvas.dispatchEvent(new MouseEvent("dblclick")); log.push([view.yaw, view.pitch, view.zoom, ...view.shift]);
  canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -100, cancelable: true})); log.push(view.zoom > 1.1);
  byId("with-picture").click(); log.push(byId("backdrop").style.opacity);
  byId("close").click(); await new Promise((done) => dialog.addEventListener("close", done));
  log.push([dialog.open, location.hash]);
  document.title = JSON.stringify(log);
})();
"""


def test_keys_and_pointers_do_what_they_should(text, tmp_path):
    path = tmp_path / "index.html"
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    path.write_text(free.replace("</body>", f"<script>{STEPS}</script></body>"), encoding="utf-8")
    found = browse(tmp_path, path.as_uri(), "--dump-dom", *WITH_GL)
    log = json.loads(unescape(re.search("<title>(.*?)</title>", found).group(1)))
    assert log == [
        [NASTY], [False, "0 of 4 people"], list(GOOD), ["beach_0", NASTY, "street", "beach_1"],
        ["beach_0", "1 of 4"], [NASTY, "2 of 4"], ["beach_0", True],
        True, [True, True], 20, [0, 0, 1, 0, 0], True, "0", [False, ""],
    ]  # fmt: skip


@pytest.mark.parametrize("flags, turn", [(WITH_GL, (0, 0)), (WITH_GL, (70, -20)), (WITHOUT_GL, (70, -20))])
def test_body_lies_where_its_camera_puts_it(folder, tmp_path, flags, turn):
    address = f"{(folder / 'index.html').as_uri()}#street&turn={turn[0]},{turn[1]}"
    browse(tmp_path, address, *flags, "--window-size=1280,1100", f"--screenshot={tmp_path / 'shot.png'}")
    red, green, blue = cv2.imread(str(tmp_path / "shot.png"))[..., ::-1].astype(int).transpose(2, 0, 1)
    backdrop = (np.minimum(red, blue) - green > 20).astype(np.uint8)
    x, y, width, height, _ = max(
        cv2.connectedComponentsWithStats(backdrop)[2][1:].tolist(), key=lambda s: s[4]
    )
    assert width > 400 and abs(width - height) < 8
    window = np.s_[y : y + height, x : x + width]
    body = backdrop[window] == 0
    assert (blue[window][body] > red[window][body]).mean() > 0.95  # the light blue of bodies

    yaw, pitch = np.radians(turn)
    middle = (VERTICES.min(axis=0) + VERTICES.max(axis=0)) / 2
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    points = (VERTICES - middle) @ (about_x @ about_y).T + middle + CAM_T
    pixels = (112 + 5000 * points[:, :2] / points[:, 2:]) * (width / 224)
    expected = np.zeros(body.shape, np.uint8)
    for face in pixels[FACES].round().astype(np.int32):
        cv2.fillConvexPoly(expected, face, 1)
    both, either = np.logical_and(body, expected).sum(), np.logical_or(body, expected).sum()
    assert expected.mean() > 0.05 and both / either > 0.94
