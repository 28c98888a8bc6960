"""Shared by several commands: options, loading the model, printing an answer.

argparse, because ``--series A B C ...`` takes any number of files, and because ``--help`` is fast.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from btcchat.checkpoint.hub import DEMONSTRATION
from btcchat.console.messages import say
from btcchat.console.parser import HelpParser
from btcchat.decoding.options import NUMBERS, GenerationOptions
from btcchat.errors import BTCChatError, one_line

if TYPE_CHECKING:
    from btcchat.api import BTCChat
    from btcchat.clues.ask import ClueSource
    from btcchat.data.mixture.mixture import Mixture
    from btcchat.data.mixture.stream import StreamMixture
    from btcchat.media.frames import Sources
    from btcchat.media.reading import Reading
    from btcchat.processor import Processor

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
AddArgument: TypeAlias = Callable[..., argparse.Action]  # `add_argument` of a parser or of one of its groups

RAW: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
MODEL = "checkpoint folder, hub id, or tiny: the packaged model (the default)"
BASE = "new location of an adapter's base (default: where it was in training)"
MEDIA = ("image", "pair", "series", "video")


PLUGIN: dict[str, Any] = {  # read by `btcchat.plugins.take_flags`, since it may be anywhere in a command
    "metavar": "MODULE",
    "default": argparse.SUPPRESS,
    "help": "Python module that adds parts, such as a change encoder; may be given several times",
}


class Parser(HelpParser):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "-" in self.prefix_chars:
            self.add_argument("--plugin", **PLUGIN)

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """As in argparse, but an error about unknown arguments names the help of their command."""
        found: argparse.Namespace
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            message = _stray_images(found, unknown) or f"unrecognized arguments: {' '.join(unknown)}"
            getattr(found, "parser", self).error(message)
        return found

    def error(self, message: str) -> NoReturn:
        raise BTCChatError(f"{message} (see {self.prog} --help)")


def _stray_images(found: argparse.Namespace, unknown: list[str]) -> str | None:
    """The error for images that no option of `add_media` takes, with the option that does; None for other words."""
    from btcchat.media.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES

    suffixes = [os.path.splitext(word)[1].lower() for word in unknown]
    named = [name for name in MEDIA if getattr(found, name, None) is not None]
    if not hasattr(found, "pair") or not {*suffixes} <= {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES} or {*named} - {"image"}:
        return None
    files = [found.image, *unknown] if named else unknown
    flag = "video" if suffixes[0] in VIDEO_SUFFIXES else {1: "image", 2: "pair"}.get(len(files), "series")
    stray, words = " ".join(unknown), " ".join(map(shlex.quote, files))
    return f"images follow an option, but {stray} {'does' if len(unknown) == 1 else 'do'} not; write --{flag} {words}"


def complain(message: str) -> None:
    print(complaint(message), file=sys.stderr)


def complaint(message: str) -> str:
    """The line on stderr for an error."""
    return f"btcchat: error: {one_line(message)}"


# -- options ---------------------------------------------------------------------------------------------------------


def add_media(parser: argparse.ArgumentParser) -> None:
    media = parser.add_argument_group("images").add_mutually_exclusive_group()
    media.add_argument("--image", metavar="FILE", help="one image")
    media.add_argument("--pair", nargs="+", metavar=("BEFORE", "AFTER"), help="two dates of one place")
    media.add_argument("--series", nargs="+", metavar="FILE", help="2 to 16 dates in order, or a folder of them")
    media.add_argument("--video", metavar="FILE", help="a video file, or a folder of frames")
    frames = "frames taken of a video (default: what the model was trained with)"
    parser.add_argument("--num-video-frames", type=at_least_1, metavar="N", help=frames)
    parser.add_argument("--dates", nargs="+", metavar="DATE", help="the date of each image of --pair or --series")


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the flags for reading images; `reading` returns the chosen values."""
    add = parser.add_argument_group("reading images (docs/inputs.md)").add_argument
    bands = "red, green and blue bands of a raster, e.g. 4,3,2 (default: those marked as such, else the first three)"
    add("--bands", metavar="R,G,B", help=bands)
    ways = "black and white points beyond 8 bits: shared by all dates (shared, default), per-date, none or LOW,HIGH"
    add("--stretch", metavar="WAY", default="shared", help=f"{ways}; write --stretch=-25,0 if LOW is negative")
    add("--nodata", metavar="V", help="the no-data value, or none (default: as in the file)")


