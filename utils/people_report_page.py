"""The words and marks of the page about a run's people; `utils.people_report` fills it from files.

Texts are escaped on their way into the markup; what the script reads are numbers, as JSON and base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from utils.confidence import LOW_CONFIDENCE
from utils.report import Table, facts_card, page_head, picture_uri, table_card
from utils.report_charts import escape, number
from utils.run_record import RunRecord

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

FILES = Path(__file__).with_name("people_report")
STYLE = FILES.with_suffix(".css").read_text(encoding="utf-8")
SCRIPT = "".join(FILES.with_suffix(ending).read_text(encoding="utf-8") for ending in (".body.js", ".js"))
WHOLE_RUN = "whole run"
JPEG_QUALITY = 80  # the page may hold thousands of pictures
STEPS = 65535  # of vertices in 16 bits: 0.03 mm on a body of two metres
BETAS_SHOWN = 3.0  # where the bar of a beta ends
PAGE_PARTS = {
    "people": "People", "pictures": "Pictures", "skipped": "Skipped", "time": "Time", "facts": "How this came about",
}  # fmt: skip
LOOKS = {
    "body": "body", "input": "picture", "iuv": "IUV seen", "rendered": "IUV of the body", "side": "from the side",
    "panel": "all in a row",
}  # fmt: skip
ORDERS = {"file": "file name", "best": "highest confidence", "worst": "lowest confidence"}


@dataclass(frozen=True)
class ShownPerson:
    """A person's result, as far as the page shows it."""

    stem: str
    picture: str  # file name
    person: str  # number in the picture
    people_picture: str  # file name of the full picture with everybody in it; empty: there is none
    files: tuple[str, ...]  # names beside the page
    panel: UInt8[np.ndarray, "224 W 3"]
    confidence: Float[np.ndarray, ""]  # in the prediction
    score: Float[np.ndarray, ""]  # of the detector, NaN where none gave one
    box: Float[np.ndarray, "4"]  # x, y, width, height, pixels
    image_size: Int[np.ndarray, "2"]  # width, height
    cam: Float[np.ndarray, "3"]
    cam_t: Float[np.ndarray, "3"]
    betas: Float[np.ndarray, "10"]
    vertices: Float[np.ndarray, "V 3"]


# ---------------------------------------------------------------------------------------------------- the page


def page_start(people: int, pictures: int, skipped: int, record: RunRecord) -> str:
    """The page up to the first person."""
    title = f"{_count(people, 'person', 'people')} in {_count(pictures, 'picture', 'pictures')}"
    said = [f"{_count(skipped, 'file or person', 'files or people')} skipped"]
    if seconds := record.seconds.get(WHOLE_RUN):
        said.append(f"{number(seconds)} s, {number(record.num_written / seconds)} people per second")
    links = "".join(f'<a href="#all-{part}">{name}</a>' for part, name in PAGE_PARTS.items())
    return (
        f"{page_head(title, STYLE, SCRIPT)}"
        f"<header><h1>{title}</h1><p>{' · '.join(said)}</p><nav>{links}</nav></header>\n<main>"
        "<noscript><p>Filters, larger views and the bodies in 3D need scripts.</p></noscript>\n"
        f"{_open('people')}{_FILTERS if people else '<p>Nobody was written.</p>'}"
        '<ul id="people" data-look="body">\n'
    )


def page_middle() -> str:
    """Between the last person and the first full picture."""
    return f'</ul></section>\n{_open("pictures")}<div id="pictures">'


