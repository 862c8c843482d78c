"""How the doctor looks at the files of data/: those that ship, the licensed ones, weights, labels and fits.

Every file is read as the scripts read it, so nothing in it is executed. Part of the script utils/doctor.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets.densepose import load_symmetry
from datasets.fits import fit_paths, read_fits
from datasets.labels import read_label_file
from datasets.registry import EXTRAS, FOLDERS, SPECS, DatasetSpec
from models import build_danet
from models.pretrained import network_of
from models.pretraining import FOLDER, HRNET_FILES, RESNET18, RESNET50
from utils.assets import (
    CORE_NEED,
    LICENSED_FILES,
    find_smpl_file,
    load_learned_ratio,
    load_mean_params,
)
from utils.body import OPEN_DIR, SMPL_ID, load_open_body, read_regressor, read_smpl_file
from utils.checkpoint import load_checkpoint, load_danet, strip_prefixes, weights_id
from utils.densepose_uv import load_open_atlas, load_uv_processed
from utils.doctor_checks import ABSENT, MISSING, NO_PICTURES, Finding, examine
from utils.safe_io import DataFileError, load_npz
from utils.skeleton import SMPL_JOINT_NAMES
from utils.structures import BodyModel, Regressor

RESTORE = "git checkout -- data/open"
# First digits of the SHA-256 of the shipped binary files; text may have other line ends.
SHIPPED_IDS = {
    "body.npz": "9aabe7851d15",
    "atlas.npz": "ae7990c5e63c",
    "regressors.npz": "02224ff43fda",
    "motions.npz": "72be5fdf0880",
    "smpl_mean_params.npz": "6fd6dd687800",
    "danet_s.safetensors": "bac392ae762c",
    "movenet_trunk.safetensors": "4d4408a1bbb8",
    "movenet_multipose.onnx": "c81951eb1aa1",
}
SHIPPED_CHECKS: dict[str, Callable[[Path], object]] = {
    "body.npz": read_smpl_file,
    "atlas.npz": load_open_atlas,
    "regressors.npz": lambda path: [read_regressor(path, kind) for kind in ("surface", "extra", "h36m")],
    "motions.npz": load_npz,
    "smpl_mean_params.npz": load_mean_params,
    "learned_ratio.json": load_learned_ratio,
    "danet_s.safetensors": load_checkpoint,
    "movenet_trunk.safetensors": load_checkpoint,
}
_LIMBS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
# Joints of a regressor that lie near a joint of the body (of either side), whoever defined them.
LANDMARKS = {
    "extra": {
        "right_hip_lsp": ("right_hip",), "left_hip_lsp": ("left_hip",), "neck_lsp": ("neck",),
        "pelvis_mpii": ("pelvis",), "thorax_mpii": ("neck",), "jaw_h36m": ("head",),
    },
    "h36m": {
        f"{side}_{limb}": (f"left_{limb}", f"right_{limb}") for side in ("left", "right") for limb in _LIMBS
    },
}  # fmt: skip
NEAR = 0.2  # metres
WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors", ".tar")


def shipped_files() -> Iterator[Finding]:
    """The files of data/open, by content."""
    for name in dict.fromkeys((*SHIPPED_CHECKS, *SHIPPED_IDS)):
        path = OPEN_DIR / name
        if path.is_file():
            yield examine(f"open/{name}", lambda path=path: check_shipped(path), RESTORE)
        else:
            yield Finding(MISSING, f"open/{name}", "not there; it is part of this project", RESTORE)


def check_shipped(path: Path) -> str:
    """Read a shipped file. Raises DataFileError for one that is damaged or was changed."""
    if path.name in SHIPPED_CHECKS:
        SHIPPED_CHECKS[path.name](path)
    found, known = weights_id(path), SHIPPED_IDS.get(path.name)
    if known not in (None, found):
        raise DataFileError(f"{path} is not as it ships: its id is {found}, expected {known}.")
    return f"as it ships, id {found}" if known else "readable"


# ---------------------------------------------------------------------------------------------- licensed files


def licensed_files(data_dir: Path) -> Iterator[Finding]:
    """The files of the official body and what belongs to it; a part of the set makes its rest needed."""
    if not data_dir.is_dir():
        yield Finding(MISSING, str(data_dir), "there is no such folder", "Give the right --data_dir.")
        return
    found = {key: find(data_dir) for key, (find, _, _) in LICENSED_FILES.items()}
    begun = any(found[key] for key in (*CORE_NEED, "body_male", "body_female"))
    neutral = _readable_body(found["body"])
    checks: dict[str, Callable[[Path], str]] = {
        **dict.fromkeys(("body", "body_male", "body_female"), check_body),
        "atlas": check_atlas,
        "uv_symmetry": lambda path: check_symmetry(data_dir),
        "regressor_extra": lambda path: check_regressor(path, "extra", neutral),
        "regressor_h36m": lambda path: check_regressor(path, "h36m", neutral),
    }
    for key, (_, name, origin) in LICENSED_FILES.items():
        path = found[key]
        if path is None:
            needed = begun and key in CORE_NEED
            text = "not there, and --body auto needs it beside the others" if needed else "not there"
            yield Finding(MISSING if needed else ABSENT, name, text, origin)
            continue
        check, cure = checks[key], f"Get it again: {origin}"
        finding = examine(name, lambda check=check, path=path: check(path), cure)
        file = shown(path, data_dir)
        yield finding if file == name else replace(finding, text=f"{file}: {finding.text}")
    yield from unused_bodies(data_dir)
    yield from starting_numbers(data_dir)


def shown(path: Path, data_dir: Path) -> str:
    return path.relative_to(data_dir).as_posix()


def unused_bodies(data_dir: Path) -> Iterator[Finding]:
    """Files beside the bodies in use whose names no script looks for, or that another file has priority over."""
    used = {find_smpl_file(gender, data_dir) for gender in ("neutral", "male", "female")}
    for path in sorted((data_dir / "smpl").glob("*")):
        if path.suffix.lower() in (".pkl", ".npz") and path not in used:
            yield Finding(ABSENT, shown(path, data_dir), "not used; data/README.md tells the names that are")


def starting_numbers(data_dir: Path) -> Iterator[Finding]:
    """The user's own copies of numbers that ship with the project."""
    readers = {
        "smpl_mean_params.npz": load_mean_params,
        "learned_ratio.pkl": load_learned_ratio,
        "pretrained_model/learned_ratio.pkl": load_learned_ratio,
    }
    for name, read in readers.items():
        path = data_dir / name
        if path.is_file():
            yield examine(
                name,
                lambda read=read, path=path: (
                    "readable, used in place of the shipped one" if read(path) else ""
                ),
                "Remove it: the shipped numbers are the same.",
            )
    if not any((data_dir / name).is_file() for name in readers):
        yield Finding(ABSENT, "mean parameters, learned ratio", "not there; the shipped ones are used")


