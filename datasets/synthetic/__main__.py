"""Write synthetic people: a contact sheet with their labels drawn, or evaluation sets in the files of real sets.

python -m datasets.synthetic --preview sheet.jpg --count 40
python -m datasets.synthetic --write DIR --count 64
"""

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()  # before the imports, which take seconds and may fail

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from datasets.synthetic.dataset import Draw, SyntheticPeople
from datasets.synthetic.preview import write_sheet
from datasets.synthetic.sets import write_sets
from datasets.synthetic.split import SPLITS
from utils.command_line import SentenceParser
from utils.io import require_free, require_writable
from utils.io.marks import SHEET

SHEET_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line `argv`."""
    parser = SentenceParser(
        prog="datasets.synthetic",
        description="Write a contact sheet of synthetic people with their labels drawn (--preview), or "
        "evaluation sets of them in the files of real sets (--write).",
    )
    add = parser.add_argument
    add("--preview", type=Path, nargs="?", const=Path("output/people.jpg"), metavar="OUT.jpg",
        help="file to write (without a name: %(const)s)")  # fmt: skip
    add("--write", type=Path, metavar="DIR", help="folder for the sets, a --data_dir of its own")
    add("--overwrite", action="store_true", help="replace an earlier sheet or synthetic sets")
    add("--split", choices=SPLITS, help="default: train for --preview, eval for --write")
    add("--count", type=int, help="people: default 40 on a sheet, 64 in the sets")
    add("--seed", type=int, default=0)
    add("--difficulty", type=float, default=1.0)
    add("--backgrounds", type=Path, help="folder of images without people")
    args = parser.parse_args(argv)
    if (args.preview is None) == (args.write is None):
        parser.error("Exactly one of these is required: --preview OUT.jpg, --write DIR.")
    if args.preview and args.preview.suffix.lower() not in SHEET_SUFFIXES:
        parser.error(f"Cannot write an image to '{args.preview}'; its name must end in .jpg or .png.")
    try:
        print("\n".join(_write(args)))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


def _write(args: Namespace) -> list[str]:
    """Write the sheet or the sets; sentences that say what was written."""
    if args.preview:
        require_free(args.preview, args.overwrite, SHEET)
        require_writable(args.preview.parent)
    split, count = ("train", 40) if args.preview else ("eval", 64)
    people = SyntheticPeople(
        count if args.count is None else args.count,
        split=args.split or split,
        seed=args.seed,
        draw=Draw(difficulty=args.difficulty),
        backgrounds=args.backgrounds,
    )
    if args.write:
        return write_sets(
            args.write, people.resources, len(people), args.seed, args.difficulty, args.overwrite
        )
    renders = [people.render(index, people.default_draw) for index in range(len(people))]
    write_sheet(renders, people.resources.assets, args.preview, args.overwrite)
    return [f"{len(people)} people of the {people.resources.split.name} split: {args.preview}"]


if __name__ == "__main__":
    run_script(main)
