"""Checkpoints of a run: the newest whole one is found, old ones are deleted."""

from __future__ import annotations

import torch

from models.training.checkpoints import find_latest
from utils.checkpoint import save_checkpoint


def test_newest_whole_checkpoint_is_found(tmp_path, caplog):
    assert find_latest(tmp_path / "nowhere") is None and find_latest(tmp_path) is None
    for step in (5, 99, 100000000):
        save_checkpoint(tmp_path / f"{step:08d}.pt", {"model": {"w": torch.randn(1000)}, "step": step})
    (tmp_path / "best.pt").touch()
    (tmp_path / ".00000200.ab.tmp.pt").touch()
    newest = tmp_path / "100000000.pt"
    assert find_latest(tmp_path) == newest
    newest.write_bytes(newest.read_bytes()[:2000])
    assert find_latest(tmp_path) == tmp_path / "00000099.pt"
    assert "100000000.pt" in caplog.text
    raw = bytearray((tmp_path / "00000099.pt").read_bytes())
    raw[len(raw) // 2] ^= 255  # one flipped byte, length unchanged
    (tmp_path / "00000099.pt").write_bytes(raw)
    assert find_latest(tmp_path) == tmp_path / "00000005.pt"
