"""Weights and training states on disk: safe reading, strict loading, atomic writing.

Two forms: .pt, a dictionary of tensors, numbers, strings and containers (the 2020 layout: model, optimizer,
epoch, ...), and .safetensors, weights with text metadata, the form the project ships.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from utils.io import DataFileError, atomic_path, atomic_write, load_safetensors, load_torch, raise_if_full
from utils.wording import shorten, shown

log = logging.getLogger(__name__)

# What a 2020 checkpoint (of DaNet, its ablations or the HMR baseline) holds and our modules leave out: pattern of the
# key's beginning, and why. The lstm refinement runs its rot2pos and pos2rot; they are nested one level deeper there,
# so that these patterns never match them.
IGNORED: tuple[tuple[str, str], ...] = (
    (r"(?:iuv2smpl\.)?smpl\.", "the body model: it comes from its own file, never from weights"),
    (r"iuv2smpl\.smpl_para_Outs\.rot2pos\.\d+\.\d+\.[a-z]", "made by the gcn refinement of 2020 but never run"),
    (r"iuv2smpl\.smpl_para_Outs\.pos2rot\.\d+\.[a-z]", "made by the gcn refinement of 2020 but never run"),
    (r"iuv2smpl\.smpl_para_Outs\.A$", "a graph matrix that no layer reads"),
    (r"iuv2smpl\.smpl_para_Outs\.A_link$", "a graph matrix that no layer reads"),
    (r"img2iuv\.iuv_est\.(?:global|part)_feat_down\.", "made for an input mode that never trained"),
)
SETTINGS = ("img2iuv.stride_of_parts",)  # buffers; a network given weights without them keeps its own
CHECKSUM = "content_sha256"  # entry of a checkpoint: that of all its others
SHOWN_KEYS = 5  # of each kind that does not fit
COUNTERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class StateMismatchError(ValueError):
    """Weights that do not fit a model; all keys stand in `missing`, `unexpected` and `misshapen`."""

    def __init__(self, path: Path, missing: list[str], unexpected: list[str], misshapen: list[str]) -> None:
        self.missing, self.unexpected, self.misshapen = missing, unexpected, misshapen
        lines = [f"{path} does not fit this model. Were the weights made for another --model or configuration?"]
        titles = "missing in the file", "unexpected, the model has no place for them", "of another shape (file, model)"
        for title, keys in zip(titles, (missing, unexpected, misshapen), strict=True):
            lines += [f"  {len(keys)} {title}:"] if keys else []
            lines += [f"    {shorten(key)}" for key in keys[:SHOWN_KEYS]]
            lines += [f"    ... and {len(keys) - SHOWN_KEYS} more"] if len(keys) > SHOWN_KEYS else []
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class LoadReport:
    """Which entries of a weights file were loaded."""

    path: Path
    weights_id: str  # the first 12 digits of the file's SHA-256
    loaded: int  # tensors put into the model
    ignored: tuple[str, ...]  # keys of the file left out on purpose
    taken: tuple[str, ...] = ()  # keys put into the model
    fresh: tuple[str, ...] = ()  # keys of the model that the file has nothing for
    meta: dict[str, Any] = field(default_factory=dict)  # what the file says about itself

    def __str__(self) -> str:
        note = f", {len(self.ignored)} ignored" if self.ignored else ""
        return f"{self.path.name} (id {self.weights_id}, {self.loaded} tensors{note})"


# ---------------------------------------------------------------------------------------------------- reading


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU, read without running code in it; the weights stand under "model".

    A .safetensors file gives {"model": ..., "meta": {...}}; a .pt file its own dictionary; a bare state dict
    is put under "model". Raises FileNotFoundError, UnsafeFileError, DataFileError as the readers of `utils.io`.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        tensors, meta = load_safetensors(path)
        return {"model": tensors, "meta": meta}
    content = load_torch(path)
    if isinstance(content, Mapping) and "model" not in content:
        state = content.get("state_dict", content)
        if isinstance(state, Mapping) and state and all(isinstance(v, Tensor) for v in state.values()):
            content = {"model": state}
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise DataFileError(f"{path} holds no weights: expected a dictionary with a state dict under 'model'.")
    return dict(content)


def weights_id(path: str | os.PathLike) -> str:
    """Short name of a file's content: the first 12 digits of its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]


