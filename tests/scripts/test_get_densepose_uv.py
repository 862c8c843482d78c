"""get_densepose_uv.sh against a server of ours: whole archives arrive, everything else leaves no trace."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading

import pytest

NAMES = ("UV_Processed.mat", "UV_symmetry_transforms.mat")
TOOLS = ["bash", "tar", "gzip", "grep", "head", "mktemp", "mv", "rm", "rmdir", "mkdir", "dirname", "wc"]
LOADERS = [tool for tool in ("curl", "wget") if shutil.which(tool)]

pytestmark = pytest.mark.skipif(
    not LOADERS or not all(shutil.which(tool) for tool in TOOLS), reason="needs bash, tar and curl or wget"
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder on a local web server, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def project(tmp_path, root):
    """A checkout with nothing but the script."""
    folder = tmp_path / "pro ject"
    folder.mkdir()
    shutil.copy(root / "get_densepose_uv.sh", folder)
    return folder


def archive(path, members):
    """members: name -> content, or a TarInfo for something other than a file."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)


def mat(size=50_000):
    return b"MATLAB 5.0 MAT-file, Platform: none".ljust(128) + os.urandom(size - 128)


def whole():
    return {f"UV_data/{name}": mat() for name in NAMES}


def run(project, url, loader=LOADERS[0] if LOADERS else ""):
    """Run the script with one of the two loaders; everything else it may use is on the path too."""
    tools = project.parent / f"bin_{loader}"
    if not tools.exists():
        tools.mkdir()
        for tool in (*TOOLS, loader):
            (tools / tool).symlink_to(shutil.which(tool))
    env = {"PATH": str(tools), "DENSEPOSE_UV_URL": url, "no_proxy": "*", "HOME": str(project)}
    return subprocess.run(
        ["bash", str(project / "get_densepose_uv.sh")], env=env, capture_output=True, text=True, timeout=60
    )


def left_behind(project):
    data = project / "data"
    return sorted(str(p.relative_to(data)) for p in data.rglob("*")) if data.exists() else []


@pytest.mark.parametrize("loader", LOADERS)
def test_a_whole_archive_arrives_once(served, project, loader):
    folder, address = served
    members = whole()
    archive(folder / "a.tar.gz", members)
    done = run(project, f"{address}/a.tar.gz", loader)
    assert done.returncode == 0, done.stderr
    assert left_behind(project) == ["UV_data", *(f"UV_data/{name}" for name in NAMES)]
    for name in NAMES:
        assert (project / "data" / "UV_data" / name).read_bytes() == members[f"UV_data/{name}"]
    again = run(project, f"{address}/gone.tar.gz", loader)  # not fetched: all is there
    assert again.returncode == 0 and "already" in again.stdout


@pytest.mark.parametrize(
    "content", [b"", b"<html>moved</html>" * 1000, mat(2000)], ids=["empty", "page", "cut"]
)
def test_a_bad_file_that_is_there_is_fetched_again(served, project, content):
    folder, address = served
    members = whole()
    archive(folder / "a.tar.gz", members)
    target = project / "data" / "UV_data"
    target.mkdir(parents=True)
    (target / NAMES[0]).write_bytes(content)
    (target / NAMES[1]).write_bytes(members[f"UV_data/{NAMES[1]}"])
    assert run(project, f"{address}/gone.tar.gz").returncode != 0
    assert (target / NAMES[0]).read_bytes() == content
    done = run(project, f"{address}/a.tar.gz")
    assert done.returncode == 0 and f"{NAMES[0]} is no whole MATLAB file" in done.stdout
    for name in NAMES:
        assert (target / name).read_bytes() == members[f"UV_data/{name}"]


def test_a_member_named_like_an_option_is_never_one(served, project):
    """tar would take the first as a command to run."""
    folder, address = served
    members = {
        "--checkpoint-action=exec=touch trap;/UV_Processed.mat": mat(),
        "--checkpoint=1": b"x",
        **whole(),
    }
    archive(folder / "a.tar.gz", members)
    done = run(project, f"{address}/a.tar.gz")
    assert done.returncode != 0 and "read as options" in done.stderr
    assert left_behind(project) == [] and not list(project.parent.rglob("trap"))


def link(name, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"UV_data/UV_Processed.mat": mat()}, "lacks UV_symmetry_transforms.mat"),
        ({**whole(), "UV_data/UV_symmetry_transforms.mat": b""}, "empty, cut or no"),
        ({**whole(), "UV_data/UV_Processed.mat": os.urandom(50_000)}, "no MATLAB 5 file"),
        ({**whole(), "UV_data/UV_Processed.mat": mat(500)}, "empty, cut or no"),
        ({**whole(), "../escaped.txt": b"x"}, "outside its folder"),
        ({**whole(), "/escaped.txt": b"x"}, "outside its folder"),
        ({**whole(), "UV_data/../../escaped.txt": b"x"}, "outside its folder"),
        ({**whole(), "UV_data/link": link("UV_data/link", "/etc")}, "links"),
    ],
    ids=["missing", "empty", "random", "cut", "up", "absolute", "hidden-up", "link"],
)
def test_bad_archives_leave_nothing(served, project, members, words):
    folder, address = served
    archive(folder / "a.tar.gz", members)
    done = run(project, f"{address}/a.tar.gz")
    assert done.returncode != 0 and words in done.stderr
    assert left_behind(project) == []
    assert not (project / "escaped.txt").exists() and not (project.parent / "escaped.txt").exists()


def test_damaged_downloads_leave_nothing(served, project):
    folder, address = served
    archive(folder / "a.tar.gz", whole())
    raw = (folder / "a.tar.gz").read_bytes()
    (folder / "cut.tar.gz").write_bytes(raw[: len(raw) // 2])
    (folder / "page.tar.gz").write_bytes(b"<html>moved</html>")
    for name, words in (("cut", "no whole"), ("page", "no whole"), ("nowhere", "could not fetch")):
        done = run(project, f"{address}/{name}.tar.gz")
        assert done.returncode != 0 and words in done.stderr
        assert left_behind(project) == []
