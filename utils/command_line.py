"""Command lines that say what is wrong in one sentence; every script's parser is one of these.

Exit codes are the same everywhere: 0 all good; 1 nothing was done, a wrong setting included; 2 done, but some input
was skipped or failed a check.
"""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

ALL_GOOD, NOTHING_DONE, SOME_SKIPPED = 0, 1, 2  # exit codes
DOCTOR = "`python -m utils.doctor`, in the project's folder, checks installation and data files."


class SentenceParser(argparse.ArgumentParser):
    """A parser without abbreviations that ends the program with exit code 1 and a sentence, not with its usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(NOTHING_DONE, f"{self.prog}: {message}\nSee --help for all settings; {DOCTOR}\n")


class StoreOnce(argparse.Action):
    """Store a flag's values, or `constant`; the same flag twice is an error, not a silent last-one-wins."""

    def __init__(self, *args: Any, constant: Any = None, **kwargs: Any) -> None:
        self.constant = constant
        super().__init__(*args, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        if hasattr(namespace, self.dest):
            parser.error(f"The setting '{self.dest}' is given twice on the command line; give it once.")
        setattr(namespace, self.dest, values if self.constant is None else self.constant)
