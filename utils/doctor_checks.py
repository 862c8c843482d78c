"""What the doctor says about one thing, and how it looks at packages, devices and renderers.

Nothing but the standard library is imported before it is tried: the doctor is for installations that do not work.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

OK, ABSENT, MISSING, BROKEN = "ok", "-", "missing", "broken"
BAD = (MISSING, BROKEN)
NO_PICTURES = "its pictures are not in"  # said of labels

MIN_PYTHON = (3, 10)
IMPORT_NAMES = {"opencv-python-headless": "cv2", "PyYAML": "yaml", "Pillow": "PIL"}  # where they differ
OPTIONAL_FILES = {
    "requirements-datasets.txt": "reads Human3.6M or MPI-INF-3DHP",
    "requirements-onnx.txt": "for python -m utils.export_onnx",
    "requirements-report.txt": "for the reports of eval.py and eval_coco.py",
}
RENDERER_PACKAGES = {
    "opendr": "for --use_opendr and --renderer opendr",
    "neural_renderer_pytorch": "for --renderer neural_renderer",
}


@dataclass(frozen=True)
class Finding:
    """One line of the page. A mark of `BAD` makes the doctor's exit code 1."""

    mark: str  # OK; ABSENT and not needed; MISSING: not there and needed; BROKEN: there and unusable
    name: str
    text: str
    cure: str = ""  # what to do about it

    @property
    def is_bad(self) -> bool:
        return self.mark in BAD


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


# --------------------------------------------------------------------------------------------------- packages


def packages() -> Iterator[Finding]:
    """Python and the packages of requirements.txt."""
    version = platform.python_version()
    fits = sys.version_info[:2] >= MIN_PYTHON
    yield Finding(
        OK if fits else BROKEN,
        "Python",
        f"{version}, {platform.system()} {platform.machine()}",
        "Python 3.10 or newer is needed.",
    )
    for line in requirements("requirements.txt"):
        yield package(line, MISSING, "", "pip install -r requirements.txt")


def optional_packages() -> Iterator[Finding]:
    """Packages that single tools need, and those of other renderers."""
    needed = {line.split(">=")[0] for line in requirements("requirements.txt")}
    for file, use in OPTIONAL_FILES.items():
        for line in requirements(file):
            if line.split(">=")[0] not in needed:
                yield package(line, ABSENT, use, f"pip install -r {file}")
    for name, use in RENDERER_PACKAGES.items():
        version = installed_version(name)
        text = f"{version}, tried below" if version else f"not installed; {use}"
        yield Finding(OK if version else ABSENT, name, text)


def requirements(file: str) -> list[str]:
    """The `name>=version` lines of a requirements file; none when the file is not there."""
    path = ROOT / file
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.strip() for line in lines if re.match(r"\s*[\w-]+>=", line)]


def package(requirement: str, absent: str, use: str, cure: str) -> Finding:
    """Import a package; `absent` is the mark for one that is not installed."""
    name, least = requirement.split(">=")
    module = IMPORT_NAMES.get(name, name)
    try:
        if importlib.util.find_spec(module) is None:
            return Finding(absent, name, "not installed" + (f"; {use}" if use else ""), cure)
        imported = importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # compiled packages fail in many ways, SystemExit among them
        return Finding(
            BROKEN, name, f"does not import: {reason(error)}", f"pip install --force-reinstall {name}"
        )
    version = installed_version(name) or str(getattr(imported, "__version__", "version unknown"))
    if numbers(version) and numbers(version) < numbers(least):
        return Finding(BROKEN, name, f"{version} is too old; at least {least} is needed", cure)
    return Finding(OK, name, version)


def installed_version(name: str) -> str:
    """The version that pip knows; empty without one."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.6.0+cpu" is (2, 6, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group(0).split(".")) if found else ()


# ------------------------------------------------------------------------------------------ devices, renderers


def devices() -> Iterator[Finding]:
    """What torch can compute on; a product is made on each device."""
    import torch

    found = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    found += ["mps"] if torch.backends.mps.is_available() else []
    for name in found:
        yield examine(name, lambda name=name: computes(name), "Give --device cpu, or repair the driver.")
    for kind in ("cuda", "mps"):
        if not any(name.startswith(kind) for name in found):
            yield Finding(ABSENT, kind, "torch sees no such device")


def computes(device: str) -> str:
    """What a device is. Raises ValueError when it multiplies wrongly."""
    import torch

    left = torch.arange(64.0).view(8, 8)
    product = (left.to(device) @ left.T.to(device)).cpu()
    if not torch.allclose(product, left @ left.T) or product[1, 0] != 364:
        raise ValueError(f"The device {device} multiplies two small matrices wrongly.")
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads" if device == "cpu" else "works"


def rasterizers() -> Iterator[Finding]:
    """The two back-ends of our rasteriser, on a triangle that covers half of the picture."""
    import torch

    from utils.rasterizer import rasterize

    points = torch.tensor([[[-1.0, -1, 2], [-1, 1, 2], [1, 1, 2]]])
    cures = {"numba": "pip install --force-reinstall numba", "torch": "pip install --force-reinstall torch"}

    def draw(backend: str) -> str:
        either = [
            rasterize(points, torch.tensor([[0, *turn]]), 16, backend=backend).face >= 0 for turn in TURNS
        ]
        covered = int((either[0] | either[1]).sum())
        if not 120 <= covered <= 136:
            raise ValueError(f"It draws {covered} of 256 pixels for a triangle that covers half of them.")
        return "works"

    for backend, cure in cures.items():
        yield examine(f"rasteriser {backend}", lambda backend=backend: draw(backend), cure)


TURNS = ((1, 2), (2, 1))  # one of them faces the camera


def renderers() -> Iterator[Finding]:
    """The mesh renderers of `--renderer`; only the built-in one is needed."""
    from utils.render_backends import RENDERERS, renderer_problem

    for name in RENDERERS:
        problem = renderer_problem(name)
        mark = OK if problem is None else BROKEN if name == "builtin" else ABSENT
        yield Finding(mark, f"renderer {name}", "works" if problem is None else problem)


def section(title: str, findings: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a section, and one more for what stops it: a package that it cannot do without."""
    try:
        yield from findings()
    except Exception as error:  # the rest of the page must come
        yield Finding(BROKEN, title, f"cannot be looked at: {reason(error)}", "Repair the packages first.")
