"""What a synthetic person wears: garments by rule over the atlas, skin, hair, shoes, face, and the light on it.

The kernel decides the garment of every pixel from its DensePose part and its place on the resting body, so that
sleeves, legs and hems may end anywhere; colours come from tiles (`synthetic_texture`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from datasets.synthetic_body import PeopleAssets
from datasets.synthetic_split import Split
from datasets.synthetic_texture import TILE, draw_color, make_skin, make_streaks, make_tile, octave_noise
from utils.skeleton import EXTRA_JOINT_NAMES, VERTEX_JOINT_NAMES

SKIN, TOP, BOTTOM, SHOES, HAIR, DARK, INNER, SOCKS, HAT, LIPS, LOGO = range(11)
NUM_GARMENTS = 11
NEVER = 9.0


class Cut(NamedTuple):
    """Where garments begin and end. Heights and lengths in metres on the resting body; limbs as shares of length."""

    sleeve: float = 1.0  # share of the arm that is covered
    glove: float = NEVER  # share of the arm where gloves begin
    leg: float = 1.0  # share of the leg, from the hip joint, that trousers cover
    sock: float = NEVER  # share of the leg where socks begin
    hem: float = 0.0  # height above the hip joints where the top ends
    waist: float = 0.3  # the trousers end here, above the hip joints; between waist and hem is skin
    neck: float = 0.0  # the neckline, above the shoulders
    neck_width: float = 0.08
    neck_drop: float = 0.05  # how much deeper the neckline is in the middle of the front
    opening: float = 0.0  # half width of an open jacket's gap
    hair_back: float = 0.0  # hair grows behind this depth, from the head's middle
    hair_line: float = 0.1  # and above this height over the eyes, on the front
    hair_low: float = -0.1  # and above this height behind
    hat: float = NEVER  # a hat covers the head above this height over the eyes
    beard: float = 0.0
    logo: float = 0.0  # half width of a print on the chest
    wobble: float = 0.0
    pattern_scale: float = 3.0  # tiles per metre
    fold: float = 0.1
    fold_scale: float = 2.0
    shoe: float = 0.97  # share of the leg where shoes begin


class Figure(NamedTuple):
    """Places on the template that the cuts are measured from, metres."""

    shoulder_x: float
    wrist_x: float
    shoulder_y: float
    hip_y: float
    ankle_y: float
    eye_x: float
    eye_y: float
    eye_z: float
    mouth_y: float
    head_z: float


@dataclass(frozen=True)
class Outfit:
    cut: Cut
    tiles: np.ndarray  # [NUM_GARMENTS,64,64,3] float32
    folds: np.ndarray  # [64,64] float32
    thickness: np.ndarray  # [V] metres, of cloth and hair over the body
    light: np.ndarray  # [14]: two directions, their strengths, ambient, colour [3], shine, sky tint


def measure_figure(assets: PeopleAssets) -> Figure:
    """Places of shoulders, hips, face ... on the template."""
    joints, marks = assets.joint_template, assets.landmark_template
    names = VERTEX_JOINT_NAMES + EXTRA_JOINT_NAMES
    eyes = (marks[names.index("left_eye")] * [1, 1, 1] + marks[names.index("right_eye")] * [-1, 1, 1]) / 2
    nose = marks[names.index("nose")]
    return Figure(
        float(joints[16, 0]), float(joints[20, 0]), float(joints[[16, 17], 1].mean()), float(joints[[1, 2], 1].mean()),
        float(joints[[7, 8], 1].mean()), float(eyes[0]), float(eyes[1]), float(eyes[2]),
        float(nose[1] - 0.75 * (eyes[1] - nose[1])), float(joints[15, 2]),
    )  # fmt: skip


def draw_cut(rng: np.random.Generator) -> Cut:
    """Lengths of all garments."""
    kind = rng.random()
    sleeve = 1.03 if kind < 0.45 else rng.uniform(0.12, 0.5) if kind < 0.85 else rng.uniform(0.5, 1.0)
    if rng.random() < 0.1:
        sleeve = -1.0
    leg = 1.05 if rng.random() < 0.68 else rng.uniform(0.12, 0.9)
    hem = rng.uniform(-0.12, 0.1) if rng.random() < 0.9 else rng.uniform(0.1, 0.25)
    long_hair = rng.random() < 0.45
    return Cut(
        sleeve=sleeve,
        glove=rng.uniform(0.9, 1.02) if rng.random() < 0.12 else NEVER,
        leg=leg,
        sock=rng.uniform(0.6, 0.95) if leg < 0.9 and rng.random() < 0.6 else NEVER,
        hem=hem,
        waist=rng.uniform(0.08, 0.16),
        neck=rng.uniform(-0.01, 0.09),
        neck_width=rng.uniform(0.06, 0.12) if sleeve > 0 else rng.uniform(0.08, 0.13),
        neck_drop=rng.uniform(0.0, 0.14),
        opening=rng.uniform(0.015, 0.08) if rng.random() < 0.18 and sleeve > 0.5 else 0.0,
        hair_back=rng.uniform(-0.06, 0.03) if rng.random() < 0.93 else NEVER,
        hair_line=rng.uniform(0.045, 0.085),
        hair_low=rng.uniform(-0.16, -0.11) if long_hair else rng.uniform(-0.08, -0.03),
        hat=rng.uniform(0.035, 0.07) if rng.random() < 0.2 else NEVER,
        beard=rng.uniform(0.3, 1.0) if rng.random() < 0.15 else 0.0,
        logo=rng.uniform(0.04, 0.1) if rng.random() < 0.2 else 0.0,
        wobble=rng.uniform(0, 0.012),
        pattern_scale=float(rng.uniform(1.0, 6.0)),
        fold=rng.uniform(0.0, 0.2),
        fold_scale=rng.uniform(0.8, 2.5),
        shoe=rng.uniform(0.9, 0.985),
    )


def draw_outfit(rng: np.random.Generator, split: Split, assets: PeopleAssets, figure: Figure) -> Outfit:
    """Everything that makes a person look as it does; textures by seeds of the split."""
    cut = draw_cut(rng)
    seeds = [split.texture_seed(rng) for _ in range(NUM_GARMENTS)]
    skin = np.array([0.95, 0.76, 0.65]) * (1 - 0.78 * rng.random() ** 1.8) + rng.normal(0, 0.025, 3)
    skin = np.clip(skin, 0.05, 1).astype(np.float32)
    hair = np.array([0.42, 0.29, 0.18]) * rng.uniform(0.05, 1.7) + rng.normal(0, 0.02, 3)
    if rng.random() < 0.15:
        hair = np.full(3, rng.uniform(0.4, 0.9))
    tiles = np.zeros((NUM_GARMENTS, TILE, TILE, 3), np.float32)
    worn = {INNER: cut.opening, LOGO: cut.logo, SOCKS: cut.sock < NEVER, HAT: cut.hat < NEVER}
    for garment in (TOP, BOTTOM, SHOES, *(g for g, there in worn.items() if there)):
        tiles[garment] = make_tile(seeds[garment])
    tiles[SKIN] = make_skin(seeds[SKIN], skin)
    tiles[HAIR] = make_streaks(seeds[HAIR], np.clip(hair, 0.01, 1))
    tiles[DARK] = make_streaks(seeds[DARK], np.clip(np.minimum(hair, 0.6 * skin), 0.01, 1))
    tiles[LIPS] = np.clip(skin * np.float32([0.85, 0.55, 0.55]) * rng.uniform(0.8, 1.1), 0, 1)
    if rng.random() < 0.5:
        tiles[SHOES] = draw_color(rng)
    if rng.random() < 0.35:
        tiles[SOCKS] = 0.85
    if rng.random() < 0.12:  # overall, dress, track suit
        tiles[BOTTOM] = tiles[TOP]
    folds = octave_noise(rng, 64, 4, 12)
    return Outfit(cut, tiles, folds, _thickness(rng, cut, assets, figure), draw_light(rng))


def _thickness(rng: np.random.Generator, cut: Cut, assets: PeopleAssets, figure: Figure) -> np.ndarray:
    """Cloth stays within a centimetre of the body, hair within two."""
    wear = garment_of_vertices(assets.v_template, assets.vertex_part, figure, cut)
    depth = np.zeros(NUM_GARMENTS, np.float32)
    depth[[TOP, BOTTOM, INNER, LOGO]] = min(abs(rng.normal(0.002, 0.003)), 0.008)
    depth[BOTTOM] = min(abs(rng.normal(0.002, 0.004)), 0.008)
    depth[SHOES], depth[SOCKS] = rng.uniform(0.002, 0.008), 0.001
    depth[HAIR], depth[HAT] = rng.uniform(0.003, 0.02), rng.uniform(0.006, 0.02)
    wave = np.sin(assets.v_template @ rng.normal(0, 18, 3) + rng.uniform(0, 6))
    return depth[wear] * (1 + 0.25 * wave).astype(np.float32)


def draw_light(rng: np.random.Generator) -> np.ndarray:
    """Two lights (direction of travel, y down), their strengths, ambient, colour, shine, share of sky light."""
    first, second = rng.normal([0, 0.8, 0.9], 1.0), rng.normal(0, 1, 3)
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    strength = [rng.uniform(0.2, 0.9), rng.uniform(0, 0.35), rng.uniform(0.3, 0.75)]
    color = 1 + rng.normal(0, 0.06, 3)
    return np.concatenate([first, second, strength, color, [rng.uniform(0, 0.25), rng.uniform(0, 0.4)]])


@numba.njit(cache=True, inline="always")
def _garment(part, x, y, z, figure, cut):
    side = abs(x)
    if part >= 23:
        return _head_garment(side, y, z, figure, cut)
    if part == 3 or part == 4 or part >= 15:
        along = (side - figure.shoulder_x) / (figure.wrist_x - figure.shoulder_x)
        if along > cut.glove:
            return SHOES
        return TOP if along < cut.sleeve else SKIN
    down = (figure.hip_y - y) / (figure.hip_y - figure.ankle_y)
    if part == 5 or part == 6 or (down > cut.shoe and part >= 11):
        return SHOES
    wave = cut.wobble * math.sin(31 * x + 23 * z)
    if part >= 7 and y < figure.hip_y + cut.hem + wave:
        if down < cut.leg:
            return BOTTOM
        return SOCKS if down > cut.sock else SKIN
    if y < figure.hip_y + cut.hem + wave:
        return BOTTOM
    above = y - figure.shoulder_y
    front = z > 0.04
    line = cut.neck - (cut.neck_drop if front else 0.0) * max(0.0, 1 - side / cut.neck_width)
    if above > line and side < cut.neck_width + 0.3 * max(0.0, above):
        return SKIN
    if cut.sleeve < 0 and side > figure.shoulder_x - 0.035:
        return SKIN
    if y < figure.hip_y + cut.waist and cut.hem > cut.waist:
        return BOTTOM
    if part == 2 and side < cut.opening:
        return INNER
    if part == 2 and side < cut.logo and abs(above + 0.13) < cut.logo:
        return LOGO
    return TOP


@numba.njit(cache=True, inline="always")
def _head_garment(side, y, z, figure, cut):
    up, front = y - figure.eye_y, z - figure.eye_z
    if up > cut.hat:
        return HAT
    if up > cut.hair_line + 0.35 * side or (z < figure.head_z + cut.hair_back and up > cut.hair_low):
        return HAIR
    away = side - figure.eye_x
    if front > -0.04:
        if away * away + 4 * up * up < 0.00017:
            return DARK
        if abs(away) < 0.02 and abs(up - 0.021 + 0.1 * away) < 0.0035:
            return DARK
        below = y - figure.mouth_y
        if side < 0.024 and abs(below) < 0.0075 - 0.15 * side:
            return LIPS
    if y < figure.mouth_y + 0.02 - 0.02 * cut.beard and cut.beard > 0 and y > figure.mouth_y - 0.07 and z > figure.head_z:
        return DARK
    return SKIN


@numba.njit(cache=True)
def garment_of_vertices(template, parts, figure, cut):
    """The garment [V] of every vertex."""
    out = np.zeros(template.shape[0], np.int64)
    for i in range(template.shape[0]):
        out[i] = _garment(parts[i], template[i, 0], template[i, 1], template[i, 2], figure, cut)
    return out


@numba.njit(cache=True)
def paint_person(face, bary, faces, face_part, template, normals, figure, cut, tiles, folds, light, picture):
    """Shade the fragments of a person (two by two for each pixel) over `picture` [H,W,3] float32; returns cover [H,W]."""
    height, width = picture.shape[0], picture.shape[1]
    cover = np.zeros((height, width), np.float32)
    total = np.zeros(3)
    for row in range(height):
        for col in range(width):
            count = 0
            total[:] = 0
            for sub in range(4):
                r, c = 2 * row + sub // 2, 2 * col + sub % 2
                f = face[r, c]
                if f < 0:
                    continue
                count += 1
                _shade(f, bary[r, c], faces, face_part, template, normals, figure, cut, tiles, folds, light, total)
            if count:
                cover[row, col] = count / 4
                for k in range(3):
                    picture[row, col, k] = picture[row, col, k] * (1 - count / 4) + total[k] / 4
    return cover


@numba.njit(cache=True)
def _shade(f, w, faces, face_part, template, normals, figure, cut, tiles, folds, light, total):
    x = y = z = nx = ny = nz = 0.0
    for k in range(3):
        i = faces[f, k]
        x += w[k] * template[i, 0]
        y += w[k] * template[i, 1]
        z += w[k] * template[i, 2]
        nx += w[k] * normals[i, 0]
        ny += w[k] * normals[i, 1]
        nz += w[k] * normals[i, 2]
    part = face_part[f]
    g = _garment(part, x, y, z, figure, cut)
    # One chart for the whole body: along x and y, with depth mixed in so that no side is stretched.
    scale = cut.pattern_scale if g != LOGO else 0.5 / max(cut.logo, 0.01)
    s, t = (x + 0.6 * z) * scale, (0.6 * z - y) * scale
    if g == HAIR:
        s, t = (x + z) * 4.0, y * 1.5
    fold = 0.0
    if g == TOP or g == BOTTOM or g == INNER:
        fs, ft = x * cut.fold_scale + 0.5 * z, (y + 0.7 * z) * cut.fold_scale
        fold = cut.fold * folds[int(ft * 64) & 63, int(fs * 64) & 63]
    n = 1 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    nx, ny, nz = nx * n, ny * n, nz * n
    key = max(0.0, -(nx * light[0] + ny * light[1] + nz * light[2]))
    fill = max(0.0, -(nx * light[3] + ny * light[4] + nz * light[5]))
    sky = light[13] * 0.5 * (-ny - 0.3)
    e = (light[8] * (1 + sky) + light[6] * key + light[7] * fill) * (1 + fold)
    shine = 0.0
    if g == SKIN or g == SHOES or g == HAIR:
        shine = light[12] * max(0.0, -nz * 0.5 + key * 0.5) ** 12
    row, col = int(t * 64) & 63, int(s * 64) & 63
    for k in range(3):
        total[k] += min(1.0, (tiles[g, row, col, k] * e + shine) * light[9 + k])
