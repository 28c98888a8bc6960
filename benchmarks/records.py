"""Memory and time of a large annotation file: checking all its rows, looking for its images, reading single rows.

    python benchmarks/records.py
    python benchmarks/records.py --rows 100000 --formats jsonl parquet

Writes annotation files of pairs with five captions to a temporary folder and opens each in a process of its own, as a
training run does: it checks every row, then looks for each row's images (2,000 empty files, which are not read). Peak
growth is the process's peak memory minus its memory after imports (for Parquet it includes the mapped file, which the
system may drop); kept is what it holds afterwards, without mapped files. Times are CPU times, so that other load on the
machine does not count.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from btcchat.eval.encoders.markdown import table

FORMATS = ("jsonl", "json", "parquet")
READS = 2000  # rows read at random
PAIRS = 1000  # pairs that have files


def row(number: int) -> dict:
    name = f"train_{number % PAIRS:07d}.png"
    captions = [f"{number % 97} houses and a road appear on the bare land beside the forest ." for _ in range(5)]
    question = "<image>\nPlease briefly describe the changes in these two images."
    talk = [{"from": "human", "value": question}, {"from": "gpt", "value": captions[0]}]
    images = [f"images/train/A/{name}", f"images/train/B/{name}"]
    return {"id": name, "modality": "pair", "images": images, "captions": captions, "conversations": talk}


def write(path: Path, rows: int) -> None:
    """Write the annotation file, and its images beside it."""
    for image in (path.parent / image for number in range(min(rows, PAIRS)) for image in row(number)["images"]):
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        writer = None
        for start in range(0, rows, 10_000):
            part = pa.Table.from_pylist([row(i) for i in range(start, min(start + 10_000, rows))])
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part)
        writer.close()
        return
    array = path.suffix == ".json"
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n" if array else "")
        for number in range(rows):
            file.write(json.dumps(row(number)) + (",\n" if array and number < rows - 1 else "\n"))
        file.write("]\n" if array else "")


def status(key: str) -> float:
    """The value of a line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def measure(path: Path) -> dict:
    """Run in the child process: open the file as a mixture and read rows at random."""
    from btcchat.data.mixture import build_datasets
    from btcchat.data.records.rows import open_rows

    with tempfile.TemporaryDirectory() as folder:  # imports on first use are not counted
        small = Path(folder, f"small{path.suffix}")
        write(small, 10)
        list(open_rows(small).scan())
    yaml = path.with_suffix(".yaml")
    yaml.write_text(f"big: {{annotation: '{path}', captions: random_choice}}")
    before, anonymous, start = status("VmRSS"), status("RssAnon"), time.process_time()
    mixture = build_datasets(str(yaml), lambda record: record, data_root=path.parent)
    opened = time.process_time() - start
    start = time.process_time()
    mixture.sets[0].records.check_files(np.ones(len(mixture), bool))
    looked = time.process_time() - start
    lengths = mixture.lengths(lambda modality, frames, characters: characters)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kept = status("RssAnon") - anonymous
    draw, start = random.Random(0), time.process_time()
    for _ in range(READS):
        mixture[0, draw.randrange(len(mixture))]
    read = (time.process_time() - start) / READS
    times = {"seconds": opened, "looked": looked, "read": read}
    return {"rows": len(lengths), "peak": peak - before, "kept": kept, **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each file (default 1000000)")
    parser.add_argument("--formats", nargs="+", default=["jsonl"], choices=FORMATS, help="(default jsonl)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.formats:
            path = Path(folder, f"rows.{kind}")
            write(path, args.rows)
            size = path.stat().st_size / 2**20
            command = [sys.executable, __file__, "--measure", str(path)]
            environment = os.environ | {"HF_HOME": folder}  # the cache of `datasets` is deleted with the folder
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            found = json.loads(done.stdout.splitlines()[-1])
            figures = [f"{found['peak']:.0f}", f"{found['kept']:.0f}", f"{found['seconds']:.1f}"]
            figures += [f"{found['looked']:.1f}", f"{found['read'] * 1e6:.0f}"]
            lines.append([kind, f"{found['rows']:,}", f"{size:.0f}", *figures])
            path.unlink()
    head = [
        "format",
        "rows",
        "file, MiB",
        "peak growth, MiB",
        "kept, MiB",
        "CPU seconds to open",
        "to look for images",
        "CPU microseconds a row",
    ]
    print(table(head, lines))
    print(f"\nPython {platform.python_version()}, {os.cpu_count()} CPU cores, every row checked")


if __name__ == "__main__":
    main()
