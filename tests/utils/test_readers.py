"""Files of unknown origin: what is read, what is refused and by which name; writing whole or not at all."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from fuzz_files import Python2Pickler

from utils.io import (
    DataFileError,
    UnsafeFileError,
    load_mat,
    load_npy,
    load_npz,
    load_torch,
    read_pickle,
    save_npz_atomic,
)


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.fixture
def trap(tmp_path):
    """A file that a hostile pickle would create; afterwards it must not be there."""
    file = tmp_path / "trap"
    yield file
    assert not file.exists(), "code from a data file was run"


def dump(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_survive(tmp_path, protocol):
    rng = np.random.default_rng(0)
    value = {
        "matrix": rng.standard_normal((5, 3)),
        "fortran": np.asfortranarray(rng.standard_normal((4, 2)).astype(np.float32)),
        "ints": np.arange(4, dtype=np.uint32),
        "nested": [1, 2.5, "text", None, True, (3, {"a": np.float32(2)})],
        "ordered": OrderedDict(a=1),
        "set": {1, 2},
        "bytes": b"\x00\xff",
    }
    back = read_pickle(dump(tmp_path / "a.pkl", value, protocol))
    for key in ("matrix", "fortran", "ints"):
        assert back[key].dtype == value[key].dtype
        np.testing.assert_array_equal(back[key], value[key])
    assert back["nested"] == value["nested"] and back["set"] == {1, 2} and back["bytes"] == b"\x00\xff"
    assert back["ordered"] == {"a": 1}


@pytest.mark.parametrize("kind", [scipy.sparse.csc_matrix, scipy.sparse.csr_matrix])
def test_sparse_matrices_become_dense(tmp_path, kind):
    dense = scipy.sparse.random(7, 30, 0.2, random_state=0).toarray()
    back = read_pickle(dump(tmp_path / "a.pkl", {"m": kind(dense)}))
    np.testing.assert_array_equal(back["m"], dense)


@pytest.mark.parametrize(("change", "said"), [("indices", "outside its shape"), ("shape", "bytes of memory")])
def test_sparse_matrices_that_scipy_would_trust_are_refused(tmp_path, change, said):
    matrix = scipy.sparse.csc_matrix(np.eye(4)) if change == "indices" else scipy.sparse.csr_matrix((10**7, 10**7))
    matrix.indices[2:3] = 1_000_000
    with pytest.raises(DataFileError, match=said):
        read_pickle(dump(tmp_path / "a.pkl", matrix))


def test_python2_files_with_chumpy_arrays_are_read_without_chumpy(tmp_path, monkeypatch):
    """The official files: Python 2 byte strings, chumpy leaves and selections, a sparse regressor."""
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    leaf_type = type("Ch", (), {"__module__": "chumpy.ch"})
    select_type = type("Select", (), {"__module__": "chumpy.reordering"})
    sys.modules["chumpy.ch"].Ch = leaf_type
    sys.modules["chumpy.reordering"].Select = select_type
    values = np.random.default_rng(1).standard_normal((6, 4))
    leaf, select = leaf_type(), select_type()
    leaf.x = values
    select.a, select.idxs, select.preferred_shape = leaf, np.array([3, 1, 2, 0]), (2, 2)
    with (tmp_path / "a.pkl").open("wb") as file:
        Python2Pickler(file, protocol=2).dump({"leaf": leaf, "select": select, "name": "lbs"})
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, name)
    back = read_pickle(tmp_path / "a.pkl")
    np.testing.assert_array_equal(back["leaf"], values)
    np.testing.assert_array_equal(back["select"], values.ravel()[[3, 1, 2, 0]].reshape(2, 2))
    assert back["name"] == "lbs"
    assert "chumpy" not in sys.modules


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, r"(posix|nt)\.system"), (eval, "eval"), (exec, "exec"), (getattr, "getattr"), (open, "open")],
)
def test_a_call_is_refused_by_name(tmp_path, trap, protocol, function, name):
    hostile = {"v_template": np.zeros(3), "x": Calls(function, f"touch {trap}")}
    with pytest.raises(UnsafeFileError, match=name) as caught:
        read_pickle(dump(tmp_path / "a.pkl", hostile, protocol))
    assert str(tmp_path / "a.pkl") in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"(S'touch %s'\nios\nsystem\n.", "os.system"),  # INST
        (b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.", "_reconstruct.__globals__"),
        (b"cchumpy.os\nsystem\n(S'touch %s'\ntR.", None),  # a stand-in is made, nothing is called
        (b"\x80\x02cbuiltins\nobject\ncsubprocess\nPopen\n\x86\x81.", "subprocess.Popen"),
    ],
)
def test_hand_written_pickles(tmp_path, trap, raw, name):
    path = tmp_path / "a.pkl"
    path.write_bytes(raw.replace(b"%s", str(trap).encode()))
    if name is None:
        assert read_pickle(path) is None
    else:
        with pytest.raises(UnsafeFileError, match=name):
            read_pickle(path)


def test_reconstructor_builds_stand_ins_only(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.")
    with pytest.raises(DataFileError):
        read_pickle(path)


def nested(depth, innermost):
    for _ in range(depth):
        innermost = [innermost, innermost]
    return innermost


def test_references_to_references_are_followed_once(tmp_path):
    value = nested(20, 1.0)
    assert read_pickle(dump(tmp_path / "a.pkl", value)) == value
    back = read_pickle(dump(tmp_path / "a.pkl", [value, value]))
    assert back[0] is back[1]
    for hostile in (nested(40, 1), nested(20, np.zeros(1000)), nested(20, {"a": np.zeros(1000)})):
        with pytest.raises(DataFileError, match="bytes of memory"):
            read_pickle(dump(tmp_path / "a.pkl", hostile))


class Rebuilt:
    """Pickles as an array of objects with a shape and content of one's choice."""

    def __init__(self, shape, content):
        self.shape, self.content = shape, content

    def __reduce__(self):
        rebuild, args, _ = np.empty(0, object).__reduce__()
        return rebuild, args, (1, self.shape, np.dtype(object), False, self.content)


