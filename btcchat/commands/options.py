"""What several commands share: options, the model they name, how an answer is printed.

argparse, because ``--series A B C ...`` takes any number of files, and because it makes ``--help`` come at once.
"""

import argparse
import json
import os
import sys

from btcchat.errors import BTCChatError

RAW = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
MEDIA = ("image", "pair", "series", "video")


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise BTCChatError(f"{message} (see {self.prog} --help)")


def complain(message: str) -> None:
    print(f"btcchat: error: {' '.join(message.split())}", file=sys.stderr)


# -- options ---------------------------------------------------------------------------------------------------------


def add_media(parser: argparse.ArgumentParser) -> None:
    media = parser.add_argument_group("what it is about").add_mutually_exclusive_group()
    media.add_argument("--image", metavar="FILE", help="one image")
    media.add_argument("--pair", nargs="+", metavar=("BEFORE", "AFTER"), help="two dates of one place")
    media.add_argument("--series", nargs="+", metavar="FILE", help="2 to 16 dates in order, or a folder of them")
    media.add_argument("--video", metavar="FILE", help="a video file, or a folder of frames")
    frames = "frames taken of a video (default: what the model was trained with)"
    parser.add_argument("--num-video-frames", type=at_least_1, metavar="N", help=frames)
    parser.add_argument("--dates", nargs="+", metavar="DATE", help="the date of each image of --pair or --series")


def add_model(parser: argparse.ArgumentParser, run) -> None:
    add = parser.add_argument_group("model").add_argument
    add("--model", metavar="PATH_OR_ID", help="checkpoint folder or hub id (default: the packaged tiny model)")
    add("--base", metavar="PATH_OR_ID", help="where the base of an adapter is now (default: where it was in training)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where it runs (default auto)")
    add("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="(default auto)")
    heads = "attention heads of the change encoder, for published folders that do not say (default 8)"
    add("--cc-head", "--cc_head", type=at_least_1, metavar="N", help=heads)
    tower = "vision tower of a published LLaVA-NeXT folder, which leaves its sizes out (default: the one it names)"
    add("--vision-tower", metavar="PATH_OR_ID", help=tower)
    add = parser.add_argument_group("answer").add_argument
    add("--max-new-tokens", type=at_least_1, default=128, metavar="N", help="longest answer (default 128)")
    add("--temperature", type=at_least_0, default=0.0, metavar="T", help="above 0: sampled (default 0, greedy)")
    add("--seed", type=int, metavar="N", help="makes sampled answers repeatable")
    add("--json", action="store_true", help="print JSON")
    add("-v", "--verbose", action="store_true", help="say more on stderr")
    parser.set_defaults(run=run, parser=parser)


def at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number of at least 1")
    return int(text)


def at_least_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"got '{text}', expected a number of at least 0")
    return value


# -- what they say ---------------------------------------------------------------------------------------------------


def load_model(args: argparse.Namespace):
    """The model the options name; imports torch."""
    from btcchat import BTCChat

    names = ("base", "cc_head", "num_video_frames", "vision_tower")
    given = {name: getattr(args, name, None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    return BTCChat.from_pretrained(args.model, device=args.device, dtype=args.dtype, **given)


def media(args: argparse.Namespace):
    """-> (modality, source), or (None, None) where no media option was given."""
    return next(((name, getattr(args, name)) for name in MEDIA if getattr(args, name) is not None), (None, None))


def check_dates(args: argparse.Namespace, modality: str | None) -> None:
    if args.dates and modality not in ("pair", "series"):
        raise BTCChatError("--dates go with --pair or --series")


def checked(modality: str, source):
    """What the model is given. Images are read here: their faults are told before the model is loaded."""
    from btcchat.data.media import existing_file, load_frames

    if modality != "video":
        frames = load_frames(modality, source)
        return frames[0] if modality == "image" else frames
    return source if os.path.isdir(source) else existing_file(source, "video")


def generation(args: argparse.Namespace) -> dict:
    return {"max_new_tokens": args.max_new_tokens, "temperature": args.temperature, "seed": args.seed}


def print_answer(args: argparse.Namespace, record: dict, answer: str) -> None:
    print(json.dumps({"model": args.model or "tiny", **record}, ensure_ascii=False) if args.json else answer)
