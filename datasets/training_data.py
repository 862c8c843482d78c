"""The people of a training run, by epoch and index, and the settings that choose them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from datasets.augment import AugmentConfig
from datasets.base_dataset import BaseDataset
from datasets.held_out import read_held_out, require_held_out
from datasets.labelled_people import LabelledPeople
from datasets.mixed_dataset import MIXES, SYNTHETIC, Mix, MixedDataset, parse_mix
from datasets.registry import EXTRAS, PHOTOS, SPECS, PathsConfig, find_label_file, find_spec, image_root
from datasets.sampler import Place
from datasets.synthetic.dataset import Draw, SyntheticPeople
from datasets.synthetic.fitted_poses import FittedPoses, read_fitted_poses
from utils.body import DATA_DIR, SMPL_ID
from utils.config import group, option, require_range
from utils.geometry import CROP_MODES, CROP_SIZE
from utils.structures import Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataConfig:
    """Data sets of a training and how samples are made; the augmentation is the published one."""

    train_data: str = option(
        "h36m_dp", f"{', '.join(MIXES)}, a set's name, {SYNTHETIC}, or several with '+' as in synthetic+coco"
    )
    skip_missing: bool = option(False, "train on those sets of the mix that are there")
    synthetic_size: int = option(16000, "synthetic people in an epoch")
    photo_poses: float = option(
        0.0, "share of synthetic people who take a pose of the bodies that were fitted to photographs"
    )
    easy_epochs: int = option(0, "epochs over which the synthetic images grow to full difficulty")
    photos_held_out: str = option(
        "", "file of the names of photographs that are never trained on; default: data/open/photos_held_out.txt"
    )
    ignore_3d: bool = option(False, "pass over pose, shape and 3D joints of labelled sets")
    crop_mode: str = option(
        "warp", "crops: anti-aliased (warp) or those of 2020 (legacy)", choices=CROP_MODES
    )
    img_res: int = option(CROP_SIZE, "side of the crops in pixels; the networks take 224 only")
    shuffle_train: bool = option(True, "another order in every epoch; --no_shuffle_train: that of the files")
    num_workers: int = option(2, "processes that prepare images; 0: the training itself does")
    pin_memory: bool = option(True, "faster copies to a CUDA device; --no_pin_memory to save memory")
    augment: AugmentConfig = group(AugmentConfig)
    paths: PathsConfig = group(PathsConfig)

    def __post_init__(self) -> None:
        parse_mix(self.train_data)
        if self.img_res != CROP_SIZE:
            raise ValueError(f"--img_res is {self.img_res}, but the networks take images of {CROP_SIZE} px only.")
        require_range(self, 0, 1024, "num_workers")
        require_range(self, 0, 1, "photo_poses")
        if self.synthetic_size < 1 or self.num_workers < 0 or self.easy_epochs < 0:
            raise ValueError(
                "--synthetic_size must be at least 1, --num_workers and --easy_epochs at least 0; got "
                f"{self.synthetic_size}, {self.num_workers} and {self.easy_epochs}."
            )

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all sets of the mix."""
        return parse_mix(self.train_data).members

    def without_effect(self) -> dict[str, str]:
        """Settings that were changed and change nothing for this mix: {name: reason}."""
        names, groups = [], (self, self.augment, self.paths)
        labelled = [name for name in self.members if name != SYNTHETIC]
        if SYNTHETIC not in self.members:
            of_rendered = ("synthetic_size", "photo_poses", "easy_epochs")
            names += [(name, "the mix has no synthetic people") for name in of_rendered]
        if not labelled:
            of_sets = ("skip_missing", "ignore_3d", "crop_mode", *(f.name for f in fields(AugmentConfig)))
            names += [(name, "the mix has no labelled set") for name in of_sets]
        if PHOTOS not in labelled and not self.paths.photos_root:
            names.append(("photos_held_out", "the mix has no photographs"))
        roots = {SPECS[name].root for name in labelled}
        roots.add(SPECS[PHOTOS].root)  # held-out photographs measure a run on any mix
        others = [f.name for f in fields(PathsConfig) if f.name not in roots]
        names += [(name, "the mix has no set that lies there") for name in others]
        return {
            name: reason
            for name, reason in names
            for group in groups
            if hasattr(group, name) and getattr(group, name) != getattr(type(group)(), name)
        }


