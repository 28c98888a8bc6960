"""``btcchat import``: import published checkpoint folders with another layout."""

import argparse

from btcchat.commands.options import RAW, Commands

ABOUT = """\
Write a published LLaVA-NeXT folder (CCExpert, LLaVA-OneVision) in this project's layout.

  btcchat import llava-next lmms-lab/llava-onevision-qwen2-0.5b-ov models/onevision-0.5b
  btcchat import llava-next CCExpert-7B models/ccexpert-7b --vision-tower siglip-so400m-patch14-384

Weights are copied byte by byte, which needs little memory. Such a folder can also be used directly: --model FOLDER."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "import", help="convert a published LLaVA-NeXT folder to btcchat's layout", description=ABOUT, **RAW
    )
    parser.add_argument("layout", choices=("llava-next",), help="the published layout")
    parser.add_argument("src", metavar="SRC", help="folder or hub id")
    parser.add_argument("out", metavar="OUT", help="folder to write; it must not exist")
    tower = "folder or hub id of the vision tower, whose sizes SRC does not give (default: the one in its config.json)"
    parser.add_argument("--vision-tower", metavar="PATH_OR_ID", help=tower)
    parser.add_argument("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    from btcchat.checkpoint.relayout import import_llava_next

    import_llava_next(args.src, args.out, vision_tower=args.vision_tower)
    print(f"{args.out}: {args.src} in the layout of this project")
    return 0
