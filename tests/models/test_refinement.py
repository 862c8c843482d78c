"""Refinement: derivatives, known bodies that come back, nobody worse, odd input, starts of tracks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

from models import SMPL, InferenceConfig
from models.fitting.evidence import SURFACE_STEPS, heatmap_trust, nearest_cells, surface_table
from models.fitting.objective import load_pose_prior
from models.fitting.points import MAX_BETA, FitState, PointBody
from models.fitting.refinement import Refiner
from models.inference.predictor import is_refined
from models.inference.track_starts import TrackStarts
from models.part_crop import soft_argmax
from utils.config import parse_config
from utils.geometry import batch_rodrigues, project_to_crop
from utils.iuvmap import iuv_img2map
from utils.renderer import IUV_Renderer
from utils.skeleton import GT24_TO_COCO17, NUM_OPENPOSE
from utils.structures import IUVEstimate, IUVMaps, SMPLParams

FIELDS = ("cam", "betas", "rotmat")


@pytest.fixture(scope="module")
def refiner(assets, smpl):
    return Refiner(smpl, assets.atlas)


def bodies(count: int, seed: int = 0) -> SMPLParams:
    """Plausible bodies about the middle of the crop, seen from the front."""
    rng, prior = np.random.default_rng(seed), load_pose_prior()
    rotvec = np.zeros((count, 24, 3), np.float32)
    rotvec[:, 1:] = prior.mean.view(23, 3).numpy() + rng.normal(0, 0.15, (count, 23, 3))
    rotvec[:, 0] = (
        Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec(rng.normal(0, 0.3, (count, 3)))
    ).as_rotvec()
    rotmat = batch_rodrigues(torch.from_numpy(rotvec).view(-1, 3)).view(-1, 24, 3, 3)
    cam = torch.tensor([[0.85, 0.0, 0.2]]) + torch.from_numpy(rng.normal(0, 0.03, (count, 3))).float()
    return SMPLParams(cam, torch.from_numpy(rng.normal(0, 0.5, (count, 10))).float(), rotmat)


def perturbed(params: SMPLParams, noise: float, seed: int = 1) -> SMPLParams:
    """The bodies with turned joints, other shapes and a moved camera."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(rng.normal(0, noise, (24 * len(params), 3))).as_matrix()
    turn = torch.from_numpy(turn.reshape(-1, 24, 3, 3)).float()
    turn[:, 0] = torch.eye(3)
    cam = params.cam + torch.from_numpy(rng.normal(0, 0.05, params.cam.shape)).float()
    return SMPLParams(cam, torch.zeros_like(params.betas), params.rotmat @ turn)


def seen(smpl: SMPL, assets, params: SMPLParams) -> IUVEstimate:
    """What a perfect estimator says of bodies."""
    body = smpl(params.rotmat, params.betas)
    maps = iuv_img2map(IUV_Renderer(atlas=assets.atlas).verts2uvimg(body.vertices, params.cam))
    centers = project_to_crop(body.smpl_joints, params.cam)
    line = torch.arange(56) / 28 - 1
    apart = (line - centers[..., :1])[:, :, None, :] ** 2 + (line - centers[..., 1:])[..., None] ** 2
    scores = IUVMaps(maps.u, maps.v, 10 * maps.index, maps.ann)
    return IUVEstimate(scores, None, -2 * apart / 0.05**2, centers, None)


def random_estimate(count: int, seed: int) -> IUVEstimate:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    maps = IUVMaps(*(3 * normal(count, 25, 56, 56) for _ in range(3)))
    return IUVEstimate(maps, None, normal(count, 24, 56, 56), 2 * normal(count, 24, 2), None)


def joint_error(smpl: SMPL, found: SMPLParams, true: SMPLParams) -> torch.Tensor:
    """Mean distance of projected joints, halves of the crop's side."""
    points = [project_to_crop(smpl(p.rotmat, p.betas).joints, p.cam) for p in (found, true)]
    return (points[0] - points[1]).norm(dim=-1).mean(dim=1)


