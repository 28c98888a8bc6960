"""docs/change_encoder.md shows the code of the example, and its commands work in the order of the page."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.cli import build_parser
from btcchat.plugins import enable, enabling
from btcchat.train.flags import parse_arguments
from btcchat.train.presets import expand

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "change_encoder.md").read_text(encoding="utf-8")
MODULE = "gated_change_encoder.py"
TUTORIAL, _, FURTHER = PAGE.partition("## Where to go from here")
# Smaller versions of the commands: (on the page, run here).
SMALLER = [
    ("--pairs 600", "--pairs 20"),
    ("@first:500", "@first:16"),
    ("@end:100", "@end:4"),
    ("000599", "000019"),
    ("btcchat train tiny/3_llm", "btcchat train tiny/3_llm --max_steps 4"),
    ("--seeds 1", "--seeds 1 --steps 4 --repeats 1"),
]
# The command as pip writes it; a process that it starts imports it again, hence the guard.
BTCCHAT = """#!{python}
import sys
from btcchat.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    """The words of each command of btcchat, without the shell's variables."""
    lines = "\n".join(blocks("sh", page)).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("btcchat ")]


def test_the_code_on_the_page_is_the_examples():
    example = ROOT / "examples" / "change_encoder_plugin" / MODULE
    assert example.read_text(encoding="utf-8") in blocks("python")


@pytest.fixture(scope="module")
def plugin():
    """The example, enabled as by `--plugin`, and removed afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples" / "change_encoder_plugin"))
        patch.setenv("BTCCHAT_PLUGINS", "")
        enable("gated_change_encoder")
        yield
        del CHANGE_ENCODERS["gated"], sys.modules["gated_change_encoder"]
        enabling._loaded.clear()


@pytest.mark.parametrize("words", commands(PAGE), ids=" ".join)
def test_a_command_of_the_page_parses(words, plugin):
    arguments = build_parser().parse_args(words)
    assert callable(arguments.run)
    if words[0] == "train" and "PRESET" not in words:
        words = [word for number, word in enumerate(words) if "--plugin" not in (word, words[number - 1])]
        parse_arguments([*expand(["--preset", *words[1:]]), "--use_cpu", "True", "--tf32", "False"])


@pytest.fixture
def folder(tmp_path) -> Path:
    """An empty folder, and a command `btcchat` that runs this checkout as the installed one would."""
    commands = {
        "btcchat": BTCCHAT.format(python=sys.executable),
        "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.mark.slow
@pytest.mark.timeout(1200)  # seven commands, each a process that imports torch
def test_the_commands_work_in_the_order_of_the_page(folder):
    installation, *steps = blocks("sh", TUTORIAL)
    assert "pip install" in installation
    script = "\n".join(["set -euo pipefail", *steps])
    for shown, run in SMALLER:
        assert shown in script, f"the page has no {shown}"
        script = script.replace(shown, run)
    (folder / MODULE).write_text(next(block for block in blocks("python") if "CHANGE_ENCODERS[" in block))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BTCCHAT_")}
    environment = inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PATH"] = f"{folder.parent / 'bin'}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 checks: 16 pass" in done.stdout
    assert (folder / "runs/gated/config.json").is_file() and (folder / "where.png").is_file()
    table = (folder / "runs/compare/comparison.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) ", table, re.MULTILINE)
    assert {"attentive", "concat", "gated"} <= set(rows), table
