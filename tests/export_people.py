"""People to export: one of an image, and one who walks through a video, with what the demo would say about them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from datasets.synthetic.pose import load_motions
from models import SMPL
from utils.body import SMPL_ID, resolve_body
from utils.export import ExportMotion, still_motion
from utils.export.motion import Y_UP
from utils.geometry import batch_rodrigues, cam_to_translation
from utils.renderer.people import full_camera

ASSETS = resolve_body("open")
CENTER, SCALE, IMAGE_SIZE = (410.0, 260.0), 1.7, (640, 480)


def layer(body) -> SMPL:
    return SMPL(
        body,
        dataclasses.replace(ASSETS.extra, model_id=body.model_id),
        dataclasses.replace(ASSETS.surface, model_id=body.model_id),
    )


def make_person(body=ASSETS.body) -> ExportMotion:
    """A person of some shape, limbs bent, upright before the camera and turned a little."""
    generator = torch.Generator().manual_seed(3)
    rotvec = 0.4 * torch.randn(24, 3, generator=generator)
    rotmat = batch_rodrigues(rotvec)
    rotmat[0] = torch.tensor(Y_UP, dtype=torch.float32) @ batch_rodrigues(torch.tensor([[0.0, 0.5, 0.1]]))[0]
    betas, cam = torch.randn(1, 10, generator=generator), torch.tensor([0.8, 0.05, -0.1])
    posed = layer(body)(rotmat[None], betas)
    part = torch.randint(0, 25, (1, 56, 56), generator=generator).numpy().astype(np.uint8)
    arrays = {
        "cam": cam.numpy(), "cam_t": cam_to_translation(cam).numpy(), "betas": betas[0].numpy(),
        "rotmat": rotmat.numpy(), "vertices": posed.vertices[0].numpy(), "joints": posed.joints[0].numpy(),
        "smpl_joints": posed.smpl_joints[0].numpy(), "iuv": np.concatenate([part, 100 + part, 200 + part]),
    }  # fmt: skip
    camera = full_camera(cam, CENTER, SCALE, IMAGE_SIZE)
    facts = {
        "picture": "a picture.jpg", "person": 2, "box": (300.0, 100.0, 200.0, 300.0), "score": 0.9, "center": CENTER,
        "scale": SCALE, "image_size": IMAGE_SIZE, "cam_t_full": camera.cam_t,
        "focal_length_full": camera.focal_length, "weights": "0123456789ab",
    }  # fmt: skip
    surface = dataclasses.replace(ASSETS.surface, model_id=body.model_id)
    return still_motion(body, surface, arrays, facts)


def bending_body():
    """The open body with made-up pose correctives, under the official name."""
    body = ASSETS.body
    directions = np.random.default_rng(0).normal(0, 2e-3, (207, body.v_template.size)).astype(np.float32)
    return dataclasses.replace(body, model_id=SMPL_ID, posedirs=directions)


def make_motion(clip: str = "walk_forward", body=ASSETS.body, seed: int = 1) -> ExportMotion:
    """A shipped clip whose person walks to the right and towards the camera; the track begins late and has gaps.

    Shapes differ a little from frame to frame, as a network's do.
    """
    motions = load_motions()
    number = motions.names.index(clip)
    frames = slice(motions.start[number], motions.start[number + 1])
    rotvec = torch.tensor(motions.rotvec[frames], dtype=torch.float32)
    rotmat = batch_rodrigues(rotvec.view(-1, 3)).view(-1, 24, 3, 3)
    rotmat[:, 0] = torch.tensor(Y_UP, dtype=torch.float32) @ rotmat[:, 0]  # clips are y up
    ids = np.delete(np.arange(7, 7 + len(rotmat)), [5, 11, 12, 13])
    rotmat, count = rotmat[ids - 7], len(ids)
    generator = torch.Generator().manual_seed(seed)
    betas = torch.randn(1, 10, generator=generator) + 0.1 * torch.randn(count, 10, generator=generator)
    way = np.linspace(0, 1, count)
    center, scale = np.column_stack([200 + 250 * way, 240 - 20 * way]), 1.2 + 0.5 * way
    cam = torch.tensor([0.8, 0.05, -0.1]).repeat(count, 1)
    posed = layer(body)(rotmat, betas)
    cameras = [full_camera(*crop, IMAGE_SIZE) for crop in zip(cam, center, scale, strict=True)]
    arrays = {
        "rotmat": rotmat.numpy(), "betas": betas.numpy(), "cam": cam.numpy(), "joints": posed.joints.numpy(),
        "smpl_joints": posed.smpl_joints.numpy(), "cam_t_full": np.stack([camera.cam_t for camera in cameras]),
        "box": np.column_stack([center - 100 * scale[:, None], 200 * scale, 200 * scale]), "center": center,
        "scale": scale, "score": np.linspace(0.9, 0.6, count), "frame_ids": ids,
    }  # fmt: skip
    facts = {
        "picture": "a film.mp4", "body_model": body.model_id, "weights": "0123456789ab", "image_size": IMAGE_SIZE,
        "focal_length_full": cameras[0].focal_length, "principal_point": cameras[0].principal_point, "track_id": 4,
    }  # fmt: skip
    surface = dataclasses.replace(ASSETS.surface, model_id=body.model_id)
    return ExportMotion(body, surface, arrays, facts, fps=25.0)


def moving_body(motion: ExportMotion) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints of every frame, of the mean shape, moving as the camera saw them; camera frame."""
    rotmat = torch.tensor(motion.arrays["rotmat"])
    betas = torch.tensor(motion.arrays["betas"]).mean(dim=0).expand(len(rotmat), -1)
    posed = layer(motion.body)(rotmat, betas)
    path = motion.arrays["cam_t_full"] - motion.arrays["cam_t_full"][0]
    return posed.vertices.numpy() + path[:, None], posed.smpl_joints.numpy() + path[:, None]
