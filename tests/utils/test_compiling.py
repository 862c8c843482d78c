"""Compiled functions: kept where there is a folder, compiled anew where there is none or it holds damage."""

from __future__ import annotations

import importlib.util

import numba
import pytest

from utils import compiling

SOURCE = "from utils.compiling import compiled\n@compiled()\ndef double(x):\n    return 2 * x\n"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Gives the function as a new process would see it; its cache lies in tmp_path/cache."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_warned", set())
    path = tmp_path / "module_of_a_test.py"
    path.write_text(SOURCE)

    def new():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.double

    return new


def test_it_is_kept(load, tmp_path, caplog):
    assert load()(21) == 42
    again = load()
    assert again(21) == 42 and sum(again.stats.cache_hits.values()) == 1
    assert not caplog.records


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"\x80\x04damage", b"cnowhere\nnothing\n."])
def test_damage_is_compiled_over(load, tmp_path, caplog, ending, damage):
    load()(21)
    (file,) = tmp_path.glob(f"cache/*/*.{ending}")
    file.write_bytes(damage)
    assert load()(21) == 42 and "is damaged or cannot be read" in caplog.text
    again = load()
    assert again(21) == 42 and sum(again.stats.cache_hits.values()) == 1


def test_without_a_folder_it_works(load, monkeypatch, caplog):
    monkeypatch.setattr(compiling, "_TolerantCache", lambda function: (_ for _ in ()).throw(RuntimeError("no locator")))
    assert load()(21) == load()(4.5) * 14 / 3 == 42
    assert caplog.text.count("NUMBA_CACHE_DIR can name one") == 1