def add_model(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="PATH_OR_ID", help=MODEL)
    group.add_argument("--base", metavar="PATH_OR_ID", help=BASE)
    add_device(group)
    add_images(parser)
    add_clues(parser.add_argument_group("prompt augmentation").add_argument)
    add = parser.add_argument_group("answer").add_argument
    add_generation(add)
    add("--seed", type=int, metavar="N", help="seed that makes sampled answers reproducible")
    add("--json", action="store_true", help="print JSON")
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser)


def add_generation(add: AddArgument) -> None:
    """Add the flags for the length of answers and the choice of words."""
    add("--max-new-tokens", type=at_least_1, default=128, metavar="N", help="maximum tokens of an answer (default 128)")
    add(
        "--temperature",
        type=_option_value("temperature"),
        default=0.0,
        metavar="T",
        help="above 0: sample the answers (default 0: greedy)",
    )
    for option in fields(GenerationOptions):
        if option.name in ("top_p", "repetition_penalty"):
            flags = dict.fromkeys([f"--{option.name.replace('_', '-')}", f"--{option.name}"])
            text = f"{option.metadata['help']} (default {option.default:g})"
            add(*flags, type=_option_value(option.name), default=option.default, metavar="P", help=text)


def _option_value(name: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            given: dict[str, Any] = {name: float(text)}
            value: float = getattr(GenerationOptions(**given), name)
        except ValueError:  # BTCChatError is one too
            raise argparse.ArgumentTypeError(f"got '{text}', expected {NUMBERS[name][2]}") from None
        return value

    return parse


def add_device(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="device to run on (default auto)")
    add(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="precision of the weights (default auto)",
    )
    bits = "quantise the language model (with int8 on a CPU, the vision tower too) to 8 or 4 bits (docs/quantize.md)"
    add("--quantize", choices=("int8", "int4"), help=bits)
    heads = "attention heads of the change encoder, for published folders that do not give it (default 8)"
    add("--cc-head", "--cc_head", type=at_least_1, metavar="N", help=heads)
    add_tower(add)


def add_tower(add: AddArgument) -> None:
    tower = "vision tower of a published LLaVA-NeXT folder, which does not give its sizes (default: the one it names)"
    add("--vision-tower", "--vision_tower", metavar="PATH_OR_ID", help=tower)


def add_clues(add: AddArgument) -> None:
    modes = "off (default), cached (clues written by btcchat augment) or online (ask the clue model first)"
    add("--prompt-augmentation", "--prompt_augmentation", default="off", metavar="MODE", help=modes)
    add("--clues", metavar="DIR", help="with cached: the folder of the clues")
    clue_model = "with online: the clue model's checkpoint, or self (default: the model without its adapter)"
    add("--clue-model", "--clue_model", metavar="PATH_OR_ID", help=clue_model)


def add_mixture(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("mixture", metavar="MIXTURE", help="data sets, e.g. levir_cc or 'levir_cc+cdvqa*2'")
    root = "folder that the paths of the sets are relative to (default: $BTCCHAT_DATA)"
    add("--data-root", "--data_root", metavar="DIR", help=root)
    folder = "folder of YAML files that describe the sets (default: the packaged ones)"
    add("--mixture-folder", "--mixture_folder", metavar="DIR", help=folder)


def add_reading(parser: argparse.ArgumentParser, why: str = "") -> None:
    """Add the model for which samples are prepared, and the training flags that change how."""
    add = parser.add_argument_group("model that reads the samples").add_argument
    add("--model", metavar="PATH_OR_ID", help=MODEL + why)
    add_tower(add)
    add("--version", metavar="NAME", help="conversation template (default: the model's)")
    add(
        "--num-video-frames",
        "--num_video_frames",
        type=at_least_1,
        metavar="N",
        help="frames taken of a video (default: the model's)",
    )
    longest = "maximum tokens of a sample (default: the model's)"
    add("--model-max-length", "--model_max_length", type=at_least_1, metavar="N", help=longest)
    add_images(parser)


def at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number of at least 1")
    return int(text)


def whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number of at least 0")
    return int(text)


def at_least_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"got '{text}', expected a number of at least 0")
    return value


# -- values of the options
# ---------------------------------------------------------------------------------------------------


def load_model(args: argparse.Namespace, path: str | None = None) -> "BTCChat":
    """Load the model given by the options, or the one at ``path`` in the same way; imports torch."""
    from btcchat.checkpoint.extras import check_extras

    path = getattr(args, "model", None) if path is None else path
    if not getattr(args, "example", False):
        note_demonstration(path)
    check_extras(path)
    from btcchat import BTCChat

    return BTCChat.from_pretrained(path, **model_options(args))


def note_demonstration(path: str | None) -> None:
    """Say that the packaged model is a demonstration, to someone who named no model."""
    if path is None:
        say(DEMONSTRATION)


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword options of BTCChat.from_pretrained."""
    names = ("base", "cc_head", "num_video_frames", "vision_tower", "quantize")
    given: dict[str, Any] = {name: getattr(args, name, None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    return {"device": args.device, "dtype": args.dtype, "reading": reading(args), **given}


def load_mixture(args: argparse.Namespace) -> "Mixture | StreamMixture":
    """The data sets given by the options; only their records are used, no samples are made."""
    from btcchat.data.mixture import build_datasets

    return build_datasets(args.mixture, lambda record: {}, data_root=args.data_root, folder=args.mixture_folder)


def load_processor(args: argparse.Namespace) -> "Processor":
    """A processor that prepares samples as for the model of --model, without reading its weights."""
    from btcchat.processor import Processor

    processor = Processor.from_pretrained(
        args.model,
        vision_tower=args.vision_tower,
        conv_version=args.version,
        num_video_frames=args.num_video_frames,
        reading=reading(args),
    )
    if args.model_max_length is not None:
        processor.config.model_max_length = args.model_max_length
    return processor


def check_clues(args: argparse.Namespace) -> None:
    """Check these options, so that faults are reported before the model is loaded."""
    if args.prompt_augmentation == "off" and args.clues is None and args.clue_model is None:
        return
    from btcchat.clues.store import check_flags

    check_flags(args.prompt_augmentation, args.clues, args.clue_model)


def clue_source(args: argparse.Namespace, model: "BTCChat") -> "ClueSource | None":
    """The source of clues for questions, or None."""
    if args.prompt_augmentation == "off":
        return None
    from btcchat import BTCChat
    from btcchat.clues.ask import clue_source

    def load(path: str) -> BTCChat:
        return BTCChat.from_pretrained(path, device=args.device, dtype=args.dtype, reading=reading(args))

    return clue_source(args.prompt_augmentation, model, clues=args.clues, clue_model=args.clue_model, load=load)


def clue_of(
    args: argparse.Namespace, model: "BTCChat", modality: str, source: "Sources", images: "Sources"
) -> dict[str, Any]:
    """``{"clue": text}`` for one question, passed to the model and printed with the answer; {} without clues."""
    clues = clue_source(args, model)
    return {} if clues is None else {"clue": clues([(modality, source, images)])[0]}


def media(args: argparse.Namespace) -> tuple[str, str | list[str]] | None:
    """(modality, source) from the media option, or None if there is none."""
    return next(((name, getattr(args, name)) for name in MEDIA if getattr(args, name) is not None), None)


def check_dates(args: argparse.Namespace, modality: str | None) -> None:
    if args.dates and modality not in ("pair", "series"):
        raise BTCChatError("--dates needs --pair or --series")


def reading(args: argparse.Namespace) -> "Reading":
    """The reading given by the flags of `add_images`. Raises BTCChatError for an invalid flag."""
    from btcchat.media.reading import Reading

    return Reading.parse(args.bands, args.stretch, args.nodata)


def checked(args: argparse.Namespace, modality: str, source: str | list[str]) -> "Sources":
    """The checked input of the model. Images are read here, so that faults are reported before the model is loaded."""
    from btcchat.media.frames import load_frames
    from btcchat.media.source import existing_file

    if isinstance(source, list) or modality != "video":
        frames = load_frames(modality, source, reading=reading(args))
        return frames[0] if modality == "image" else frames
    return source if os.path.isdir(source) else existing_file(source, "video")


def generation(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword options of BTCChat.ask and GenerationOptions. Wrong values are reported before the model is loaded."""
    names = ("max_new_tokens", "temperature", "top_p", "repetition_penalty", "seed")
    options = {name: getattr(args, name) for name in names}
    GenerationOptions(**options)  # raises BTCChatError
    return options


def print_answer(args: argparse.Namespace, record: dict[str, Any], answer: str) -> None:
    if args.json:
        about = {"model": args.model or "tiny", **record, **reading(args).record()}
        print(json.dumps(about, ensure_ascii=False))
    else:
        print(answer)
