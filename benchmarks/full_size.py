"""Write, load and run the real 3B architecture with random weights on the CPU.

    python benchmarks/full_size.py /tmp/btcchat-3b

The model is SigLIP-so400m-384 at full size, `attentive`, `mlp_downsample` and a LLaMA of Sheared-LLaMA-2.7B's size, as
a sharded bfloat16 checkpoint. Needs about 7 GB of disk and 10 GB of memory. If the folder already has a checkpoint
(from an earlier run, or a real one), that one is measured. Loading and answering are measured in a fresh process.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from btcchat import BTCChat, request
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.eval.encoders.markdown import table
from btcchat.generation import GenerationOptions, generate_ids
from btcchat.prompt import CAPTION_QUESTION
from measure import Clock
from random_model import random_model

DISK_GB = 7
SHARD = "2GB"
LIMIT = 1.2  # peak memory of loading, in checkpoint sizes

LLM = {  # princeton-nlp/Sheared-LLaMA-2.7B
    "model_type": "llama",
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tokenizer_model_max_length": 4096,
    "rms_norm_eps": 1e-5,
}
VISION = {  # google/siglip-so400m-patch14-384
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}


def write(folder: Path) -> None:
    """Build the model with random bfloat16 weights and save it the way any model is saved."""
    config = BTCChatConfig(
        llm=dict(LLM),
        vision_tower=dict(VISION),
        change_encoder={"change_encoder_type": "attentive", "cc_n_layers": 0, "cc_head": 8, "cc_dropout": 0.0},
    )
    random_model(config, torch.bfloat16).save_pretrained(folder, max_shard_size=SHARD)


def measure(folder: Path, new_tokens: int) -> dict:
    """Load the model and answer in this process, which has done nothing else."""
    found = {"process before loading": _peak()}
    start = time.perf_counter()
    model = BTCChat.from_pretrained(folder, device="cpu", dtype="bfloat16")
    found["load"] = time.perf_counter() - start
    # The weights are mapped from the files; read them all, as the first answer would, so that they are counted.
    for tensor in model.state_dict().values():
        tensor.view(-1)[:: 4096 // tensor.element_size()].sum()  # one value per page
    found["load and first read"] = time.perf_counter() - start
    found["peak of loading"] = _peak()
    found["parameters"] = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    tower = model.vision_tower
    found["tokens"] = [tower.num_tokens, sum(model.layout.lengths("pair", 2))]

    pair = [Image.effect_noise((512, 512), 60 + 40 * date).convert("RGB") for date in range(2)]
    clock = Clock(model)
    batch = model.processor.collate([model.processor(request(CAPTION_QUESTION, "pair", pair), train=False)])
    found["prompt"] = batch["input_ids"].shape[1] - 1 + found["tokens"][1]
    generate_ids(model, batch, GenerationOptions(2))  # warm-up: kernels plan on their first call
    clock.calls.clear()
    written = len(generate_ids(model, batch, GenerationOptions(new_tokens))[0])
    seconds = {name: [value for called, value, _ in clock.calls if called == name] for name, _, _ in clock.calls}
    prefill, *steps = seconds["llm"]
    found["seconds"] = {
        "vision (2 images)": sum(seconds["vision_tower"]),
        "change encoder": sum(seconds["change_encoder"]),
        "projector": sum(seconds["mm_projector"]),
        f"prefill ({found['prompt']} tokens)": prefill,
        f"per token (mean of {len(steps)})": sum(steps) / max(len(steps), 1),
    }
    found["written"] = written
    found["peak with answer"] = _peak()
    return found


def _peak() -> int:
    """Peak resident memory of this process so far, in bytes, including mapped files."""
    status = Path("/proc/self/status")
    if not status.exists():
        sys.exit("full_size.py reads its memory from /proc/self/status, which exists only on Linux; run it there")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help=f"folder of the checkpoint, written if missing ({DISK_GB} GB)")
    parser.add_argument("--new-tokens", type=int, default=16, help="tokens to generate (default 16)")
    parser.add_argument("--remove", action="store_true", help="delete the folder at the end")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)  # the fresh process
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.folder, options.new_tokens)))
        return
    if not (options.folder / "config.json").exists():
        _write(options.folder)
    command = [sys.executable, __file__, str(options.folder), "--measure", "--new-tokens", str(options.new_tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    _report(options.folder, json.loads(done.stdout.splitlines()[-1]))
    if options.remove:
        shutil.rmtree(options.folder)


def _write(folder: Path) -> None:
    print(f"This writes about {DISK_GB} GB to {folder} and needs about 10 GB of memory.", flush=True)
    parent = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(parent).free
    if free < DISK_GB * 1e9:
        sys.exit(f"{parent} has {free / 1e9:.1f} GB free, {DISK_GB} GB are needed; name a folder on another disk")
    start = time.perf_counter()
    write(folder)
    print(f"written in {time.perf_counter() - start:.0f} s")


def _report(folder: Path, found: dict) -> None:
    files = sorted(folder.rglob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    ratio = found["peak of loading"] / size
    vision, change = found["tokens"]
    rows = [("checkpoint", f"{size / 1e9:.2f} GB in {len(files)} files, bfloat16")]
    rows += [(f"  {name}", f"{count / 1e6:.1f} M parameters") for name, count in found["parameters"].items()]
    rows += [
        ("tokens of a pair", f"2 x {vision} from the tower -> {vision} change tokens -> {change} in the prompt"),
        ("memory before loading", f"{found['process before loading'] / 1e9:.2f} GB (Python and torch)"),
        ("peak memory of loading", f"{found['peak of loading'] / 1e9:.2f} GB = {ratio:.2f}x the checkpoint"),
        (f"  goal: at most {LIMIT}x", "met" if ratio <= LIMIT else "missed"),
        ("peak memory with the answer", f"{found['peak with answer'] / 1e9:.2f} GB"),
        ("seconds: load", f"{found['load']:.2f} (with a first read of all weights {found['load and first read']:.2f})"),
    ]
    rows += [(f"seconds: {name}", f"{seconds:.3f}") for name, seconds in found["seconds"].items()]
    rows.append(("machine", f"{torch.get_num_threads()} threads, torch {torch.__version__}, bfloat16 on the CPU"))
    print(table(["what", "value"], rows))


if __name__ == "__main__":
    main()
