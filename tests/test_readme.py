"""What README shows works as it stands there."""

import re
import shlex
import shutil
import sys
import types
from pathlib import Path

import pytest
from torch import nn

from btcchat.change_encoder import CHANGE_ENCODERS, build_change_encoder
from btcchat.cli import build_parser
from btcchat.commands.caption import EXAMPLE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


# Of `pip install ... && btcchat ...`, the second half is checked.
LINES = [line.split("&& ")[-1] for block in blocks("sh") for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("btcchat ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line):
    _, *words = shlex.split(line, comments=True)
    arguments = build_parser().parse_args(words)
    assert callable(arguments.run)


def test_the_quick_start_is_two_commands_each_complete_and_both_run_in_ci():
    found = re.findall(r"<!-- ci: (\w+) -->\n```sh\n(.*?)\n```\n<!-- ci: end -->", README, re.DOTALL)
    assert found == [
        ("example", 'pip install torch==2.13.0 -e ".[pinned]" && btcchat caption --example'),
        ("test", 'pip install torch==2.13.0 -e ".[dev,pinned]" && pytest'),
    ]
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"\$\(readme (\w+)\)", run) == [name for name, _ in found]


def test_the_python_of_the_readme_runs_on_the_packaged_model(tmp_path, monkeypatch, capsys):
    for name in ("before.png", "after.png"):
        shutil.copyfile(EXAMPLE / name, tmp_path / name)
    shutil.copyfile(EXAMPLE / "before.png", tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    first, many, *_ = blocks("python")
    exec(first, names)
    assert capsys.readouterr().out.strip(), "the streamed answer is printed"
    exec(many, names)


def test_the_example_answer_in_the_readme_is_what_the_packaged_model_says():
    from btcchat import BTCChat

    shown = re.search(r"<!-- example answer -->\n```\n(.*?)\n```", README, re.DOTALL)[1]
    model = BTCChat.from_pretrained(device="cpu")
    assert model.caption(EXAMPLE / "before.png", EXAMPLE / "after.png") == shown


def test_a_change_encoder_is_registered_from_outside_as_the_readme_says(monkeypatch):
    class MyEncoder(nn.Module):
        segments = 1

        def __init__(self, *, hidden_size, grid, num_depths):
            super().__init__()

    package = types.ModuleType("my_package")
    package.MyEncoder = MyEncoder
    monkeypatch.setitem(sys.modules, "my_package", package)
    monkeypatch.setitem(CHANGE_ENCODERS, "mine", None)  # so that it is gone after the test
    del CHANGE_ENCODERS["mine"]
    code = next(block for block in blocks("python") if "my_package" in block)
    assert len(code.strip().splitlines()) == 3
    exec(code, {})
    built = build_change_encoder({"change_encoder_type": "mine"}, hidden_size=8, grid=2, num_depths=1)
    assert isinstance(built, MyEncoder)


def test_every_script_the_readme_names_is_there():
    named = set(re.findall(r"(?:benchmarks|docs|scripts)/[\w/]+\.(?:py|sh|png)", README))
    assert {"benchmarks/golden.py", "benchmarks/full_size.py", "docs/example.png"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []
