"""Synthetic people: rendered, clothed persons with exact labels, made from (seed, epoch, index) alone.

    python -m datasets.synthetic --preview sheet.jpg --count 40
    python -m datasets.synthetic --write DIR --count 64

A picture shows the open body, posed by clips and rules (`synthetic_pose`), dressed (`synthetic_appearance`)
and lit (`synthetic_shading`), over a background (`synthetic_background`) with other people and things
(`synthetic_scene`), as a camera gives it (`synthetic_photo`). The camera is the network's own (s, tx, ty) at
focal length 5000, so that a camera fitted to the keypoints (docs/method.md 7.3) is the camera of the picture.
`synthetic_split` holds out material for evaluation.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from datasets.synthetic.appearance import Outfit, draw_outfit, leg_share, measure_figure
from datasets.synthetic.background import draw_background, list_pictures
from datasets.synthetic.body import (
    CENTRE,
    SIZE,
    PeopleAssets,
    PosedBody,
    SyntheticRender,
    load_assets,
    pose_body,
    project,
    to_ndc,
)
from datasets.synthetic.photo import photograph
from datasets.synthetic.pose import draw_betas, draw_pose, draw_view, load_motions
from datasets.synthetic.preview import write_sheet
from datasets.synthetic.scene import (
    add_border,
    add_held_thing,
    add_loose_parts,
    add_occluder,
    add_ride,
    add_seat,
    add_shadow,
)
from datasets.synthetic.shading import paint_fragments
from datasets.synthetic.split import SPLITS, Split
from utils.command_line import SentenceParser
from utils.images import normalize_bytes
from utils.io import require_free, require_writable
from utils.io.marks import SHEET
from utils.renderer.rasterizer import rasterize_numpy
from utils.structures import DensePosePoints, Sample

MIN_SCALE, MAX_SCALE = 0.5, 2.6
SHEET_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

# SMPL joints that an upper-body or partial crop keeps, and the margin around them in metres.
PARTIAL_CROPS = (
    ((15, 12, 16, 17, 18, 19, 20, 21, 0), 0.16),
    ((15, 12, 16, 17, 18, 19, 9), 0.14),
    ((15, 16, 17, 0, 1, 2, 4, 5), 0.14),
    ((9, 16, 17, 0, 1, 2, 4, 5, 7, 8), 0.12),
)


class SyntheticPeople(Dataset):
    """`size` rendered people an epoch; another epoch (`set_epoch`) gives other people.

    `difficulty` in 0..1 scales occluders, other people and busy backgrounds. `backgrounds` may name a folder
    of pictures without people. Raises ValueError for values out of range.
    """

    suspicions, left_out = (), {}  # labels of our own need no check

    def __init__(
        self,
        size: int,
        *,
        split: str = "train",
        seed: int = 0,
        difficulty: float = 1.0,
        backgrounds: Path | str | None = None,
        assets: PeopleAssets | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"A data set of {size} people was asked for; give a positive number.")
        if seed < 0:
            raise ValueError(f"The seed is {seed} but must not be negative.")
        if not 0 <= difficulty <= 1:
            raise ValueError(f"The difficulty is {difficulty} but must lie between 0 and 1.")
        self.size, self.seed, self.difficulty, self.epoch = size, seed, difficulty, 0
        self.split = Split(split)
        self.assets = assets or load_assets()
        self.motions = load_motions()
        self.clips = self.split.clips(list(self.motions.names))
        self.figure = measure_figure(self.assets)
        self.leg_share = leg_share(self.assets, self.figure)
        self.pictures = list_pictures(Path(backgrounds)) if backgrounds else []
        self.labels_only = False  # leaves the picture black, with the same labels, in a fifth of the time

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Choose the people of an epoch."""
        self.epoch = epoch

    def name_of(self, index: int) -> str:
        """What to call person `index` of this epoch."""
        return f"{self.split.name}_{self.seed}_{self.epoch}_{index}"

    def render(self, index: int) -> SyntheticRender:
        """The picture and the truth of person `index` in this epoch. Raises IndexError outside 0..size-1."""
        if not 0 <= index < self.size:
            raise IndexError(f"Person {index} was asked for, the data set holds 0..{self.size - 1}.")
        if get_worker_info() is not None:
            cv2.setNumThreads(1)
        rng = np.random.default_rng((self.seed, self.split.number, self.epoch, index))
        return render_person(rng, self)

    def __getitem__(self, index: int) -> Sample:
        return self.to_sample(self.render(index), index)

    def to_sample(self, render: SyntheticRender, index: int) -> Sample:
        """Labels of a rendered person in the form of every data set."""
        joints = render.joints[25:]
        return Sample(
            image=torch.from_numpy(normalize_bytes(render.image)),
            rotvec=torch.from_numpy(render.rotvec),
            betas=torch.from_numpy(render.betas),
            keypoints=torch.from_numpy(_labels_2d(render.joints, render.cam, only_inside=True)),
            joints_3d=torch.from_numpy(np.concatenate([joints, np.ones((24, 1), np.float32)], axis=1)),
            smpl_keypoints=torch.from_numpy(_labels_2d(render.smpl_joints, render.cam, only_inside=False)),
            dense=_no_dense_points(),
            has_smpl=torch.tensor(True),
            has_dense=torch.tensor(False),
            has_joints_3d=torch.tensor(True),
            is_flipped=torch.tensor(False),
            rotation_deg=torch.tensor(0.0),
            center=torch.tensor([CENTRE, CENTRE]),
            scale=torch.tensor(SIZE / 200),
            gender=torch.tensor(-1),
            index=torch.tensor(index),
            dataset="synthetic",
            name=self.name_of(index),
        )


