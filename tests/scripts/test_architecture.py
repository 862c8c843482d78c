"""Rules that keep the packages apart, checked on the syntax trees: imports, safe reading, devices, sizes."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("utils", "models", "datasets")
SCRIPTS = ("app", "demo", "train", "eval", "eval_coco")
# Distribution -> import name, where they differ.
IMPORT_NAMES = {"opencv-python-headless": "cv2", "pyyaml": "yaml", "pillow": "PIL"}
# Calls that read files of unknown origin, and who may make them: others use `utils.io`.
READERS = {
    **dict.fromkeys(("np.load", "loadmat", "scipy.io.loadmat", "torch.load", "load_file", "np.fromfile"), ()),
    **dict.fromkeys(("safe_open", "json.load"), ("utils/io/readers.py",)),
    "json.loads": ("utils/io/readers.py", "data/open/build/movenet_trunk.py"),
}
MEGABYTE = 1_000_000


def tracked() -> list[Path]:
    """Files of the project: what git would ship, or all files where there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if listing.returncode == 0:
        found = [ROOT / line for line in listing.stdout.splitlines()]
    else:
        found = [p for p in ROOT.rglob("*") if not {".venv", "output", "logs"} & set(p.parts)]
    return sorted(p for p in found if p.is_file())


FILES = tracked()
SOURCES = {
    p.relative_to(ROOT).as_posix(): ast.parse(p.read_text(encoding="utf-8"))
    for p in FILES
    if p.suffix == ".py"
}
RUNTIME = sorted(n for n in SOURCES if n.split("/")[0] in OURS or n.removesuffix(".py") in SCRIPTS)


