"""Which labels feed which losses: tables with the right numbers, and runs that would learn nothing are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from forked_runs import flags
from labelled import N, base_arrays, write_dp_coco, write_set

import train as script
from datasets.fits import load_fits
from datasets.label_counts import UNLABELLED, count_labels, passed_over
from datasets.training_data import DataConfig, build_mix
from models import DaNetConfig
from models.losses import LossWeights
from models.training.config import TrainingConfig
from models.training.loss_feed import SILENT_STEPS, SilentSteps, require_fed
from models.training.stages import Stage, Stages


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """COCO and MPII with 2D keypoints, one of MPII's people without any, and Human3.6M."""
    from labelled import write_h36m, write_symmetry

    folder = tmp_path_factory.mktemp("data")
    write_symmetry(folder)
    part = base_arrays()["part"]
    part[..., 2] = 1
    write_set(folder, "coco_2014_train", "coco", ("part",), part=part)
    blind = part.copy()
    blind[0, :, 2] = 0
    write_set(folder, "mpii_train", "mpii", ("part",), part=blind)
    write_h36m(folder, part=part)
    write_dp_coco(folder)
    return folder


def counts_of(data_dir, mix, body="danet-open-1", **settings):
    cfg = DataConfig(train_data=mix, synthetic_size=4, **settings)
    return count_labels(build_mix(cfg, data_dir, body=body), None)


def test_people_are_counted_by_label(data_dir):
    counts = counts_of(data_dir, "coco+mpii+synthetic")
    assert counts["coco"] == {"2D keypoints": N}
    assert counts["mpii"] == {"2D keypoints": N - 1, UNLABELLED: 1}
    assert counts["synthetic"] == dict.fromkeys(
        ("rendered maps", "joint centres", "bodies", "2D keypoints", "OpenPose keypoints", "3D joints"), 4
    )
    assert "bodies" not in counts_of(data_dir, "h36m")["h36m"]
    h36m = counts_of(data_dir, "h36m", body="smpl")["h36m"]
    assert h36m["bodies"] == h36m["rendered maps"] == h36m["joint centres"] == h36m["3D joints"] == N
    dense = counts_of(data_dir, "dp_coco")["dp_coco"]
    assert dense["annotated points"] == N and "rendered maps" not in dense


def test_fits_are_bodies(data_dir):
    folder = data_dir / "static_fits"
    folder.mkdir()
    np.save(folder / "coco_fits.npy", np.zeros((N, 82)))
    mix = build_mix(DataConfig(train_data="coco"), data_dir)
    counts = count_labels(mix, load_fits(mix, data_dir))
    assert counts["coco"]["rendered maps"] == counts["coco"]["bodies"] == N
    unused = passed_over(mix, counts, data_dir, 1, body_labels=False)
    assert unused == {"coco": {"files of fits (they belong to SMPL, the run shows the open body)": 1}}


def test_labels_that_are_passed_over_are_counted_with_the_reason(data_dir):
    mix = build_mix(DataConfig(train_data="h36m"), data_dir, body="danet-open-1")
    unused = passed_over(mix, count_labels(mix, None), data_dir, 1, body_labels=False)
    assert unused == {"h36m": {"pose and shape (they belong to 'smpl', the run shows 'danet-open-1')": N}}
    mix = build_mix(DataConfig(train_data="h36m", ignore_3d=True), data_dir)
    unused = passed_over(mix, count_labels(mix, None), data_dir, 1, body_labels=True)
    assert unused == {"h36m": {"pose and shape (--ignore_3d)": N, "3D joints (--ignore_3d)": N}}


def test_a_stage_that_nothing_feeds_is_refused(data_dir, caplog):
    counts = counts_of(data_dir, "coco+mpii")
    with pytest.raises(ValueError, match="Stage one.*coco: 2D keypoints; mpii: 2D keypoints.*--pretr_step 0"):
        require_fed(LossWeights(), counts, [Stage.IUV, Stage.JOINT])
    with pytest.raises(ValueError, match="rendered maps"):
        require_fed(LossWeights(keypoints_2d_weight=0), counts, [Stage.RENDERED])
    with pytest.raises(ValueError, match="The stage on the estimator's maps, would learn nothing"):
        require_fed(LossWeights(keypoints_2d_weight=0), counts, [Stage.ESTIMATED])
    require_fed(LossWeights(), counts, [Stage.JOINT])  # keypoints train the body
    assert "smpl_betas (bodies)" in caplog.text and "keypoints_3d (3D joints)" in caplog.text
    with pytest.raises(ValueError, match="weights of all its losses are 0"):
        weights = dict.fromkeys(LossWeights.__dataclass_fields__, 0.0)
        require_fed(LossWeights(**weights), counts_of(data_dir, "synthetic"), [Stage.IUV])