def coco_points(smpl: SMPL, params: SMPLParams) -> torch.Tensor:
    """COCO's keypoints of bodies, sure of their places."""
    joints = smpl(params.rotmat, params.betas).joints[:, [NUM_OPENPOSE + j for j in GT24_TO_COCO17]]
    places = project_to_crop(joints, params.cam)
    return torch.cat([places, torch.ones_like(places[..., :1])], dim=-1)


def same(first: SMPLParams, second: SMPLParams, **tolerance: float) -> bool:
    return all(
        torch.allclose(getattr(first, n), getattr(second, n), equal_nan=True, **tolerance) for n in FIELDS
    )


# ------------------------------------------------------------------------------------------- points and derivatives


@dataclass
class Posed:
    body: PointBody
    state: FitState
    smpl: SMPL
    numbers: torch.Tensor


@pytest.fixture(scope="module")
def posed(assets):
    smpl = SMPL(assets.body, assets.extra, assets.surface).double()
    body, generator = PointBody(smpl), torch.Generator().manual_seed(3)
    rotvec = 0.5 * torch.randn(2, 24, 3, generator=generator).double()
    betas = torch.randn(2, 10, generator=generator).double()
    cam = torch.tensor([[0.9, 0.1, 0.2], [0.7, 0.0, -0.1]]).double()
    state = FitState(batch_rodrigues(rotvec[:, 1]), rotvec, betas, cam)
    numbers = torch.arange(0, body.first_joint + 24, 97).expand(2, -1)
    joints = torch.arange(body.first_joint, body.first_joint + 24).expand(2, -1)
    return Posed(body, state, smpl, torch.cat([numbers, joints], dim=1))


def test_points_are_those_of_the_body_layer(posed):
    points, _ = posed.body.project(posed.state, posed.body.rest(posed.numbers))
    body = posed.smpl(posed.state.rotmat(), posed.state.betas)
    whole = torch.cat([body.vertices, body.smpl_joints], dim=1)
    expected = project_to_crop(whole, posed.state.cam).gather(1, posed.numbers[..., None].expand(-1, -1, 2))
    assert torch.allclose(points.transpose(1, 2), expected, atol=1e-9)


def test_coco_keypoints_are_those_of_the_body_layer(posed):
    numbers = torch.arange(posed.body.first_keypoint, posed.body.first_keypoint + 17).expand(2, -1)
    points, _ = posed.body.project(posed.state, posed.body.rest(numbers))
    params = SMPLParams(posed.state.cam, posed.state.betas, posed.state.rotmat())
    expected = coco_points(posed.smpl, params)[..., :2]
    apart = (points.transpose(1, 2) - expected).norm(dim=-1)
    assert apart[:, [*range(11), *range(13, 17)]].max() < 1e-7
    assert apart.max() < 0.06  # hips are means of vertices on several bones


@pytest.mark.parametrize("unknown", [0, 2, 4, 30, 71, 73, 81, 82, 83, 84])
def test_derivatives_are_those_of_small_steps(posed, unknown):
    rest, step = posed.body.rest(posed.numbers), torch.zeros(2, 85).double()
    step[:, unknown] = 1e-5
    ahead, behind = (posed.body.project(posed.state.moved(s), rest)[0] for s in (step, -step))
    _, derivative = posed.body.project(posed.state, rest)
    error = ((ahead - behind) / 2e-5 - derivative[:, unknown]).abs().max()
    assert error < 0.02  # a point's depth changes its size by this much at most, and is left out


def test_the_nearest_cell_is_scipys():
    is_person = torch.rand(2, 56, 56, generator=torch.Generator().manual_seed(0)) < 0.01
    line = (torch.arange(56) + 0.5) / 28 - 1
    found = nearest_cells(is_person).view(2, 2, 56, 56)
    apart = ((found[:, 0] - line) ** 2 + (found[:, 1] - line[:, None]) ** 2).sqrt() * 28
    assert np.allclose(apart, np.stack([distance_transform_edt(~m.numpy()) for m in is_person]), atol=1e-4)


