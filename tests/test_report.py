"""The HTML report: well-formed, complete, closed in itself, whole on disk."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from utils.report import Bars, Gallery, Histogram, Report, Table, picture_uri, render_report, write_report
from utils.report_charts import bin_values, number, round_step

VOID = {"meta", "img", "link", "br", "hr", "input"}
SHAPES = {"line", "rect"}


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

    def add(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"an attribute of {tag} stands twice"
        self.elements.append((tag, dict(attributes)))
        self.texts.append("")

    def handle_starttag(self, tag, attributes):
        self.add(tag, attributes)
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attributes):
        assert tag in SHAPES, f"<{tag}/> is no void element"
        self.add(tag, attributes)

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


def pictures(count, size=(20, 30)):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def report():
    errors = np.concatenate([np.random.default_rng(1).gamma(6, 9, 300), [np.nan, np.inf, 900.0]])
    return Report(
        title="3DPW & friends <danet>",
        summary="301 of 303 samples scored.\nTwo were unreadable.",
        facts={"set": "3dpw_test.npz", "fingerprint": "ab12" * 40, 'quote "': "<script>alert(1)</script>"},
        tables=(
            Table("Scores", ("score", "value"), (("MPJPE", "65.12 mm"), ("PA-MPJPE", "nan mm"))),
            Table("Unreadable", ("name", "reason"), (("a<b>.jpg", "cut short"),)),
        ),
        histograms=(Histogram("MPJPE of samples", errors, "mm"), Histogram("F1", np.linspace(0.4, 0.9, 40))),
        bars=(Bars("MPJPE of each joint", ("left hip", "right hip", "neck"), (10.0, 40.0, np.nan), "mm"),),
        galleries=(
            Gallery("Best", [(f"sample {i} <best>", p) for i, p in enumerate(pictures(3))]),
            Gallery("Worst", [("w", pictures(1)[0])]),
        ),
    )


@pytest.fixture(scope="module")
def text(report):
    return render_report(report)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_page_is_whole_and_in_order(page, text):
    assert text.startswith("<!DOCTYPE html>") and page.all("html")[0][0]["lang"] == "en"
    assert page.all("meta")[0][0] == {"charset": "utf-8"}
    assert [title for _, title in page.all("h1")] == ["3DPW & friends <danet>"]
    assert [title for _, title in page.all("h2")] == [
        "Results", "Errors in detail", "Samples", "How these numbers came about",
    ]  # fmt: skip
    anchors = [attributes["href"] for attributes, _ in page.all("a")]
    assert anchors == [f"#{attributes['id']}" for attributes, _ in page.all("section")]


def test_page_asks_nothing_of_the_network_and_runs_nothing(page, text):
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert "url(" not in text and "@import" not in text
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert "//" not in (value or "") or value.startswith("data:image/"), (tag, name)
            assert not name.startswith("on")
    policy = next(a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_text_is_escaped_and_comes_back(page, text):
    assert "<script>" not in text and "a&lt;b&gt;.jpg" in text
    assert [t for _, t in page.all("dd")][2] == "<script>alert(1)</script>"
    assert [t for _, t in page.all("dt")] == ["set", "fingerprint", 'quote "']
    assert [a["alt"] for a, _ in page.all("img")][:1] == ["sample 0 <best>"]
    assert [t for _, t in page.all("figcaption")] == [
        "sample 0 <best>", "sample 1 <best>", "sample 2 <best>", "w",
    ]  # fmt: skip


def test_text_that_is_no_text_is_replaced(tmp_path):
    write_report(tmp_path / "r.html", Report("a\x00b", "c\udc80d", {"é": "中文 \t x"}))
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.all("h1")[0][1] == "a\ufffdb" and page.all("header")[0][1].count("\ufffd") == 2
    assert page.all("dd")[0][1] == "中文 \t x"


def test_tables_hold_their_cells_and_numbers_stand_right(page):
    assert [t for _, t in page.all("td")] == [
        "MPJPE",
        "65.12 mm",
        "PA-MPJPE",
        "nan mm",
        "a<b>.jpg",
        "cut short",
    ]
    assert [t for _, t in page.all("th")] == ["score", "value", "name", "reason"]
    assert [t for _, t in page.all("td", **{"class": "number"})] == ["65.12 mm", "nan mm"]


def test_histogram_counts_add_up(page):
    counts = [int(a["data-count"]) for a, _ in page.all("rect") if "data-count" in a]
    assert sum(counts) == 301 + 40
    captions = [t for _, t in page.all("p", **{"class": "note"})]
    assert "301 samples" in captions[0] and "2 without a value left out" in captions[0]
    assert "to 900 mm" in captions[0] and "pale bar" in captions[0]
    assert "left out" not in captions[1]
    marks = [t for _, t in page.all("text", **{"class": "mark"})]
    assert [m.split()[0] for m in marks] == ["median", "mean"] * 2 and marks[2] == "median 0.65"
    heights = [float(a["height"]) for a, _ in page.all("rect") if "data-count" in a]
    assert max(heights) <= 180 and min(heights) >= 0


def test_bars_are_as_long_as_their_values(page):
    rows = page.all("g")
    assert [t for _, t in rows] == [
        "left hip: 10.0 mmleft hip10.0",
        "right hip: 40.0 mmright hip40.0",
        "neck: – mmneck–",
    ]
    widths = [a["width"] for a, _ in page.all("rect") if "data-count" not in a]
    assert widths == ["25.000%", "100.000%", "0.000%"]


def test_pictures_come_back_as_they_were(page):
    shown = [a["src"] for a, _ in page.all("img")]
    assert len(shown) == 4
    for source, picture in zip(shown, [*pictures(3), pictures(1)[0]], strict=True):
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", source).groups()
        back = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert back.shape == picture.shape and (kind == "jpeg" or np.array_equal(back, picture))


def test_photographs_become_jpeg_and_drawings_exact_png(root):
    photo = cv2.imread(str(root / "examples" / "astronaut.jpg"))[..., ::-1]
    drawing = np.zeros((224, 224, 3), np.uint8)
    drawing[50:90, 20:200] = (250, 10, 30)
    assert picture_uri(photo).startswith("data:image/jpeg")
    uri = picture_uri(drawing)
    assert uri.startswith("data:image/png")
    back = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(back[..., ::-1], drawing)


def test_an_empty_report_and_charts_without_values_are_pages_too():
    assert not Page(render_report(Report("empty"))).all("section")
    bare = Report(
        "bare", histograms=[Histogram("none", [np.nan, np.nan]), Histogram("nil", [])],
        bars=[Bars("no joints", (), ()), Bars("unknown", ("a",), (np.nan,))], galleries=[Gallery("no samples", ())],
    )  # fmt: skip
    page = Page(render_report(bare))
    notes = [t for _, t in page.all("p", **{"class": "note"})]
    assert notes == ["No values; 2 without a value left out.", "No values.", "No values."]
    assert not page.all("img") and len(page.all("g")) == 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 columns but a row of 1"):
        Table("t", ("a", "b"), (("x",),))
    with pytest.raises(ValueError, match="2 labels for 1 values"):
        Bars("b", ("x", "y"), (1.0,))
    for picture in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="expected an RGB picture"):
            Gallery("g", [("broken", picture)])


def test_report_is_written_whole_or_not_at_all(tmp_path, report, monkeypatch):
    path = tmp_path / "deep" / "report.html"
    write_report(path, report)
    before = path.read_bytes()
    assert before.decode("utf-8") == render_report(report) and len(list(path.parent.iterdir())) == 1

    def fail(self, *args):
        raise OSError("disk full")

    monkeypatch.setattr("utils.safe_write.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, Report("another"))
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


# ---------------------------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize(
    "values",
    [
        np.arange(100.0), np.full(50, 3.0), np.zeros(7), [2.5], [-3.0, 4.0], 1e-6 * np.arange(30),
        1e6 + np.arange(1000.0), np.r_[np.ones(500), 1e5], np.r_[np.arange(50.0), 1e4, 2e4], [0.0, 1.0], [1e16, 1e16],
    ],
)  # fmt: skip
def test_bins_hold_every_value_between_round_edges(values):
    values = np.asarray(values, float)
    bins = bin_values(values)
    assert bins.counts.sum() == len(values) and 1 <= len(bins.counts) <= 45
    assert np.allclose(np.diff(bins.edges), bins.edges[1] - bins.edges[0]) and bins.edges[0] <= values.min()
    assert bins.has_tail or values.max() <= bins.edges[-1] * (1 + 1e-9) + 1e-12
    if not bins.has_tail:
        assert np.array_equal(bins.counts, np.histogram(values, bins.edges)[0]) or len(values) == 30


def test_an_outlier_does_not_squeeze_the_others():
    values = np.r_[np.linspace(20, 100, 400), 5000.0]
    bins = bin_values(values)
    assert bins.has_tail and bins.edges[-1] < 120 and (bins.counts > 0).sum() > 10


def test_steps_and_numbers_are_round():
    assert [round_step(span, 10) for span in (10, 13, 24, 70, 0.3)] == [1, 2, 5, 10, pytest.approx(0.05)]
    shown = {
        1234.5: "1,234",
        123.4: "123",
        12.34: "12.3",
        1.234: "1.23",
        0.1234: "0.123",
        0.0: "0",
        9.999: "10.0",
    }
    assert {value: number(value) for value in shown} == shown
    assert number(float("nan")) == "–" and number(-12.34) == "-12.3" and number(float("inf")) == "inf"
