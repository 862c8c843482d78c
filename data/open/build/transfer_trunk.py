"""Teach `danet_s` with MoveNet Thunder's features what weights with another trunk have learned.

    python -m data.open.build.transfer_trunk OLD.safetensors NEW.safetensors --data_dir D --photos_root DIR

Everything behind the trunk starts as in the old weights. Pyramid and neck, which stand between the new trunk and the
heads, learn to give the heads the features that the old network gives them, on rendered people and photographs, without
any label. Training goes on from the result (data/open/danet_s_photos.yaml).
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
import math

import torch
from torch import Tensor, nn
from tqdm import tqdm

from datasets.augment import AugmentConfig
from datasets.loading import training_batches
from datasets.registry import PathsConfig
from datasets.sampler import StepSampler
from datasets.training_data import DataConfig, TrainingData, build_mix
from models.danet import DaNet, build_danet, network_of_weights, preset
from models.training.pretrained_backbones import start_weights
from utils.body import resolve_body
from utils.checkpoint import export_safetensors, load_checkpoint, load_danet, strip_prefixes
from utils.io import require_free

RATE = 2e-3
TRAIN_DATA = "synthetic:0.4+photos:0.6"
AUGMENT = AugmentConfig(zoom_rate=0.3, occlude_rate=0.3)


def old_network(path: str) -> DaNet:
    """The network of the old weights."""
    state = strip_prefixes(load_checkpoint(path)["model"], path)
    network = build_danet(network_of_weights({key: value.shape for key, value in state.items()}))
    load_danet(network, path)
    return network


def new_network(old: DaNet) -> DaNet:
    """Thunder as it was released; from the old network everything else that fits."""
    network = build_danet(preset("danet_s"))
    start_weights(network, "auto", "")
    target = network.state_dict()
    fits = {
        key: value
        for key, value in old.state_dict().items()
        if ".trunk." not in key and key in target and target[key].shape == value.shape
    }
    network.load_state_dict(fits, strict=False)
    return network


def feature_error(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference in units of each channel's variance."""
    variance = wanted.var(dim=(0, 2, 3), keepdim=True) + 1e-3
    return ((features - wanted).square() / variance).mean()


def learn(old: nn.Module, new: nn.Module, batches: list, steps: int) -> None:
    """Train what of the new trunk learns, rate falling along a cosine."""
    layers = [new.pyramid, new.person, new.neck]
    optimizer = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 50) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)
    )
    old.eval().requires_grad_(False)
    new.train()
    with tqdm(total=steps, unit="step") as bar:
        for batch in batches:
            image = batch.image.contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                wanted = old(image)
            loss = feature_error(new(image)[0], wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix(error=f"{loss.item():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", help="weights of danet_s with another trunk")
    parser.add_argument("new", help="file to write")
    parser.add_argument("--data_dir", default="data", help="holds dataset_extras/photos_train.npz")
    parser.add_argument("--photos_root", required=True, help="folder of the photographs")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args()
    require_free(args.new, args.overwrite)
    cfg = DataConfig(
        train_data=TRAIN_DATA, synthetic_size=4000, augment=AUGMENT, paths=PathsConfig(photos_root=args.photos_root)
    )
    mix = build_mix(cfg, args.data_dir, body=resolve_body("open").body.model_id)
    epochs = -(-args.steps // (len(mix) // args.batch_size))
    sampler = StepSampler(len(mix), args.batch_size, epochs)
    batches = training_batches(TrainingData(mix), sampler, args.num_workers)
    old = old_network(args.old)
    new = new_network(old).to(memory_format=torch.channels_last)
    limited = (batch for batch, _ in zip(batches, range(args.steps), strict=False))
    learn(old.img2iuv.iuv_est, new.img2iuv.iuv_est, limited, args.steps)
    export_safetensors(args.new, new.state_dict(), {"source": f"features of {args.old} taught to Thunder's"})


if __name__ == "__main__":
    run_script(main)
