"""``btcchat chat``: talk about them; answers appear as they are written."""

import argparse

from btcchat.commands import options
from btcchat.commands.options import (
    RAW,
    add_media,
    add_model,
    check_clues,
    check_dates,
    checked,
    clue_source,
    generation,
    media,
)

CHAT = "Talk about an image, a pair, a series of dates or a video. /help there lists the commands."


def add(commands) -> None:
    about = "talk about them; answers appear as they are written"
    one = commands.add_parser("chat", help=about, description=CHAT, **RAW)
    add_media(one)
    add_model(one, run)


def run(args: argparse.Namespace) -> int:
    from btcchat.serve.chat import Chat, converse

    modality, source = media(args)
    check_dates(args, modality)
    check_clues(args)
    loaded = None if modality is None else checked(modality, source)
    model = options.load_model(args)
    session = Chat(model, generation=generation(args), as_json=args.json, clues=clue_source(args, model))
    if modality is not None:
        session.use(modality, source, args.dates, loaded=loaded)
    return converse(session)
