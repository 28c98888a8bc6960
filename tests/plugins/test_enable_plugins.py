"""Ways to enable a plugin, where its module may be, and what happens when it is broken."""

import os
import sys

import pytest

from btcchat import plugins
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.cli import main
from btcchat.errors import BTCChatError
from btcchat.plugins import take_flags
from tests.plugins.conftest import ENCODER, GATED

LIST = ["data", "convert", "--list"]  # a command that needs no model


def test_enabling_in_python_registers_the_parts_and_is_inherited(gated, here):
    sys.path.append(str(here))
    plugins.enable(gated)
    assert CHANGE_ENCODERS.find("gated").__name__ == "Gated"
    assert CHANGE_ENCODERS.origin("gated") == gated
    assert os.environ["BTCCHAT_PLUGINS"] == gated
    plugins.enable(gated)
    assert os.environ["BTCCHAT_PLUGINS"] == gated
    (only,) = plugins.enabled()
    assert only == plugins.Plugin(gated, "Python", None, {"change encoder": ["gated"]})


def test_built_in_rows_are_not_a_plugins_that_imports_them_first(here):
    """In a fresh process, where the plugin is the first to import btcchat.change_encoder."""
    from tests.plugins.conftest import python

    (here / "first.py").write_text(GATED)
    code = "from btcchat import plugins; plugins.enable('first'); print(plugins.enabled()[0].adds)"
    done = python(["-c", code], here)
    assert done.stdout == "{'change encoder': ['gated']}\n", done.stderr


def test_a_package_is_the_owner_of_what_its_modules_register(here):
    (here / "pack").mkdir()
    (here / "pack/__init__.py").write_text("__version__ = '2.1'\n")
    (here / "pack/encoder.py").write_text(GATED)
    sys.path.append(str(here))
    __import__("pack.encoder")  # before it is enabled, as a worker does that unpickles a part
    assert CHANGE_ENCODERS.origin("gated") == "pack.encoder"
    plugins.enable("pack")
    assert plugins.enabled() == [plugins.Plugin("pack", "Python", "2.1", {"change encoder": ["gated"]})]


def test_the_environment_enables_when_a_name_is_not_known_and_not_before(gated, here, monkeypatch):
    sys.path.append(str(here))
    monkeypatch.setenv("BTCCHAT_PLUGINS", f" {gated} ,")
    CHANGE_ENCODERS.find("attentive")
    assert gated not in sys.modules
    CHANGE_ENCODERS.find("gated")
    assert [(one.module, one.how) for one in plugins.enabled()] == [(gated, "BTCCHAT_PLUGINS")]


# -- flags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "modules", "rest"),
    [
        ("--plugin a eval m x", ["a"], "eval m x"),
        ("eval m --plugin=a x --plugin b.c --json", ["a", "b.c"], "eval m x --json"),
        ("ask -- --plugin a", [], "ask -- --plugin a"),
        ("caption a b", [], "caption a b"),
    ],
)
def test_flags_may_be_anywhere_in_a_command(words, modules, rest):
    assert take_flags(words.split()) == (modules, rest.split())


@pytest.mark.parametrize("words", [["--plugin"], ["--plugin", "--json"], ["eval", "--plugin="]])
def test_a_flag_without_a_module_is_an_error(words, capsys):
    assert main([*LIST, *words]) == 2
    assert "--plugin needs the name of a Python module, such as --plugin my_package" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gated_plugin.py", "./gated_plugin", "a,b", "a..b"])
def test_a_flag_that_is_not_the_name_of_a_module_says_what_is(name, gated, capsys):
    assert main([*LIST, "--plugin", name]) == 2
    error = capsys.readouterr().err
    assert f"the plugin '{name}' is not the name of a module" in error and "my_encoder.py" in error
    assert len(error.splitlines()) == 1


def test_the_flag_finds_a_module_in_the_current_folder_which_hides_no_installed_one(gated, here, capsys):
    (here / "yaml.py").write_text("raise SystemExit('the wrong yaml')")
    assert main([*LIST, "--plugin", gated, "--plugin", "yaml"]) == 0
    assert sys.path[-1] == str(here)
    assert os.environ["BTCCHAT_PLUGINS"] == f"{gated},yaml" and os.environ["BTCCHAT_PLUGIN_PATH"] == str(here)
    assert "gated" in CHANGE_ENCODERS


def test_the_current_folder_is_searched_with_the_flag_only(gated, here, monkeypatch):
    monkeypatch.setenv("BTCCHAT_PLUGINS", gated)
    with pytest.raises(BTCChatError) as caught:
        CHANGE_ENCODERS.find("gated")
    assert str(caught.value) == (
        f"the plugin '{gated}' cannot be loaded: there is no module '{gated}'; install it, add its folder to "
        "PYTHONPATH, or run the command in its folder with --plugin"
    )
    assert str(here) not in sys.path
    monkeypatch.setenv("BTCCHAT_PLUGIN_PATH", str(here))  # as a parent process leaves it that was given the flag
    CHANGE_ENCODERS.find("gated")


