"""Networks, the body layer, targets and losses; `load_predictor` makes a loaded network of settings."""

from models.danet import DaNet, DaNetConfig, build_danet
from models.inference.person import ImageResult, Person
from models.inference.predictor import InferenceConfig, Predictor, load_predictor
from models.smpl import SMPL

__all__ = [
    "SMPL", "DaNet", "DaNetConfig", "ImageResult", "InferenceConfig", "Person", "Predictor", "build_danet",
    "load_predictor",
]  # fmt: skip
