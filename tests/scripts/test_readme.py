"""README and docs: commands, flags, make targets, files, links and sections that they name exist; Python runs."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
from pathlib import Path

import pytest

from models.losses import LossWeights
from utils.config import parse_config
from utils.skeleton import PART_CHANNELS, PART_CHILD, PART_VISIBILITY, SMPL_JOINT_NAMES

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["README.md", "MODEL_CARD.md", "CONTRIBUTING.md", "examples/README.md", "data/README.md", "data/open/README.md"]
TEXTS += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
SOURCES = ("*.py", "benchmarks/*.py", "data/open/build/*.py", "datasets/**/*.py", "examples/*.py", "models/**/*.py")
SOURCES += ("utils/**/*.py",)
CITING = (*SOURCES, "tests/**/*.py")
# "docs/method.md", and the sections behind it: "sections 4.1 and 8.5", "2, 4, 7".
CITATION = re.compile(r"(docs/)?method\.md(?: sections?)?((?:(?:,| and| to|)\s\d+(?:\.\d+)*(?![\w-]))*)")
BUILTIN = {"cd", "git", "export", "npm"}


def blocks(kind: str) -> list[tuple[str, str]]:
    found = []
    for name in TEXTS:
        if (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8")
            found += [(name, body) for body in re.findall(rf"```{kind}\n(.*?)```", text, re.S)]
    return found


def commands() -> list[str]:
    """Single commands of all shell blocks; continued lines joined, comments dropped."""
    found = []
    for _, body in blocks("(?:shell|sh|bash)"):
        for line in body.replace("\\\n", " ").splitlines():
            found += [part.strip() for part in line.split("#")[0].split("&&") if part.strip()]
    return sorted(set(found))


def check_flags(script: str, arguments: list[str], command: str) -> None:
    """Parse with the script's own config class; a script without one must at least name the flags."""
    name = script.removesuffix(".py").replace("/", ".")
    config = f"{name.rsplit('.')[-1].title().replace('_', '')}Config"
    if name in ("app", "demo", "train", "eval", "eval_coco") or name.endswith(".export_onnx"):
        parse_config(getattr(importlib.import_module(name), config), arguments)
        return
    path = ROOT / script
    files = path.parent.glob("*.py") if path.name == "__main__.py" else [path]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert all(f'"{word}"' in text for word in arguments if word.startswith("--")), command


@pytest.mark.parametrize("command", commands())
def test_command(command):
    words = shlex.split(command)
    program = Path(words[0]).name
    if program in BUILTIN:
        return
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        given = [w for w in words[1:] if "=" not in w]
        assert given and set(given) <= set(targets), command
    elif program in ("bash", "sh"):
        assert (ROOT / words[1]).is_file(), command
    elif program == "torchrun":
        check_python(words[next(i for i, word in enumerate(words) if word.endswith(".py")) :], command)
    elif program.startswith("python"):
        check_python(words[1:], command)
    else:
        pytest.fail(f"The README names a program the test does not know: {command}")


def check_python(words: list[str], command: str) -> None:
    if words[0] == "-m" and words[1] in ("venv", "pip", "pytest", "ruff"):
        assert all((ROOT / w).is_file() for w in words if w.endswith(".txt")), command
        return
    script = words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0]
    if (ROOT / script.removesuffix(".py")).is_dir():
        script = f"{script.removesuffix('.py')}/__main__.py"
    arguments = words[2:] if words[0] == "-m" else words[1:]
    assert (ROOT / script).is_file(), command
    if script.startswith("datasets/preprocess/"):
        return  # needs packages of its own
    check_flags(script, arguments, command)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run_in_the_clone(number, tmp_path, monkeypatch, capsys):
    name, block = blocks("python")[number]
    (tmp_path / "example.py").write_text(block)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(tmp_path / "example.py"))
    assert name != "README.md" or number or "(6890, 3)" in capsys.readouterr().out


def anchors(path: Path) -> set[str]:
    """Anchors of a Markdown file's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_resolve():
    for name in TEXTS:
        file = ROOT / name
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", file.read_text(encoding="utf-8")):
            aim = (file.parent / target).resolve() if target else file
            assert aim.exists(), f"{name} links to {target}"
            assert not anchor or anchor in anchors(aim), f"{name} links to {target}#{anchor}"


def test_named_files_exist():
    """Files and folders of the project that stand between backticks."""
    for name in (name for name in TEXTS if name.startswith(("docs/", "README"))):
        text = (ROOT / name).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:benchmarks|datasets|examples|models|utils|data/open)/[\w./-]*)`", text):
            assert (ROOT / path).exists(), f"{name} names {path}"


def test_cited_sections_exist():
    numbers = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", (ROOT / "docs/method.md").read_text(encoding="utf-8"), re.M))
    found = 0
    for path in (path for pattern in CITING for path in ROOT.glob(pattern) if path != Path(__file__)):
        text = re.sub(r"\s+#?\s*", " ", path.read_text(encoding="utf-8"))
        for folder, cited in CITATION.findall(text):
            assert folder, f"{path.relative_to(ROOT)} cites method.md without its folder"
            unknown = set(re.findall(r"\d+(?:\.\d+)*", cited)) - numbers
            assert not unknown, f"{path.relative_to(ROOT)} cites docs/method.md, which has no section {unknown}"
            found += 1
    assert found > 30


def test_the_method_has_the_numbers_of_the_code():
    text = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    weights = re.findall(r"\| ([\d.]+) \(`(\w+)`\) \|", text)
    assert len(weights) > 15 and all(getattr(LossWeights(), name) == float(value) for value, name in weights)
    parts = re.findall(r"^\| (\d+) ([a-z0-9 ]+) \| [-\d]+ \| (\d+) \| ([\d, ]+) \| ([\d, ]+) \|$", text, re.M)
    assert [(int(joint), name.replace(" ", "_")) for joint, name, *_ in parts] == list(enumerate(SMPL_JOINT_NAMES))
    for (joint, _, child, visible, channels), shown in zip(parts, PART_VISIBILITY, strict=True):
        assert int(child) == PART_CHILD[int(joint)]
        assert tuple(map(int, visible.split(", "))) == shown
        assert tuple(map(int, channels.split(", "))) == PART_CHANNELS[int(joint)]


FLAGS_ELSEWHERE = {"--nproc_per_node", "--no-build-isolation", "--help"}
FLAGS_GONE = {f"--{name}_loss_weight" for name in ("keypoint", "pose", "beta", "shape")} | {"--from_json"}


def test_flags_exist():
    """Flags anywhere in a text: a field of a config class, or a literal of a parser."""
    sources = "\n".join(path.read_text(encoding="utf-8") for pattern in SOURCES for path in ROOT.glob(pattern))
    known = set(re.findall(r"^    (\w+): .*= option\(", sources, re.M)) | set(re.findall(r"\"--(\w+)\"", sources))
    for name in TEXTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for flag in set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)) - FLAGS_ELSEWHERE - FLAGS_GONE:
            assert flag[2:] in known or flag[2:].removeprefix("no_") in known, f"{name} names {flag}"


def test_the_readme_is_short_and_has_the_sections_users_know():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 180
    known = "Requirements, Necessary files, Rendering IUV, Demo, Evaluation, COCO evaluation, Training, Citation"
    assert {*known.split(", "), "Acknowledgements"} <= set(re.findall(r"^## (.*)$", text, re.M))
