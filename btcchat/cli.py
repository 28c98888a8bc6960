"""The command ``btcchat``. Everything heavy is imported by the command that needs it."""

import argparse
import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

from btcchat.errors import BTCChatError
from btcchat.serve.options import build_parser

EXAMPLE = Path(__file__).parent / "assets" / "example"
MEDIA = ("image", "pair", "series", "video")
ONE_IMAGE = 'btcchat ask "What is here?" --image FILE'


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0, or 2 after a fault the user can fix (one line on stderr), or 130 after Ctrl-C."""
    try:
        args = build_parser(caption, ask, chat, convert_data, score, compare).parse_args(argv)
        if args.run is None:
            args.parser.print_help()
            return 0
        many = getattr(args, "many_images", False) or getattr(args, "pairs", None) is not None
        with _notes(args.verbose, many):
            return args.run(args)
    except BTCChatError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        print("btcchat: interrupted", file=sys.stderr)
        return 130


def complain(message: str) -> None:
    print(f"btcchat: error: {' '.join(message.split())}", file=sys.stderr)


def load_model(args: argparse.Namespace):
    """The model the options name; imports torch."""
    from btcchat import BTCChat

    given = {"cc_head": args.cc_head, "num_video_frames": getattr(args, "num_video_frames", None)}
    given = {name: value for name, value in given.items() if value is not None}
    return BTCChat.from_pretrained(args.model, device=args.device, dtype=args.dtype, **given)


# -- commands --------------------------------------------------------------------------------------------------------


def caption(args: argparse.Namespace) -> int:
    if args.pairs is not None:
        return _caption_pairs(args)
    if args.out is not None:
        raise BTCChatError("--out goes with --pairs; one caption is printed")
    if args.images and args.example:
        raise BTCChatError("give either BEFORE AFTER or --example")
    images = [EXAMPLE / "before.png", EXAMPLE / "after.png"] if args.example else args.images
    if not images:
        args.parser.print_help(sys.stderr)
        raise BTCChatError("caption needs BEFORE AFTER, or --pairs with --out, or --example")
    if len(images) == 1:
        raise BTCChatError(f"got 1 image ({images[0]}), a caption needs 2 (BEFORE AFTER); ask about one: {ONE_IMAGE}")
    before, after = _checked("pair", images)
    answer = load_model(args).caption(before, after, **_generation(args))
    _print_answer(args, {"before": str(images[0]), "after": str(images[1]), "caption": answer}, answer)
    return 0


def ask(args: argparse.Namespace) -> int:
    modality, source = _media(args)
    if args.question is None:
        raise BTCChatError('no QUESTION; it stands first: btcchat ask "What changed?" --pair BEFORE AFTER')
    if not args.question.strip():
        raise BTCChatError("the question is empty; ask something, e.g. 'What changed between the two images?'")
    if modality is None:
        raise BTCChatError("a question is about something: give --image, --pair, --series or --video")
    _check_dates(args, modality)
    frames = _checked(modality, source)
    model = load_model(args)
    answer = model.ask(args.question, **{modality: frames}, dates=args.dates, **_generation(args))
    paths = [str(path) for path in source] if isinstance(source, list) else str(source)
    _print_answer(args, {"question": args.question, modality: paths, "answer": answer}, answer)
    return 0


def chat(args: argparse.Namespace) -> int:
    from btcchat.serve.chat import Chat, run

    modality, source = _media(args)
    _check_dates(args, modality)
    if modality is not None:
        _checked(modality, source)
    session = Chat(load_model(args), generation=_generation(args), as_json=args.json)
    if modality is not None:
        session.use(modality, source, args.dates)
    return run(session)


def score(args: argparse.Namespace) -> int:
    from btcchat.eval.card import score_card
    from btcchat.eval.predictions import read_predictions

    read = read_predictions(args.predictions, **_reading(args))
    card = score_card(read, preset=args.preset, baseline=args.baseline, intervals=args.intervals, java=args.java)
    print(json.dumps({"predictions": args.predictions, **card.as_dict()}, ensure_ascii=False) if args.json else card)
    return 0


def compare(args: argparse.Namespace) -> int:
    from btcchat.eval.comparison import comparison, comparison_text
    from btcchat.eval.predictions import read_both

    names = (args.first, args.second)
    result = comparison(*read_both(*names, **_reading(args)), names=names, preset=args.preset, java=args.java)
    print(json.dumps(result, ensure_ascii=False) if args.json else comparison_text(result))
    return 0


def convert_data(args: argparse.Namespace) -> int:
    """One data set into annotation files; every bad row is named, and then nothing is written."""
    from tqdm import tqdm

    from btcchat.data.convert import CONVERTERS, BadRows, convert

    if args.list:
        for kind, converter in CONVERTERS.items():
            print(f"{kind:18}{converter.__doc__.splitlines()[0]}")
        return 0
    if args.out is None:
        args.parser.print_help(sys.stderr)
        raise BTCChatError("data convert needs KIND SRC OUT, or --list")
    with tqdm(unit=" rows", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            written = convert(args.kind, args.src, args.out, splits=args.split, images=args.images, progress=progress)
        except BadRows as error:
            bar.close()
            for fault in error.faults:
                complain(fault)
            count = len(error.faults)
            print(f"btcchat: {count} fault{'s' * (count > 1)} (named above), nothing was written", file=sys.stderr)
            return 2
    counts = ", ".join(f"{count} {split}" for split, count in written.items())
    print(f"btcchat: {counts} records written to {args.out}", file=sys.stderr)
    return 0


def _caption_pairs(args: argparse.Namespace) -> int:
    """Many pairs: every row that can be answered is; the others are named, and the exit code tells."""
    from tqdm import tqdm

    from btcchat.data.pairs import read_pairs
    from btcchat.serve.batch import Answers, caption_pairs

    if args.images or args.example:
        raise BTCChatError("--pairs takes its images from a list; leave out BEFORE AFTER and --example")
    if args.out is None:
        raise BTCChatError("--pairs needs --out FILE.jsonl, where the captions go")
    pairs, faults = read_pairs(args.pairs)
    for fault in faults:
        complain(fault)
    answered, failed = 0, len(faults)
    with Answers(args.out, model=args.model or "tiny") as answers:
        todo = [pair for pair in pairs if pair.key not in answers.done]
        skipped = len(pairs) - len(todo)
        model = load_model(args) if todo else None
        try:
            with tqdm(total=len(pairs), initial=skipped, unit=" pairs", disable=None) as bar:
                for fault in caption_pairs(model, todo, answers, batch_size=args.batch_size, **_generation(args)):
                    answered, failed = answered + (fault is None), failed + (fault is not None)
                    if fault:
                        with tqdm.external_write_mode(file=sys.stderr):
                            complain(fault)
                    bar.update()
        except KeyboardInterrupt:
            print(f"btcchat: stopped; {args.out} is whole, the same command again goes on", file=sys.stderr)
            return 130
    if args.json:
        print(json.dumps({"out": args.out, "answered": answered, "already_there": skipped, "failed": failed}))
    else:
        there = f", {skipped} there already" if skipped else ""
        bad = f", {failed} failed (named above)" if failed else ""
        captions = f"{answered} caption{'s' * (answered != 1)}"
        print(f"btcchat: {captions} written to {args.out}{there}{bad}", file=sys.stderr)
    return 2 if failed else 0


# -- helpers ---------------------------------------------------------------------------------------------------------


def _reading(args: argparse.Namespace) -> dict:
    """How the files of predictions are read; the faults of the options come before those of the files."""
    from btcchat.eval.presets import build_preset

    build_preset(args.preset)
    fields = {name: getattr(args, f"{name}_field") for name in ("id", "prediction", "references", "flag")}
    return {"fields": fields, "references": args.references, "split": args.split, "partial": args.partial}


def _media(args: argparse.Namespace):
    """-> (modality, source), or (None, None) where no media option was given."""
    return next(((name, getattr(args, name)) for name in MEDIA if getattr(args, name) is not None), (None, None))


def _check_dates(args: argparse.Namespace, modality: str | None) -> None:
    if args.dates and modality not in ("pair", "series"):
        raise BTCChatError("--dates go with --pair or --series")


def _checked(modality: str, source):
    """What the model is given. Images are read here: their faults are told before the model is loaded."""
    from btcchat.data.media import existing_file, load_frames

    if modality != "video":
        frames = load_frames(modality, source)
        return frames[0] if modality == "image" else frames
    return source if os.path.isdir(source) else existing_file(source, "video")


def _generation(args: argparse.Namespace) -> dict:
    return {"max_new_tokens": args.max_new_tokens, "temperature": args.temperature, "seed": args.seed}


def _print_answer(args: argparse.Namespace, record: dict, answer: str) -> None:
    print(json.dumps({"model": args.model or "tiny", **record}, ensure_ascii=False) if args.json else answer)


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"btcchat: {self.format(record)}", file=sys.stderr)


@contextmanager
def _notes(verbose: bool, many: bool):
    """Send the package's log to stderr, and keep the libraries below it quiet.

    What was done to the images (stretched, of different size) is told without -v too, but not over many pairs.
    """
    package, data = logging.getLogger("btcchat"), logging.getLogger("btcchat.data")
    handler = _Stderr()
    package.addHandler(handler)
    package.setLevel(logging.INFO if verbose else logging.WARNING)
    data.setLevel(logging.NOTSET if many else logging.INFO)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # its faults come as exceptions too
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        with warnings.catch_warnings():
            # transformers 4.36.2 on a torch of today: _register_pytree_node, resume_download
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        package.removeHandler(handler)
        package.setLevel(logging.NOTSET)
        data.setLevel(logging.NOTSET)
