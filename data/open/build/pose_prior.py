"""`pose_prior.npz`: mean, precision and limits of the poses of rendered people, which refinement leans on.

    python -m data.open.build.pose_prior --out_dir output/open

The poses are those of `datasets/synthetic/pose.py`: motion clips, mixtures of them, and everyday postures by rule.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
from pathlib import Path

import numpy as np

from datasets.synthetic.pose import LIMIT_HIGH, LIMIT_LOW, draw_pose, load_motions
from utils.body import load_open_body
from utils.io import save_npz_atomic

POSES, SEED = 6000, 0
LEAST_VARIANCE = 0.02  # squared radians, added to each direction: what no drawn pose does is not impossible


def make_prior() -> dict[str, np.ndarray]:
    """Arrays of the file; rotation vectors of the 23 joints below the root, radians."""
    body, motions, rng = load_open_body(), load_motions(), np.random.default_rng(SEED)
    joints = body.J_regressor @ body.v_template
    poses = np.stack([draw_pose(rng, motions, joints)[1:].reshape(-1) for _ in range(POSES)])
    covariance = np.cov(poses.T) + LEAST_VARIANCE * np.eye(poses.shape[1])
    arrays = {
        "mean": poses.mean(axis=0),
        "precision": np.linalg.inv(covariance),
        "low": LIMIT_LOW[1:].reshape(-1),
        "high": LIMIT_HIGH[1:].reshape(-1),
    }
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out_dir", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    save_npz_atomic(args.out_dir / "pose_prior.npz", "", args.overwrite, **make_prior())


if __name__ == "__main__":
    run_script(main)
