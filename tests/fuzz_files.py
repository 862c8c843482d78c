"""Hostile and damaged files by the thousand, read in child processes: each gives a value or an error of ours.

    python tests/fuzz_files.py --count 20000 --seed 1

Files are mutations of good ones and, for pickles, sentences of a grammar of opcodes. A child has little memory and
time; it dies when a file makes it start a program, open a file for writing, or ask for a socket. A failed file is kept.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse
import torch
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.body import load_learned_ratio, read_smpl_file
from utils.checkpoint import load_checkpoint
from utils.config import ConfigError, load_tree
from utils.io import (
    LIMIT_VARIABLE,
    DataFileError,
    load_json,
    load_mat,
    load_npy,
    load_npz,
    load_torch,
    read_pickle,
    safetensors_shapes,
)

MEMORY, SECONDS, BUDGET = 2**30, 20, 2**26  # of a child, for a file, of the readers
FORBIDDEN = ("os.system", "subprocess.", "os.exec", "os.posix_spawn", "os.fork", "socket.", "ctypes.", "exec",
             "compile", "import", "pickle.", "os.remove", "os.rename", "shutil.")  # fmt: skip
TRAPPED = 77


class Foreign:
    """Pickles as an object of another package."""

    def __init__(self, state: dict) -> None:
        self.__dict__.update(state)


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did: as byte strings."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, obj):
        raw = obj.encode("latin1") if isinstance(obj, str) else obj
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(obj)

    dispatch[bytes] = dispatch[str] = save_string


def pickled(value: object, protocol: int) -> bytes:
    """A pickle in which `Foreign` objects are chumpy's."""
    raw = pickle.dumps(value, protocol)
    text = f"c{Foreign.__module__}\nForeign\n".encode()
    short = b"\x8c" + bytes([len(Foreign.__module__)]) + Foreign.__module__.encode()
    return raw.replace(text, b"cchumpy.ch\nCh\n").replace(short, b"\x8c\x09chumpy.ch").replace(
        b"\x8c\x07Foreign", b"\x8c\x02Ch"
    )  # fmt: skip


def body() -> dict:
    rng = np.random.default_rng(0)
    leaf = Foreign({"x": rng.random((6, 3))})
    return {
        "v_template": leaf,
        "shapedirs": Foreign({"a": leaf, "idxs": np.arange(4), "preferred_shape": (2, 2)}),
        "J_regressor": scipy.sparse.csc_matrix(np.eye(4)),
        "f": np.zeros((5, 3), np.uint32),
        "bs_type": "lrotmin",
        "numbers": [1, 2.5, None, True, b"\xff", {1, 2}, 1 + 2j, np.float32(2), np.array(["a", "bc"])],
        "ratio": np.ones(24), "offset": np.zeros(24),
    }  # fmt: skip


def state() -> dict:
    weights = {"w": torch.ones(3, 2), "n": torch.tensor(4), "h": torch.ones(2).half(), "b": torch.tensor([True])}
    weights["view"] = torch.arange(8.0)[2:6]
    return {"model": weights, "optimizer": {"lr": np.float64(1e-4), "betas": (0.9, 0.99)}, "seen": np.arange(3.0)}


