"""Records of tensors: a function applied to every tensor of one, and one made of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor


def map_tensors(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """The value with `fn` applied to every tensor inside nested records, tuples and lists; other values stay."""
    if isinstance(value, Tensor | Record):
        return fn(value) if isinstance(value, Tensor) else value.map(fn)
    return type(value)(map_tensors(item, fn) for item in value) if isinstance(value, tuple | list) else value


class Record:
    """Base of the tensor records: a function is applied to every tensor field, nested ones included."""

    def map(self, fn: Callable[[Tensor], Tensor]):
        return type(self)(**{f.name: map_tensors(getattr(self, f.name), fn) for f in fields(self)})

    def to(self, *args, **kwargs):
        return self.map(lambda t: t.to(*args, **kwargs))

    def detach(self):
        return self.map(Tensor.detach)

    def pin_memory(self):
        return self.map(Tensor.pin_memory)

    def __getitem__(self, index):
        return self.map(lambda t: t[index])

    def __len__(self) -> int:
        lengths: list[int] = []
        self.map(lambda t: lengths.append(len(t)) or t)
        if lengths:
            return lengths[0]
        raise TypeError(f"{type(self).__name__} holds no tensor, so it has no length.")


def joined(items: list[Any], join: Callable[[list[Tensor]], Tensor] = torch.stack) -> Any:
    """One record of several of the same kind, their tensors joined; of other values a tuple."""
    if isinstance(items[0], Tensor):
        return join(items)
    if isinstance(items[0], Record):
        return type(items[0])(*(joined([getattr(i, f.name) for i in items], join) for f in fields(items[0])))
    return None if items[0] is None else tuple(items)
