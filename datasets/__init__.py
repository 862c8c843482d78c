"""What supplies images and labels. Read `utils/structures.py` first: every data set gives its `Sample`."""

from importlib import import_module
from typing import Any

_MODULES = {"BaseDataset": "base_dataset", "COCODataset": "coco_dataset", "MixedDataset": "mixed_dataset"}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """A data set's class, imported when it is asked for: `python -m datasets.X` starts without them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"datasets.{_MODULES[name]}"), name)
