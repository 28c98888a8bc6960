"""How time and memory grow with the number of pairs and rows, for captions, `data check` and `score`.

    python benchmarks/growth.py                                   # about ten minutes on an idle core
    python benchmarks/growth.py --captions 1000 10000 100000 --scores 1000 10000 100000 1000000

``caption`` runs `btcchat caption --pairs` on a list that repeats the same small files, with a tiny model of random
weights and 4 tokens per caption. ``data check`` reads every row and opens its images. ``score`` computes all measures,
including METEOR by Java. Each size runs in a process of its own. Seconds are CPU seconds, including child processes,
without start-up (the time of a run of a few rows is subtracted). The exponent is the slope of log(seconds) over
log(size) from one size to the next: 1 is linear. Memory is the peak of the process in MiB.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from btcchat.eval.encoders.machine import load_average, machine
from btcchat.eval.encoders.markdown import table
from btcchat.synthetic.start import Sizes, init_model, train_tokenizer

FILES = 100  # different pairs
SMALLEST = 10  # rows of the run that measures start-up
MODEL = Sizes(
    resolution=16, patch=8, vision_width=16, vision_layers=1, vision_heads=2, llm_width=16, llm_layers=1, llm_heads=2,
    llm_hidden=32, vocabulary=300, context=512,
)  # fmt: skip
CORPUS = ["two houses are built .", "USER: ASSISTANT: What changed between the two images?"] * 50
WORDS = (
    "a the two three many some house houses building buildings road roads tree trees bare land forest lake scene "
    "appears appear removed built replaced left right top bottom corner next to of in on with beside between before "
    "after same no change is are has have been new small large parking lot path residential area vegetation"
)
VOCABULARY = WORDS.split()  # words of the captions to score
RUN = """
import resource, sys, json
from btcchat.cli import main
code = main(sys.argv[1:])
own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
seconds = sum(one.ru_utime + one.ru_stime for one in (own, children))
print(json.dumps([code, seconds, own.ru_maxrss / 1024]), file=sys.stderr)
"""


def write_pairs(folder: Path) -> None:
    """Write FILES pairs of images, and the model."""
    for number in range(FILES):
        for date in "AB":
            path = folder / date / f"{number:03d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (16, 16), (number, 99, 255 * (date == "B"))).save(path)
    init_model(train_tokenizer(CORPUS, MODEL.vocabulary, folder / "tokenizer"), MODEL).save_pretrained(folder / "model")


def caption(folder: Path, size: int) -> list[str]:
    names = (f"{n % FILES:03d}.png" for n in range(size))
    lines = [f"{n},A/{name},B/{name}\n" for n, name in enumerate(names)]
    (folder / "pairs.csv").write_text("id,before,after\n" + "".join(lines))
    (folder / "out.jsonl").unlink(missing_ok=True)
    words = f"caption --pairs {folder}/pairs.csv --out {folder}/out.jsonl --model {folder}/model --device cpu"
    return [*words.split(), "--max-new-tokens", "4", "--batch-size", "32"]


def row(number: int) -> dict:
    name = f"{number % FILES:03d}.png"
    texts = [f"{number % 97} houses and a road appear beside the forest ." for _ in range(5)]
    talk = [{"from": "human", "value": "<image>\nWhat changed?"}, {"from": "gpt", "value": texts[0]}]
    images = [f"A/{name}", f"B/{name}"]
    return {"id": str(number), "modality": "pair", "images": images, "captions": texts, "conversations": talk}


def check(folder: Path, size: int) -> list[str]:
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps(row(number)) + "\n" for number in range(size))
    (folder / "sets.yaml").write_text("rows: {annotation: rows.jsonl, captions: random_choice}\n")
    where = f"--data-root {folder} --mixture-folder {folder} --model {folder}/model --workers 0"
    return ["data", "check", "rows", *where.split()]


def score(folder: Path, size: int) -> list[str]:
    with (folder / "predictions.jsonl").open("w") as file:
        for number in range(size):
            draw = random.Random(number)
            prediction, *references = (" ".join(draw.choices(VOCABULARY, k=10)) + " ." for _ in range(6))
            file.write(json.dumps({"id": number, "prediction": prediction, "references": references}) + "\n")
    return ["score", str(folder / "predictions.jsonl"), "--json"]


WORK = {"caption": caption, "data check": check, "score": score}


def measure(folder: Path, kind: str, size: int) -> tuple[float, float]:
    """CPU seconds and peak MiB of one run."""
    command = [sys.executable, "-c", RUN, *WORK[kind](folder, size)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    code, seconds, peak = json.loads(done.stderr.splitlines()[-1])
    if code:
        sys.exit(f"growth.py: error: btcchat {kind} of {size} rows ended with {code}:\n{done.stderr}")
    return seconds, peak


def rows_of(folder: Path, kind: str, sizes: list[int]) -> list[list[str]]:
    start, _ = measure(folder, kind, SMALLEST)
    rows: list[list[str]] = []
    before = None
    for size in sizes:
        seconds, peak = measure(folder, kind, size)
        seconds = max(seconds - start, 1e-3)
        exponent = "" if before is None else f"{math.log(seconds / before[1]) / math.log(size / before[0]):.2f}"
        rows.append([kind, f"{size:,}", f"{seconds:.1f}", f"{size / seconds:,.0f}", exponent, f"{peak:.0f}"])
        print(" ".join(rows[-1]), file=sys.stderr, flush=True)
        before = size, seconds
    return rows


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, numbers = parser.add_argument, {"type": int, "nargs": "*", "metavar": "N"}
    add("--captions", **numbers, default=[1000, 10_000], help="numbers of pairs for `caption` (default 1000 10000)")
    add(
        "--checks",
        **numbers,
        default=[1000, 10_000, 100_000],
        help="numbers of rows for `data check` (default 1000 10000 100000)",
    )
    add(
        "--scores",
        **numbers,
        default=[1000, 10_000, 100_000],
        help="numbers of rows for `score` (default 1000 10000 100000)",
    )
    options = parser.parse_args(words)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        write_pairs(Path(name))
        for kind, sizes in zip(WORK, (options.captions, options.checks, options.scores), strict=True):
            rows += rows_of(Path(name), kind, sizes) if sizes else []
    print(table(["command", "pairs or rows", "CPU seconds", "rows a second", "exponent", "peak, MiB"], rows))
    load = load_average()
    print(f"\n{machine(torch.device('cpu'))}, load {'?' if load is None else f'{load:.1f}'}")


if __name__ == "__main__":
    main()
