"""Installed packages that name a plugin: they are listed without an import, and imported for an unknown name."""

import logging
import sys

import pytest

from btcchat import plugins
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.cli import main
from btcchat.errors import BTCChatError
from btcchat.plugins.installed import EntryPoint, entry_points
from tests.plugins.conftest import GATED


def test_listing_imports_nothing(package):
    package("mine_installed", "raise AssertionError('imported')")
    assert EntryPoint("gated", "mine_installed", "mine_installed", "1.0") in entry_points()
    assert "mine_installed" not in sys.modules


def test_a_built_in_name_imports_no_entry_point(package):
    package("mine_installed", "raise AssertionError('imported')")
    CHANGE_ENCODERS.find("concat")
    assert not plugins.enabled()


def test_an_entry_point_with_the_name_of_the_part_is_tried_first(package):
    package("a_first", "", entry="another")
    package("mine_installed", GATED, entry="gated")
    CHANGE_ENCODERS.find("gated")
    expected = plugins.Plugin("mine_installed", "entry point", "1.0", {"change encoder": ["gated"]})
    assert plugins.enabled() == [expected]
    assert "a_first" not in sys.modules


def test_an_entry_point_with_another_name_is_found_too(package):
    package("mine_installed", GATED, entry="my_encoders")
    CHANGE_ENCODERS.find("gated")


def test_a_broken_entry_point_gives_one_warning_and_others_still_work(package, caplog):
    package("broken_installed", "1 / 0", entry="gated")
    package("mine_installed", GATED, entry="other")
    with caplog.at_level(logging.WARNING, "btcchat"):
        CHANGE_ENCODERS.find("gated")
        with pytest.raises(BTCChatError, match="unknown change encoder 'nothing'"):
            CHANGE_ENCODERS.find("nothing")
    (message,) = caplog.messages
    assert message.startswith("the plugin 'broken_installed' cannot be loaded: ZeroDivisionError: division by zero (")
    assert message.endswith("(entry point 'gated' of broken_installed)")


def test_a_broken_entry_point_breaks_no_command(package, capsys):
    package("broken_installed", "1 / 0")
    assert main(["data", "convert", "--list"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["score", "p.jsonl", "--preset", "nothing"]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert "broken_installed" in warning and "unknown text preset 'nothing'" in error


def test_a_value_that_is_not_a_module_is_a_warning(package, tmp_path, caplog):
    package("mine_installed", GATED)
    info = tmp_path / "site/mine_installed-1.0.dist-info/entry_points.txt"
    info.write_text("[btcchat.plugins]\ngated = mine_installed:Gated\n")
    with pytest.raises(BTCChatError, match="unknown change encoder 'gated'"):
        CHANGE_ENCODERS.find("gated")
    assert "the plugin 'mine_installed:Gated' is not the name of a module" in caplog.text
