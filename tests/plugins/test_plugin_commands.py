"""Plugins in the commands: the flag in every help, every kind of part, training, and the list of what is enabled."""

import argparse
import json
import sys

import pytest
from PIL import Image

from btcchat import BTCChat, plugins
from btcchat.cli import build_parser, main
from btcchat.errors import BTCChatError
from btcchat.train.flags import parse_arguments
from btcchat.train.presets import load_preset
from btcchat.train.train_mem import main as train_main
from tests.plugins.conftest import ALL_KINDS, ROOT, python
from tests.plugins.test_plugin_checkpoints import edit, mine_everywhere
from tests.tiny import tiny_model

QUICK = ["--max-new-tokens", "4", "--device", "cpu"]


@pytest.fixture
def mine(here) -> str:
    """A module in the current folder with a part of each kind."""
    (here / "mine.py").write_text(ALL_KINDS)
    return "mine"


def parsers(parser: argparse.ArgumentParser):
    """A parser and those of all its commands, however deep."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


@pytest.mark.parametrize("parser", list(parsers(build_parser())), ids=lambda parser: parser.prog)
def test_every_help_shows_the_flag(parser):
    assert "--plugin MODULE" in parser.format_help()


def test_the_help_of_training_shows_the_flag(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    assert "--plugin MODULE" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["data", "convert"], ["plugins"]], ids=" ".join)
def test_help_lists_no_installed_package_and_imports_no_plugin(words, here):
    """So that help appears at once, whatever packages are installed, and even if a plugin is broken."""
    (here / "broken.py").write_text("1 / 0")
    code = "import sys\nfrom btcchat.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    "
    code += "assert not stop.code\nassert not {'importlib.metadata', 'broken', 'torch'} & set(sys.modules)"
    done = python(["-c", code, *words, "--help"], here, BTCCHAT_PLUGINS="broken")
    assert done.returncode == 0, done.stderr


# -- every kind of part ----------------------------------------------------------------------------------------------


def test_a_checkpoint_with_a_plugins_part_of_each_kind_answers_as_with_ours(mine, tmp_path, capsys):
    """The plugin's tower, projector, template and language model compute what ours do."""
    tiny_model(tmp_path).save_pretrained(tmp_path / "model")
    words = ["caption", "--example", "--model", str(tmp_path / "model"), *QUICK]
    assert main(words) == 0
    ours = capsys.readouterr().out
    mine_everywhere(tmp_path / "model")
    assert main(words) == 2
    assert "unknown prompt template 'my_template'" in capsys.readouterr().err
    assert main([*words, "--plugin", mine]) == 0
    assert capsys.readouterr().out == ours
    model = BTCChat.from_pretrained(tmp_path / "model", device="cpu")
    parts = (model.vision_tower, model.mm_projector, model.llm)
    assert [type(part).__name__ for part in parts] == ["Tower", "Projector", "MyLLM"]


