"""Training states as trees of plain values: which values those are, and their checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def require_plain(value: Any, where: str) -> None:
    """Raise TypeError naming the first value that is not plain: then a file of it is read without running code."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            require_plain(key, f"a key of {where}")
            require_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            require_plain(item, f"{where}[{index}]")
    elif value is not None and not (isinstance(value, Tensor) or type(value) in (bool, int, float, str)):
        raise TypeError(
            f"{where} is a {type(value).__module__}.{type(value).__name__}; a checkpoint holds tensors, "
            "numbers, strings, None, lists and dictionaries only: then it is read without running code."
        )


def content_sum(tree: Mapping[str, Any]) -> str:
    """SHA-256 over all keys and values of a tree of plain values, tensors by dtype, shape and bytes."""
    digest = hashlib.sha256()
    _add(digest, tree)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        digest.update(b"{%d" % len(value))
        for key, item in value.items():
            digest.update(repr(key).encode())
            _add(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(b"[%d" % len(value))
        for item in value:
            _add(digest, item)
    elif isinstance(value, Tensor):
        digest.update(f"{value.dtype}{list(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
    else:
        digest.update(f"{type(value).__name__}:{value!r};".encode())
