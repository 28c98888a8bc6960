"""Plugins written into a temporary folder; what they leave in this process is removed after each test."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from btcchat.plugins import enabling, installed, recorded
from btcchat.registry import REGISTRIES

ROOT = Path(__file__).resolve().parents[2]
ENCODER = """
import torch
from torch import nn
from btcchat.change_encoder import CHANGE_ENCODERS

class Gated(nn.Module):
    segments = 1

    def __init__(self, *, hidden_size, grid, num_depths, gain=1.0):
        super().__init__()
        self.gain, self.fuse = gain, nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, features):  # (P, 2, S, L, C)
        before, after = features[:, 0, -1], features[:, 1, -1]
        return self.gain * self.fuse(torch.cat([before, after], dim=-1))[:, None]
"""
GATED = ENCODER + 'CHANGE_ENCODERS["gated"] = Gated\n'
# One row of each kind. All but the text preset do the same as a part of ours.
ALL_KINDS = (
    GATED
    + """
from dataclasses import replace
from transformers import LlamaConfig, LlamaForCausalLM
from btcchat.data.convert import CONVERTERS
from btcchat.data.convert.levir import LevirCC
from btcchat.eval.captions.presets import PRESETS, Preset
from btcchat.language_model import LANGUAGE_MODELS
from btcchat.multimodal_encoder import VISION_TOWERS
from btcchat.multimodal_encoder.siglip import SiglipTower
from btcchat.multimodal_projector import PROJECTORS
from btcchat.multimodal_projector.mlp_downsample import MLPDownsample
from btcchat.prompt import TEMPLATES

class Tower(SiglipTower):
    pass

class Projector(MLPDownsample):
    pass

class MyConfig(LlamaConfig):
    model_type = "my_llm"

class MyLLM(LlamaForCausalLM):
    config_class = MyConfig

class Captions(LevirCC):
    "MY-CC: captions of our own"

VISION_TOWERS["my_tower"] = Tower
PROJECTORS["my_mm_projector"] = Projector
LANGUAGE_MODELS["my_llm"] = (MyConfig, MyLLM)
TEMPLATES["my_template"] = replace(TEMPLATES["v1"], stop=("###",))
CONVERTERS["my_cc"] = Captions
PRESETS["same"] = Preset(lambda texts, java: ["a road is built"] * len(texts), "every caption is the same")
"""
)


@pytest.fixture(autouse=True)
def forget(tmp_path) -> Iterator[Callable[[], None]]:
    """Forget what a test enabled, after the test and whenever it calls ``forget()``."""
    path, environment = list(sys.path), dict(os.environ)

    def go() -> None:
        for table in REGISTRIES.values():
            for name in [name for name in table if table.origin(name) != "btcchat"]:
                del table[name]
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]
        for file in tmp_path.rglob("*.pyc"):
            file.unlink()  # a module that is written again within a second must be read again
        sys.path[:] = [entry for entry in sys.path if entry in path or entry.endswith("/site")]
        for name in ("BTCCHAT_PLUGINS", "BTCCHAT_PLUGIN_PATH"):
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in environment.items() if name.startswith("BTCCHAT_")})
        enabling._loaded.clear()
        enabling._broken.clear()
        recorded._warn_once.cache_clear()
        installed._packages.cache_clear()
        importlib.invalidate_caches()

    yield go
    go()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current folder: empty, and not on sys.path."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".", str(folder))])
    return folder


@pytest.fixture
def gated(here) -> str:
    """A module in the current folder that adds the change encoder ``gated``."""
    (here / "gated_plugin.py").write_text(GATED)
    return "gated_plugin"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """``package("mine", code, version="1.0")``: an installed package whose entry point ``entry`` is that module."""
    site = tmp_path / "site"

    def install(module: str, code: str, version: str = "1.0", entry: str = "gated") -> None:
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[btcchat.plugins]\n{entry} = {module}\n")
        (info / "RECORD").write_text(f"{module}.py,,\n")

    site.mkdir()
    monkeypatch.syspath_prepend(site)
    return install


def python(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """``python WORDS`` in ``folder``, with this checkout and no plugin but those in ``environment``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BTCCHAT_")}
    inherited |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=inherited, capture_output=True, text=True, timeout=280
    )


def gated_model(folder: Path) -> Path:
    """A checkpoint of a random model whose change encoder is ``gated``, which is enabled."""
    from tests.tiny import tiny_model

    tiny_model(folder, change_encoder={"change_encoder_type": "gated"}).save_pretrained(folder / "model")
    return folder / "model"