def strip_prefixes(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state dict without the `module.` that data-parallel training puts before every key.

    Raises DataFileError naming the file when a key is no text, a value no tensor, or two keys become one.
    """
    stripped: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise DataFileError(f"{path}: a key of the weights is {shown(key)}, expected the name of a parameter.")
        if not isinstance(value, Tensor) or value.is_nested:
            raise DataFileError(
                f"{path}: '{shorten(key)}' in the weights is a {type(value).__name__}, expected a tensor."
            )
        name = key
        while name.startswith("module."):
            name = name.removeprefix("module.")
        if name in stripped:
            raise DataFileError(
                f"{path}: the weights hold '{shorten(name)}' twice, with and without the prefix 'module.'."
            )
        stripped[name] = value
    return stripped


# ---------------------------------------------------------------------------------------------------- loading


def load_danet(model: nn.Module, path: str | os.PathLike) -> LoadReport:
    """Put the weights of a file into a built model; every key must fit but for those in `IGNORED`.

    Prefixes are stripped, float16 becomes the model's dtype. After an error the model is unchanged.

    Raises:
        StateMismatchError: with all keys that do not fit; its text names the first of them.
        DataFileError: for values that are not dense, finite and of the model's kind, and as `load_checkpoint`.
        FileNotFoundError, UnsafeFileError: as `load_checkpoint`.
    """
    path = Path(path)
    checkpoint = load_checkpoint(path)
    meta = checkpoint.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise DataFileError(f"{path}: 'meta' is {shown(meta)}, expected what the file says of itself by name.")
    weights, ignored = fitting_weights(path, checkpoint["model"], model.state_dict())
    model.load_state_dict(weights)
    return LoadReport(path, weights_id(path), len(weights), ignored, tuple(weights), meta=dict(meta))


def fitting_weights(
    path: Path, state: Mapping[str, Any], target: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights of a file for exactly the entries of `target`, in its dtypes, and the file's keys of `IGNORED`.

    Raises as `load_danet` does.
    """
    state = {key: target[key] for key in SETTINGS if key in target} | strip_prefixes(state, path)
    extra = {k: any(re.match(pattern, k) for pattern, _ in IGNORED) for k in state if k not in target}
    ignored = tuple(key for key, is_ignored in extra.items() if is_ignored)
    unexpected = [key for key, is_ignored in extra.items() if not is_ignored]
    missing = [key for key in target if key not in state]
    misshapen = [
        f"{key} {list(state[key].shape)}, {list(target[key].shape)}"
        for key in target
        if key in state and state[key].shape != target[key].shape
    ]
    if missing or unexpected or misshapen:
        raise StateMismatchError(path, missing, unexpected, misshapen)
    return {key: _as_weights(path, key, state[key], target[key].dtype) for key in target}, ignored


def load_matching(
    module: nn.Module, path: str | os.PathLike, only: Iterable[str] = (), skip: Iterable[str] = ()
) -> LoadReport:
    """Load what fits in name and shape: a pretrained trunk, or a network to fine-tune.

    The report names every key loaded, left out of the file, and left fresh in the model; all go to the log. After an
    error the module is unchanged.

    Args:
        module: to load into.
        path: of the weights.
        only: first parts of the key names to load (default: all).
        skip: first parts of those to leave.

    Raises:
        StateMismatchError: when nothing fits; else as `load_danet`.
    """
    path, only, skip = Path(path), frozenset(only), frozenset(skip)
    state, target = strip_prefixes(load_checkpoint(path)["model"], path), module.state_dict()
    wanted = [k for k in target if (not only or k.split(".")[0] in only) and k.split(".")[0] not in skip]
    chosen = {
        key: _as_weights(path, key, state[key], target[key].dtype)
        for key in wanted
        if key in state and state[key].shape == target[key].shape
    }
    if not any(value.ndim for value in chosen.values()):  # counters fit anywhere
        raise StateMismatchError(path, list(target), list(state), [])
    module.load_state_dict(chosen, strict=False)
    left, fresh = (tuple(key for key in keys if key not in chosen) for keys in (state, target))
    report = LoadReport(path, weights_id(path), len(chosen), left, tuple(chosen), fresh)
    log.info("%s: %d keys of the model have nothing in the file.", report, len(fresh))
    for title, keys in (("taken", report.taken), ("ignored", left), ("left as they were", fresh)):
        log.debug("%s: %d keys %s: %s", path.name, len(keys), title, ", ".join(keys))
    return report


def _as_weights(path: Path, key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value` in a model's dtype. Raises DataFileError unless it is dense, of the same kind and finite."""
    if value.layout is not torch.strided or value.is_meta:
        raise DataFileError(f"{path}: '{key}' holds no dense values (it is sparse or has a shape only).")
    if not (value.is_floating_point() if dtype.is_floating_point else value.dtype in COUNTERS):
        raise DataFileError(f"{path}: '{key}' holds {value.dtype}, which cannot stand for {dtype}.")
    converted = value.to(dtype)
    if dtype.is_floating_point and not torch.isfinite(converted).all():
        raise DataFileError(f"{path}: '{key}' holds values that are not finite. Did its training diverge?")
    return converted


# ---------------------------------------------------------------------------------------------------- writing


def save_checkpoint(path: str | os.PathLike, state: Mapping[str, Any]) -> None:
    """Write a .pt file with its checksum, whole or not at all.

    Raises TypeError naming the first value that is not plain (see `require_plain`).
    """
    require_plain(state, "state")
    with atomic_path(path) as temporary:
        try:
            torch.save({**state, CHECKSUM: content_sum(state)}, temporary)
        except RuntimeError as error:  # of torch's own writer, which does not say why
            raise_if_full(temporary.parent, error)
            raise OSError(f"'{path}' cannot be written: {shorten(error)}.") from error


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

    def add(value: Any) -> None:
        if isinstance(value, Mapping):
            digest.update(b"{%d" % len(value))
            for key, item in value.items():
                digest.update(repr(key).encode())
                add(item)
        elif isinstance(value, list | tuple):
            digest.update(b"[%d" % len(value))
            for item in value:
                add(item)
        elif isinstance(value, Tensor):
            digest.update(f"{value.dtype}{list(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
        else:
            digest.update(f"{type(value).__name__}:{value!r};".encode())

    add(tree)
    return digest.hexdigest()


def export_safetensors(
    path: str | os.PathLike, state: Mapping[str, Tensor], meta: Mapping[str, str], half: bool = True
) -> None:
    """Write weights and text about them (`meta`) for shipping, as a .safetensors file.

    Args:
        path, state, meta: the file, the weights, the text by name.
        half: kernels and matrices become float16 unless they overflow; vectors, which cost nothing and hold the
            statistics of batch norm, keep their dtype.
    """

    def packed(value: Tensor) -> Tensor:
        value = value.detach().cpu()
        small = value.half() if half and value.is_floating_point() and value.ndim >= 2 else value
        return (small if torch.isfinite(small).all() else value).clone().contiguous()

    content = save({key: packed(value) for key, value in state.items()}, metadata=dict(meta))
    with atomic_write(path) as file:  # the library's own writer names neither file nor cure
        file.write(content)
