"""Render poses and cameras to IUV images and shaded views.

    python examples/render_iuv.py                       # some poses of the shipped motion clips
    python examples/render_iuv.py --poses fits.npz --axes camera --cam 0.9 0 0

The library calls are three lines: `resolve_body` finds the body with its atlas, `SMPL` poses it, and
`IUV_Renderer.verts2uvimg` renders it. See `render_pose` below.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
import logging
import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.utils import make_grid

from models.smpl import SMPL
from utils.body import resolve_body
from utils.command_line import SentenceParser
from utils.geometry import FOCAL_LENGTH, batch_rodrigues, cam_to_translation
from utils.io import atomic_write, load_npz, require_free, writable_folder
from utils.io.marks import SHEET, marked_image
from utils.renderer import IUV_Renderer, MeshRenderer
from utils.renderer.panel import colorize_parts, to_uint8
from utils.runtime import report_error

ROOT = Path(__file__).resolve().parents[1]
CROP = 224
KINDS = ("iuv", "parts", "front", "side")
# From y up (motion clips) to the camera's y down: half a turn about x.
WORLD_TO_CAMERA = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = SentenceParser(description="Render poses and cameras to IUV images and shaded views.")
    parser.add_argument(
        "--poses",
        type=Path,
        default=ROOT / "data" / "open" / "motions.npz",
        help="npz with axis-angle poses: rotvec [N,24,3] or pose [N,72]; betas [N,10] and cam [N,3] are "
        "optional (default: the shipped motion clips)",
    )
    parser.add_argument(
        "--axes",
        choices=("world", "camera"),
        default="world",
        help="what the root rotations turn into: world = y up, as in the motion clips; camera = y down, as "
        "the network regresses them (default: world)",
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", help="rows of the file (default: --num spread over it)"
    )
    parser.add_argument(
        "--num", type=int, default=6, help="how many poses when --frames is not given (default: 6)"
    )
    parser.add_argument(
        "--cam",
        type=float,
        nargs=3,
        metavar=("S", "TX", "TY"),
        help="weak camera for all poses (default: cam of the file, else one that shows the whole body)",
    )
    parser.add_argument(
        "--azimuth", type=float, default=0.0, help="turn the body about the vertical, degrees"
    )
    parser.add_argument("--out_size", type=int, default=CROP, help="side of the IUV images (default: 224)")
    parser.add_argument(
        "--body", choices=("auto", "smpl", "open"), default="auto", help="which body to render"
    )
    parser.add_argument("--out_dir", type=Path, default=ROOT / "output" / "render_iuv")
    parser.add_argument("--overwrite", action="store_true", help="replace images of an earlier run")
    return parser.parse_args(argv)


def read_poses(args: argparse.Namespace) -> tuple[list[int], Tensor, Tensor, Tensor | None]:
    """Chosen rows, rotations [N,24,3,3] in camera axes, betas [N,10] and cameras [N,3] or None."""
    arrays = load_npz(args.poses)
    rotvec = arrays.get("rotvec", arrays.get("pose"))
    if rotvec is None:
        raise ValueError(
            f"{args.poses} has neither 'rotvec' [N,24,3] nor 'pose' [N,72]; it has {sorted(arrays)}."
        )
    total = len(rotvec)
    frames = args.frames or np.linspace(0, total - 1, min(args.num, total)).astype(int).tolist()
    if not all(0 <= frame < total for frame in frames):
        raise ValueError(f"--frames must lie in 0..{total - 1}, the rows of {args.poses}; got {frames}.")
    rotvec = torch.from_numpy(rotvec[frames].astype(np.float32))
    rotmat = batch_rodrigues(rotvec.reshape(-1, 3)).view(-1, 24, 3, 3)
    angle = torch.tensor([[0.0, math.radians(args.azimuth), 0.0]])
    turn = WORLD_TO_CAMERA @ batch_rodrigues(angle)[0] if args.axes == "world" else batch_rodrigues(-angle)[0]
    rotmat[:, 0] = turn @ rotmat[:, 0]
    betas = arrays["betas"][frames] if "betas" in arrays else np.zeros((len(frames), 10))
    cam = arrays["cam"][frames] if "cam" in arrays else None
    cam = np.tile(args.cam, (len(frames), 1)) if args.cam else cam
    return (
        frames,
        rotmat,
        torch.as_tensor(betas).float(),
        None if cam is None else torch.as_tensor(cam).float(),
    )


def fit_camera(vertices: Tensor) -> Tensor:
    """Weak cameras [N,3] that show whole bodies, centred, filling nine tenths of the image."""
    low, high = vertices.amin(dim=1), vertices.amax(dim=1)
    scale = 1.8 / (high - low)[:, :2].amax(dim=1)
    center = (low + high)[:, :2] / 2
    return torch.cat([scale[:, None], -center], dim=1)


def render_pose(
    vertices: Tensor, cam: Tensor, iuv_renderer: IUV_Renderer, mesh_renderer: MeshRenderer
) -> dict[str, np.ndarray]:
    """Images of one body [V,3] under one weak camera [3]: IUV, part colours, shaded front and side."""
    iuv = iuv_renderer.verts2uvimg(vertices[None], cam[None])[0]
    cam_t = cam_to_translation(cam)
    white = np.ones((CROP, CROP, 3), np.float32)
    side = mesh_renderer.side_view(vertices, cam_t, FOCAL_LENGTH, CROP)
    return {
        "iuv": to_uint8(iuv.permute(1, 2, 0).numpy()),
        "parts": colorize_parts((iuv[0] * 24).round()),
        "front": to_uint8(mesh_renderer.overlay(white, vertices, cam_t, FOCAL_LENGTH)),
        "side": to_uint8(side[..., :3] * side[..., 3:] + 1 - side[..., 3:]),
    }


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return render(args)
    except (ValueError, OSError) as error:
        return report_error(logging.getLogger("render_iuv"), error)


def render(args: argparse.Namespace) -> int:
    """Write the images that were asked for; the exit code."""
    frames, rotmat, betas, cam = read_poses(args)
    names = [f"{frame:05d}_{kind}.png" for frame in frames for kind in KINDS] + ["sheet.png"]
    folder = writable_folder(args.out_dir)
    for name in names:
        require_free(folder / name, args.overwrite, SHEET)
    assets = resolve_body(args.body, need=("body", "atlas"))
    print(assets.source)
    with torch.no_grad():
        vertices = SMPL(assets.body, assets.extra, assets.surface)(rotmat, betas).vertices
    cam = fit_camera(vertices) if cam is None else cam
    iuv_renderer = IUV_Renderer(out_size=args.out_size, atlas=assets.atlas)
    mesh_renderer = MeshRenderer(assets.body.faces)
    cells = []
    for frame, body, camera in zip(frames, vertices, cam, strict=True):
        for kind, image in render_pose(body, camera, iuv_renderer, mesh_renderer).items():
            write_png(args.out_dir / f"{frame:05d}_{kind}.png", image, args.overwrite)
            cells.append(cv2.resize(image, (CROP, CROP), interpolation=cv2.INTER_NEAREST))
    sheet = make_grid(torch.from_numpy(np.stack(cells)).permute(0, 3, 1, 2), len(KINDS), pad_value=255)
    write_png(args.out_dir / "sheet.png", sheet.permute(1, 2, 0).numpy(), args.overwrite)
    print(f"{len(frames)} poses: {args.out_dir}/sheet.png and single images beside it")
    return 0


def write_png(path: Path, image: np.ndarray, replace: bool) -> None:
    data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    with atomic_write(path, replace=replace) as file:
        file.write(marked_image(data, SHEET))


if __name__ == "__main__":
    run_script(main)
