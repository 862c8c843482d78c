"""What a synthetic person wears and the light on it: lengths of garments, textures by seed, skin, hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from datasets.synthetic.body import PeopleAssets
from datasets.synthetic.shading import (
    BOTTOM,
    DARK,
    HAIR,
    HAT,
    INNER,
    LIPS,
    LOGO,
    NEVER,
    NUM_GARMENTS,
    SHOES,
    SKIN,
    SOCKS,
    TOP,
    Cut,
    Figure,
    Light,
    garment_of_vertices,
)
from datasets.synthetic.split import Split
from datasets.synthetic.texture import TILE, draw_color, make_skin, make_streaks, make_tile, octave_noise
from utils.skeleton import EXTRA_JOINT_NAMES, VERTEX_JOINT_NAMES


@dataclass(frozen=True)
class Outfit:
    """Clothes, skin, hair and light of a rendered person."""

    cut: Cut
    tiles: np.ndarray  # [NUM_GARMENTS,64,64,3] float32
    folds: np.ndarray  # [64,64] float32
    wear: np.ndarray  # [V] garment of each vertex
    thickness: np.ndarray  # [V] metres, of cloth and hair over the body
    light: Light
    skirt: np.ndarray  # [V] bool, the vertices that a skirt spans; none without one


def measure_figure(assets: PeopleAssets) -> Figure:
    """Places of shoulders, hips, face ... on the template."""
    joints, marks = assets.joint_template, assets.landmark_template
    names = VERTEX_JOINT_NAMES + EXTRA_JOINT_NAMES
    left, right = marks[names.index("left_eye")], marks[names.index("right_eye")]
    eye, nose = (left + right * [-1, 1, 1]) / 2, marks[names.index("nose")]
    return Figure(
        shoulder_x=float(joints[16, 0]),
        wrist_x=float(joints[20, 0]),
        shoulder_y=float(joints[[16, 17], 1].mean()),
        hip_y=float(joints[[1, 2], 1].mean()),
        ankle_y=float(joints[[7, 8], 1].mean()),
        eye=eye,
        mouth_y=float(nose[1] - 0.75 * (eye[1] - nose[1])),
        head_z=float(joints[15, 2]),
    )


def _sometimes(rng: Generator, probability: float, low: float, high: float, otherwise: float) -> float:
    """Uniform in low..high with a probability, else `otherwise`."""
    value = rng.uniform(low, high)
    return float(value) if rng.random() < probability else otherwise


def draw_cut(rng: Generator, skirt: bool) -> Cut:
    """Lengths of all garments."""
    kind = rng.random()
    sleeve = 1.03 if kind < 0.42 else rng.uniform(0.15, 0.5) if kind < 0.85 else rng.uniform(0.5, 1.0)
    sleeve = _sometimes(rng, 0.1, -1, -1, sleeve)
    leg = rng.uniform(0.25, 0.95) if skirt else _sometimes(rng, 0.35, 0.15, 0.9, 1.05)
    long_hair = rng.random() < (0.85 if skirt else 0.25)
    low, high = (-0.17, -0.12) if long_hair else (-0.09, -0.03)
    return Cut(
        sleeve=sleeve,
        glove=_sometimes(rng, 0.15, 0.9, 1.03, NEVER),
        leg=leg,
        sock=_sometimes(rng, 0.6, 0.6, 0.95, NEVER) if leg < 0.9 else NEVER,
        shoe=rng.uniform(0.9, 0.985) if rng.random() < 0.85 else rng.uniform(0.6, 0.9),
        hem=_sometimes(rng, 0.1, 0.1, 0.25, rng.uniform(-0.13, 0.1)),
        waist=rng.uniform(0.08, 0.16),
        neck=rng.uniform(-0.01, 0.09),
        neck_width=rng.uniform(0.06, 0.12),
        neck_drop=rng.uniform(0.0, 0.14),
        opening=_sometimes(rng, 0.2, 0.015, 0.08, 0.0) if sleeve > 0.5 else 0.0,
        stripe=_sometimes(rng, 0.12, 0.01, 0.02, 0.0),
        logo=_sometimes(rng, 0.25, 0.04, 0.11, 0.0),
        hair_back=_sometimes(rng, 0.93, -0.05, 0.035, -NEVER),
        hair_line=_sometimes(rng, 0.93, 0.04, 0.08, NEVER),
        hair_low=rng.uniform(low, high),
        hair_drop=_sometimes(rng, 0.7, -0.05, 0.2, -NEVER) if long_hair else -NEVER,
        hat=_sometimes(rng, 0.27, 0.015, 0.07, NEVER),
        glasses=_sometimes(rng, 0.12, 0.01, 0.02, -1.0),
        beard=_sometimes(rng, 0.15, 0.3, 1.0, 0.0) if not long_hair else 0.0,
        wobble=rng.uniform(0, 0.012),
        pattern_scale=rng.uniform(1.0, 6.0),
        fold=rng.uniform(0.0, 0.25),
        fold_scale=rng.uniform(0.8, 2.5),
    )


def draw_outfit(rng: Generator, split: Split, assets: PeopleAssets, figure: Figure) -> Outfit:
    """Garments, textures by seeds of the split, skin, hair and light."""
    skirt = rng.random() < 0.1
    cut = draw_cut(rng, skirt)
    wear = garment_of_vertices(assets.v_template, assets.vertex_part, figure, cut)
    return Outfit(
        cut=cut,
        tiles=_draw_tiles(rng, split, cut),
        folds=octave_noise(rng, TILE, 4, 12),
        wear=wear,
        thickness=_draw_thickness(rng, wear, assets.v_template, _hang(assets.v_template, figure, cut)),
        light=draw_light(rng),
        skirt=skirt & (wear == BOTTOM) & _on_legs(assets, figure),
    )


def _on_legs(assets: PeopleAssets, figure: Figure) -> np.ndarray:
    """Whether a vertex lies on legs or feet, below the hips, [V] bool."""
    down = (figure.hip_y - assets.v_template[:, 1]) / (figure.hip_y - figure.ankle_y)
    return (assets.vertex_part >= 5) & (assets.vertex_part <= 14) & (down > 0.05)


def _hang(template: np.ndarray, figure: Figure, cut: Cut) -> np.ndarray:
    """Looseness of cloth at each vertex [V], 0..1: most at the ends of sleeves, legs and the hem."""
    side, down = np.abs(template[:, 0]), figure.hip_y - template[:, 1]
    along = (side - figure.shoulder_x) / (figure.wrist_x - figure.shoulder_x) / max(cut.sleeve, 0.1)
    below = down / (figure.hip_y - figure.ankle_y) / cut.leg
    hem = 1 + (down + cut.hem) / (figure.shoulder_y - figure.hip_y)
    trunk = np.where(down > -cut.hem, below, hem)
    return np.clip(np.where(side > figure.shoulder_x, along, trunk), 0, 1).astype(np.float32)


def _draw_tiles(rng: Generator, split: Split, cut: Cut) -> np.ndarray:
    tiles = np.zeros((NUM_GARMENTS, TILE, TILE, 3), np.float32)
    seeds = [split.texture_seed(rng) for _ in range(NUM_GARMENTS)]
    second = cut.opening + cut.stripe > 0
    there = {INNER: second, LOGO: cut.logo > 0, SOCKS: cut.sock < NEVER, HAT: cut.hat < NEVER}
    for garment in (TOP, BOTTOM, SHOES, *(g for g, worn in there.items() if worn)):
        tiles[garment] = make_tile(seeds[garment])
    skin = np.array([0.95, 0.76, 0.65]) * (1 - 0.78 * rng.random() ** 1.8) + rng.normal(0, 0.025, 3)
    skin = np.clip(skin, 0.05, 1).astype(np.float32)
    hair = np.array([0.42, 0.29, 0.18]) * rng.uniform(0.05, 1.7) + rng.normal(0, 0.02, 3)
    if rng.random() < 0.15:
        hair = np.full(3, rng.uniform(0.4, 0.9))
    tiles[SKIN] = make_skin(seeds[SKIN], skin)
    tiles[HAIR] = make_streaks(seeds[HAIR], np.clip(hair, 0.01, 1))
    tiles[DARK] = np.clip(np.minimum(hair, 0.45 * skin), 0.01, 1)
    tiles[LIPS] = np.clip(skin * np.float32([0.85, 0.55, 0.55]) * rng.uniform(0.8, 1.1), 0, 1)
    if rng.random() < 0.6:
        tiles[SHOES] = draw_color(rng) * rng.uniform(0.3, 1)
    if rng.random() < 0.35:
        tiles[SOCKS] = 0.85
    if rng.random() < 0.5:
        tiles[HAT] = draw_color(rng)
    if rng.random() < 0.12:  # overall, dress, track suit
        tiles[BOTTOM] = tiles[TOP]
    return tiles


def _draw_thickness(rng: Generator, wear: np.ndarray, template: np.ndarray, hang: np.ndarray) -> np.ndarray:
    """Cloth stays within a centimetre of the body, hair, hats and the ends of loose garments within two."""
    depth = np.zeros(NUM_GARMENTS, np.float32)
    depth[[TOP, INNER, LOGO]] = min(abs(rng.normal(0.002, 0.003)), 0.008)
    depth[BOTTOM] = min(abs(rng.normal(0.002, 0.004)), 0.008)
    depth[SHOES], depth[SOCKS] = rng.uniform(0.002, 0.008), 0.001
    depth[HAIR], depth[HAT] = rng.uniform(0.003, 0.016), rng.uniform(0.005, 0.016)
    cloth = depth[wear]
    if rng.random() < 0.3:
        loose = np.isin(wear, (TOP, BOTTOM, INNER)) * hang * np.float32(rng.uniform(0, 0.016))
        cloth = cloth + loose
    wave = np.sin((template * np.float32(rng.normal(0, 18, 3))).sum(1) + np.float32(rng.uniform(0, 6)))
    return cloth * (1 + np.float32(0.25) * wave)


def draw_light(rng: Generator) -> Light:
    """Key light from above and before more often than not, weaker fill, ambient between dusk and noon."""
    key, fill = rng.normal([0, 0.8, 0.9], 1.0), rng.normal(0, 1, 3)
    color = 1 + rng.normal(0, 0.06, 3)
    return Light(
        key_direction=key / np.linalg.norm(key),
        fill_direction=fill / np.linalg.norm(fill),
        key=rng.uniform(0.25, 1.1),
        fill=rng.uniform(0, 0.4),
        ambient=rng.uniform(0.35, 0.85),
        sky=rng.uniform(0, 0.5),
        shine=rng.uniform(0, 0.3),
        color=color,
    )
