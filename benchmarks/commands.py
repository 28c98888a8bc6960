"""Time `btcchat caption --pairs` and `btcchat eval` here and at an earlier commit, start-up excluded.

    git worktree add --detach /tmp/before a2a9ac3
    python benchmarks/commands.py --before /tmp/before

caption   captions of the pairs, with the packaged model
eval      the same pairs with change maps, masks, baselines and all scores, with the packaged model
large     the same with random weights in bfloat16 and at most 40 new tokens: the packaged model's tower and a LLaMA of
          the size of SmolLM2-135M (30 layers, width 576, 9 heads, 3 key/value heads, feed-forward 1536, 49,152 words)
two       `eval` with one process and with two (torchrun), each with one thread; on this version only

The pairs are the first --pairs, sorted by id, of a subset of LEVIR-CC (a non-standard split); the baselines use the
rest of it. Each command runs in a process of its own and is timed from the moment its model is loaded to its end. The
two versions alternate, after an uncounted turn that fills the caches of the disk and of METEOR. Figures are medians.
--clock cpu counts CPU seconds instead of wall-clock seconds, for a machine that is also used by others; it does not
show what a version gains by reading images while it computes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from btcchat import BTCChat
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.data.convert.base import captioned_pair
from btcchat.eval.encoders.machine import load_average, machine
from btcchat.eval.encoders.markdown import table
from random_model import random_model

HERE = Path(__file__).resolve().parents[1]
GOALS = {"caption": 2.4, "eval": 2.3, "large": 3.0, "two": 1.8}
# Runs a command, and prints how long it took after its model was loaded.
TIMED = """
import os, sys, time
from btcchat.commands import options
def now():
    return time.perf_counter() if CLOCK == "wall" else sum(os.times()[:4])  # this process and its finished children
load, loaded, begin = options.load_model, [], now()
def timed(*arguments, **named):
    model = load(*arguments, **named)
    loaded.append(now())
    return model
from btcchat.cli import main
for module in [module for name, module in sys.modules.items() if name.startswith("btcchat.")]:
    if getattr(module, "load_model", None) is load:
        module.load_model = timed
