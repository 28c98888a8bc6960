"""The card, the versions of all packages, and the speed of a matrix product in each precision."""

import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator

import torch

from btcchat.eval.encoders.machine import machine
from btcchat.eval.encoders.markdown import table
from gpu_rows.setting import Setting
from gpu_rows.speed import device_of, gemm_peak, median_seconds

PACKAGES = ("transformers", "tokenizers", "accelerate", "peft", "timm", "numpy", "safetensors", "pydantic")
OPTIONAL = ("bitsandbytes", "deepspeed", "flash_attn", "av", "rasterio")


def measure(setting: Setting) -> Iterator[str]:
    device = device_of(setting)
    rows = [("card", card(device)), ("Python", f"{platform.python_version()}, {platform.platform()}")]
    rows.append(("torch", f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"))
    rows += [(name, version(name)) for name in (*PACKAGES, *OPTIONAL)]
    yield table(["what", "value"], rows)
    rows.append(("bf16 product, TFLOP/s", f"{gemm_peak(device, torch.bfloat16) / 1e12:.3g}"))
    for name, allowed in (("float32 product", False), ("TF32 product", True)):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        rows.append((f"{name}, TFLOP/s", f"{gemm_peak(device, torch.float32) / 1e12:.3g}"))
    rows.append(("copy, GB/s read and written", f"{copied(device):.0f}"))
    yield table(["what", "value"], rows)


def card(device: torch.device) -> str:
    if device.type != "cuda":
        return f"none: {machine(device)}"
    facts = torch.cuda.get_device_properties(device)
    memory = f"{facts.total_memory / 2**30:.1f} GiB, {facts.multi_processor_count} multiprocessors"
    return f"{machine(device)}, {memory}, compute {facts.major}.{facts.minor}, driver {driver()}"


def driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout.strip().splitlines() or ["unknown"])[0]


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def copied(device: torch.device) -> float:
    source = torch.ones(2**30 if device.type == "cuda" else 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / median_seconds(lambda: target.copy_(source), device, 5) / 1e9
