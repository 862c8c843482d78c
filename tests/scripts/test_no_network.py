"""Nothing asks the network: no Python code in any test, and no telemetry of packages."""

from __future__ import annotations

import ast
import socket

import pytest
from test_architecture import SOURCES, modules


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 80)])
def test_python_code_is_stopped_in_every_test(address):
    with pytest.raises(AssertionError, match="A test asks the network"):
        socket.create_connection(address, timeout=0.1)


def test_onnxruntime_is_imported_in_one_place():
    """After `utils/__init__.py` has told it to leave the network alone."""
    for name, tree in SOURCES.items():
        if name != "utils/packages.py":
            assert "onnxruntime" not in [module.split(".")[0] for module, _ in modules(tree)], name
    first = ast.unparse(SOURCES["utils/__init__.py"].body[2])
    assert first == "os.environ['ORT_DISABLE_TELEMETRY'] = '1'"