status = main(sys.argv[1:])
print(f"\\nSECONDS {now() - loaded[0]} {loaded[0] - begin}", file=sys.stderr)
sys.exit(status)
"""
SMOLLM2 = {
    "model_type": "llama",
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 1024,
    "tokenizer_model_max_length": 1024,
    "tie_word_embeddings": True,
}


def write_sets(real: Path, count: int, folder: Path) -> None:
    """sets.yaml with ``pairs`` and the ``rest``, and list.csv of the pairs."""
    images = json.loads((real / "LevirCCcaptions.json").read_text())["images"]
    rows = []
    for image in sorted(images, key=lambda image: image["filename"]):
        name, split = Path(image["filename"]).stem, real / "images" / image["filepath"]
        files = [f"A/{image['filename']}", f"B/{image['filename']}", f"label/{name}.png"]
        places = [str(split / file) for file in files]
        captions = [" ".join(sentence["tokens"]) for sentence in image["sentences"]]
        rows.append(captioned_pair(name, *places[:2], captions, image["changeflag"], mask=places[2]))
    parts = {"pairs": rows[:count], "rest": rows[count:]}
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "sets.yaml").write_text(yaml.safe_dump({name: {"annotation": f"{name}.jsonl"} for name in parts}))
    lines = ["before,after,id", *(",".join([*row["images"], row["id"]]) for row in parts["pairs"])]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")


def write_large(folder: Path) -> None:
    """Write the checkpoint of ``large``; it writes only words of its tokenizer, and never ends an answer."""
    tiny = BTCChat.from_pretrained(dtype="float32").config
    config = BTCChatConfig(
        llm=SMOLLM2,
        vision_tower=tiny.vision_tower,
        change_encoder=tiny.change_encoder,
        mm_projector=tiny.mm_projector,
        mm_vision_select_layer=tiny.mm_vision_select_layer,
    )
    model = random_model(config, torch.bfloat16)
    words = model.llm.get_input_embeddings().weight.data
    words[[*range(3), *range(len(model.tokenizer), len(words))]] = 0
    model.save_pretrained(folder)


def commands(folder: Path, out: Path) -> dict[str, list[str]]:
    """Case -> the arguments of its command, which writes into ``out``."""
    sets = ["--mixture-folder", str(folder), "--data-root", str(folder), "--train", "rest", "--masks"]
    sets += ["--mask-threshold", "0.3", "--out", str(out / "run")]
    large = ["--dtype", "bfloat16", "--max-new-tokens", "40"]
    return {
        "caption": ["caption", "--pairs", str(folder / "list.csv"), "--out", str(out / "captions.jsonl")],
        "eval": ["eval", "tiny", "pairs", *sets],
        "large": ["eval", str(folder / "large"), "pairs", *sets, *large],
    }


def seconds(words: list[str], checkout: Path, clock: str, processes: int = 0) -> tuple[float, float]:
    """Seconds after the model was loaded, and before."""
    code = f"CLOCK = {clock!r}{TIMED}"
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONWARNINGS": "ignore"}
    launcher = [sys.executable, "-c", code]
    if processes:
        environment |= {"OMP_NUM_THREADS": "1"}
        with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as file:
            file.write(code)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
        launcher = [*torchrun, file.name]
    done = subprocess.run([*launcher, *words], cwd=checkout, env=environment, capture_output=True, text=True)
    if processes:
        os.unlink(file.name)
    lines = [line.split()[-2:] for line in done.stderr.splitlines() if "SECONDS " in line]
    if done.returncode or len(lines) != max(1, processes):
        raise SystemExit(f"{' '.join(words)} in {checkout} failed:\n{done.stderr[-2000:]}")
    return max(float(after) for after, _ in lines), max(float(before) for _, before in lines)


def measure(case: str, folder: Path, args: argparse.Namespace) -> list[list[tuple[float, float]]]:
    """For each turn, (seconds, start-up) of the earlier and of this version (``two``: of one and of two processes)."""
    found = []
    for turn in range(1 - args.uncounted, 1 + args.turns):
        own = []
        for place in range(2):
            with tempfile.TemporaryDirectory() as out:
                words = commands(folder, Path(out))
                if case == "two":
                    own.append(seconds(words["eval"], HERE, "wall", processes=1 + place))
                else:
                    own.append(seconds(words[case], HERE if place else args.before.resolve(), args.clock))
        if turn > 0:
            found.append(own)
        print(f"{case}, turn {turn}: {own[0][0]:.1f} and {own[1][0]:.1f} s", file=sys.stderr, flush=True)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--before", type=Path, required=True, help="checkout of the commit to compare with")
    add(
        "--real",
        type=Path,
        default=HERE.parent / "shared/data/levir_cc_subset",
        help="subset of LEVIR-CC (default: ../shared)",
    )
    add("--pairs", type=int, default=244, help="number of pairs (default 244)")
    add("--cases", nargs="+", choices=GOALS, default=list(GOALS), help="(default all)")
    add("--turns", type=int, default=3, help="counted turns (default 3)")
    add("--uncounted", type=int, default=1, help="turns before these, which fill caches (default 1)")
    add(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="seconds to count (default wall; `two` always uses wall)",
    )
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sets(args.real.resolve(), args.pairs, folder)
        if "large" in args.cases:
            write_large(folder / "large")
        for case in args.cases:
            turns = measure(case, folder, args)
            first, second = ([turn[place] for turn in turns] for place in range(2))
            times = [statistics.median(seconds for seconds, _ in way) for way in (first, second)]
            starts = [statistics.median(start for _, start in way) for way in (first, second)]
            ratio = statistics.median(slow[0] / fast[0] for slow, fast in turns)
            ways = "one process, two" if case == "two" else "before, here"
            cells = [f"{times[0]:.1f}, {times[1]:.1f}", f"{starts[0]:.1f}, {starts[1]:.1f}", f"{ratio:.2f}x"]
            rows.append([case, ways, *cells, f"{GOALS[case]}x {'met' if ratio >= GOALS[case] else 'missed'}"])
    print(table(["case", "ways", f"{args.clock} seconds", "start-up, s", "ratio", "goal"], rows))
    print(f"\n{args.pairs} pairs, {args.turns} turns; {machine(torch.device('cpu'))}; load {load_average()}")


if __name__ == "__main__":
    main()
