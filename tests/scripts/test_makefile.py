"""The Makefile on machines where making the environment fails."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_half_an_environment_does_not_count_as_made(tmp_path, root):
    """`python -m venv` puts its interpreter in place before pip, which some systems lack."""
    shutil.copy(root / "Makefile", tmp_path)
    python = tmp_path / "fake_python"
    half = f"mkdir -p .venv/bin; ln -s {sys.executable} .venv/bin/python; exit 1"
    python.write_text(f'#!/bin/sh\ncase "$*" in "-m venv"*) {half};; esac\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", str(tmp_path), "PYTHON=./fake_python", ".venv/bin/python"], capture_output=True
    )
    assert done.returncode != 0
    assert not (tmp_path / ".venv" / "bin" / "python").is_symlink()