def modules(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Imported modules, relative ones aside, and their statements."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node


@functools.cache
def calls(name: str) -> list[tuple[str, ast.Call]]:
    """Calls in a file by dotted name, as written."""
    found = (node for node in ast.walk(SOURCES[name]) if isinstance(node, ast.Call))
    return [(ast.unparse(node.func), node) for node in found if isinstance(node.func, ast.Name | ast.Attribute)]


def keyword(call: ast.Call, name: str) -> object:
    for word in call.keywords:
        if word.arg == name:
            return word.value.value if isinstance(word.value, ast.Constant) else word.value
    return None


# Each layer imports itself and those before it in its list; a folder's name stands for all that is in it.
LAYERS = (
    ("utils", ("datasets",), SCRIPTS),
    ("utils", ("models",), SCRIPTS),
    ("models/backbones", ("models/*",), "models/fitting", ("models/inference", "models/training"),
     ("models/evaluation",)),
    (("utils/records", "utils/structures", "utils/skeleton"), ("utils/*", "utils/io", "utils/config"), ("utils/body",),
     ("utils/renderer",), ("utils/export",), ("utils/doctor",)),
    (("datasets/labels",), ("datasets/*", "datasets/people", "datasets/synthetic"), ("datasets/preprocess",)),
)  # fmt: skip


def level(name: str, layers: tuple) -> int | None:
    """The layer of a module "a/b/c": the longest name of a layer that it starts with; "a/*" are the files of a."""
    fits = [
        (len(part), number)
        for number, parts in enumerate(layers)
        for part in ((parts,) if isinstance(parts, str) else parts)
        if name == part or name.startswith(part + "/") or part == name.rpartition("/")[0] + "/*"
    ]
    return max(fits)[1] if fits else None


@functools.cache
def imported(name: str) -> set[str]:
    """Modules of ours that a module imports, as "a/b/c"; packages as "a/b"."""
    found = set()
    for node in ast.walk(SOURCES[f"{name}.py"]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    names = {f.replace(".", "/") for f in found}
    return {n for n in names if f"{n}.py" in SOURCES or f"{n}/__init__.py" in SOURCES} & {
        n for n in names if n.split("/")[0] in (*OURS, *SCRIPTS)
    }


def test_layers_import_only_what_lies_below():
    for file in RUNTIME:
        name = file.removesuffix(".py").removesuffix("/__init__")
        is_package = file.endswith("/__init__.py")
        for layers in LAYERS:
            own = level(name, layers)
            for other in imported(file.removesuffix(".py")) if own is not None and not is_package else ():
                theirs = level(other, layers)
                assert theirs is None or theirs <= own, f"{name} must not import {other}"
        for other in imported(file.removesuffix(".py")):
            pair = {name.split("/")[0], other.split("/")[0]}
            finds_people = name.startswith("models/inference/") and other.startswith("datasets/people/")
            assert pair != {"models", "datasets"} or finds_people, f"{name} must not import {other}"


def test_no_import_circle():
    """Over the modules; a package's `__init__`, which hands names on, is no module here."""
    names = [n.removesuffix(".py") for n in RUNTIME if not n.endswith("/__init__.py")]
    open_ = {n: imported(n) & set(names) - {n} for n in names}
    while free := [n for n, others in open_.items() if not others & open_.keys()]:
        for name in free:
            del open_[name]
    assert not open_, f"circles among {sorted(open_)}"


def test_sizes():
    for name in RUNTIME:
        lines = (ROOT / name).read_text(encoding="utf-8").count("\n")
        assert lines <= 300, f"{name}: {lines} lines"
        for node in ast.walk(SOURCES[name]):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 50, f"{name}: {node.name} is longer than 50 lines"
    folders = [str(Path(name).parent) for name in RUNTIME]
    assert max(folders.count(folder) for folder in folders) <= 20


def test_other_packages_are_required_or_imported_in_a_function():
    packages = {re.split(r"[<>=!~ ;\[]", line)[0].lower() for line in requirements()}
    known = {IMPORT_NAMES.get(p, p) for p in packages} | {"tensorboardX", *sys.stdlib_module_names, *OURS}
    for name in (n for n in RUNTIME if not n.startswith("datasets/preprocess/")):
        at_import = [n for n in SOURCES[name].body if isinstance(n, ast.Import | ast.ImportFrom)]
        for module, _ in (found for node in at_import for found in modules(node)):
            assert module.split(".")[0] in known, f"{name} imports {module}, which requirements.txt does not name"


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_packages_have_lower_bounds():
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"(#|-r ).*|[\w-]+>=[\d.]+", line), f"{path.name}: '{line}' needs a lower bound only"


def test_files_open_with_a_docstring():
    for name, tree in SOURCES.items():
        assert not tree.body or ast.get_docstring(tree), f"{name} does not say what it holds"


def test_no_device_is_assumed():
    for name in RUNTIME:
        for called, _ in calls(name):
            assert not called.endswith(".cuda"), f"{name}: take the device from the input, not {called}()"


def test_files_are_read_without_running_them():
    for name in SOURCES:
        for called, call in calls(name):
            assert keyword(call, "allow_pickle") is not True, f"{name}: {called}(allow_pickle=True)"
            assert called not in ("eval", "exec", "os.system"), f"{name}: {called}()"
            assert called not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load"), f"{name}: {called}"
            if called == "torch.load":
                assert keyword(call, "weights_only") is True, f"{name}: torch.load without weights_only=True"
            if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
                loader = keyword(call, "Loader")
                is_strict = name == "utils/config/values.py" and ast.unparse(loader) == "_StrictLoader"
                assert is_strict, f"{name}: {called}"


def test_files_are_read_by_the_safe_readers():
    for name in RUNTIME:
        for called, _ in calls(name):
            assert called not in READERS or name in READERS[called], f"{name}: {called}() instead of utils.io"


TEXT = (".py", ".ipynb", ".md", ".toml", ".txt", ".sh", ".yaml", ".json", "")
# Put together here, so that this file passes its own test.
LOCAL_PATHS = re.compile("(?<![\\w.~}*-])/(" + "|".join(("work", "tmp", "home", "root", "Users")) + ")/")


def test_no_path_of_a_single_machine():
    for path in (p for p in FILES if p.suffix in TEXT and p.stat().st_size < MEGABYTE):
        found = LOCAL_PATHS.search(path.read_text(encoding="utf-8", errors="ignore"))
        assert not found, f"{path.relative_to(ROOT)} names {found.group(0)}"


def total(folder: str, but: tuple[str, ...] = ()) -> int:
    return sum(p.stat().st_size for p in FILES if (ROOT / folder) in p.parents and p.suffix not in but)


def test_shipped_files_stay_small():
    assert total("data/open", but=(".safetensors", ".onnx")) < 2 * MEGABYTE
    assert all(p.stat().st_size < 32 * MEGABYTE for p in FILES)
    assert total("tests/golden") < 2 * MEGABYTE
    assert total("examples") < 2 * MEGABYTE


def test_user_data_is_never_committed():
    data = [p.relative_to(ROOT).as_posix() for p in FILES if (ROOT / "data") in p.parents]
    assert all(n == "data/README.md" or n.startswith("data/open/") for n in data), data


PUBLIC = """
datasets: BaseDataset COCODataset MixedDataset
datasets.augment: AugmentValues
datasets.transforms: preprocess
models: DaNet DaNetConfig SMPL build_danet load_predictor
models.losses: IUVCriterion LossWeights SMPLCriterion
models.targets: TargetBuilder
utils.body: read_smpl_file resolve_body
utils.checkpoint: load_checkpoint load_danet save_checkpoint
utils.geometry: batch_rodrigues estimate_translation perspective_projection rot6d_to_rotmat
utils.iuvmap: iuv_img2map iuv_map2img iuvmap_clean
utils.metrics: mpjpe pa_mpjpe
utils.renderer: IUV_Renderer MeshRenderer
"""


def test_public_names_stay():
    """Users' notebooks import these, whether our own code calls them or not."""
    for line in PUBLIC.strip().splitlines():
        module, names = line.split(": ")
        lacking = [name for name in names.split() if not hasattr(importlib.import_module(module), name)]
        assert not lacking, f"{module} lacks {lacking}"
