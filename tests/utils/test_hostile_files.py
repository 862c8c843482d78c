"""Files made to run code, to end the interpreter or to exhaust memory: each is refused, by errors of ours."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import struct
import subprocess
import tracemalloc
import zipfile
from pathlib import Path

import fuzz_files
import numpy as np
import pytest
import scipy.io
import torch
from fuzz_files import failures, hostile_files, rewritten, run_child, saved

from utils.config import ConfigError, load_tree, parse_yaml
from utils.io import (
    LIMIT_VARIABLE,
    DataFileError,
    load_json,
    load_mat,
    load_npy,
    load_npz,
    load_torch,
    read_pickle,
)

# A dtype of objects whose state says that it holds none: bytes of the file would become addresses of objects.
POINTERS = b"cnumpy\ndtype\n(VO8\nI00\nI01\ntR(I3\nV|\nNNNI-1\nI-1\nI0\ntb"
HIDDEN = b"cnumpy\ndtype\n(VV8\nI00\nI01\ntR(I3\nV|\nN(Va\nt}Va\n(" + POINTERS + b"I0\ntsI-8\nI1\nI0\ntb"
ADDRESS = b"c_codecs\nencode\n(VAAAAAAAA\nVlatin1\ntR"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
ATTACKS = {
    f"{form} of {name}": content
    for name, dtype in (("pointers", POINTERS), ("hidden pointers", HIDDEN))
    for form, content in {
        "scalar": b"cnumpy.core.multiarray\nscalar\n(" + dtype + ADDRESS + b"tR",
        "array": ARRAY + b"(I1\n(I1\nt" + dtype + b"I00\n" + ADDRESS + b"tb",
        "buffer": b"cnumpy.core.numeric\n_frombuffer\n(" + ADDRESS + dtype + b"(I1\ntVC\ntR",
    }.items()
}
HASH_ZERO = 2**61 - 1  # every multiple of it has the hash 0
HEADER = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"


def write_pickle(folder: Path, content: bytes, suffix: str) -> Path:
    """A file whose pickle makes one value by `content`, text opcodes."""
    path, raw = folder / f"a{suffix}", b"\x80\x02" + content + b"."
    if suffix == ".npz":
        raw = b"\x93NUMPY\x01\0" + struct.pack("<H", len(HEADER)) + HEADER + raw
    if suffix == ".pkl":
        path.write_bytes(raw)
    else:
        member = "data.pkl" if suffix == ".pt" else "o.npy"
        good = saved(lambda f: torch.save({"w": torch.zeros(3)}, f) if suffix == ".pt" else np.savez(f, o=np.zeros(1)))
        path.write_bytes(rewritten(good, lambda name, data: raw if name.endswith(member) else data))
    return path


READ = {".pkl": read_pickle, ".npz": lambda path: load_npz(path, objects=True), ".pt": load_torch}


@pytest.mark.parametrize("suffix", READ)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_file_changes_a_dtype(tmp_path, attack, suffix):
    path = write_pickle(tmp_path, ATTACKS[attack], suffix)
    with pytest.raises(DataFileError, match="neither numbers nor text|a damaged array of objects"):
        READ[suffix](path)
    assert np.dtype("O").hasobject and np.dtype("O8", False, True).hasobject


@pytest.mark.parametrize("suffix", READ)
def test_the_same_sentences_give_arrays_where_the_dtype_is_plain(tmp_path, suffix):
    plain = POINTERS.replace(b"VO8", b"Vu1").replace(b"V|", b"V<")
    content = ATTACKS["array of pointers"].replace(POINTERS, plain).replace(b"(I1\n(I1\nt", b"(I1\n(I8\nt")
    if suffix != ".npz":
        np.testing.assert_array_equal(READ[suffix](write_pickle(tmp_path, content, suffix)), np.full(8, 65, np.uint8))


@pytest.mark.parametrize("suffix", [".pkl", ".pt"])
@pytest.mark.parametrize("name", ["numpy\ndtype", "_codecs\nencode", "chumpy.ch\nCh", "collections\nOrderedDict"])
@pytest.mark.parametrize("state", ["}V__setstate__\nNs", "N}V__code__\nNs\x86"])
def test_no_state_is_given_to_a_name(tmp_path, name, state, suffix):
    with pytest.raises(DataFileError, match="a state for a Name"):
        READ[suffix](write_pickle(tmp_path, f"c{name}\n{state}b".encode("latin1"), suffix))


@pytest.mark.parametrize(
    "content",
    [
        b")" + b"\x85" * 100_000 + b"}" + b"q\x000h\x00" + b"2Ns",  # no dictionary below
        b"}(" + b")" + b"\x85" * 100_000 + b"Nu",  # a key whose hash would use up the stack
        b"}(K\x01" + b"\x85q\x00h\x00\x86q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Nu",  # ... or all time
        b"](" * 50_000 + b"e" * 50_000,
        b"]q\x00h\x00a",  # a list in itself
        b"\x8b\x00\x00\x01\x00" + b"\xff" * 2**16,  # a number of 2^19 bits
        b"L" + b"9" * 5000 + b"L\n",
        b"(" * 1000 + b"1" * 1001,
        b"\x82\x01",  # an entry of the extension registry
        b"X\xff\xff\xff\xff",
        b"\x8e" + b"\xff" * 8,
        b"\x97",
        b"}(" + b"".join(b"\x8a\x0c" + (k * HASH_ZERO).to_bytes(12, "little") + b"N" for k in (9, 10)) + b"u",
        b"".join(b"Np%d\n" % (k * HASH_ZERO) for k in range(100, 102)),  # places in the memo of one hash
        b"}(K\x01K\x02\x86Nu",  # a file chooses the hashes of tuples of numbers, too
    ],
)
def test_pickles_that_would_end_the_interpreter(tmp_path, content):
    for suffix in READ:
        with pytest.raises(DataFileError):
            READ[suffix](write_pickle(tmp_path, content, suffix))


def tensor(offset: int, size: tuple, stride: tuple, count: int = 3) -> bytes:
    """Opcodes of a tensor over a storage of the file."""
    name = b"ctorch\nFloatStorage\n"
    storage = b"(Vstorage\n" + name + b"V0\nVcpu\n" + b"I%d\ntQ" % count
    numbers = (pickle.dumps(value, 2)[2:-1] for value in (offset, size, stride))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"".join(numbers) + b"I00\nNtR"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tensor(0, (4,), (1,)), "beyond its storage"),
        (tensor(3, (1,), (1,)), "beyond its storage"),
        (tensor(0, (2, 2), (2, 1)), "beyond its storage"),
        (tensor(0, (2,), (-1,)), "impossible shape"),
        (tensor(-1, (1,), (1,)), "impossible shape"),
        (tensor(0, (2,), ()), "impossible shape"),
        (tensor(0, (2**63,), (0,)), "impossible shape"),
        (tensor(0, (1,) * 40, (1,) * 40), "impossible shape"),
        (tensor(0, (2**40,), (0,)), "bytes of memory"),
        (tensor(0, (2**40, 2**40), (0, 0)), "bytes of memory"),
        (tensor(0, (3,), (1,), count=4), "a storage of 16 bytes has 12 in the file"),
        (tensor(0, (3,), (1,), count=2**40), "bytes of memory"),
    ],
)
def test_tensors_stay_within_their_storage(tmp_path, content, reason):
    with pytest.raises(DataFileError, match=reason):
        load_torch(write_pickle(tmp_path, content, ".pt"))
    assert load_torch(write_pickle(tmp_path, tensor(1, (1, 2), (2, 1)), ".pt")).shape == (1, 2)


def test_truth_values_and_characters_are_what_numpy_takes_for_granted(tmp_path):
    """Counted as they are, truth values above 1 make NumPy write past the end of an array."""
    np.save(tmp_path / "a.npy", np.array([True, False]))
    raw = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(raw[:-2] + b"\x02\xff")
    flags = load_npy(tmp_path / "a.npy")
    assert list(flags.view(np.uint8)) == [1, 1] and flags.sum() == 2
    raw = saved(lambda f: torch.save({"w": torch.tensor([True])}, f))
    (tmp_path / "a.pt").write_bytes(rewritten(raw, lambda name, data: b"\x07" if name.endswith("data/0") else data))
    assert load_torch(tmp_path / "a.pt")["w"].view(torch.uint8).item() == 1
    raw = saved(lambda f: torch.save({"w": torch.zeros(2, dtype=torch.uint16)}, f))
    (tmp_path / "a.pt").write_bytes(rewritten(raw, lambda name, data: data.replace(b"uint16", b"bool")))
    with pytest.raises(DataFileError, match="truth values in a storage of another type"):
        load_torch(tmp_path / "a.pt")
    np.save(tmp_path / "b.npy", np.array(["abc"]))
    raw = (tmp_path / "b.npy").read_bytes()
    (tmp_path / "b.npy").write_bytes(raw[:-4] + b"\xff" * 4)
    with pytest.raises(DataFileError, match="impossible characters"):
        load_npy(tmp_path / "b.npy")


@pytest.fixture
def little(monkeypatch):
    """Files may take 4 MB."""
    monkeypatch.setenv(LIMIT_VARIABLE, "4000000")


@contextlib.contextmanager
def peak_below(limit: int):
    """Inside, no more than `limit` bytes are allocated at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_a_place_in_the_memo_takes_no_memory(tmp_path):
    path = write_pickle(tmp_path, b"Nr\xff\xff\xff\x0f", ".pkl")
    with peak_below(1_000_000):
        assert read_pickle(path) is None


