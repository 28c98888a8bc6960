"""The commands and code in README work as written."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

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


def test_the_quick_start_is_two_complete_commands_and_both_run_in_ci():
    found = re.findall(r"<!-- ci: (\w+) -->\n```sh\n(.*?)\n```\n<!-- ci: end -->", README, re.DOTALL)
    assert found == [
        ("example", 'pip install torch==2.13.0 -e ".[pinned]" && btcchat caption --example'),
        ("test", 'pip install torch==2.13.0 -e ".[dev,pinned]" && pytest -n 2'),
    ]
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"\$\(readme (\w+)\)", run) == [name for name, _ in found]


def test_the_python_of_the_readme_runs_on_the_packaged_model(tmp_path, monkeypatch, capsys):
    for name in ("before.png", "after.png"):
        shutil.copyfile(EXAMPLE / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (first,) = blocks("python")
    exec(first, {})
    assert capsys.readouterr().out.strip(), "the caption is printed"


def test_the_example_answer_in_the_readme_is_the_packaged_models():
    from btcchat import BTCChat

    shown = re.search(r"<!-- example answer -->\n```\n(.*?)\n```", README, re.DOTALL)[1]
    model = BTCChat.from_pretrained(device="cpu")
    assert model.caption(EXAMPLE / "before.png", EXAMPLE / "after.png") == shown


def test_the_readme_is_short():
    sections = re.split(r"^## ", README, flags=re.MULTILINE)[1:]
    sizes = {name: len([line for line in body if line.strip()]) for name, *body in map(str.splitlines, sections)}
    topics = ["From the command line", "From Python", "Scenes", "Server", "Training"]
    assert [name for name in sizes if name in topics] == topics
    assert {name: size for name, size in sizes.items() if name in topics and size > 10} == {}
    assert "\n|" not in README, "tables are in docs/"


def test_every_script_named_in_readme_and_results_exists():
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:benchmarks|docs|scripts)/[\w/]+\.(?:py|sh|png)", README + results))
    assert {"benchmarks/golden.py", "benchmarks/full_size.py", "docs/example.png"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []
