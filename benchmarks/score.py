"""Score a test set with btcchat and with pycocoevalcap, used as in its README, in the same run.

    python benchmarks/score.py ../shared/data/predictions/CCExpert_7b_LEVIR-CC_infer_results.txt

Both score the same texts with BLEU-1 to 4, METEOR, ROUGE-L and CIDEr-D. For the library that is COCOEvalCap.evaluate
without SPICE (which is not used in this field, and downloads a parser): for `ptb` its tokeniser, then its scorers one
after the other; for `levir-cc` its scorers on the split texts. For btcchat it is `count_captions`, without the second
METEOR (of word numbers) that `btcchat score` prints for `levir-cc`. Seconds are wall-clock, the best of --repeats, with
the same Java for both; CPU seconds, including Java's, are given as well, for machines that do other work.
"""

import argparse
import contextlib
import io
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable

from btcchat.eval.captions.java import find_java
from btcchat.eval.captions.predictions import read_predictions
from btcchat.eval.captions.presets import PRESETS
from btcchat.eval.captions.score import count_captions
from btcchat.eval.encoders.markdown import table


def library(predictions: list[str], references: list[list[str]], preset: str) -> list[float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    if preset == "ptb":
        tokenizer = PTBTokenizer()
        truth = tokenizer.tokenize({i: [{"caption": text} for text in one] for i, one in enumerate(references)})
        predicted = tokenizer.tokenize({i: [{"caption": text}] for i, text in enumerate(predictions)})
    else:
        rule = PRESETS[preset].apply
        truth, predicted = (
            {i: rule(one) for i, one in enumerate(references)},
            {i: rule([p]) for i, p in enumerate(predictions)},
        )
    bleu, meteor, rouge, cider = (
        one.compute_score(truth, predicted)[0] for one in (Bleu(4), Meteor(), Rouge(), Cider())
    )
    return [100 * value for value in (*bleu, meteor, rouge, cider)]


def ours(predictions: list[str], references: list[list[str]], preset: str) -> list[float]:
    counts = count_captions(predictions, references, preset=preset, parts={"these": range(len(predictions))})
    return counts["these"].scores()[:7].tolist()


def timed(function: Callable, *arguments) -> tuple[list[float], float, float]:
    """(result, wall-clock seconds, CPU seconds including finished child processes)."""
    start, before = time.perf_counter(), _processor_seconds()
    with contextlib.redirect_stdout(io.StringIO()):  # pycocoevalcap prints its counts
        result = function(*arguments)
    return result, time.perf_counter() - start, _processor_seconds() - before


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", help="file of JSON lines, as for btcchat score")
    parser.add_argument(
        "--presets",
        nargs="+",
        default=["levir-cc", "ptb"],
        choices=["levir-cc", "ptb", "raw"],
        help="text conventions (default levir-cc ptb)",
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the best counts (default 3)")
    arguments = parser.parse_args(argv)
    java = find_java()
    os.environ["PATH"] = f"{os.path.dirname(java)}{os.pathsep}{os.environ['PATH']}"  # pycocoevalcap calls `java`
    rows = read_predictions(arguments.predictions).rows
    predictions, references = [row.prediction for row in rows], [list(row.references) for row in rows]
    lines, met = [], True
    for preset in arguments.presets:
        runs = {function: [timed(function, predictions, references, preset) for _ in range(arguments.repeats)]
                for function in (library, ours)}  # fmt: skip
        (theirs, wall, processor), (mine, our_wall, our_processor) = (
            min(one, key=lambda run: run[1]) for one in runs.values()
        )
        apart = max(abs(a - b) for a, b in zip(theirs, mine, strict=True))
        met = met and wall / our_wall >= 2 and apart < 1e-3
        lines.append((preset, f"{wall:.1f}", f"{our_wall:.1f}", f"{wall / our_wall:.1f}x", f"{processor:.1f}",
                      f"{our_processor:.1f}", f"{processor / our_processor:.1f}x", f"{apart:.5f}"))  # fmt: skip
    head = [
        "preset",
        "pycocoevalcap, s",
        "btcchat, s",
        "faster",
        "pycocoevalcap, CPU s",
        "btcchat, CPU s",
        "CPU ratio",
        "largest difference",
    ]
    print(table(head, lines))
    first = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    count = len(references[0])
    print(f"\n{len(rows)} predictions x {count} references, best of {arguments.repeats}; scores x100. {first}, "
          f"Python {platform.python_version()}, {os.cpu_count()} CPU cores")  # fmt: skip
    print(f"goal: at least 2x faster, equal to 0.001: {'met' if met else 'missed'}")


if __name__ == "__main__":
    main()
