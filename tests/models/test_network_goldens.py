"""The network against the 2020 system: its outputs, and in training targets, losses, gradients and one Adam step.

docs/method.md 3, 4, 6 and 7. One network serves all: to fill it takes seconds.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import standin
import torch
from fill import fill_state_dict
from scipy.io import savemat
from tiny import TINY, without_init

from datasets.fits import Fits, FitTable
from models import SMPL, build_danet
from models.danet import preset
from models.losses import IUVCriterion, SMPLCriterion
from models.targets import TargetBuilder
from utils.body import load_uv_processed, read_smpl_file
from utils.geometry import batch_rodrigues
from utils.iuvmap import iuv_img2map, iuv_map2img, iuvmap_clean
from utils.renderer import IUV_Renderer
from utils.skeleton import EXTRA_JOINT_NAMES, PART_CHANNELS
from utils.structures import DensePosePoints, Regressor, Sample

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def close(ours, numbers, atol):
    np.testing.assert_allclose(ours, numbers, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def filled():
    """The default network, nothing random in it; weights follow from their names, as where the goldens were made."""
    with without_init():
        model = build_danet(replace(preset("danet"), center_jitter=0.0, scale_jitter=0.0, partdrop_rate=0.0))
    fill_state_dict(model)
    mean, net = standin.mean_params(), model.iuv2smpl.smpl_para_Outs
    net.mean_pose.copy_(torch.from_numpy(mean["pose"])[None])
    net.mean_cam_shape.copy_(torch.from_numpy(np.concatenate([mean["cam"], mean["shape"]]))[None])
    return model.eval()


@pytest.fixture(scope="module")
def numbers():
    with np.load(GOLDEN / "infer.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def output(filled):
    with torch.inference_mode():
        return filled(torch.from_numpy(standin.image_batch(2)))


def test_outputs(output, numbers):
    estimate = output.iuv
    close(estimate.iuv.u[..., ::4, ::4], numbers["raw_predict_u_s4"], 1e-4)
    close(estimate.heatmaps[..., ::4, ::4], numbers["raw_predict_hm_s4"], 1e-4)
    close(estimate.centers, numbers["stn_centers"], 1e-4)
    close(estimate.crops.theta.transpose(0, 1), numbers["thetas"], 1e-4)
    assert np.array_equal(estimate.iuv.index.argmax(1), numbers["global_index_argmax"])
    assert np.array_equal(estimate.iuv.ann.argmax(1), numbers["global_ann_argmax"])
    assert np.array_equal(estimate.part_iuv.index.argmax(2), numbers["part_index_argmax"])
    close(output.smpl.params.to_vector(), numbers["para"], 1e-4)
    assert output.smpl.aux_rotmat == () and output.smpl.aux_joints == ()


def test_images(output, numbers):
    estimate = output.iuv
    clean = iuvmap_clean(*estimate.iuv)
    close(iuv_map2img(*clean), numbers["global_iuv_img"], 1e-4)
    part = [maps[:1, 7] for maps in list(estimate.part_iuv)[:3]]
    close(iuv_map2img(*part, ind_mapping=PART_CHANNELS[7]), numbers["part_iuv_img_b0_p7"], 1e-4)


def test_regressor_stages(filled, output, numbers):
    net = filled.iuv2smpl.smpl_para_Outs
    part = iuvmap_clean(*list(output.iuv.part_iuv)[:3])
    with torch.inference_mode():
        rotation = net.limb_reslayer(net.limb_net(part.stack().flatten(0, 1)))
        close(rotation, numbers["rot_feat"], 1e-4)
        position = net.r2p_gcn(rotation, net.r2p_A)
        close(position, numbers["pos_feat_init"], 1e-4)
        refined = position + net.refine_gcn(position, net.refinement_graph())
        close(refined, numbers["pos_feat_refined"], 1e-4)
        close(net.p2r_gcn(refined, net.p2r_A), numbers["rot_feat_refined"], 1e-4)


def test_rendered_maps(filled):
    """The ablation that reads rendered maps: `input_mode` iuv_gt with the weights of the default network."""
    with np.load(GOLDEN / "iuv_gt.npz") as file:
        numbers = dict(file)
    random = np.random.RandomState(5)
    index = random.randint(0, 25, (2, 7, 7)).repeat(8, axis=1).repeat(8, axis=2)
    assert np.array_equal(index, numbers["in_img_argidx"])
    uv = random.rand(2, 2, 56, 56) * (index > 0)[:, None]
    image = np.concatenate([index[:, None] / 24, uv], axis=1).astype(np.float32)
    close(image[..., ::8, ::8], numbers["in_uv_seed5"], 0)

    model = build_danet(replace(TINY, input_mode="iuv_gt")).eval()
    model.iuv2smpl = filled.iuv2smpl  # rendered maps come past the estimator, of which only the crops' sizes matter
    centers = torch.from_numpy(numbers["in_kps"])[..., :2]
    with torch.inference_mode():
        output = model.forward_rendered(iuv_img2map(torch.from_numpy(image)), centers)
    close(output.smpl.params.to_vector(), numbers["para"], 1e-5)


# ------------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def training():
    with np.load(GOLDEN / "train_mixed.npz") as file:
        return {key.removeprefix("mixed/"): file[key] for key in file.files}


@pytest.fixture(scope="module")
def fits(training):
    """The fits of both data sets; the mix of this batch trusts labels alone."""
    tables = {}
    for name in ("h36m", "dp_coco"):
        values = training[f"fits_{name}"].astype(np.float32)
        none_valid = np.zeros(len(values), dtype=bool)
        tables[name] = FitTable(values[:, :72], values[:, 72:], none_valid, Path())
    return Fits(tables)


@pytest.fixture(scope="module")
def build_targets(tmp_path_factory, fits):
    folder = tmp_path_factory.mktemp("data")
    standin.write_body(folder)
    savemat(folder / "UV_Processed.mat", standin.uv_processed())
    extra = Regressor("smpl", standin.regressors()[0].astype(np.float32), EXTRA_JOINT_NAMES)
    smpl = SMPL(read_smpl_file(folder / "smpl" / "SMPL_NEUTRAL.pkl"), extra)
    atlas = load_uv_processed(folder / "UV_Processed.mat")
    return TargetBuilder(smpl, IUV_Renderer(atlas=atlas), fits)


def golden_batch(training) -> Sample:
    def tensor(key):
        return torch.from_numpy(training[key].copy())

    dense = {k.rsplit("/", 1)[1].removeprefix("body_uv_"): tensor(k) for k in training if "dp_dict" in k}
    # U and V are tiled over the 25 channels in the 2020 blobs.
    points = DensePosePoints(
        ann_labels=dense["ann_labels"].view(2, 56, 56),
        xy=torch.stack([dense["X_points"], dense["Y_points"]], dim=-1),
        part=dense["I_points"].long(),
        u=dense["U_points"].view(2, 25, 196)[:, 0],
        v=dense["V_points"].view(2, 25, 196)[:, 0],
    )
    return Sample(
        image=torch.from_numpy(standin.image_batch(2)),
        rotvec=tensor("in/pose"),  # zeros for the first person, whose body is fitted
        betas=tensor("in/betas"),
        keypoints=tensor("in/keypoints"),
        joints_3d=tensor("in/pose_3d"),
        smpl_keypoints=tensor("in/smpl_2dkps"),
        dense=points,
        has_smpl=tensor("in/has_smpl").bool(),
        has_dense=tensor("in/has_dp").bool(),
        has_joints_3d=tensor("in/has_pose_3d").bool(),
        is_flipped=tensor("in/is_flipped").bool(),
        rotation_deg=tensor("in/rot_angle"),
        center=torch.zeros(2, 2),
        scale=torch.ones(2),
        gender=torch.full((2,), -1),
        index=tensor("in/sample_index"),
        dense_only=torch.tensor([True, False]),
        dataset=("dp_coco", "h36m"),
        name=("0", "1"),
    )


def test_targets(training, build_targets):
    targets = build_targets(golden_batch(training))
    wanted = batch_rodrigues(torch.from_numpy(training["full/opt_pose"]).view(-1, 3)).view(2, 24, 3, 3)
    np.testing.assert_allclose(targets.rotmat, wanted, atol=1e-6)
    np.testing.assert_array_equal(targets.betas, training["full/opt_betas"])
    np.testing.assert_allclose(targets.centers, training["full/target_smpl_kps"], atol=1e-5)
    np.testing.assert_allclose(targets.cam, training["full/target_cam"], rtol=1e-4, atol=1e-6)
    assert targets.has_iuv.tolist() == training["full/has_iuv"].astype(bool).tolist()
    assert targets.has_body.tolist() == training["full/valid_fit"].astype(bool).tolist()


def test_a_step_of_both_stages(training, build_targets, filled):
    """Every loss within 1e-4, gradient norms within 2e-2, weights after one Adam step.

    One forward pass: stage two adds the body's losses, and their gradients, to those of stage one.
    """
    batch, model = golden_batch(training), deepcopy(filled).train()
    targets = build_targets(batch)
    output = model(batch.image)
    losses = IUVCriterion()(output, targets)
    sum(losses.values()).backward(retain_graph=True)
    check_step("pretrain", training, losses, model)
    of_body = SMPLCriterion(build_targets.smpl)(output, targets)
    sum(of_body.values()).backward()
    check_step("full", training, losses | of_body, model)


def check_step(stage, training, losses, model):
    wanted = {
        k.rsplit("/", 1)[1].removeprefix("loss_"): float(training[k])
        for k in training
        if k.startswith(f"{stage}/loss/")
    }
    assert set(losses) == set(wanted) - {"tatal"}
    for name, value in losses.items():
        assert value.item() == pytest.approx(wanted[name], rel=1e-4, abs=1e-7), name
    assert sum(losses.values()).item() == pytest.approx(wanted["tatal"], rel=1e-4)

    for key in (k for k in training if k.startswith(f"{stage}/gradnorm/")):
        module = key.rsplit("/", 1)[1]
        gradients = [
            p.grad for n, p in model.named_parameters() if n.startswith(module) and p.grad is not None
        ]
        assert torch.nn.utils.get_total_norm(gradients).item() == pytest.approx(
            float(training[key]), rel=2e-2
        ), module
    estimator = model.img2iuv.iuv_est
    gradient = training[f"{stage}/conv1_grad"]
    noise = 2e-2 * np.abs(gradient).max()
    np.testing.assert_allclose(estimator.conv1.weight.grad[:4], gradient, atol=noise)
    stepped = deepcopy(estimator.conv1)
    stepped.weight.grad = estimator.conv1.weight.grad.clone()
    torch.optim.Adam(stepped.parameters(), lr=1e-4).step()
    certain = np.abs(gradient) > noise  # Adam's first step is the sign of the gradient
    after = stepped.weight.detach().numpy()[:4]
    np.testing.assert_allclose(after[certain], training[f"{stage}/conv1_after_step"][certain], atol=5e-6)
    np.testing.assert_allclose(estimator.bn1.running_mean, training[f"{stage}/bn1_running_mean"], atol=1e-5)
    np.testing.assert_allclose(estimator.bn1.running_var, training[f"{stage}/bn1_running_var"], rtol=1e-4)
