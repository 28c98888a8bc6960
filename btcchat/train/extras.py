"""The packages that a run's flags need, looked for before torch is imported and any model is built."""

import argparse
import shutil
from collections.abc import Sequence
from typing import Any

import yaml

from btcchat.compat.extras import require
from btcchat.train.presets import chain, smoke_file

# flag -> package, if it is set
PACKAGES = {"deepspeed": "deepspeed", "lora_enable": "peft"}


def check_extras(argv: Sequence[str]) -> None:
    """Raise BTCChatError for a package that the flags in ``argv``, a preset's among them, need and that is missing."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("preset", "bits", *PACKAGES):
        parser.add_argument(*dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")), dest=name, nargs="?")
    parser.add_argument("--smoke", action="store_const", const=smoke_file())
    typed = {name: value for name, value in vars(parser.parse_known_args(list(argv))[0]).items() if value is not None}
    flags: dict[str, Any] = {}
    presets = [name for name in (typed.get("preset"), typed.get("smoke")) if name]
    for part in (*(part for name in presets for part in chain(name)), typed):
        flags |= part
    for name, package in PACKAGES.items():
        if _meant(flags.get(name)):
            require(package, f"--{name} {flags[name]}")
    if (bits := _meant(flags.get("bits"))) in (4, 8) and shutil.which("nvidia-smi"):  # else the GPU is what is missing
        require("bitsandbytes", f"--bits {bits} (on a CUDA GPU)", "bitsandbytes")


def _meant(value: Any) -> Any:
    """The value of a flag as it was typed."""
    return yaml.safe_load(value) if isinstance(value, str) else value
