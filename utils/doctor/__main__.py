"""What is installed, which files are there, and whether the demo works: one page.

    python -m utils.doctor

Nothing is changed, fetched or executed from a file. Exit code 0: what ships works, and so does all that was added to
it; 1: something is broken, or something needed is missing.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.command_line import ALL_GOOD, NOTHING_DONE, SentenceParser
from utils.doctor.checks import (
    BROKEN,
    MISSING,
    OK,
    ROOT,
    Finding,
    optional_packages,
    packages,
    reason,
    shipped_files,
)

WIDTH, NAME_WIDTH, MARK_WIDTH = 115, 37, 8


def main(argv: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m utils.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data", help="folder of the licensed files")
    data_dir = parser.parse_args(argv).data_dir
    print(f"Project {ROOT}, data {data_dir}")
    print("ok: works   -: not there, not needed   missing: not there, needed   broken: there, unusable")
    bad = 0
    for title, check in {
        "Packages": packages,
        "Optional packages": optional_packages,
        "Shipped files": shipped_files,
        "Licensed files": lambda: licensed_files(data_dir),
        "Demo": demo_run,
    }.items():
        print(f"\n{title}")
        try:
            for finding in check():
                print(line(finding), flush=True)
                bad += finding.mark in (MISSING, BROKEN)
        except Exception as error:  # the rest of the page must come
            bad += 1
            print(line(Finding(BROKEN, title, reason(error), "repair the packages first")))
    print(f"\n{bad} {'is' if bad == 1 else 'are'} broken or missing." if bad else "\nAll is well.")
    return NOTHING_DONE if bad else ALL_GOOD


def licensed_files(data_dir: Path) -> Iterable[Finding]:
    """Findings about the licensed files and the user's own numbers."""
    from utils.doctor import files  # needs numpy and torch, which may be what is missing

    return files.licensed_files(data_dir)


def demo_run() -> Iterable[Finding]:
    """Findings of a run of the demo on one example."""
    from utils.doctor import files

    return files.demo_run()


def line(finding: Finding) -> str:
    """A finding as aligned text, wrapped, with what to do about it."""
    indent = 2 + MARK_WIDTH + NAME_WIDTH
    start = f"  {finding.mark:<{MARK_WIDTH}}{finding.name:<{NAME_WIDTH - 1}} "
    todo = f"; {finding.cure}" if finding.mark != OK and finding.cure else ""
    return textwrap.fill(
        finding.text + todo, WIDTH, initial_indent=start, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


if __name__ == "__main__":
    run_script(main)
