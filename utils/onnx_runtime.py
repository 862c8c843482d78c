"""The one place that imports onnxruntime (`utils/__init__.py` has told it to leave the network alone)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from utils.script import first_line


def onnx_session(path: str | Path | bytes, threads: int = 0) -> Any:
    """A session on the CPU for a network, in a file or as its bytes; `threads` 0: as many as there are cores.

    Raises ImportError when the package does not work, ValueError when the network cannot be loaded.
    """
    try:
        import onnxruntime
    except Exception as error:  # of whatever a damaged installation leads to
        raise ImportError(
            f"The package onnxruntime does not work here ({first_line(error)}): pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        network = path if isinstance(path, bytes) else str(path)
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise ValueError(f"The network cannot be loaded by onnxruntime: {first_line(error)}") from error
