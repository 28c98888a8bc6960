"""``btcchat data check``: find every fault of a mixture before a training run."""

import argparse

from btcchat.commands import options
from btcchat.commands.options import RAW, Commands, add_mixture, add_reading, whole_number
from btcchat.console.ending import SOME_FAILED
from btcchat.errors import choose

DESCRIPTION = """\
Read every row and every file of a mixture before a training run: print one table, and each fault with its file and row.

  btcchat data check levir_cc
  btcchat data check 'levir_cc+cdvqa*2' --model CHECKPOINT --workers 8 --out faults.jsonl

The column "per epoch" has the number of samples per training epoch, after shares, repeats and @flatten_list. The exit
code is 3 if anything is wrong: a row that does not follow the schema, a missing or broken file, dates of different
size, a wrong number of <image>, an answer without text, a sample longer than the model reads. Pairs whose change_flag,
captions and mask contradict each other are listed and counted, but do not affect the exit code."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "check", help="find every fault in a mixture before training", description=DESCRIPTION, **RAW
    )
    add_mixture(parser)
    add = parser.add_argument
    add_reading(parser, "; its tokenizer, context length and sizes are used for the check")
    add(
        "--workers",
        type=whole_number,
        default=None,
        metavar="N",
        help="number of processes (default: one for each core)",
    )
    add("--faults", type=whole_number, default=5, metavar="N", help="how many faults of each kind to list (default 5)")
    add("--out", metavar="FILE", help="write all faults to this file, as JSON lines of set, where, kind and fault")
    seed = "--seed of the training, which determines the rows of a random share (default 42, as in training)"
    add("--seed", type=whole_number, default=42, metavar="N", help=seed)
    add("--clues", metavar="DIR", help="check that these clues are complete, and count their tokens")
    kinds = "kinds of fault to ignore, e.g. sizes length"
    add("--allow", nargs="+", default=[], metavar="KIND", help=kinds)
    disagreement = (
        "stop: a pair whose change_flag, captions and mask contradict each other is a fault too (default keep)"
    )
    add("--disagreement", choices=("keep", "stop"), default="keep", help=disagreement)
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=check_data, parser=parser, many_images=True)


def check_data(args: argparse.Namespace) -> int:
    """Print the table and the faults; return 3 if any of them counts."""
    import os

    from btcchat.clues.apply import AddClue
    from btcchat.clues.store import Clues
    from btcchat.console.progress import Progress
    from btcchat.data.check.check import check, open_sets
    from btcchat.data.check.table import KINDS, Faults, Summary, table
    from btcchat.data.fault_list import DISAGREE

    allowed = {choose("kind of fault", kind, dict.fromkeys(KINDS, kind)) for kind in args.allow}
    if args.disagreement == "keep":
        allowed |= DISAGREE.keys()
    sets = open_sets(args.mixture, data_root=args.data_root, folder=args.mixture_folder, seed=args.seed)
    add_clue = None if args.clues is None else AddClue(Clues(args.clues, reading=options.reading(args)))
    processor = options.load_processor(args)
    summaries = {checked.name: Summary(checked.name) for checked in sets}
    workers = (os.cpu_count() or 1) if args.workers is None else args.workers
    with Faults(args.out, args.faults) as faults:
        totals = [checked.total for checked in sets if checked.total is not None]
        total = sum(totals) if len(totals) == len(sets) else None  # a streamed set is not counted
        with Progress("rows", total) as progress:
            for name, row in check(sets, processor, workers, add_clue):
                summaries[name].add(row)
                faults.add(name, row)
                progress.update()
    print("\n".join([table(list(summaries.values())), *faults.lines()]))
    return SOME_FAILED if faults.counts.keys() - allowed else 0