class TrainingData(Dataset):
    """The people of a run by `Place`: each is a function of (seed, epoch, index) and the settings."""

    def __init__(self, mix: MixedDataset, easy_epochs: int = 0, rendered: range = range(0)):
        """
        Args:
            easy_epochs: over which synthetic images grow to full difficulty.
            rendered: epochs that look at no image, so that synthetic ones need not be painted.
        """
        self.mix, self.easy_epochs, self.rendered = mix, easy_epochs, rendered

    def __len__(self) -> int:
        """People in an epoch."""
        return len(self.mix)

    def __getitem__(self, place: Place) -> Sample:
        difficulty = min(1.0, (place.epoch + 1) / (self.easy_epochs + 1))
        return self.mix.sample(place.index, Draw(place.epoch, difficulty, place.epoch in self.rendered))

    def to_dict(self) -> dict[str, Any]:
        """The mix that really runs, as plain data."""
        shares = zip(self.mix.members, self.mix.probabilities.tolist(), strict=True)
        members = {m.name: {"people": len(m), "probability": share} for m, share in shares}
        return {
            "mix": self.mix.name,
            "members": members,
            "left_out": list(self.mix.left_out),
            "epoch": len(self),
        }


def build_mix(
    cfg: DataConfig, data_dir: str | Path = DATA_DIR, seed: int = 0, *, body: str = SMPL_ID
) -> MixedDataset:
    """The training people of the settings.

    Args:
        body: id of the run's; pose and shape of another one are passed over.

    Raises:
        ValueError: photographs are held out; also what `BaseDataset` raises.
        FileNotFoundError: a member is not there, or none with `cfg.skip_missing`.
    """
    try:
        mix = _open_mix(cfg, data_dir, seed)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error} Without any files, --train_data {SYNTHETIC} trains on rendered people."
        ) from error
    for member in mix.members:
        if member.name == PHOTOS:
            require_held_out(member.labels.imgname, read_held_out(cfg.photos_held_out), str(member.file))
        if isinstance(member, LabelledPeople) and member.labels.body_model != body:
            member.pass_over_bodies(f"they belong to '{member.labels.body_model}', the run shows '{body}'")
    return mix


def _open_mix(cfg: DataConfig, data_dir: str | Path, seed: int) -> MixedDataset:
    """The sets of a mix with their probabilities; rendered people are so many that none repeats."""
    mix = parse_mix(cfg.train_data)
    missing = _missing(mix, data_dir, cfg.paths) if cfg.skip_missing else {}
    for member, path in missing.items():
        log.warning("The mix '%s' runs without %s: %s is not there.", mix.name, member, path)
    if len(missing) == len(mix.members):
        raise FileNotFoundError(
            f"No member of the mix '{mix.name}' is there: looked for {', '.join(map(str, missing.values()))}."
        )
    members: dict[str, LabelledPeople | SyntheticPeople] = {
        member: BaseDataset(
            member, data_dir, cfg.paths,
            is_train=True, crop_mode=cfg.crop_mode, ignore_3d=cfg.ignore_3d, augmentation=cfg.augment, seed=seed,
        )
        for member in mix.members if member not in missing and member != SYNTHETIC
    }  # fmt: skip
    for people in members.values():
        for sentence in people.suspicions:
            log.warning("Suspicion: %s", sentence)
    if SYNTHETIC in mix.members:
        size = max([cfg.synthetic_size, *map(len, members.values())])
        fitted = _photo_poses(cfg.photo_poses, data_dir)
        members[SYNTHETIC] = SyntheticPeople(size, split="train", seed=seed, fitted=fitted)
    shares = mix.probabilities({member: len(people) for member, people in members.items()})
    chosen = [members[member] for member in shares]
    return MixedDataset(chosen, [*shares.values()], seed, bodies=mix.bodies, name=mix.name, left_out=tuple(missing))


def _photo_poses(share: float, data_dir: str | Path) -> FittedPoses | None:
    """The poses of the bodies fitted to photographs; None for a share of 0."""
    if not share:
        return None
    return read_fitted_poses(find_label_file(find_spec(PHOTOS), data_dir, is_train=True), share)


def _missing(mix: Mix, data_dir: str | Path, paths: PathsConfig) -> dict[str, Path]:
    """Members that a user lacks, and the first path that is not there."""
    missing = {}
    for member in mix.members:
        if member == SYNTHETIC:
            continue
        spec = SPECS[member]
        needed = (Path(data_dir) / EXTRAS / spec.label_file(True), image_root(spec.root, data_dir, paths))
        absent = [path for path in needed if not path.exists()]
        if absent:
            missing[member] = absent[0]
    return missing
