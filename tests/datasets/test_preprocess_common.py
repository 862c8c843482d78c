"""What all converters of data sets share: fields, counting, writing, MATLAB 7.3 files, command lines."""

from __future__ import annotations

import importlib

import h5py
import numpy as np
import pytest
from converters import check_fields

from datasets.labels.files import FIELDS, FILES, Rows, save_labels
from datasets.preprocess.coco import box_of_xywh
from datasets.preprocess.common import box_of_points
from datasets.preprocess.hdf5 import open_hdf5
from utils.io import DataFileError, load_npz

CONVERTERS = ("coco", "dp_coco", "h36m", "lsp", "lsp_orig", "lspet", "mpi_inf_3dhp", "mpii", "pw3d")


@pytest.mark.parametrize("module", CONVERTERS)
@pytest.mark.parametrize("argv", [[], ["--source", "nowhere"], ["--sourc", "."]])
def test_command_lines_are_refused_with_exit_code_1(capsys, module, argv):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"datasets.preprocess.{module}").main(argv)
    assert stop.value.code == 1 and "Traceback" not in capsys.readouterr().err


def item(file, **more):
    """An item of zeros with a box."""
    values = {"U": "a/b.jpg", "O": {"dp_x": [1.0]}}
    row = {name: values.get(kind, np.zeros(shape)) for name, (kind, shape) in FIELDS.items()}
    return {name: row[name] for name in FILES[file]} | {"scale": 1.5} | more


@pytest.mark.parametrize("file", FILES)
def test_files_hold_the_fields_that_are_loaded(tmp_path, file):
    rows = Rows(file)
    for number in range(3):
        assert rows.add(**item(file, imgname="x" * number))
    save_labels(tmp_path / file, rows.arrays())
    data = load_npz(tmp_path / file, objects="dp_annot" in FILES[file])
    check_fields(file, data)
    assert list(data["imgname"]) == ["", "x", "xx"]
    check_fields(file, Rows(file).arrays())


def test_items_are_kept_or_counted():
    rows = Rows("h36m_valid_protocol1.npz")
    assert rows.add(**item(rows.file))
    assert not rows.add(**item(rows.file, scale=0))
    assert not rows.add(**item(rows.file, center=(np.inf, 0)))
    rows.leave_out("that are unwanted", 1200)
    rows.leave_out("that never came", 0)
    assert rows.summary().splitlines() == [
        "h36m_valid_protocol1.npz: kept 1 of 1,203",
        "  left out 1,200 that are unwanted",
        "  left out 1 without a box",
        "  left out 1 with a number that is not finite",
    ]
    with pytest.raises(ValueError, match="'center'"):
        rows.add(**item(rows.file, center=(1, 2, 3)))
    with pytest.raises(TypeError, match="has the fields"):
        rows.add(imgname="a")


def test_boxes_by_hand():
    center, scale = box_of_xywh([10, 20, 50, 100])
    np.testing.assert_array_equal(center, [35, 70])
    assert scale == pytest.approx(0.6)
    center, scale = box_of_points(np.array([[10, 20, 9], [60, 120, 9]]))
    np.testing.assert_array_equal(center, [35, 70])
    assert scale == pytest.approx(0.6)
    assert box_of_points(np.zeros((0, 2)))[1] == 0
    assert box_of_xywh([0, 0, -3, 5])[1] == 0 and box_of_xywh([0, 0, 5, float("nan")])[1] == 0
    with pytest.raises(ValueError):
        box_of_xywh([1, 2, 3])


@pytest.mark.parametrize("value", [{1: 2}, {"a": (1, 2)}, {"a": np.float64(1)}, {"a": [print]}])
def test_only_plain_values_are_pickled(tmp_path, value):
    rows = Rows("dp_coco_2014_train.npz")
    rows.add(**item(rows.file, dp_annot=value))
    with pytest.raises(TypeError, match="'dp_annot' holds more than numbers"):
        save_labels(tmp_path / "a.npz", rows.arrays())
    assert not list(tmp_path.iterdir())


def test_arrays_and_cells(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = np.arange(6).reshape(2, 3)
        for name, shape in (("row", (2, 1)), ("column", (1, 2))):
            cells = file.create_dataset(name, shape, dtype=h5py.ref_dtype)
            for index, at in enumerate(np.ndindex(shape)):
                cells[at] = file.create_dataset(f"#refs#/{name}{index}", data=np.full(3, index)).ref
    with open_hdf5(path) as file:
        np.testing.assert_array_equal(file.array("x"), [[0, 1, 2], [3, 4, 5]])
        for name in ("row", "column"):
            assert file.num_cells(name) == 2
            np.testing.assert_array_equal(file.cell(name, 1), [1, 1, 1])
            with pytest.raises(DataFileError, match=name):
                file.cell(name, 2)


def test_what_lies_elsewhere_or_is_no_array_is_refused(tmp_path):
    with h5py.File(tmp_path / "secret.mat", "w") as file:
        file["x"] = np.arange(3.0)
    (tmp_path / "raw.bin").write_bytes(bytes(24))
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file["link"] = h5py.ExternalLink("secret.mat", "x")
        file["soft"] = h5py.SoftLink("/x")
        file["x"] = np.arange(3.0)
        file.create_dataset("raw", (3,), "f8", external=[(str(tmp_path / "raw.bin"), 0, 24)])
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.mat"), "x", (3,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (2**20, 2**20), "f8", chunks=(64, 64))
        file["text"] = "abc"
        file.create_group("group")
        nowhere = file.create_dataset("nowhere", (1, 1), dtype=h5py.ref_dtype)
        assert not nowhere[0, 0]
    with open_hdf5(path) as file:
        for name in ("link", "soft", "raw", "virtual", "huge", "text", "group", "absent", "nowhere"):
            with pytest.raises(DataFileError, match=f"'{name}' of .*a.mat cannot be read|a.mat needs .* bytes"):
                file.array(name)
        for name in ("x", "group", "nowhere"):
            with pytest.raises(DataFileError, match=name):
                file.cell(name, 0)
