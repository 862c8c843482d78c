"""People of a known height: one factor for all lengths, the same pixels, and exports of that size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from export_people import ASSETS, IMAGE_SIZE, layer, make_motion, make_person
from export_readers import bvh_frames, bvh_positions, skinned

from utils.body import standing_height, with_height
from utils.export import ExportMotion, write_exports
from utils.export.motion import Y_UP
from utils.export.params import image_points
from utils.export.tables import points_over_time
from utils.io import load_npz
from utils.renderer.people import full_camera

HEIGHT = 1.2  # metres
LENGTHS = ("cam", "joints", "smpl_joints")


def of_height(motion: ExportMotion) -> ExportMotion:
    """The same person, so tall, before the image's camera."""
    named = [name for name in (*LENGTHS, "vertices", "betas") if name in motion.arrays]
    people = [{name: motion.arrays[name][row] for name in named} for row in range(len(motion))]
    rows = [with_height(person, motion.body, HEIGHT) for person in people]
    arrays = {**motion.arrays, **{name: np.stack([row[name] for row in rows]) for name in rows[0]}}
    places = zip(arrays["cam"], arrays["center"], arrays["scale"], strict=True)
    cameras = [full_camera(torch.from_numpy(cam), *place, IMAGE_SIZE) for cam, *place in places]
    return dataclasses.replace(motion, arrays={**arrays, "cam_t_full": np.stack([each.cam_t for each in cameras])})


def test_a_standing_body_is_as_tall_as_said():
    betas = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    vertices = layer(ASSETS.body)(torch.eye(3).repeat(3, 24, 1, 1), betas).vertices.numpy()
    heights = standing_height(ASSETS.body, betas.numpy())
    assert heights == pytest.approx(np.ptp(vertices[..., 1], axis=1), abs=1e-5) and (heights > 1).all()
    for betas_of_one, shape in zip(betas.numpy(), vertices, strict=True):
        cam = np.float32([0.8, 0.1, 0.2])
        scaled = with_height({"betas": betas_of_one, "vertices": shape, "cam": cam}, ASSETS.body, HEIGHT)
        assert np.ptp(scaled["vertices"][:, 1]) == pytest.approx(HEIGHT, abs=1e-5)
        assert scaled["vertices"].dtype == scaled["cam"].dtype == np.float32
        assert np.allclose(scaled["body_scale"] * shape, scaled["vertices"]) and scaled["betas"] is betas_of_one


@pytest.mark.parametrize("motion", [make_person(), make_motion()], ids=["still", "track"])
def test_exports_have_the_height_and_the_same_pixels(motion, tmp_path):
    tall = of_height(motion)
    pixels = [image_points(each, each.arrays["joints"]) for each in (motion, tall)]
    assert np.allclose(*pixels, atol=1e-2)
    ratio = tall.arrays["body_scale"][:, None]
    assert np.allclose(tall.arrays["cam_t_full"], ratio * motion.arrays["cam_t_full"], rtol=1e-4)
    assert np.allclose(tall.vertices, ratio[..., None] * motion.vertices, atol=1e-5)
    vertices, joints = tall.rest()
    assert np.ptp(vertices[:, 1]) == pytest.approx(HEIGHT, abs=2e-3)
    assert np.allclose(joints, tall.scale * motion.rest()[1])
    files = {path.suffix: path for path in write_exports(tmp_path / "a", ["glb", "bvh", "csv", "amass"], tall)}

    first = layer(motion.body)(torch.tensor(motion.rotmat[:1]).float(), torch.tensor(motion.betas())[None].float())
    assert np.allclose(skinned(files[".glb"].read_bytes()), tall.scale * first.vertices[0].numpy() @ Y_UP.T, atol=1e-4)
    found, wanted = bvh_positions(files[".bvh"].read_text(), 0), tall.scale * first.smpl_joints[0].numpy() @ Y_UP.T
    assert np.abs(found["head"] - wanted[15]).max() < 1e-4 and len(bvh_frames(files[".bvh"].read_text())[1])
    assert np.allclose(points_over_time(tall)[:, :24], (tall.arrays["smpl_joints"] + tall.path()[:, None]) @ Y_UP.T)
    amass = load_npz(files[".npz"])  # a layer makes the unscaled body; its way is as many of its own lengths
    assert float(amass["body_scale"]) == pytest.approx(tall.scale)
    assert "times those of the betas' body" in str(amass["notes"])
    way = (amass["trans"][-1] - amass["trans"][0]) * tall.scale
    assert np.allclose(way, tall.filled()[1][-1] @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]).T, atol=1e-6)
