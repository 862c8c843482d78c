"""The training script on a tiny network: both stages and the one between, files, resuming, refusals."""

from __future__ import annotations

import json

import pytest
import torch

import train as script
from models.losses import IUVCriterion
from models.training.optim import OptimConfig, WeightAverage
from models.training.stages import Stage, Stages
from utils.checkpoint import load_checkpoint, load_danet

TINY = (
    "--model danet --backbone resnet --resnet_width 4 --resnet_blocks 1 1 1 1 --deconv_width 8 --body_width 4 "
    "--limb_width 4 --gcn_hidden 8 --device cpu --num_workers 0 --summary_steps 1"
).split()
UNLESS_GIVEN = {
    "--train_data": "synthetic", "--synthetic_size": "4", "--test_steps": "0", "--batch_size": "2", "--features": "8",
}  # fmt: skip
STAGES = "--pretr_step 2 --rendered_steps 2 --ema_decay 0.9".split()


def run(log_dir, *more: str) -> int:
    defaults = [word for pair in UNLESS_GIVEN.items() if pair[0] not in more for word in pair]
    return script.main([*TINY, *defaults, "--name", "t", "--log_dir", str(log_dir), *more])


def folder(log_dir):
    (found,) = (log_dir / "t").glob("log_*")
    return found


def weights(log_dir, step):
    return load_checkpoint(folder(log_dir) / "checkpoints" / f"{step:08d}.pt")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two steps of each stage with images and scores."""
    path = tmp_path_factory.mktemp("run")
    more = "--num_epochs 3 --test_steps 6 --test_size 2 --vis_interval 2 --checkpoint_steps 1 --keep 9".split()
    assert run(path, *STAGES, *more) == 0
    return path


def test_run_folder(finished):
    files = {p.name for p in folder(finished).iterdir()}
    assert {"config.yaml", "data.json", "git.json", "train.log", "tb_summary", "danet.safetensors"} <= files
    (start,) = json.loads((folder(finished) / "git.json").read_text())
    assert start["step"] == 0 and start["torch"] == torch.__version__
    if "commit" in start:  # a checkout
        assert len(start["commit"]) == 40 and isinstance(start["dirty"], bool)
    assert "part_accuracy" in (folder(finished) / "train.log").read_text()
    events = b"".join(p.read_bytes() for p in (folder(finished) / "tb_summary").iterdir())
    for name in (
        "loss_total loss_U loss_keypoints_2d test_pa_mpjpe test_gps test_body_gps pace_samples_per_second "
        "pace_waiting_for_data pred_uv gt_uv stn_centers_pred part_uvi_pred opt_shape pred_shape"
    ).split():
        assert name.encode() in events, name


def test_exported_weights_load(finished):
    """The file that demo.py reads: the moving average, in float16."""
    cfg = script.parse_config(script.TrainConfig, [*TINY, "--features", "8", "--name", "t"])
    model = script.build_danet(cfg.net)
    report = load_danet(model, folder(finished) / "danet.safetensors")
    assert report.meta["body"] == "danet-open-1" and report.meta["step"] == "6"
    average = weights(finished, 6)["average"]["state"]
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, average[key], atol=1e-3, rtol=1e-3)


def moved(before, after) -> set[str]:
    """Parts of the network of which weights differ."""
    names = [key for key in before if key.endswith("weight") and not torch.equal(before[key], after[key])]
    return {name.split(".")[0] for name in names}


def test_stages_train_what_they_should(finished):
    one, two, four, six = (weights(finished, step)["model"] for step in (1, 2, 4, 6))
    assert moved(one, two) == {"img2iuv"}
    assert moved(two, four) == {"iuv2smpl"}
    assert moved(four, six) == {"img2iuv", "iuv2smpl"}


def test_resumed_run_equals_an_unbroken_one(finished, tmp_path):
    """From the middle of an epoch; test_processes.py continues at the end of one."""
    assert run(tmp_path, *STAGES, "--num_epochs", "3", "--time_to_run", "0") == 0
    assert run(tmp_path, *STAGES, "--num_epochs", "3", "--resume") == 0
    whole, broken = weights(finished, 6), weights(tmp_path, 6)
    for a, b in ((whole["model"], broken["model"]), (whole["average"]["state"], broken["average"]["state"])):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_resuming_with_another_meaning_is_refused(finished, capfd):
    """Steps would be counted, data drawn or weights shaped in another way; the saved run stays as it is."""
    settings = (folder(finished) / "config.yaml").read_text()
    changes = "--batch_size 4 --features 16 --seed 5".split()
    assert run(finished, *STAGES, "--num_epochs", "3", "--resume", *changes) == 1
    assert "other values of batch_size, features, seed" in capfd.readouterr().err
    assert (folder(finished) / "config.yaml").read_text() == settings


def test_a_given_checkpoint_is_continued_in_a_new_folder(tmp_path, capfd):
    """Newer checkpoints of the old folder must not be taken for the new run's."""
    assert run(tmp_path, *"--no_decomposed --num_epochs 1 --checkpoint_steps 1 --timestamp old".split()) == 0
    first = tmp_path / "t" / "log_old" / "checkpoints" / "00000001.pt"
    more = "--no_decomposed --timestamp new --num_epochs 1 --checkpoint".split()
    assert run(tmp_path, *more, str(first)) == 0
    (left,) = (tmp_path / "t" / "log_new" / "checkpoints").iterdir()
    a, b = (load_checkpoint(path)["model"] for path in (left, first.with_name("00000002.pt")))
    assert all(torch.equal(a[key], b[key]) for key in a)
    weights_only = tmp_path / "w.pt"
    torch.save({"model": a}, weights_only)
    assert run(tmp_path, "--checkpoint", str(weights_only)) == 1
    assert "--pretrained_checkpoint" in capfd.readouterr().err


