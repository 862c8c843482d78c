"""The image of the crop rule in docs/demo.md: its geometry is that of the crops, and the script draws the file."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from datasets.people.boxes import Boxes
from datasets.people.crops import People
from examples import box_to_crop
from utils.people import Detection


@pytest.fixture(scope="module")
def crop():
    return box_to_crop.example()


def test_the_rule_that_is_drawn_is_that_of_the_demo(tmp_path, crop):
    Image.fromarray(crop.picture).save(tmp_path / "a.png")
    (person,) = People(tmp_path, Boxes([("a.png", [Detection(crop.box)])]))
    assert (person.center, person.scale) == (crop.center, crop.scale)
    assert np.array_equal(person.crop, crop.pixels)
    x, y, width, height = crop.square
    assert width == height == pytest.approx(1.2 * max(crop.box[2:])) == pytest.approx(200 * crop.scale)
    assert (x + width / 2, y + height / 2) == pytest.approx(crop.center)


def test_the_example_shows_the_black_outside_the_picture(crop):
    outside = round(-crop.square[0] * 224 / crop.square[2])
    assert 20 < outside < 112
    assert (
        not crop.pixels[:, : outside - 1].any() and crop.pixels[:200, outside + 1 :].any(axis=-1).mean() > 0.9
    )


def test_the_script_draws_the_readme_picture(tmp_path):
    box_to_crop.main(["--out", str(tmp_path / "a.png")])
    drawn, kept = (
        np.asarray(Image.open(p).convert("RGB"), float) for p in (tmp_path / "a.png", box_to_crop.OUT)
    )
    assert drawn.shape == kept.shape and np.abs(drawn - kept).mean() < 3  # fonts differ a little
    assert box_to_crop.OUT.stat().st_size < 100_000
