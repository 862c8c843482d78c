"""What the doctor finds, and its checks of packages and shipped files.

Only the standard library is imported here: the doctor is for installations that do not work.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPEN_DIR = ROOT / "data" / "open"

OK, ABSENT, MISSING, BROKEN = "ok", "-", "missing", "broken"
MIN_PYTHON = (3, 10)
IMPORT_NAMES = {"opencv-python-headless": "cv2", "PyYAML": "yaml", "Pillow": "PIL"}  # where they differ
RESTORE = "git checkout -- data/open"
# First digits of the SHA-256 of the shipped files; of a text, with the line ends of Unix.
SHIPPED_IDS = {
    "body.npz": "9aabe7851d15",
    "atlas.npz": "ae7990c5e63c",
    "regressors.npz": "02224ff43fda",
    "motions.npz": "72be5fdf0880",
    "pose_prior.npz": "87cce43ea749",
    "smpl_mean_params.npz": "6fd6dd687800",
    "learned_ratio.json": "0dbf459ec86b",
    "danet_s.safetensors": "68a8fde9c5e6",
    "movenet_thunder.safetensors": "0ff08ca2d968",
    "movenet_trunk.safetensors": "4d4408a1bbb8",
    "movenet_multipose.onnx": "c81951eb1aa1",
}


@dataclass(frozen=True)
class Finding:
    """One line of the page; `MISSING` and `BROKEN` make the doctor's exit code 1."""

    mark: str  # OK; ABSENT and not needed; MISSING: not there and needed; BROKEN: there and unusable
    name: str
    text: str
    cure: str = ""  # what to do about it


def examine(name: str, check: Callable[[], str], cure: str = "") -> Finding:
    """OK with what `check` says, or BROKEN with what it raises."""
    try:
        return Finding(OK, name, check())
    except Exception as error:  # of whatever a damaged installation or file leads to
        return Finding(BROKEN, name, reason(error), cure)


def reason(error: BaseException) -> str:
    """An error in words: sentences of ours as they are, others with their kind."""
    lines = str(error).strip().splitlines()
    ours = isinstance(error, ValueError | FileNotFoundError) and lines
    return lines[0] if ours else f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def packages() -> Iterator[Finding]:
    """Python and the packages of requirements.txt."""
    mark = OK if sys.version_info[:2] >= MIN_PYTHON else BROKEN
    text = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding(mark, "Python", text, "3.10 or newer is needed")
    for name, least in requirements(ROOT / "requirements.txt").items():
        yield package(name, least, MISSING, "pip install -r requirements.txt")


def optional_packages() -> Iterator[Finding]:
    """Packages that single features need: those of requirements-<feature>.txt."""
    needed = requirements(ROOT / "requirements.txt")
    for path in sorted(ROOT.glob("requirements-*.txt")):
        for name, least in requirements(path).items():
            if path.name != "requirements-dev.txt" and name not in needed:
                yield package(name, least, ABSENT, f"pip install -r {path.name}")


def requirements(path: Path) -> dict[str, str]:
    """Packages and lower bounds of a requirements file."""
    return dict(re.findall(r"^([\w-]+)>=(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def package(name: str, least: str, absent: str, cure: str) -> Finding:
    """Import a package; `absent` is the mark for one that is not installed."""
    module = IMPORT_NAMES.get(name, name)
    try:
        if importlib.util.find_spec(module) is None:
            return Finding(absent, name, "not installed", cure)
        imported = importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # compiled packages fail in many ways, SystemExit among them
        again = f"pip install --force-reinstall {name}"
        return Finding(BROKEN, name, f"does not import: {reason(error)}", again)
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = str(getattr(imported, "__version__", "version unknown"))
    if numbers(version) and numbers(version) < numbers(least):
        return Finding(BROKEN, name, f"{version} is too old; at least {least} is needed", cure)
    return Finding(OK, name, version)


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.6.0+cpu" is (2, 6, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group(0).split(".")) if found else ()


def shipped_files() -> Iterator[Finding]:
    """The files of data/open, by content."""
    for name, known in SHIPPED_IDS.items():
        path = OPEN_DIR / name
        if not path.is_file():
            yield Finding(MISSING, f"open/{name}", "not there; it is part of this project", RESTORE)
            continue
        content = path.read_bytes()
        content = content.replace(b"\r\n", b"\n") if path.suffix == ".json" else content
        found = hashlib.sha256(content).hexdigest()[: len(known)]
        if found == known:
            yield Finding(OK, f"open/{name}", f"as it ships, id {known}")
        else:
            yield Finding(BROKEN, f"open/{name}", f"not as it ships: id {found}, expected {known}", RESTORE)