@pytest.mark.parametrize(
    "hostile",
    [
        Calls(np.ndarray, (2**28,), "O"),
        Calls(np.empty(0).__reduce__()[0], np.ndarray, (2**28,), "O"),
        Rebuilt((1000,), [1]),
    ],
    ids=["called", "rebuilt", "short"],
)
def test_arrays_larger_than_their_content_are_refused(tmp_path, hostile):
    """NumPy itself would reserve the memory, or read past the end of the list."""
    with pytest.raises(DataFileError, match="array"):
        read_pickle(dump(tmp_path / "a.pkl", hostile))
    torch.save({"model": {}, "x": hostile}, tmp_path / "a.pt")
    with pytest.raises(DataFileError):
        load_torch(tmp_path / "a.pt")


def test_npz_round_trip(tmp_path):
    save_npz_atomic(tmp_path / "deep" / "a.npz", a=np.eye(2, dtype=np.float16), names=["x", "yz"], n=3)
    back = load_npz(tmp_path / "deep" / "a.npz")
    assert back["a"].dtype == np.float16 and list(back["names"]) == ["x", "yz"] and back["n"] == 3
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.npz"]


def test_only_what_is_wanted_is_read_and_never_too_much(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, small=np.arange(3), large=np.zeros(100))
    assert list(load_npz(path, only=("small", "absent"))) == ["small"]
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\x01\x02")  # the directory's entry of `large`
    raw[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2)  # claims 4 GiB
    path.write_bytes(raw)
    with pytest.raises(DataFileError, match="at most 4,294,967,296"):
        load_npz(path)
    np.testing.assert_array_equal(load_npz(path, only=("small",))["small"], np.arange(3))