def _readable_body(path: Path | None) -> BodyModel | None:
    try:
        return read_smpl_file(path) if path else None
    except (ValueError, OSError):
        return None


def check_body(path: Path) -> str:
    """Raises DataFileError for a damaged or hostile file, and for another body than SMPL."""
    body = read_smpl_file(path)
    if body.model_id != SMPL_ID or np.array_equal(body.v_template, load_open_body().v_template):
        raise DataFileError(
            f"{path} holds the body '{load_open_body().model_id}', not an official SMPL body."
        )
    return f"{len(body.v_template)} vertices, {len(body.faces)} faces"


def check_atlas(path: Path) -> str:
    """Raises DataFileError for a file that is damaged or something else."""
    return f"{len(load_uv_processed(path).faces)} faces in 24 parts"


def check_symmetry(data_dir: Path) -> str:
    """Raises DataFileError for a file that is damaged or something else."""
    load_symmetry(data_dir)
    return "mirror tables of 24 parts"


def check_regressor(path: Path, kind: str, body: BodyModel | None) -> str:
    """Raises DataFileError for a damaged file and for the regressor of another body."""
    regressor = read_regressor(path, kind)
    open_one = read_regressor(OPEN_DIR / "regressors.npz", kind)
    size = " x ".join(map(str, regressor.matrix.shape))
    if np.array_equal(regressor.matrix, open_one.matrix):
        raise DataFileError(
            f"{path} is the regressor of another body: of '{open_one.model_id}', the open one."
        )
    if not np.isfinite(regressor.matrix).all():
        raise DataFileError(f"{path} holds values that are not finite.")
    if body is None:
        return f"{size}; not tried, for want of a body"
    name, distance = farthest_landmark(regressor, kind, body)
    if distance > NEAR:
        raise DataFileError(
            f"{path} is the regressor of another body: its '{name}' lies {distance:.2f} m from the body's own."
        )
    return f"{size}, its joints lie in the body"


