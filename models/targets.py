"""Batch -> Targets: body labels, fitted camera, rendered IUV; no gradient (docs/method.md 7)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from models.smpl import SMPL
from utils.body import BodyAssets
from utils.geometry import (
    CROP_SIZE,
    batch_rodrigues,
    estimate_translation,
    has_determined_camera,
    project_to_crop,
    translation_to_cam,
)
from utils.iuvmap import agree_with_mask, iuv_img2map
from utils.renderer import IUV_Renderer
from utils.skeleton import NUM_OPENPOSE
from utils.structures import Batch, BodyFits, Targets

MAX_BETA = 3.0  # a fit with a larger shape coefficient keeps its pose and gets the mean shape


class TargetBuilder:
    """Makes what the losses compare with, on the batch's device.

    fits: looks up the bodies of people without body labels (`datasets.fits.Fits`); without it, there are none.
    """

    def __init__(
        self, smpl: SMPL, iuv_renderer: IUV_Renderer, fits: Callable[[Batch], BodyFits] | None = None
    ):
        self.smpl = smpl
        self.iuv_renderer = iuv_renderer
        self.fits = fits

    @classmethod
    def of_body(
        cls,
        assets: BodyAssets,
        device: torch.device | str = "cpu",
        fits: Callable[[Batch], BodyFits] | None = None,
    ) -> TargetBuilder:
        """Targets that show the body of `assets`."""
        smpl = SMPL(assets.body, assets.extra).to(device)
        return cls(smpl, IUV_Renderer(atlas=assets.atlas), fits)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Targets:
        """Targets of a collated batch.

        The camera is the weighted least-squares one of the 24 annotated keypoints; a sample with fewer than two
        of them gets no rendered maps and no centres, because its camera is unknown.
        """
        known = self._bodies(batch)
        rotmat = batch_rodrigues(known.rotvec.view(-1, 3)).view(-1, 24, 3, 3)
        body = self.smpl(rotmat, known.betas)
        pixels = torch.cat(
            [(batch.keypoints[..., :2] + 1) * (CROP_SIZE / 2), batch.keypoints[..., 2:]], dim=-1
        )
        cam = translation_to_cam(estimate_translation(body.joints, pixels))

        has_iuv = known.valid & has_determined_camera(batch.keypoints[:, NUM_OPENPOSE:, 2])
        if batch.dense_only is not None:
            has_iuv = has_iuv & ~batch.dense_only

        image = self.iuv_renderer.verts2uvimg(body.vertices, cam)
        if batch.mask is not None:
            image = agree_with_mask(image, batch.mask)
        return Targets(
            iuv=iuv_img2map(image),
            rotmat=rotmat,
            betas=known.betas,
            vertices=body.vertices,
            smpl_joints=body.smpl_joints,
            cam=cam,
            centers=self._centers(batch, project_to_crop(body.smpl_joints, cam), has_iuv),
            keypoints=batch.keypoints,
            joints_3d=batch.joints_3d,
            dense=batch.dense,
            has_iuv=has_iuv,
            has_dense=batch.has_dense,
            has_body=known.valid,
            has_joints_3d=batch.has_joints_3d,
        )

    def _bodies(self, batch: Batch) -> BodyFits:
        """Labels where there are any, else fits; valid where either is to be trusted."""
        labelled = batch.has_smpl[:, None]
        if self.fits is None:
            fit = BodyFits(batch.rotvec, batch.betas, torch.zeros_like(batch.has_smpl))
        else:
            fit = self.fits(batch)
        betas = fit.betas.masked_fill((fit.betas.abs() > MAX_BETA).any(dim=1, keepdim=True), 0.0)
        return BodyFits(
            rotvec=torch.where(labelled, batch.rotvec, fit.rotvec),
            betas=torch.where(labelled, batch.betas, betas),
            valid=batch.has_smpl | fit.valid,
        )

    @staticmethod
    def _centers(batch: Batch, projected: torch.Tensor, has_iuv: torch.Tensor) -> torch.Tensor:
        weight = has_iuv.to(projected.dtype)[:, None, None].expand(-1, 24, 1)
        centers = torch.cat([projected, weight], dim=-1)
        return torch.where(batch.has_dense[:, None, None], batch.smpl_keypoints, centers)
