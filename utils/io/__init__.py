"""Reading files of unknown origin without running what they hold, and writing files whole or not at all."""

from utils.io.limits import LIMIT_VARIABLE, Budget, DataFileError, UnsafeFileError, limited_memory
from utils.io.readers import (
    DATA_DIR,
    OPEN_DIR,
    ROOT,
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
    overwrite_problem,
    raise_if_full,
    require_free,
    require_writable,
    save_arrays,
    save_json_atomic,
    save_npz_atomic,
    why_unwritable,
    writable_folder,
)

__all__ = [
    "DATA_DIR", "IS_THERE", "LIMIT_VARIABLE", "OPEN_DIR", "REASONS", "ROOT", "Budget", "DataFileError",
    "UnsafeFileError", "WriteError", "atomic_path", "atomic_write", "files_together", "limited_memory", "load_json",
    "load_mat", "load_npy", "load_npz", "load_safetensors", "load_torch", "overwrite_problem", "raise_if_full",
    "read_pickle", "require_free", "require_writable", "safetensors_shapes", "save_arrays", "save_json_atomic",
    "save_npz_atomic", "why_unwritable", "writable_folder",
]  # fmt: skip
