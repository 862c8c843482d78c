"""Nothing asks the network: no script, no package that it uses, in Python or in compiled code. The doctor is one."""

from __future__ import annotations

import ast
import signal
import socket
import subprocess
import sys

import pytest
from no_network import CAN_FORBID, PAGE
from test_architecture import SOURCES, modules

from utils.doctor.__main__ import WIDTH

needs_filter = pytest.mark.skipif(not CAN_FORBID, reason="needs the system call filter of Linux")


def test_a_fresh_checkout_is_well_and_no_script_opens_a_socket_that_leaves_the_machine(root, tmp_path, monkeypatch):
    """The process would have died of SIGSYS; nor is there an id of the device in the user's cache."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, str(root / "tests" / "no_network.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    page = (tmp_path / PAGE).read_text()
    assert done.returncode == 0, f"{page}\n{done.stderr}"
    assert [path.name for path in home.rglob("*") if path.is_file()] == []
    assert page.endswith("\nAll is well.\n") and "rendered_1.jpg gives the expected" in page
    assert max(map(len, page.splitlines())) <= WIDTH
    assert "run: bash get_densepose_uv.sh" in page  # where to get what is not there


@needs_filter
@pytest.mark.parametrize(
    ("family", "code"), [("AF_INET", -signal.SIGSYS), ("AF_INET6", -signal.SIGSYS), ("AF_UNIX", 0)]
)
def test_the_filter_knows_local_sockets(root, family, code):
    """From compiled code: Python's own socket function is not asked."""
    text = "import ctypes, no_network, socket; no_network.forbid_sockets(); "
    text += f"ctypes.CDLL(None).socket(socket.{family}, 1, 0)"
    ended = subprocess.run([sys.executable, "-c", text], cwd=root / "tests", check=False)
    assert ended.returncode == code


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 80)])
def test_python_code_is_stopped_in_every_test(address):
    with pytest.raises(AssertionError, match="A test asks the network"):
        socket.create_connection(address, timeout=0.1)


def test_packages_that_ask_the_network_are_imported_in_one_place():
    """After `utils/__init__.py` has made them leave it alone."""
    for name, tree in SOURCES.items():
        if name != "utils/packages.py":
            assert not {"onnxruntime", "openvino"} & {module.split(".")[0] for module, _ in modules(tree)}, (
                name
            )
    first, second, third = map(ast.unparse, SOURCES["utils/__init__.py"].body[3:6])
    assert first == "os.environ['ORT_DISABLE_TELEMETRY'] = '1'"
    assert second == "sys.modules.setdefault('openvino_telemetry', None)"
    assert third == "os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'"
