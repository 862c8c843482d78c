"""Mixes: lengths, probabilities, repeatable draws, and fresh augmentation for repeated people."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labelled import N, write_dp_coco, write_h36m, write_set, write_symmetry

from datasets.mixed_dataset import LABELS, LABELS_OR_FITS, MIXES, MixedDataset, parse_mix
from datasets.synthetic.dataset import Draw, SyntheticPeople
from datasets.training_data import DataConfig, build_mix
from utils.structures import collate_samples

LABELS_ONLY = Draw(labels_only=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    write_symmetry(folder)
    write_h36m(folder)
    write_dp_coco(folder)
    names = np.array([f"train2014/COCO_train2014_{i:012d}.png" for i in range(N)])
    write_set(folder, "coco_2014_train", "coco", ("part", "openpose"), imgname=names)
    return folder


class Stub:
    """A member that only has a length."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size


def test_members_are_drawn_by_their_shares():
    mix = MixedDataset([Stub(5), Stub(40_000), Stub(7)], [0.3, 0.6, 0.1])
    assert len(mix) == 40_000
    places = [mix.place(i, 0)[:2] for i in range(5000)]
    shares = np.bincount([member for member, _ in places], minlength=3) / 5000
    assert np.abs(shares - [0.3, 0.6, 0.1]).max() < 0.02
    sizes = (5, 40_000, 7)
    assert all(own == i % sizes[member] for i, (member, own) in enumerate(places))
    assert [mix.place(i, 0)[:2] for i in range(100)] == places[:100]
    assert [mix.place(i, 1)[0] for i in range(100)] != [member for member, _ in places[:100]]


def test_a_mix_of_2020(folder):
    mix = build_mix(DataConfig(train_data="h36m_dp"), folder, seed=5)
    assert [member.name for member in mix.members] == list(MIXES["h36m_dp"].members) and len(mix) == N
    sample = mix[2]
    number, own, _ = mix.place(2, 0)
    assert sample.dataset == mix.members[number].name and int(sample.index) == own
    assert torch.equal(build_mix(DataConfig(train_data="h36m_dp"), folder, seed=5)[2].image, sample.image)


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [([0.5], "2 data sets were given 1"), ([0.5, 0.6], "add up to 1"), ([1.5, -0.5], "add up to 1")],
)
def test_wrong_probabilities(probabilities, said):
    with pytest.raises(ValueError, match=said):
        MixedDataset([Stub(1), Stub(2)], probabilities)


@pytest.mark.parametrize(
    ("name", "shares", "bodies"),
    [
        ("synthetic", {"synthetic": 1}, LABELS),
        ("coco", {"coco": 1}, LABELS_OR_FITS),
        ("synthetic+coco", {"synthetic": 0.5, "coco": 0.5}, LABELS_OR_FITS),
        ("synthetic:0.7+coco:0.3", {"synthetic": 0.7, "coco": 0.3}, LABELS_OR_FITS),
        (" coco:.25 + synthetic : .75", {"coco": 0.25, "synthetic": 0.75}, LABELS_OR_FITS),
        ("mpii:0.333+coco:0.333+h36m:0.333", {"mpii": 1 / 3, "coco": 1 / 3, "h36m": 1 / 3}, LABELS_OR_FITS),
        ("h36m_dp", {"h36m": 0.5, "dp_coco": 0.5}, LABELS),
        ("synthetic+h36m_dp", {"synthetic": 0.5, "h36m": 0.25, "dp_coco": 0.25}, LABELS),
        ("h36m_dp+coco", {"h36m": 0.25, "dp_coco": 0.25, "coco": 0.5}, LABELS_OR_FITS),
    ],
)
def test_mixtures_by_name(name, shares, bodies):
    mix = parse_mix(name)
    found = mix.probabilities(dict.fromkeys(mix.members, 10))
    assert tuple(found) == mix.members == tuple(shares) and found == pytest.approx(shares)
    assert mix.bodies == bodies


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "there is no set ''"),
        ("coco+", "there is no set ''"),
        ("lsp", "there is no set 'lsp'; choose h36m_dp, h36m_coco_itw, or one or more of synthetic, h36m,"),
        ("coco+coco", "holds a data set twice"),
        ("h36m_dp+h36m", "holds a data set twice"),
        ("synthetic:0.7+coco", "to every member one"),
        ("synthetic:0.7+coco:0.2", "add up to 1"),
        ("synthetic:1.5+coco:-0.5", "above 0"),
        ("synthetic:1+coco:0", "above 0"),
        ("synthetic:nan+coco:0.5", "above 0"),
        ("synthetic:half+coco:0.5", "cannot be used"),
        ("coco:", "cannot be used"),
    ],
)
def test_names_that_are_no_mixtures(name, said):
    with pytest.raises(ValueError, match=said):
        parse_mix(name)


