"""Messages: one line, at most 300 characters, and nothing in them controls a terminal."""

import logging

import pytest

from btcchat import cli
from btcchat.console.messages import Formatter, say
from btcchat.console.progress import Progress
from btcchat.errors import BTCChatError, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\tb\rc", "a\\tb\\rc"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("Übergröße 变化 👩\u200d🌾", "Übergröße 变化 👩\u200d🌾"),
    ],
)
def test_control_characters_are_escapes(text, shown):
    assert printable(text) == one_line(text) == str(BTCChatError(text)) == shown


def test_a_message_is_one_line_of_at_most_300_characters_with_its_way_out():
    error = BTCChatError(f"{'x' * 500} is missing;\n  give another file")
    assert len(str(error)) == 300 and str(error).startswith("xxx") and "..." in str(error)
    assert str(error).endswith("x is missing; give another file")
    assert len(error.args[0]) > 500
    assert str(BTCChatError("x" * 300)) == "x" * 300


def test_names_of_files_in_log_lines_and_progress_are_escaped(capsys, every_step):
    record = logging.LogRecord("btcchat", 30, "", 1, "%s\n  %d", ("a\x1b\n", 3), None)
    assert Formatter().format(record) == "a\\x1b\\n\n  3"
    assert record.args == ("a\x1b\n", 3)  # other handlers get it as it was
    say("\x1b written")
    with Progress("rows of \x1b", 9) as progress:
        progress.update()
    err = capsys.readouterr().err
    assert "\x1b" not in err and err.startswith("btcchat: \\x1b written\n") and "rows of \\x1b" in err


def test_an_escape_sequence_of_a_file_name_does_not_reach_the_terminal(tmp_path, capsys):
    assert cli.main(["caption", str(tmp_path / "\x1b[2Jbefore.png"), str(tmp_path / ("y" * 400))]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err and "\\x1b[2Jbefore.png" in err and err.count("\n") == 1 and len(err) < 330
