"""Kernels that dress and light the fragments of a synthetic person.

The garment of a sample follows from its DensePose part (the atlas) and its place on the resting body, so that
sleeves, legs and hems may end anywhere; colours come from tiles (`texture`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from utils.compiling import compiled

NUM_GARMENTS = 11
SKIN, TOP, BOTTOM, SHOES, HAIR, DARK, INNER, SOCKS, HAT, LIPS, LOGO = range(NUM_GARMENTS)
NEVER = 9.0
TEXELS = 64


class Figure(NamedTuple):
    """Places on the template that the cuts are measured from, metres."""

    shoulder_x: float
    wrist_x: float
    shoulder_y: float
    hip_y: float
    ankle_y: float
    eye: np.ndarray  # [3], the left one
    mouth_y: float
    head_z: float


class Cut(NamedTuple):
    """Limits of the garments: metres on the resting body, or shares of a limb's length."""

    sleeve: float  # share of the arm that is covered; negative: no shoulder either
    glove: float  # share of the arm where gloves begin
    leg: float  # share of the leg, from the hip joint, that trousers or a skirt cover
    sock: float  # share of the leg where socks begin
    shoe: float  # share of the leg where shoes begin
    hem: float  # height above the hip joints where the top ends
    waist: float  # trousers end here, above the hip joints
    neck: float  # the neckline, above the shoulders
    neck_width: float
    neck_drop: float  # how much deeper the neckline is in the middle of the front
    opening: float  # half width of an open jacket's gap
    stripe: float  # half width of a stripe of the second colour along sleeves and trousers
    logo: float  # half width of a print on the chest
    hair_back: float  # hair grows behind this depth, from the head's middle
    hair_line: float  # and above this height over the eyes
    hair_low: float  # down to this height over the eyes behind
    hair_drop: float  # long hair reaches this far below the shoulders
    hat: float  # a hat or helmet covers the head above this height over the eyes
    glasses: float  # half height of dark glasses
    beard: float  # 0 none, 1 full
    wobble: float
    pattern_scale: float  # tiles per metre
    fold: float
    fold_scale: float


class Light(NamedTuple):
    """Two directional lights, ambient light, colour, shine."""

    key_direction: np.ndarray  # [3], of travel in the camera's frame
    fill_direction: np.ndarray
    key: float
    fill: float
    ambient: float
    sky: float  # share of the ambient light that comes from above
    shine: float
    color: np.ndarray  # [3] RGB


@compiled(inline="always")
def _garment(part, x, y, z, figure, cut):
    side = abs(x)
    above = y - figure.shoulder_y
    if part >= 23:
        return _head_garment(side, y, z, figure, cut)
    if part == 3 or part == 4 or part >= 15:
        along = (side - figure.shoulder_x) / (figure.wrist_x - figure.shoulder_x)
        if along > cut.glove:
            return SHOES
        if along < cut.sleeve:
            return INNER if abs(z - 0.03) < cut.stripe and above > 0 else TOP
        return SKIN
    down = (figure.hip_y - y) / (figure.hip_y - figure.ankle_y)
    if part == 5 or part == 6 or (down > cut.shoe and part >= 11):
        return SHOES
    if y < figure.hip_y + cut.hem + cut.wobble * math.sin(31 * x + 23 * z):
        if part < 7:
            return BOTTOM
        if down < cut.leg:
            return INNER if side > 0.13 and abs(z - 0.03) < cut.stripe else BOTTOM
        return SOCKS if down > cut.sock else SKIN
    return _torso_garment(part, side, y, above, z, figure, cut)


@compiled(inline="always")
def _torso_garment(part, side, y, above, z, figure, cut):
    if part == 1 and side < 0.11 and above > -cut.hair_drop:
        return HAIR
    drop = cut.neck_drop * max(0.0, 1 - side / cut.neck_width) if z > 0.04 else 0.0
    if above > cut.neck - drop and side < cut.neck_width + 0.3 * max(0.0, above):
        return SKIN
    if cut.sleeve < 0 and side > figure.shoulder_x - 0.035:
        return SKIN
    if y < figure.hip_y + cut.waist and cut.hem > cut.waist:
        return BOTTOM
    if cut.hem > cut.waist and y < figure.hip_y + cut.hem:
        return SKIN
    if part == 2 and side < cut.opening:
        return INNER
    if part == 2 and side < cut.logo and abs(above + 0.13) < cut.logo:
        return LOGO
    return TOP