def sparse(rows: int) -> bytes:
    """Opcodes of an empty csr matrix of one column."""
    state = {"_shape": (1, rows), "data": np.zeros(0, "f4"), "indices": np.zeros(0, "i4"), "indptr": np.zeros(2, "i4")}
    return b"cscipy.sparse\ncsr_matrix\n)\x81" + pickle.dumps(state, 2)[2:-1] + b"b"


MANY = {
    "sparse": b"(" + 40 * sparse(50_000) + b"t",
    "lists": b"(" + b"]" * 100_000 + b"t",
    "sets": b"(" + b"\x8f" * 100_000 + b"t",
    "memo": b"N" + b"\x94" * 100_000,
    "marks": b"(" * 100_000 + b"N",
    "texts": b"(X\x10\x27\0\0" + b"x" * 10_000 + b"q\x00" + b"0c_codecs\nencode\nh\x00\x85R" * 500 + b"t",
}


def test_calls_do_not_multiply_their_arguments(tmp_path):
    """Four bytes a call, each of which would keep a copy of 10,000 values."""
    call = b"ctorch._utils\n_rebuild_tensor\nq\x00(" + b"N" * 10_000 + b"tq\x01" + b"h\x00h\x01R" * 1000
    path = write_pickle(tmp_path, call, ".pt")
    with peak_below(4_000_000), pytest.raises(DataFileError, match="is not a readable checkpoint"):
        load_torch(path)


