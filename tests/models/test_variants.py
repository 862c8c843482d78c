"""The paper's ablations: key names, what they compute, that they train, their fast form, who can use them."""

from __future__ import annotations

import gzip
import json
import math
import re
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from fill import fill_state_dict
from tiny import STEADY, TINY, unlabelled, with_joints, without_init

from models import SMPL, DaNetConfig, build_danet
from models.danet import network_of_weights, preset
from models.losses import IUVCriterion, LossWeights, SMPLCriterion
from models.part_crop import hidden_joints
from models.smpl_regressor import apply_grouped
from models.targets import TargetBuilder
from utils.body import load_mean_params, resolve_body
from utils.checkpoint import IGNORED
from utils.geometry import batch_rodrigues, project_to_crop, rot6d_to_rotmat
from utils.iuvmap import iuv_img2map, iuvmap_clean
from utils.renderer import IUV_Renderer
from utils.skeleton import PART_CHILD, PART_PARENT
from utils.structures import IUVMaps

SIZE = 64  # of the images, px
VARIANTS = {
    "gcn": {}, "resnet": {"backbone": "resnet"}, "lstm": {"refinement": "lstm"},
    "lstm_direct": {"refinement": "lstm_direct"}, "gcn_direct": {"refinement": "gcn_direct"},
    "none": {"refinement": "none"}, "global": {"decomposed": False}, "iuv_gt": {"input_mode": "iuv_gt"},
}  # fmt: skip
RAW = {"lstm_direct", "gcn_direct", "global"}  # matrices that nothing makes orthogonal
every_variant = pytest.mark.parametrize("name", VARIANTS)
every_ablation = pytest.mark.parametrize("name", list(VARIANTS)[1:])
def tiny(name: str, **changes) -> DaNetConfig:
    return replace(TINY, **VARIANTS[name] | changes)


def steady(name: str) -> DaNetConfig:
    """Without randomness in training."""
    return replace(STEADY, **VARIANTS[name])


def network(model):
    return model.iuv2smpl.smpl_para_Outs


# ------------------------------------------------------------------------------------------------------- keys


def keys_of_2020(golden, name: str) -> tuple[dict[str, list[int]], int | None]:
    """Keys and shapes of a variant's checkpoint, and how many parameters 2020 counted."""
    with gzip.open(golden / "checkpoint_keys.json.gz", "rt") as file:
        keys = {key: shape for key, shape, _ in json.load(file)}
    with gzip.open(golden / "variant_keys.json.gz", "rt") as file:
        change = json.load(file).get(name, {"without": [], "with": {}, "parameters": 102_250_807})
    keys = {key: shape for key, shape in keys.items() if key not in change["without"]}
    return keys | change["with"], change["parameters"]


def is_ignored(key: str) -> bool:
    return any(re.match(pattern, key) for pattern, _ in IGNORED)


@every_variant
def test_keys_are_those_of_2020(golden, name):
    """State dict and IGNORED together are the file's entries, and IGNORED names none that the network has."""
    wanted, count = keys_of_2020(golden, name)
    with torch.device("meta"), without_init():
        model = build_danet(DaNetConfig(**VARIANTS[name]))
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert {key: wanted.get(key) for key in ours} == ours
    left_out = [key for key in wanted if key not in ours]
    assert all(map(is_ignored, left_out)) and not any(map(is_ignored, ours))
    if name in ("lstm", "lstm_direct", "global"):
        assert left_out == []
    buffers = (".running_mean", ".running_var", ".num_batches_tracked", ".A", ".A_link")
    dead = sum(math.prod(wanted[key]) for key in left_out if not key.endswith(buffers))
    learned = sum(model.img2iuv.get_parameter(n).numel() for n in ("learned_ratio", "learned_offset")) \
        if name == "iuv_gt" else 0  # fmt: skip
    assert sum(p.numel() for p in model.parameters()) + dead - learned == count
    if name not in ("none", "iuv_gt"):  # they have the published network's keys
        assert network_of_weights(wanted) == DaNetConfig(**VARIANTS[name])


def test_the_compact_network_is_known_by_its_keys():
    with torch.device("meta"):
        keys = build_danet(preset("danet_s")).state_dict()
    assert network_of_weights({key: value.shape for key, value in keys.items()}) == preset("danet_s")


