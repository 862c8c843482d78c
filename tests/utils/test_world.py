"""The world before a camera that stands still: up, ground and standing feet of walks that are known."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
from export_people import ASSETS, make_motion, moving_body
from export_readers import animated_nodes, bvh_positions, read_glb, skinned
from scipy.spatial.transform import Rotation

from utils.export import write_exports
from utils.export.motion import Y_UP
from utils.export.steps import Steps, soles_of, solve_places
from utils.export.world import (
    Ground,
    World,
    find_ground,
    find_world,
    mean_direction,
    standing_directions,
    turn_between,
    world_arrays,
)
from utils.io import load_npz

FPS, HEIGHT, NO_SOLES = 30.0, 1.5, np.zeros(6)
TILT = Rotation.from_euler("xz", [14, 5], degrees=True).as_matrix()  # of the camera, from level


def walk(frames: int = 90, step: float = 0.6, stance: float = 0.6, period: float = 1.0):
    """Pelvis [T,3], points [T,6,3] and which stand [T,6] of one who walks to the right; level frame."""
    seconds = np.arange(frames) / FPS
    speed = 2 * step / period
    pelvis = np.column_stack([speed * seconds - 1.5, np.full(frames, HEIGHT - 0.9), np.full(frames, 4.0)])
    points, stands = np.empty((frames, 6, 3)), np.empty((frames, 6), bool)
    for foot, late in enumerate((0.0, 0.5)):
        cycle, share = np.divmod(seconds / period + late, 1.0)
        swing = np.clip((share - stance) / (1 - stance), 0, 1)
        eased = swing * swing * (3 - 2 * swing)
        place = speed * period * (cycle - late + eased + stance / 2) - 1.5
        lift = 0.15 * np.sin(np.pi * swing)
        for toe, (x, z) in enumerate(((0.2, 0.0), (0.16, 0.05), (0.0, 0.02))):
            away = np.full(frames, 4.0 + z + 0.2 * foot)
            points[:, 3 * foot + toe] = np.column_stack([place + x, HEIGHT - lift, away])
            stands[:, 3 * foot + toe] = share < stance
    return pelvis, points, stands


def seen(pelvis, points, noise: float, lost=()) -> Steps:
    """The walk before the tilted camera, whose depths are the least steady."""
    rng = np.random.default_rng(0)
    off = rng.normal(0, 0.01 * noise, pelvis.shape) + 0.1 * noise * rng.normal(size=(len(pelvis), 1)) * pelvis / 4
    feet = points - pelvis[:, None] + rng.normal(0, 0.002 * noise, points.shape)
    is_seen = ~np.isin(np.arange(len(pelvis)), lost)
    return Steps((pelvis + off) @ TILT, feet @ TILT, is_seen, FPS)


def slide(points, stands) -> float:
    """Mean way of standing points from frame to frame, metres."""
    both = stands[1:] & stands[:-1]
    return float(np.linalg.norm(np.diff(points, axis=0), axis=-1)[both].mean())


def jitter(places) -> float:
    return float(np.linalg.norm(np.diff(places, n=2, axis=0), axis=-1).mean())


def test_the_smallest_turn_takes_one_direction_to_the_other():
    rng = np.random.default_rng(1)
    for start, end in rng.normal(size=(5, 2, 3)):
        start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
        turn = turn_between(start, end)
        assert np.allclose(turn @ start, end) and np.allclose(turn @ turn.T, np.eye(3))
        angle = np.degrees(Rotation.from_matrix(turn).magnitude())
        assert angle == pytest.approx(np.degrees(np.arccos(start @ end)))


def test_up_is_where_standing_people_point():
    upright = make_motion("walk").arrays["smpl_joints"]
    up = mean_direction(standing_directions(upright @ TILT))
    assert np.degrees(np.arccos(up @ TILT.T @ [0, -1, 0])) < 8  # this one leans
    bent = upright.copy()
    bent[:, [7, 8]] = bent[:, :1] + [0, 0.1, -0.5]  # who sits does not count
    assert len(standing_directions(bent)) == 0 and mean_direction(np.zeros((0, 3))) is None
    outlier = np.concatenate([np.tile([0.0, -1, 0], (9, 1)), [[1.0, 0, 0]]])
    assert np.allclose(mean_direction(outlier), [0, -1, 0])


def test_standing_feet_stay_and_the_path_is_smooth():
    pelvis, points, stands = walk()
    lost = (20, 21, 22)
    steps = seen(pelvis, points, noise=1.0, lost=lost)
    up, lean = TILT.T @ [0.0, -1, 0], Rotation.from_euler("z", 6, degrees=True).as_matrix()
    ground = find_ground([steps], [(lean @ up)[None]], NO_SOLES)
    assert np.degrees(np.arccos(ground.turn @ up @ [0, -1, 0])) < 1.5, "feet at one height correct a lean of 6 degrees"
    assert ground.depth == pytest.approx(HEIGHT, abs=0.12)
    world = find_world(steps, ground, NO_SOLES)
    assert world.places.shape == (87, 3) and world.camera_height == ground.depth
    kept = np.delete(np.arange(90), lost)
    assert (world.contacts == stands[kept]).mean() > 0.85 and not (world.contacts & ~stands[kept]).any()
    feet = steps.feet[kept] @ world.turn.T
    before, after = (steps.places[kept] @ world.turn.T)[:, None] + feet, world.places[:, None] + feet
    assert slide(before, stands[kept]) > 0.05 and slide(after, stands[kept]) < 0.01
    assert jitter(world.places) < jitter(steps.places[kept]) / 10
    heights = -after[..., 1][stands[kept] & world.contacts]
    assert np.abs(heights).max() < 0.02
    length = np.linalg.norm(world.places[-1] - world.places[0])
    assert length == pytest.approx(np.linalg.norm(pelvis[-1] - pelvis[0]), abs=0.1)


def test_what_is_exact_stays():
    pelvis, points, stands = walk()
    steps = Steps(pelvis, points - pelvis[:, None], np.ones(90, bool), FPS)
    assert np.allclose(solve_places(steps), pelvis, atol=1e-6)
    assert np.allclose(solve_places(steps, stands, HEIGHT), pelvis, atol=1e-6)
    world = find_world(steps, Ground(np.eye(3), HEIGHT), NO_SOLES)
    assert np.abs(world.places + [0, HEIGHT, 0] - pelvis).max() < 0.02


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_short_tracks_have_a_world(frames):
    pelvis, points, _ = walk(frames)
    steps = Steps(pelvis, points - pelvis[:, None], np.ones(frames, bool), FPS)
    world = find_world(steps, Ground(np.eye(3), HEIGHT), NO_SOLES)
    assert np.allclose(world.places, pelvis - [0, HEIGHT, 0], atol=0.05)
    assert find_ground([steps], [np.zeros((0, 3))], NO_SOLES) is None


def test_points_of_feet_are_above_the_soles():
    soles = soles_of(ASSETS.body, ASSETS.surface)
    assert (soles > -1e-6).all() and (soles < 0.06).all()


@pytest.fixture(scope="module")
def in_world():
    """A track in a world whose camera is tilted; all is where the camera saw it."""
    motion = make_motion()
    turn = TILT
    places = (motion.arrays["smpl_joints"][:, 0] + motion.arrays["cam_t_full"]) @ turn.T - [0, HEIGHT, 0]
    world = World(turn, HEIGHT, places, np.zeros((len(motion), 6), bool))
    return dataclasses.replace(motion, world=world)


def test_exports_stand_in_the_world_before_its_camera(in_world, tmp_path):
    motion, world = in_world, in_world.world
    files = {path.suffix: path for path in write_exports(tmp_path / "a", ["glb", "bvh", "csv", "amass"], motion)}
    from_camera = moving_body(motion)[0] + motion.arrays["cam_t_full"][0]  # of the mean shape, which has another pelvis
    data = files[".glb"].read_bytes()
    (camera,) = [node for node in read_glb(data)[0]["nodes"] if "camera" in node]
    assert camera["translation"] == pytest.approx([0, HEIGHT, 0])
    for key in (0, len(motion) - 1):
        seen = (skinned(data, key) - camera["translation"]) @ Rotation.from_quat(camera["rotation"]).as_matrix()
        assert np.abs(seen - from_camera[key] @ Y_UP).max() < 0.02
    assert animated_nodes(*read_glb(data), 0)[0]["translation"] == pytest.approx(world.places[0] @ Y_UP, abs=1e-5)
    pelvis = bvh_positions(files[".bvh"].read_text(), 0)["pelvis"]
    assert np.allclose(pelvis, world.places[0] @ Y_UP, atol=1e-5)

    table = np.array(list(csv.reader(files[".csv"].read_text().splitlines()))[1:], float)
    joints = motion.arrays["smpl_joints"] + motion.arrays["cam_t_full"][:, None]
    wanted = (joints @ world.turn.T - [0, HEIGHT, 0]) @ Y_UP
    assert np.allclose(table[:, 2:74].reshape(-1, 24, 3), wanted, atol=2e-6)
    amass = load_npz(files[".npz"])
    assert amass["trans"][0, 2] + motion.rest()[1][0][2] == pytest.approx(-world.places[0, 1], abs=0.5)
    assert "level world" in str(amass["notes"])


def test_the_npz_says_where_its_world_is(in_world):
    data = world_arrays(in_world.world)
    joints, pelvis = in_world.arrays["smpl_joints"], in_world.arrays["smpl_joints"][:, :1]
    found = (joints - pelvis) @ data["world_from_camera"].T + data["world_pelvis"][:, None]
    assert np.allclose(found, in_world.placed(joints) @ Y_UP, atol=1e-5)
    assert data["foot_contacts"].shape == (len(in_world), 6) == (len(in_world), len(data["foot_points"]))
