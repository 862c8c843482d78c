"""What is installed, which files are there, what works, and what can be run: one page.

    python -m utils.doctor

Nothing is changed, fetched or executed from a file. Exit code 0: what ships works, and so does all that was added to
it; 1: something is broken, or something needed is missing.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from utils.command_line import ALL_GOOD, NOTHING_DONE, SentenceParser
from utils.doctor_checks import (
    ABSENT,
    NO_PICTURES,
    OK,
    ROOT,
    Finding,
    devices,
    optional_packages,
    packages,
    rasterizers,
    renderers,
    section,
)

WIDTH, NAME_WIDTH, MARK_WIDTH = 115, 37, 8
# What runs on the official body read, by the names of `utils.assets.LICENSED_FILES`.
DEMO_NEED = ("smpl/SMPL_NEUTRAL.pkl", "UV_data/UV_Processed.mat", "J_regressor_extra.npy")
EVAL_NEED = ("smpl/SMPL_NEUTRAL.pkl", "J_regressor_extra.npy", "J_regressor_h36m.npy")
GENDERS = ("smpl/SMPL_MALE.pkl", "smpl/SMPL_FEMALE.pkl")
# Test sets by their label files: name, and the script that scores it.
TEST_SETS = {
    "h36m_valid_protocol1": "h36m-p1",
    "h36m_valid_protocol2": "h36m-p2",
    "3dpw_test": "3dpw",
    "mpi_inf_3dhp_valid": "mpi-inf-3dhp",
    "lsp_dataset_test": "lsp",
    "coco_2014_val": "coco (eval_coco.py)",
}
Found = dict[str, list[Finding]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m utils.doctor", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data_dir", type=Path, default=ROOT / "data", help="folder of the data sets and licensed files"
    )
    data_dir = parser.parse_args(argv).data_dir
    print(f"Project {ROOT}, data {data_dir}")
    print(
        "ok: works   -: not there and not needed   missing: not there and needed   broken: there and unusable"
    )
    found: Found = {}
    for title, findings in sections(data_dir).items():
        print(f"\n{title}")
        found[title] = []
        for finding in section(title, findings):
            found[title].append(finding)
            print(lines(finding), flush=True)
    bad = [finding for group in found.values() for finding in group if finding.is_bad]
    print("\nWhat can be run")
    for what, verdict in verdicts(found).items():
        print(row("", what, verdict))
    if not bad:
        print("\nAll is well.")
        return ALL_GOOD
    print(f"\n{len(bad)} {'is' if len(bad) == 1 else 'are'} broken or missing. What to do:")
    for cure in dict.fromkeys(finding.cure for finding in bad):
        names = ", ".join(finding.name for finding in bad if finding.cure == cure)
        print(textwrap.fill(f"{names}: {cure}", WIDTH, initial_indent="  ", subsequent_indent="    "))
    return NOTHING_DONE


def sections(data_dir: Path) -> dict[str, Callable[[], Iterable[Finding]]]:
    """What is looked at, by title, in the order of the page."""

    def files(look: str, *arguments: Path) -> Callable[[], Iterable[Finding]]:
        def looked() -> Iterable[Finding]:
            from utils import doctor_files  # it needs every package, so not before it is asked for

            return getattr(doctor_files, look)(*arguments)

        return looked

    def tests() -> Iterable[Finding]:
        from utils.doctor_self_test import self_test

        return self_test()

    return {
        "Packages": packages,
        "Optional packages": optional_packages,
        "Devices": devices,
        "Rasterisers": rasterizers,
        "Renderers": renderers,
        "Shipped files": files("shipped_files"),
        "Licensed files": files("licensed_files", data_dir),
        "Weights": files("weights_files", data_dir),
        "Labels and fits": files("label_files", data_dir),
        "Self-test": tests,
    }


def verdicts(found: Found) -> dict[str, str]:
    """What can be run now, and what stands in the way of the rest."""
    ours = ("Packages", "Devices", "Rasterisers", "Renderers", "Shipped files", "Self-test")
    broken = [f.name for title in ours for f in found[title] if f.is_bad and f.name != title]
    if broken:
        return {"demo, training, evaluation": f"not before this is repaired: {', '.join(broken)}"}
    marks = {finding.name: finding.mark for finding in found["Licensed files"]}
    lacking = [name for name in DEMO_NEED if marks.get(name) != OK]
    open_only = all(marks.get(name) == ABSENT for name in (*DEMO_NEED, *GENDERS))
    official = "yes: demo (--body smpl)" if not lacking else f"no, it also needs {', '.join(lacking)}"
    return {
        "open body": f"yes: demo, training and evaluation on rendered people{'' if open_only else ' (--body open)'}",
        "official body": "no: none of its files is there" if open_only else official,
        "evaluation sets": "; ".join(test_sets(found, marks, open_only))
        or "no label file of a test set is there",
    }


def test_sets(found: Found, marks: dict[str, str], open_only: bool) -> Iterator[str]:
    """The test sets whose labels are there, with what they lack."""
    for finding in found["Labels and fits"]:
        name = TEST_SETS.get(Path(finding.name).stem)
        if name is None or finding.mark == ABSENT:
            continue
        need = (*EVAL_NEED, *(GENDERS if name == "3dpw" else ()))
        need = need[:2] if name.startswith(("lsp", "coco")) else need
        lacking = [] if open_only else [file for file in need if marks.get(file) != OK]
        lacking += [finding.name] if finding.is_bad else []
        lacking += ["its pictures"] if NO_PICTURES in finding.text else []
        yield f"{name}: {'yes' if not lacking else 'lacks ' + ', '.join(lacking)}"


# ---------------------------------------------------------------------------------------------------- the page


def lines(finding: Finding) -> str:
    """A finding as text; what to do about it stands behind or below it."""
    if finding.mark == OK or not finding.cure:
        return row(finding.mark, finding.name, finding.text)
    if finding.mark == ABSENT:
        return row(finding.mark, finding.name, f"{finding.text}; {finding.cure}")
    return f"{row(finding.mark, finding.name, finding.text)}\n{row('', '', '-> ' + finding.cure)}"


def row(mark: str, name: str, text: str) -> str:
    """One aligned line, wrapped below its text."""
    start = f"  {mark:<{MARK_WIDTH}}" if mark else "  "
    indent = 2 + MARK_WIDTH + NAME_WIDTH
    start = f"{start + name:<{indent - 1}} "
    return textwrap.fill(
        text, WIDTH, initial_indent=start, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


if __name__ == "__main__":
    run_script(main)
