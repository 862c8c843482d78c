"""A posed body as a plain mesh: OBJ (text, y up) and PLY (binary, z up).

Neither format says what is up. OBJ readers take y; of PLY readers Blender takes z, others show it as it is.
"""

from __future__ import annotations

import numpy as np

from utils.export_person import Y_UP, Y_UP_TEXT, Z_UP, Z_UP_TEXT, ExportPerson


def obj_bytes(person: ExportPerson) -> bytes:
    """Vertices in metres, y up; faces counter-clockwise from outside."""
    vertices = person.arrays["vertices"] @ Y_UP.T
    lines = [
        f"# metres; {Y_UP_TEXT}",
        f"# {person.place_note()}",
        f"# {person.source()}",
        "o person",
        *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices),
        *(f"f {a} {b} {c}" for a, b, c in person.body.faces + 1),
    ]
    return ("\n".join(lines) + "\n").encode()


def ply_bytes(person: ExportPerson) -> bytes:
    """Vertices in metres, z up, float32; faces counter-clockwise from outside; little endian."""
    vertices = np.ascontiguousarray(person.arrays["vertices"] @ Z_UP.T, dtype="<f4")
    faces = np.empty(len(person.body.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, person.body.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment metres; {Z_UP_TEXT}",
        f"comment {person.place_note()}",
        f"comment {person.source()}",
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return ("\n".join(header) + "\n").encode() + vertices.tobytes() + faces.tobytes()
