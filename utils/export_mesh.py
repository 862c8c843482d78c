"""A posed body as a plain mesh: OBJ (text, y up) and PLY (binary, z up).

Neither format says what is up. OBJ readers take y; of PLY readers Blender takes z, others show it as it is.
"""

from __future__ import annotations

import numpy as np

from utils.export_motion import Y_UP, Y_UP_TEXT, Z_UP, Z_UP_TEXT, ExportMotion
from utils.file_marks import DEMO


def obj_bytes(still: ExportMotion) -> bytes:
    """Vertices in metres, y up; faces counter-clockwise from outside."""
    vertices = still.vertices[0] @ Y_UP.T
    lines = [
        f"# {DEMO}; metres; {Y_UP_TEXT}",
        f"# {still.place_note()}",
        f"# {still.source()}",
        "o person",
        *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices),
        *(f"f {a} {b} {c}" for a, b, c in still.body.faces + 1),
    ]
    return ("\n".join(lines) + "\n").encode()


def ply_bytes(still: ExportMotion) -> bytes:
    """Vertices in metres, z up, float32; faces counter-clockwise from outside; little endian."""
    vertices = np.ascontiguousarray(still.vertices[0] @ Z_UP.T, dtype="<f4")
    faces = np.empty(len(still.body.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, still.body.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {DEMO}; metres; {Z_UP_TEXT}",
        f"comment {still.place_note()}",
        f"comment {still.source()}",
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return ("\n".join(header) + "\n").encode() + vertices.tobytes() + faces.tobytes()
