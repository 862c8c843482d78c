"""Ways in which a checkpoint can be spoiled: bytes, zip members, and contents written again."""

from __future__ import annotations

import copy
import io
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

Mutation = Callable[[Path], None]


def byte_mutations(seed: int, count: int) -> Iterator[tuple[str, Mutation]]:
    """Flipped bits, cuts, overwritten, doubled and lost blocks, zip members swapped or renamed."""

    def spoil(path: Path, number: int) -> None:
        rng, raw = random.Random(f"{seed} {number}"), bytearray(path.read_bytes())
        place, size = rng.randrange(len(raw)), rng.choice([1, 16, 512])
        kind = number % 8
        if kind == 0:
            raw[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del raw[place:]
        elif kind == 2:
            raw[place : place + size] = bytes(len(raw[place : place + size]))
        elif kind == 3:
            raw[place:place] = raw[place : place + size]
        elif kind == 4:
            del raw[place : place + size]
        elif kind == 5:  # the central directory and what follows it
            place = raw.rfind(b"PK\x01\x02") + rng.randrange(60)
            raw[place % len(raw)] = rng.randrange(256)
        elif kind == 6:
            raw = bytearray(swapped(bytes(raw), rng))
        else:
            raw = bytearray(rng.randbytes(len(raw) if number % 16 else 0))
        path.write_bytes(raw)

    for number in range(count):
        yield f"bytes {number}", lambda path, number=number: spoil(path, number)


def swapped(raw: bytes, rng: random.Random) -> bytes:
    """The same zip, valid in itself, with the contents of two members exchanged, or one left out."""
    out, old = io.BytesIO(), zipfile.ZipFile(io.BytesIO(raw))
    names = [info.filename for info in old.infolist()]
    a, b = rng.sample([name for name in names if "/data/" in name], 2)
    other = {a: b, b: a}
    lost = rng.choice(names) if rng.random() < 0.3 else None
    with zipfile.ZipFile(out, "w") as new:
        for name in names:
            if name != lost:
                new.writestr(name, old.read(other.get(name, name)))
    return out.getvalue()


ODD = (
    [1.0], "text", 3, -1, None, float("nan"), 10**30, {"a": {"b": torch.zeros(1)}}, torch.zeros(0),
    torch.tensor(float("nan")), torch.zeros(2, 2, dtype=torch.bool), torch.zeros(4, dtype=torch.complex64),
    torch.zeros(3, dtype=torch.int64), True, {}, [],
)  # fmt: skip


def paths_of(tree: Any, here: tuple = ()) -> Iterator[tuple]:
    """Every entry of a tree of dictionaries and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*here, key)
        if isinstance(value, dict | list):
            yield from paths_of(value, (*here, key))


def content_mutations(content: dict[str, Any], seed: int, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The content with one entry missing, of another kind, or under a key that is no text."""
    rng, entries = random.Random(seed), list(paths_of(content))
    for number in range(count):
        spoiled = copy.deepcopy(content)
        *above, last = rng.choice(entries)
        parent = spoiled
        for key in above:
            parent = parent[key]
        if number % 5 == 0:
            del parent[last]
            change = "deleted"
        elif number % 5 == 1 and isinstance(parent, dict):
            parent[rng.choice([7, None, 2.5])] = parent.pop(last)
            change = "another key"
        else:
            value = parent[last] = rng.choice(ODD)
            change = type(value).__name__
        yield f"{'.'.join(map(str, (*above, last)))}: {change}", spoiled


def no_file_mutations() -> Iterator[tuple[str, Mutation]]:
    """What is no file at all under a checkpoint's name."""

    def replaced(make: Mutation) -> Mutation:
        def spoil(path: Path) -> None:
            path.unlink()
            make(path)

        return spoil

    yield "empty", lambda path: path.write_bytes(b"")
    yield "folder", replaced(lambda path: path.mkdir())
    yield "full folder", replaced(lambda path: (path / "x").mkdir(parents=True))
    yield "loop", replaced(lambda path: path.symlink_to(path.name))
    yield "dangling", replaced(lambda path: path.symlink_to("nowhere"))
    yield "pipe", replaced(lambda path: os.mkfifo(path))
    yield "list", lambda path: torch.save([1, 2], path)
    yield "weights only", lambda path: torch.save({"model": {"w": torch.zeros(1)}}, path)