@pytest.mark.parametrize("kind", MANY)
def test_many_small_things_sum_up(tmp_path, little, kind):
    path = write_pickle(tmp_path, MANY[kind], ".pkl")
    with peak_below(10_000_000), pytest.raises(DataFileError, match=f"at most 4,000,000 .* set {LIMIT_VARIABLE}"):
        read_pickle(path)


@pytest.fixture(scope="module")
def bombs(tmp_path_factory) -> Path:
    """A folder of files of a few kB that need 8 MB."""
    folder = tmp_path_factory.mktemp("bombs")
    zeros = np.zeros(10**6)
    np.savez_compressed(folder / "a.npz", a=zeros)
    np.savez_compressed(folder / "b.npz", **{name: zeros[:90_000] for name in "abcdefgh"})
    scipy.io.savemat(folder / "a.mat", {"a": zeros}, do_compression=True)
    scipy.io.savemat(folder / "cells.mat", {"a": np.array([zeros[:0]] * 10**4 + [""], object)}, do_compression=True)
    raw = saved(lambda f: torch.save({"model": {"w": torch.zeros(2 * 10**6)}}, f))
    (folder / "a.pt").write_bytes(rewritten(raw, lambda name, data: data, zipfile.ZIP_DEFLATED))
    (folder / "a.json").write_text("[" + "{}," * 30_000 + "{}]")
    (folder / "a.npy").write_bytes(saved(lambda f: np.save(f, zeros[:1])).replace(b"(1,), }      ", b"(1000000,), }"))
    return folder


