"""Every command in the docs parses, and is run here on tiny inputs or says why it is not."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from btcchat.cli import build_parser
from btcchat.commands.caption import EXAMPLE
from btcchat.train.flags import parse_arguments
from btcchat.train.presets import expand
from tests import layouts
from tests.docs.pages import PAGES, ROOT, blocks, code, install, outputs, script

ALL = [block for page in PAGES for block in blocks(page)]
TUTORIAL = "docs/change_encoder.md"  # tests/test_change_encoder_tutorial.py runs it
COMMANDS = {" ".join(words): words for block in ALL for words in block.commands}


def pair(folder: Path) -> None:
    """before.png, after.png and a list of them, three dates, and two scenes that overlap."""
    for name, source in {
        "before": "before",
        "after": "after",
        "2010": "before",
        "2014": "after",
        "2019": "after",
    }.items():
        (folder / f"{name}.png").write_bytes((EXAMPLE / f"{source}.png").read_bytes())
    (folder / "list.csv").write_text("before,after\nbefore.png,after.png\n")
    from tests.geo.drawn import drawn_pair, write  # needs the extra geo

    for name, pixels in zip(("before.tif", "after.tif"), drawn_pair(1)[:2], strict=True):
        write(folder / name, pixels)


def drawn(folder: Path) -> None:
    """drawn.yaml: pairs with masks, beside two scenes."""
    from btcchat.synthetic.write import SampleCounts, write_dataset

    pair(folder)
    write_dataset(folder / "drawn", SampleCounts(pairs=4), seed=3, workers=1)
    (folder / "drawn.yaml").write_text("drawn: {annotation: drawn/pairs.jsonl, images: drawn}\n")


def levir(folder: Path) -> None:
    pair(folder)
    for name in ("LEVIR-CC", "LEVIR-MCI-dataset"):
        layouts.levir_cc(folder / name, masks="RGB")


def harbour(folder: Path) -> None:
    levir(folder)
    (folder / "harbour.csv").write_text(code("docs/data.md", "csv")[0])
    for name in ("12_2010", "12_2014", "13_2010", "13_2014"):
        layouts.image(folder / "tiles" / f"{name}.png")


def foundation(folder: Path) -> None:
    levir(folder)
    layouts.ccexpert(folder / "CC-Foundation")
    (folder / "mine.yaml").write_text(code("docs/systems.md", "yaml")[0])


def captions(folder: Path) -> None:
    rows = '{"id": "val_000001.png", "prediction": "a house", "references": ["a house", "a new house"]}\n'
    for name in ("predictions", "ours", "theirs"):
        (folder / f"{name}.jsonl").write_text(rows.replace("val_", "test_"))
    (folder / "map.csv").write_text("test_000001.png,test_000001.png\n")
    layouts.levir_cc(folder)


def analyst(folder: Path) -> None:
    (folder / "analyst").mkdir()
    (folder / "list.csv").write_text(code("docs/tutorial_analyst.md", "csv")[0])


def researcher(folder: Path) -> None:
    (folder / "extent.yaml").write_text(code("docs/tutorial_researcher.md", "yaml")[0])


CONVERT = "btcchat data convert levir_cc LEVIR-CC annotations/levir_cc\n"
DATA = "export BTCCHAT_DATA=$PWD\n"
EVALUATE = "btcchat data convert levir_mci LEVIR-MCI-dataset annotations/levir_mci\n"
# Page -> (what makes the files that it names, what is run in place of what it says).
RUN: dict[str, tuple[Callable[[Path], None], list[tuple[str, str]]]] = {
    "README.md": (pair, []),
    "docs/scenes.md": (drawn, [("levir_mci:val", "drawn.yaml --data-root ."), ("CHECKPOINT", "tiny")]),
    "docs/quantize.md": (pair, [("CHECKPOINT", "tiny")]),
    "docs/score.md": (captions, []),
    "docs/data.md": (
        harbour,
        [
            ("--data_root DATA", "--data_root ."),
            ("CHECKPOINT", "tiny"),
            ("--workers 8", "--workers 1"),
        ],
    ),
    "docs/eval.md": (
        levir,
        [
            ("BTCCHAT_DATA=/data", "BTCCHAT_DATA=$PWD\n" + CONVERT),
            ("CHECKPOINT", "tiny"),
            ("torchrun --nproc_per_node 4 -m btcchat eval", "btcchat eval"),
            ("deepspeed --no_local_rank --module btcchat eval", "btcchat eval"),
            ("runs/eval/other", "runs/eval/mine"),
            ("annotations/levir_cc     #", "annotations/again     #"),
            ("btcchat eval tiny levir_mci", EVALUATE + "btcchat eval tiny levir_mci"),
        ],
    ),
    "docs/distributed.md": (
        levir,
        [
            ("python -m btcchat.train", CONVERT + DATA + "python -m btcchat.train"),
            ("--model_name_or_path BASE", "--model_name_or_path tiny --use_cpu True --tf32 False --max_steps 1"),
        ],
    ),
    "docs/training.md": (
        levir,
        [
            (
                "btcchat train --model_name_or_path tiny --data",
                CONVERT + DATA + "btcchat train --model_name_or_path tiny --data",
            ),
            ("--max_steps 200 --save_steps 50", "--max_steps 2 --save_steps 1"),
            ("--tune_cc_projector True", "--tune_cc_projector True --max_steps 1 --tf32 False"),
        ],
    ),
    "docs/systems.md": (foundation, [("CC-Foundation/SUB", "CC-Foundation")]),
    "docs/tutorial_analyst.md": (analyst, []),
    "docs/tutorial_researcher.md": (
        researcher,
        [
            ("range(300)", "range(12)"),
            ("< 250", "< 8"),
            ("--pairs 300", "--pairs 12"),
            ("--num_train_epochs 3", "--max_steps 2"),
            ("000299", "000011"),
        ],
    ),
}

WITH_PYTHON = ("README.md", "docs/tutorial_analyst.md", "docs/tutorial_researcher.md")  # their Python is run, too


def test_a_block_without_a_reason_is_run():
    shown = {block.page for block in ALL if block.why_not is None} - {TUTORIAL}
    assert shown == set(RUN), "a page goes into RUN, or `<!-- not run: why -->` before its blocks"
    assert len(ALL) > 50


# Programs that are not ours.
KNOWN = {"cd", "curl", "export", "mkdir", "mkdocs", "mypy", "openssl", "pip", "pytest", "python", "ruff", "twine"}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_command_of_the_docs_parses(words):
    ours = [number for number, word in enumerate(words) if re.fullmatch(r"btcchat|\S+train_mem(\.py)?", word)]
    if ours and words[0] not in KNOWN - {"python"}:
        program, *rest = words[ours[0] :]
        if program == "btcchat":  # by itself, or under torchrun or deepspeed
            arguments = build_parser().parse_args(rest)
            assert callable(arguments.run)
        if program != "btcchat" or (rest[0] == "train" and "gated" not in rest):  # that is a plugin's
            check_flags(rest if program != "btcchat" else ["--preset", *rest[1:]] if rest[1][0] != "-" else rest[1:])
        return
    scripts = [word for word in words if re.fullmatch(r"(?:scripts|benchmarks)/[\w/]+\.(?:py|sh)", word)]
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    program = next((word for word in words if "=" not in word), "export")
    assert scripts or program in KNOWN, f"{program} is neither ours nor in KNOWN"


def check_flags(words: list[str]) -> None:
    """Flags of training, read on a machine without a GPU. FLAGS stands for any that make a run complete."""
    words = [word for word in words if word != "--smoke"]
    if "FLAGS" in words:
        words = ["--preset", "release/3b/sft", *(word for word in words if word != "FLAGS")]
    device = [] if "--deepspeed" in words else ["--use_cpu", "True"]  # DeepSpeed finds the CPU by itself
    parse_arguments([*expand(words), *device, "--tf32", "False", "--bf16", "False"])


@pytest.fixture
def shell(tmp_path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a script in a folder of its own, in which `btcchat` is this checkout and `pip` does nothing."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BTCCHAT_")}
    environment = inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PATH"] = f"{install(tmp_path / 'bin')}{os.pathsep}{environment['PATH']}"

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    (tmp_path / "work").mkdir()
    return run


@pytest.mark.slow
@pytest.mark.timeout(1200)  # up to ten commands, each a process that imports torch
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_work_in_its_order(page, shell, tmp_path):
    prepare, replacements = RUN[page]
    prepare(tmp_path / "work")
    commands = script(page, python=page in WITH_PYTHON)
    for shown, run in replacements:
        assert shown in commands, f"{page} has no {shown}"
        commands = commands.replace(shown, run)
    done = shell(commands)
    assert done.returncode == 0, done.stdout + done.stderr
    if page == "docs/tutorial_analyst.md":
        answers = (tmp_path / "work" / "answers.jsonl").read_text(encoding="utf-8")
        assert [output for output in outputs(page) if output not in done.stdout + answers] == []