def saved(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def rewritten(raw: bytes, change: Callable[[str, bytes], bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w", packing) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def good_files() -> list[tuple[str, bytes]]:
    """Suffix and content of good files of every kind that is read."""
    labels = np.array([{"dp_x": [1.5, 2.5], "bbox": (1, 2), "m": [{"size": [2, 2]}]}, {}], object)
    arrays = {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yz"]), "t": np.array([True]), "o": labels}
    cells = {"joints": np.arange(12.0).reshape(2, 2, 3), "cells": np.array([[np.eye(2)], [np.ones(3)]], object)}
    files = [(".pkl", pickled(body(), protocol)) for protocol in range(6)]
    files += [(".npz", saved(lambda f: np.savez(f, **arrays)))]
    plain = (arrays["a"], arrays["names"], np.eye(2, dtype=">f4"))
    files += [(".npy", saved(lambda f, a=a: np.save(f, a))) for a in plain]
    old = {"_use_new_zipfile_serialization": False}
    files += [(".pt", saved(lambda f: torch.save(state(), f))), (".pt", saved(lambda f: torch.save(state(), f, **old)))]
    files += [(".mat", saved(lambda f, z=z: scipy.io.savemat(f, cells, do_compression=z))) for z in (False, True)]
    files += [(".mat", saved(lambda f: scipy.io.savemat(f, {"a": np.eye(3)}, format="4")))]
    files += [(".safetensors", save(state()["model"], {"model": "danet_s"}))]
    files += [(".yaml", b"a: &x [1, 2.5, text]\nb: {c: *x, d: 2020-01-01}\ne: !!binary aGk=\nf: 0x1f\n")]
    files += [(".json", json.dumps({"images": [{"id": 1, "file_name": "\u00e4"}], "a": [1.5, None, True]}).encode())]
    return files


NUMBERS = [0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**27, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]


def mutated(raw: bytes, rng: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, way = rng.randrange(len(data) + 1), rng.randrange(6)
        if way == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif way == 1:
            form = rng.choice("<B <H <I <Q >I >Q".split())
            size = struct.calcsize(form)
            data[at : at + size] = struct.pack(form, rng.choice(NUMBERS) % 256**size)
        elif way == 2:
            del data[at : at + rng.randrange(1, 9)]
        elif way == 3:
            start = rng.randrange(len(data) + 1)
            data[at:at] = data[start : start + rng.randrange(1, 40)]
        elif way == 4:
            data[at : at + 1] = rng.choice((b"b", b"R", b"\x81", b"0", b"2", b"(", b"t", b"e", b"u", b"N", b"]", b"}"))
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def mutated_file(suffix: str, raw: bytes, rng: random.Random) -> bytes:
    """A mutation of the file, or of what is packed in it."""
    if raw[:2] == b"PK" and rng.random() < 0.9:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            inner = [name for name in archive.namelist() if name.endswith(("data.pkl", ".npy"))]
        chosen, packing = rng.choice(inner), rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        return rewritten(raw, lambda name, data: mutated(data, rng) if name == chosen else data, packing)
    if suffix == ".mat" and raw[128:132] == b"\x0f\0\0\0" and rng.random() < 0.9:
        packed = zlib.compress(mutated(zlib.decompress(raw[136 : 136 + struct.unpack_from("<I", raw, 132)[0]]), rng))
        return raw[:132] + struct.pack("<I", len(packed)) + packed
    return mutated(raw, rng)


NAMES = [
    "numpy dtype", "numpy ndarray", "numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar", "numpy.core.numeric _frombuffer", "_codecs encode", "copy_reg _reconstructor",
    "__builtin__ object", "__builtin__ set", "__builtin__ bytearray", "builtins complex", "collections OrderedDict",
    "chumpy.ch Ch", "scipy.sparse.csc csc_matrix", "scipy.sparse csr_array", "torch FloatStorage", "torch BoolStorage",
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_parameter",
    "torch._tensor _rebuild_from_type_v2", "torch.nn.parameter Parameter", "torch Size", "torch float32",
    "torch device", "collections Counter", "torch._utils _rebuild_sparse_tensor", "torch Tensor",
]  # fmt: skip
HOSTILE = ["os system", "builtins eval", "builtins getattr", "numpy.dtypes Float64DType", "numpy matrix", "torch load"]
STATES = [
    (3, "|", None, None, None, -1, -1, 0), (3, "<", None, None, None, -1, -1, 0), (3, "|", None, ("a",), {}, -8, 1, 16),
    (3, "|", (None, (2**40,)), None, None, -8, -1, 63), (1, (3,), None, False, b"x" * 24),
    (1, (2**40,), None, False, b""),
]  # fmt: skip
PLAIN = ["O8", "f8", "U1", "V8", "S0", "", "latin1", "storage", "0", "cpu", "_shape", "data", "indices", "indptr", "x",
         "a", "idxs", b"\x01" * 24, b"", (0,), (2, 3), (2**40,), None, True, False, 1.5, float("nan"), "C"]  # fmt: skip


def sentence(rng: random.Random, depth: int = 0) -> bytes:
    """Opcodes that make one value."""
    way = rng.randrange(14) if depth < 6 else rng.randrange(5)
    inner = [sentence(rng, depth + 1) for _ in range(rng.randrange(4))] if way > 4 else []
    if way < 3:
        return pickle.dumps(rng.choice((*PLAIN, *NUMBERS)), 2)[2:-1]
    if way == 3:
        return b"j" + struct.pack("<I", rng.randrange(4)) if rng.random() < 0.8 else b"2"
    if way == 4:
        names = HOSTILE if rng.random() < 0.02 else NAMES
        return b"c" + "\n".join(rng.choice(names).split()).encode() + b"\n"
    if way in (5, 6):
        return b"(" + b"".join(inner) + rng.choice(b"tltd").to_bytes(1, "big")
    if way == 7:
        return rng.choice((b"](", b"}(", b"\x8f(")) + b"".join(inner) + rng.choice((b"e", b"u", b"\x90"))
    memo = b"r" + struct.pack("<I", rng.choice((0, 1, 2, 3, 2**28)))
    if way == 8:
        return sentence(rng, depth + 1) + memo
    if way == 9:
        return sentence(rng, depth + 1) + pickle.dumps(rng.choice(STATES), 2)[2:-1] + b"b"
    if way == 10:
        return sentence(rng, depth + 1) + sentence(rng, depth + 1) + b"b"
    if way == 11 and rng.random() < 0.3:
        return bytes([rng.randrange(256)]) + rng.randbytes(4)
    callee = b"c" + "\n".join(rng.choice(NAMES).split()).encode() + b"\n"
    if way == 12:
        dtype = b"cnumpy\ndtype\n" + pickle.dumps((rng.choice(PLAIN), False, True), 2)[2:-1] + b"R"
        dtype += pickle.dumps(rng.choice(STATES), 2)[2:-1] + b"b"
        return callee + b"(" + dtype + b"".join(inner) + b"tR" + memo
    return callee + b"(" + b"".join(inner) + b"t" + rng.choice((b"R", b"\x81", b"}\x92")) + memo


def grammar_file(rng: random.Random, containers: dict[str, bytes]) -> tuple[str, bytes]:
    suffix, raw = rng.choice((".pkl", ".npz", ".pt")), b"\x80\x02" + sentence(rng) + b"."
    if suffix == ".npz":
        head = b"\x93NUMPY\x01\0" + struct.pack("<H", 64)
        raw = head + b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }".ljust(63) + b"\n" + raw
        return suffix, rewritten(containers[suffix], lambda name, data: raw)
    if suffix == ".pt":
        return suffix, rewritten(containers[suffix], lambda name, data: raw if name.endswith("data.pkl") else data)
    return suffix, raw


def hostile_files(count: int, seed: int) -> list[tuple[str, bytes]]:
    """Suffix and content of so many files, two of three mutations, the others grammar's."""
    rng, good = random.Random(seed), good_files()
    containers = {suffix: raw for suffix, raw in good if raw[:2] == b"PK"}
    made = []
    for _ in range(count):
        if rng.random() < 0.33:
            made.append(grammar_file(rng, containers))
        else:
            suffix, raw = rng.choice(good)
            made.append((suffix, mutated_file(suffix, raw, rng)))
    return made


READERS: dict[str, tuple[Callable[[Path], object], ...]] = {
    ".pkl": (read_pickle, load_learned_ratio, read_smpl_file),
    ".npz": (lambda path: load_npz(path, objects=True), load_npz), ".npy": (load_npy,),
    ".pt": (load_torch, load_checkpoint), ".mat": (load_mat,),
    ".safetensors": (load_checkpoint, safetensors_shapes), ".yaml": (load_tree,), ".json": (load_json,),
}  # fmt: skip


def use(value: object) -> None:
    """Touch every byte of a value: what was built wrongly shows here."""
    if isinstance(value, dict):
        for key, item in value.items():
            hash(key)
            use(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            use(item)
    elif isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            use(value.tolist())
        repr(value.copy()), value.tobytes()
        if value.dtype == bool:
            np.arange(value.size)[value.ravel()]
    elif isinstance(value, torch.Tensor):
        torch.isfinite(value.clone()).sum(), repr(value)
    else:
        repr(value)


def outcome(path: Path) -> str:
    """What came of reading a file, "read" or "refused" by its first reader; any other error goes up."""
    results = []
    for read in READERS[path.suffix]:
        try:
            use(read(path))
            results.append("read")
        except (DataFileError, ConfigError):
            results.append("refused")
    return results[0]


def guard(event: str, args: tuple) -> None:
    """Audit hook of a child: ends it where a file makes it act."""
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or (event != "open" and event.startswith(FORBIDDEN)):
        os.write(2, f"forbidden: {event} {args}\n"[:200].encode())
        os._exit(TRAPPED)


def child(paths: list[Path], report: int) -> None:
    """Read files one after another; a line for each goes to `report`, before and after."""
    warnings.simplefilter("ignore")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    sys.addaudithook(guard)
    for index, path in enumerate(paths):
        os.write(report, f"{index} ".encode())
        signal.alarm(SECONDS)  # its default ends the process
        os.write(report, f"{outcome(path)}\n".encode())
    signal.alarm(0)


def run_child(paths: list[Path]) -> tuple[list[str], str]:
    """Outcomes of the files in order, up to the one that ended the child; and how it ended, "" for well."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(reading)
            child(paths, writing)
            code = 0
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}"[:300].replace("\n", " ").encode())
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as lines:
        told = lines.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return told, "" if status == 0 else f"exit status {status}: {told[-1] if told else ''}"


def failures(files: list[tuple[str, bytes]], folder: Path, batch: int = 250) -> tuple[dict[Path, str], Counter]:
    """Files (kept in `folder`) that did not end as they should, with how they did; and how many ended how."""
    failed: dict[Path, str] = {}
    ended: Counter[str] = Counter()
    os.environ[LIMIT_VARIABLE] = str(BUDGET)
    for suffix, raw in good_files():  # imports what is imported late
        (folder / f"good{suffix}").write_bytes(raw)
        assert outcome(folder / f"good{suffix}") == "read"
    for start in range(0, len(files), batch):
        paths = []
        for index, (suffix, raw) in enumerate(files[start : start + batch], start):
            paths.append(folder / f"{index}{suffix}")
            paths[-1].write_bytes(raw)
        left = list(paths)
        while left:
            told, why = run_child(left)
            done = len(told) - 1 if why else len(told)
            ended.update(f"{path.suffix} {line.split()[-1]}" for path, line in zip(left[:done], told, strict=False))
            if why:
                failed[left[done]] = why
            left = left[done + 1 :]
        for path in (p for p in paths if p not in failed):
            path.unlink()
    del os.environ[LIMIT_VARIABLE]
    return failed, ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder, began = Path(tempfile.mkdtemp(prefix="fuzz")), time.monotonic()
    failed, ended = failures(hostile_files(args.count, args.seed), folder)
    for kind, count in sorted(ended.items()):
        print(f"{count:6d} {kind}")
    for path, why in failed.items():
        print(f"FAILED {path}: {why}")
    print(f"{args.count} files in {time.monotonic() - began:.0f} s, {len(failed)} failures")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
