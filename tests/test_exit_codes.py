"""The exit codes of all commands: 0 done, 1 internal error, 2 bad input, 3 some items failed, 130 interrupted."""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile

import pytest
from PIL import Image

from btcchat import cli
from btcchat.commands import caption, options
from btcchat.commands.options import Parser
from tests.fake_model import FakeModel

LONG = "x" * 5000
# Each command (the name of its parser) -> bad inputs: "Q" is a question, {} stands for each of `NAMES`.
COMMANDS = {
    "caption": [
        "{} a.png",
        "a.png b.png --change-map {}/m.png",
        "--pairs {} --out o.jsonl",
        "--pairs l.csv --out {}/o",
    ],
    "ask": ["Q --image {}", "Q --series {} {}", "Q --video {}", "Q --image a.png --model {}"],
    "chat": ["--image {}", "--pair a.png {}", "--model {}"],
    "scenes": ["{} b.tif --out o", "--list {} --out o", "--stac {} {} --out o", "a.png {} --out o"],
    "serve": ["--port 0 --model {}", "--api-key-file {}", "--host {}"],
    "data convert": ["levir_cc {} out", "levir_cc . {}/out"],
    "data check": ["{} --workers 0", "{}.yaml --workers 0", "set.yaml --data-root {} --workers 0"],
    "data show": ["{}", "{}.yaml", "set.yaml --data-root . --model {}"],
    "data list": ["--mixture-folder {}"],
    "augment": ["{} --clue_model tiny --out o", "set.yaml --data-root . --clue_model {} --out o"],
    "train": ["{}.yaml", "--model_name_or_path {} --data_mixture set.yaml --data_root . --output_dir o"],
    "check": ["change_encoder {}"],
    "import": ["llava-next {} o"],
    "export": ["--merge {} o", "--llava-next {} o", "--change-threshold {} tiny o"],
    "eval": ["{} levir_cc", "tiny {}", "tiny {}.yaml"],
    "report": ["{}"],
    "score": ["{}", "p.jsonl --references {}"],
    "compare": ["{} {}", "p.jsonl {}"],
    "compare-encoders": ["attentive concat --data {}"],
    "plugins": ["--plugin {}"],
}
NAMES = [LONG, "\udcff", "a\0b", "fifo"]
CASES = [
    (command, words, name) for command, inputs in COMMANDS.items() for words in inputs for name in NAMES
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(name)
    os.mkfifo("fifo")
    os.mkfifo("fifo.yaml")
    (tmp_path / "l.csv").write_text("before,after\na.png,b.png\n")
    (tmp_path / "p.jsonl").write_text('{"id": "1", "caption": "a house", "references": ["a house"]}\n')
    (tmp_path / "set.yaml").write_text("mine: {annotation: rows.jsonl}\n")
    monkeypatch.setattr(options, "load_model", _model)
    return tmp_path


def _model(args, path=None):
    """A bad input does not need the packaged model, but another model may be the bad input."""
    name = getattr(args, "model", None) if path is None else path
    if name in (None, "tiny"):
        return FakeModel()
    from btcchat.checkpoint.hub import resolve

    return resolve(name)


def _leaves(parser: argparse.ArgumentParser, name: str = "") -> set[str]:
    """The names of all commands below a parser."""
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not subparsers:
        return {name.strip()}
    return set().union(*(_leaves(one, f"{name} {key}") for key, one in subparsers[0].choices.items()))


def test_every_command_is_tested_here():
    assert set(COMMANDS) == _leaves(cli.build_parser())


@pytest.mark.parametrize(("command", "words", "name"), CASES, ids=range(len(CASES)))
def test_a_bad_input_gives_exit_code_2_and_one_line(folder, monkeypatch, capsys, command, words, name):
    monkeypatch.setattr("huggingface_hub.snapshot_download", _no_hub)
    code = cli.main([*command.split(), *(word.replace("{}", name) for word in words.split())])
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("btcchat: error: ")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in error, (code, error)


def _no_hub(*_, **__):
    raise OSError("tests do not use the hub")


@pytest.mark.parametrize("command", ["ask Q --image a.png", "data list", "train tiny/1_align", "score p.jsonl"])
def test_a_bug_gives_exit_code_1_in_every_command(folder, monkeypatch, capsys, tmp_path, command):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def broken(self, *words):
        namespace = parse(self, *words)
        namespace.run = lambda args: {}["missing"]
        return namespace

    parse = Parser.parse_args
    monkeypatch.setattr(Parser, "parse_args", broken)
    assert cli.main(command.split()) == 1
    assert "internal error, KeyError: 'missing'; the traceback is in" in capsys.readouterr().err
    assert len(list(tmp_path.glob("btcchat-*.log"))) == 1


def test_some_failing_pairs_give_exit_code_3(folder, capsys):
    (folder / "l.csv").write_text(f"before,after\n{LONG},b.png\na.png,b.png\n\udcff.png,b.png\n", errors="replace")
    assert cli.main(["caption", "--pairs", "l.csv", "--out", "o.jsonl"]) == 3
    error = capsys.readouterr().err
    assert "l.csv row 2: image 'xxx" in error and "l.csv row 4: image" in error
    assert "1 caption written to o.jsonl, 2 failed" in error


def test_an_interrupt_gives_exit_code_130(folder, monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(caption.options, "load_model", interrupted)
    assert cli.main(["caption", "a.png", "b.png"]) == 130
    assert capsys.readouterr().err == "btcchat: interrupted\n"


# -- in a separate process -------------------------------------------------------------------------------------------


def btcchat(words: str, prefix: str = "", **options) -> tuple[int, str]:
    command = f"{prefix} {sys.executable} -m btcchat {words}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, errors="replace", **options)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", ["ask Q --series locked", "data list --mixture-folder locked", "caption locked/a b"])
def test_a_folder_without_permission_gives_exit_code_2(folder, words):
    (folder / "locked").mkdir(mode=0)
    prefix = "" if os.geteuid() else "setpriv --inh-caps=-all --bounding-set=-all"  # root may read all, unless
    code, error = btcchat(words, prefix)
    assert code == 2 and "ermission denied" in error


def test_a_full_disk_gives_exit_code_2(folder):
    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))

    words = "caption --pairs l.csv --out o.jsonl --max-new-tokens 1 2>&1 | cat >&2; exit ${PIPESTATUS[0]}"
    code, error = btcchat(words, preexec_fn=full)
    assert code == 2 and "--out o.jsonl cannot be written: File too large" in error
