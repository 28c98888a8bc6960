"""Check and measure everything that btcchat does on a GPU with one command, in at most six minutes.

    python benchmarks/gpu.py --pack .gpu                    # here: collect what a machine without a network needs
    python benchmarks/gpu.py --packed .gpu --out gpu.md     # there: run all rows; the report is written after each
    python benchmarks/gpu.py --golden ../shared/golden      # on a machine with all packages
    python benchmarks/gpu.py --tiny                         # small models on the CPU, to try the script

The most valuable rows come first. Each runs in a process of its own with a time limit; if it fails, the report has its
error and the log beside the report its output. docs/gpu.md explains the rows. The exit status is 1 if any row failed or
none was completed.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from gpu_rows import pack
from gpu_rows.child import Result, Row, run_row
from gpu_rows.setting import Setting

HERE = Path(__file__).resolve().parent
LEAST = 10  # seconds that must be left to start a row

ROWS = (
    Row("versions", "Versions and the card", 40, "gpu_rows.versions:measure"),
    Row("golden", "Golden numbers", 60, "gpu_rows.golden_numbers:measure"),
    Row("decoding", "Recorded steps of decoding", 40, "gpu_rows.decoding:measure"),
    Row("captions-3b", "Captions, BTCChat 3B", 60, "gpu_rows.captions:measure", {"size": "3b"}),
    Row("train", "Training step of the 3B's language model", 60, "gpu_rows.training:whole"),
    Row("captions-7b", "Captions, CCExpert 7B", 60, "gpu_rows.captions:measure", {"size": "7b"}),
    Row("captions-mid", "Captions, mid-size model", 40, "gpu_rows.captions:measure", {"size": "mid"}),
    Row("lora", "The same with LoRA", 40, "gpu_rows.training:lora"),
    Row("qlora", "The same with QLoRA, 4 bits", 50, "gpu_rows.training:qlora"),
    Row("quantized", "Weights in 8 and 4 bits", 60, "gpu_rows.quantized:measure"),
    Row("attention", "Attention of the 3B's language model", 30, "gpu_rows.attention:measure"),
    Row("nccl", "One process of a distributed run", 30, "gpu_rows.one_process:exchange"),
    Row("ddp", "A training run under torchrun's environment", 45, "gpu_rows.one_process:ddp"),
    Row("deepspeed", "The same with DeepSpeed ZeRO-2", 60, "gpu_rows.one_process:zero2"),
)


def run(rows: Sequence[Row], setting: Setting, out: Path, seconds: float) -> list[Result]:
    """Run the rows one after another, for at most ``seconds`` in total, and write the report after each."""
    begin, results = time.perf_counter(), []
    out.parent.mkdir(parents=True, exist_ok=True)
    log = out.with_suffix(".log")
    log.write_text("", encoding="utf-8")
    for row in rows:
        left = seconds - (time.perf_counter() - begin)
        if left < LEAST:
            result = Result(row, f"not run: the limit of {seconds / 60:g} minutes is reached")
        else:
            result = run_row(row, setting, min(row.limit, left))
        results.append(result)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"== {row.name}: {result.outcome}\n{result.log}\n")
        waiting = [Result(row, "waiting") for row in rows[len(results) :]]
        write(out, report([*results, *waiting], setting, time.perf_counter() - begin))
        print(f"{row.name:<14}{result.seconds:>6.1f} s  {result.outcome}", flush=True)
    return results


def report(results: Sequence[Result], setting: Setting, seconds: float) -> str:
    """The report: first the outcomes of all rows, then what each measured."""
    lines = ["# btcchat on a GPU" if not setting.tiny else "# benchmarks/gpu.py --tiny: toy models on a CPU", ""]
    lines += [f"`python benchmarks/gpu.py {shlex.join(sys.argv[1:])}`, {seconds:.0f} s", ""]
    lines += ["| row | outcome | seconds | limit |", "| --- | --- | --- | --- |"]
    for one in results:
        lines.append(f"| {one.row.name} | {cell(one.outcome)} | {one.seconds:.1f} | {one.row.limit:g} |")
    for one in results:
        if one.text or one.failed:
            lines += ["", f"## {one.row.title}", ""]
            lines += [f"**{one.outcome}**", ""] * one.failed + [one.text.strip()]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def write(out: Path, text: str) -> None:
    """Write the whole file or nothing, even if the machine is taken away meanwhile."""
    part = out.with_name(out.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(out)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, names = parser.add_argument, [row.name for row in ROWS]
    add(
        "--out",
        type=Path,
        default=Path("gpu.md"),
        metavar="FILE",
        help="the report; its log is beside it (default gpu.md)",
    )
    add(
        "--rows",
        nargs="+",
        choices=names,
        default=names,
        metavar="ROW",
        help=f"rows to run (default all): {', '.join(names)}",
    )
    add("--minutes", type=float, default=6, metavar="N", help="limit for all rows together (default 6)")
    add("--golden", type=Path, metavar="FOLDER", help="folder of the golden sets, which has unirs/ and ccexpert/")
    add("--packed", type=Path, metavar="FOLDER", help="use a folder that --pack wrote")
    add("--pack", type=Path, metavar="FOLDER", help="only write golden sets and wheels to this folder")
    add("--tiny", action="store_true", help="small models on the CPU, to try the script")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    try:
        if options.pack is not None:
            print(pack.make(options.pack, options.golden or HERE.parent.parent / "shared" / "golden"))
            return 0
        with TemporaryDirectory(prefix="gpu-pack-") as folder:
            golden, packages = options.golden, []
            if options.packed is not None:
                carried, unpacked = pack.unpack(options.packed, Path(folder))
                golden, packages = golden or carried, [str(unpacked)]
            paths = [*packages, str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
            os.environ["PYTHONPATH"] = os.pathsep.join(paths)
            os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # as in training
            setting = Setting(options.tiny, "" if golden is None else str(golden.resolve()))
            rows = [row for row in ROWS if row.name in options.rows]
            results = run(rows, setting, options.out, 60 * options.minutes)
    except pack.PackError as error:
        sys.exit(f"gpu.py: error: {error}")
    print(f"the report is {options.out}")
    return int(any(result.failed for result in results) or all(result.outcome != "done" for result in results))


if __name__ == "__main__":
    sys.exit(main())