@pytest.mark.parametrize(
    ("file", "key", "value", "kind"),
    [
        ("vision_tower/config.json", "vision_tower_type", "my_tower", "vision tower"),
        ("mm_projector/config.json", "mm_projector_type", "my_mm_projector", "projector"),
        ("llm/config.json", "model_type", "my_llm", "language model"),
        ("config.json", "conv_version", "my_template", "prompt template"),
    ],
)
def test_without_the_plugin_its_part_is_unknown(file, key, value, kind, tmp_path, capsys):
    """No part of ours takes its place: a projector's name may look like the path of a published folder."""
    tiny_model(tmp_path).save_pretrained(tmp_path / "model")
    edit(tmp_path / "model" / file, **{key: value})
    assert main(["caption", "--example", "--model", str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"unknown {kind} '{value}'" in error and "or enable the plugin that adds it: --plugin MODULE" in error


def test_a_converter_is_listed_and_used(mine, here, capsys):
    (here / "src").mkdir()
    for date in "AB":
        (here / "src/images/test" / date).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(here / "src/images/test" / date / "1.png")
    row = {"filepath": "test", "filename": "1.png", "split": "test", "sentences": [{"raw": "a road is built"}]}
    (here / "src/LevirCCcaptions.json").write_text(json.dumps({"images": [row]}))
    words = ["data", "convert", "my_cc", "src", "out"]
    assert main(words) == 2
    assert "unknown converter 'my_cc'" in capsys.readouterr().err
    assert main([*words, "--plugin", mine]) == 0
    assert (here / "out/test.jsonl").is_file()
    assert main(["data", "convert", "--list"]) == 0
    assert "my_cc             MY-CC: captions of our own" in capsys.readouterr().out


def test_the_list_of_converters_has_those_of_the_environment(mine, here):
    words = ["-m", "btcchat", "data", "convert", "--list"]
    assert "MY-CC: captions of our own" in python(words, here, BTCCHAT_PLUGINS=mine).stdout


def test_a_template_is_taken_by_data_check(mine, here, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(here / "1.png")
    talk = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a road"}]
    (here / "set.json").write_text(json.dumps([{"modality": "image", "image": "1.png", "conversations": talk}]))
    (here / "sets.yaml").write_text("mine: {annotation: set.json, images: .}\n")
    words = ["data", "check", "mine", "--workers", "0", "--version", "my_template"]
    words += ["--data-root", ".", "--mixture-folder", "."]
    assert main(words) == 2
    assert "unknown prompt template 'my_template'" in capsys.readouterr().err
    assert main([*words, f"--plugin={mine}"]) == 0


def test_a_text_preset_is_taken_by_score(mine, here, capsys):
    pytest.importorskip("pycocoevalcap", reason="needs the extra eval, which dev includes")
    row = {"id": 1, "prediction": "no change", "references": ["many houses"]}
    (here / "p.jsonl").write_text(f"{json.dumps(row)}\n")
    words = ["score", "p.jsonl", "--preset", "same"]
    assert main(words) == 2
    assert "unknown text preset 'same'" in capsys.readouterr().err
    assert main([*words, "--plugin", mine]) == 0
    out = capsys.readouterr().out
    assert "preset same: every caption is the same" in out and "100.00" in out


# -- training --------------------------------------------------------------------------------------------------------


@pytest.fixture
def flags(here, tmp_path) -> list[str]:
    """Flags for two training steps from an original checkpoint to one with the change encoder ``gated``."""
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        Image.new("RGB", (32, 32), colour).save(here / f"{name}.png")
    talk = [{"from": "human", "value": "<image>\nWhat changed?"}, {"from": "gpt", "value": "red became blue"}]
    pair = {"modality": "pair", "images": ["red.png", "blue.png"], "conversations": talk}
    (here / "pairs.json").write_text(json.dumps([pair] * 4))
    (here / "sets.yaml").write_text("pairs: {annotation: pairs.json, images: .}\n")
    tiny_model(tmp_path, change_encoder=None).save_pretrained(tmp_path / "origin")
    values = {"model_name_or_path": tmp_path / "origin", "from_origin": True, "chg_type": "gated", "max_steps": 2}
    values |= {"data_mixture": "pairs", "data_root": here, "mixture_folder": here, "output_dir": tmp_path / "out"}
    values |= {"use_cpu": True, "tune_cc_projector": True, "per_device_train_batch_size": 2, "save_strategy": "no"}
    values |= {"disable_tqdm": True, "dataloader_num_workers": 0}
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def test_training_takes_the_flag_and_its_checkpoint_asks_for_the_plugin(mine, flags, tmp_path, capsys, forget):
    assert train_main(flags) == 2
    assert "unknown change encoder 'gated'" in capsys.readouterr().err
    assert train_main(["--plugin", mine, *flags]) == 0
    record = {"module": "mine", "version": None, "parts": {"change encoder": "gated"}}
    assert json.loads((tmp_path / "out/config.json").read_text())["plugins"] == [record]
    assert json.loads((tmp_path / "out/training.json").read_text())["model"]["plugins"] == [record]
    forget()
    words = ["caption", "--example", "--model", str(tmp_path / "out"), *QUICK]
    assert main(words) == 2
    assert "needs the plugin 'mine' (its change encoder 'gated')" in capsys.readouterr().err
    assert main([*words, "--plugin", mine]) == 0


def test_a_preset_is_trained_with_a_plugin(mine, flags, here):
    preset = [f"{name.removeprefix('--')}: '{value}'" for name, value in zip(flags[::2], flags[1::2], strict=True)]
    (here / "presets").mkdir()
    (here / "presets/my.yaml").write_text("\n".join(preset) + "\n")
    for out, words in (("1", ["presets/my.yaml", "--plugin", mine]), ("2", ["--plugin", mine, "presets/my.yaml"])):
        assert main(["train", *words, "--output_dir", out]) == 0
    assert plugins.enabled()[0].how == "--plugin"


def test_a_preset_may_not_enable_a_plugin(here):
    (here / "preset.yaml").write_text("plugin: mine\n")
    with pytest.raises(BTCChatError) as caught:
        load_preset("preset.yaml")
    assert str(caught.value) == "preset.yaml: a preset may not enable a plugin; add --plugin mine to the command"


def test_the_allocator_is_set_before_a_plugin_may_import_torch(here):
    """Its setting is read when torch is imported."""
    check = "import os, sys; assert 'torch' not in sys.modules; assert os.environ['PYTORCH_CUDA_ALLOC_CONF']"
    (here / "encoder.py").write_text(f"{check}; raise ValueError('as it should be')")  # as in btcchat/train
    entry = str(ROOT / "btcchat/train/train_mem.py")
    for words in (["-m", "btcchat", "train", "tiny/1_align"], ["-m", "btcchat.train.train_mem"], [entry]):
        done = python([*words, "--plugin", "encoder"], here)
        assert "ValueError: as it should be" in done.stderr


# -- btcchat plugins -------------------------------------------------------------------------------------------------


LISTED = """\
mine (--plugin)
  change encoder: gated
  converter: my_cc
  language model: my_llm
  projector: my_mm_projector
  prompt template: my_template
  text preset: same
  vision tower: my_tower
empty 2 (BTCCHAT_PLUGINS)
  adds no parts
broken (BTCCHAT_PLUGINS)
  the plugin 'broken' cannot be loaded: SyntaxError: '(' was never closed (broken.py, line 1)
Installed, and imported when a part is unknown:
  mine_installed (entry point 'other' of mine_installed 1.5)
"""


def test_plugins_lists_what_is_enabled_and_what_is_installed(mine, here, package, capsys, monkeypatch):
    package("mine_installed", "raise AssertionError('imported')", version="1.5", entry="other")
    (here / "empty.py").write_text("__version__ = '2'")
    (here / "broken.py").write_text("x = (")
    sys.path.append(str(here))
    monkeypatch.setenv("BTCCHAT_PLUGINS", "empty,broken")
    assert main(["plugins", "--plugin", mine]) == 3
    assert capsys.readouterr().out == LISTED
    assert main(["plugins", "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert [(one["module"], one["how"]) for one in shown["enabled"]][0] == ("mine", "--plugin")
    assert shown["enabled"][0]["adds"]["change encoder"] == ["gated"]
    point = {"name": "other", "module": "mine_installed", "package": "mine_installed", "version": "1.5"}
    assert shown["installed"] == [point]


def test_plugins_without_any_says_how_to_enable_one(capsys):
    assert main(["plugins"]) == 0
    assert (
        "No plugin is enabled; enable one with --plugin MODULE, or BTCCHAT_PLUGINS=MODULE." in capsys.readouterr().out
    )
