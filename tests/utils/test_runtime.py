"""Start-up: device, seed, logging, run folder."""

from __future__ import annotations

import logging

import pytest
import torch

from utils.runtime import choose_device, keep_for_log_file, make_run_folder, setup_logging, shared_threads


@pytest.mark.parametrize("name", ["gpu", "meta", "xla", ""])
def test_devices_that_cannot_run_a_network_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is not known; give auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


def test_device_numbers_end(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    for name, highest in (("cuda:2", "cuda:1"), ("cpu:3", "cpu:0")):
        with pytest.raises(ValueError, match=f"{name} is not there; the highest is {highest}"):
            choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_absent_cuda_is_a_sentence():
    with pytest.raises(ValueError, match="No CUDA device is there for --device cuda"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b"])
def test_bad_run_names(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a run folder"):
        make_run_folder(tmp_path, name)


def test_threads_are_shared_for_a_while():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with pytest.raises(ValueError, match="ends early"), shared_threads(2):
            assert torch.get_num_threads() == 2
            raise ValueError("ends early")
        assert torch.get_num_threads() == 4
        with shared_threads(8):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_log_file_has_what_was_said_before_its_name_was_known(tmp_path):
    log = logging.getLogger("early")
    setup_logging()
    keep_for_log_file()
    log.warning("first")
    setup_logging(tmp_path / "run.log")
    log.warning("second")
    setup_logging()
    log.warning("third")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split()[1:] for line in lines] == [["WARNING", "first"], ["WARNING", "second"]]
