"""Functions compiled by numba, and kept on disk where there is a place for that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

from utils.script import first_line

log = logging.getLogger(__name__)
_told: set[str] = set()


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """A decorator like `numba.njit` with these options, for functions of a file.

    Their machine code is kept beside the file or in the user's cache, whichever can be written to; NUMBA_CACHE_DIR
    names another folder. Where there is none, or what lies there is damaged, they are compiled anew.
    """

    def compile_function(function: Callable) -> Callable:
        dispatcher = njit(**options)(function)
        try:
            dispatcher._cache = _Kept(function)  # what `cache=True` does, too
        except (RuntimeError, OSError):
            _tell_once("There is no folder to keep compiled code in; NUMBA_CACHE_DIR can name one")
        return dispatcher

    return compile_function


class _Kept(FunctionCache):
    """Numba's files of a function; none of what can be wrong with them stops a run."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged file leads to whatever its bytes say
            _tell_once(f"Compiled code in {self.cache_path} is damaged or cannot be read ({first_line(error)})")
            self._begin_anew()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _tell_once(f"Compiled code cannot be kept in {self.cache_path} ({first_line(error)})")

    def _begin_anew(self) -> None:
        try:
            self.flush()
        except OSError as error:
            _tell_once(f"Compiled code cannot be kept in {self.cache_path} ({first_line(error)})")


def _tell_once(what: str) -> None:
    if what not in _told:
        _told.add(what)
        log.warning("%s. Compiling takes some seconds, each time.", what)
