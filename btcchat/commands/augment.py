"""``btcchat augment``: write the clues of a mixture, for ``--prompt_augmentation cached``."""

import argparse

from btcchat.commands import options
from btcchat.commands.options import RAW, Commands, add_device, add_images, add_mixture, at_least_1, complaint
from btcchat.console.ending import SOME_FAILED
from btcchat.console.messages import say

AUGMENT = """\
Ask a clue model one fixed question about the images of every record, and store the answers for training and serving.

  btcchat augment levir_cc --clue_model Efficient-Large-Model/VILA1.5-3b --out clues/levir_cc
  btcchat train ... --data_mixture levir_cc --prompt_augmentation cached --clues clues/levir_cc

The clue model is any checkpoint; its adapter, if any, is switched off. Records with the same images share a clue;
images are identified by their content. If the command is interrupted, run it again to resume."""


def add(commands: Commands) -> None:
    about = "write clues about the images of a mixture (prompt augmentation)"
    parser = commands.add_parser("augment", help=about, description=AUGMENT, **RAW)
    add_mixture(parser)
    add = parser.add_argument
    add("--clue_model", "--clue-model", required=True, metavar="PATH_OR_ID", help="checkpoint that writes the clues")
    add("--out", required=True, metavar="DIR", help="folder for the clues of this clue model; existing ones are kept")
    add("--batch-size", "--batch_size", type=at_least_1, default=8, metavar="N", help="batch size (default 8)")
    longest = "maximum number of tokens in a clue (default 64)"
    add("--max-new-tokens", "--max_new_tokens", type=at_least_1, default=64, metavar="N", help=longest)
    frames = "frames taken of a video (default: what the clue model was trained with)"
    add("--num-video-frames", "--num_video_frames", type=at_least_1, metavar="N", help=frames)
    add_device(parser)
    add_images(parser)
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser, many_images=True)


def run(args: argparse.Namespace) -> int:
    """Ask about every record; name those that fail, and return an exit code for failures."""
    from btcchat.clues.ask import describe, records_of, write_clues
    from btcchat.clues.store import ClueWriter
    from btcchat.console.progress import Progress

    mixture = options.load_mixture(args)
    model = options.load_model(args, args.clue_model)
    failed = 0
    with ClueWriter(args.out, describe(args.clue_model, model, args.max_new_tokens)) as clues:
        before = len(clues)
        try:
            total = len(mixture) if hasattr(mixture, "__len__") else None  # a streamed mixture is not counted
            with Progress("records", total) as progress:
                faults = write_clues(
                    model,
                    records_of(mixture),
                    clues,
                    batch_size=args.batch_size,
                    max_new_tokens=args.max_new_tokens,
                )
                for fault in faults:
                    if fault:
                        failed += 1
                        progress.print(complaint(fault))
                    progress.update()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; {args.out} is complete so far. Run the same command again to resume"
            ) from None
        written = len(clues) - before
        empty = f", {clues.empty} of all are empty" if clues.empty else ""
    there = f", {before} already there" if before else ""
    bad = f", {failed} records failed (listed above)" if failed else ""
    say(f"{written} clues written to {args.out}{there}{empty}{bad}")
    return SOME_FAILED if failed else 0
