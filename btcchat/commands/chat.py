"""``btcchat chat``: talk about them; answers appear as they are written."""

import argparse

from btcchat.commands import options
from btcchat.commands.options import RAW, add_media, add_model, check_dates, checked, generation, media

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
    if modality is not None:
        checked(modality, source)
    session = Chat(options.load_model(args), generation=generation(args), as_json=args.json)
    if modality is not None:
        session.use(modality, source, args.dates)
    return converse(session)
