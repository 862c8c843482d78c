"""Packages that single features need: asked for before the work begins, in one sentence with the pip command."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from utils.script import first_line


def require_packages(feature: str, extra: str, *packages: str) -> None:
    """Raise ImportError unless all of `packages` are installed.

    Args:
        feature: what needs them; the sentence begins with it.
        extra: they are in `requirements-<extra>.txt`.
        packages: import names.
    """
    missing = [name for name in packages if not is_installed(name)]
    if missing:
        raise ImportError(f"{feature} needs {', '.join(missing)}: pip install -r requirements-{extra}.txt")


def is_installed(package: str) -> bool:
    """Whether a package of this import name is there; it is not imported."""
    return importlib.util.find_spec(package) is not None


def import_openvino() -> Any:
    """The module openvino. Raises ImportError when the package does not work."""
    return _import("openvino")


def _import(name: str) -> Any:
    """A module that asks the network unless `utils/__init__.py` has switched that off: imported here alone."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # of whatever a damaged installation leads to
        raise ImportError(
            f"The package {name} does not work here ({first_line(error)}): pip install {name}"
        ) from error


def onnx_session(path: str | Path | bytes, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU.

    Args:
        path: of the network's file, or its bytes.
        threads: of each operation; 0: as many as there are cores.

    Raises:
        ImportError: when the package does not work.
        ValueError: when the network cannot be loaded.
    """
    onnxruntime = _import("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait would take a core from the network, which works at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        network = path if isinstance(path, bytes) else str(path)
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise ValueError(f"The network cannot be loaded by onnxruntime: {first_line(error)}") from error
