"""The processes that a command starts have its plugins, wherever they look up a part by its name."""

import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image
from torch.utils.data import DataLoader

from btcchat import plugins
from btcchat.cli import main
from btcchat.data.convert.base import conversation
from btcchat.processor import Processor, request
from tests.plugins.conftest import ALL_KINDS, ROOT, gated_model, python
from tests.plugins.test_plugin_checkpoints import mine_everywhere
from tests.plugins.test_plugin_commands import flags  # noqa: F401 - a fixture

SETS = "questions: {annotation: questions.jsonl, images: ., kind: rsvqa_lr}\n"


@pytest.fixture
def checkpoint(here, tmp_path) -> Path:
    """A checkpoint all of whose parts are those of ``mine``, a module in the current folder, and a data set there."""
    (here / "mine.py").write_text(ALL_KINDS)
    plugins.enable_flags(["mine"])
    Image.new("RGB", (8, 8), (200, 0, 0)).save(here / "0.png")
    rows = [
        {"id": n, "modality": "image", "image": "0.png", "question_type": "comp", "conversations": conversation("?", a)}
        for n, a in enumerate(["yes", "no", "yes"])
    ]
    (here / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (here / "sets.yaml").write_text(SETS)
    return mine_everywhere(gated_model(tmp_path))


DATA = ["--data-root", ".", "--mixture-folder", "."]


class Samples:
    """One sample, made in the process that asks for it."""

    def __init__(self, processor: Processor):
        self.processor = processor

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple:
        sample = self.processor(request("What is it?", "image", "0.png"), train=False)
        return sample["input_ids"], plugins.enabled()[0].how


def test_spawned_data_workers_inherit_plugins(checkpoint):
    """Forked ones have them anyway. The template of the samples is looked up by its name."""
    samples = Samples(Processor.from_pretrained(checkpoint))
    loader = DataLoader(samples, num_workers=1, multiprocessing_context="spawn", collate_fn=first)
    ((ids, how),) = list(loader)
    assert ids.tolist() == samples[0][0].tolist()
    assert how == "BTCCHAT_PLUGINS"


def first(samples: list) -> tuple:
    return samples[0]


def test_spawned_workers_of_data_check_inherit_plugins(checkpoint, here):
    """As where fork is not the default: macOS, and Python from 3.14."""
    code = "import multiprocessing, sys; from btcchat.cli import main; multiprocessing.set_start_method('spawn'); "
    code += "sys.exit(main(sys.argv[1:]))"
    words = ["data", "check", "questions", "--model", str(checkpoint), "--workers", "2", *DATA]
    done = python(["-c", code, *words, "--plugin", "mine"], here)
    assert done.returncode == 0, done.stderr
    assert "questions" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("enabled", ["by flag", "by environment"])
def test_the_processes_of_torchrun_inherit_plugins(checkpoint, here, enabled):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "btcchat"]
    words = ["eval", str(checkpoint), "questions", "--out", "run", "--device", "cpu", "--max-new-tokens", "4", *DATA]
    words += ["--batch-size", "1"]
    if enabled == "by flag":
        done = python([*launcher, *words, "--plugin", "mine"], here)
    else:
        done = python([*launcher, *words], here, BTCCHAT_PLUGINS="mine", PYTHONPATH=f"{ROOT}{os.pathsep}{here}")
    assert done.returncode == 0, done.stderr
    assert len(list((here / "run/parts").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_processes_of_deepspeed_inherit_plugins(checkpoint, here, tmp_path, flags):  # noqa: F811
    pytest.importorskip("deepspeed", reason="needs the extra train, which dev includes")
    launcher = ["-m", "deepspeed.launcher.runner", "--include", "localhost:0,1", "--master_port", "29641"]
    words = [str(ROOT / "btcchat/train/train_mem.py"), *flags, "--deepspeed", "zero2", "--plugin", "mine"]
    cpu = words.index("--use_cpu")  # DeepSpeed chooses the device
    del words[cpu : cpu + 2]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = python([*launcher, *words], here, LOCAL_SIZE="2", PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "out/config.json").read_text())["plugins"][0]["module"] == "mine"
    assert main(["caption", "--example", "--model", str(tmp_path / "out"), "--max-new-tokens", "2"]) == 0
