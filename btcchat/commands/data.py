"""``btcchat data ...``: prepare data sets for training."""

import argparse
import sys

from btcchat.commands import data_check, data_list, data_show
from btcchat.commands.options import RAW, Commands, complain, whole_number
from btcchat.console.messages import say
from btcchat.data.changed import DISAGREEMENT
from btcchat.errors import BTCChatError

CONVERT = """\
Turn a published data set into annotation files: OUT/SPLIT.jsonl for each of its splits. The images stay in SRC.

  btcchat data convert --list                        the kinds of data set
  btcchat data convert levir_cc LEVIR-CC annotations/levir_cc
  btcchat data convert cdvqa CDVQA annotations/cdvqa --images SECOND
  btcchat data convert generic vqa.csv annotations/vqa --map question=Q,answer=A,image=before,image2=after

If an id is repeated, or an image is missing or broken, nothing is written. The first rows with each kind of fault are
listed, and the others are counted. Pairs whose change_flag, captions and mask contradict each other are listed, and
kept unless --disagreement says otherwise."""


def add(commands: Commands) -> None:
    about = "prepare data sets for training"
    parser = commands.add_parser("data", help=about, description=about.capitalize() + ".", **RAW)
    parser.set_defaults(parser=parser)
    data_commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_convert(data_commands)
    for command in (data_check, data_show, data_list):
        command.add(data_commands)


def _add_convert(commands: Commands) -> None:
    parser = commands.add_parser(
        "convert", help="convert a published data set to btcchat's records", description=CONVERT, **RAW
    )
    add = parser.add_argument
    add("kind", nargs="?", metavar="KIND", help="the data set in SRC, e.g. levir_cc")
    add("src", nargs="?", metavar="SRC", help="the unpacked folder of the data set, or its annotation file")
    add("out", nargs="?", metavar="OUT", help="folder for the annotation files; created if it does not exist")
    add("--list", action="store_true", help="print the kinds of data set")
    add("--split", nargs="+", default=[], metavar="NAME", help="only these splits (default: all of them)")
    images = "folder of the images, if not SRC; the paths in OUT are relative to it"
    add("--images", metavar="DIR", help=images)
    mapping = "for the kind generic: the fields of a row, e.g. question=Q,answer=A,image=path1,image2=path2"
    add("--map", action="append", metavar="NAME=FIELD,...", help=mapping)
    disagreement = "pairs whose change_flag, captions and mask contradict each other: keep (default), drop, or stop"
    add("--disagreement", choices=DISAGREEMENT, default="keep", help=disagreement)
    add("--faults", type=whole_number, default=5, metavar="N", help="how many faults of each kind to list (default 5)")
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=convert_data, parser=parser, many_images=True)


def convert_data(args: argparse.Namespace) -> int:
    """Convert one data set to annotation files; if any row is bad, list the faults and write nothing."""
    from btcchat.console.progress import Progress
    from btcchat.data.convert import CONVERTERS, BadRows, convert
    from btcchat.data.convert.check import by_kind
    from btcchat.data.convert.fields import parse_mapping
    from btcchat.plugins import load_enabled

    if args.list:
        load_enabled()
        for kind, converter in CONVERTERS.items():
            first_line = (converter.__doc__ or "").partition("\n")[0]
            print(f"{kind:18}{first_line}")
        return 0
    if args.out is None:
        args.parser.print_help(sys.stderr)
        raise BTCChatError("data convert needs KIND SRC OUT, or --list")
    try:
        with Progress("rows") as progress:
            converted = convert(
                *(args.kind, args.src, args.out),
                splits=args.split,
                images=args.images,
                disagreement=args.disagreement,
                mapping=parse_mapping(args.map) if args.map else None,
                progress=progress.reach,
            )
    except BadRows as error:
        print("\n".join(error.by_kind(args.faults).lines("--faults N lists more")), file=sys.stderr)
        count = len(error.faults)
        complain(f"{count:,} fault{'s' * (count > 1)} (listed above); nothing was written")
        return 2
    if converted.disagreements:
        listed = by_kind(converted.disagreements, args.faults)
        print("\n".join(listed.lines("--faults N lists more")), file=sys.stderr)
        done = "left out" if args.disagreement == "drop" else "kept; --disagreement drop leaves them out"
        count = len(converted.disagreements)
        say(f"{count:,} pair{'s' * (count > 1)} listed above {done}")
    counts = ", ".join(f"{count} {split}" for split, count in converted.items())
    say(f"{counts} records written to {args.out}")
    return 0
