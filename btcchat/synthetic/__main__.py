"""``python -m btcchat.synthetic --out DIR --pairs N --images N --series N --videos N --seed S [--heldout]``"""

import sys

from btcchat.console import ending
from btcchat.console.parser import HelpParser
from btcchat.console.progress import Progress
from btcchat.console.signals import clean_exit
from btcchat.synthetic.write import SampleCounts, write_dataset


@clean_exit
def main(argv: list[str] | None = None) -> int:
    return ending.run(lambda: _write(argv), lambda message: print(f"btcchat: error: {message}", file=sys.stderr))


def _write(argv: list[str] | None) -> int:
    parser = HelpParser(prog="python -m btcchat.synthetic", description="Write a synthetic data set.")
    parser.add_argument("--out", required=True, help="folder to create")
    for name in ("pairs", "images", "series", "videos"):
        parser.add_argument(f"--{name}", type=int, default=0, help=f"number of {name} (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="data sets with different seeds share no sample")
    parser.add_argument("--heldout", action="store_true", help="held-out scenes: other layouts and other colours")
    parser.add_argument(
        "--workers", type=int, default=2, help="number of processes; the result is the same for any number"
    )
    args = parser.parse_args(argv)
    counts = SampleCounts(args.pairs, args.images, args.series, args.videos)
    with Progress("samples") as progress:
        out = write_dataset(
            args.out,
            counts,
            seed=args.seed,
            heldout=args.heldout,
            workers=args.workers,
            progress=progress.reach,
        )
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
