"""How long a user waits: for `btcchat --help`, and for the packaged model's first caption in a new process.

    python benchmarks/startup.py

Wall-clock seconds of whole processes, median of five after one that is not counted (it fills the disk cache).
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


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start


def find_command() -> str | None:
    """The btcchat of this Python's environment, active or not, else the one on the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "btcchat")
    return beside if os.path.exists(beside) else shutil.which("btcchat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each command")
    repeats = parser.parse_args().repeats
    btcchat = find_command()
    if btcchat is None:
        sys.exit("the command btcchat is not installed here; run README's install command first")
    rows = []
    for arguments, goal in COMMANDS:
        seconds([btcchat, *arguments])
        times = sorted(seconds([btcchat, *arguments]) for _ in range(repeats))
        median = statistics.median(times)
        spread = f"{times[0]:.2f} to {times[-1]:.2f}"
        verdict = "met" if median < goal else "missed"
        rows.append((f"btcchat {' '.join(arguments)}", f"{median:.2f}", spread, f"under {goal}", verdict))
    print(table(["command", "seconds, median", "spread", "goal", "result"], rows))
    print(f"\nPython {platform.python_version()}, {os.cpu_count()} CPU cores, median of {repeats} processes")


if __name__ == "__main__":
    main()