def test_stages_that_a_run_passes():
    stages = Stages(4, 6)
    assert stages.between(0, 20) == [Stage.IUV, Stage.RENDERED, Stage.JOINT]
    assert stages.between(0, 4) == [Stage.IUV] and stages.between(4, 4) == []
    assert Stages(4, 0, 6).between(0, 20) == [Stage.IUV, Stage.ESTIMATED, Stage.JOINT]
    assert stages.between(7, 10) == [Stage.RENDERED] and stages.between(10, 20) == [Stage.JOINT]
    assert Stages(0).between(0, 5) == [Stage.JOINT]


def test_steps_without_any_loss_are_reported(caplog):
    silent, losses = SilentSteps(), {"loss_U": torch.tensor(0.0), "cam": torch.tensor(2.0)}
    for step in range(SILENT_STEPS - 1):
        silent.note(losses, step)
    silent.note({"loss_U": torch.tensor(1e-9)}, 0)
    assert not caplog.text
    for step in range(2 * SILENT_STEPS):
        silent.note(losses, step)
    assert caplog.text.count("were exactly 0") == 1


def test_real_sets_with_the_open_body_are_refused_before_anything_is_written(data_dir, tmp_path, capfd):
    settings = {"data_dir": data_dir, "log_dir": tmp_path / "log", "body": "open", "train_data": "coco+mpii"}
    assert script.main(flags(**settings)) == 1
    said = capfd.readouterr().err
    assert "Stage one, which trains the IUV estimator, would learn nothing" in said and "Traceback" not in said
    assert not (tmp_path / "log").exists()


def test_what_a_run_does_not_use_is_in_its_record(data_dir, tmp_path, monkeypatch, capfd):
    """No step is made: what is written at the start is looked at."""
    monkeypatch.setattr(script, "load_parts", lambda *_: iter(()))
    settings = {"data_dir": data_dir, "log_dir": tmp_path, "body": "open", "train_data": "mpii+synthetic"}
    more = {"num_epochs": 1, "batch_size": 3, "test_steps": 9, "h36m_root": "x"}
    more |= {"lr_schedule": "cosine", "lr_gamma": 0.5}
    assert script.main(flags(**(settings | more))) == 0
    (folder,) = (tmp_path / "t").glob("log_*")
    facts = json.loads((folder / "data.json").read_text())
    assert facts["not_used"] == {
        "mpii": {UNLABELLED: 1},
        "each epoch": {"people left over by whole batches, others in each epoch": 1},
    }
    assert facts["settings_without_effect"] == {
        "h36m_root": "the mix has no set that lies there",
        "lr_gamma": "the rate follows a cosine",
    }
    assert facts["losses"]["keypoints_2d"] == {"mpii": 3, "synthetic": 4}
    said = (folder / "train.log").read_text()
    assert "Not used of mpii: people without any label that a loss can use: 1." in said
    warned = capfd.readouterr().err
    for words in (
        "within stage one (--pretr_step 5000)",
        "--h36m_root has no effect",
        "No scores: --test_steps 9",
    ):
        assert words in warned
    timestamp = folder.name.removeprefix("log_")
    assert script.main(flags(**settings, timestamp=timestamp)) == 1
    assert "holds the checkpoints of another run" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("net", "more", "without"),
    [
        ({"map_errors": 0.5}, {}, {"map_errors"}),
        ({"map_errors": 0.5}, {"rendered_steps": 8}, set()),
        ({"map_errors": 0.5, "input_mode": "iuv_gt"}, {}, set()),
        ({"learn_trunk": True}, {}, {"learn_trunk"}),
        ({"learn_trunk": True, "backbone": "thunder"}, {}, set()),
    ],
)
def test_network_settings_that_change_nothing_are_named(net, more, without):
    assert TrainingConfig(name="t", net=DaNetConfig(**net), **more).without_effect().keys() == without
