"""Reading files of unknown origin without running what they hold, and writing files whole or not at all."""

from utils.io.budget import LIMIT_VARIABLE, Budget, DataFileError, UnsafeFileError, limited_memory
from utils.io.readers import (
    load_json,
    load_mat,
    load_npy,
    load_npz,
    load_safetensors,
    load_torch,
    read_pickle,
    safetensors_shapes,
)
from utils.io.writers import (
    IS_THERE,
    REASONS,
    WriteError,
    atomic_path,
    atomic_write,
    files_together,
    move,
    naming,
    raise_if_full,
    require_free,
    require_writable,
    save_arrays,
    save_json_atomic,
    save_npz_atomic,
    why_kept,
    why_unwritable,
    writable_folder,
)

__all__ = [
    "LIMIT_VARIABLE", "Budget", "DataFileError", "UnsafeFileError", "limited_memory",
    "load_json", "load_mat", "load_npy", "load_npz", "load_safetensors", "load_torch", "read_pickle",
    "safetensors_shapes",
    "IS_THERE", "REASONS", "WriteError", "atomic_path", "atomic_write", "files_together", "move", "naming",
    "raise_if_full", "require_free", "require_writable", "save_arrays", "save_json_atomic", "save_npz_atomic",
    "why_kept", "why_unwritable", "writable_folder",
]  # fmt: skip
