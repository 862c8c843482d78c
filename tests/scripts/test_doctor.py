"""The doctor: what it says of good, missing, damaged, hostile and mixed-up files, packages and numbers.

Its page about a fresh checkout is in test_no_network.py.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standin
import torch

from utils.body import LICENSED_FILES, OPEN_DIR
from utils.doctor import checks, files
from utils.doctor.checks import ABSENT, BROKEN, MISSING, OK, Finding, package
from utils.io import load_npz

BODY, EXTRA, H36M = "smpl/SMPL_NEUTRAL.pkl", "J_regressor_extra.npy", "J_regressor_h36m.npy"


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """A whole official set, of stand-ins."""
    folder = tmp_path_factory.mktemp("official")
    standin.write_all(folder)
    return folder


@pytest.fixture
def own(official, tmp_path) -> Path:
    """What the demo and evaluations need of it; files may be replaced (not written to: they are links)."""
    shutil.copytree(
        official,
        tmp_path / "data",
        copy_function=lambda a, b: Path(b).hardlink_to(a),
        ignore=shutil.ignore_patterns("*MALE.pkl", "UV_symmetry*"),
    )
    return tmp_path / "data"


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def licensed(folder: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in files.licensed_files(folder)}


class Creates:
    """A pickle that makes a file when it is read by pickle itself."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


# --------------------------------------------------------------------------------------------------- whole pages


def run_doctor(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "utils.doctor", *arguments], cwd=root, capture_output=True, text=True, timeout=240,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def test_without_a_package_the_page_still_comes(root, tmp_path):
    for name in ("torch", "gradio", "openvino", "onnxscript"):  # all but the first take long to import
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')")
    done = run_doctor(root, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and not done.stderr
    assert "  broken  torch " in done.stdout and "  broken  Licensed files " in done.stdout
    assert "  ok      open/body.npz " in done.stdout and "are broken or missing." in done.stdout


# ------------------------------------------------------------------------------------------------ licensed files


def test_a_missing_data_folder_is_named(tmp_path):
    (finding,) = files.licensed_files(tmp_path / "nowhere")
    assert finding.mark == MISSING and "nowhere" in finding.name and "--data_dir" in finding.cure


def test_a_whole_official_set_is_well(official):
    found = licensed(official)
    optional = [name for _, name, origin in LICENSED_FILES.values() if "optional" in origin]
    assert len(optional) == 3 and {finding.mark for name, finding in found.items() if name not in optional} == {OK}
    assert set(found) >= {name for _, name, _ in LICENSED_FILES.values()}


def test_half_a_set_lacks_its_other_half(own):
    for name in (EXTRA, H36M):
        (own / name).unlink()
    found = licensed(own)
    assert found[EXTRA].mark == MISSING and "SPIN" in found[EXTRA].cure
    assert found[H36M].mark == found["smpl/SMPL_MALE.pkl"].mark == ABSENT


def test_a_published_name_is_known_and_another_is_pointed_out(own):
    (own / BODY).rename(own / "smpl" / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl")
    put(own / "smpl" / "woman.pkl", b"")
    found = licensed(own)
    assert found[BODY].mark == OK and "basicModel_neutral_lbs" in found[BODY].text
    assert found["smpl/woman.pkl"].mark == ABSENT and "not used" in found["smpl/woman.pkl"].text


@pytest.mark.parametrize("size", [0, 5000, -1])
def test_a_truncated_pickle_is_damaged(own, size):
    put(own / BODY, (own / BODY).read_bytes()[:size])
    finding = licensed(own)[BODY]
    assert finding.mark == BROKEN and "not a readable pickle" in finding.text


@pytest.mark.parametrize("name", [BODY, EXTRA, "learned_ratio.pkl"])
def test_code_in_a_file_is_reported_and_not_run(own, tmp_path, name):
    trap = tmp_path / "trap"
    hostile = pickle.dumps({"ratio": Creates(trap)})
    if name == EXTRA:
        np.save(tmp_path / "array.npy", np.array([Creates(trap)], dtype=object))
        hostile = (tmp_path / "array.npy").read_bytes()
    put(own / name, hostile)
    finding = licensed(own)[name]
    assert finding.mark == BROKEN and not trap.exists()
    assert "Nothing of it was run" in finding.text or "may run code" in finding.text


def test_the_open_body_is_not_the_official_one(own):
    (own / BODY).unlink()
    np.savez(own / "smpl" / "SMPL_NEUTRAL.npz", **load_npz(OPEN_DIR / "body.npz"))
    finding = licensed(own)[BODY]
    assert finding.mark == BROKEN and "danet-open-1" in finding.text


def test_weights_are_read_and_code_in_them_is_not_run(tmp_path):
    folder = tmp_path / "pretrained_model"
    folder.mkdir()
    torch.save({"a.weight": torch.ones(3)}, folder / "good.pt")
    put(folder / "cut.pt", (folder / "good.pt").read_bytes()[:-50])
    torch.save({"model": {"x": Creates(tmp_path / "trap")}}, folder / "hostile.pt")
    marks = {Path(name).stem: finding.mark for name, finding in licensed(tmp_path).items()}
    assert (marks["good"], marks["cut"], marks["hostile"]) == (OK, BROKEN, BROKEN)
    assert not (tmp_path / "trap").exists()


# ------------------------------------------------------------------------------- shipped files, packages, demo


def test_a_changed_and_a_missing_shipped_file(tmp_path, monkeypatch):
    shutil.copytree(OPEN_DIR, tmp_path / "open", copy_function=lambda a, b: Path(b).hardlink_to(a))
    put(tmp_path / "open" / "atlas.npz", (OPEN_DIR / "atlas.npz").read_bytes()[:-100])
    text = (OPEN_DIR / "learned_ratio.json").read_bytes().replace(b"\r\n", b"\n")
    put(tmp_path / "open" / "learned_ratio.json", text.replace(b"\n", b"\r\n"))  # as git may check it out
    (tmp_path / "open" / "movenet_multipose.onnx").unlink()
    monkeypatch.setattr(checks, "OPEN_DIR", tmp_path / "open")
    bad = {f.name: f for f in checks.shipped_files() if f.mark != OK}
    assert set(bad) == {"open/atlas.npz", "open/movenet_multipose.onnx"}
    assert "not as it ships" in bad["open/atlas.npz"].text
    assert bad["open/movenet_multipose.onnx"].mark == MISSING
    assert all("git checkout -- data/open" in finding.cure for finding in bad.values())


def test_packages(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise SystemExit('no library')")
    monkeypatch.syspath_prepend(tmp_path)
    assert package("numpy", "1.0", MISSING, "").mark == OK
    old = package("numpy", "99.0", MISSING, "pip install -r requirements.txt")
    assert old.mark == BROKEN and "at least 99.0" in old.text and old.cure.startswith("pip")
    assert package("no_such_package", "1.0", ABSENT, "").mark == ABSENT
    broken = package("broken_package", "1.0", MISSING, "")
    assert broken.mark == BROKEN and "no library" in broken.text


def test_wrong_numbers_are_found():
    good = {name: np.array(numbers) for name, (numbers, _) in files.EXPECTED.items()}
    files.check_numbers(good)
    for wrong in (good["cam"] + 0.1, good["cam"] * np.nan):
        with pytest.raises(ValueError, match="Wrong numbers: cam ends in"):
            files.check_numbers({**good, "cam": wrong})
