"""Rendering of bodies: rasterisation, IUV images, shaded meshes, overlays on images, and panels of results."""

from utils.renderer.iuv import IUV_Renderer
from utils.renderer.mesh import LIGHT_BLUE, MeshRenderer, turn_sideways
from utils.renderer.shading import vertex_normals
from utils.renderer.tiles import TILE

__all__ = ["LIGHT_BLUE", "TILE", "IUV_Renderer", "MeshRenderer", "turn_sideways", "vertex_normals"]
