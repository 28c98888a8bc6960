"""``btcchat ask``: a question about an image, a pair, a series of dates or a video."""

import argparse
from typing import Any

from btcchat.commands import options
from btcchat.commands.options import (
    RAW,
    Commands,
    add_media,
    add_model,
    check_clues,
    check_dates,
    checked,
    clue_of,
    generation,
    media,
    print_answer,
)
from btcchat.console.text import typed
from btcchat.errors import BTCChatError


def add(commands: Commands) -> None:
    about = "ask about an image, a pair, a series of dates or a video"
    parser = commands.add_parser("ask", help=about, description=about.capitalize() + ".", **RAW)
    parser.add_argument("question", nargs="?", type=typed, metavar="QUESTION", help="in quotes, before the options")
    add_media(parser)
    add_model(parser, run)


def run(args: argparse.Namespace) -> int:
    about = media(args)
    if args.question is None:
        raise BTCChatError('QUESTION is missing; put it first: btcchat ask "What changed?" --pair BEFORE AFTER')
    if not args.question.strip():
        raise BTCChatError("the question is empty; ask something, e.g. 'What changed between the two images?'")
    if about is None:
        raise BTCChatError("no images are given; add --image, --pair, --series or --video")
    modality, source = about
    check_dates(args, modality)
    check_clues(args)
    answering = generation(args)
    frames = checked(args, modality, source)
    model = options.load_model(args)
    if modality == "video":  # the model determines the number of frames; the clue model gets the same ones
        from btcchat.media.frames import load_frames

        frames = load_frames(modality, frames, model.config.num_video_frames, reading=options.reading(args))
    clue = clue_of(args, model, modality, source, frames)
    shown: dict[str, Any] = {modality: frames}
    answer = model.ask(args.question, **shown, dates=args.dates, **clue, **answering)
    paths = [str(path) for path in source] if isinstance(source, list) else str(source)
    print_answer(args, {"question": args.question, modality: paths, **clue, "answer": answer}, answer)
    return 0
