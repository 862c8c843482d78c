"""Rendering of bodies: rasterisation, IUV images, shaded meshes, overlays on images, and panels of results."""

from utils.renderer.mesh import LIGHT_BLUE, TILE, IUV_Renderer, MeshRenderer, turn_sideways, vertex_normals

__all__ = ["LIGHT_BLUE", "TILE", "IUV_Renderer", "MeshRenderer", "turn_sideways", "vertex_normals"]
