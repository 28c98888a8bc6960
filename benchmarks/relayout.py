"""Peak memory of `btcchat import llava-next` and `btcchat export --llava-next`, against the size of a shard.

    python benchmarks/relayout.py NEW_FOLDER

Creates NEW_FOLDER, writes a model of random weights there in shards (about 0.9 GB, plus two copies), and converts it
from our layout to the other and back, each in a fresh process. Then compares every weight and removes NEW_FOLDER.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from btcchat.checkpoint.relayout import export_llava_next, import_llava_next
from btcchat.checkpoint.weights import Weights
from btcchat.eval.encoders.markdown import table
from btcchat.files import write_json
from btcchat.synthetic.start import Sizes, init_model, train_qwen2_tokenizer

LIMIT = 2  # maximum number of shards in memory: the largest, and one more
SIZES = Sizes(llm_width=1024, llm_hidden=4096, llm_heads=8, llm_layers=12)


def write(folder: Path, shard: str) -> None:
    """Write a model in our layout, and a folder with its tower's config.json."""
    tokenizer = train_qwen2_tokenizer([], 300)
    model = init_model(
        tokenizer,
        SIZES,
        llm="qwen2",
        change_encoder={"change_encoder_type": "difference_aware"},
        mm_projector={"mm_projector_type": "mlp2x_gelu"},
        mm_vision_select_layer=[-3, -2],
        conv_version="qwen_1_5",
    )
    model.save_pretrained(folder / "ours", max_shard_size=shard)
    write_json(folder / "tower" / "config.json", dict(model.vision_tower.config))


def step(name: str, folder: Path) -> dict:
    """Convert in one direction, in this process, which has done nothing else. -> bytes and seconds."""
    before, start = _memory("VmRSS"), time.perf_counter()
    if name == "export":
        export_llava_next(folder / "ours", folder / "published", vision_tower=str(folder / "tower"))
    else:
        import_llava_next(folder / "published", folder / "again")
    return {"peak": _memory("VmHWM") - before, "before": before, "seconds": time.perf_counter() - start}


def same(first: Path, second: Path) -> bool:
    """Whether all weights of the two folders are bit-equal."""
    for part in ("llm", "vision_tower", "mm_projector"):
        ours, theirs = dict(Weights.of(first / part).read()), dict(Weights.of(second / part).read())
        if ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in ours):
            return False
    return True


def _memory(field: str) -> int:
    """Resident memory of this process in bytes, including mapped files: VmRSS is the current, VmHWM the peak value."""
    status = Path("/proc/self/status")
    if not status.exists():
        sys.exit("relayout.py reads its memory from /proc/self/status, which exists only on Linux; run it there")
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="NEW_FOLDER", help="created for the run, and removed at the end")
    parser.add_argument("--shard", default="100MB", help="maximum size of the model's shards (default 100MB)")
    parser.add_argument("--step", choices=("write", "export", "import"), help=argparse.SUPPRESS)  # a fresh process
    options = parser.parse_args()
    if options.step == "write":
        write(options.folder, options.shard)
        return 0
    if options.step:
        print(json.dumps(step(options.step, options.folder)))
        return 0
    try:
        options.folder.mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"relayout.py: error: {options.folder} already exists; give a new folder, it is removed at the end")
    rows, worst = [], 0.0
    try:
        for name in ("write", "export", "import"):
            command = [sys.executable, __file__, str(options.folder), "--shard", options.shard, "--step", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            if name == "write":
                sizes = [file.stat().st_size for file in (options.folder / "ours").rglob("*.safetensors")]
                rows.append(
                    ("model", f"{sum(sizes) / 1e9:.2f} GB in {len(sizes)} shards, the largest {_mb(max(sizes))}")
                )
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            ratio = found["peak"] / max(sizes)
            worst = max(worst, ratio)
            text = f"{_mb(found['peak'])} above the {_mb(found['before'])} of Python and torch = {ratio:.2f} shards"
            rows.append((f"peak memory of {name}", f"{text}, {found['seconds']:.1f} s"))
        equal = same(options.folder / "ours", options.folder / "again")
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    rows.append((f"goal: at most {LIMIT} shards", "met" if worst <= LIMIT else "missed"))
    rows.append(("weights after both", "bit-equal" if equal else "DIFFERENT"))
    print(table(["what", "value"], rows))
    return int(worst > LIMIT or not equal)


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
