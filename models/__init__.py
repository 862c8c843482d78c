"""Networks, the body layer, targets and losses."""

from models.danet import DaNet, DaNetConfig, build_danet
from models.smpl import SMPL

__all__ = ["SMPL", "DaNet", "DaNetConfig", "build_danet"]