# --------------------------------------------------------------------------------------- what they compute


def filled(name: str, **changes):
    torch.manual_seed(0)
    model = build_danet(tiny(name, **changes))
    fill_state_dict(model)
    return model.eval()


def features() -> torch.Tensor:
    return torch.randn(2, 24, 8)


def sentence(lstm, words, state=None):
    """A bidirectional LSTM word by word: [B, T, 2D] and the states both readings end with."""
    ends, said = [], []
    for d, suffix in enumerate(("", "_reverse")):
        w_ih, w_hh, b_ih, b_hh = (
            getattr(lstm, f"{kind}_l0{suffix}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, c = (s[d] for s in state) if state else (torch.zeros_like(words[0]),) * 2
        heard = []
        for word in words[::-1] if d else words:
            i, f, g, o = (word @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            heard.append(h)
        said.append(heard[::-1] if d else heard)
        ends.append((h, c))
    words_said = [torch.cat(pair, dim=1) for pair in zip(*said, strict=True)]
    return words_said, tuple(torch.stack(s) for s in zip(*ends, strict=True))


def refined_joint_by_joint(lstms, x):
    """docs/method.md 4.2 read literally."""
    out = {}
    words, state = sentence(lstms[0], [x[:, j] for j in (0, 3, 6, 9)])
    out |= dict(zip((0, 3, 6, 9), words, strict=True))
    words, _ = sentence(lstms[0], [x[:, j] for j in (12, 15)], state)
    out |= dict(zip((12, 15), words, strict=True))
    for lstm, arm in ((lstms[1], (9, 13, 16, 18, 20, 22)), (lstms[2], (9, 14, 17, 19, 21, 23))):
        words, _ = sentence(lstm, [x[:, j] for j in arm], state)
        out |= dict(zip(arm, words, strict=True))
    for lstm, leg in ((lstms[3], (0, 1, 4, 7, 10)), (lstms[4], (0, 2, 5, 8, 11))):
        words, _ = sentence(lstm, [x[:, j] for j in leg])
        out |= dict(zip(leg[1:], words[1:], strict=True))
    return torch.stack([torch.cat([x[:, j], x[:, j]], dim=1) + out[j] for j in range(24)], dim=1)


@torch.no_grad()
def test_direct_lstms_read_the_limbs():
    net, x = network(filled("lstm_direct")), features()
    refined = refined_joint_by_joint(net.limb_lstm[0], x)
    rotmat = apply_grouped(net.pose_regressors[1], refined).view(2, 24, 3, 3)
    torch.testing.assert_close(net.pose(x).rotmat, rotmat, atol=1e-5, rtol=1e-5)
    first = apply_grouped(net.pose_regressors[0], x).view(2, 24, 3, 3)
    pose = net.train().pose(x)
    torch.testing.assert_close(pose.aux_rotmat[0], first)
    assert len(pose.aux_rotmat) == 1 and pose.aux_joints == ()


@torch.no_grad()
def test_lstms_refine_positions():
    net, x = network(filled("lstm")), features()
    position = [x[:, 0]] + [None] * 23
    for j in (0, 3, 6, 9, 12, 15, 13, 16, 18, 20, 22, 14, 17, 19, 21, 23, 1, 4, 7, 10, 2, 5, 8, 11):
        pair = torch.cat([position[PART_PARENT[j]], x[:, PART_PARENT[j]]], dim=1)
        position[j] = net.rot2pos[0][j](pair[..., None, None])[..., 0, 0]
    position = torch.stack(position, dim=1)
    refined = refined_joint_by_joint(net.limb_lstm[0], position)
    rotation = [
        net.pos2rot[0](
            torch.cat([refined[:, k] for k in (PART_PARENT[j], j, PART_CHILD[j])], 1)[..., None, None]
        )
        for j in range(24)
    ]
    numbers = apply_grouped(net.pose_regressors[1], torch.stack(rotation, dim=1)[..., 0, 0])
    rotmat = rot6d_to_rotmat(numbers.flatten(1) + net.mean_pose).view(2, 24, 3, 3)
    torch.testing.assert_close(net.pose(x).rotmat, rotmat, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_direct_graph_corrects_rotation_features():
    net, x = network(filled("gcn_direct")), features()
    refined = x + net.refine_gcn(x, net.refinement_graph())
    numbers = apply_grouped(net.pose_regressors[1], refined)
    assert torch.equal(net.pose(x).rotmat, numbers.view(2, 24, 3, 3))
    mean = rot6d_to_rotmat(load_mean_params().pose_6d).flatten()
    assert torch.equal(net.mean_pose[0], mean) and len(net.train().pose(x).aux_rotmat) == 1


@torch.no_grad()
def test_without_refinement_the_graph_does_not_matter():
    model, full, x = filled("none"), filled("gcn"), features()
    assert model.state_dict().keys() == full.state_dict().keys()
    with torch.no_grad():
        for parameter in network(full).refine_gcn.parameters():
            parameter.zero_()  # ReLU of zero is no correction
    torch.testing.assert_close(network(model).pose(x).rotmat, network(full).pose(x).rotmat)
    pose = network(model).train().pose(x)
    assert len(pose.aux_rotmat) == len(pose.aux_joints) == 1


@torch.no_grad()
def test_the_global_baseline_reads_global_maps_only():
    model = filled("global")
    image = torch.randn(2, 3, SIZE, SIZE)
    output = model(image)
    assert output.iuv.part_iuv is None and output.iuv.crops is None
    rotmat = output.smpl.params.rotmat
    assert (rotmat @ rotmat.mT - torch.eye(3)).abs().max() > 0.1
    maps = output.iuv.iuv
    rendered = model.forward_rendered(IUVMaps(maps.u, maps.v, maps.index), torch.zeros(2, 24, 2))
    torch.testing.assert_close(rendered.smpl.params.to_vector(), output.smpl.params.to_vector())
    dropped = model.train()(image)  # PartDrop without part maps
    assert dropped.iuv.part_iuv is None and dropped.smpl.aux_rotmat == ()


def rendered_people():
    """Maps of two open bodies [2,25,16,16] and their joint centres."""
    assets = resolve_body("open")
    smpl = SMPL(assets.body, assets.extra)
    rotmat = rot6d_to_rotmat(load_mean_params().pose_6d.expand(2, 144)).view(2, 24, 3, 3).clone()
    rotmat[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    body, cam = smpl(rotmat, torch.zeros(2, 10)), torch.tensor([[0.9, 0.0, 0.2], [0.7, 0.1, 0.3]])
    image = IUV_Renderer(out_size=SIZE // 4, atlas=assets.atlas).verts2uvimg(body.vertices, cam)
    return iuv_img2map(image), project_to_crop(body.smpl_joints, cam)


def test_rendered_part_maps_are_clean_unless_crops_learn():
    """A regressor that will read estimated maps learns from clean ones and hidden joints; `iuv_gt` as in 2020."""
    iuv, centers = rendered_people()
    centers[0, 4] = -0.9  # a knee beside the person
    read = {}
    for name in ("gcn", "iuv_gt"):
        model = filled(name)
        model.iuv2smpl.register_forward_pre_hook(lambda _, maps, name=name: read.update({name: maps[1]}))
        with torch.no_grad():
            model.forward_rendered(iuv, centers)
    wide = filled("iuv_gt").img2iuv.render_parts(iuv, centers)
    assert all(map(torch.equal, list(read["iuv_gt"])[:3], list(wide)[:3]))
    assert ((wide.index > 0) & (wide.index < 1)).any()
    assert ((read["gcn"].index == 0) | (read["gcn"].index == 1)).all()
    cleaned = iuvmap_clean(wide.u, wide.v, wide.index).index
    same = (cleaned == read["gcn"].index).flatten(2).all(dim=2)
    hidden = hidden_joints(centers, iuv.index, 0.5)
    assert same[~hidden].all() and not same[0, 4] and (~hidden).sum() > 10  # a hidden joint's crop has another size


def test_rendered_maps_teach_the_crops_their_size():
    """Only with `iuv_gt`; the derivative is the difference quotient."""
    iuv, centers = rendered_people()
    model = filled("iuv_gt")
    ratio = model.img2iuv.learned_ratio
    assert ratio.requires_grad and not build_danet(tiny("gcn")).img2iuv.learned_ratio.requires_grad
    model.forward_rendered(iuv, centers).smpl.params.rotmat.sum().backward()
    assert ratio.grad.isfinite().all() and ratio.grad.abs().sum() > 0

    model = model.double()
    iuv, centers = iuv.to(torch.float64), centers.double()
    parts = model.img2iuv.render_parts(iuv, centers)
    (gradient,) = torch.autograd.grad(parts.u.sum(), model.img2iuv.learned_ratio)
    with torch.no_grad():
        model.img2iuv.learned_ratio += 1e-7
        quotient = (model.img2iuv.render_parts(iuv, centers).u.sum() - parts.u.sum()) / 1e-7
    assert gradient.sum().item() == pytest.approx(quotient.item(), rel=1e-3)


# ------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def build_targets():
    assets = resolve_body("open")
    renderer = IUV_Renderer(out_size=SIZE // 4, atlas=assets.atlas)
    return TargetBuilder(SMPL(assets.body, assets.extra), renderer)


@pytest.fixture(scope="module")
def lesson(build_targets):
    """Two images and their targets; the maps are small."""
    torch.manual_seed(1)
    rotvec, betas = 0.2 * torch.randn(2, 72), torch.randn(2, 10)
    rotvec[:, :3] = torch.tensor([3.1, 0.0, 0.0])
    body = build_targets.smpl(batch_rodrigues(rotvec.view(-1, 3)).view(2, 24, 3, 3), betas)
    batch = with_joints(unlabelled(2, SIZE), body, torch.tensor([0.8, 0.0, 0.2]))
    yes = torch.ones(2, dtype=torch.bool)
    batch = replace(batch, image=torch.randn(2, 3, SIZE, SIZE), rotvec=rotvec, betas=betas, has_smpl=yes)
    return batch.image, build_targets(batch)


def losses_of(model, stage: str, lesson, smpl) -> dict[str, torch.Tensor]:
    """Losses of a training step, as train.py adds them up."""
    image, targets = lesson
    if stage == "rendered":
        output = model.forward_rendered(targets.iuv, targets.centers[..., :2])
        return SMPLCriterion(smpl)(output, targets)
    output = model(image, iuv_only=stage == "iuv")
    losses = IUVCriterion()(output, targets)
    return losses if stage == "iuv" else losses | SMPLCriterion(smpl)(output, targets)


def second_stage(name: str) -> str:
    return "rendered" if name == "iuv_gt" else "joint"


def unused(name: str, stage: str, key: str) -> bool:
    """Parameters that a stage gives no gradient, on purpose."""
    if key.startswith("img2iuv.learned_"):  # crop sizes learn from rendered maps only
        return stage != "rendered"
    if stage == "rendered":
        return key.startswith("img2iuv.")
    return stage == "iuv" and key.startswith("iuv2smpl.")


@every_ablation
def test_a_step_of_each_stage(name, lesson, build_targets):
    """Finite losses and gradients, one for every parameter that runs; crops jitter and parts drop."""
    model = build_danet(tiny(name)).train()
    learning = {key: p for key, p in model.named_parameters() if p.requires_grad}
    frozen = {
        key.split("smpl_para_Outs.")[1].split(".")[0]
        for key, p in model.named_parameters()
        if not p.requires_grad
    }
    assert frozen == {
        "gcn_direct": {"r2p_gcn", "p2r_gcn", "coord_regressors"},
        "none": {"refine_gcn", "edge_importance", "coord_regressors"},
    }.get(name, set())
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    for stage in ("iuv", second_stage(name)):
        losses = losses_of(model, stage, lesson, build_targets.smpl)
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        assert all(value.isfinite() for value in losses.values()), losses
        without = {key for key, p in learning.items() if p.grad is None}
        assert without == {key for key in learning if unused(name, stage, key)}
        assert all(p.grad.isfinite().all() for key, p in learning.items() if key not in without)
        optimizer.step()


def test_missing_outputs_have_no_losses(lesson, build_targets):
    names = {
        name: set(losses_of(build_danet(steady(name)).train(), "joint", lesson, build_targets.smpl))
        for name in ("gcn", "global", "none", "lstm_direct", "lstm")
    }
    parts = {"loss_pU", "loss_pV", "loss_pIndexUV"}
    said = {"joint_rotation0", "joint_position0", "joint_position1"}
    assert names["lstm"] == names["gcn"] >= parts | said
    assert names["gcn"] - names["global"] == parts | said
    assert names["gcn"] - names["none"] == {"joint_position1"}
    assert names["gcn"] - names["lstm_direct"] == {"joint_position0", "joint_position1"}


def test_the_loss_falls_on_one_batch(lesson, build_targets):
    """Two samples make batch norm, and so the body's gradient, wild: it is kept from the maps here."""
    model = build_danet(replace(steady("resnet"), detach_maps=True)).train()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    totals = []
    for _ in range(12):
        total = sum(losses_of(model, "joint", lesson, build_targets.smpl).values())
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert np.median(totals[-3:]) < 0.8 * np.median(totals[:3]), totals


def test_orthogonality_is_a_loss_of_raw_matrices(lesson, build_targets):
    targets, weights = lesson[1], LossWeights(orthogonal_weight=2.0)
    loss = {}
    for name in ("gcn", "global"):
        with torch.no_grad():
            output = build_danet(steady(name)).train()(lesson[0])
            loss[name] = SMPLCriterion(build_targets.smpl, weights)(output, targets)["Rs_orth"]
        rotmat = output.smpl.params.rotmat
        wanted = 2 * (rotmat @ rotmat.mT - torch.eye(3)).square().mean()
        torch.testing.assert_close(loss[name], wanted)
    assert loss["gcn"] < 1e-6 < loss["global"]
    off = SMPLCriterion(build_targets.smpl, LossWeights(orthogonal_weight=-1.0))(output, targets)
    assert "Rs_orth" not in off


# ------------------------------------------------------------------------------------------------ inference


@every_ablation
def test_fast_form_gives_the_same(name):
    model = filled(name)
    fast = deepcopy(model).prepare_for_inference()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fast.modules())
    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        slow, quick = model(image), fast(image)
    torch.testing.assert_close(quick.iuv.iuv.u, slow.iuv.iuv.u, atol=1e-4, rtol=0)
    torch.testing.assert_close(quick.smpl.params.to_vector(), slow.smpl.params.to_vector(), atol=1e-4, rtol=0)
    rotmat = slow.smpl.params.rotmat
    orthogonal = torch.allclose(rotmat @ rotmat.mT, torch.eye(3), atol=1e-4)
    assert orthogonal == (name not in RAW)
    assert slow.smpl.aux_rotmat == () and slow.smpl.aux_joints == ()


def test_part_maps_of_half_the_sides():
    """One more key, features of the same size, and a fast form that gives the same."""
    small, usual = (build_danet(tiny("gcn", part_stride=stride)).eval() for stride in (2, 1))
    assert small.state_dict().keys() - usual.state_dict().keys() == {"img2iuv.stride_of_parts"}
    sizes = []
    for model in (small, usual):
        network(model).limb_reslayer.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-2:]))
    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        slow, other = small(image), usual(image)
        quick = small.prepare_for_inference()(image)
    assert slow.iuv.part_iuv.u.shape == (2, 24, 7, 8, 8) and other.iuv.part_iuv.u.shape == (2, 24, 7, 16, 16)
    assert sizes[0] == sizes[1]
    torch.testing.assert_close(quick.smpl.params.to_vector(), slow.smpl.params.to_vector(), atol=1e-4, rtol=0)


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"refinement": "tcn"}, "refinement is one of gcn, gcn_direct, none, lstm, lstm_direct"),
        ({"backbone": "vgg"}, "backbone is one of hrnet, resnet, movenet"),
        ({"input_mode": "seg"}, "input_mode is one of iuv, iuv_gt"),
        ({"decomposed": False, "refinement": "lstm"}, "no features of joints that 'lstm' could refine"),
        ({"backbone": "resnet", "deconv_width": 30}, "deconv_width must be a multiple of 4"),
    ],
)
def test_senseless_networks_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        DaNetConfig(**changes)


def test_lstms_train_on_two_samples_or_more():
    model, x = network(build_danet(tiny("lstm"))), features()
    with pytest.raises(ValueError, match="two samples or more"):
        model.train().pose(x[:1])
    assert model.eval().pose(x[:1]).rotmat.shape == (1, 24, 3, 3)