def farthest_landmark(regressor: Regressor, kind: str, body: BodyModel) -> tuple[str, float]:
    """The joint that is farthest from where the body has it, and how far, metres."""
    own, regressed = body.J_regressor @ body.v_template, regressor.matrix @ body.v_template
    distances = {}
    for name, joints in LANDMARKS[kind].items():
        theirs = regressed[regressor.names.index(name)]
        ours = own[[SMPL_JOINT_NAMES.index(joint) for joint in joints]]
        distances[name] = float(np.linalg.norm(ours - theirs, axis=1).min())
    name = max(distances, key=distances.__getitem__)
    return name, distances[name]


# ------------------------------------------------------------------------------------------ weights, data sets


def weights_files(data_dir: Path) -> Iterator[Finding]:
    """Weights in data/pretrained_model: those of DaNet are put into the network that they name."""
    public = {name for known in (*HRNET_FILES.values(), RESNET18, RESNET50) for name in known.names}
    folder = data_dir / FOLDER
    files = sorted(p for p in folder.glob("*") if p.suffix in WEIGHT_SUFFIXES) if folder.is_dir() else []
    for path in files:
        cure = "Fetch it again from where it came from."
        yield examine(
            shown(path, data_dir), lambda path=path: check_weights(path, path.name in public, data_dir), cure
        )
    if not files:
        yield Finding(
            ABSENT, f"{FOLDER}/", "no weights there; those that ship are used", "see data/README.md"
        )


def check_weights(path: Path, is_public: bool, data_dir: Path) -> str:
    """Raises DataFileError or StateMismatchError for weights that cannot be used."""
    state = strip_prefixes(load_checkpoint(path)["model"], Path(path))
    if is_public:
        return f"a trunk to start training from, {len(state)} tensors"
    if not any(key.startswith("img2iuv.") for key in state):
        return f"{len(state)} tensors, not of DaNet"
    network = network_of(None, str(path))
    report = load_danet(build_danet(network, data_dir), path)
    return f"weights of DaNet, {report.loaded} tensors, id {report.weights_id}"


def label_files(data_dir: Path) -> Iterator[Finding]:
    """Labels and fits of the data sets that are there; one line for the others."""
    absent = []
    for spec in SPECS.values():
        for is_train in (True, False):
            if (spec.train_file if is_train else spec.test_file) is None:
                continue
            name = f"{EXTRAS}/{spec.label_file(is_train)}"
            if not (data_dir / name).is_file():
                absent.append(spec.label_file(is_train).removesuffix(".npz"))
                continue
            yield examine(
                name,
                lambda spec=spec, is_train=is_train: check_labels(spec, is_train, data_dir),
                "Make or fetch it again; data/README.md tells how.",
            )
    if absent:
        yield Finding(
            ABSENT,
            f"{EXTRAS}/",
            "not there: " + ", ".join(absent),
            "data/README.md, Converting the data sets",
        )
    if not any((data_dir / folder).is_dir() for folder in ("final_fits", "static_fits")):
        yield Finding(ABSENT, "final_fits/, static_fits/", "not there; from SPIN, for training only")


def check_labels(spec: DatasetSpec, is_train: bool, data_dir: Path) -> str:
    """Read labels, and fits of a training set. Raises DataFileError for damage and for fits of other people."""
    labels = read_label_file(data_dir / EXTRAS / spec.label_file(is_train), spec.fields(is_train))
    root = data_dir / FOLDERS[spec.root]
    pictures = "" if (root / str(labels.imgname[0])).is_file() else f"; {NO_PICTURES} {root}"
    if not is_train or not any(path.is_file() for path in fit_paths(spec.name, data_dir)):
        return f"{len(labels):,} people{pictures}"
    fits = read_fits(spec.name, len(labels), data_dir)
    return f"{len(labels):,} people, {int(fits.valid.sum()):,} fits ({fits.path.parent.name}){pictures}"
