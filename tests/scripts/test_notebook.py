"""The notebook of examples/ runs from its folder, and what is stored of its last run is whole and small."""

from __future__ import annotations

import json
import re
import runpy

import pytest
from test_architecture import LOCAL_PATHS

OUTPUT = 'root / "output" / "quickstart"'


@pytest.fixture
def text(root):
    return (root / "examples/quickstart.ipynb").read_text(encoding="utf-8")


def sources(text, kind):
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == kind]


def test_the_cells_run_in_their_order(root, text, tmp_path, monkeypatch, capsys):
    script = "\n".join(sources(text, "code"))
    assert script.count(OUTPUT) == 1
    (tmp_path / "cells.py").write_text(script.replace(OUTPUT, f"root.joinpath({str(tmp_path / 'output')!r})"))
    monkeypatch.chdir(root / "examples")
    names = runpy.run_path(str(tmp_path / "cells.py"))
    assert names["root"] == root and len(names["people"]) == 1
    written = {path.suffix for path in (tmp_path / "output").iterdir()}
    assert written == {".npz", ".bvh", ".csv", ".jpg"} and "(6890, 3)" in capsys.readouterr().out


def test_the_stored_run_is_one_whole_run(text):
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result"}
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) == 5
    assert len(text) < 200_000 and not LOCAL_PATHS.search(text)


def test_links_of_the_notebook_resolve(root, text):
    links = [link for cell in sources(text, "markdown") for link in re.findall(r"\]\(([^)]+)\)", cell)]
    assert len(links) > 5 and all((root / "examples" / link).is_file() for link in links)