def test_places_of_the_atlas_lead_to_their_vertices(assets):
    atlas, table = assets.atlas, surface_table(assets.atlas).numpy()
    steps = (atlas.face_uv * SURFACE_STEPS).astype(int).clip(0, SURFACE_STEPS - 1)
    found = table[atlas.face_part[:, None], steps[..., 0], steps[..., 1]]
    corners = atlas.vertex_map[atlas.faces]
    apart = np.linalg.norm(assets.body.v_template[found] - assets.body.v_template[corners], axis=-1)
    assert np.median(apart) < 0.01 and np.quantile(apart, 0.99) < 0.06  # metres


def test_a_sharp_heat_map_is_trusted_and_a_flat_one_is_not():
    sharp = torch.zeros(1, 1, 56, 56)
    sharp[..., 20, 30] = 100
    assert heatmap_trust(sharp, soft_argmax(sharp)) == pytest.approx(1, abs=1e-3)
    flat = torch.zeros(1, 1, 56, 56)
    assert heatmap_trust(flat, soft_argmax(flat)) < 0.02


def test_the_prior_holds_plausible_poses():
    prior = load_pose_prior()
    assert (prior.low <= prior.mean).all() and (prior.mean <= prior.high).all()
    assert torch.allclose(prior.precision, prior.precision.T, rtol=1e-3, atol=1e-3)
    assert torch.linalg.eigvalsh(prior.precision.double()).min() > 0


# ---------------------------------------------------------------------------------------------------- refinement


def test_perturbed_bodies_come_back(refiner, smpl, assets):
    true = bodies(4)
    start = perturbed(true, 0.25)
    found = refiner(seen(smpl, assets, true), start)
    before, after = joint_error(smpl, start, true), joint_error(smpl, found, true)
    assert (after < before / 3).all() and after.mean() < before.mean() / 5, (before, after)
    identity = torch.eye(3).expand_as(found.rotmat)
    assert torch.allclose(found.rotmat @ found.rotmat.transpose(-1, -2), identity, atol=1e-5)


