"""``btcchat data show``: samples as the model gets them."""

import argparse

from btcchat.commands import options
from btcchat.commands.options import RAW, Commands, add_mixture, add_reading, at_least_1, whole_number
from btcchat.console.messages import say

DESCRIPTION = """\
Write one HTML page of samples as the model gets them: the prompt, its ids, the learned tokens, the images after
preprocessing. The page is self-contained.

  btcchat data show levir_cc --out page.html"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "show", help="write a page of samples as the model gets them", description=DESCRIPTION, **RAW
    )
    add_mixture(parser)
    add = parser.add_argument
    add_reading(parser)
    add("--out", default="page.html", metavar="FILE", help="the page (default page.html)")
    add("--samples", type=at_least_1, default=4, metavar="N", help="samples of each modality (default 4)")
    add("--seed", type=whole_number, default=0, metavar="N", help="seed for choosing the samples (default 0)")
    add("--clues", metavar="DIR", help="use the clues in this folder, as with --prompt_augmentation cached")
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=show_data, parser=parser, many_images=True)


def show_data(args: argparse.Namespace) -> int:
    """Write one page of samples."""
    from btcchat.clues.apply import AddClue
    from btcchat.clues.store import Clues
    from btcchat.data.check.show import page, pick
    from btcchat.media.page import write_page

    processor = options.load_processor(args)
    mixture = options.load_mixture(args)
    facts = f"{args.model or 'tiny'}, template {processor.config.conv_version}, seed {args.seed}"
    chosen = pick(mixture, args.samples, args.seed)
    if args.clues is not None:
        add_clue = AddClue(Clues(args.clues, reading=options.reading(args)))
        chosen = {
            modality: [shown._replace(record=add_clue(shown.record, ())) for shown in records]
            for modality, records in chosen.items()
        }
    write_page(args.out, page(args.mixture, facts, chosen, processor))
    say(f"{sum(map(len, chosen.values()))} samples written to {args.out}")
    return 0
