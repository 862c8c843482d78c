"""Data sets by name: their label files, image folders and their fields (docs/method.md 8.5 and 11)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from utils.config import option

EXTRAS = "dataset_extras"
COMMON_FIELDS = ("imgname", "center", "scale")


@dataclass(frozen=True)
class PathsConfig:
    """Folders of images that do not lie below the data folder; empty: `<data_dir>/<usual name>`."""

    h36m_root: str = option("", "folder of Human3.6M's images/ (usual: <data_dir>/h36m)")
    lsp_root: str = option("", "folder of LSP's images/ (usual: <data_dir>/lsp_dataset)")
    lsp_orig_root: str = option("", "LSP in original size (usual: <data_dir>/lsp_dataset_original)")
    upi_s1h_root: str = option("", "UPi-S1h, LSP's masks and parts (usual: <data_dir>/upi-s1h)")
    lspet_root: str = option("", "LSP extended (usual: <data_dir>/hr-lspet)")
    mpii_root: str = option("", "MPII (usual: <data_dir>/mpii)")
    coco_root: str = option("", "folder of COCO's train2014/ and val2014/ (usual: <data_dir>/coco)")
    mpi_inf_3dhp_root: str = option("", "MPI-INF-3DHP (usual: <data_dir>/mpi_inf_3dhp)")
    photos_root: str = option("", "your own photographs and their masks (usual: <data_dir>/photos)")
    pw3d_root: str = option("", "folder of 3DPW's imageFiles/ (usual: <data_dir>/3dpw)")


FOLDERS = {
    "h36m_root": "h36m", "lsp_root": "lsp_dataset", "lsp_orig_root": "lsp_dataset_original",
    "upi_s1h_root": "upi-s1h", "lspet_root": "hr-lspet", "mpii_root": "mpii", "coco_root": "coco",
    "mpi_inf_3dhp_root": "mpi_inf_3dhp", "photos_root": "photos", "pw3d_root": "3dpw",
}  # fmt: skip


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: its files, where None says that it has no such split, its fields and where it comes from."""

    name: str
    root: str  # field of PathsConfig
    train_file: str | None = None
    test_file: str | None = None
    train_fields: tuple[str, ...] = ()  # needed beside COMMON_FIELDS
    test_fields: tuple[str, ...] = ()
    converter: str = ""  # module of datasets.preprocess that writes the file
    images: str = ""  # where the images come from
    dense_only: bool = False  # annotated points stand for rendered maps, bodies are no labels
    label_root: str = ""  # field of PathsConfig, of images of masks and parts; empty: `root`

    def label_file(self, is_train: bool) -> str:
        """Name of the split's .npz. Raises ValueError when the set has no such split."""
        name = self.train_file if is_train else self.test_file
        if name is None:
            split = "training" if is_train else "test"
            fitting = ", ".join(s.name for s in SPECS.values() if (s.train_file if is_train else s.test_file))
            raise ValueError(f"The data set '{self.name}' has no {split} split; choose one of {fitting}.")
        return f"{name}.npz"

    def fields(self, is_train: bool) -> tuple[str, ...]:
        """Fields that the split's file must hold."""
        return COMMON_FIELDS + (self.train_fields if is_train else self.test_fields)