def test_keypoints_lead_where_centres_say_nothing(refiner, smpl, assets):
    """Flat heat maps and centres in the middle; keypoints of low scores are as none."""
    true = bodies(4)
    start, estimate = perturbed(true, 0.25), seen(smpl, assets, true)
    blind = replace(estimate, heatmaps=0 * estimate.heatmaps, centers=0 * estimate.centers)
    points = coco_points(smpl, true)
    sure, doubted = (replace(blind, keypoints=points * torch.tensor([1, 1, score])) for score in (1.0, 0.1))
    without, led = (joint_error(smpl, refiner(given, start), true) for given in (blind, sure))
    assert led.mean() < without.mean() / 2, (without, led)
    assert same(refiner(doubted, start), refiner(blind, start), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_worse_by_the_objective(refiner, seed):
    estimate, start = random_estimate(5, seed), perturbed(bodies(5, seed), 1.0, seed)
    found = refiner(estimate, start)
    objective, movable = refiner.objective(estimate, start)
    assert movable.all() and (found.betas.abs() <= MAX_BETA).all()
    after, _ = refiner.objective(estimate, found)  # the same evidence; the pull is that of the start
    state = replace(after.network, root=objective.network.root)
    turned = (objective.network.root.transpose(1, 2) @ found.rotmat[:, 0]).numpy()
    rotvec = state.rotvec.clone()
    rotvec[:, 0] = torch.from_numpy(Rotation.from_matrix(turned).as_rotvec()).float()
    value = objective.at(replace(state, rotvec=rotvec)).value
    assert (value <= objective.at(objective.network).value * (1 + 1e-4)).all()


def test_a_person_is_refined_as_in_any_batch(refiner, smpl, assets):
    true = bodies(3, 5)
    start, estimate = perturbed(true, 0.2), seen(smpl, assets, true)
    together = refiner(estimate, start)
    for row in range(3):
        assert same(refiner(estimate[[row]], start[[row]]), together[[row]], atol=2e-3)


def test_an_empty_batch_is_empty(refiner):
    assert len(refiner(random_estimate(0, 0), bodies(1)[:0])) == 0


def test_what_cannot_be_refined_stays_as_it_is(refiner):
    estimate, start = random_estimate(6, 0), bodies(6)
    estimate.iuv.index[0] = 0
    estimate.iuv.index[0, 0] = 9  # all background
    start.rotmat[1, 4] = torch.nan
    start.cam[2, 0] = -1
    estimate.iuv.index[3] = torch.nan
    estimate.centers[4], estimate.heatmaps[4] = torch.nan, torch.inf
    start.cam[5] = 1e38  # what follows from it is beyond float32
    found = refiner(estimate, start)
    for row in (0, 1, 2, 3, 5):
        assert same(found[[row]], start[[row]], rtol=0, atol=0), row
    assert found.to_vector()[4].isfinite().all() and not same(found[[4]], start[[4]])


# ---------------------------------------------------------------------------------------------------------- video


@dataclass
class Person:
    track: int
    seconds: float
    center: tuple[float, float] = (100.0, 100.0)
    scale: float = 1.0


def test_a_frame_starts_from_the_one_before(refiner, smpl, assets):
    true = bodies(1, 2)
    turn = torch.from_numpy(Rotation.from_euler("y", 170, degrees=True).as_matrix()).float()
    rotmat = torch.cat([(turn @ true.rotmat[:, 0])[:, None], true.rotmat[:, 1:]], dim=1)
    estimate, lost = seen(smpl, assets, true), replace(true, rotmat=rotmat)
    alone, followed = refiner(estimate, lost), refiner(estimate, lost, true)
    assert joint_error(smpl, followed, true) < 0.5 * joint_error(smpl, alone, true)
    broken = replace(true, betas=true.betas * torch.nan)
    assert same(refiner(estimate, lost, broken), alone, rtol=0, atol=0)


def test_tracks_hand_their_bodies_on_in_the_image():
    params, calls = bodies(4), []
    people = [Person(7, 0.0), Person(3, 0.0), Person(7, 0.1, (110.0, 90.0), 1.2), Person(3, 0.1)]

    def refine(rows, before):
        calls.append((list(rows), before))
        return params[list(rows)]

    starts = TrackStarts()
    assert same(starts(refine, params, people), params, rtol=0, atol=0)
    assert [rows for rows, _ in calls] == [[0, 1], [2, 3]], "two frames of one track follow each other"
    first, second = calls[0][1], calls[1][1]
    assert same(first, params[[0, 1]], rtol=0, atol=0)
    assert torch.equal(second.rotmat, params.rotmat[[0, 1]])
    origin = [np.add(p.center, p.scale * 100 * cam[0] * cam[1:]) for p, cam in
              zip(people[::2], (params.cam[0].numpy(), second.cam[0].numpy()), strict=True)]  # fmt: skip
    assert np.allclose(*origin, atol=1e-4) and second.cam[0, 0] == pytest.approx(
        float(params.cam[0, 0]) / 1.2
    )
    assert torch.allclose(second.cam[1], params.cam[1])


# ------------------------------------------------------------------------------------------------------ predictor


@pytest.mark.parametrize(
    "flags, learned_on, expected",
    [([], "danet-open-1", True), ([], None, False), ([], "smpl", False), (["--no_refine"], "danet-open-1", False),
     (["--refine"], None, True)],
)  # fmt: skip
def test_open_body_weights_are_refined_unless_the_settings_differ(assets, flags, learned_on, expected):
    assert is_refined(parse_config(InferenceConfig, flags), assets, learned_on) is expected


def test_what_cannot_be_refined_is_refused(assets):
    config = InferenceConfig(refine=True)
    with pytest.raises(ValueError, match="get_densepose_uv"):
        is_refined(config, replace(assets, atlas=None), None)
    object.__setattr__(config, "regressor", "hmr")
    with pytest.raises(ValueError, match="HMR"):
        is_refined(config, assets, None)
