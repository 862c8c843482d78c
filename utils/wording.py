"""Values of unknown origin as short text for error messages."""

from __future__ import annotations

import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxset, _SHORT.maxdict = 2, 4, 4, 4, 4
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: Any) -> str:
    """`repr` of a value in one line of at most 400 characters, however large or deep the value is."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # an integer of more digits than Python prints, a `__repr__` that fails
        text = f"<{type(value).__name__}>"
    return shorten(text, 400)


def shorten(text: Any, limit: int = 200) -> str:
    """A text in one line of about `limit` characters at most, its middle left out where it is longer."""
    text = " ".join(str(text).split())
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]} ... {text[-limit // 4 :]}"