# -- broken plugins --------------------------------------------------------------------------------------------------

BROKEN = {
    "import torch_not_there": "ModuleNotFoundError: No module named 'torch_not_there' ({file}, line 1)",
    "from btcchat import nothing_such": "ImportError: cannot import name 'nothing_such' from 'btcchat'",
    "x = (": "SyntaxError: '(' was never closed (broken.py, line 1)",
    "x = 1\n1 / 0": "ZeroDivisionError: division by zero ({file}, line 2)",
    "raise SystemExit(0)": "SystemExit: 0 ({file}, line 1)",
    "raise ValueError('two\\nlines')": "ValueError: two lines ({file}, line 1)",
    ENCODER
    + 'CHANGE_ENCODERS["concat"] = Gated': "change encoder 'concat' is registered already (by btcchat); broken must "
    "use another name",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_plugin_is_one_line_that_names_it_and_the_reason(code, here, capsys):
    (here / "broken.py").write_text(code)
    assert main([*LIST, "--plugin", "broken"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    reason = BROKEN[code].format(file=here / "broken.py")
    assert line.startswith(f"btcchat: error: the plugin 'broken' cannot be loaded: {reason}")
    assert "BTCCHAT_PLUGINS" not in os.environ


def test_a_broken_plugin_leaves_nothing_registered_and_can_be_repaired(here):
    (here / "broken").mkdir()
    (here / "broken/encoder.py").write_text(GATED)
    (here / "broken/__init__.py").write_text("import broken.encoder\nraise ValueError('not yet')")
    sys.path.append(str(here))
    with pytest.raises(BTCChatError, match="not yet"):
        plugins.enable("broken")
    assert "gated" not in CHANGE_ENCODERS and not plugins.enabled()
    (here / "broken/__init__.py").write_text("import broken.encoder\n# repaired")
    plugins.enable("broken")
    assert "gated" in CHANGE_ENCODERS


def test_what_a_broken_plugin_imported_registers_again(gated, here):
    (here / "broken.py").write_text(f"import {gated}\n1 / 0")
    sys.path.append(str(here))
    with pytest.raises(BTCChatError, match="ZeroDivisionError"):
        plugins.enable("broken")
    assert "gated" not in CHANGE_ENCODERS
    plugins.enable(gated)
    assert "gated" in CHANGE_ENCODERS


def test_a_broken_plugin_of_the_environment_stops_only_commands_that_need_it(here, monkeypatch, capsys):
    (here / "broken.py").write_text("1 / 0")
    sys.path.append(str(here))
    monkeypatch.setenv("BTCCHAT_PLUGINS", "broken")
    assert main(["caption", "--example", "--max-new-tokens", "2", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["score", "p.jsonl", "--preset", "nothing"]) == 2
    assert "the plugin 'broken' cannot be loaded: ZeroDivisionError" in capsys.readouterr().err


def test_ctrl_c_while_a_plugin_is_imported_is_not_an_error_of_the_plugin(here, capsys):
    (here / "slow.py").write_text("raise KeyboardInterrupt")
    assert main([*LIST, "--plugin", "slow"]) == 130
    assert not plugins.enabled()


# -- plugins that register nothing -----------------------------------------------------------------------------------


def test_an_unknown_name_names_the_plugins_that_registered_nothing(gated, here, package, capsys):
    (here / "silent.py").write_text(ENCODER)  # the row is missing
    package("silent_installed", "", entry="mine")
    assert main([*LIST, "--plugin", "silent", "--plugin", gated]) == 0
    with pytest.raises(BTCChatError) as caught:
        CHANGE_ENCODERS.find("mine")
    assert str(caught.value).endswith(
        "or enable the plugin that adds it: --plugin MODULE (plugins that were imported and registered nothing: "
        "silent, silent_installed)"
    )


def test_an_unknown_name_does_not_name_plugins_that_registered_something(gated, capsys):
    assert main(["score", "p.jsonl", "--preset", "mine", "--plugin", gated]) == 2
    assert capsys.readouterr().err.endswith("or enable the plugin that adds it: --plugin MODULE\n")


def test_a_plugin_that_another_one_imported_counts_as_registered(gated, here, capsys):
    (here / "outer.py").write_text(f"import {gated}")
    (here / "pack").mkdir()
    (here / "pack/__init__.py").write_text("import pack.encoder")
    (here / "pack/encoder.py").write_text(GATED.replace('"gated"', '"packed"'))
    for module in ("outer", gated, "pack", "pack.encoder"):
        assert main([*LIST, "--plugin", module]) == 0
    names = {"outer": "gated", gated: "gated", "pack": "packed", "pack.encoder": "packed"}
    assert {one.module: one.adds for one in plugins.enabled()} == {
        module: {"change encoder": [name]} for module, name in names.items()
    }
    assert not plugins.without_parts()
