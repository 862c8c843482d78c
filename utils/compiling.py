"""Functions compiled by numba, with their machine code cached on disk where there is a place for that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

from utils.script import first_line

log = logging.getLogger(__name__)
_warned: set[str] = set()


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """A decorator like `numba.njit(**options)` whose cache never stops a run.

    Machine code is cached beside the function's file or in the user's cache, whichever can be written to;
    NUMBA_CACHE_DIR names another folder. Without one, or where a cached file is damaged, functions are compiled anew.
    """

    def compile_function(function: Callable) -> Callable:
        dispatcher = njit(**options)(function)
        try:
            dispatcher._cache = _TolerantCache(function)  # what `cache=True` does, too
        except (RuntimeError, OSError):
            _warn_once("There is no folder to keep compiled code in; NUMBA_CACHE_DIR can name one")
        return dispatcher

    return compile_function


class _TolerantCache(FunctionCache):
    """Numba's cached files of a function; a damaged or unwritable one is a warning."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged file leads to whatever its bytes say
            _warn_once(f"Compiled code in {self.cache_path} is damaged or cannot be read ({first_line(error)})")
            self._write(self.flush)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        self._write(super().save_overload, sig, data)

    def _write(self, change: Callable, *args: Any) -> None:
        try:
            change(*args)
        except Exception as error:
            _warn_once(f"Compiled code cannot be kept in {self.cache_path} ({first_line(error)})")


def _warn_once(what: str) -> None:
    if what not in _warned:
        _warned.add(what)
        log.warning("%s. Compiling takes some seconds, each time.", what)