READERS = {".npz": load_npz, ".mat": load_mat, ".pt": load_torch, ".json": load_json, ".npy": load_npy}


@pytest.mark.parametrize("name", ["a.npz", "b.npz", "a.mat", "cells.mat", "a.pt", "a.json", "a.npy"])
def test_small_files_do_not_take_more_than_their_budget(bombs, little, name):
    path = bombs / name
    assert path.stat().st_size < 100_000
    said = f"{name}.* needs .* bytes of memory or more, at most 4,000,000"
    with peak_below(6_000_000), pytest.raises(DataFileError, match=said):
        READERS[path.suffix](path)


def test_the_budget_can_be_raised_by_the_user(bombs, monkeypatch):
    path = bombs / "a.npz"
    monkeypatch.setenv(LIMIT_VARIABLE, "9000000")
    assert load_npz(path)["a"].shape == (10**6,)
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(DataFileError, match="expected a number of bytes"):
        load_npz(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a0 1\n" + "".join(f"b{i}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(20)), "more than 100,000 values"),
        ("&a [*a]", "more than 100,000 values"),
        ("[" * 500, "nested too deeply"),
        ("a: !!timestamp foo", "is not valid YAML"),
        ("? [a, b]\n: 1", "is not valid YAML"),
        ("a: 0x" + "f" * 5000, "too many digits"),
        ("a: " + "b" * 300_000, "more than 262,144 characters"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)  # fmt: skip
def test_settings_cannot_grow_or_run(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_yaml(text, "It")
    assert len(str(caught.value)) < 700
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_tree(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", "\ud800", '{"a": 1', ""])
def test_damaged_json(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataFileError, match="is not valid JSON") as caught:
        load_json(tmp_path / "a.json")
    assert len(str(caught.value)) < 500


def test_headers_of_arrays_are_not_evaluated(tmp_path):
    for descr in ("'|O'", "[('a', '<f8')]", "'<M8[ns]'", "'|V8'", "-" * 9000 + "1", "(" * 4000):
        head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n".encode()
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + b"A" * 8)
        with pytest.raises(DataFileError):
            load_npy(tmp_path / "a.npy")


def test_the_shape_in_a_header_is_read_in_one_pass(tmp_path):
    for shape in ("(" + "1" * 2000 + "!", "(" + "1 " * 2000 + ")", "(" + "1," * 3000 + "x)"):
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}".encode()
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head)
        with pytest.raises(DataFileError, match="plain array"):
            load_npy(tmp_path / "a.npy")
    for shape in ("()", "(3,)", "(3L, 0)", "( 2 ,3 )"):
        head = f"{{'descr': '<u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
        body = b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + b"A" * 6
        (tmp_path / "a.npy").write_bytes(body)
        assert load_npy(tmp_path / "a.npy").shape == tuple(int(n) for n in re.findall("[0-9]+", shape))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs child processes that share what is imported")
def test_hostile_files_end_with_errors_of_ours(tmp_path):
    failed, ended = failures(hostile_files(220, seed=11), tmp_path)
    assert failed == {} and sum(ended.values()) == 220
    assert {kind.split()[0] for kind in ended} >= {".pkl", ".npz", ".pt", ".mat"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs child processes that share what is imported")
@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda path: subprocess.run(["true"], check=False), "77"),
        (lambda path: path.write_text("x"), "77"),
        (lambda path: os.kill(os.getpid(), 9), "-9"),
        (lambda path: [][0], "IndexError"),
        (lambda path: bytearray(2**32), "MemoryError"),
    ],
)
def test_the_fuzz_would_see_it(tmp_path, monkeypatch, act, said):
    monkeypatch.setitem(fuzz_files.READERS, ".pkl", (act,))
    lines, why = run_child([tmp_path / "a.pkl"])
    assert said in why, lines