def _labels_2d(points: np.ndarray, cam: np.ndarray, only_inside: bool) -> np.ndarray:
    """Points [N,3] in metres -> x, y in [-1,1] of the crop and confidence; outside it 0 if `only_inside`."""
    xy = project(points, cam)[:, :2] / np.float32(CENTRE) - 1
    inside = (np.abs(xy) <= 1).all(1) | (not only_inside)
    return np.concatenate([xy, inside[:, None]], axis=1).astype(np.float32)


def _no_dense_points() -> DensePosePoints:
    return DensePosePoints(
        ann_labels=torch.zeros(56, 56, dtype=torch.long),
        xy=torch.zeros(196, 2),
        part=torch.zeros(196, dtype=torch.long),
        u=torch.zeros(196),
        v=torch.zeros(196),
    )


# ------------------------------------------------------------------------------------------------ the picture


def render_person(rng: np.random.Generator, people: SyntheticPeople) -> SyntheticRender:
    """Draw a person, the camera and, unless the labels will do, the picture."""
    rotvec = draw_view(rng, draw_pose(rng, people.motions, people.clips, people.assets.joint_template))
    betas = draw_betas(rng)
    body = pose_body(people.assets, rotvec, betas)
    cam = draw_camera(rng, body)
    return SyntheticRender(
        image=np.zeros((SIZE, SIZE, 3), np.uint8)
        if people.labels_only
        else _draw_picture(rng, people, body, cam),
        cam=cam,
        rotvec=rotvec.reshape(72).astype(np.float32),
        betas=betas,
        vertices=body.vertices,
        joints=body.joints,
        smpl_joints=body.smpl_joints,
    )


def _draw_picture(
    rng: np.random.Generator, people: SyntheticPeople, body: PosedBody, cam: np.ndarray
) -> np.ndarray:
    """The picture [224,224,3] uint8, back to front."""
    split, hard = people.split, people.difficulty
    picture = draw_background(rng, split, hard * rng.random(), people.pictures)
    if rng.random() < 0.3 * hard:
        for _ in range(2 if rng.random() < 0.3 else 1):
            _paint_bystander(rng, people, picture, cam)
    joints, metre = project(body.smpl_joints, cam)[:, :2], float(cam[0]) * CENTRE
    _paint_surroundings(rng, people, picture, joints, metre)
    _paint(people, picture, body, cam, draw_outfit(rng, split, people.assets, people.figure))
    if rng.random() < 0.2 * hard:
        add_held_thing(rng, picture, joints, metre)
    if rng.random() < 0.05 * hard:
        add_ride(rng, picture, joints, metre)
    if rng.random() < 0.25 * hard:
        for _ in range(int(rng.integers(1, 3))):
            add_occluder(rng, picture, split)
    if rng.random() < 0.04 * hard:
        _paint_bystander(rng, people, picture, cam)
    if rng.random() < 0.12:
        add_border(rng, picture)
    return photograph(rng, picture)


def draw_camera(rng: np.random.Generator, body: PosedBody) -> np.ndarray:
    """Camera (s, tx, ty) of a crop around the person's box, in every fifth picture around a part of it."""
    points, margin = body.vertices[::7], 0.0
    if rng.random() < 0.2:
        joints, margin = PARTIAL_CROPS[rng.integers(len(PARTIAL_CROPS))]
        points = body.smpl_joints[list(joints)]
    low, high = points[:, :2].min(0) - margin, points[:, :2].max(0) + margin
    side = float((high - low).max()) * 1.2 * np.exp(rng.normal(0, 0.11))
    scale = float(np.clip(2 / side, MIN_SCALE, MAX_SCALE))
    middle = (low + high) / 2 + rng.normal(0, 0.05, 2) / scale
    return np.float32([scale, -middle[0], -middle[1]])


