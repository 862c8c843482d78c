"""The doctor's checks of licensed files, each read by the scripts' own reader, and its run of the demo."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from utils.body import (
    CORE_NEED,
    LICENSED_FILES,
    SMPL_ID,
    load_learned_ratio,
    load_mean_params,
    load_uv_processed,
    read_regressor,
    read_smpl_file,
    unknown_bodies,
)
from utils.checkpoint import load_checkpoint
from utils.doctor.checks import ABSENT, MISSING, ROOT, Finding, examine
from utils.io import DataFileError, load_mat, load_npz, read_pickle

WEIGHTS_FOLDER = "pretrained_model"
EXAMPLE = ROOT / "examples" / "rendered_1.jpg"
REPAIR = "git checkout -- data/open examples, then pip install --force-reinstall -r requirements.txt"
LONGEST_RUN = 600  # seconds
# The last numbers of arrays in the example's npz by the shipped weights, and how far another processor's may be off.
EXPECTED = {
    "cam": ((0.8905, 0.1568, 0.1470), 0.01),
    "betas": ((-0.034, 0.003, -0.062), 0.05),
    "smpl_joints": ((0.121, -0.206, -0.275, -0.430, -0.354, 0.044), 0.02),  # the hands, metres
}


def licensed_files(data_dir: Path) -> Iterator[Finding]:
    """The files of the official body and what belongs to it; a part of the set makes its rest needed."""
    if not data_dir.is_dir():
        yield Finding(MISSING, str(data_dir), "there is no such folder", "give the right --data_dir")
        return
    readers: dict[str, Callable[[Path], object]] = {
        **dict.fromkeys(("body", "body_male", "body_female"), read_official_body),
        "atlas": load_uv_processed,
        **dict.fromkeys(("uv_symmetry", "subdivision", "subdivision_vertices"), load_mat),
        "geodesics": read_pickle,
        "regressor_extra": lambda path: read_regressor(path, "extra"),
        "regressor_h36m": lambda path: read_regressor(path, "h36m"),
    }
    found = {key: find(data_dir) for key, (find, _, _) in LICENSED_FILES.items()}
    begun = any(found[key] for key in (*CORE_NEED, "body_male", "body_female"))
    for key, (_, name, origin) in LICENSED_FILES.items():
        if found[key] is not None:
            yield readable(name, found[key], readers[key], f"get it again: {origin}")
        elif begun and key in CORE_NEED:
            text = "not there, and --body auto needs it beside the others"
            yield Finding(MISSING, name, text, origin)
        else:
            yield Finding(ABSENT, name, "not there", origin)
    for name in unknown_bodies(data_dir):
        yield Finding(ABSENT, f"smpl/{name}", "not used; data/README.md lists the names that are")
    yield from own_numbers(data_dir)


def own_numbers(data_dir: Path) -> Iterator[Finding]:
    """The user's weights, and copies of numbers that ship with the project."""
    readers = {
        "smpl_mean_params.npz": load_mean_params,
        "learned_ratio.pkl": load_learned_ratio,
        f"{WEIGHTS_FOLDER}/learned_ratio.pkl": load_learned_ratio,
    }
    for name, read in readers.items():
        if (data_dir / name).is_file():
            yield readable(name, data_dir / name, read, "remove it: the shipped numbers are the same")
    for path in sorted((data_dir / WEIGHTS_FOLDER).glob("*")):
        if path.suffix in (".pt", ".pth", ".safetensors", ".tar"):
            yield readable(f"{WEIGHTS_FOLDER}/{path.name}", path, load_checkpoint, "fetch it again")


def readable(name: str, path: Path, read: Callable[[Path], object], cure: str) -> Finding:
    """Whether a file can be read; it may have another name than the finding."""

    def check() -> str:
        read(path)
        return "readable" if path.name == Path(name).name else f"{path.name}: readable"

    return examine(name, check, cure)


def read_official_body(path: Path) -> None:
    """Raise DataFileError for a damaged or hostile file, and for another body than SMPL."""
    body = read_smpl_file(path)
    if body.model_id != SMPL_ID:
        raise DataFileError(f"{path} holds the body '{body.model_id}', not an official SMPL body.")


def demo_run() -> Iterator[Finding]:
    """The demo on one example with the open body, in a process of its own, and its numbers against stored ones."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "demo.py", "--img_dir", str(EXAMPLE), "--out_dir", folder, "--body", "open"]
        command += ["--backend", "torch"]  # nothing is written to the user's cache
        yield examine("demo.py", lambda: try_demo(command, Path(folder)), REPAIR)


def try_demo(command: list[str], folder: Path) -> str:
    """Raise ValueError, with the demo's own words, where it fails, and where its numbers are wrong."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_RUN, check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.strip().splitlines()[-2:])
        raise ValueError(f"It ends with exit code {done.returncode}: {said}")
    check_numbers(load_npz(folder / f"{EXAMPLE.stem}.npz"))
    return f"{EXAMPLE.name} gives the expected camera, shape, pose and map, {time.perf_counter() - start:.0f} s"


def check_numbers(arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError where the example's numbers are not those that the shipped weights give elsewhere."""
    for name, (expected, tolerance) in EXPECTED.items():
        found = arrays[name].reshape(-1)[-len(expected) :]
        if not (np.abs(found - expected) <= tolerance).all():
            numbers = ", ".join(f"{value:.4g}" for value in found)
            raise ValueError(f"Wrong numbers: {name} ends in {numbers}; expected {expected} (+- {tolerance:g}).")