def page_end(skipped: Sequence[tuple[str, str]], record: RunRecord, faces: Int[np.ndarray, "F 3"]) -> str:
    """What follows the last full picture."""
    left_out = "<p>Nothing was skipped.</p>"
    if skipped:
        left_out = table_card(Table("", ("file", "reason"), tuple(skipped)))
    facts = facts_card({name.replace("_", " "): value for name, value in record.facts.items()})
    corners = base64.b64encode(faces.astype("<u2").tobytes()).decode("ascii")
    return (
        f"</div></section>\n{_open('skipped')}{left_out}</section>\n"
        f"{_open('time')}{_times(record.num_written, record.seconds)}</section>\n"
        f"{_open('facts')}{facts}</section></main>\n"
        f'{_DETAIL}<script type="text/plain" id="faces">{corners}</script>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _open(part: str) -> str:
    return f'<section id="all-{part}"><h2>{PAGE_PARTS[part]}</h2>'


def _times(people: int, seconds: Mapping[str, float]) -> str:
    stages = sorted(seconds.items(), key=lambda stage: stage[0] == WHOLE_RUN)
    rows = tuple(
        (stage, f"{value:.2f} s", f"{1000 * value / people:.0f} ms" if people else "–")
        for stage, value in stages
    )
    table = table_card(Table("", ("stage", "time", "per person"), rows))
    return f'{table}<p class="note">Stages overlap, so they need not add up to the whole run.</p>'


def _count(value: int, one: str, many: str) -> str:
    return f"{value:,} {one if value == 1 else many}"


# ---------------------------------------------------------------------------------------------------- its people


def person_card(person: ShownPerson) -> str:
    """A person in the gallery, with the details and the body that the larger view shows."""
    size = f"{person.box[2]:.0f} × {person.box[3]:.0f} px".replace(" ", "\u00a0")
    doubt = " (low)" if person.confidence < LOW_CONFIDENCE else ""
    height, width = person.panel.shape[:2]
    low, step, vertices = pack_vertices(person.vertices)
    body = {"low": low, "step": step, "cam_t": person.cam_t.tolist(), "vertices": vertices}
    return (
        f'<li data-stem="{escape(person.stem)}" data-picture="{escape(person.picture)}" '
        f'data-confidence="{person.confidence:.4f}"><a class="card" href="{address(person.stem)}"><span class="window">'
        f'<img src="{picture_uri(person.panel, JPEG_QUALITY)}" width="{width}" height="{height}" alt="" '
        f'decoding="sync"></span><span class="name">{escape(person.stem)}</span>'
        f'<span class="soft">confidence {person.confidence:.2f}{doubt} · {size}</span></a>'
        f'<script type="application/json">{json.dumps(body)}</script><template>{_details(person)}</template></li>\n'
    )


def picture_figure(person: ShownPerson, everybody: UInt8[np.ndarray, "H W 3"]) -> str:
    """A full picture; it leads to the first of its people."""
    height, width = everybody.shape[:2]
    name = escape(person.picture)
    return (
        f'<figure class="card" data-picture="{name}"><a href="{address(person.stem)}">'
        f'<img src="{picture_uri(everybody, JPEG_QUALITY)}" width="{width}" height="{height}" '
        f'alt="All people of {name}"></a>'
        f"<figcaption>{name}</figcaption></figure>\n"
    )


def pack_vertices(vertices: Float[np.ndarray, "V 3"]) -> tuple[list[float], list[float], str]:
    """Lowest corner, step of each axis, and whole steps from it as 16 bits, little endian, in base64."""
    vertices = np.asarray(vertices, np.float64)
    low = vertices.min(axis=0)
    step = np.maximum(vertices.max(axis=0) - low, 1e-9) / STEPS
    packed = np.round((vertices - low) / step).astype("<u2").tobytes()
    return low.tolist(), step.tolist(), base64.b64encode(packed).decode("ascii")


def address(stem: str) -> str:
    """A person's place on the page, written as browsers write it."""
    return escape("#" + quote(stem, safe="!'()*", errors="surrogateescape"))


def _details(person: ShownPerson) -> str:
    x, y, width, height = person.box
    score = f"{person.score:.3f}" if np.isfinite(person.score) else "unknown"
    numbers = facts_card(
        {
            "picture": f"{person.picture}, {person.image_size[0]} × {person.image_size[1]} px",
            "person": f"number {person.person}",
            "confidence": f"{person.confidence:.3f}, detector's score {score}",
            "box": f"{width:.0f} × {height:.0f} px at ({x:.0f}, {y:.0f})",
            "crop camera": "s {:.3f}, tx {:.3f}, ty {:.3f}".format(*person.cam),
            "cam_t": "({:.3f}, {:.3f}, {:.2f}) m".format(*person.cam_t),
        }
    )
    links = " ".join(
        f'<a href="./{escape(quote(name, errors="surrogateescape"))}">{escape(name)}</a>'
        for name in person.files
    )
    sizes = np.clip(person.betas / BETAS_SHOWN, -1, 1)
    bars = "".join(
        f'<div><dt>{i}</dt><dd><span style="--size:{size:.3f}"></span>{beta:+.2f}</dd></div>'
        for i, (beta, size) in enumerate(zip(person.betas, sizes, strict=True), 1)
    )
    return f'{numbers}<h3>Files</h3><p class="files">{links}</p><h3>Shape (betas)</h3><dl class="betas">{bars}</dl>'


# -------------------------------------------------------------------------------------------- what never changes


def _options(options: Mapping[str, str]) -> str:
    return "".join(f'<option value="{value}">{text}</option>' for value, text in options.items())


_FILTERS = f"""<form id="filters" role="search" aria-label="Filters">
<label>Name <input type="search" name="find" placeholder="part of a file name" autocomplete="off"></label>
<label data-needs="confidences"><span>Confidence from <output>0.00</output></span>
<input type="range" name="confidence" min="0" max="1" step="0.05" value="0"></label>
<label data-needs="confidences">Order <select name="sort">{_options(ORDERS)}</select></label>
<label>Show <select name="show">{_options(LOOKS)}</select></label>
<label class="tick" data-needs="several"><input type="checkbox" name="several">
only pictures with several people</label>
<p><output id="count" role="status"></output> <button type="reset" id="clear" hidden>Show all</button></p>
</form>
<p id="nobody" class="card" hidden>Nobody fits these filters.</p>
"""

_DETAIL = """<dialog id="detail" aria-labelledby="person-name"><div class="sheet">
<div class="top"><h2 id="person-name"></h2><span class="soft" id="position"></span>
<button type="button" id="previous" aria-label="Previous person" title="Previous (arrow left)">‹</button>
<button type="button" id="next" aria-label="Next person" title="Next (arrow right)">›</button>
<button type="button" id="close" aria-label="Close" title="Close (Escape)">×</button></div>
<div class="columns"><div><div id="view"><div id="plane"><img id="backdrop" alt=""></div>
<canvas id="canvas" tabindex="0" autofocus role="img"
aria-label="The body in 3D. Shift and arrows turn it, plus and minus zoom, 0 goes back."></canvas></div>
<div class="tools"><button type="button" id="reset">Reset view</button>
<label class="tick"><input type="checkbox" id="with-picture" checked> picture</label>
<span class="soft">drag: turn · wheel or pinch: zoom · double click: reset</span></div></div>
<div id="about"></div></div>
<div class="strip"><img id="panel" alt=""></div>
<p class="note">From the left: the picture, the IUV maps seen, those of the 24 parts, the IUV of the predicted body, the
body, the body from its side.</p>
<figure id="everybody"><img alt=""><figcaption>All people of this picture</figcaption></figure>
</div></dialog>
"""