def _paint_surroundings(
    rng: np.random.Generator, people: SyntheticPeople, picture: np.ndarray, joints: np.ndarray, metre: float
) -> None:
    """What the person stands or sits on and holds behind itself; `joints` [24,2] pixels."""
    hard = people.difficulty
    if rng.random() < 0.4:
        add_shadow(rng, picture, joints, metre)
    if rng.random() < 0.6 * hard:
        add_seat(rng, picture, joints, metre, people.split)
    if rng.random() < 0.12 * hard:
        add_ride(rng, picture, joints, metre)
    if rng.random() < 0.15 * hard:
        add_held_thing(rng, picture, joints, metre)


def _paint(
    people: SyntheticPeople, picture: np.ndarray, body: PosedBody, cam: np.ndarray, outfit: Outfit
) -> None:
    """Paint a dressed person over `picture`, in place, with 2x2 samples a pixel."""
    assets = people.assets
    pixels = project(body.vertices + body.normals * outfit.thickness[:, None], cam)
    add_loose_parts(picture, outfit, pixels[:, :2], people.leg_share)
    face, bary, _ = rasterize_numpy(to_ndc(pixels), assets.faces, 2 * SIZE)
    points = np.concatenate([assets.v_template, body.normals], axis=1)
    look = (people.figure, outfit.cut, outfit.tiles, outfit.folds, outfit.light)
    paint_fragments(face, bary, assets.faces, assets.face_part, points, *look, picture)


def _paint_bystander(
    rng: np.random.Generator, people: SyntheticPeople, picture: np.ndarray, cam: np.ndarray
) -> None:
    """Somebody else, further away or beside the person."""
    rotvec = draw_view(rng, draw_pose(rng, people.motions, people.clips, people.assets.joint_template))
    other = pose_body(people.assets, rotvec, draw_betas(rng))
    scale = np.clip(cam[0] * rng.uniform(0.5, 1.1), 0.3, MAX_SCALE)
    aside = rng.uniform(0.45, 1.0) * (1 if rng.random() < 0.5 else -1)
    place = np.float32([scale, aside / scale, rng.normal(0, 0.12) / scale])
    place[1:] -= other.smpl_joints[0, :2]
    _paint(people, picture, other, place, draw_outfit(rng, people.split, people.assets, people.figure))


def main(argv: Sequence[str] | None = None) -> int:
    parser = SentenceParser(
        prog="datasets.synthetic",
        description="Write a contact sheet of synthetic people with their labels drawn (--preview), or "
        "evaluation sets of them in the files of real sets (--write).",
    )
    parser.add_argument("--preview", type=Path, nargs="?", const=Path("output/people.jpg"), metavar="OUT.jpg",
                        help="file to write (without a name: %(const)s)")  # fmt: skip
    parser.add_argument(
        "--write", type=Path, metavar="DIR", help="folder for the sets, a --data_dir of its own"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier sheet or synthetic sets")
    parser.add_argument("--split", choices=SPLITS, help="default: train for --preview, eval for --write")
    parser.add_argument("--count", type=int, help="people: default 40 on a sheet, 64 in the sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--difficulty", type=float, default=1.0)
    parser.add_argument("--backgrounds", type=Path, help="folder of pictures without people")
    args = parser.parse_args(argv)
    if (args.preview is None) == (args.write is None):
        parser.error("Exactly one of these is required: --preview OUT.jpg, --write DIR.")
    if args.preview and args.preview.suffix.lower() not in SHEET_SUFFIXES:
        parser.error(f"Cannot write a picture to '{args.preview}'; its name must end in .jpg or .png.")
    split, count = ("train", 40) if args.preview else ("eval", 64)
    try:
        if args.preview:
            require_free(args.preview, args.overwrite, SHEET)
            require_writable(args.preview.parent)
        people = SyntheticPeople(
            count if args.count is None else args.count,
            split=args.split or split,
            seed=args.seed,
            difficulty=args.difficulty,
            backgrounds=args.backgrounds,
        )
        done = _write(people, args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print("\n".join(done))
    return 0


def _write(people: SyntheticPeople, args: argparse.Namespace) -> list[str]:
    """Write what was asked for; sentences that say so."""
    if args.write:
        from datasets.synthetic.sets import write_sets

        return write_sets(people, args.write, args.overwrite)
    write_sheet([people.render(i) for i in range(len(people))], people.assets, args.preview, args.overwrite)
    return [f"{len(people)} people of the {people.split.name} split: {args.preview}"]

