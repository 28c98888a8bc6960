"""Compare this package with the numbers of the published code, and print one row per set.

    python benchmarks/golden.py ../shared/golden

Needs a folder of golden sets. Sizes, seeds, layers and heads come from its files. The exit status is 1 if a comparison
fails or if there is no set.

To add a kind of set, write a function in golden_sets/ that takes its path and yields comparisons, and add it to
``CHECKS``.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from btcchat import BTCChatError
from golden_sets.ccexpert import ccexpert_checkpoint, resampler
from golden_sets.checkpoint import checkpoint
from golden_sets.common import EXACT, Comparison
from golden_sets.parts import attentive, downsample, projector, siglip
from golden_sets.preprocess import preprocess

CHECKS = {
    "unirs/attentive*": attentive,
    "unirs/projector/*": projector,
    "unirs/downsample/*": downsample,
    "unirs/siglip*": siglip,
    "unirs/checkpoint_golden*.json": checkpoint,
    "unirs/preprocess*.json": preprocess,
    "ccexpert/resampler*": resampler,
    "ccexpert/checkpoint_golden*.json": ccexpert_checkpoint,
}


def run(folder: Path) -> Iterator[tuple[str, list[Comparison]]]:
    """(name, comparisons) of every set in ``folder``; a set that cannot be compared has one failed comparison."""
    for pattern, check in CHECKS.items():
        for path in sorted(folder.glob(pattern)):
            try:
                rows = list(check(path))
            except (BTCChatError, KeyError, RuntimeError, OSError) as fault:
                rows = [Comparison(f"{type(fault).__name__}: {str(fault).splitlines()[0]}", float("inf"), EXACT)]
            yield str(path.relative_to(folder)), rows


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the golden sets, which has unirs/ and ccexpert/")
    parser.add_argument(
        "--all", action="store_true", help="print every comparison, not only the worst and the failed ones of each set"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # with several, torch 2.13 may compute one thread's share in low precision
    total = failed = 0
    print(f"{'set':<32}{'compared':>8}  {'the worst of them':<34}{'largest error':>14}{'tolerance':>11}  result")
    for name, rows in run(options.folder):
        total += len(rows)
        failed += sum(not row.passed for row in rows)
        worst = max(rows, key=lambda row: (not row.passed, row.used))
        print(f"{name:<32}{len(rows):>8}  {worst.columns()}", flush=True)
        for row in rows:
            if options.all or (row is not worst and not row.passed):
                print(f"{'':<42}{row.columns()}")
    if not total:
        print(f"{options.folder} has no golden set; expected e.g. {options.folder}/unirs/attentive_n0")
        return 1
    print(f"{total - failed} of {total} comparisons pass")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
