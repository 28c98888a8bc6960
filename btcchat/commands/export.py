"""``btcchat export``: a model in another form."""

import argparse

from btcchat.commands.options import RAW
from btcchat.errors import BTCChatError

EXPORT = """\
Write a model in another form.

  btcchat export --llava-next MODEL OUT    a folder that the code of CCExpert and LLaVA-OneVision reads"""


def add(commands) -> None:
    one = commands.add_parser("export", help="write a model in another form", description=EXPORT, **RAW)
    one.add_argument("--llava-next", metavar="MODEL", help="a model with the parts that a LLaVA-NeXT folder knows")
    one.add_argument("out", metavar="OUT", help="folder to write; it must not exist")
    tower = "with --llava-next: the tower that other code builds (default: the one MODEL was imported with)"
    one.add_argument("--vision-tower", metavar="PATH_OR_ID", help=tower)
    one.set_defaults(run=run, parser=one)
    one.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")


def run(args: argparse.Namespace) -> int:
    if args.llava_next is None:
        raise BTCChatError("nothing to export; give --llava-next MODEL")
    from btcchat.relayout import export_llava_next

    export_llava_next(args.llava_next, args.out, vision_tower=args.vision_tower)
    print(f"{args.out}: {args.llava_next} as a LLaVA-NeXT folder")
    return 0
