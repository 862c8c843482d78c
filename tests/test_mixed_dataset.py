"""Mixes: lengths, probabilities, repeatable draws, and fresh augmentation for repeated people."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labelled import N, write_dp_coco, write_h36m, write_symmetry

from datasets import MixedDataset
from datasets.base_dataset import BaseDataset
from datasets.mixed_dataset import MIXES, mix_of, parse_mix


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    write_symmetry(folder)
    write_h36m(folder)
    write_dp_coco(folder)
    return folder


class Stub:
    """A member that only has a length."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_members_are_drawn_as_told():
    mix = MixedDataset([Stub(5), Stub(40_000), Stub(7)], [0.3, 0.6, 0.1])
    assert len(mix) == 40_000
    places = [mix.place(i)[:2] for i in range(5000)]
    shares = np.bincount([member for member, _ in places], minlength=3) / 5000
    assert np.abs(shares - [0.3, 0.6, 0.1]).max() < 0.02
    sizes = (5, 40_000, 7)
    assert all(own == i % sizes[member] for i, (member, own) in enumerate(places))
    assert [mix.place(i)[:2] for i in range(100)] == places[:100]
    mix.set_epoch(1)
    assert [mix.place(i)[0] for i in range(100)] != [member for member, _ in places[:100]]
    assert mix.members[0].epoch == 1


def test_a_member_of_probability_0_or_1():
    for probabilities, only in (([0.0, 1.0], 1), ([1.0, 0.0], 0)):
        mix = MixedDataset([Stub(3), Stub(50)], probabilities)
        assert {mix.place(i)[0] for i in range(50)} == {only}


def test_a_mix_of_2020(folder):
    mix = mix_of("h36m_dp", folder, seed=5)
    assert [member.name for member in mix.members] == list(MIXES["h36m_dp"].members) and len(mix) == N
    sample = mix[2]
    number, own, _ = mix.place(2)
    assert sample.dataset == mix.members[number].name and int(sample.index) == own
    assert torch.equal(mix_of("h36m_dp", folder, seed=5)[2].image, sample.image)


def test_repeated_people_are_augmented_anew(folder):
    short, long = BaseDataset("h36m", folder), Stub(200)
    mix = MixedDataset([short, long], [1.0, 0.0])
    first, again = mix[1], mix[1 + N]
    assert int(first.index) == int(again.index) == 1 and not torch.equal(first.image, again.image)


def test_the_wild_sets_share_by_their_size():
    mix = parse_mix("h36m_coco_itw")
    assert mix.members == ("h36m", "lsp-orig", "mpii", "lspet", "coco", "mpi-inf-3dhp")
    shares = mix.probabilities(dict(zip(mix.members, [100, 10, 20, 30, 40, 70], strict=True)))
    assert tuple(shares) == mix.members
    assert np.allclose(list(shares.values()), [0.3, 0.06, 0.12, 0.18, 0.24, 0.1])


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [([0.5], "2 data sets were given 1"), ([0.5, 0.6], "add up to 1"), ([1.5, -0.5], "add up to 1")],
)
def test_wrong_probabilities(probabilities, said):
    with pytest.raises(ValueError, match=said):
        MixedDataset([Stub(1), Stub(2)], probabilities)


def test_other_refusals(folder):
    with pytest.raises(ValueError, match="no training data '3dpw'; choose h36m_dp, h36m_coco_itw"):
        mix_of("3dpw", folder)
    with pytest.raises(FileNotFoundError, match="lsp_dataset_original_train.npz"):
        mix_of("h36m_coco_itw", folder)
    with pytest.raises(IndexError, match="holds 0..2"):
        MixedDataset([Stub(3)], [1.0])[3]
