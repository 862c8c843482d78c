"""Runs the converters of data sets as a user would, for the tests of datasets/preprocess."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from datasets.labels.files import FIELDS, FILES
from utils.command_line import ALL_GOOD, DOCTOR, SOME_SKIPPED
from utils.io import load_npz


def convert(
    module: str, source: Path, out: Path, *flags: str, code: int | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Arrays by file name of all that `python -m datasets.preprocess.<module>` wrote; fields are checked."""
    main = importlib.import_module(f"datasets.preprocess.{module}").main
    ended = main(["--source", str(source), "--out", str(out), *flags])
    assert ended in ((ALL_GOOD, SOME_SKIPPED) if code is None else (code,))
    files = {path.name: load_npz(path, objects=path.name.startswith("dp_")) for path in out.iterdir()}
    for name, arrays in files.items():
        check_fields(name, arrays)
    return files


def check_fields(file: str, arrays: dict[str, np.ndarray]) -> None:
    """Fields, kinds and shapes are those of the table."""
    assert tuple(arrays) == FILES[file]
    for name, array in arrays.items():
        kind, shape = FIELDS[name]
        assert array.shape == (len(arrays["imgname"]), *shape), name
        assert array.dtype.kind == kind if kind in "UO" else array.dtype == np.dtype(kind), name


def refused(capsys, module: str, source: Path, out: Path, *flags: str) -> str:
    """What a converter says when it ends with exit code 1; it must have written nothing."""
    with pytest.raises(SystemExit) as stop:
        convert(module, source, out, *flags)
    assert stop.value.code == 1
    assert not out.exists() or not list(out.iterdir())
    message, doctor = capsys.readouterr().err.strip().rsplit("\n", 1)
    assert doctor == DOCTOR
    assert message.startswith(f"python -m datasets.preprocess.{module}: ")
    assert len(message.splitlines()) == 1 and re.search(r"(\.|requirements-datasets\.txt)$", message), message
    return message


def rows24(rows: dict[int, tuple[float, ...]], width: int = 3) -> np.ndarray:
    """[24,width] with the given rows, zero elsewhere."""
    joints = np.zeros((24, width))
    for row, values in rows.items():
        joints[row] = values
    return joints