def test_members_that_a_user_lacks(folder, caplog):
    with pytest.raises(FileNotFoundError, match="lsp_dataset_original_train.npz"):
        build_mix(DataConfig(train_data="h36m_coco_itw"), folder)
    mix = build_mix(DataConfig(train_data="h36m_coco_itw", skip_missing=True), folder)
    assert [member.name for member in mix.members] == ["h36m", "coco"]
    assert mix.probabilities == pytest.approx([1 / 3, 2 / 3])
    assert mix.left_out == ("lsp-orig", "mpii", "lspet", "mpi-inf-3dhp")
    assert mix.description == (
        "h36m_coco_itw: 33.3% h36m (4 people), 66.7% coco (4 people); without lsp-orig, mpii, lspet, mpi-inf-3dhp"
    )
    assert "runs without mpii" in caplog.text and "mpii_train.npz is not there" in caplog.text
    assert mix.bodies == LABELS_OR_FITS and {mix[i].dataset for i in range(N)} <= {"h36m", "coco"}
    with pytest.raises(FileNotFoundError, match=r"No member of the mix 'mpii\+lspet' is there.*mpii_train.npz"):
        build_mix(DataConfig(train_data="mpii+lspet", skip_missing=True), folder)


def test_damage_is_never_skipped(folder, tmp_path):
    """A label file of a set whose images are partly gone is an error, not a set that a user lacks."""
    write_h36m(tmp_path)
    write_set(tmp_path, "mpii_train", "mpii", ("part",))
    (tmp_path / "mpii" / "images" / "S1_Walk.cam_000002.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of the 4 images of 'mpii'"):
        build_mix(DataConfig(train_data="h36m+mpii", skip_missing=True), tmp_path)


def test_rendered_people_in_a_mix(folder):
    """They collate with labelled people, follow the epoch, and never repeat within one."""
    mix = build_mix(DataConfig(train_data="synthetic+coco+dp_coco", synthetic_size=12), folder, seed=3)
    assert isinstance(mix.members[0], SyntheticPeople) and len(mix) == 12
    assert mix.description.startswith("synthetic+coco+dp_coco: 33.3% synthetic (12 people), 33.3% coco (4")
    samples = [mix.sample(i, LABELS_ONLY) for i in range(12)]
    batch = collate_samples(samples)
    assert set(batch.dataset) == {"synthetic", "coco", "dp_coco"}
    for i, sample in enumerate(samples):
        if sample.dataset == "synthetic":
            assert int(sample.index) == i and sample.has_smpl
        else:
            assert int(sample.index) == i % N and not sample.has_smpl
        assert bool(sample.has_dense) == (sample.dataset == "dp_coco")
    again = build_mix(DataConfig(train_data="synthetic+coco+dp_coco", synthetic_size=12), folder, seed=3)
    assert torch.equal(again.sample(5, LABELS_ONLY).keypoints, samples[5].keypoints)
    later = [again.sample(i, Draw(epoch=1, labels_only=True)) for i in range(3)]
    assert not any(torch.equal(a.keypoints, b.keypoints) for a, b in zip(later, samples[:3], strict=True))