@compiled(inline="always")
def _head_garment(side, y, z, figure, cut):
    up, front = y - figure.eye[1], z - figure.eye[2]
    below, away = y - figure.mouth_y, side - figure.eye[0]
    if up > cut.hat:
        return HAT
    if up > cut.hair_line + 0.3 * side:
        return HAIR
    if z < figure.head_z + cut.hair_back + 0.4 * up and up > cut.hair_low:
        return HAIR
    if front > -0.05 and abs(up) < cut.glasses * (1.0 if front > -0.025 else 0.3):
        return DARK
    if front > -0.04:
        if away * away + 4 * up * up < 0.00015 and abs(away) > 0.004:
            return DARK
        if abs(away) < 0.02 and abs(up - 0.021 + 0.1 * away) < 0.0035:
            return DARK
        if side < 0.024 and abs(below) < 0.0075 - 0.15 * side:
            return LIPS
    if cut.beard > 0 and -0.07 < below < 0.02 - 0.02 * cut.beard and z > figure.head_z:
        return DARK
    return SKIN


@compiled()
def garment_of_vertices(template, parts, figure, cut):
    """The garment [V] of every vertex."""
    out = np.zeros(template.shape[0], np.int64)
    for i in range(template.shape[0]):
        out[i] = _garment(parts[i], template[i, 0], template[i, 1], template[i, 2], figure, cut)
    return out


@compiled()
def paint_fragments(face, bary, faces, face_part, points, figure, cut, tiles, folds, light, image):
    """Shade fragments over `image` [H,W,3] float32, in place.

    face [2H,2W] and bary [2H,2W,3] have two by two samples for each pixel, which give soft edges; inside the
    person two of the four are shaded. points [V,6] holds the resting places and the posed normals.
    """
    total, point = np.zeros(3, np.float32), np.zeros(6, np.float32)
    for row in range(image.shape[0]):
        for col in range(image.shape[1]):
            r, c = 2 * row, 2 * col
            count = 0
            for sub in range(4):
                if face[r + sub // 2, c + sub % 2] >= 0:
                    count += 1
            if count == 0:
                continue
            total[:] = 0
            for sub in range(0, 4, 3 if count == 4 else 1):
                f = face[r + sub // 2, c + sub % 2]
                if f >= 0:
                    w = bary[r + sub // 2, c + sub % 2]
                    for k in range(6):
                        point[k] = w[0] * points[faces[f, 0], k] + w[1] * points[faces[f, 1], k]
                        point[k] += w[2] * points[faces[f, 2], k]
                    _shade(face_part[f], point, figure, cut, tiles, folds, light, total)
            cover = count / 4
            share = cover / (2 if count == 4 else count)
            for k in range(3):
                image[row, col, k] = image[row, col, k] * (1 - cover) + total[k] * share


@compiled(inline="always")
def _shade(part, point, figure, cut, tiles, folds, light, total):
    x, y, z, nx, ny, nz = point[0], point[1], point[2], point[3], point[4], point[5]
    g = _garment(part, x, y, z, figure, cut)
    # One chart for the whole body: along x and y, with depth mixed in so that no side is stretched.
    s, t = (x + 0.6 * z) * cut.pattern_scale, (0.6 * z - y) * cut.pattern_scale
    fold = 0.0
    if g == HAIR:
        s, t = (x + z) * 4.0, y * 1.5
    elif g == LOGO:
        s, t = 0.5 + 0.5 * x / cut.logo, 0.5 - 0.5 * (y - figure.shoulder_y + 0.13) / cut.logo
    elif g == TOP or g == BOTTOM or g == INNER:  # noqa: SIM109  (compiled)
        fs, ft = x * cut.fold_scale + 0.5 * z, (y + 0.7 * z) * cut.fold_scale
        fold = cut.fold * folds[int(ft * TEXELS) & (TEXELS - 1), int(fs * TEXELS) & (TEXELS - 1)]
    n = 1 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    to_key, to_fill = light.key_direction, light.fill_direction
    key = max(0.0, -n * (nx * to_key[0] + ny * to_key[1] + nz * to_key[2]))
    fill = max(0.0, -n * (nx * to_fill[0] + ny * to_fill[1] + nz * to_fill[2]))
    from_above = light.sky * 0.5 * (-ny * n - 0.3)
    energy = (light.ambient * (1 + from_above) + light.key * key + light.fill * fill) * (1 + fold)
    shine = 0.0
    if g == SKIN or g == SHOES or g == HAIR or g == HAT:  # noqa: SIM109  (compiled)
        glint = max(0.0, 0.5 * (key - nz * n))
        glint *= glint * glint
        shine = light.shine * glint * glint
    row, col = int(t * TEXELS) & (TEXELS - 1), int(s * TEXELS) & (TEXELS - 1)
    for k in range(3):
        total[k] += min(1.0, (tiles[g, row, col, k] * energy + shine) * light.color[k])
