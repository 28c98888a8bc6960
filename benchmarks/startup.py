"""How long a user waits: for `btcchat --help`, and for the packaged model's first caption in a new process.

    python benchmarks/startup.py

Wall-clock seconds of whole processes, which alternate; medians of five turns after a warm-up turn that fills the disk
cache. The first caption is also given as a multiple of a process that only imports torch and transformers' LLaMA.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

from btcchat.eval.encoders.markdown import table

COMMANDS = [  # (arguments, goal in seconds)
    (["--help"], 0.3),
    (["caption", "--example"], 5.0),
]
IMPORTS = "import torch, transformers.models.llama.modeling_llama"
GOAL = 1.5  # of the last command, relative to a process that only has these imports


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start


def spread(times: list[float]) -> str:
    return f"{times[0]:.2f} to {times[-1]:.2f}"


def find_command() -> str | None:
    """The btcchat command of this Python's environment, active or not, or else the one on the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "btcchat")
    return beside if os.path.exists(beside) else shutil.which("btcchat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each command (default 5)")
    repeats = parser.parse_args().repeats
    btcchat = find_command()
    if btcchat is None:
        sys.exit("the command btcchat is not installed in this environment; install it as in the README")
    commands = [[btcchat, *arguments] for arguments, _ in COMMANDS]
    baseline = [sys.executable, "-W", "ignore", "-c", IMPORTS]
    turns = [[seconds(command) for command in (*commands, baseline)] for _ in range(1 + repeats)][1:]
    *times, imports = (sorted(own) for own in zip(*turns, strict=True))
    rows = []
    for (arguments, goal), own in zip(COMMANDS, times, strict=True):
        median = statistics.median(own)
        verdict = "met" if median < goal else "missed"
        rows.append((f"btcchat {' '.join(arguments)}", f"{median:.2f}", spread(own), f"under {goal}", verdict))
    rows.append((f"python -c '{IMPORTS}'", f"{statistics.median(imports):.2f}", spread(imports), "-", "-"))
    print(table(["command", "seconds, median", "spread", "goal", "result"], rows))
    ratio = statistics.median(last / only for *_, last, only in turns)
    print(f"\n{rows[-2][0]}: {ratio:.2f} times the imports (goal {GOAL}: {'met' if ratio <= GOAL else 'missed'})")
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPU cores, median of {repeats} processes")


if __name__ == "__main__":
    main()
