"""Reading files of unknown origin without running what they hold (`safe_read`); writing files whole or not at all
(`safe_write`)."""

from __future__ import annotations

from utils.file_budget import DataFileError, UnsafeFileError
from utils.safe_read import load_json, load_mat, load_npy, load_npz, load_torch, read_pickle
from utils.safe_write import atomic_path, atomic_write, save_json_atomic, save_npz_atomic

__all__ = [
    "DataFileError", "UnsafeFileError", "read_pickle", "load_npy", "load_npz", "load_mat", "load_torch", "load_json",
    "atomic_path", "atomic_write", "save_npz_atomic", "save_json_atomic",
]  # fmt: skip