PHOTOS = "photos"
UPI_SOURCE = "the UPi-S1h site; --upi_s1h_root names another folder"
_H36M = "the Human3.6M site (registration)"
_COCO = "cocodataset.org (train2014.zip, val2014.zip)"
_ALL = (
    DatasetSpec("h36m", "h36m_root", "h36m_mosh_train", None, ("part", "S", "pose", "shape"), (),
                "", _H36M),
    DatasetSpec("h36m-p1", "h36m_root", None, "h36m_valid_protocol1", (), ("S",), "h36m", _H36M),
    DatasetSpec("h36m-p2", "h36m_root", None, "h36m_valid_protocol2", (), ("S",), "h36m", _H36M),
    DatasetSpec("lsp", "lsp_root", None, "lsp_dataset_test", (), ("maskname", "partname"), "lsp",
                "the LSP site (lsp_dataset.zip)", label_root="upi_s1h_root"),
    DatasetSpec("lsp-orig", "lsp_orig_root", "lsp_dataset_original_train", None, ("part",), (), "lsp_orig",
                "the LSP site (lsp_dataset_original.zip)"),
    DatasetSpec("lspet", "lspet_root", "hr-lspet_train", None, ("part",), (), "lspet",
                "the UPi-S1h site (hr-lspet.zip)"),
    DatasetSpec("mpii", "mpii_root", "mpii_train", None, ("part",), (), "mpii", "the MPII site"),
    DatasetSpec("coco", "coco_root", "coco_2014_train", "coco_2014_val", ("part",), ("part",), "coco", _COCO),
    DatasetSpec("dp_coco", "coco_root", "dp_coco_2014_train", "dp_coco_2014_minival",
                ("part", "smpl_2dkps", "dp_annot"), ("part", "smpl_2dkps", "dp_annot"), "dp_coco", _COCO,
                dense_only=True),
    DatasetSpec("mpi-inf-3dhp", "mpi_inf_3dhp_root", "mpi_inf_3dhp_train", "mpi_inf_3dhp_valid",
                ("part", "S"), ("S",), "mpi_inf_3dhp", "the MPI-INF-3DHP site"),
    DatasetSpec(PHOTOS, "photos_root", "photos_train", None,
                ("part", "S", "pose", "shape", "body_model", "maskname"), (), "", "you"),
    DatasetSpec("3dpw", "pw3d_root", None, "3dpw_test", (), ("pose", "shape", "gender"), "pw3d",
                "the 3DPW site (imageFiles.zip)"),
)  # fmt: skip

SPECS: dict[str, DatasetSpec] = {spec.name: spec for spec in _ALL}


def find_spec(name: str) -> DatasetSpec:
    """The entry of `SPECS` of this name. Raises ValueError for an unknown one."""
    if name not in SPECS:
        raise ValueError(f"There is no data set '{name}'; choose one of {', '.join(SPECS)}.")
    return SPECS[name]


def image_root(field: str, data_dir: str | Path, paths: PathsConfig) -> Path:
    """The folder that image names of a set are relative to; `field` is one of PathsConfig."""
    given = getattr(paths, field)
    return Path(given).expanduser() if given else Path(data_dir) / FOLDERS[field]


def find_label_file(spec: DatasetSpec, data_dir: str | Path, is_train: bool) -> Path:
    """The split's .npz, which is there; else FileNotFoundError says where it comes from."""
    file = Path(data_dir) / EXTRAS / spec.label_file(is_train)
    if not file.is_file():
        raise FileNotFoundError(f"The labels of '{spec.name}' are not at {file}; {origin_of_labels(spec)}.")
    return file


def origin_of_labels(spec: DatasetSpec) -> str:
    """Text on how to get the set's label file, for the end of a sentence."""
    if spec.converter:
        return f"`python -m datasets.preprocess.{spec.converter}` writes it from the set's own annotations"
    if spec.name == PHOTOS:
        return "docs/training.md shows how to make it of a folder of photographs"
    return "its MoSh labels may not be passed on, so only those who hold a copy have it"


def check_images(root: Path, names: Iterable[str], what: str, source: str) -> None:
    """Raise one FileNotFoundError when the folder or some of its images are not there, with a first example."""
    origin = f" They come from {source}." if source else ""
    if not root.is_dir():
        raise FileNotFoundError(f"The {what} should be in the folder {root}, which is not there.{origin}")
    files: dict[str, set[str]] = defaultdict(set)
    for folder, _, file in (str(name).rpartition("/") for name in names):
        files[folder].add(file)
    missing = []
    for (
        folder,
        wanted,
    ) in files.items():  # folders are listed once: much faster than asking for each of 300,000 files
        existing = os.listdir(root / folder) if (root / folder).is_dir() else ()
        missing += [f"{folder}/{file}".lstrip("/") for file in sorted(wanted.difference(existing))]
    total = sum(map(len, files.values()))
    if missing:
        raise FileNotFoundError(
            f"{len(missing):,} of the {total:,} {what} are not below {root}, the first is {missing[0]}.{origin}"
        )


def check_label_images(spec: DatasetSpec, field: str, names: Iterable[str], root: Path) -> None:
    """Raise FileNotFoundError, as `check_images` does, for images of masks or parts; an empty name needs none."""
    source = UPI_SOURCE if spec.label_root else f"{spec.images}; --{spec.root} names another folder"
    check_images(root, filter(None, names), f"label images ({field}) of '{spec.name}'", source)
