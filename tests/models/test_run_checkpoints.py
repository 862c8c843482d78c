"""Checkpoints of a run: the newest whole one is found, old ones are deleted."""

from __future__ import annotations

import pytest
import torch

from models.training.checkpoints import find_latest, prune_checkpoints
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


def test_old_checkpoints_are_pruned(tmp_path):
    for step in range(5):
        save_checkpoint(tmp_path / f"{step:08d}.pt", {"model": {}})
    (tmp_path / "best.pt").touch()
    gone = prune_checkpoints(tmp_path, keep=2)
    assert [p.name for p in gone] == ["00000000.pt", "00000001.pt", "00000002.pt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000003.pt", "00000004.pt", "best.pt"]
    with pytest.raises(ValueError, match="keep=0"):
        prune_checkpoints(tmp_path, keep=0)
