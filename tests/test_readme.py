"""The README's commands: every script exists, every flag is accepted, every make target and file is there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from utils.config import parse_config

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ["README.md", "CONTRIBUTING.md", "examples/README.md", "data/README.md", "data/open/README.md"]
BUILTIN = {"cd", "git", "export"}


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
    if name in ("demo", "train", "eval", "eval_coco", "utils.export_onnx"):
        parse_config(getattr(importlib.import_module(name), config), arguments)
        return
    text = (ROOT / script).read_text(encoding="utf-8")
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
    arguments = words[2:] if words[0] == "-m" else words[1:]
    assert (ROOT / script).is_file(), command
    if script.startswith("datasets/preprocess/"):
        return  # needs packages of its own
    check_flags(script, arguments, command)


@pytest.mark.parametrize("block", [body for _, body in blocks("python")])
def test_python_blocks_name_what_exists(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"from {node.module} import {alias.name}"


def test_links_and_named_files_exist():
    for name in (n for n in TEXTS if (ROOT / n).is_file()):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


def test_readme_keeps_the_sections_users_know():
    headings = re.findall(r"^## (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    kept = (
        "Requirements, Necessary files, Rendering IUV, Demo, Evaluation, COCO evaluation, Training, Citation"
    )
    assert {*kept.split(", "), "Acknowledgements"} <= set(headings)
