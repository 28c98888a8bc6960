"""Check for the packages that a run's flags need, before torch is imported and any model is built."""

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
    """Raise BTCChatError if a package that the flags in ``argv`` need, those of a preset included, is missing."""
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
        if _parsed(flags.get(name)):
            require(package, f"--{name} {flags[name]}")
    if (bits := _parsed(flags.get("bits"))) in (4, 8) and shutil.which("nvidia-smi"):  # else the GPU is the error
        require("bitsandbytes", f"--bits {bits} (on a CUDA GPU)", "bitsandbytes")


def _parsed(value: Any) -> Any:
    """The value that a flag's text stands for."""
    return yaml.safe_load(value) if isinstance(value, str) else value
