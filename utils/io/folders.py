"""The project's own folders."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA_DIR = ROOT / "data"  # licensed files of the user
OPEN_DIR = DATA_DIR / "open"  # files that the project ships
