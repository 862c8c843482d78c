"""config.json of a 2020 run as settings: what is carried over, what is named without effect."""

from __future__ import annotations

import json
import math

import pytest

from demo import DemoConfig
from train import TrainConfig
from utils.config import parse_config

OPTIONS = {
    "name": "t", "time_to_run": math.inf, "resume": False, "num_workers": 0, "pin_memory": False,
    "log_dir": "logs/t/log_TS", "checkpoint": None, "from_json": None, "pretrained_checkpoint": None, "num_epochs": 1,
    "danet_cfg_file": "./configs/danet_default.yaml", "train_data": "h36m_dp", "batch_size": 2, "summary_steps": 1,
    "test_steps": 1000, "checkpoint_steps": 2, "img_res": 224, "rot_factor": 30, "noise_factor": 0.4,
    "scale_factor": 0.25, "ignore_3d": False, "shape_loss_weight": 0, "keypoint_loss_weight": 5.0,
    "pose_loss_weight": 1.0, "beta_loss_weight": 0.001, "openpose_train_weight": 0.0, "gt_train_weight": 1.0,
    "vis_interval": 2, "pretr_step": 1, "timestamp": "TS", "eval_pve": False, "shuffle_train": True, "misc": None,
    "summary_dir": "logs/t/log_TS/tb_summary", "checkpoint_dir": "logs/t/log_TS/checkpoints",
}  # fmt: skip


def write(tmp_path, **changes) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(OPTIONS | changes))  # infinity as "Infinity", as the 2020 trainer wrote it
    return str(path)


def test_options_are_carried_over_and_flags_win(tmp_path, caplog):
    cfg = parse_config(TrainConfig, ["--from_json", write(tmp_path), "--num_epochs", "3"])
    assert cfg.name == "t" and cfg.batch_size == 2 and cfg.num_epochs == 3 and cfg.pretr_step == 1
    assert cfg.data.train_data == "h36m_dp" and cfg.data.pin_memory is False and cfg.data.num_workers == 0
    assert cfg.data.augment.scale_factor == 0.25 and cfg.watch.vis_interval == 2
    assert cfg.time_to_run == math.inf and cfg.timestamp == "" and cfg.log_dir == "logs"
    assert "pose_loss_weight" in caplog.text and "never used" in caplog.text and "log_dir" in caplog.text


def test_another_script_takes_what_it_has(tmp_path):
    assert parse_config(DemoConfig, ["--from_json", write(tmp_path, batch_size=5)]).batch_size == 5


def test_unknown_options_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse_config(TrainConfig, ["--from_json", write(tmp_path, learning_speed=3)])
    assert "learning_speed" in capsys.readouterr().err