def test_rendered_maps_train_the_regressor_of_iuv_gt(tmp_path):
    more = "--input_mode iuv_gt --pretr_step 1 --num_epochs 1 --checkpoint_steps 1 --amp".split()
    assert run(tmp_path, *more) == 0
    assert moved(weights(tmp_path, 1)["model"], weights(tmp_path, 2)["model"]) == {"iuv2smpl"}


def test_stages():
    stages = Stages(4, 6, 2)
    names = "IUV IUV RENDERED RENDERED ESTIMATED ESTIMATED JOINT".split()
    assert [stages.at(step).name for step in (0, 3, 4, 9, 10, 11, 12)] == names
    assert stages.rendered_epochs(2, 9) == range(2, 5)
    always = Stages(5, always_rendered=True)
    assert always.at(5) is always.at(10**6) is Stage.RENDERED
    assert always.rendered_epochs(2, 4) == range(3, 4)  # epoch 2 begins with stage one
    assert len(Stages(10**9).rendered_epochs(4, 3)) == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--img_res 256", "224 px only"), ("--train_data h36m_everything", "h36m_dp"),
        ("--body smpl", "show the open body"), ("--resume --pretrained_checkpoint x", "starts a run"),
        ("--crop_mode stretched", "legacy"), ("--scale_factor 1", "below 1"),
        ("--accumulate 0", "must lie between 1"), ("--keep 0", "must lie between 1"),
        ("--synthetic_size 1", "less than one batch"), ("--pretr_step 1 --rendered_steps 2", "whole epochs"),
    ],
)  # fmt: skip
def test_settings_without_sense_are_refused(tmp_path, capsys, flags, sentence):
    with pytest.raises(SystemExit):
        run(tmp_path, *flags.split())
    assert sentence in capsys.readouterr().err


def test_shares_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, capfd):
    assert run(tmp_path, "--resume") == 1
    assert "no checkpoint of a run named 't'" in capfd.readouterr().err
    assert run(tmp_path, "--accumulate", "3") == 1
    assert "cannot be split evenly" in capfd.readouterr().err and not (tmp_path / "t").exists()
    assert run(tmp_path, "--sync_bn") == 1
    assert "CUDA" in capfd.readouterr().err


def test_non_finite_loss_stops_the_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(IUVCriterion, "__call__", lambda *_: {"loss_U": torch.tensor(float("nan"))})
    assert run(tmp_path, "--num_epochs", "1") == 1
    err = capfd.readouterr().err
    assert not list((folder(tmp_path) / "checkpoints").iterdir())  # what made it is not the newest checkpoint
    assert "loss_U nan" in err and "train_0_0_" in err


def test_learning_rates():
    def factor(step, schedule="step", **kw):
        return OptimConfig(lr_schedule=schedule, lr_steps=(30, 60), **kw).factor(step, 100)

    assert [factor(s) for s in (0, 29, 30, 59, 60)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert factor(0, "cosine") == 1 and factor(100, "cosine") == pytest.approx(0.01)
    assert factor(0, warmup_steps=10) == pytest.approx(0.1) and factor(9, warmup_steps=10) == 1


def test_weight_average_forgets_the_start():
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, 0.99)
    with torch.no_grad():
        model.weight.fill_(5.0)
    for _ in range(200):
        average.update(model)
    torch.testing.assert_close(average.state["weight"], model.weight.detach(), atol=0.05, rtol=0)
