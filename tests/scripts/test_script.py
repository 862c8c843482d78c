"""Every script starts and ends alike: signals, lost output, missing packages, faults. The children import little."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_architecture import ROOT, SOURCES

from utils.script import Stopped, StopSignals

HEAD = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from utils.script import run_script, start_script
start_script()
import time
def ready():
    print("ready", flush=True)
    time.sleep(20)
"""
SCRIPTS = sorted(
    name
    for name, tree in SOURCES.items()
    if not name.startswith(("tests/", "benchmarks/"))
    and any(isinstance(node, ast.If) and "'__main__'" in ast.unparse(node.test) for node in tree.body)
)


def run(tmp_path: Path, text: str, *signals: int, wait: float = 20, **streams) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a script that gets the signals when it is ready."""
    path = tmp_path / "script.py"
    path.write_text(HEAD + text)
    command = [sys.executable, "-S", str(path)]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    with subprocess.Popen(command, text=True, cwd=tmp_path, **given) as process:
        try:
            for number in signals:
                assert process.stdout.readline() == "ready\n"
                time.sleep(0.05)  # until it waits
                process.send_signal(number)
            out, err = process.communicate(timeout=wait)
        finally:
            process.kill()
    return process.returncode, out, err


def test_every_script_starts_and_ends_alike():
    """`start_script` comes before every import that may be slow or fail, `run_script(main)` at the end."""
    for name in SCRIPTS:
        body = [ast.unparse(node) for node in SOURCES[name].body]
        start = body.index("if __name__ == '__main__':\n    start_script()")
        light = ("from __future__", "import sys", "from pathlib", "sys.path.insert", "from utils.script")
        assert all(line.startswith(light) for line in body[1:start]), name
        assert body[-1].startswith("if __name__ == '__main__':\n    run_script(main"), name


def test_what_takes_seconds_to_import_is_imported_where_few_runs_need_it():
    """torchvision brings in torch's compiler, scipy.signal all of scipy.stats: half of the demo's start."""
    needs_it = {"datasets/people/torchvision_detector.py", "models/training/tensorboard_images.py"}
    for name, tree in SOURCES.items():
        if name in needs_it or not name.startswith(("datasets/", "models/", "utils/")):
            continue
        first = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        named = " ".join(map(ast.unparse, first))
        assert not re.search(r"\b(torchvision(?!_)|scipy\.signal|scipy\.stats)\b", named), name


@pytest.mark.parametrize("name", ["demo.py", "datasets/synthetic/__main__.py", "datasets/preprocess/h36m.py"])
def test_without_packages_scripts_say_what_to_install(name):
    words = [name] if "/" not in name else ["-m", name.removesuffix(".py").removesuffix("/__main__").replace("/", ".")]
    command = [sys.executable, "-S", *words]  # without the folder of packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and not done.stdout
    start = f"{' '.join(['python', *words]) if '/' in name else name}: The package "
    assert done.stderr.startswith(start) and len(done.stderr.splitlines()) == 2
    assert "is needed and not installed: pip install -r requirements.txt." in done.stderr
    assert "`python -m utils.doctor`" in done.stderr


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("yaml", "raise OSError('libx.so: cannot open')", "PyYAML does not work here (OSError: libx.so: cannot open)"),
        ("cv2", "import numpy.core.multiarray", "numpy is needed and not installed"),
        ("scipy", "import scipy.no_such_part", "scipy does not work here (ModuleNotFoundError: No module"),
        ("torch", "", "torch does not work here (AttributeError: module 'torch' has no attribute 'Tensor')"),
    ],
)  # fmt: skip
def test_packages_that_do_not_import_are_named(tmp_path, module, text, said):
    (tmp_path / f"{module}.py").write_text(text)
    code, out, err = run(tmp_path, f"import {module}\n{module}.Tensor\nrun_script(lambda: 0)")
    assert (code, out) == (1, "") and f"The package {said}" in err and "Traceback" not in err


def test_a_fault_of_ours_shows_its_traceback(tmp_path):
    code, _, err = run(tmp_path, "run_script(lambda: {}['x'])")
    assert code == 1 and "Traceback" in err and "please report the lines above" in err
    code, _, err = run(tmp_path, "unknown_name")
    assert code == 1 and "Traceback" in err and "please report the lines above" in err


def test_short_memory_is_a_sentence(tmp_path):
    code, _, err = run(tmp_path, "def main(): raise MemoryError('80 GB')\nrun_script(main)")
    assert code == 1 and err.count("\n") == 1 and "The memory does not suffice (80 GB)" in err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_script_with_a_line(tmp_path, name):
    number = getattr(signal, name)
    assert run(tmp_path, "ready()", number) == (128 + number, "", f"script.py: ended by {name}.\n")
    work = "def main():\n try: ready()\n finally: print('kept')\nrun_script(main, on_stop='all is kept.')"
    ended = run(tmp_path, work, number)
    assert ended == (128 + number, "kept\n", f"script.py: stopped by {name}; all is kept.\n")


def test_the_second_signal_ends_at_once(tmp_path):
    stay = "from utils import script\nfrom utils.script import StopSignals\nscript.SAME_ENDING = {}\n"
    stay += "def main():\n with StopSignals():\n  ready()\n  ready()\nrun_script(main)"
    work = stay.replace("20", "0").format(-1) + "\n"
    code, _, err = run(tmp_path, work.replace("ready()", "print('ready', flush=True); time.sleep(0.2)"),
                       signal.SIGINT, signal.SIGTERM)  # fmt: skip
    assert code == 143 and err.splitlines()[-1] == "script.py: ended by SIGTERM."
    assert "SIGINT: what was begun is finished first" in err


def test_the_first_signal_is_only_noted():
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        stop.end_if_asked()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # handed on by torchrun, in the same moment
        assert stop.asked == "SIGINT"
        with pytest.raises(Stopped, match="SIGINT"):
            stop.end_if_asked()
    assert signal.getsignal(signal.SIGINT) is before


def test_under_nohup_a_closed_terminal_is_nothing(tmp_path):
    code, _, err = run(
        tmp_path, "run_script(lambda: print('ready', flush=True) or time.sleep(0.2))", signal.SIGHUP,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert (code, err) == (0, "")


# ---------------------------------------------------------------------------------------------------- streams

TELL = """
def main():
    print("out")
    sys.stderr.write("err\\n")
    open("made", "w").write("data")
    return 2
run_script(main)
"""


@pytest.mark.parametrize(
    ("closed", "out", "err"),
    [
        ((0,), "out\n", "err\n"),
        ((1,), "", "err\nout\n"),
        ((2,), "err\nout\n", ""),
        ((0, 1, 2), "", ""),
    ],
)
def test_closed_streams_end_nothing(tmp_path, closed, out, err):
    """Text goes where a stream is left, and never into a file of the script's own."""
    code, *said = run(tmp_path, TELL, preexec_fn=lambda: [os.close(n) for n in closed])
    assert code == 2 and sorted(said[0]) == sorted(out) and sorted(said[1]) == sorted(err)
    assert (tmp_path / "made").read_text() == "data"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_below_the_output_ends_nothing(tmp_path):
    with open("/dev/full", "w") as full:
        code, _, err = run(tmp_path, TELL, stdout=full)
        assert code == 2 and "The output cannot be written: No space left on device." in err
        code, out, _ = run(tmp_path, TELL, stderr=full)
        assert code == 2 and sorted(out) == sorted("err\nout\n")
        assert run(tmp_path, TELL, stdout=full, stderr=full)[0] == 2
