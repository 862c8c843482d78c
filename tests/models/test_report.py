"""HTML pages: well-formed, escaped, closed in themselves, whole on disk; charts that say the same as their values."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from models.evaluation.report import TEMPLATE, Gallery, Table, require_free_results
from utils import report

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are nested, and collects elements with their attributes and their text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[int] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, [self.elements[i] for i in self.open]

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"an attribute of {tag} stands twice"
        self.elements.append((tag, dict(attributes)))
        self.texts.append("")
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.open and self.elements[self.open[-1]][0] == tag, f"</{tag}> closes nothing"
        self.open.pop()

    def handle_data(self, data):
        for i in self.open:
            self.texts[i] += data

    def all(self, tag, **wanted):
        """(attributes, text) of the elements of a tag whose attributes have these values or classes."""
        return [
            (attributes, text)
            for (found, attributes), text in zip(self.elements, self.texts, strict=True)
            if found == tag and all(v in (attributes.get(k) or "").split() for k, v in wanted.items())
        ]

    def assert_offline(self):
        """Nothing is fetched: no address but those of the page, of files beside it, and of data in it."""
        assert not self.all("link") and not self.all("iframe")
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                assert not name.startswith("on") and name != "action", (tag, name)
                assert name != "src" or value.startswith("data:image/"), (tag, value)
                assert name != "href" or value.startswith(("#", "./")), (tag, value)
        policy = next(a["content"] for a, _ in self.all("meta") if "http-equiv" in a)
        assert re.fullmatch(
            r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'nonce-[\w-]{20,}'",
            policy,
        )


def image(seed=0, size=(20, 30)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


VALUES = {
    "title": "3DPW & friends <danet>", "subtitle": "bell \x07, half a character \udc80",
    "tables": [Table("Unreadable", ("name", "reason"), (("a<b>.jpg", "<script>alert(1)</script>"),))],
    "charts": [
        report.bar_chart("MPJPE", ("left <hip>", "$neck$"), (10.0, np.nan), "mm"), report.histogram("no", [np.nan]),
    ],
    "galleries": [Gallery("Best", (("<best>", image()),)), Gallery("none", ())],
    "about": [('quote "', "中文 \t x")],
}  # fmt: skip


def test_page_is_escaped_and_asks_nothing_of_the_network(tmp_path):
    report.write_page(tmp_path / "deep" / "r.html", TEMPLATE, **VALUES)
    text = (tmp_path / "deep" / "r.html").read_text(encoding="utf-8")
    page = Page(text)
    page.assert_offline()
    assert (
        text.startswith("<!DOCTYPE html>")
        and not page.all("script")
        and "//" not in re.sub(r'"data:.*?"', "", text)
    )
    assert page.all("h1")[0][1] == page.all("title")[0][1] == VALUES["title"]
    assert page.all("p")[0][1] == "bell \ufffd, half a character \ufffd"
    assert [t for _, t in page.all("td")] == ["a<b>.jpg", "<script>alert(1)</script>"]
    assert (page.all("dt")[0][1], page.all("dd")[0][1]) == VALUES["about"][0]
    assert [a["alt"] for a, _ in page.all("img")] == ["2 values in mm", "<best>"]
    assert [t for _, t in page.all("figcaption")] == [
        "2 values in mm",
        "0 samples, 1 without a value left out",
        "<best>",
    ]


def test_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    report.write_page(path, TEMPLATE, **VALUES)
    before = path.read_bytes()

    def fail(self, *args):
        raise OSError("disk full")

    monkeypatch.setattr("utils.io.writers.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_page(path, TEMPLATE, **VALUES)
    with pytest.raises(Exception, match="undefined"):
        report.write_page(path, TEMPLATE, title="a value of the template is missing")
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_photographs_become_jpeg_and_drawings_exact_png(root):
    assert report.image_uri(cv2.imread(str(root / "examples" / "astronaut.jpg"))).startswith(
        "data:image/jpeg"
    )
    drawing = np.zeros((224, 224, 3), np.uint8)
    drawing[50:90, 20:200] = (250, 10, 30)
    uri = report.image_uri(drawing)
    assert uri.startswith("data:image/png")
    back = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(back[..., ::-1], drawing)


def svg_of(chart):
    return ElementTree.fromstring(base64.b64decode(chart.uri.removeprefix("data:image/svg+xml;base64,")))


@pytest.mark.parametrize(
    "values",
    [
        np.arange(100.0), np.full(50, 3.0), np.zeros(7), [2.5], [-3.0, 4.0], 1e6 + np.arange(1000.0), [1e16, 1e16],
        np.r_[np.ones(500), 1e5], [1e-300, np.inf],
    ],
)  # fmt: skip
def test_histograms_of_unusual_values_are_drawn(values):
    chart = report.histogram("t", np.asarray(values, float), "mm")
    assert (
        svg_of(chart).tag.endswith("svg")
        and f"greatest {np.max(np.ma.masked_invalid(values)):.4g} mm" in chart.caption
    )


def test_missing_matplotlib_is_said_before_an_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.packages.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs matplotlib: pip install -r requirements-report.txt"):
        require_free_results(tmp_path, None, overwrite=False)
