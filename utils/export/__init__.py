"""People as files: the demo's npz, and the formats of other programs (`demo.py --export`)."""

from __future__ import annotations

from utils.export.formats import (
    EXPORTS,
    check_formats,
    endings,
    format_of,
    require_export_packages,
    write_export,
    write_exports,
)
from utils.export.motion import ExportMotion, still_motion
from utils.export.person import (
    AXES,
    DENSEPOSE_SUFFIX,
    PANEL_SUFFIX,
    PEOPLE_SUFFIX,
    SCHEMA,
    pack_iuv,
    people_arrays,
    save_person,
    seen_iuv,
)

__all__ = [
    "EXPORTS", "check_formats", "endings", "format_of", "require_export_packages", "write_export", "write_exports",
    "ExportMotion", "still_motion", "AXES", "DENSEPOSE_SUFFIX", "PANEL_SUFFIX", "PEOPLE_SUFFIX", "SCHEMA", "pack_iuv",
    "people_arrays", "save_person", "seen_iuv",
]  # fmt: skip
