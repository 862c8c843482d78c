"""Writing: what may be replaced, what a kill at any moment leaves, and how a full disk is reported."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.io import (
    WriteError,
    atomic_path,
    atomic_write,
    files_together,
    load_npz,
    overwrite_problem,
    require_free,
    save_json_atomic,
    save_npz_atomic,
    writable_folder,
)
from utils.io import writers as safe_write
from utils.io.marks import DEMO, EVAL, is_marked, marked_image
from utils.io.temporary import LEFTOVER, remove_leftovers, temporary_name


def test_only_results_are_replaced_and_only_on_demand(tmp_path):
    mine, ours = tmp_path / "mine.npz", tmp_path / "ours.npz"
    np.savez(mine, a=1)
    save_npz_atomic(ours, DEMO, a=np.arange(3))
    assert overwrite_problem(tmp_path / "new.npz", False, DEMO) is None
    assert "--overwrite replaces" in overwrite_problem(ours, False, DEMO)
    assert overwrite_problem(ours, True, DEMO) is None
    for overwrite in (False, True):
        assert "none of our results" in overwrite_problem(mine, overwrite, DEMO)
        assert "none of our results" in overwrite_problem(ours, overwrite, EVAL)  # of another command
        assert "is a folder" in overwrite_problem(tmp_path, overwrite, DEMO)
        assert "is a device" in overwrite_problem(os.devnull, overwrite, DEMO)
    with pytest.raises(FileExistsError, match="mine.npz' is none of our results"):
        require_free(mine, True, DEMO)
    assert load_npz(ours)["a"].tolist() == [0, 1, 2]


def test_links_are_replaced_themselves_and_never_what_they_lead_to(tmp_path):
    target, link, lost = tmp_path / "target", tmp_path / "link", tmp_path / "lost"
    target.write_text(DEMO)
    link.symlink_to(target), lost.symlink_to(tmp_path / "nowhere")
    assert "is there" in overwrite_problem(link, False, DEMO) and "none of our" in overwrite_problem(lost, True, DEMO)
    with atomic_write(link, "w") as file:
        file.write("new")
    assert target.read_text() == DEMO and link.read_text() == "new" and not link.is_symlink()


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_appears_in_the_meantime_is_kept(tmp_path, monkeypatch, has_links):
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    with atomic_write(tmp_path / "a", "w", replace=False) as file:
        file.write("first")
    with pytest.raises(FileExistsError, match="--overwrite"), atomic_path(tmp_path / "b", False) as path:
        path.write_text("mine")
        (tmp_path / "b").write_text("of another process")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "first", "b": "of another process"}


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    target = tmp_path / ("x" * 251 + ".txt")  # the longest name
    with atomic_write(target, "w") as file:
        file.write("first ä")
    with pytest.raises(RuntimeError), atomic_write(target, "w") as file:
        file.write("second")
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "first ä" and len(list(tmp_path.iterdir())) == 1


def test_npz_files_are_small_where_that_is_cheap_and_the_same_each_time(tmp_path):
    numbers = np.random.default_rng(0).random((3000, 3), np.float32)
    arrays = {"text": np.array("a word " * 99), "maps": np.zeros((9, 56, 56), np.uint8), "numbers": numbers}
    arrays |= {"zeros": np.zeros((500, 9)), "none": np.zeros((0, 3)), "one": np.float32(2), "turned": numbers.T}
    for name in ("a.npz", "b.npz"):
        save_npz_atomic(tmp_path / name, DEMO, **arrays)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.comment == DEMO.encode()
        stored = {info.filename for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED}
    assert stored == {"numbers.npy", "turned.npy", "none.npy", "one.npy"}
    assert (tmp_path / "a.npz").stat().st_size < 2.1 * numbers.nbytes
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = load_npz(tmp_path / "a.npz")
    for name, array in arrays.items():
        assert found[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_marked_images_are_the_same_images(tmp_path, ending):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    plain = cv2.imencode(ending, pixels)[1].tobytes()
    path = tmp_path / f"a{ending}"
    path.write_bytes(plain)
    before = np.asarray(Image.open(path))
    assert not is_marked(path, DEMO)
    path.write_bytes(marked_image(plain, DEMO))
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), before)
    np.testing.assert_array_equal(cv2.imread(str(path)), cv2.imdecode(np.frombuffer(plain, np.uint8), 1))
    assert is_marked(path, DEMO) and not is_marked(path, EVAL)


def write_set(folder, content, names=("a.npz", "a.obj", "a_result.png")):
    with files_together(folder, "a.npz") as aside:
        for name in names:
            (aside / name).write_text(content)


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def counted(name, number, end, calls):
    original = getattr(os, name)

    def call(*given, **how):
        calls.append(name)
        if len(calls) == number:
            end()
        return original(*given, **how)

    return call


def end_child():
    os._exit(9)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("number", "is_older"), [(1, False), (2, False), (3, False), *((i, True) for i in range(1, 7))]
)
def test_a_set_that_is_killed_at_any_rename_has_no_last_file_or_is_whole(tmp_path, number, is_older):
    if is_older:
        write_set(tmp_path, "old")
    child = os.fork()
    if child == 0:
        calls: list[str] = []
        for name in ("replace", "link"):
            setattr(os, name, counted(name, number, end_child, calls))
        write_set(tmp_path, "new")
        os._exit(0)
    os.waitpid(child, 0)
    left = contents(tmp_path)
    assert "a.npz" not in left or (len(left) == 3 and len(set(left.values())) == 1)
    write_set(tmp_path, "newer")
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(("a.npz", "a.obj", "a_result.png"), "newer")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("number", range(1, 7))
def test_a_set_that_is_interrupted_at_any_rename_stays_as_it_was(tmp_path, monkeypatch, number):
    write_set(tmp_path, "old")
    calls: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("replace", "link"):
            patch.setattr(os, name, counted(name, number, interrupt, calls))
        with contextlib.suppress(KeyboardInterrupt):
            write_set(tmp_path, "new")
    assert len(set(contents(tmp_path).values())) == 1 and len(list(tmp_path.iterdir())) == 3


def test_what_killed_processes_left_goes_and_nothing_else_does(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine, foreign = temporary_name(".png"), ".danet.tmp.png"
    dead = mine.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    elsewhere = [f".danet-{i:08x}-{ended.pid}-00000000.tmp.png" for i in range(2)]
    for name in (mine, foreign, dead, *elsewhere):
        assert LEFTOVER.fullmatch(name) or name == foreign
        (tmp_path / name).touch()
    os.utime(tmp_path / elsewhere[0], (0, 0))  # of another machine, long ago
    (tmp_path / dead.replace(".tmp.png", ".tmp")).mkdir()
    (tmp_path / dead.replace(".tmp.png", ".tmp") / "a.npz").touch()
    writable_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine, foreign, elsewhere[1]}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "the disk is full; make room"),
        (errno.EDQUOT, "your share of the disk is used up"),
        (errno.EROFS, "read-only; give another folder"),
        (errno.EACCES, "permission denied; give a folder"),
    ],
)
def test_a_disk_that_refuses_is_a_sentence_with_the_file_and_the_cure(tmp_path, monkeypatch, code, said):
    (tmp_path / "a.npz").write_text("old")

    def refuse(number):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(safe_write.os, "fsync", refuse)
    with pytest.raises(WriteError, match=f"a.npz' cannot be written: .*{said}"):
        save_npz_atomic(tmp_path / "a.npz", a=1)
    final = f"{tmp_path.name}/b.npz' cannot be written: .*{said}"
    with pytest.raises(WriteError, match=final), files_together(tmp_path) as aside:
        save_npz_atomic(aside / "b.npz", a=1)
    assert contents(tmp_path) == {"a.npz": "old"} and len(list(tmp_path.iterdir())) == 1


def test_paths_that_cannot_be_are_named(tmp_path):
    (tmp_path / "file").touch()
    for path, said in ((tmp_path / "file" / "a", "a part of the path"), (tmp_path / ("x" * 300), "too long")):
        with pytest.raises(WriteError, match=said), atomic_write(path) as file:
            file.write(b"")
    with pytest.raises(ValueError, match="file' cannot be written to"):
        writable_folder(tmp_path / "file")


def test_json_has_null_for_numbers_that_are_not_finite(tmp_path):
    save_json_atomic(tmp_path / "a.json", {"a": float("nan"), "b": [1.5, (float("inf"), np.float64("nan"))], "c": {}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [1.5, [None, None]], "c": {}}
