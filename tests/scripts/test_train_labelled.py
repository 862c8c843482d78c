"""Training on labelled sets and mixes: what a sample depends on, what runs, and what ends a run in one sentence."""

from __future__ import annotations

import errno
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import standin
import torch
from forked_runs import flags
from labelled import (
    base_arrays,
    write_dp_coco,
    write_h36m,
    write_labels,
    write_photographs,
    write_set,
    write_symmetry,
)
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

import train as script
from datasets.loading import WorkerError, training_batches
from datasets.sampler import Place, StepSampler
from datasets.synthetic.dataset import Draw, SyntheticPeople
from datasets.training_data import DataConfig, TrainingData, build_mix
from models.losses import IUVCriterion
from models.training.best_weights import keep_if_best
from utils.checkpoint import load_checkpoint
from utils.io import load_torch


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Stand-in body files and two labelled sets of four people."""
    folder = tmp_path_factory.mktemp("data")
    standin.write_all(folder, genders=("NEUTRAL",))
    write_symmetry(folder)
    write_h36m(folder)
    write_dp_coco(folder)
    write_set(folder, "coco_2014_train", "coco", ("part",))
    return folder


def run(data_dir, log_dir, *switches, **settings):
    settings = {"data_dir": data_dir, "log_dir": log_dir, "num_epochs": 1, "pretr_step": 1} | settings
    return script.main(flags(*switches, **settings))


def folder_of(log_dir):
    (found,) = (log_dir / "t").glob("log_*")
    return found


def facts(log_dir):
    return json.loads((folder_of(log_dir) / "data.json").read_text())


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True)) and a.name == b.name


def tensors(sample):
    found = []
    sample.map(lambda t: (found.append(t), t)[1])
    return found


# -------------------------------------------------------------------------------------------- what is trained on


@pytest.mark.parametrize("mix", ["h36m_dp", "synthetic+coco"])
def test_a_mix_trains_in_both_stages(data_dir, tmp_path, mix):
    assert run(data_dir, tmp_path, train_data=mix, num_epochs=2, pretr_step=2, num_workers=1) == 0
    saved = load_checkpoint(folder_of(tmp_path) / "checkpoints" / "00000004.pt")
    assert saved["total_step_count"] == 4 and saved["epoch_size"] == 4
    assert list(facts(tmp_path)["members"]) == (
        ["h36m", "dp_coco"] if mix == "h36m_dp" else ["synthetic", "coco"]
    )
    said = (folder_of(tmp_path) / "train.log").read_text()
    assert ("body: SMPL" in said) == (mix == "h36m_dp")  # rendered people show the open body


def test_held_out_photographs_choose_the_best_weights(tmp_path, capfd):
    """Photographs train beside rendered people; the best weights so far carry their scores, across a break."""
    names = ("a.png", "b.png", "c.png", "d.png")
    write_photographs(tmp_path / "photos", names)
    part = np.ones((4, 24, 3)) * 100
    part[:, :2, :2] = [[40, 60], [60, 140]]
    arrays = {k: base_arrays()[k] for k in ("S", "pose", "shape")} | {
        "imgname": np.array([f"train/{name}" for name in names]), "maskname": np.array([f"masks/{n}" for n in names]),
        "center": np.full((4, 2), 100.0), "scale": np.ones(4), "part": part, "body_model": "danet-open-1",
    }  # fmt: skip
    write_labels(tmp_path, "photos_train", **{k: v[:3] if np.ndim(v) else v for k, v in arrays.items()})
    (tmp_path / "held_out.txt").write_text("d.png\n")
    given = {
        "train_data": "synthetic:0.4+photos:0.6", "photos_root": tmp_path / "photos", "test_steps": 2, "test_size": 2,
        "photos_held_out": tmp_path / "held_out.txt",
    }  # fmt: skip
    assert run(tmp_path, tmp_path, **given) == 0
    best = folder_of(tmp_path) / "best_danet.safetensors"
    scores = json.loads(best.with_suffix(".json").read_text())["scores"]
    assert {"photo_iou_map", "photo_iou_body", "photo_pck_body", "photo_pck_centres", "pa_mpjpe"} <= scores.keys()
    said = capfd.readouterr().err
    assert "Labels of pose" not in said and "best on the held-out photographs" in said
    before = best.read_bytes()
    assert not keep_if_best(best.parent, None, SimpleNamespace(model="danet"), "", scores)  # no better
    assert run(tmp_path, tmp_path, "--resume", **given, num_epochs=2) == 0
    changed = best.read_bytes() != before
    assert changed == ("best on the held-out" in capfd.readouterr().err)
    (tmp_path / "held_out.txt").write_text("other.png\n")
    assert script.open_held_out(script.parse_config(script.TrainConfig, flags(**given))) is None
    assert "No held-out photographs choose the best weights" in capfd.readouterr().err


def test_samples_depend_on_seed_epoch_and_index_only(data_dir):
    cfg = DataConfig(train_data="h36m+dp_coco+synthetic", synthetic_size=4)
    a, b, other = (TrainingData(build_mix(cfg, data_dir, seed)) for seed in (3, 3, 4))
    first = a[Place(2, 1)]
    b[Place(0, 3)], b[Place(1, 0)]
    np.random.seed(7), torch.manual_seed(7)
    assert same(first, b[Place(2, 1)])
    assert not same(first, a[Place(3, 1)])
    assert not same(first, other[Place(2, 1)])


def test_workers_do_not_change_the_data(data_dir):
    data = TrainingData(build_mix(DataConfig(train_data="h36m_dp"), data_dir, seed=1))

    def batches(workers):
        return list(training_batches(data, StepSampler(len(data), 2, 2, seed=1), workers))

    for alone, by_workers in zip(batches(0), batches(2), strict=True):
        assert same(alone, by_workers)


def test_images_of_a_rendered_epoch_are_not_painted():
    mix = build_mix(DataConfig("synthetic", synthetic_size=2), "unused")
    data = TrainingData(mix, easy_epochs=3, rendered=range(1, 2))
    (people,) = mix.members
    assert data[Place(0, 0)].image.std() > 0.1
    assert torch.equal(data[Place(0, 0)].image, people.sample(0, Draw(difficulty=0.25)).image)
    assert data[Place(1, 0)].image.std(dim=(1, 2)).max() == 0
    assert data[Place(2, 0)].image.std() > 0.1


# ------------------------------------------------------------------------------------------------- missing things


def test_a_missing_set_is_an_error_unless_it_may_be_skipped(data_dir, tmp_path, capfd):
    mix = "h36m+lspet"
    assert run(data_dir, tmp_path, train_data=mix) == 1
    assert "hr-lspet_train.npz" in capfd.readouterr().err
    assert not (tmp_path / "t").exists()
    assert run(data_dir, tmp_path, "--skip_missing", train_data=mix) == 0
    assert facts(tmp_path)["left_out"] == ["lspet"]
    assert facts(tmp_path)["members"] == {"h36m": {"people": 4, "probability": 1.0}}
    said = capfd.readouterr().err
    assert "without lspet" in said and "100.0% h36m (4 people)" in said
    assert run(data_dir, tmp_path / "none", "--skip_missing", train_data="lspet+mpii") == 1


def test_missing_pretrained_weights_are_an_error_only_when_asked_for(data_dir, tmp_path, capfd):
    hrnet = {"backbone": "hrnet", "backbone_width": 8, "hrnet_stem": 8, "hrnet_blocks": 1, "hrnet_modules": "1 1 1"}
    assert run(data_dir, tmp_path, train_data="h36m", pretr_set="coco", **hrnet) == 1
    assert "pose_hrnet_w48_256x192.pth is missing" in capfd.readouterr().err
    assert run(data_dir, tmp_path, train_data="h36m", pretr_set="auto") == 0
    assert "starts from fresh weights" in capfd.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_gone_or_damaged_ends_the_run_in_one_sentence(data_dir, tmp_path, capfd, workers):
    own = tmp_path / "data"
    own.mkdir()
    for path in data_dir.iterdir():
        if path.name != "h36m":
            (own / path.name).symlink_to(path)
    images = [own / "h36m" / str(name) for name in base_arrays()["imgname"]]
    images[0].parent.mkdir(parents=True)
    for image in images:
        image.write_bytes(b"no image")
    assert run(own, tmp_path, train_data="h36m", num_workers=workers) == 1
    said = capfd.readouterr().err
    assert "images/S1_Walk.cam_00000" in said and "Traceback" not in said
    images[2].unlink()
    assert run(own, tmp_path / "again", train_data="h36m") == 1
    assert "1 of the 4" in capfd.readouterr().err


class Deadly(Dataset):
    """Its third sample ends the process."""

    def __len__(self):
        return 4

    def __getitem__(self, place):
        if place.index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return SyntheticPeople(4)[place.index]


def test_a_worker_that_dies_is_a_sentence(monkeypatch):
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))  # looks every 5 s
    batches = training_batches(Deadly(), StepSampler(4, 1, 1, shuffle=False), 1)
    with pytest.raises(WorkerError, match="A data worker ended before its time .*--resume continues"):
        list(batches)


# ------------------------------------------------------------------------------------------------------- guards


def test_a_full_disk_is_a_sentence_and_leaves_earlier_checkpoints(data_dir, tmp_path, monkeypatch, capfd):
    save = torch.save

    def full_after_one(content, path):
        if list(folder_of(tmp_path).glob("checkpoints/0*.pt")):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, path)

    monkeypatch.setattr(torch, "save", full_after_one)
    assert run(data_dir, tmp_path, checkpoint_steps=1) == 1
    said = capfd.readouterr().err
    assert "00000002.pt' cannot be written: the disk is full" in said
    assert [path.name for path in (folder_of(tmp_path) / "checkpoints").iterdir()] == ["00000001.pt"]


def test_a_batch_without_finite_loss_is_kept(data_dir, tmp_path, monkeypatch, capfd):
    bad = {"loss_U": torch.tensor(1.0), "loss_V": torch.tensor(float("inf"))}
    monkeypatch.setattr(IUVCriterion, "__call__", lambda *_: bad)
    assert run(data_dir, tmp_path, train_data="h36m", batch_size=2) == 1
    said = capfd.readouterr().err
    assert "not finite at step 0 (loss_V inf)" in said and "images/S1_Walk" in said
    dump = load_torch(folder_of(tmp_path) / "not_finite_00000000_0.pt")
    assert dump["step"] == 0 and dump["losses"]["loss_V"] == float("inf")
    assert dump["batch"]["image"].shape == (2, 3, 224, 224) and len(dump["batch"]["name"]) == 2
    assert dump["batch"]["dense"]["xy"].shape == (2, 196, 2)
