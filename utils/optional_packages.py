"""Packages that single features need: asked for before the work begins, in one sentence with the pip command."""

from __future__ import annotations

import importlib.util


def require_packages(feature: str, extra: str, *packages: str) -> None:
    """Raise ImportError unless all of `packages` are installed.

    Args:
        feature: what needs them; the sentence begins with it.
        extra: they are in `requirements-<extra>.txt`.
        packages: import names.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"{feature} needs {', '.join(missing)}: pip install -r requirements-{extra}.txt")
