"""``btcchat chat``: a conversation about images; answers appear as they are generated."""

import argparse

from btcchat.commands import options
from btcchat.commands.options import (
    RAW,
    Commands,
    add_media,
    add_model,
    check_clues,
    check_dates,
    checked,
    clue_source,
    generation,
    media,
)

CHAT = "Talk about an image, a pair, a series of dates or a video. Type /help to list the commands."


def add(commands: Commands) -> None:
    about = "hold a conversation about an image, a pair, a series or a video"
    parser = commands.add_parser("chat", help=about, description=CHAT, **RAW)
    add_media(parser)
    add_model(parser, run)


def run(args: argparse.Namespace) -> int:
    from btcchat.serve.chat import Chat, converse

    about = media(args)
    check_dates(args, None if about is None else about[0])
    check_clues(args)
    answering = generation(args)
    loaded = None if about is None else checked(args, *about)
    model = options.load_model(args)
    session = Chat(model, generation=answering, as_json=args.json, clues=clue_source(args, model))
    if about is not None:
        session.use(*about, args.dates, loaded=loaded)
    return converse(session)
