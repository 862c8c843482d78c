"""Start-up: device, seed, logging, run folder."""

from __future__ import annotations

import logging

import pytest
import torch

from utils.runtime import (
    choose_device,
    keep_for_log_file,
    make_run_folder,
    report_error,
    setup_logging,
    shared_threads,
)


@pytest.mark.parametrize("name", ["gpu", "meta", "xla", ""])
def test_devices_that_cannot_run_a_network_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is not known; give auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


def test_mps_is_taken_where_it_is(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="No MPS device is there for --device mps"):
        choose_device("mps")


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


def test_a_refusal_says_why_and_names_the_doctor(caplog):
    assert report_error(logging.getLogger("a script"), ValueError("There are 7% of no pictures.")) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "There are 7% of no pictures.",
        "`python -m utils.doctor`, in the project's folder, checks installation and data files.",
    ]


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


def test_runs_of_one_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda _: "Nov21-14-05-09")
    names = [make_run_folder(tmp_path, "t").name for _ in range(3)]
    assert names == ["log_Nov21-14-05-09", "log_Nov21-14-05-09-2", "log_Nov21-14-05-09-3"]


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