def test_object_arrays_are_refused_unless_asked_for(tmp_path):
    labels = np.array([{"dp_x": [1.5], "bbox": (1, 2)}, {}], object)
    np.savez(tmp_path / "a.npz", labels=labels, n=np.arange(2))
    with pytest.raises(UnsafeFileError, match="'labels'"):
        load_npz(tmp_path / "a.npz")
    back = load_npz(tmp_path / "a.npz", objects=True)
    assert back["labels"][0] == labels[0] and back["labels"].shape == (2,)


def test_hostile_object_arrays_are_refused_by_name(tmp_path, trap):
    hostile = np.empty(1, object)
    hostile[0] = Calls(os.system, f"touch {trap}")
    np.savez(tmp_path / "a.npz", labels=hostile)
    np.save(tmp_path / "a.npy", hostile)
    with pytest.raises(UnsafeFileError, match="system"):
        load_npz(tmp_path / "a.npz", objects=True)
    with pytest.raises(UnsafeFileError, match="pickled Python objects"):
        load_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 broken"])
def test_damaged_array_files(tmp_path, content):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    for read in (load_npy, load_npz, load_mat, load_torch):
        with pytest.raises(DataFileError, match="a.bin"):
            read(path)


def test_objects_are_not_written(tmp_path):
    with pytest.raises(TypeError, match="'a'"):
        save_npz_atomic(tmp_path / "a.npz", a=[{}])
    assert not list(tmp_path.iterdir())


def training_state():
    """The layout of 2020 with what its trainer left in: NumPy numbers, lists, optimizer state."""
    weights = OrderedDict(w=torch.randn(3, 2), n=torch.tensor(4))
    moments = {0: {"step": 1, "exp_avg": torch.ones(2)}}
    groups = [{"lr": np.float64(1e-4), "betas": (0.9, 0.999), "params": [0]}]
    return {
        "model": weights, "optimizer": {"state": moments, "param_groups": groups}, "epoch": np.int64(3),
        "batch_idx": 2, "batch_size": 16, "dataset_perm": [np.int64(i) for i in (2, 0, 1)],
        "total_step_count": np.int32(7), "seen": np.arange(3.0),
    }  # fmt: skip


@pytest.mark.parametrize("zip_form", [True, False])
def test_checkpoints_with_numpy_numbers_are_read(tmp_path, zip_form):
    state = training_state()
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=zip_form)
    back = load_torch(tmp_path / "a.pt")
    assert torch.equal(back["model"]["w"], state["model"]["w"])
    assert back["epoch"] == 3 and back["dataset_perm"] == [2, 0, 1]
    assert back["optimizer"]["param_groups"][0]["lr"] == 1e-4
    np.testing.assert_array_equal(back["seen"], state["seen"])


@pytest.mark.parametrize("zip_form", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(("function", "name"), [(os.system, "system"), (eval, "eval")])
def test_hostile_checkpoints_are_refused_by_name(tmp_path, trap, zip_form, protocol, function, name):
    hostile = {"model": {"w": torch.ones(2)}, "x": Calls(function, f"touch {trap}")}
    path = tmp_path / "a.pt"
    torch.save(hostile, path, _use_new_zipfile_serialization=zip_form, pickle_protocol=protocol)
    if not zip_form and protocol == 4:  # the old form in a protocol torch never used for it
        with pytest.raises(DataFileError):
            load_torch(path)
    else:
        with pytest.raises(UnsafeFileError, match=name):
            load_torch(path)


@pytest.mark.parametrize("zip_form", [True, False])
def test_cut_checkpoints_are_data_file_errors(tmp_path, zip_form):
    torch.save(training_state(), tmp_path / "a.pt", _use_new_zipfile_serialization=zip_form)
    raw = (tmp_path / "a.pt").read_bytes()
    for part in (0.02, 0.3, 0.6, 0.95):
        (tmp_path / "b.pt").write_bytes(raw[: int(len(raw) * part)])
        with pytest.raises(DataFileError, match="b.pt"):
            load_torch(tmp_path / "b.pt")
