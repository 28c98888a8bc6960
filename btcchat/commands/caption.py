"""``btcchat caption``: describe what changed in one pair or in many."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from btcchat.commands import options
from btcchat.commands.options import (
    RAW,
    Commands,
    add_model,
    at_least_1,
    check_clues,
    clue_of,
    clue_source,
    complain,
    complaint,
    generation,
    print_answer,
)
from btcchat.console.ending import SOME_FAILED
from btcchat.console.messages import say
from btcchat.decoding.options import GenerationOptions
from btcchat.errors import BTCChatError
from btcchat.outputs.ours import check_replaceable, is_drawn_map

EXAMPLE = Path(__file__).parents[1] / "assets" / "example"
ONE_IMAGE = 'btcchat ask "Describe the scene." --image FILE'
CAPTION = """\
Caption what changed between two dates, for one pair or for many.

  btcchat caption before.png after.png
  btcchat caption before.png after.png --change-map where.png
  btcchat caption --example                              the packaged example pair
  btcchat caption --pairs list.csv --out answers.jsonl   columns before,after[,id]; paths relative to the list
  btcchat caption --pairs folder --out answers.jsonl     subfolders A (before) and B (after), with matching file names

If the command is interrupted, run it again: it skips the pairs that --out already has."""


def add(commands: Commands) -> None:
    about = "describe what changed in one pair of images, or in many"
    parser = commands.add_parser("caption", help=about, description=CAPTION, **RAW)
    parser.add_argument(
        "images",
        nargs="*",
        metavar="BEFORE AFTER",
        help="the two images, the earlier one first: PNG, JPEG, TIFF, WebP, ...",
    )
    parser.add_argument("--example", action="store_true", help="caption the packaged example pair")
    parser.add_argument("--change-map", metavar="PNG", help="also draw where it changed, over the later image")
    parser.add_argument("--pairs", metavar="LIST", help="a CSV of pairs, or a folder with subfolders A and B")
    parser.add_argument(
        "--out", metavar="FILE", help="with --pairs: a file of JSON lines, one for each pair; it is appended to"
    )
    parser.add_argument(
        "--batch-size", type=at_least_1, default=16, metavar="N", help="batch size in pairs (default 16)"
    )
    add_model(parser, run)


def run(args: argparse.Namespace) -> int:
    from btcchat.media.frames import load_frames

    check_clues(args)
    answering = generation(args)
    if args.pairs is not None:
        return _caption_pairs(args)
    if args.out is not None:
        raise BTCChatError("--out needs --pairs; a single caption is printed")
    if args.images and args.example:
        raise BTCChatError("give either BEFORE AFTER or --example")
    images = [EXAMPLE / "before.png", EXAMPLE / "after.png"] if args.example else args.images
    if not images:
        args.parser.print_help(sys.stderr)
        raise BTCChatError("caption needs BEFORE AFTER, or --pairs with --out, or --example")
    if len(images) == 1:
        raise BTCChatError(f"got 1 image ({images[0]}), but a caption needs 2 (BEFORE AFTER); for one, use {ONE_IMAGE}")
    map_path = _map_path(args, images)
    if args.example:
        say(f"captioning the packaged example: {images[0]} (before), {images[1]} (after)")
    before, after = load_frames("pair", images, reading=options.reading(args))
    model = options.load_model(args)
    clue = clue_of(args, model, "pair", images, [before, after])
    answer = model.caption(before, after, **clue, **answering)
    record = {"before": str(images[0]), "after": str(images[1]), **clue, "caption": answer}
    if map_path is not None:
        from btcchat.change_encoder.change_map import save_overlay

        save_overlay(model.change_map(before, after), after, map_path)
        record["change_map"] = str(map_path)
    print_answer(args, record, answer)
    return 0


def _map_path(args: argparse.Namespace, images: Sequence[str | Path]) -> Path | None:
    if args.change_map is None:
        return None
    path = Path(args.change_map)
    if path.suffix.lower() != ".png":
        raise BTCChatError(f"--change-map {path}: the map is a PNG; use a name that ends in .png")
    if not path.parent.is_dir():
        raise BTCChatError(f"the folder of --change-map does not exist: {path.parent}")
    check_replaceable(path, "--change-map", is_drawn_map, inputs=images)
    return path


def _answer_flags(args: argparse.Namespace, writing: GenerationOptions) -> dict[str, Any]:
    """The flags that decide what is answered, without those at their defaults."""
    default = GenerationOptions()
    given = {name: value for name, value in vars(writing).items() if value != getattr(default, name)}
    if args.prompt_augmentation != "off":
        given["prompt_augmentation"] = args.prompt_augmentation
    others = {name: getattr(args, name) for name in ("clues", "clue_model", "quantize")}
    return given | {name: value for name, value in others.items() if value is not None}


def _caption_pairs(args: argparse.Namespace) -> int:
    """Caption every pair of a list; name those that fail, and return an exit code for failures."""
    from btcchat.console.progress import Progress
    from btcchat.data.pairs import read_pairs
    from btcchat.serve.batch import Answers, caption_pairs

    if args.images or args.example:
        raise BTCChatError("--pairs takes its images from a list; leave out BEFORE AFTER and --example")
    if args.change_map is not None:
        raise BTCChatError("--change-map works for one pair only; leave out --pairs")
    if args.out is None:
        raise BTCChatError("--pairs needs --out FILE.jsonl for the captions")
    reading = options.reading(args)
    pairs, faults = read_pairs(args.pairs)
    for fault in faults:
        complain(fault)
    answered, failed = 0, len(faults)
    writing = GenerationOptions(**generation(args))
    flags = _answer_flags(args, writing)
    with Answers(args.out, model=args.model or "tiny", reading=reading, options=flags) as answers:
        todo = [pair for pair in pairs if pair.key not in answers.done]
        skipped = len(pairs) - len(todo)
        captions: Iterable[str | None] = ()
        if todo:
            model = options.load_model(args)
            clues = clue_source(args, model)
            captions = caption_pairs(model, todo, answers, writing, batch_size=args.batch_size, clues=clues)
        try:
            with Progress("pairs", len(pairs), done=skipped) as progress:
                for reason in captions:
                    answered, failed = answered + (reason is None), failed + (reason is not None)
                    if reason:
                        progress.print(complaint(reason))
                    progress.update()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; {args.out} is complete so far. Run the same command again to resume"
            ) from None
    if args.json:
        counts = {"answered": answered, "already_there": skipped, "failed": failed}
        print(json.dumps({"out": args.out, **counts, **reading.record()}))
    else:
        there = f", {skipped} already there" if skipped else ""
        bad = f", {failed} failed (listed above)" if failed else ""
        count = f"{answered} caption{'s' * (answered != 1)}"
        say(f"{count} written to {args.out}{there}{bad}")
    return SOME_FAILED if failed else 0
